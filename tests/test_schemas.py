"""Runware's shapes, all that were seen, and what callers may send."""

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runware_provider.errors import InvalidArgs
from runware_provider.schemas import (
    MAX_DEPTH,
    MAX_ROWS,
    RAW_BYTES,
    RESERVED,
    bounded,
    check_create,
    loads,
    parse_delivery,
    read_rows,
)
from runware_provider.types import CreateArgs, Delivery, Failure, Invalid, Result
from tests.builders import TASK

URL = "https://im.runware.ai/image/ws/2/ii/6f0e3c1e-7d3b-4c9e-9d83-2f3b6a1c0a55.jpg"
IMAGE = "6f0e3c1e-7d3b-4c9e-9d83-2f3b6a1c0a55"
ITEM = {"taskType": "imageInference", "taskUUID": str(TASK), "imageUUID": IMAGE, "imageURL": URL, "seed": 7}
ERROR = {"code": "providerError", "message": "no", "taskUUID": str(TASK)}
RESULT = Result(str(TASK), IMAGE, URL, ITEM)


def delivery(body: Any) -> Delivery:
    """What is read of `body` when it comes as JSON."""
    return parse_delivery(json.dumps(body).encode())


def the_invalid(body: bytes) -> Invalid:
    """The only fact of a body that is none."""
    [fact] = parse_delivery(body).facts
    assert isinstance(fact, Invalid)
    return fact


# What Runware delivers


@pytest.mark.parametrize(
    "body",
    [
        {"data": [ITEM]},
        {"data": ITEM},
        {"data": [ITEM], "errors": []},
        {"data": [ITEM], "errors": None},
        [ITEM],
        ITEM,
    ],
    ids=["wrapped", "wrapped once", "beside no errors", "beside null errors", "a bare list", "flat"],
)
def test_a_result_is_read_in_every_wrapping(body: Any) -> None:
    """All of these stand in Runware's own sources."""
    assert Delivery((RESULT,)) == delivery(body)


def test_a_status_of_success_changes_nothing() -> None:
    """Items may carry `status`."""
    item = {**ITEM, "status": "success"}

    assert Delivery((Result(str(TASK), IMAGE, URL, item),)) == delivery({"data": [item]})


@pytest.mark.parametrize(
    ("body", "raw"),
    [
        ({"errors": [ERROR]}, ERROR),
        ({"errors": ERROR}, ERROR),
        ({"data": [], "errors": [ERROR]}, ERROR),
        (ERROR, ERROR),
        ({**ERROR, "status": "error"}, {**ERROR, "status": "error"}),
        ({"data": [{**ERROR, "status": "error"}]}, {**ERROR, "status": "error"}),
        ([{**ERROR, "status": "error"}], {**ERROR, "status": "error"}),
    ],
    ids=["errors", "one error", "beside no data", "flat", "flat with status", "among data", "a bare list"],
)
def test_an_error_of_the_task_is_read_in_every_wrapping(body: Any, raw: Any) -> None:
    """The whole object is kept: its codes are unstable, and it may carry `min`, `max`, `multiplier`."""
    assert Delivery((Failure(str(TASK), None, "providerError", raw),)) == delivery(body)


@pytest.mark.parametrize("error", [{"code": "nsfw", "message": "no"}, "nsfw"])
def test_the_code_may_stand_inside_an_error_of_its_own(error: Any) -> None:
    """`{"status": "error", "error": {...}}`."""
    row = {"taskUUID": str(TASK), "status": "error", "error": error}

    assert Delivery((Failure(str(TASK), None, "nsfw", row),)) == delivery(row)


@pytest.mark.parametrize("row", [{"status": "error"}, {"status": "error", "code": 7}, {"status": "error", "code": {}}])
def test_an_error_without_a_code_that_can_be_read_has_the_code_unknown(row: Any) -> None:
    """It is an error all the same."""
    assert Delivery((Failure(None, None, "unknown", row),)) == delivery(row)


