"""Models by name: what is no AIR id is searched in Runware's catalogue, before any money is spent."""

import shlex
from collections.abc import Mapping
from typing import Any

from runware_provider.cli.client import Api
from runware_provider.cli.console import err, say
from runware_provider.errors import InvalidArgs

HITS = 100
"""Models that are looked through for an exact name: the largest page of the catalogue."""


def is_air(model: str) -> bool:
    """Whether `model` is an AIR id, such as `runware:101@1`; names have no colon."""
    return ":" in model


async def air_of(api: Api, model: str, *, option: str = "--model") -> str:
    """The AIR id that `model` means: itself, the model of exactly this name, or else the best hit of a search.

    Which one it became is said on stderr. Raises InvalidArgs that names `option` when there is none.
    """
    if is_air(model):
        return model
    page = await api.get("/v1/models", search=model.strip()[:256] or None, category="checkpoint", limit=HITS)
    found = [each for each in page["results"] if each.get("air")]
    if not model.strip() or not found:
        raise InvalidArgs([(option, f"no model is called {model!r}; `runware-provider models` shows what there is")])
    exact = [each for each in found if model.strip().casefold() in _called(each)]
    best = (exact or found)[0]
    air: str = best["air"]
    others = max(page["total_results"], len(found)) - 1
    how = " by its name" if exact else " as the best hit"
    more = f"; {others:,} others: runware-provider models {shlex.quote(model.strip())}" if others else ""
    say(err, "model ", (air, "bold"), f", {best.get('name') or 'without a name'}{how}{more}")
    return air


def _called(model: Mapping[str, Any]) -> set[str]:
    """The names that mean this model and no other version of it."""
    name, version = str(model.get("name") or ""), str(model.get("version") or "")
    return {each.casefold() for each in (name, f"{name} {version}".strip(), str(model["air"])) if each}
