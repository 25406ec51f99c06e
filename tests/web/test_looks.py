"""Pages for everybody: what axe says, what shifts, what the keyboard can do, what is left without a script."""

from pathlib import Path

import pytest

from runware_provider.web.assets import asset
from tests.service import Service, a_service, until
from tests.web.browser import a_browser, a_visitor

MAX_SCRIPT = 60_000
"""Bytes."""


async def some_of_everything(service: Service) -> dict[str, str]:
    """Generations of all kinds, and the pages that show them."""
    made = await service.made(numberResults=3, metadata={"project": "postcards"})
    service.stage({"on": "result", "do": "error", "image_uuid": True, "nth": [2]})
    partly = await service.made(numberResults=2)
    service.stage({"on": "task", "do": "stuck"})
    refused = await service.create(width=100)
    await service.settled(refused.id)
    running = await service.create(numberResults=2)
    pages = {"grid": "/", "none": "/?prompt=nothing-like-this", "new": "/new", "operations": "/operations"}
    return pages | {
        name: f"/g/{state.id}"
        for name, state in (("made", made), ("partly", partly), ("refused", refused), ("running", running))
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
async def test_axe_finds_no_violation(service: Service, scheme: str, width: int) -> None:
    """On any page, narrow or wide, dark or light; nor is there anything to scroll sideways to."""
    pages = await some_of_everything(service)
    async with (
        a_browser() as browser,
        a_visitor(browser, service.url, width=width, color_scheme=scheme, reduced_motion="reduce") as visitor,
    ):
        for name, path in pages.items():
            await visitor.open(path)
            await visitor.pictures()

            assert await visitor.violations() == [], name
            assert await visitor.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        await visitor.open(pages["made"])
        await visitor.page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        await visitor.page.keyboard.press("z")
        assert await visitor.violations() == []


async def test_nothing_moves_when_images_come(tmp_path: Path) -> None:
    """A tile that waits has the place of its image: what people look at stays where it is."""
    async with (
        a_service(tmp_path, {"on": "task", "do": "slow", "seconds": 0.7}) as service,
        a_browser() as browser,
        a_visitor(browser, service.url) as visitor,
    ):
        state = await service.create(numberResults=4, width=640, height=448)
        await until(service.ctx, state.id, lambda state: state.projected_at is not None)
        await visitor.open()
        await visitor.count(".tile.pending", 4)
        await visitor.page.evaluate(
            "new PerformanceObserver((list) => {"
            "  for (const each of list.getEntries()) window.moved = (window.moved || 0) + each.value;"
            "}).observe({ type: 'layout-shift', buffered: true })"
        )
        await visitor.count(".tile img", 4)
        await visitor.pictures()

        assert (await visitor.page.evaluate("window.moved || 0")) < 0.001


async def test_tiles_come_in_the_pictures_own_proportions(service: Service) -> None:
    """Whole, and sharp on a fine screen."""
    await service.made(width=512, height=128)
    await service.made(width=256, height=512)
    async with (
        a_browser() as browser,
        a_visitor(browser, service.url, device_scale_factor=2) as visitor,
    ):
        await visitor.open()
        await visitor.pictures()
        shapes = await visitor.page.evaluate(
            "[...document.querySelectorAll('.tile')].map((t) => t.offsetWidth / t.offsetHeight)"
        )
        sharp = await visitor.page.evaluate(
            "[...document.querySelectorAll('.tile img')].map((i) => +i.currentSrc.split('/').pop() >= i.width * 1.5)"
        )

        assert shapes == pytest.approx([0.5, 4.0], rel=0.03)
        assert sharp == [True, True]


async def test_the_keyboard_is_enough(service: Service) -> None:
    """Along the grid with arrows, to the search with a slash, to a new one with n, and back with Esc."""
    for _ in range(3):
        await service.made()
    async with a_browser() as browser, a_visitor(browser, service.url) as visitor:
        page = visitor.page
        await visitor.open()
        await page.locator(".tile").first.focus()
        await page.keyboard.press("ArrowRight")
        focused = "document.activeElement.closest('.card').id"
        assert await page.evaluate(focused) == await page.locator(".card").nth(1).get_attribute("id")
        await page.keyboard.press("/")
        assert await page.evaluate("document.activeElement.name") == "prompt"
        await page.keyboard.type("lighthouse")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/?prompt=lighthouse")  # blank filters stay out of the address
        await page.locator(".tile").first.press("Enter")
        await page.wait_for_url("**/g/*")
        await page.keyboard.press("Escape")
        await page.wait_for_url("**/?prompt=lighthouse")  # to the view that one came from
        await page.keyboard.press("n")
        await page.wait_for_url("**/new")
        assert await page.evaluate("document.activeElement.name") == "prompt"


async def test_models_are_found_as_one_types(service: Service) -> None:
    """By name, with the arrows and Enter; what is taken is the id that Runware knows."""
    async with a_browser() as browser, a_visitor(browser, service.url) as visitor:
        page = visitor.page
        await visitor.open("/new")
        model = page.get_by_role("combobox", name="Model")
        await model.fill("flux")
        await page.get_by_role("option").first.wait_for()
        assert await model.get_attribute("aria-expanded") == "true"
        assert await visitor.violations() == []
        await page.keyboard.press("ArrowDown")
        chosen = await page.locator("#models-0 [aria-selected=true]").get_attribute("data-air")
        await page.keyboard.press("Enter")

        assert await model.input_value() == chosen
        assert chosen
        assert await page.get_by_role("listbox").count() == 0
        await model.fill("no such model at all")
        await page.get_by_text("No model of this name").wait_for()


async def test_everything_can_be_copied(service: Service) -> None:
    """Prompt, seed, link and the call, with a word that it was done."""
    state = await service.made()
    async with (
        a_browser() as browser,
        a_visitor(browser, service.url, permissions=["clipboard-read", "clipboard-write"]) as visitor,
    ):
        page = visitor.page
        await visitor.open(f"/g/{state.id}")
        await page.get_by_role("group").filter(has_text="As an API call").locator("summary").click()
        for name, holds in (
            ("Copy prompt", "a lighthouse at dusk"),
            ("Copy seed", "1"),
            ("Copy link", f"/g/{state.id}#o-"),
            ("Copy curl", f"curl {service.url}/v1/generations"),
            ("Copy Python", "urllib.request.Request("),
        ):
            await page.get_by_role("button", name=name).click()
            await page.get_by_role("button", name="Copied").wait_for()
            assert holds in await page.evaluate("navigator.clipboard.readText()"), name
            await page.get_by_role("button", name=name).wait_for()


async def test_without_a_script_it_works_too(service: Service) -> None:
    """Pages, forms and links are HTML; a script only makes them live."""
    async with (
        a_browser() as browser,
        a_visitor(browser, service.url, java_script_enabled=False) as visitor,
    ):
        page = visitor.page
        await visitor.open("/new")
        await page.get_by_label("Prompt").fill("a boat without a script")
        await page.get_by_label("Width").fill("128")
        await page.get_by_label("Height").fill("128")
        await page.get_by_role("button", name="Generate").click()
        await page.wait_for_url(lambda url: "/new" not in url)
        page_of = await service.ctx.runtime.ids()
        await service.settled(page_of[0])
        await visitor.open("/?prompt=boat")
        await page.locator(".tile").click()
        await page.get_by_role("heading", name="a boat without a script").wait_for()
        await page.get_by_role("button", name="Delete").click()
        await page.get_by_role("button", name="Undo").click()
        await page.get_by_role("heading", name="a boat without a script").wait_for()


def test_the_script_is_small() -> None:
    """It loads before anybody notices."""
    scripts = [asset("app.js"), asset("theme.js")]

    assert sum(len(script.content) for script in scripts if script is not None) < MAX_SCRIPT