def test_an_error_of_one_image_names_it() -> None:
    """Only then does it fill that image's slot."""
    row = {**ERROR, "imageUUID": IMAGE}

    assert Delivery((Failure(str(TASK), IMAGE, "providerError", row),)) == delivery({"errors": [row]})


@pytest.mark.parametrize("status", ["processing", "pending", "queued", "PROCESSING"])
def test_work_that_goes_on_is_no_result(status: str) -> None:
    """`processing` says that Runware has the task, no more."""
    body = {"data": [{"taskUUID": str(TASK), "status": status, "progress": 40}]}

    assert Delivery((), processing=True) == delivery(body)


def test_a_body_may_hold_all_of_it_at_once_in_order() -> None:
    """Results, errors and work that goes on, whatever stands beside what."""
    row = {"taskUUID": str(TASK), "status": "processing"}

    assert Delivery((RESULT, Failure(str(TASK), None, "providerError", ERROR)), processing=True) == delivery(
        {"data": [row, ITEM], "errors": [ERROR]}
    )


def test_a_result_without_an_address_is_still_a_result() -> None:
    """A provider's content filter looks like that; an error of the output, decided elsewhere."""
    item = {key: value for key, value in ITEM.items() if key != "imageURL"}

    for url in ({}, {"imageURL": None}, {"imageURL": ""}, {"imageURL": 7}):
        assert Delivery((Result(str(TASK), IMAGE, None, {**item, **url}),)) == delivery({**item, **url})


@pytest.mark.parametrize(
    ("url", "image"),
    [
        (URL, IMAGE),
        ("https://im.runware.ai/some/other.jpg", "url-"),
    ],
)
def test_a_paid_image_without_an_id_is_named_by_its_address(url: str, image: str) -> None:
    """It must be kept, and once: the same address gives the same name."""
    first, again = (delivery({"taskUUID": str(TASK), "imageURL": url}).facts[0] for _ in range(2))

    assert isinstance(first, Result)
    assert first.image_uuid.startswith(image)
    assert first == again


def test_a_result_that_carries_a_code_of_its_own_is_a_result() -> None:
    """It has an address: it was made and paid for."""
    item = {**ITEM, "code": 200}

    assert Delivery((Result(str(TASK), IMAGE, URL, item),)) == delivery(item)


