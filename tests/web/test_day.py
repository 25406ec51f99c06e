"""A designer's day with the gallery, in a real browser, over one process and over two nodes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from runware_provider.projection import migrate
from tests.postgres import PostgresServer
from tests.service import AMBIENT, Service, a_service
from tests.web.browser import Visitor, a_browser, a_visitor
from tests.web.network import a_wire

CUT_SECONDS = 3.0


@asynccontextmanager
async def one_process(tmp_path: Path) -> AsyncIterator[Service]:
    """Everything in one, state in SQLite."""
    async with a_service(tmp_path, store_patience=timedelta(milliseconds=1)) as service:
        yield service


@asynccontextmanager
async def two_nodes(tmp_path: Path, url: str) -> AsyncIterator[Service]:
    """One that works and is told by Runware, and one that only speaks; the browser is at the second."""
    shared: dict[str, Any] = {
        "state_url": url,
        "artifacts_url": f"file://{tmp_path / 'images'}",
        "store_patience": timedelta(milliseconds=1),
    }
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(a_service(tmp_path / "worker", **shared))
        assert worker.simulator is not None
        speaker = await stack.enter_async_context(
            a_service(
                tmp_path / "speaker", work=False, runware_url=worker.simulator.url, **shared, public_url=worker.url
            )
        )
        speaker.simulator = worker.simulator
        yield speaker


@pytest.fixture(params=["sqlite", "two nodes on postgresql"])
async def service(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Service]:
    """A service of either kind."""
    if request.param == "sqlite":
        async with one_process(tmp_path) as running:
            yield running
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    (tmp_path / "images").mkdir()
    with server.database(request.getfixturevalue("state_template")) as url:
        await migrate(url)
        async with two_nodes(tmp_path, url) as running:
            yield running


async def ask_for(visitor: Visitor, prompt: str, *, number: int = 1) -> None:
    """Fill in the form and send it with Ctrl+Enter."""
    page = visitor.page
    await page.get_by_role("link", name="New", exact=True).click()
    await page.get_by_label("Prompt").fill(prompt)
    await page.get_by_label("Width").fill("256")
    await page.get_by_label("Height").fill("192")
    await page.get_by_label("Images", exact=True).fill(str(number))
    await page.keyboard.press("Control+Enter")


async def test_from_an_empty_gallery_to_a_retried_failure(service: Service) -> None:
    """Empty, new, live tiles, full size, remix, a failure, its retry; and for three seconds there is no network."""
    assert AMBIENT == {}
    async with a_browser() as browser, a_wire(service.url) as wire, a_visitor(browser, wire.url) as visitor:
        page = visitor.page
        await visitor.open()
        await page.get_by_text("No images yet").wait_for()

        # A new one appears at once, with a tile for each image that is awaited, and fills in by itself.
        service.stage({"on": "task", "do": "slow", "seconds": 1.5})
        await page.get_by_role("link", name="Make the first one").click()
        await ask_for(visitor, "a lighthouse at dusk", number=3)
        await page.wait_for_url("**/#g-*")
        await visitor.count(".tile.pending", 3)
        assert await page.locator(".tile.pending .since").first.inner_text() != ""
        await visitor.count(".tile img", 3)
        await visitor.pictures()
        assert await page.locator(".tile.pending").count() == 0

        # What comes while the network is away is there soon after it is back.
        service.stage({"on": "task", "do": "slow", "seconds": 1.0})
        await ask_for(visitor, "a harbour in fog", number=2)
        await visitor.count(".tile.pending", 2)
        await wire.cut()
        await page.get_by_text("reconnecting").wait_for()
        await asyncio.sleep(CUT_SECONDS)
        assert await page.locator(".tile img").count() == 3
        await wire.mend()
        await visitor.count(".tile img", 5)
        await visitor.eventually("() => document.querySelector('#link').dataset.link === 'on'")
        service.stage()

        # Full size, with the keyboard.
        await page.locator(".tile").nth(2).click()
        await page.wait_for_url("**/g/*")
        await visitor.pictures("figure img")
        first = await page.evaluate("location.hash")
        await page.keyboard.press("ArrowRight")
        assert await page.evaluate("location.hash") != first
        await page.keyboard.press("z")
        zoomed = page.locator("#zoom img")
        await zoomed.wait_for()
        assert await zoomed.evaluate("(i) => i.naturalWidth") == 256
        await page.keyboard.press("Escape")
        await zoomed.wait_for(state="hidden")

        # The same with new seeds, which costs money and says so.
        remix = page.get_by_role("button", name="Remix")
        assert "costs about $" in await remix.inner_text()
        before = page.url.partition("#")[0]
        await remix.click()
        await page.wait_for_url(lambda url: "/g/" in url and url.partition("#")[0] != before)
        await visitor.count("figure", 3)

        # A failure is shown where it is, in plain words, and retried for nothing.
        service.stage({"on": "cdn", "do": "html"})
        await ask_for(visitor, "a picture that is none")
        await visitor.count(".tile.failed", 1)
        await page.locator(".tile.failed").click()
        await page.get_by_role("heading", name="Output 1: not an image we keep").wait_for()
        service.stage()
        await page.get_by_role("button", name="Retry failed").click()
        await visitor.count("figure", 1)
        await visitor.pictures("figure img")
        await visitor.count(".trouble", 0)
        await page.keyboard.press("Escape")
        await visitor.count(".tile img", 9)
        assert await page.locator(".tile.failed").count() == 0
