"""A real browser for tests: Debian's Chromium, driven by Playwright."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from shutil import which
from typing import Any

import pytest
from axe_playwright_python.base import AXE_FILE_PATH  # type: ignore[import-untyped]  # of it only the script is used
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Error, Page, async_playwright

from tests.service import PATIENCE

NAMES = ("chromium", "chromium-browser", "google-chrome")

BROKEN = "Failed to load resource"
"""What the console says of an answer that is an error, beside what the page does about it."""


def chromium() -> str:
    """Its path. A machine without one skips the test; where tests must run, as in CI, it fails."""
    found = next(filter(None, map(which, NAMES)), None)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("there is no chromium: apt-get install chromium")
        pytest.skip("there is no chromium: apt-get install chromium")
    return found


@asynccontextmanager
async def a_browser() -> AsyncIterator[Browser]:
    """Started, and closed at the end."""
    path = chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path)
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Visitor:
    """Somebody with a page of ours before him, and what went wrong in it."""

    context: BrowserContext
    page: Page
    url: str
    complaints: list[str]

    async def open(self, path: str = "/") -> None:
        """Go there."""
        await self.page.goto(self.url + path)

    async def eventually(self, script: str, *arguments: Any) -> None:
        """Wait until `script`, evaluated in the page, is true."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    if await self.page.evaluate(script, *arguments):
                        return
                except Error as error:
                    if "navigation" not in str(error):
                        raise
                await asyncio.sleep(0.02)  # the policy of the pages forbids to wait inside them

    async def count(self, selector: str, number: int) -> None:
        """Wait until there are so many."""
        await self.eventually("([s, n]) => document.querySelectorAll(s).length === n", [selector, number])

    async def pictures(self, selector: str = "main img") -> None:
        """Wait until every picture that can be seen is there, and is one."""
        await self.eventually(
            "(s) => [...document.querySelectorAll(s)].filter((i) => i.checkVisibility()"
            " && i.getBoundingClientRect().top < innerHeight).every((i) => i.complete && i.naturalWidth > 1)",
            selector,
        )

    async def violations(self) -> list[str]:
        """What axe finds."""
        await self.page.evaluate(AXE_FILE_PATH.read_text())
        found = await self.page.evaluate("axe.run()")
        return [
            f"{each['id']}: {each['help']}: {[node['html'][:160] for node in each['nodes'][:3]]}"
            for each in found["violations"]
        ]


@asynccontextmanager
async def a_visitor(browser: Browser, url: str, *, width: int = 1280, **options: Any) -> AsyncIterator[Visitor]:
    """A new visitor, without a past. Fails when the page's console complained."""
    context = await browser.new_context(viewport={"width": width, "height": 860}, **options)
    context.set_default_timeout(PATIENCE * 1000)
    page = await context.new_page()
    visitor = Visitor(context, page, url, [])

    def said(message: ConsoleMessage) -> None:
        if message.type == "error":
            visitor.complaints.append(message.text)

    page.on("console", said)
    page.on("pageerror", lambda error: visitor.complaints.append(str(error)))
    try:
        yield visitor
        assert [each for each in visitor.complaints if not each.startswith(BROKEN)] == []
    finally:
        await context.close()
