"""Pages: newest first, by cursor, filtered."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest

from runware_provider.errors import InvalidArgs, api_rejected
from runware_provider.projection import Projection, queries
from runware_provider.types import GenerationState, GenerationSummary, ListArgs
from tests.projection.builders import NOON, a_state, a_time, an_id, an_image, an_output_error


async def pages(projection: Projection, **args: Any) -> AsyncIterator[list[GenerationSummary]]:
    cursor = None
    while True:
        page = await projection.list(ListArgs(cursor=cursor, **args))
        yield page.items
        cursor = page.next_cursor
        if cursor is None:
            return


async def test_pages_are_newest_first_and_end(projection: Projection) -> None:
    """Every row once; no empty page at the end, even when the last one is full."""
    states = [a_state(created_at=a_time(number)) for number in range(6)]
    await projection.write(states)

    found = [[item.id for item in page] async for page in pages(projection, limit=2)]
    newest_first = [state.id for state in reversed(states)]
    assert [newest_first[0:2], newest_first[2:4], newest_first[4:6]] == found


async def test_generations_of_the_same_moment_are_ordered_by_id(projection: Projection) -> None:
    """A hundred can be made within a millisecond: a page break between them loses and repeats none."""
    states = [a_state() for _ in range(7)]
    await projection.write(states)

    found = [item.id async for page in pages(projection, limit=2) for item in page]
    assert sorted((state.id for state in states), reverse=True) == found


async def test_what_is_written_meanwhile_shifts_no_page(projection: Projection) -> None:
    """A cursor is a place, not a count: new rows come before it, changed ones stay where they are."""
    states = [a_state(created_at=a_time(number)) for number in range(4)]
    await projection.write(states)
    first = await projection.list(ListArgs(limit=2))
    await projection.write([a_state(created_at=a_time(99)), states[0].model_copy(update={"version": 2})])
    await projection.write([states[2].model_copy(update={"version": 2, "deleted_at": NOON})])

    second = await projection.list(ListArgs(limit=2, cursor=first.next_cursor))
    assert [states[1].id, states[0].id] == [item.id for item in second.items]


async def test_a_summary_holds_its_images_in_the_order_of_their_making(projection: Projection) -> None:
    """By time, then id; of its own generation only."""
    late, early, same = an_image(created_at=a_time(9)), an_image(), an_image()
    state = a_state(outputs=[late, same, early])
    await projection.write([state, a_state(outputs=[an_image()]), a_state()])

    found = await projection.get(state.id)
    assert found is not None
    assert [early.id, same.id, late.id] == [artifact.id for artifact in found.artifacts]
    assert sorted(len(item.artifacts) for item in (await projection.list(ListArgs())).items) == [0, 1, 3]


FILTERS: list[dict[str, Any]] = [
    {"status": "failed"},
    {"model": "b"},
    {"metadata": {"user": "ada"}},
    {"metadata": {"user": "ada", "project": "x"}},
    {"created_after": a_time(10)},
    {"created_before": a_time(10)},
    {"created_after": a_time(5), "created_before": a_time(15)},
]


@pytest.mark.parametrize("first", FILTERS)
@pytest.mark.parametrize("second", FILTERS)
async def test_all_filters_must_hold(projection: Projection, first: dict[str, Any], second: dict[str, Any]) -> None:
    """Each filter alone and every pair, over several pages, against the same question in Python."""
    states = [
        a_state(
            status="failed" if number % 2 else "completed",
            model="ab"[number % 3 == 0],
            metadata={"user": "ada" if number % 4 < 3 else "bob"} | ({"project": "x"} if number % 5 else {}),
            created_at=a_time(number),
        )
        for number in range(20)
    ]
    await projection.write([*states, a_state(deleted_at=NOON)])
    asked = first | second
    if "metadata" in first and "metadata" in second:
        asked["metadata"] = first["metadata"] | second["metadata"]

    def wanted(number: int) -> bool:
        state = states[number]
        return (
            asked.get("status", state.status) == state.status
            and asked.get("model", state.model) == state.model
            and asked.get("metadata", {}).items() <= state.metadata.items()
            and asked.get("created_after", a_time(-1)) < state.created_at < asked.get("created_before", a_time(99))
        )

    found = [item.id async for page in pages(projection, limit=3, **asked) for item in page]
    assert [states[number].id for number in reversed(range(20)) if wanted(number)] == found


@pytest.mark.parametrize(
    ("field", "moment", "found"),
    [
        ("created_after", NOON, False),
        ("created_after", NOON - timedelta(microseconds=1), True),
        ("created_after", NOON + timedelta(microseconds=1), False),
        ("created_before", NOON, False),
        ("created_before", NOON + timedelta(microseconds=1), True),
        ("created_before", NOON - timedelta(microseconds=1), False),
        ("created_after", NOON.replace(tzinfo=None), False),
        ("created_before", (NOON + timedelta(milliseconds=1)).astimezone(timezone(timedelta(hours=-8))), True),
    ],
)
async def test_a_bound_excludes_its_own_moment(
    projection: Projection, field: str, moment: datetime, found: bool
) -> None:
    """Rows have whole milliseconds, a question may have microseconds and any zone, or none, which is UTC."""
    await projection.write([a_state(created_at=NOON)])

    page = await projection.list(ListArgs.model_validate({field: moment}))
    assert found == bool(page.items)


@pytest.mark.parametrize(
    "cursor", ["", "x", "é", "A" * 31, "A" * 33, "A" * 40, "f" * 32, "!" * 32, "_" * 32, "' OR 1=1 --"]
)
async def test_a_cursor_that_no_page_gave_is_refused_by_name(projection: Projection, cursor: str) -> None:
    """Not an empty page, which a client would take for the end."""
    with pytest.raises(InvalidArgs, match="cursor: is not one that a page gave"):
        await projection.list(ListArgs(cursor=cursor))


@pytest.mark.parametrize(
    ("field", "moment"),
    [
        ("created_after", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))),
        ("created_before", datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=-1)))),
        ("created_before", datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    ],
)
async def test_a_time_out_of_range_is_refused_by_name(projection: Projection, field: str, moment: datetime) -> None:
    """The calendar ends; a question beyond it is the caller's mistake and no crash."""
    with pytest.raises(InvalidArgs, match=f"{field}: is out of range"):
        await projection.list(ListArgs.model_validate({field: moment}))


