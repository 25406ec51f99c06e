"""Webhook addresses that only we can make: an HMAC over the generation's id, checked without a look-up."""

import hmac
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256
from urllib.parse import parse_qsl
from uuid import UUID

WEBHOOK_PATH = "/webhooks/runware"

REMEMBERED = 2_048
"""Addresses that were given last and are known again without a calculation."""


class WebhookTokens:
    """`secrets`: the current one first, then earlier ones whose addresses are still accepted."""

    def __init__(self, secrets: Sequence[str]) -> None:
        if not secrets:
            raise ValueError("at least one secret is needed")
        self._secrets = [secret.encode() for secret in secrets]
        self._given: OrderedDict[bytes, UUID] = OrderedDict()

    def token(self, generation_id: UUID) -> str:
        """The token of one generation: 43 characters of base64url."""
        return self._sign(self._secrets[0], generation_id)

    def accepts(self, generation_id: UUID, token: str) -> bool:
        """Whether `token` was made for this generation with any of the secrets; takes the same time for any token."""
        given = token.encode("utf-8", "replace")
        accepted = False
        for secret in self._secrets:
            accepted |= hmac.compare_digest(self._sign(secret, generation_id).encode(), given)
        return accepted

    def webhook_url(self, public_url: str, generation_id: UUID) -> str:
        """The address that Runware is given."""
        query = f"generation_id={generation_id}&token={self.token(generation_id)}"
        self._given[query.encode()] = generation_id
        if len(self._given) > REMEMBERED:
            self._given.popitem(last=False)
        return f"{public_url}{WEBHOOK_PATH}?{query}"

    def opened(self, query: bytes) -> UUID | None:
        """The generation that the query of a delivery's address opens; None when its token is not that generation's.

        An address that came back as it was given a while ago is known. (To look one up tells nothing of another token:
        Python compares only what has the same hash of the whole.)
        """
        known = self._given.get(query)
        if known is not None:
            return known
        try:
            fields = dict(parse_qsl(query.decode("ascii"), max_num_fields=16))
            generation_id = UUID(fields["generation_id"])
        except (KeyError, ValueError):
            return None
        return generation_id if self.accepts(generation_id, fields.get("token", "")) else None

    @staticmethod
    def _sign(secret: bytes, generation_id: UUID) -> str:
        return urlsafe_b64encode(hmac.digest(secret, generation_id.bytes, sha256)).rstrip(b"=").decode()