def test_nesting_near_the_limit_of_python_itself_is_read() -> None:
    """Decoding may just succeed where encoding again, a few frames deeper, does not."""
    limit = sys.getrecursionlimit()
    for depth in range(limit // 2, limit + 10):
        body = b'{"imageUUID":"a","imageURL":"https://x/","deep":' + b"[" * depth + b"]" * depth + b"}"

        [fact] = parse_delivery(body).facts

        assert isinstance(fact, Result | Invalid)


def test_an_empty_body_says_nothing() -> None:
    """`data` without rows is neither error nor result."""
    assert Delivery() == delivery({"data": []})
    assert Delivery() == delivery([])


@pytest.mark.parametrize(
    ("body", "issue"),
    [
        (b"", "not JSON"),
        (b"<html>", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"null", "must be an object"),
        (b"7", "must be an object"),
        (b'"text"', "must be an object"),
        (b'{"data": [7]}', "must be an object"),
        (b"{}", "neither imageUUID nor imageURL"),
        (b'{"new": "shape"}', "neither imageUUID nor imageURL"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"imageUUID":"a","seed":' + b"9" * 10_000 + b"}", "not JSON"),
    ],
)
def test_what_is_no_delivery_is_kept_as_such(body: bytes, issue: str) -> None:
    """With what was wrong, for a person to look at; the generation asks Runware at once."""
    invalid = the_invalid(body)

    assert issue in invalid.issues[0]


def test_one_broken_item_does_not_take_the_others_with_it() -> None:
    """A paid result beside it is still read."""
    facts = delivery({"data": [7, ITEM, {}]}).facts

    assert [Invalid, Result, Invalid] == [type(fact) for fact in facts]


def test_the_same_broken_body_is_the_same_fact() -> None:
    """Runware repeats what was not acknowledged."""
    assert the_invalid(b"<html>") == the_invalid(b"<html>")
    assert the_invalid(b"<html>").digest != the_invalid(b"<htm>").digest


def test_a_body_is_read_up_to_a_number_of_rows() -> None:
    """Reading a megabyte of small rows would hold up everybody else; the rest is asked for."""
    facts = delivery({"data": [ITEM] * (MAX_ROWS + 5)}).facts

    assert len(facts) == MAX_ROWS + 1
    assert isinstance(facts[-1], Invalid)


def test_what_json_cannot_carry_becomes_text() -> None:
    """NaN and infinities would break the next encoder that is strict."""
    assert loads("[NaN, Infinity, -Infinity, 1e999, -1e999, 1.5, 1e-999]") == [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "-1e999",
        1.5,
        0.0,
    ]


def test_a_number_of_a_hundred_digits_is_kept_as_it_is() -> None:
    """Seeds are integers; how large is Runware's business."""
    assert loads("9" * 100) == int("9" * 100)


# What is kept of it


def test_an_item_is_kept_as_it_came() -> None:
    """Field for field, with those that we do not know."""
    item = {**ITEM, "new": [{"x": [1, 2.5, None, True]}], "text": "[ü] 🦊 {", "NSFWContent": False}

    assert item == bounded(item)


def test_an_item_over_the_limit_is_kept_in_part_and_marked() -> None:
    """8 KiB; what does not fit is not worth a full disk."""
    kept = bounded({**ITEM, "imageBase64Data": "A" * 1_000_000})

    assert kept["truncated"] is True
    assert len(json.dumps(kept)) <= RAW_BYTES


@pytest.mark.parametrize("disguise", ["", "]" * 1_000, "[" * 1_000, '\\"]' * 300])
def test_an_item_nested_deeper_than_the_limit_is_kept_as_an_excerpt(disguise: str) -> None:
    """Encoders and decoders have limits of their own; brackets inside strings are not nesting."""
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]

    assert bounded({"text": disguise, "deep": deep})["truncated"] is True


def test_brackets_in_a_prompt_are_not_nesting() -> None:
    """People write `((((masterpiece))))`, and worse."""
    item = {**ITEM, "positivePrompt": "[[{{" * 200}

    assert item == bounded(item)


@pytest.mark.parametrize("depth", range(MAX_DEPTH - 3, MAX_DEPTH + 3))
def test_the_limit_of_nesting_is_met_exactly(depth: int) -> None:
    """`MAX_DEPTH` levels are kept, one more is not."""
    item: Any = {}
    for _ in range(depth - 1):
        item = {"x": item}

    assert (bounded(item) == item) == (depth <= MAX_DEPTH)


def test_half_a_surrogate_becomes_a_replacement() -> None:
    """JSON can spell it, UTF-8 cannot carry it."""
    kept = bounded({"a\ud800": "b\udc00", "pair": "🦊", "nul": "\x00"})

    assert kept == {"a\ufffd": "b\ufffd", "pair": "🦊", "nul": "\x00"}


@pytest.mark.parametrize(
    "item",
    [
        {"webhookURL": "https://us.example/webhooks/runware?generation_id=1&token=SECRET"},
        {"request": [{"webhookURL": "SECRET"}]},
        {"apiKey": "SECRET"},
        {"uploadEndpoint": "https://bucket.example/put?signature=SECRET"},
        {"message": "cannot post to https://us.example/?generation_id=1&token=SECRET"},
        {"message": "cannot post to 'https%3A%2F%2Fus.example%2F%3Ftoken%3DSECRET'"},
        {"request": '{"webhookURL":"https://us.example/?token=SECRET","apiKey":"SECRET"}'},
        {"request": json.dumps(json.dumps({"apiKey": "SECRET"}))},
        {"https://us.example/?token=SECRET": 1},
        {"message": "TOKEN=SECRET"},
    ],
)
def test_no_secret_is_kept_with_an_item(item: Any) -> None:
    """The webhook's address opens the door to forgeries; it is added on the wire only."""
    assert "SECRET" not in json.dumps(bounded(item))


@pytest.mark.parametrize(
    "body",
    [
        b'<a href="https://us.example/?generation_id=1&token=SECRET">',
        b'{"foo": "https://us.example/?generation_id=1\\u0026token=SECRET"}',
        b'{"foo": {"apiKey": "SECRET"}}',
        b'{"foo": {"webhookURL": "https://us.example/?token=SECRET"}',
    ],
)
def test_no_secret_is_kept_with_what_is_invalid(body: bytes) -> None:
    """The same for bodies that could not be read."""
    assert "SECRET" not in the_invalid(body).raw


@pytest.mark.parametrize("character", ["x", "ü", "🦊", "\x00", "\\"])
def test_an_invalid_body_is_kept_up_to_a_limit_in_bytes(character: str) -> None:
    """As ASCII JSON a character takes up to twelve."""
    invalid = the_invalid(character.encode() * 100_000)

    assert 0 < len(json.dumps(invalid.raw)) <= RAW_BYTES


def test_ids_and_codes_are_cut() -> None:
    """They are used as names: a megabyte is none."""
    long = "x" * 100_000
    [result] = read_rows({"imageUUID": long, "taskUUID": long}).facts
    [failure] = read_rows({"errors": [{"code": long, "imageUUID": long}]}).facts

    assert isinstance(result, Result)
    assert isinstance(failure, Failure)
    assert [len(result.image_uuid), len(failure.image_uuid or ""), len(failure.code)] == [200, 200, 100]


# What callers may send


def issues_of(input: dict[str, Any], **more: Any) -> dict[str, str]:
    """What `check_create` finds wrong: message by field."""
    with pytest.raises(InvalidArgs) as refused:
        check_create(CreateArgs(input={"model": "runware:101@1", **input}, **more))
    return dict(refused.value.issues)


def test_a_request_says_how_many_results_it_asks_for() -> None:
    """One, when it does not say."""
    assert check_create(CreateArgs(input={"model": "m"})) == 1
    assert check_create(CreateArgs(input={"model": "m", "numberResults": None})) == 1
    assert check_create(CreateArgs(input={"model": "m", "numberResults": 4})) == 4


def test_what_we_do_not_know_passes_through() -> None:
    """New parameters appear weekly; Runware's answer speaks for them."""
    input = {"model": "m", "new": {"x": [1, None]}, "width": 16_383, "lora": [{"model": "a"}], "seed": 2**63}

    assert check_create(CreateArgs(input=input)) == 1


@pytest.mark.parametrize("field", sorted(RESERVED))
def test_a_field_that_is_ours_is_refused_by_name(field: str) -> None:
    """A caller's `webhookURL` would send the results elsewhere; even null is not theirs to say."""
    assert {f"input.{field}"} == issues_of({field: "x"}).keys()
    assert {f"input.{field}"} == issues_of({field: None}).keys()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", ""),
        ("model", 7),
        ("width", 0),
        ("width", "512"),
        ("width", 512.5),
        ("width", True),
        ("height", -1),
        ("height", 10**9),
        ("steps", 0),
        ("CFGScale", -1),
        ("CFGScale", float("nan")),
        ("CFGScale", "7"),
        ("seed", -1),
        ("seed", 2**64),
        ("numberResults", 0),
        ("numberResults", 101),
        ("numberResults", "4"),
        ("outputFormat", "GIF"),
        ("outputFormat", "png"),
        ("outputQuality", 0),
        ("strength", 1.5),
        ("checkNSFW", "yes"),
        ("ttl", 59),
        ("positivePrompt", 7),
    ],
)
def test_a_wrong_field_is_named_from_the_top(field: str, value: Any) -> None:
    """Only what is wrong for every model; and only it, with what it must be."""
    found = issues_of({field: value})

    assert f"input.{field}" in found
    assert found[f"input.{field}"]


