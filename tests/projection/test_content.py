"""What comes from outside can be anything. It must never fail a write, and never be read back as something else."""

import asyncio
import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runware_provider.errors import api_rejected, projection_failed, timeout, webhook_error
from runware_provider.projection import Projection
from runware_provider.projection.rows import indexed, rows_of, stored_time
from runware_provider.types import ListArgs
from tests.projection.builders import NOON, a_state, an_image, an_output_error
from tests.projection.places import Place

HALF = "\ud83d"
ANY_TEXT = st.text(alphabet=st.characters(codec=None), max_size=300)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def deep(levels: int) -> Any:
    value: Any = "bottom"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "hostile",
    [
        "a\x00b",
        f"half a {HALF} character",
        "\u2028 line",
        "x\ny",
        "p" * 1_000_000,
        10**100,
        -(10**5_000),
        float("nan"),
        float("-inf"),
        ["a", None, {"b": HALF}],
        {HALF: {"\x00": 2**64}},
        deep(20_000),
        {f"field{number}": number for number in range(50_000)},
        object(),
        None,
        True,
    ],
    ids=lambda value: type(value).__name__,
)
async def test_no_input_fails_a_write(projection: Projection, place: Place, hostile: Any) -> None:
    """Every field of an input may hold anything, and the row is still written, read and valid JSON."""
    names = ("positivePrompt", "negativePrompt", "width", "height", "seedImage")
    state = a_state(input=dict.fromkeys(names, hostile), outputs=[an_image()])

    assert await projection.write([state]) == [None]
    assert await projection.get(state.id) is not None
    (row,) = place.rows("generations")
    json.loads(row["input"])
    assert len(row["input"].encode()) <= 65_536
    assert len(row["prompt"] or "") <= 8_192


async def test_a_seed_image_is_left_out_and_the_rest_of_the_input_kept(projection: Projection, place: Place) -> None:
    """30 MB of base64 are no use in a table; what one would query stays. Looked at only as far as needed."""
    state = a_state(input={"seedImage": "A" * 30_000_000, "steps": 20})
    started = time.process_time()
    await projection.write([state])

    assert time.process_time() - started < 0.2
    (row,) = place.rows("generations")
    assert json.loads(row["input"]) == {"seedImage": "(omitted: 30000000 characters)", "steps": 20}


async def test_an_input_without_end_is_left_out_as_a_whole(projection: Projection, place: Place) -> None:
    """Half of a JSON document is none."""
    await projection.write([a_state(input={"loras": [{"model": "x" * 1_000}] * 10_000})])

    (row,) = place.rows("generations")
    assert json.loads(row["input"]) == {"omitted": "more than 65536 bytes"}


@pytest.mark.parametrize(
    ("seed", "stored"),
    [(None, None), (0, 0), (2**63 - 1, 2**63 - 1), (2**63, None), (10**100, None), (2**53 + 1, 2**53 + 1)],
)
async def test_a_seed_is_exact_or_unknown(projection: Projection, seed: int | None, stored: int | None) -> None:
    """A seed that is nearly right makes another picture."""
    state = a_state(outputs=[an_image(seed=seed)])
    await projection.write([state])

    found = await projection.get(state.id)
    assert found is not None
    assert [stored] == [artifact.seed for artifact in found.artifacts]


@pytest.mark.parametrize(
    "label", ["", "x" * 300, "x" * 299 + "y", f"{HALF}", "\udc00", "a\x00", "'; DROP TABLE generations; --", "ä" * 200]
)
async def test_a_label_and_a_model_are_found_by_their_exact_value(projection: Projection, label: str) -> None:
    """Also when too long to be indexed or unfit to be stored; and what is only nearly the same is not found."""
    state = a_state(metadata={"label": label, label: "key"}, model=label)
    other = a_state(metadata={"label": label + "x", label + "x": "key"}, model=label + "x")
    await projection.write([state, other])

    for args in (ListArgs(metadata={"label": label}), ListArgs(metadata={label: "key"}), ListArgs(model=label)):
        assert [state.id] == [item.id for item in (await projection.list(args)).items]


