"""News of all generations: the stream that a gallery lives on."""

import asyncio
from collections.abc import Mapping
from uuid import UUID

import pytest

from runware_provider.durable import News
from runware_provider.durable.watchers import FEED_LIMIT
from runware_provider.errors import ServiceStopping
from tests.conformance.builders import PATIENCE, a_birth, deliver, version
from tests.conformance.engines import OpenRuntime


async def told_of(news: News, wanted: Mapping[UUID, int]) -> None:
    """Take news until all of `wanted` was among it; fails when it does not come, or when some was lost."""
    missing = dict(wanted)
    async with asyncio.timeout(PATIENCE):
        while missing:
            taken = await news.take()
            assert taken is not None
            missing = {each: least for each, least in missing.items() if taken.get(each, 0) < least}


async def test_who_follows_everything_hears_of_births_and_changes(open_runtime: OpenRuntime) -> None:
    """A gallery shows what somebody else asks for, at once."""
    one, other = a_birth(), a_birth()
    async with open_runtime() as runtime:
        with runtime.news() as news, runtime.news() as second:
            await runtime.create(one)
            await told_of(news, {one.id: 1})
            await runtime.create(other)
            latest = await runtime.call(one.id, deliver("a"), version)

            await told_of(news, {other.id: 1, one.id: latest})
            await told_of(second, {other.id: 1, one.id: latest})


async def test_who_is_slow_gets_the_newest_version_of_each_once(open_runtime: OpenRuntime) -> None:
    """However often it changed: what one does not take in time is summed up."""
    birth = a_birth(expected=20)
    async with open_runtime() as runtime:
        await runtime.create(birth)
        with runtime.news() as news, runtime.news() as other:
            latest = 1
            for number in range(10):
                latest = await runtime.call(birth.id, deliver(f"{number}"), version)
            await told_of(other, {birth.id: latest})

            assert {birth.id: latest} == await news.take()


async def test_who_is_far_too_slow_is_told_to_look_for_himself(
    open_runtime: OpenRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what is kept for one reader has a limit; afterwards he hears of news as before."""
    assert FEED_LIMIT == 1_024
    monkeypatch.setattr("runware_provider.durable.watchers.FEED_LIMIT", 3)
    births = [a_birth() for _ in range(4)]
    async with open_runtime() as runtime:
        with runtime.news() as news, runtime.news() as other:
            for birth in births:
                await runtime.create(birth)
                await told_of(other, {birth.id: 1})

            assert await news.take() is None
            latest = await runtime.call(births[0].id, deliver("a"), version)
            await told_of(news, {births[0].id: latest})


async def test_a_stop_ends_the_news(open_runtime: OpenRuntime) -> None:
    """For those who wait, and for those who come to wait after it."""
    async with open_runtime() as runtime:
        with runtime.news() as news:
            waiting = asyncio.ensure_future(news.take())
            await asyncio.sleep(0)
            runtime.release()
            with pytest.raises(ServiceStopping):
                await asyncio.wait_for(waiting, PATIENCE)
        with runtime.news() as late, pytest.raises(ServiceStopping):
            await asyncio.wait_for(late.take(), PATIENCE)