def test_a_request_without_a_model_is_refused() -> None:
    """There is no default that would be right."""
    with pytest.raises(InvalidArgs, match=r"input\.model"):
        check_create(CreateArgs(input={}))


def test_every_wrong_field_is_named_at_once() -> None:
    """Nobody likes to be told one at a time."""
    found = issues_of({"width": 0, "taskUUID": "x", "seed": -1}, metadata={"": "x"})

    assert {"input.width", "input.taskUUID", "input.seed", "metadata."} == found.keys()


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), -float("inf"), object(), {"x": float("nan")}, [10**5_000], b"bytes"],
)
def test_what_is_not_json_is_refused(value: Any) -> None:
    """It could neither be sent nor kept."""
    assert "is not JSON" in issues_of({"new": value})["input"]


def test_half_a_surrogate_is_refused() -> None:
    """It is no character, and cannot be sent as UTF-8."""
    assert "surrogate" in issues_of({"positivePrompt": "\ud800"})["input"]
    assert "surrogate" in issues_of({}, metadata={"a": "\ud800"})["input"]


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 300, 900, 5_000, 100_000])
@pytest.mark.parametrize("disguise", ["", "]" * 1_000])
def test_an_input_nested_too_deeply_is_refused(depth: int, disguise: str) -> None:
    """It would be accepted here and refused by the state's encoder."""
    deep: list[Any] = []
    for _ in range(depth):
        deep = [deep]

    assert "nested" in issues_of({"text": disguise, "new": deep})["input"]


