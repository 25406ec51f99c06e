"""The gallery with many images: how long the first view takes, what scrolling to the end of them costs.

`python -m benchmarks.gallery [--images 10000] [--views 5]`. A service of its own on loopback makes them all, four at a
time; Debian's Chromium looks at it. *First view*: from the request to the moment when every picture that can be seen is
there, with nothing in the browser's cache. Thumbnails are made in the first view of all and kept for the others.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from shutil import which

from playwright.async_api import Browser, async_playwright
from pydantic import SecretStr

from runware_provider import Context, CreateArgs, create_generation
from runware_provider.create import wait_for
from runware_provider.serving import bind, serving
from runware_provider.settings import Settings
from runware_provider.simulator import Simulator, SimulatorOptions
from runware_provider.types import GenerationArgs

SEEN = """
[...document.images].filter((image) => image.checkVisibility() && image.getBoundingClientRect().top < innerHeight)
  .every((image) => image.complete && image.naturalWidth > 1)
"""

SCROLL = """
(async () => {
  const frames = [];
  let last = performance.now(), still = 0, height = 0;
  while (still < 60) {
    window.scrollBy(0, 400);
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    frames.push(now - last);
    last = now;
    const at = document.documentElement.scrollHeight;
    const end = window.scrollY + innerHeight >= at - 2;
    still = end && at === height && !document.querySelector("#more") ? still + 1 : 0;
    height = at;
  }
  return { frames, tiles: document.querySelectorAll(".tile").length };
})()
"""


async def fill(ctx: Context, images: int) -> None:
    """Generations of four images each, made as any other, 64 at a time."""
    wish = {"positivePrompt": "a lighthouse at dusk", "model": "runware:101@1", "width": 1024, "height": 768}
    places = asyncio.Semaphore(64)

    async def one() -> None:
        async with places:
            made = await create_generation(ctx, CreateArgs(input={**wish, "numberResults": 4}))
            args = GenerationArgs(generation_id=made.id)
            await wait_for(ctx, args, lambda state: state.settled, timedelta(seconds=60))

    await asyncio.gather(*(one() for _ in range(images // 4)))


async def first_view(browser: Browser, url: str) -> float:
    """Seconds, with nothing cached in the browser."""
    context = await browser.new_context(viewport={"width": 1280, "height": 860})
    page = await context.new_page()
    began = time.perf_counter()
    await page.goto(url, wait_until="commit")
    while not await page.evaluate(f"document.images.length > 1 && {SEEN}"):  # noqa: ASYNC110  nothing tells it
        await asyncio.sleep(0.005)
    took = time.perf_counter() - began
    await context.close()
    return took


async def scrolled(browser: Browser, url: str) -> tuple[int, list[float], float]:
    """Tiles at the end, milliseconds of each frame, and megabytes of the page's own heap."""
    context = await browser.new_context(viewport={"width": 1280, "height": 860})
    page = await context.new_page()
    page.set_default_timeout(300_000)
    await page.goto(url)
    found = await page.evaluate(SCROLL)
    heap = await page.evaluate("performance.memory ? performance.memory.usedJSHeapSize / 1e6 : 0")
    await context.close()
    return found["tiles"], found["frames"], heap


async def measure(images: int, views: int, chromium: str) -> None:
    """Fill, look, scroll, and print."""
    with tempfile.TemporaryDirectory() as folder:
        async with Simulator(
            SimulatorOptions(latency=(0.0, 0.0), result_spread=(0.0, 0.0), image_bytes=32_768)
        ) as simulator:
            with bind("127.0.0.1", 0) as listener:
                url = f"http://127.0.0.1:{listener.getsockname()[1]}"
                settings = Settings(
                    runware_api_key=SecretStr("simulated"),
                    runware_url=simulator.url,
                    image_hosts=("127.0.0.1",),
                    public_url=url,
                    delivery="webhook",
                    data_dir=Path(folder) / "data",
                )
                async with Context.open(settings) as ctx, serving(ctx, listener), async_playwright() as playwright:
                    await fill(ctx, images)
                    browser = await playwright.chromium.launch(executable_path=chromium)
                    cold = await first_view(browser, url)
                    warm = [await first_view(browser, url) for _ in range(views)]
                    tiles, frames, heap = await scrolled(browser, url)
                    await browser.close()
    frames.sort()
    middle, spread = statistics.median(warm), f"{min(warm):.2f} to {max(warm):.2f}"
    late = frames[int(len(frames) * 0.99)]
    print(f"{images} images; browser and service on the same machine; {views} views")
    print(f"first view, thumbnails not made yet      {cold:.2f} s")
    print(f"first view, median (least to most)       {middle:.2f} s ({spread})")
    print(f"scrolled to the end of {tiles} tiles, {len(frames)} frames:")
    print(f"  median {statistics.median(frames):.0f} ms, 99th percentile {late:.0f} ms, longest {frames[-1]:.0f} ms")
    print(f"  script heap {heap:.0f} MB")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--views", type=int, default=5)
    given = parser.parse_args()
    chromium = which("chromium")
    if chromium is None:
        sys.exit("chromium is not installed: apt-get install chromium")
    asyncio.run(measure(given.images, given.views, chromium))


if __name__ == "__main__":
    main()
