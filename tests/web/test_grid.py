"""The grid's address, what it still shows when state has let go, and what its script makes of bad days."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.service import Service, a_service, eventually, images
from tests.web.browser import Visitor, a_browser, a_visitor


def cards_in(page: bytes) -> list[str]:
    """The ids of the generations that a page shows."""
    return re.findall(r'id="g-([0-9a-f-]{36})"', page.decode())


async def test_a_view_is_its_address(service: Service) -> None:
    """Whatever is in a label: the page, its next page and its script ask for the same."""
    titled = await service.made(metadata={"title": "Hello, world", "a=b": "c"})
    plain = await service.made(metadata={"project": "postcards"})
    await service.made()

    for query, wanted in (
        ("metadata.title=Hello,+world", titled.id),
        ("metadata.a%3Db=c", titled.id),
        ("labels=project%3Dpostcards", plain.id),
        ("metadata.project=postcards&status=completed", plain.id),
    ):
        page = (await service.get(f"/?{query}")).body
        assert cards_in(page) == [str(wanted)], query
        (own,) = re.findall(r'data-query="([^"]*)"', page.decode())
        assert cards_in((await service.get(f"/cards{own.replace('&amp;', '&')}")).body) == [str(wanted)], query


async def test_a_filter_that_is_wrong_is_named_and_shows_nothing(service: Service) -> None:
    """Everything would look like an answer."""
    await service.made()
    for query, field in (
        ("labels=postcards", "labels"),
        ("since=ever", "since"),
        ("created_after=soon", "created_after"),
        ("status=odd", "status"),
        ("cursor=x", "cursor"),
        ("prompt=a+b+c+d+e+f+g+h+i", "prompt"),
    ):
        page = (await service.get(f"/?{query}")).body
        assert cards_in(page) == [], query
        assert re.search(rf'role="alert">\s*{field} ', page.decode()), query
        assert cards_in((await service.get(f"/cards?{query}")).body) == [], query


async def test_what_state_has_let_go_of_is_still_shown(tmp_path: Path) -> None:
    """RETENTION is about state: images and read model are kept, so the gallery and the image's address have them."""
    clock = _Clock()
    async with a_service(tmp_path, retention=timedelta(hours=1), clock=clock) as service:
        state = await service.made(numberResults=2)
        clock.now += timedelta(hours=30)
        await service.ctx.runtime.call(state.id, lambda generation: generation.alarm(clock()), lambda _: None)

        async def let_go() -> bool:
            return (await service.get(f"/v1/generations/{state.id}")).status == 404

        await eventually(let_go)
        image = images(state)[0]
        assert cards_in((await service.get("/")).body) == [str(state.id)]
        assert cards_in((await service.get(f"/cards?ids={state.id}")).body) == [str(state.id)]
        assert (await service.get(f"/thumbnails/{state.id}/{image.id}/240")).status == 200
        content = await service.get(f"/v1/generations/{state.id}/outputs/{image.id}/content")
        assert (content.status, len(content.body)) == (200, image.size_bytes)
        page = await service.get(f"/g/{state.id}")
        assert page.status == 200
        assert "State has let go of it" in page.body.decode()
        assert "Remix" not in page.body.decode()


class _Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


async def test_a_deleted_one_is_gone_from_everywhere(service: Service) -> None:
    """At once, also where the read model has it still."""
    state = await service.made()
    await service.delete(f"/v1/generations/{state.id}")

    assert (await service.get(f"/g/{state.id}")).status == 404
    assert cards_in((await service.get(f"/cards?ids={state.id}")).body) == []
    image = images(state)[0]
    assert (await service.get(f"/v1/generations/{state.id}/outputs/{image.id}/content")).status == 404


async def shown(visitor: Visitor) -> int:
    """How many generations are in the grid."""
    return int(await visitor.page.locator(".card").count())


async def test_what_came_while_nobody_could_ask_leaves_no_gap(service: Service) -> None:
    """More than a page of it: the grid asks on until it meets what it has."""
    await service.made()
    async with a_browser() as browser, a_visitor(browser, service.url) as visitor:
        await visitor.open()
        await visitor.count(".card", 1)
        await visitor.page.route("**/cards**", lambda route: route.abort())
        for _ in range(7):
            await asyncio.gather(*(service.made() for _ in range(10)))
        await visitor.page.unroute("**/cards**")
        await service.made()

        await visitor.count(".card", 72)


async def test_an_answer_that_fails_is_asked_for_again(service: Service) -> None:
    """The last news of a generation must not be lost to one bad moment."""
    service.stage({"on": "task", "do": "slow", "seconds": 0.6})
    async with a_browser() as browser, a_visitor(browser, service.url) as visitor:
        await visitor.open()
        state = await service.create()
        await visitor.count(".tile.pending", 1)
        await visitor.page.route("**/cards**", lambda route: route.fulfill(status=503))
        await service.settled(state.id)
        await asyncio.sleep(0.3)
        await visitor.page.unroute("**/cards**")

        await visitor.count(".tile img", 1)


async def test_tabs_that_nobody_looks_at_hold_no_connection(service: Service) -> None:
    """A browser has six to a service: the seventh tab would wait for ever. Who comes back to one sees what is new."""
    async with a_browser() as browser, a_visitor(browser, service.url) as visitor:
        await visitor.open()
        await visitor.eventually("() => document.querySelector('#link').dataset.link === 'on'")
        hide = "(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
        hide += " document.dispatchEvent(new Event('visibilitychange')); }"
        watchers = service.ctx.runtime._watchers  # type: ignore[attr-defined]  # the embedded one's
        assert len(watchers._feeds) == 1
        await visitor.page.evaluate(hide, True)
        await eventually(lambda: len(watchers._feeds) == 0)
        await service.made()
        assert await shown(visitor) == 0
        await visitor.page.evaluate(hide, False)

        await visitor.count(".card", 1)


@pytest.mark.parametrize("when", ["on the page", "in the grid"])
async def test_a_delete_by_somebody_else_is_seen(service: Service, when: str) -> None:
    """In the grid it goes; its own page says so."""
    state = await service.made()
    async with a_browser() as browser, a_visitor(browser, service.url) as visitor:
        await visitor.open("/" if when == "in the grid" else f"/g/{state.id}")
        await visitor.eventually("() => document.querySelector('#link').dataset.link === 'on'")
        await service.delete(f"/v1/generations/{state.id}")
        if when == "in the grid":
            await visitor.count(".card", 0)
        else:
            await visitor.page.get_by_role("heading", name="Deleted").wait_for()


async def test_what_a_visitor_closed_stays_closed(service: Service) -> None:
    """News touches what changed, and nothing else; a form keeps its key, or sent twice it would be paid twice."""
    service.stage({"on": "task", "do": "slow", "seconds": 3})
    async with a_browser() as browser, a_visitor(browser, service.url) as visitor:
        state = await service.create()
        await visitor.open(f"/g/{state.id}")
        assert await visitor.page.locator("#timeline-of").evaluate("(d) => d.open")
        await visitor.page.get_by_text("What happened").click()
        key = await visitor.page.locator("input[name=key]").first.get_attribute("value")
        await visitor.count("figure", 1)

        assert not await visitor.page.locator("#timeline-of").evaluate("(d) => d.open")
        assert await visitor.page.locator("#actions input[name=key]").first.get_attribute("value") == key
