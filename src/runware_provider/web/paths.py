"""Where the gallery's pages are."""

from urllib.parse import quote

from starlette.responses import RedirectResponse, Response
from starlette.types import Scope

STATIC = "/static/"
SIGN_IN = "/signin"
SIGN_OUT = "/signout"
GRID = "/"
CARDS = "/cards"
NEW = "/new"
ONE = "/g/"
OPERATIONS = "/operations"
THUMBNAILS = "/thumbnails/"


def is_page(path: str) -> bool:
    """Whether a person looks at it, who can sign in."""
    return path in {GRID, NEW, OPERATIONS} or path.startswith(ONE)


def sign_in_first(scope: Scope) -> Response:
    """To the form, which leads back to what was asked for."""
    base, query = scope.get("root_path", ""), scope["query_string"].decode("latin-1")
    wanted = scope["path"].removeprefix(base) + (f"?{query}" if query else "")
    return RedirectResponse(f"{base}{SIGN_IN}?next={quote(wanted, safe='/')}", 303, {"Cache-Control": "no-store"})


def within(wanted: str | None) -> str:
    """`wanted`, when it is one of our pages; else the grid. Nobody is led elsewhere by a link to our form."""
    ours = wanted is not None and wanted.isprintable() and is_page(wanted.partition("?")[0])
    return wanted if ours and wanted is not None else GRID
