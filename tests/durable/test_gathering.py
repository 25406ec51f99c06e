"""Reads that share a statement."""

import asyncio
from collections.abc import Mapping, Sequence
from uuid import UUID

import pytest

from runware_provider.durable.gathering import MAX_IDS, Gathering


class Store:
    """Says of each odd number what it is, as soon as `gate` is open; `asked` has what was asked for at once."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None

    async def read(self, ids: Sequence[UUID]) -> Mapping[UUID, int]:
        self.asked.append([each.int for each in ids])
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return {each: each.int for each in ids if each.int % 2}


async def test_what_is_asked_in_one_turn_is_one_statement() -> None:
    """Each gets his own answer, also who asks for what another asked for, or for what there is not."""
    store = Store()
    gathering = Gathering(store.read)

    assert await asyncio.gather(*(gathering.get(UUID(int=each)) for each in (1, 2, 3, 1))) == [1, None, 3, 1]
    assert store.asked == [[1, 2, 3]]


async def test_nobody_waits_for_a_statement_that_began_before() -> None:
    """What was committed meanwhile could not be in its answer."""
    store = Store()
    store.gate.clear()
    gathering = Gathering(store.read)
    first = asyncio.ensure_future(gathering.get(UUID(int=1)))
    await asyncio.sleep(0.01)
    second = asyncio.ensure_future(gathering.get(UUID(int=1)))
    await asyncio.sleep(0.01)
    assert store.asked == [[1], [1]]
    store.gate.set()

    assert list(await asyncio.gather(first, second)) == [1, 1]


async def test_a_failure_is_everybodys_who_asked_and_nobodys_else() -> None:
    """The next statement is a new one."""
    store = Store()
    gathering = Gathering(store.read)
    store.failure = ValueError("away")
    outcomes = await asyncio.gather(*(gathering.get(UUID(int=each)) for each in (1, 3)), return_exceptions=True)
    assert [str(each) for each in outcomes] == ["away", "away"]
    store.failure = None

    assert await gathering.get(UUID(int=1)) == 1


async def test_who_gives_up_takes_nothing_from_the_others() -> None:
    """Clients hang up at any moment."""
    store = Store()
    store.gate.clear()
    gathering = Gathering(store.read)
    asking = [asyncio.ensure_future(gathering.get(UUID(int=1))) for _ in range(3)]
    await asyncio.sleep(0.01)
    asking[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking[0]
    store.gate.set()

    assert await asyncio.gather(*asking[1:]) == [1, 1]


async def test_a_statement_has_so_many_ids_and_no_more() -> None:
    """Ten thousand at once are twenty statements."""
    store = Store()
    gathering = Gathering(store.read)
    await asyncio.gather(*(gathering.get(UUID(int=each)) for each in range(2 * MAX_IDS + 1)))

    assert [len(ids) for ids in store.asked] == [MAX_IDS, MAX_IDS, 1]