@settings(max_examples=60, deadline=None)
@given(ANY_TEXT, st.dictionaries(ANY_TEXT, ANY_JSON))
def test_rows_are_always_json_that_any_parser_takes(word: str, input_: dict[str, Any]) -> None:
    """No NaN, no half characters, no NUL, no numbers beyond 64 bits: they go as one JSON parameter to any database."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    state = a_state(input=input_ | {"positivePrompt": word}, model=word, metadata={word: word}, outputs=[an_image()])
    for text in (lambda made: (made.generation, made.artifacts, made.labels))(rows_of(state)):
        text.encode()
        assert "\\u0000" not in text.replace("\\\\", "")
        json.loads(f"[{text}]", parse_constant=refuse)
    for integer in json.loads(rows_of(state).generation).values():
        assert not isinstance(integer, int) or abs(integer) < 2**63


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(ANY_TEXT, ANY_TEXT, ANY_JSON), min_size=1, max_size=20))
def test_any_content_is_written_whole_batches_at_a_time(place: Place, contents: list[tuple[str, str, Any]]) -> None:
    """In every database, and found again by its labels and its model: nothing in it means anything to the SQL."""
    states = [
        a_state(input={"positivePrompt": key, "more": more}, model=value, metadata={key: value}, outputs=[an_image()])
        for key, value, more in contents
    ]

    async def written_and_found() -> None:
        projection = await place.open()
        assert [None] * len(states) == await projection.write(states)
        for state in states:
            args = ListArgs(model=state.model, metadata=state.metadata, limit=200)
            assert state.id in {item.id for item in (await projection.list(args)).items}
        await projection.aclose()

    asyncio.run(written_and_found())


@given(
    st.text(alphabet=st.characters(codec=None), max_size=400), st.text(alphabet=st.characters(codec=None), max_size=400)
)
def test_two_values_are_indexed_alike_only_when_they_are_alike(one: str, other: str) -> None:
    """Equality in the index is equality; no index entry outgrows PostgreSQL's 2,704 bytes."""
    assert (one == other) == (indexed(one) == indexed(other))
    assert len(indexed(one).encode()) <= 800


async def test_every_field_that_one_would_query_has_its_column(projection: Projection, place: Place) -> None:
    """The database is the team's: this is what they find there."""
    images = [an_image(cost_micros=1_300), an_image(cost_micros=None)]
    failures = [an_output_error(), an_output_error(), an_output_error(webhook_error([{"code": "contentFilter"}]))]
    state = a_state(
        version=9,
        input={"positivePrompt": "a lighthouse", "negativePrompt": "fog", "width": 512, "height": 768.0},
        metadata={"user": "ada"},
        outputs=[*images, *failures],
        error=timeout(2, 4),
    )
    await projection.write([state])

    (row,) = place.rows("generations")
    moment = "2026-11-25T12:00:00.123Z"
    assert {
        "id": str(state.id),
        "task_uuid": str(state.task_uuid),
        "version": 9,
        "status": "completed",
        "model": "runware:101@1",
        "width": 512,
        "height": None,
        "expected": 4,
        "stored": 2,
        "failed": 3,
        "missing": 0,
        "cost_micros": 1_300,
        "error_code": "timeout",
        "created_at": moment,
        "dispatched_at": moment,
        "completed_at": moment,
        "deleted_at": None,
        "metadata": '{"user":"ada"}',
        "output_errors": '{"fetch_failed":2,"webhook_error":1}',
        "prompt": "a lighthouse",
        "negative_prompt": "fog",
        "error": '{"code":"timeout","received":2,"expected":4}',
        "input": '{"positivePrompt":"a lighthouse","negativePrompt":"fog","width":512,"height":768.0}',
    } == row
    found = place.rows("artifacts")
    assert sorted(str(image.id) for image in images) == [artifact["id"] for artifact in found]
    first = next(artifact for artifact in found if artifact["id"] == str(images[0].id))
    assert {
        "generation_id": str(state.id),
        "id": str(images[0].id),
        "key": images[0].key,
        "content_type": "image/png",
        "size_bytes": 123_456,
        "sha256": "ab" * 32,
        "width": 512,
        "height": 768,
        "seed": 42,
        "cost_micros": 1_300,
        "image_uuid": "2f6a0c9e",
        "created_at": moment,
    } == first


async def test_cost_is_unknown_rather_than_zero(projection: Projection) -> None:
    """Nothing known is not the same as nothing paid."""
    states = [a_state(outputs=[an_image(cost_micros=None)]), a_state(), a_state(outputs=[an_image(cost_micros=0)])]
    await projection.write(states)

    found = [await projection.get(state.id) for state in states]
    assert [summary.cost_micros for summary in found if summary] == [None, None, 0]


async def test_an_error_with_anything_in_it_is_kept(projection: Projection, place: Place) -> None:
    """Runware's own error objects are as hostile as anything else."""
    await projection.write([a_state(error=api_rejected(400, [{"message": f"\x00{HALF}", "n": 10**100}]))])

    (row,) = place.rows("generations")
    assert "api_rejected" == row["error_code"] == json.loads(row["error"])["code"]


async def test_a_row_that_is_written_does_not_say_that_it_is_not(projection: Projection) -> None:
    """`projection_failed` is shown by the state; in the row it would be false the moment it is written."""
    state = a_state(error=projection_failed("no such column"))
    await projection.write([state])

    found = await projection.get(state.id)
    assert found is not None
    assert found.error_code is None


def test_times_are_stored_in_one_width_so_that_text_orders_as_time() -> None:
    """Also with other zones, whole seconds, and years of three digits."""
    assert stored_time(NOON) == "2026-11-25T12:00:00.123Z"
    assert stored_time(NOON.replace(1, 1, 1, 0, 0, 0, 0)) == "0001-01-01T00:00:00.000Z"
