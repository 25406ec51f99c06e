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

from runware_provider import Context, CreateArgs, create_generation
from runware_provider.cli.demo import simulated_settings
from runware_provider.create import wait_for
from runware_provider.serving import bind, serving
from runware_provider.simulator import Simulator, SimulatorOptions
from runware_provider.types import GenerationArgs

SEEN = """
[...document.images].filter((image) => image.checkVisibility() && image.getBoundingClientRect().top < innerHeight)
  .every((image) => image.complete && image.naturalWidth > 1)
"""

SCROLL = """
async ([step, seconds]) => {
  const frames = [], began = performance.now();
  let last = began, still = 0;
  while (still < 30 && last - began < seconds * 1000) {
    scrollBy(0, step);
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    frames.push(now - last);
    last = now;
    const end = scrollY + innerHeight >= document.documentElement.scrollHeight - 2;
    still = end && !document.querySelector("#more") ? still + 1 : 0;
  }
  return { frames, tiles: document.querySelectorAll(".tile").length, seconds: (last - began) / 1000 };
}
"""
"""Scrolls `step` pixels a frame, to the end or for so many seconds."""


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


async def scrolled(browser: Browser, url: str, step: int, seconds: float, *, pictures: bool) -> str:
    """What it was like to scroll. Without `pictures` none is asked for, so that the page alone is measured."""
    context = await browser.new_context(viewport={"width": 1280, "height": 860})
    page = await context.new_page()
    if not pictures:
        await page.route("**/thumbnails/**", lambda route: route.abort())
    page.set_default_timeout(seconds * 2_000 + 30_000)
    await page.goto(url)
    found = await page.evaluate(SCROLL, [step, seconds])
    await context.close()
    frames = sorted(found["frames"])
    late = frames[int(len(frames) * 0.99)]
    return (
        f"{found['tiles']} tiles after {found['seconds']:.0f} s; frames: median {statistics.median(frames):.0f} ms, "
        f"99th percentile {late:.0f} ms, longest {frames[-1]:.0f} ms"
    )


async def measure(images: int, views: int, chromium: str) -> None:
    """Fill, look, scroll, and print."""
    with tempfile.TemporaryDirectory() as folder:
        at_once = SimulatorOptions(latency=(0.0, 0.0), result_spread=(0.0, 0.0), image_bytes=32_768)
        async with Simulator(at_once) as simulator:
            with bind("127.0.0.1", 0) as listener:
                url = f"http://127.0.0.1:{listener.getsockname()[1]}"
                settings = simulated_settings(simulator, url, Path(folder) / "data")
                async with Context.open(settings) as ctx, serving(ctx, listener), async_playwright() as playwright:
                    await fill(ctx, images)
                    browser = await playwright.chromium.launch(executable_path=chromium)
                    cold = await first_view(browser, url)
                    warm = [await first_view(browser, url) for _ in range(views)]
                    middle, spread = statistics.median(warm), f"{min(warm):.2f} to {max(warm):.2f}"
                    print(f"{images} images; browser and service on the same machine; {views} views")
                    print(f"first view, thumbnails not made yet         {cold:.2f} s")
                    print(f"first view, median (least to most)          {middle:.2f} s ({spread})", flush=True)
                    far = await scrolled(browser, url, 800, 90.0, pictures=False)
                    print(f"to the end without pictures, 800 px a frame {far}", flush=True)
                    near = await scrolled(browser, url, 60, 15.0, pictures=True)
                    print(f"with pictures, 60 px a frame                {near}")
                    await browser.close()


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
