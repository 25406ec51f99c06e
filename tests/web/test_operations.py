"""The page for whoever looks after the service."""

import sqlite3
from contextlib import closing
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

from runware_provider.types import DayOfModel
from runware_provider.web.plots import HEIGHT, SERIES, minute_bars, spend_plot
from tests.service import a_service, eventually, images, until
from tests.web.browser import a_browser, a_visitor

AT_ONCE = timedelta(milliseconds=1)


async def test_failures_are_counted_and_retried_together(tmp_path: Path) -> None:
    """By kind; once the cause is mended, with one press, for nothing."""
    async with a_service(tmp_path, {"on": "cdn", "do": "html"}, store_patience=AT_ONCE) as service:
        lost = [await service.made() for _ in range(3)]
        async with a_browser() as browser, a_visitor(browser, service.url) as visitor:
            page = visitor.page
            await visitor.open("/operations")
            await page.get_by_role("link", name="3 not an image we keep").click()
            await visitor.count(".tile.failed", 3)
            await page.go_back()
            service.stage()
            await page.get_by_role("button", name="Retry all").click()
            await page.get_by_text("3 generations are being tried again").wait_for()
        for state in lost:
            await until(service.ctx, state.id, lambda state: len(images(state)) == 1)
            assert service.billed(state) == 1


async def test_what_the_database_refused_is_replayed_or_cleared(tmp_path: Path) -> None:
    """From the page of all, or from the one's own."""
    async with a_service(tmp_path) as service:
        database = tmp_path / "data" / "projection.db"
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("ALTER TABLE generations RENAME COLUMN negative_prompt TO other")
            one, two = await service.made(), await service.made()
            connection.execute("ALTER TABLE generations RENAME COLUMN other TO negative_prompt")
        async with a_browser() as browser, a_visitor(browser, service.url) as visitor:
            page = visitor.page
            await visitor.open(f"/g/{one.id}")
            await page.get_by_role("heading", name="not in the database").wait_for()
            await page.get_by_role("button", name="Clear").click()
            await visitor.count(".trouble", 0)
            await visitor.open("/operations")
            await page.get_by_role("button", name="Replay what the database refused").click()
            await page.get_by_text("1 generations are being projected again").wait_for()
        await until(service.ctx, two.id, lambda state: state.projection_error is None)
        await eventually(lambda: _rows(database) >= 1)


def _rows(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute("SELECT count(*) FROM generations").fetchone()[0])


async def test_what_belongs_to_nothing_is_shown_and_given_again(tmp_path: Path) -> None:
    """Unclaimed deliveries, with why; never their content."""
    async with a_service(tmp_path) as service:
        nobody = service.ctx.clock()
        await service.ctx.runtime.keep_unclaimed(None, "unknown_generation", b'{"secret": 1}', nobody)
        async with a_browser() as browser, a_visitor(browser, service.url) as visitor:
            await visitor.open("/operations")
            await visitor.page.get_by_text("unknown_generation").wait_for()
            assert "secret" not in await visitor.page.content()
            await visitor.page.get_by_role("button", name="Give them again").click()
            await visitor.page.get_by_text("0 unclaimed deliveries found a home").wait_for()


async def test_the_page_stays_true_while_it_is_open(tmp_path: Path) -> None:
    """It asks again every few seconds, and says what is missing when the read model is away."""
    async with a_service(tmp_path) as service, a_browser() as browser, a_visitor(browser, service.url) as visitor:
        await visitor.open("/operations")
        await visitor.page.evaluate("document.activeElement.blur()")
        stored = "() => [...document.querySelectorAll('#numbers div')].find((d) => /in flight/.test(d.textContent))"
        assert await visitor.page.evaluate(f"({stored})().textContent.includes('0')")
        service.stage({"on": "task", "do": "stuck"})
        await service.create()
        await visitor.eventually(f"() => ({stored})().querySelector('b').textContent === '1'")
        assert "cannot be asked" not in await visitor.page.content()


def a_day(ago: int, model: str, cost: int) -> DayOfModel:
    """What one model cost on one day."""
    day = (date(2026, 11, 26) - timedelta(days=ago)).isoformat()
    return DayOfModel(day=day, model=model, generations=1, images=1, cost_micros=cost)


def test_bars_stand_on_one_another_and_the_highest_day_is_as_high_as_the_plot() -> None:
    """All days have a place, also those without a cost; models beyond the sixth are one colour."""
    rows = [a_day(0, f"m{number}", 100 - number) for number in range(8)] + [a_day(13, "m0", 10), a_day(99, "m0", 1)]

    plot = spend_plot(rows, date(2026, 11, 26), 14)

    assert len(plot.days) == 14
    assert [name for name, _ in plot.legend] == [*(f"m{number}" for number in range(SERIES)), "others"]
    today = [bar for bar in plot.bars if "2026-11-26" in bar.title]
    assert abs(sum(bar.height for bar in today) - HEIGHT) < 1
    assert abs(min(bar.y for bar in today)) < 0.1
    for lower, upper in pairwise(today):
        assert abs(lower.y - (upper.y + upper.height)) < 0.1
    assert plot.days[0][2] == 10


def test_nothing_spent_is_an_empty_plot() -> None:
    """And no division by nothing."""
    plot = spend_plot([], date(2026, 11, 26), 7)

    assert (list(plot.bars), plot.most_micros, len(plot.days)) == ([], 0, 7)
    assert all(bar.height == 0 for bar in minute_bars([0] * 60))
    assert minute_bars([]) == []
