"""What a view of the grid shows, in words of its URL: the names are the API's, and blank ones do not count."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from pydantic import ValidationError

from runware_provider.types import ListArgs

SPANS: Mapping[str, tuple[str, timedelta]] = {
    "1h": ("last hour", timedelta(hours=1)),
    "1d": ("last 24 hours", timedelta(days=1)),
    "7d": ("last 7 days", timedelta(days=7)),
    "30d": ("last 30 days", timedelta(days=30)),
}
"""How far back `since` goes."""

PLAIN = ("prompt", "model", "status", "since", "created_after", "created_before", "error", "labels")


@dataclass(frozen=True, slots=True)
class View:
    """`given`: what stands in the form, where `labels` is `key=value, key=value`. `found`: the labels that are meant.
    `problems` by the field's name.
    """

    given: Mapping[str, str]
    found: Mapping[str, str] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)

    @property
    def filtered(self) -> bool:
        """Whether anything is left out."""
        return any(self.given.values())

    def query(self, **more: str | None) -> str:
        """The query of this view's URL, with `more`; begins with `?` unless it is empty."""
        labels = {f"metadata.{key}": value for key, value in self.found.items()}
        named = {**self.given, **({"labels": ""} | labels if labels else {}), **more}
        query = urlencode({name: value for name, value in named.items() if value})
        return f"?{query}" if query else ""


def read_view(query: Mapping[str, str], now: datetime, limit: int) -> tuple[View, ListArgs]:
    """The view of a query string, and what to ask the read model for it. A filter that is wrong is named, not used."""
    given = {name: query.get(name, "").strip() for name in PLAIN}
    found, problems = _labels(given["labels"])
    for name, value in query.items():  # as the API has them
        if name.startswith("metadata."):
            found[name.removeprefix("metadata.")] = value
    if found:
        given["labels"] = ", ".join(f"{key}={value}" for key, value in found.items())
    asked: dict[str, object] = {name: given[name] or None for name in ("prompt", "model", "status", "error")}
    asked |= {"metadata": found, "limit": limit, "cursor": query.get("cursor") or None}
    if given["since"] in SPANS:
        asked["created_after"] = now - SPANS[given["since"]][1]
    elif given["since"]:
        problems["since"] = f"must be one of {', '.join(SPANS)}"
    for name in ("created_after", "created_before"):
        if given[name]:
            try:
                at = datetime.fromisoformat(given[name])
                asked[name] = at.replace(tzinfo=at.tzinfo or UTC)
            except ValueError:
                problems[name] = "must be a day, such as 2026-11-26"
    while True:
        try:
            return View(given, found, problems), ListArgs.model_validate(asked)
        except ValidationError as error:
            for issue in error.errors():
                name = str(issue["loc"][0])
                problems[name] = issue["msg"]
                asked.pop(name, None)


def _labels(text: str) -> tuple[dict[str, str], dict[str, str]]:
    found: dict[str, str] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            return {}, {"labels": "must be KEY=VALUE, KEY=VALUE"}
        found[key.strip()] = value.strip()
    return found, {}
