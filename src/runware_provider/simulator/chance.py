"""Seeded chance: every draw of the simulator comes from here, so a run can be replayed."""

import random
from hashlib import blake2b


def seeded(*parts: object) -> random.Random:
    """A generator that depends on nothing but `parts`: the same parts give the same draws in every process."""
    digest = blake2b("\x1f".join(map(repr, parts)).encode("utf-8", "backslashreplace"), digest_size=16).digest()
    return random.Random(digest)  # noqa: S311 - pictures and delays, no secrets


def fraction(*parts: object) -> float:
    """A number in [0, 1) that depends on nothing but `parts`."""
    digest = blake2b("\x1f".join(map(repr, parts)).encode("utf-8", "backslashreplace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
