"""Takes pictures of every page, narrow to wide, dark and light: `make screenshots`. Needs Debian's chromium.

A service with a simulator of its own makes what is to be seen; the pictures go to `screenshots/`, or to a folder given.
"""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from itertools import product
from pathlib import Path
from shutil import which
from typing import Literal

from playwright.async_api import Browser, async_playwright

from runware_provider import Context, CreateArgs, create_generation
from runware_provider.cli.demo import simulated_settings
from runware_provider.create import wait_for
from runware_provider.serving import bind, serving
from runware_provider.simulator import FaultPlan, Simulator, SimulatorOptions
from runware_provider.types import GenerationArgs, GenerationState

WIDTHS = (390, 1280, 2560)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

PICTURES_ARE_THERE = """
[...document.images]
  .filter((image) => image.checkVisibility() && image.getBoundingClientRect().top < innerHeight)
  .every((image) => image.complete)
"""

WISHES = [
    ("a lighthouse at dusk, soft light, gentle waves", 1024, 768, 4),
    ("misty mountains at dawn, layered ridges", 1344, 768, 2),
    ("a paper boat on a canal in the rain", 832, 1216, 3),
    ("portrait of a fox in a knitted scarf", 768, 1024, 2),
    ("isometric greenhouse full of orchids", 1024, 1024, 4),
    ("a desert observatory under the milky way", 1216, 832, 2),
    ("an old tram climbing a steep street, Lisbon", 768, 1344, 2),
    ("glass teapot with blooming tea, studio photo", 1024, 1024, 2),
    ("aerial view of terraced rice fields", 1344, 768, 3),
    ("a library built into a cliff, warm windows", 832, 1216, 2),
]
MODELS = ("runware:101@1", "runware:100@1", "civitai:102438@133677")


@asynccontextmanager
async def a_service(folder: Path) -> AsyncIterator[tuple[Context, Simulator, str]]:
    """A service with a simulator, on loopback."""
    async with Simulator(SimulatorOptions(latency=(0.0, 0.0), result_spread=(0.0, 0.0))) as simulator:
        with bind("127.0.0.1", 0) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            settings = simulated_settings(simulator, url, folder / "data", daily_budget=Decimal(25))
            async with Context.open(settings) as ctx, serving(ctx, listener):
                yield ctx, simulator, url


async def made(ctx: Context, simulator: Simulator) -> dict[str, GenerationState]:
    """Something of everything: complete, partly failed, refused, and under way."""
    simulator.faults.replace(FaultPlan.of({"on": "result", "do": "error", "image_uuid": True, "nth": [2]}))
    partly = await ask(ctx, "a harbour in fog, cranes like giraffes", width=1216, height=832, numberResults=3)
    simulator.faults.replace(FaultPlan.of())
    refused = await ask(ctx, "a picture of an odd size", width=1001, height=777)
    for number, (prompt, width, height, count) in enumerate(WISHES * 2):
        model = MODELS[number % len(MODELS)]
        await ask(ctx, prompt, model=model, width=width, height=height, numberResults=count, seed=number + 1)
    shown = await ask(ctx, WISHES[0][0], width=1024, height=768, numberResults=4, seed=7)
    simulator.faults.replace(FaultPlan.of({"on": "task", "do": "slow", "seconds": 600, "nth": [1]}))
    args = CreateArgs(
        input={
            "positivePrompt": "a kite festival on a windy beach",
            "model": MODELS[0],
            "width": 1216,
            "height": 832,
            "numberResults": 2,
        },
        metadata={"project": "postcards"},
    )
    running = await create_generation(ctx, args)
    return {"one": shown, "failed": partly, "refused": refused, "running": running}


async def ask(ctx: Context, prompt: str, *, model: str = MODELS[0], **fields: int) -> GenerationState:
    """One generation, to its end."""
    args = CreateArgs(
        input={"positivePrompt": prompt, "model": model, **fields},
        metadata={"project": "postcards", "made_by": "tools"},
    )
    state = await create_generation(ctx, args)
    one = GenerationArgs(generation_id=state.id)
    return await wait_for(ctx, one, lambda state: state.settled, timedelta(seconds=20))


async def shoot(browser: Browser, url: str, states: dict[str, GenerationState], to: Path) -> None:
    """All pages in all widths and colours."""
    pages = {
        "grid": "/",
        "new": "/new",
        "operations": "/operations",
        **{name: f"/g/{state.id}" for name, state in states.items()},
    }
    for width, scheme in product(WIDTHS, SCHEMES):
        height = 844 if width < 500 else 860 if width < 2000 else 1440
        context = await browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            reduced_motion="reduce",
            device_scale_factor=2 if width < 500 else 1,
        )
        page = await context.new_page()
        for name, path in pages.items():
            await page.goto(url + path)
            await page.wait_for_load_state("load")
            while not await page.evaluate(PICTURES_ARE_THERE):  # noqa: ASYNC110  nothing tells it
                await asyncio.sleep(0.02)
            await page.screenshot(path=to / f"{name}-{width}-{scheme}.png")
        await context.close()


async def take(chromium: str, to: Path) -> None:
    """Take them."""
    with tempfile.TemporaryDirectory() as folder:
        async with a_service(Path(folder)) as (ctx, simulator, url), async_playwright() as playwright:
            states = await made(ctx, simulator)
            browser = await playwright.chromium.launch(executable_path=chromium)
            await shoot(browser, url, states, to)
            await browser.close()


def main() -> None:
    """The command."""
    to = Path(sys.argv[1] if len(sys.argv) > 1 else "screenshots")
    to.mkdir(parents=True, exist_ok=True)
    chromium = which("chromium")
    if chromium is None:
        sys.exit("chromium is not installed: apt-get install chromium")
    asyncio.run(take(chromium, to))
    print(f"{len(list(to.glob('*.png')))} pictures are in {to}")


if __name__ == "__main__":
    main()
