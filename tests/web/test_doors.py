"""Who may look: signing in, what other sites may not do, and what a page may load."""

import re
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from pathlib import Path

import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.routing import Mount

from runware_provider.api import create_app
from runware_provider.sessions import COOKIE, LIFETIME, ClientTokens, Sessions
from tests.service import Service, a_service, served
from tests.web.browser import a_browser, a_visitor

TOKEN = "a-client-token"
PAGES = ("/", "/new", "/operations", "/g/01a213d7-a3fb-72ac-88a2-96baf3d558fe")


async def test_a_visitor_signs_in_with_a_client_token(tmp_path: Path) -> None:
    """And is led to what he asked for; the wrong token is said to be wrong, and signing out ends it."""
    async with (
        a_service(tmp_path, client_tokens=(SecretStr(TOKEN),)) as service,
        a_browser() as browser,
        a_visitor(browser, service.url) as visitor,
    ):
        page = visitor.page
        await visitor.open("/operations?days=7")
        await page.wait_for_url("**/signin?next=**")
        assert await page.locator(".spent").count() == 0
        assert await visitor.violations() == []
        await page.get_by_label("Token").fill("a guess")
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_text("none of the service's client tokens").wait_for()
        await page.get_by_label("Token").fill(TOKEN)
        await page.get_by_role("button", name="Sign in").click()
        await page.wait_for_url("**/operations?days=7")
        cookie = next(each for each in await visitor.context.cookies() if each["name"] == COOKIE)
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
        assert TOKEN not in cookie["value"]
        await visitor.open("/")
        await visitor.eventually("() => document.querySelector('#link').dataset.link === 'on'")
        await page.get_by_role("button", name="Sign out").click()
        await page.wait_for_url("**/signin")
        await visitor.open("/")
        await page.wait_for_url("**/signin?next=**")


async def test_pages_ask_for_a_sign_in_and_the_api_for_a_token(tmp_path: Path) -> None:
    """Whoever is signed in may use both; a cookie that was not made here is none."""
    async with a_service(tmp_path, client_tokens=(SecretStr(TOKEN),)) as service:
        for path in PAGES:
            answer = await service.get(path, allow_redirects=False)
            assert (answer.status, answer.headers["location"].partition("?")[0]) == (303, "/signin"), path
        for path in ("/cards", "/v1/generations", "/v1/events", "/thumbnails/x/y/240", "/metrics"):
            assert (await service.get(path)).status == 401, path
        assert (await service.post("/v1/generations")).status == 401
        assert (await service.get("/static/app.css")).status == 200

        cookie = await signed_in(service)
        assert (await service.get("/v1/generations", headers={"Cookie": cookie})).status == 200
        assert (await service.get("/", headers={"Cookie": cookie})).status == 200
        for forged in (cookie[:-2], cookie.replace("=", "=9", 1), f"{COOKIE}={TOKEN}", f"{COOKIE}="):
            assert (await service.get("/v1/generations", headers={"Cookie": forged})).status == 401, forged


async def signed_in(service: Service) -> str:
    """The header of somebody who has signed in."""
    answer = await service.post("/signin", data={"token": TOKEN}, allow_redirects=False)
    assert answer.status == 303
    cookie = SimpleCookie(answer.headers["set-cookie"])[COOKIE]
    return f"{COOKIE}={cookie.value}"


async def test_another_sites_page_may_change_nothing(tmp_path: Path) -> None:
    """Whatever its visitor's browser adds by itself: his cookie, or that he is on this machine."""
    async with (
        a_service(tmp_path / "a", client_tokens=(SecretStr(TOKEN),)) as guarded,
        a_service(tmp_path / "b") as open_,
    ):
        cookie = {"Cookie": await signed_in(guarded)}
        for service, headers in ((guarded, cookie), (open_, {})):
            state = await service.made()
            for foreign in (
                {"Origin": "https://evil.example"},
                {"Origin": "null"},
                {"Sec-Fetch-Site": "cross-site", "Origin": service.url},
                {"Sec-Fetch-Site": "same-site"},
            ):
                for path in (f"/g/{state.id}/delete", "/new", f"/v1/generations/{state.id}/rerun", "/signout"):
                    assert (await service.post(path, headers={**headers, **foreign})).status == 403, (path, foreign)
            own = {"Origin": service.url, "Sec-Fetch-Site": "same-origin"}
            answer = await service.post(f"/v1/generations/{state.id}/retry", headers={**headers, **own})
            assert answer.status == 202
        program = {"Authorization": f"Bearer {TOKEN}", "Origin": "https://a.dashboard.example"}
        assert (await guarded.post("/v1/retry", headers=program, json={"error": "fetch_failed"})).status == 200


async def test_what_needs_no_token_may_not_be_large(tmp_path: Path) -> None:
    """Somebody without a token must not cost us anything; nor do names of files that there are not stay in memory."""
    async with a_service(tmp_path, client_tokens=(SecretStr(TOKEN),)) as service:
        huge = await service.post("/signin", data=b"token=" + b"%41" * 100_000)
        assert huge.status == 413
        for name in ("x" * 3_000, "..%2f..%2fguard.py", "app.css%00", "views.py"):
            assert (await service.get(f"/static/{name}")).status == 404


async def test_other_cookies_of_the_host_do_no_harm(tmp_path: Path) -> None:
    """On localhost, or below a company's domain, there are some of every kind."""
    async with a_service(tmp_path, client_tokens=(SecretStr(TOKEN),)) as service:
        ours = await signed_in(service)
        for other in ('a={"x":1}', "a=b c", "x[1]=2", "foo", "a=b=c"):
            for cookie in (f"{other}; {ours}", f"{ours}; {other}"):
                assert (await service.get("/v1/generations", headers={"Cookie": cookie})).status == 200, cookie


