"""The catalogue: Runware's filters as they are, one page at a time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from runware_provider.errors import RunwareRefused, RunwareUnavailable
from runware_provider.model_search import SearchModelsArgs, search_models
from runware_provider.runware import RunwareClient
from tests.service import KEY, JsonObject, RawRunware, Reply, a_simulator, says


@dataclass
class OnlyRunware:
    """A context as far as a search needs one: it knows nothing of generations."""

    runware: RunwareClient


@asynccontextmanager
async def a_caller(url: str) -> AsyncIterator[OnlyRunware]:
    """What asks the API at `url`."""
    client = RunwareClient(url, KEY, lambda: datetime.now(UTC))
    try:
        yield OnlyRunware(client)
    finally:
        await client.close()


def a_page(*models: Any, **fields: Any) -> Reply:
    """An answer of Runware's with these models."""
    row: JsonObject = {"taskType": "modelSearch", "totalResults": len(models), "results": list(models)}
    return says({"data": [row | fields]})


async def test_a_search_finds_models_by_word() -> None:
    """`air` is what `model` takes, so it must be there."""
    async with a_simulator() as simulator, a_caller(simulator.url) as ctx:
        page = await search_models(ctx, SearchModelsArgs(search="flux"))

    assert page.results
    assert all(
        "flux" in f"{model.name} {model.air} {model.architecture} {model.tags}".lower() for model in page.results
    )


async def test_pages_follow_one_another_without_gap_or_repeat() -> None:
    """The next one begins at `offset + len(results)`."""
    async with a_simulator() as simulator, a_caller(simulator.url) as ctx:
        whole = await search_models(ctx, SearchModelsArgs(limit=100))
        airs: list[str] = []
        while len(airs) < whole.total_results:
            page = await search_models(ctx, SearchModelsArgs(limit=7, offset=len(airs)))
            assert page.offset == len(airs)
            airs += [model.air for model in page.results]

    assert [model.air for model in whole.results] == airs
    assert len(set(airs)) == len(airs)


async def test_only_what_is_set_is_sent_and_by_runwares_names() -> None:
    """Runware's defaults are Runware's to choose."""
    async with RawRunware(a_page()) as raw, a_caller(raw.url) as ctx:
        await search_models(ctx, SearchModelsArgs())
        await search_models(ctx, SearchModelsArgs(search="x", tags=["a", "b"], category="lora", visibility="public"))

    bare, filtered = (request.tasks[0] for request in raw.asked)
    assert set(bare) == {"taskType", "taskUUID"}
    assert bare["taskType"] == "modelSearch"
    assert {key: value for key, value in filtered.items() if key not in bare} == {
        "search": "x",
        "tags": ["a", "b"],
        "category": "lora",
        "visibility": "public",
    }


async def test_what_we_do_not_know_of_a_model_is_kept() -> None:
    """The catalogue gains fields weekly."""
    async with RawRunware(a_page({"air": "a:1@1", "newThing": {"x": 1}})) as raw, a_caller(raw.url) as ctx:
        page = await search_models(ctx, SearchModelsArgs())

    assert page.results[0].model_dump(exclude_unset=True) == {"air": "a:1@1", "newThing": {"x": 1}}


@pytest.mark.parametrize(
    "strange",
    [
        {"air": "a:1@1", "tags": "flux"},
        {"air": "a:1@1", "defaultWidth": 1024.5},
        {"air": "a:1@1", "private": "no idea"},
        {"air": 7},
        {"name": "without air"},
        None,
        "a:1@1",
    ],
)
async def test_a_model_of_another_shape_does_not_spoil_the_page(strange: Any) -> None:
    """It is shown as it is or left out; the rest of the catalogue can be used."""
    async with RawRunware(a_page(strange, {"air": "b:1@1"})) as raw, a_caller(raw.url) as ctx:
        page = await search_models(ctx, SearchModelsArgs())

    assert [model.air for model in page.results][-1] == "b:1@1"


@pytest.mark.parametrize("reply", [says({"data": []}), says({"data": [{"results": None}]}), says(b"nothing of use")])
async def test_an_answer_without_results_is_none(reply: Reply) -> None:
    """Not an empty catalogue."""
    async with RawRunware(reply) as raw, a_caller(raw.url) as ctx:
        with pytest.raises(RunwareUnavailable):
            await search_models(ctx, SearchModelsArgs())


async def test_a_filter_that_runware_refuses_comes_back_in_its_words() -> None:
    """Only Runware knows what its filters take today."""
    async with a_simulator() as simulator, a_caller(simulator.url) as ctx:
        with pytest.raises(RunwareRefused) as caught:
            await search_models(ctx, SearchModelsArgs(category="no-such-category"))

    assert caught.value.errors[0]["parameter"] == "category"


@pytest.mark.parametrize(
    "wrong",
    [{"limit": 0}, {"limit": 101}, {"offset": -1}, {"visibility": "secret"}, {"serch": "x"}, {"search": "x" * 257}],
)
def test_a_filter_that_cannot_be_is_refused_before_anybody_is_asked(wrong: JsonObject) -> None:
    """With the field's name."""
    with pytest.raises(ValidationError) as caught:
        SearchModelsArgs.model_validate(wrong)

    assert [issue["loc"][0] for issue in caught.value.errors()] == list(wrong)


async def test_a_search_costs_nothing_and_leaves_no_task() -> None:
    """It stands alone."""
    async with a_simulator() as simulator, a_caller(simulator.url) as ctx:
        await search_models(ctx, SearchModelsArgs(search="flux"))

        assert simulator.ledger.totals.searches == 1
        assert simulator.ledger.totals.billed == 0
        assert len(simulator.ledger) == 0
