"""Whatever is posted to the webhook is read without an exception, and whatever is read can be kept."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runware_provider.errors import InvalidArgs
from runware_provider.register import decode, decode_request, encode, encode_request
from runware_provider.schemas import RAW_BYTES, bounded, check_create, parse_delivery
from runware_provider.types import Accepted, Answer, CreateArgs, Delivery, Invalid, Request, Result
from tests.builders import TASK, a_generation, a_new_generation, at, state_of

HOSTILE = settings(max_examples=300, deadline=None, print_blob=True)

text = st.text(st.characters(codec=None, categories=None), max_size=12)
"""Any code points: lone surrogates, NUL, what no database likes."""

numbers = st.one_of(
    st.integers(),
    st.integers(10**99, 10**100),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([-0.0, 5e-324, 1.7976931348623157e308, 2**53 + 1, 2**63, 2**64]),
)
names = st.one_of(
    st.sampled_from(
        [
            "data",
            "errors",
            "error",
            "status",
            "code",
            "message",
            "taskUUID",
            "taskType",
            "imageUUID",
            "imageURL",
            "cost",
            "seed",
            "webhookURL",
            "apiKey",
        ]
    ),
    text,
)
words = st.sampled_from(["error", "success", "processing", str(TASK), str(TASK).upper(), "https://im.runware.ai/a.jpg"])
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, text, words),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=5)),
    max_leaves=20,
)
rows = st.dictionaries(names, json_values, max_size=8)
bodies = st.one_of(
    rows,
    st.lists(rows, max_size=4),
    st.fixed_dictionaries({}, optional={"data": st.lists(rows, max_size=4), "errors": st.lists(rows, max_size=3)}),
    json_values,
)
literals = st.sampled_from(
    [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"1e-999", b"9" * 100, b"9" * 10_000, b'"\\ud800"']
)


def kept(delivery: Delivery) -> None:
    """What was read survives its text, by webhook, by answer and beside an acknowledgement, and can be shown."""
    by_webhook, by_answer = a_generation(expecting=2), a_generation(expecting=2)
    acknowledged, _ = a_new_generation(expecting=2)
    by_webhook.record_webhook(delivery, at())
    by_answer.record_response(Answer(at(), delivery, delivery), at())
    acknowledged.record_dispatching(1, at())
    acknowledged.record_dispatch(1, Accepted(delivery), at())

    for generation in (by_webhook, by_answer, acknowledged):
        written = encode(generation.register)
        assert written.isascii()
        assert decode(written) == generation.register
        state_of(generation).model_dump_json().encode()


@HOSTILE
@given(st.binary(max_size=200))
@example(b"[" * 100_000)
@example(b'{"data":' * 50_000)
@example(b'{"imageUUID":"a","seed":' + b"9" * 10_000 + b"}")
@example(b"\xef\xbb\xbf{}")
@example("{}".encode("utf-16"))
def test_any_bytes_are_read_and_can_be_kept(body: bytes) -> None:
    """Bytes that are no JSON are an `Invalid`, never an exception: the answer is 200 whatever the body."""
    delivery = parse_delivery(body)

    kept(delivery)


@settings(HOSTILE, max_examples=150)
@given(bodies)
def test_any_json_is_read_and_can_be_kept(body: Any) -> None:
    """Shapes that nobody has seen yet, with the words that we look for in places where they do not belong."""
    delivery = parse_delivery(json.dumps(body).encode())

    kept(delivery)


@HOSTILE
@given(literals, st.sampled_from(["seed", "cost", "imageUUID", "imageURL", "taskUUID", "code", "status", "new"]))
def test_numbers_beyond_json_are_read_and_can_be_kept(literal: bytes, name: str) -> None:
    """`NaN` is no JSON, but Python reads it; ten thousand digits are JSON, but Python does not."""
    item = b'{"imageUUID":"a","imageURL":"https://im.runware.ai/a.jpg","%s":%s}' % (name.encode(), literal)

    kept(parse_delivery(item))


@settings(max_examples=60, deadline=None, print_blob=True)
@given(st.integers(1, 3_000), st.sampled_from(['{"x":', "["]), st.text(st.sampled_from('[]{}"\\'), max_size=400))
@example(100_000, "[", "")
@example(230, "[", "]" * 400)
@example(300, '{"x":', "}" * 400)
def test_nesting_of_any_depth_is_read_and_can_be_kept(depth: int, opening: str, disguise: str) -> None:
    """Every encoder and decoder has a limit of its own; ours is lower than all of theirs."""
    closing = "}" if opening == '{"x":' else "]"
    deep = opening * depth + "1" + closing * depth
    item = f'"imageUUID":"a","imageURL":"https://im.runware.ai/a.jpg","text":{json.dumps(disguise)},"deep":{deep}'

    delivery = parse_delivery(f"{{{item}}}".encode())

    [fact] = delivery.facts
    assert isinstance(fact, Result | Invalid)
    kept(delivery)


@HOSTILE
@given(json_values)
def test_what_is_kept_of_an_item_is_bounded_and_stays_the_same(value: Any) -> None:
    """Bounded once is bounded for good: the same item read twice is the same."""
    once = bounded(value)

    assert len(json.dumps(once)) <= RAW_BYTES
    assert once == bounded(once)


def issues_of(request: Request) -> tuple[tuple[str, str], ...]:
    """What is wrong with it for a caller; nothing when it is accepted."""
    try:
        check_create(CreateArgs(input=request.input, metadata=request.metadata))
    except InvalidArgs as refused:
        return refused.issues
    return ()


@HOSTILE
@given(st.dictionaries(text, json_values, max_size=6), st.dictionaries(text, text, max_size=4))
def test_what_a_caller_may_send_can_be_kept_and_sent(input: dict[str, Any], metadata: dict[str, str]) -> None:
    """Either it is refused with a field's name, or it survives its text and goes out as JSON."""
    request = Request({"model": "m", **input}, metadata)
    issues = issues_of(request)
    if issues:
        assert all(field and message for field, message in issues)
        return

    written = encode_request(request)

    assert written.isascii()
    assert decode_request(written) == request
    assert json.loads(json.dumps(request.input, ensure_ascii=False, allow_nan=False).encode()) == request.input


@pytest.mark.parametrize("depth", range(40, 260, 7))
def test_an_input_that_is_accepted_can_be_read_again_at_any_depth(depth: int) -> None:
    """An encoder that goes deeper than its decoder would make state that nobody can open."""
    deep: Any = 1
    for _ in range(depth):
        deep = {"x": deep}
    request = Request({"model": "m", "new": deep}, {})
    if issues_of(request):
        return

    assert decode_request(encode_request(request)) == request