async def test_a_session_that_ended_loses_nothing(tmp_path: Path) -> None:
    """What was typed can be sent again, and a page that is open does not take the sign-in form for its own part."""
    async with a_service(tmp_path, client_tokens=(SecretStr(TOKEN),)) as service:
        answer = await service.post("/new", data={"prompt": "a long one"})
        assert answer.status == 401
        assert answer.headers["content-type"].startswith("text/html")
        assert "sign in in another tab" in answer.body.decode()
        assert (await service.get("/g/01a213d7-a3fb-72ac-88a2-96baf3d558fe/live")).status == 401


async def test_behind_a_proxy_that_ends_tls_the_cookie_is_secure(tmp_path: Path) -> None:
    """When it says so; only a proxy on this machine is believed."""
    async with a_service(tmp_path, client_tokens=(SecretStr(TOKEN),)) as service:
        for protocol, secure in (("https", True), ("http", False)):
            answer = await service.post(
                "/signin", data={"token": TOKEN}, headers={"X-Forwarded-Proto": protocol}, allow_redirects=False
            )
            assert ("Secure" in answer.headers["set-cookie"]) == secure, protocol


async def test_the_gallery_may_be_mounted_below_a_path_of_anothers_application(tmp_path: Path) -> None:
    """Every address in a page is below that path: links, forms, images, what the script asks for."""
    async with (
        a_service(tmp_path) as service,
        served(Starlette(routes=[Mount("/images", create_app(service.ctx))])) as url,
        a_browser() as browser,
        a_visitor(browser, f"{url}/images") as visitor,
    ):
        page = visitor.page
        await visitor.open("/")
        await page.get_by_role("link", name="Make the first one").click()
        await page.get_by_label("Prompt").fill("a boat")
        await page.get_by_role("button", name="Generate").click()
        await page.wait_for_url("**/images/#g-*")
        await visitor.count(".tile img", 1)
        await visitor.pictures()
        await page.locator(".tile").click()
        await page.wait_for_url("**/images/g/*")
        await visitor.pictures("figure img")
        await page.get_by_role("button", name="Delete").click()
        await page.get_by_role("button", name="Undo").click()
        await page.get_by_role("heading", name="a boat").wait_for()


async def test_signing_in_leads_to_no_other_site(tmp_path: Path) -> None:
    """A link to our form must not end at somebody else's."""
    async with a_service(tmp_path, client_tokens=(SecretStr(TOKEN),)) as service:
        for wanted in (
            "https://evil.example/",
            "//evil.example",
            "/\\evil.example",
            "javascript:alert(1)",
            "/v1/x",
            "",
        ):
            form = {"token": TOKEN, "next": wanted}
            answer = await service.post("/signin", data=form, allow_redirects=False)
            assert (answer.status, answer.headers["location"]) == (303, "/"), wanted


def test_a_session_ends_with_its_time_and_with_its_token() -> None:
    """Nothing is kept of it: all that it is stands in the cookie, signed."""
    now = datetime(2026, 11, 26, tzinfo=UTC)
    sessions = Sessions("secret", ClientTokens([TOKEN, "another"]), lambda: now)
    cookie = sessions.begin(TOKEN)
    assert cookie is not None

    assert sessions.holds(cookie)
    assert sessions.begin("a guess") is None
    assert not Sessions("secret", ClientTokens(["another"]), lambda: now).holds(cookie)
    assert not Sessions("other", ClientTokens([TOKEN]), lambda: now).holds(cookie)
    assert not Sessions("secret", ClientTokens([TOKEN]), lambda: now + LIFETIME).holds(cookie)
    assert Sessions("secret", ClientTokens([TOKEN]), lambda: now + LIFETIME - timedelta(seconds=1)).holds(cookie)


FOREIGN = re.compile(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|https?://(?!127\.0\.0\.1|www\.w3\.org)")


async def test_pages_load_nothing_from_elsewhere_and_run_nothing_inline(service: Service) -> None:
    """The policy says so, and the pages need no more than it allows."""
    state = await service.made()
    for path in ("/", "/new", "/operations", f"/g/{state.id}", "/g/nothing"):
        answer = await service.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["cache-control"] == "no-store"
        html = answer.body.decode()
        assert not re.search(
            r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|https?://(?!127\.0\.0\.1|www\.w3\.org)", html
        ), path


HOSTILE = """</textarea><script>document.title='taken'</script>"'><img src=x onerror=alert(1)>{{ 7*7 }} \u202e ‮"""


async def test_what_people_write_is_shown_and_not_run(service: Service) -> None:
    """A prompt, a label, a field of anybody's."""
    state = await service.made(positivePrompt=HOSTILE, metadata={"<b>": HOSTILE[:200]}, negativePrompt=HOSTILE)
    async with a_browser() as browser, a_visitor(browser, service.url) as visitor:
        for path in ("/", f"/g/{state.id}", f"/new?from={state.id}", "/?prompt=%3Cscript%3E", "/?labels=%3Cb%3E"):
            await visitor.open(path)
            assert await visitor.page.title() != "taken"
            assert await visitor.page.locator("script:not([src])").count() == 0
        await visitor.open(f"/g/{state.id}")
        assert await visitor.page.locator("h1").inner_text() == HOSTILE.strip()


@pytest.mark.parametrize("path", ["/g/nothing", "/g/01a213d7-a3fb-72ac-88a2-96baf3d558fe", "/g/x/live"])
async def test_what_is_not_there_is_said_on_a_page(service: Service, path: str) -> None:
    """With a way back."""
    answer = await service.get(path)

    assert answer.status == 404
    assert "To the images" in answer.body.decode()
