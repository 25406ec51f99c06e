"""Where the gallery's pages are."""

from html import escape
from urllib.parse import quote

from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Scope

STATIC = "/static/"
SIGN_IN = "/signin"
SIGN_OUT = "/signout"
GRID = "/"
CARDS = "/cards"
NEW = "/new"
ONE = "/g/"
LIVE = "/live"
OPERATIONS = "/operations"
THUMBNAILS = "/thumbnails/"


def is_page(path: str) -> bool:
    """Whether a person looks at it, who can sign in; not what a script of ours asks for."""
    return path in {GRID, NEW, OPERATIONS} or (path.startswith((ONE, f"{OPERATIONS}/")) and not path.endswith(LIVE))


def sign_in_first(scope: Scope) -> Response:
    """To the form, which leads back to what was asked for."""
    base, query = scope.get("root_path", ""), scope["query_string"].decode("latin-1")
    wanted = scope["path"].removeprefix(base) + (f"?{query}" if query else "")
    return RedirectResponse(f"{base}{SIGN_IN}?next={quote(wanted, safe='/')}", 303, {"Cache-Control": "no-store"})


def signed_out(scope: Scope) -> Response:
    """To a form that was sent after the session had ended: a browser keeps what was typed, and can send it again."""
    form = f"{scope.get('root_path', '')}{SIGN_IN}"
    return HTMLResponse(
        "<!doctype html><html lang=en><title>Signed out</title><h1>You have been signed out</h1><p>Nothing is lost: "
        f'<a href="{escape(form)}" target="_blank">sign in in another tab</a>, then reload this page to send it again.',
        401,
        {"Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'"},
    )


def within(wanted: str | None) -> str:
    """`wanted`, when it is one of our pages; else the grid. Nobody is led elsewhere by a link to our form."""
    ours = wanted is not None and wanted.isprintable() and is_page(wanted.partition("?")[0])
    return wanted if ours and wanted is not None else GRID
