"""Many tasks, few transactions; an outage is waited out, but not for ever."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from runware_provider.errors import ProjectionFailed, ProjectionUnavailable
from runware_provider.projection import Projection, ProjectionWriter
from runware_provider.types import GenerationState, ListArgs
from tests.projection.builders import a_state
from tests.projection.places import Place


class Watched(Projection):
    """The real one, whose batches are seen."""

    batches: list[int]

    async def write(self, states: Sequence[GenerationState]) -> list[ProjectionFailed | None]:
        self.batches.append(len(states))
        return await super().write(states)


@pytest.fixture
async def watched(projection: Projection) -> Watched:
    watched = Watched(projection._target)
    watched.batches = []
    return watched


async def test_what_is_asked_together_is_written_together(watched: Watched, place: Place) -> None:
    """A commit waits for the disk: 200 states share a few."""
    writer = ProjectionWriter(watched, batch=64)
    outcomes = await asyncio.gather(*(writer.project(a_state()) for _ in range(200)))

    assert outcomes == [None] * 200
    assert watched.batches == [64, 64, 64, 8]
    assert len(place.rows("generations")) == 200


async def test_an_answer_means_durable(watched: Watched, place: Place) -> None:
    """`record_projection` is committed on the strength of it."""
    writer = ProjectionWriter(watched)
    state = a_state()
    await writer.project(state)

    assert len(place.rows("generations", state.id)) == 1


async def test_more_than_the_queue_holds_wait_their_turn(watched: Watched) -> None:
    """Backpressure: a thousand finished generations do not all lie in memory twice."""
    writer = ProjectionWriter(watched, batch=64, waiting=10)
    await asyncio.gather(*(writer.project(a_state()) for _ in range(50)))

    assert max(watched.batches) <= 10
    assert sum(watched.batches) == 50


async def test_each_caller_gets_its_own_outcome(watched: Watched, place: Place) -> None:
    """The poisoned one alone hears that it failed."""
    place.refuse("generations", "prompt", "poison", "not welcome")
    writer = ProjectionWriter(watched)
    good, bad, other = await asyncio.gather(
        writer.project(a_state()),
        writer.project(a_state(input={"positivePrompt": "poison"})),
        writer.project(a_state()),
    )

    assert (good, other) == (None, None)
    assert bad is not None
    assert "not welcome" in bad.message


@pytest.mark.usefixtures("impatient")
async def test_an_outage_is_waited_out(place: Place) -> None:
    """A lost connection is tried again before anything is said to have failed."""
    projection = await place.open()
    writer = ProjectionWriter(projection)
    with place.writes_blocked():
        task = asyncio.create_task(writer.project(a_state()))
        done, _ = await asyncio.wait([task], timeout=0.2)
        assert not done

    assert await task is None
    await projection.aclose()


@pytest.mark.usefixtures("impatient")
async def test_patience_ends_for_all_that_waited_not_batch_by_batch(place: Place) -> None:
    """In an outage a hundred batches must not each wait ten seconds in turn. Afterwards the writer works again."""
    projection = await place.open()
    writer = ProjectionWriter(projection, batch=2, patience=timedelta(milliseconds=100))
    with place.writes_blocked():
        outcomes = await asyncio.wait_for(asyncio.gather(*(writer.project(a_state()) for _ in range(40))), 1)

    assert {place.busy} == {outcome.message for outcome in outcomes if outcome}
    assert sum(outcome is not None for outcome in outcomes) == 40
    assert await writer.project(a_state()) is None
    await projection.aclose()


@pytest.mark.usefixtures("impatient")
async def test_room_that_an_outage_has_made_is_told(place: Place) -> None:
    """Who waits for a place has one when the first have been given up, not when all have."""
    projection = await place.open()
    writer = ProjectionWriter(projection, waiting=2, patience=timedelta(seconds=0.8))

    async def given_up() -> float:
        began = asyncio.get_running_loop().time()
        assert await writer.project(a_state()) is not None
        return asyncio.get_running_loop().time() - began

    with place.writes_blocked():
        first = asyncio.create_task(given_up())
        await asyncio.sleep(0.6)
        second, third = asyncio.create_task(given_up()), asyncio.create_task(given_up())

        assert await first < 1.0
        assert await third < 1.3  # 0.2 for the first one's place and 0.8 in it, and not 0.8 for the second one's
        assert second.done()
    await projection.aclose()


async def test_a_cancelled_caller_harms_nobody(watched: Watched) -> None:
    """Its state may be written or not; the others' are."""
    writer = ProjectionWriter(watched, batch=4)
    tasks = [asyncio.create_task(writer.project(a_state())) for _ in range(20)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[9].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert sum(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes) == 2
    assert outcomes.count(None) == 18


async def test_a_mistake_of_ours_reaches_the_caller_and_the_writer_goes_on(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for ever on a batch that raised what nobody foresaw."""

    async def broken(states: Sequence[GenerationState]) -> list[ProjectionFailed | None]:
        raise ZeroDivisionError

    writer = ProjectionWriter(watched)
    with monkeypatch.context() as patch:
        patch.setattr(watched, "write", broken)
        with pytest.raises(ZeroDivisionError):
            await writer.project(a_state())

    assert await writer.project(a_state()) is None


async def test_closing_waits_for_what_was_given(watched: Watched, place: Place) -> None:
    """SIGTERM loses nothing that was under way; with nothing under way it is immediate, and may be repeated."""
    writer = ProjectionWriter(watched, batch=4)
    tasks = [asyncio.create_task(writer.project(a_state())) for _ in range(20)]
    await asyncio.sleep(0)
    await writer.aclose()

    assert len(place.rows("generations")) == 20
    assert await asyncio.gather(*tasks) == [None] * 20
    await writer.aclose()


async def test_lists_go_on_while_writes_run(watched: Watched) -> None:
    """A reader has its own connection."""
    writer = ProjectionWriter(watched)
    writing = asyncio.gather(*(writer.project(a_state()) for _ in range(300)))
    pages = [await watched.list(ListArgs()) for _ in range(10)]
    await writing

    assert len(pages) == 10
    assert len((await watched.list(ListArgs())).items) == 50


async def test_what_goes_down_with_the_loop_is_cancelled_not_forgotten(watched: Watched) -> None:
    """A caller that is not told would wait for ever."""

    async def never(states: Sequence[GenerationState]) -> list[ProjectionFailed | None]:
        await asyncio.Event().wait()
        raise ProjectionUnavailable

    watched.write = never  # type: ignore[method-assign]
    writer = ProjectionWriter(watched)
    task = asyncio.create_task(writer.project(a_state()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert writer._drain is not None
    writer._drain.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