async def test_more_labels_than_a_generation_has_are_refused(projection: Projection) -> None:
    """A bound on the statement's size (D1 takes 100 parameters)."""
    labels = {str(number): "x" for number in range(33)}
    with pytest.raises(InvalidArgs, match="metadata"):
        await projection.list(ListArgs(metadata=labels))
    labels.pop("0")
    assert (await projection.list(ListArgs(metadata=labels))).items == []


async def test_an_unknown_generation_is_none(projection: Projection) -> None:
    """Not yet projected or never made: the read model cannot tell."""
    await projection.write([a_state()])

    assert await projection.get(uuid4()) is None
    assert await projection.get(an_id()) is None


async def found(projection: Projection, **filters: Any) -> list[UUID]:
    """The ids of all pages."""
    return [item.id async for page in pages(projection, **filters) for item in page]


def asking(prompt: str, **changes: Any) -> GenerationState:
    """A state with this prompt."""
    return a_state(**changes).model_copy(update={"input": {"positivePrompt": prompt}})


async def test_a_prompt_is_found_by_its_words(projection: Projection) -> None:
    """All of them, anywhere in it, whatever their case; what LIKE would take for a wildcard is a character."""
    harbour = asking("A Lighthouse over the harbour, 100% fog", created_at=a_time(2))
    dusk = asking("a lighthouse at dusk_", created_at=a_time(1))
    silent = asking("")
    await projection.write([harbour, dusk, silent])

    assert [harbour.id, dusk.id] == await found(projection, prompt="LIGHTHOUSE")
    assert [dusk.id] == await found(projection, prompt="dusk  light")
    assert [harbour.id] == await found(projection, prompt="100%")
    assert [dusk.id] == await found(projection, prompt="k_")
    for nothing in ("1%0", "lighthouse tower", "\\", "d_sk"):
        assert await found(projection, prompt=nothing) == [], nothing
    with pytest.raises(InvalidArgs, match="prompt"):
        await projection.list(ListArgs(prompt="a b c d e f g h i"))


async def test_failures_are_found_by_their_code(projection: Projection) -> None:
    """Whether the generation failed by it or one of its outputs; other filters hold too."""
    refused = a_state(error=api_rejected(400, []), created_at=a_time(2))
    partly = a_state(outputs=[an_image(), an_output_error()], created_at=a_time(1))
    fine = a_state(outputs=[an_image()])
    await projection.write([refused, partly, fine])

    assert [refused.id] == await found(projection, error="api_rejected")
    assert [partly.id] == await found(projection, error="fetch_failed")
    assert await found(projection, error="fetch_failed", created_after=a_time(1)) == []
    assert await found(projection, error="fetch%") == []


async def test_looking_for_what_is_rare_goes_on_page_by_page(
    projection: Projection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one page looks at has a limit: it may be empty, and says where the next one goes on."""
    assert queries.WINDOW == 10_000
    monkeypatch.setattr(queries, "WINDOW", 4)
    for made_with_window in (queries.page, queries.edge):
        made_with_window.cache_clear()
    needles = [asking("a needle", created_at=a_time(number)) for number in (0, 9)]
    hay = [asking("hay", created_at=a_time(number), metadata={"k": "v"}) for number in range(1, 9)]
    await projection.write([*needles, *hay])
    try:
        seen = [[item.id for item in page] async for page in pages(projection, prompt="needle", limit=2)]
        assert [[needles[1].id], [], [needles[0].id]] == seen
        assert await found(projection, prompt="needle", metadata={"k": "v"}) == []
        assert len(hay) == len(await found(projection, prompt="hay", metadata={"k": "v"}, limit=3))
    finally:
        for made_with_window in (queries.page, queries.edge):
            made_with_window.cache_clear()
