"""Signing in with a client token: a form, and a cookie that no script can read and no other site can send."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from runware_provider.context import Context
from runware_provider.sessions import COOKIE, LIFETIME
from runware_provider.web.forms import read_fields
from runware_provider.web.paths import GRID, SIGN_IN, within
from runware_provider.web.render import page


async def form(ctx: Context, request: Request) -> Response:
    """`GET /signin`."""
    if not ctx.client_tokens:
        return RedirectResponse(request.scope.get("root_path", "") + GRID, 303)
    wanted = within(request.query_params.get("next"))
    return await page(ctx, request, "sign_in.html", {"wanted": wanted, "problem": None, "spent": None})


async def begin(ctx: Context, request: Request) -> Response:
    """`POST /signin`."""
    fields = await read_fields(request)
    wanted = within(fields.get("next"))
    cookie = ctx.sessions.begin(fields.get("token", ""))
    if cookie is None:
        problem = "This is none of the service's client tokens."
        return await page(ctx, request, "sign_in.html", {"wanted": wanted, "problem": problem, "spent": None}, 401)
    base = request.scope.get("root_path", "")
    answer = RedirectResponse(base + wanted, 303)
    answer.set_cookie(
        COOKIE,
        cookie,
        max_age=int(LIFETIME.total_seconds()),
        path=base or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",  # a link from elsewhere leads to the page; what would change something is the guard's to refuse
    )
    return answer


async def end(_: Context, request: Request) -> Response:
    """`POST /signout`."""
    base = request.scope.get("root_path", "")
    answer = RedirectResponse(base + SIGN_IN, 303)
    answer.delete_cookie(COOKIE, path=base or "/", httponly=True, samesite="lax")
    return answer
