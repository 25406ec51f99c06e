"""The read model only goes forward."""

import asyncio
from collections.abc import Iterator
from random import Random
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runware_provider.projection import Projection
from runware_provider.types import GenerationState
from tests.projection.builders import NOON, a_state, an_id, an_image, an_output_error
from tests.projection.places import NewPlace, Place


def a_life(id_: UUID, *, deleted: bool) -> list[GenerationState]:
    """The versions of one generation that are projected, oldest first."""
    labels = {"project": "lighthouse", "user": "ada"}
    first, second = an_image(1), an_image(2)
    life = [
        a_state(id_, version=1, status="running", metadata=labels),
        a_state(id_, version=3, metadata=labels, outputs=[first, an_output_error()]),
        a_state(id_, version=4, metadata=labels, outputs=[first, second]),
    ]
    if deleted:
        life.append(a_state(id_, version=6, metadata=labels, outputs=[first, second], deleted_at=NOON))
        life.append(a_state(id_, version=7, input={}, model=None, deleted_at=NOON))  # purged
    return life


class Bench:
    """Two read models: one is told a story, the other only its end."""

    def __init__(self, new_place: NewPlace, runner: asyncio.Runner) -> None:
        self.places = [new_place(), new_place()]
        self._runner = runner
        self.story, self.end = (runner.run(place.open()) for place in self.places)

    def tell(self, projection: Projection, batch: list[GenerationState]) -> None:
        assert [None] * len(batch) == self._runner.run(projection.write(batch))

    def close(self) -> None:
        self._runner.run(self.story.aclose())
        self._runner.run(self.end.aclose())


@pytest.fixture
def bench(new_place: NewPlace) -> Iterator[Bench]:
    with asyncio.Runner() as runner:
        bench = Bench(new_place, runner)
        yield bench
        bench.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), deleted=st.booleans())
def test_any_order_and_repetition_of_versions_ends_with_the_newest(
    bench: Bench, data: st.DataObject, *, deleted: bool
) -> None:
    """Workers overtake each other and tasks run twice: rows, images and labels end as if only the newest had come."""
    id_ = an_id()
    life = a_life(id_, deleted=deleted)
    repeats = data.draw(st.lists(st.sampled_from(life), max_size=6))
    story = data.draw(st.permutations(life + repeats))
    while story:
        size = data.draw(st.integers(1, len(story)))
        bench.tell(bench.story, story[:size])
        story = story[size:]
    bench.tell(bench.end, [life[-1]])

    assert bench.places[1].everything(id_) == bench.places[0].everything(id_)


async def test_a_tombstone_keeps_only_ids_and_times(projection: Projection, place: Place) -> None:
    """Deleted means deleted: neither prompt nor labels nor images stay, but the version does."""
    state = a_state(metadata={"user": "ada"}, outputs=[an_image()])
    await projection.write([state])
    await projection.write([state.model_copy(update={"version": 2, "deleted_at": NOON})])

    time = "2026-11-25T12:00:00.123Z"
    kept = {
        "id": str(state.id),
        "task_uuid": str(state.task_uuid),
        "version": 2,
        "created_at": time,
        "dispatched_at": time,
        "completed_at": time,
        "deleted_at": time,
    }
    found = place.everything(state.id)
    assert [kept] == [{name: value for name, value in row.items() if value is not None} for row in found["generations"]]
    assert [] == found["artifacts"] == found["generation_metadata"]
    assert await projection.get(state.id) is None


async def test_an_undone_deletion_is_a_newer_version_and_shows_again(projection: Projection) -> None:
    """Within the undo time a delete can be taken back: the state's newest word counts, images included."""
    state = a_state(outputs=[an_image()])
    await projection.write([state.model_copy(update={"version": 2, "deleted_at": NOON})])
    await projection.write([state.model_copy(update={"version": 3})])

    found = await projection.get(state.id)
    assert found is not None
    assert [state.outputs[0].id] == [artifact.id for artifact in found.artifacts]


async def test_an_older_version_is_success_and_changes_nothing(projection: Projection) -> None:
    """Who projects an old version is done: the row says more already."""
    state = a_state(version=5, status="completed")
    await projection.write([state])

    assert await projection.write([state.model_copy(update={"version": 4, "status": "running"})]) == [None]
    found = await projection.get(state.id)
    assert found is not None
    assert found.status == "completed"


async def test_what_is_written_survives_the_process(place: Place) -> None:
    """Another start finds the rows."""
    state = a_state(outputs=[an_image()])
    for written in (True, False):
        projection = await place.open()
        if written:
            await projection.write([state])
        found = await projection.get(state.id)
        await projection.aclose()
        assert found is not None
        assert len(found.artifacts) == 1


@pytest.mark.parametrize("kind", ["postgresql", "d1"], indirect=True)  # a file has one owner
async def test_processes_that_write_the_same_generations_at_once_end_with_the_newest(place: Place) -> None:
    """Two nodes, every batch in another order, no deadlock: each generation ends as its last version says, whole."""
    lives = [a_life(an_id(), deleted=number % 3 == 0) for number in range(12)]
    nodes = [await place.open() for _ in range(3)]
    random = Random(7)

    async def play(projection: Projection) -> None:
        versions = [state for life in lives for state in life]
        random.shuffle(versions)
        for start in range(0, len(versions), 7):
            batch = versions[start : start + 7]
            assert [None] * len(batch) == await projection.write(batch)

    await asyncio.gather(*(play(node) for node in nodes for _ in range(2)))
    found = place.everything()
    for node in nodes:
        await node.aclose()

    for life in lives:
        last, id_ = life[-1], str(life[-1].id)
        (row,) = [row for row in found["generations"] if row["id"] == id_]
        artifacts = [row["id"] for row in found["artifacts"] if row["generation_id"] == id_]
        labels = {row["key"] for row in found["generation_metadata"] if row["generation_id"] == id_}
        gone = last.deleted_at is not None
        assert last.version == row["version"]
        assert ([] if gone else [str(output.id) for output in last.outputs]) == artifacts
        assert (set() if gone else last.metadata.keys()) == labels