def test_labels_have_limits() -> None:
    """32 of them, 64 characters, 512 in the value: they become columns to filter by."""
    fits = {f"{number:064}": "x" * 512 for number in range(32)}
    assert check_create(CreateArgs(input={"model": "m"}, metadata=fits)) == 1

    assert {"metadata"} == issues_of({}, metadata={str(number): "x" for number in range(33)}).keys()
    assert {"metadata."} == issues_of({}, metadata={"": "x"}).keys()
    assert {"metadata.a"} == issues_of({}, metadata={"a": "x" * 513}).keys()
    assert {"metadata." + "k" * 40} == issues_of({}, metadata={"k" * 65: "x"}).keys()


_SECRET_WORDS = ("webhookURL", "uploadEndpoint", "https://x/?token=secret", "apiKey", "api_key", "\x00", "\ud800")
_WORDS = st.sampled_from((*_SECRET_WORDS, "data", "errors", "code", "message", "status", "\u00e9", "[" * 40, "a" * 90))
_VALUES = st.recursive(
    st.none() | st.integers() | st.sampled_from([1e15, 1e-7, 1.5]) | _WORDS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_WORDS, inner, max_size=5),
    max_leaves=20,
)
_ROWS = st.fixed_dictionaries(
    {"imageUUID": _WORDS, "more": _VALUES}, optional={"imageURL": _WORDS, "code": _WORDS, "taskUUID": _WORDS}
)


@given(_ROWS, st.booleans(), st.sampled_from(["utf-8", "utf-16-le", "utf-32"]), st.booleans())
def test_a_body_that_looks_harmless_is_read_like_any_other(
    value: Any, plain: bool, encoding: str, spelled: bool
) -> None:
    """Most bodies are spared the search for secrets and for what is too large: those in which there is none."""
    text = json.dumps(value, ensure_ascii=plain)
    if spelled:
        text = text.replace("token", "to\\u006ben").replace("webhookURL", "webhookUR\\u004c")
    body = text.encode(encoding, "surrogatepass")

    assert parse_delivery(body) == read_rows(loads(body))


def test_numbers_that_grow_when_written_out_do_not_make_an_item_too_large() -> None:
    """`1e15` takes four characters on the wire and eighteen where we keep it."""
    row = {"imageUUID": "a", "imageURL": "https://im.runware.ai/a.jpg", "numbers": []}
    for count in (10, 300, 325, 330, 500, 2_000):
        body = json.dumps(row).replace("[]", "[" + ",".join(["1e15"] * count) + "]").encode()
        (fact,) = parse_delivery(body).facts

        assert isinstance(fact, Result)
        assert len(json.dumps(fact.item)) <= RAW_BYTES
