"""What pages are dressed with, and what they may do: style sheet, script, and the headers of every page."""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from runware_provider.web.views import RATIOS

_FOLDER = Path(__file__).parent / "static"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

PAGE_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Nothing from elsewhere, no script or style inside a page, no page of ours inside another's."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One file, as it is sent."""

    content: bytes
    packed: bytes
    media_type: str
    version: str


@cache
def _assets() -> Mapping[str, Asset]:
    return {path.name: _asset(path) for path in _FOLDER.iterdir() if path.suffix in _TYPES}


def _asset(path: Path) -> Asset:
    content = path.read_bytes() + (_ratios() if path.name == "app.css" else b"")
    version = sha256(content).hexdigest()[:12]
    return Asset(content, gzip.compress(content, 9, mtime=0), f"{_TYPES[path.suffix]}; charset=utf-8", version)


def asset(name: str) -> Asset | None:
    """The file of this name; None when there is none."""
    return _assets().get(name)


def address(base: str, name: str) -> str:
    """Where pages find it. It may be kept for ever: another content has another address."""
    found = asset(name)
    assert found is not None, name  # noqa: S101  a name in a template of ours
    return f"{base}/static/{name}?v={found.version}"


async def static(request: Request) -> Response:
    """`GET /static/{name}`."""
    found = asset(request.path_params["name"])
    if found is None:
        return PlainTextResponse("not found", 404)
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable",
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept-Encoding",
    }
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.packed, headers=headers | {"Content-Encoding": "gzip"}, media_type=found.media_type)
    return Response(found.content, headers=headers, media_type=found.media_type)


def _ratios() -> bytes:
    """A class for each proportion of a tile: the policy above forbids styles on elements."""
    return "".join(f".r{round(ratio * 100):03d}{{--r:{ratio:g}}}" for ratio in RATIOS).encode()
