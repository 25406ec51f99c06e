"""`modelSearch` over the bundled catalogue: every filter, sort and page."""

from typing import Any
from uuid import uuid4

import pytest

from runware_provider.simulator.catalogue import models, price_micros, search
from runware_provider.simulator.validation import AIR
from runware_provider.simulator.wire import JsonObject, Refused


def _search(**filters: Any) -> JsonObject:
    return search({"taskType": "modelSearch", "taskUUID": str(uuid4()), **filters}, "http://host")


def _airs(**filters: Any) -> list[str]:
    return [row["air"] for row in _search(limit=100, **filters)["results"]]


def test_the_catalogue_is_sound() -> None:
    assert 60 <= len(models()) <= 100
    for air, row in models().items():
        assert AIR.fullmatch(air)
        assert row["name"]
        assert row["category"] in ("checkpoint", "lora", "lycoris", "vae", "embeddings")
        assert row["price"] > 0


def test_every_page_is_told_the_whole_number_and_no_model_twice() -> None:
    pages = [_search(limit=30, offset=offset) for offset in (0, 30, 60, 90)]

    airs = [row["air"] for page in pages for row in page["results"]]
    assert {page["totalResults"] for page in pages} == {len(models())}
    assert len(airs) == len(set(airs)) == len(models())
    assert len(_search()["results"]) == 20
    assert _search(offset=1000)["results"] == []


@pytest.mark.parametrize(
    ("filters", "has", "has_not"),
    [
        ({"search": "FLUX dev"}, "runware:101@1", "runware:100@1"),
        ({"search": "runware:100@1"}, "runware:100@1", "runware:101@1"),
        ({"source": "community"}, "civitai:4384@128713", "runware:101@1"),
        ({"category": "lora"}, "civitai:122359@135867", "civitai:4384@128713"),
        ({"type": "inpainting"}, "runware:102@1", "runware:101@1"),
        ({"architecture": "sd1x"}, "civitai:4384@128713", "civitai:133005@782002"),
        ({"conditioning": "depth"}, "runware:103@1", "runware:104@1"),
        ({"tags": ["fast", "apache"]}, "runware:100@1", "runware:97@3"),
        ({"tags": "negative"}, "civitai:7808@9208", "runware:100@1"),
        ({"capabilities": ["edit"]}, "runware:106@1", "runware:101@1"),
        ({"visibility": "public"}, "runware:101@1", "none"),
        ({"visibility": "all"}, "runware:101@1", "none"),
        ({"search": None, "source": None}, "runware:101@1", "none"),
    ],
)
def test_filters(filters: JsonObject, has: str, has_not: str) -> None:
    airs = _airs(**filters)

    assert has in airs
    assert has_not not in airs


@pytest.mark.parametrize("visibility", ["private", "favorite", "owned"])
def test_nothing_is_private(visibility: str) -> None:
    assert _search(visibility=visibility)["totalResults"] == 0


def test_filters_are_taken_together() -> None:
    assert _airs(source="community", category="vae", architecture="sdxl") == ["civitai:296576@333245"]
    assert _airs(search="no such model at all") == []


def test_sorting() -> None:
    names = [row["name"].lower() for row in _search(limit=100, sort="name")["results"]]
    assert names == sorted(names)
    assert [row["name"].lower() for row in _search(limit=100, sort="-name")["results"]] == names[::-1]
    assert _airs(sort="-popularity")[0] == "runware:101@1"
    assert _airs(sort="popularity")[-1] == "runware:101@1"
    assert _airs(sort="-addedUnixTimestamp") == _airs(sort="addedUnixTimestamp")[::-1]


def test_a_row_has_the_documented_fields_and_no_others() -> None:
    [row] = _search(search="runware:101@1")["results"]

    assert {"air", "name", "version", "category", "architecture", "tags", "heroImage", "private", "comment"} <= set(row)
    assert (row["defaultWidth"], row["defaultSteps"]) == (1024, 28)
    assert row["heroImage"].startswith("http://host/image/ws/0/ii/")
    assert not {"price", "popularity"} & set(row)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("limit", 0),
        ("limit", 101),
        ("limit", "5"),
        ("limit", True),
        ("offset", -1),
        ("source", "elsewhere"),
        ("category", "controlnet"),
        ("visibility", "secret"),
        ("sort", "price"),
        ("search", 5),
        ("tags", [1]),
        ("capabilities", {"a": 1}),
    ],
)
def test_a_wrong_filter_is_refused_by_name(parameter: str, value: Any) -> None:
    with pytest.raises(Refused) as caught:
        _search(**{parameter: value})

    assert caught.value.status == 400
    assert caught.value.error["parameter"] == parameter


def test_larger_images_cost_more() -> None:
    assert price_micros("runware:101@1", 1024, 1024) == 3800
    assert price_micros("runware:101@1", 512, 512) == 950
    assert price_micros("nobody:knows@this", 128, 128) >= 1
