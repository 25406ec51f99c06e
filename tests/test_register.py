"""The text that a register is kept as."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runware_provider.errors import StateDamaged, StateTooNew, api_rejected, projection_failed, webhook_error
from runware_provider.generation import EXTRA_RESULTS, FORMER_URLS, Generation
from runware_provider.register import OutputRecord, decode, decode_request, encode, encode_request
from runware_provider.schemas import parse_delivery
from runware_provider.types import Failure, Refused, Request, Unknown
from tests.builders import (
    POLICY,
    TASK,
    a_delivery,
    a_failure,
    a_generation,
    a_new_generation,
    a_result,
    an_invalid,
    at,
    down,
    refused,
    state_of,
    stored,
)

GOLDEN = Path(__file__).parent / "golden" / "register_1.json"
IN_FULL = GOLDEN.with_name("register_1_in_full.json")
EXPECTING = 100
"""The most that a request may ask for."""

LARGEST_REGISTER_BYTES = 8 * 1024 * 1024
"""The documented maximum: 132 results with item, address, spare addresses and error at their limits."""


def a_full_life() -> Generation:
    """A generation to which nearly everything has happened; its text is kept in `golden/register_1.json`."""
    generation, _ = a_new_generation(expecting=4, price_micros=1_900)
    generation.record_dispatching(1, at())
    generation.record_dispatch(1, Refused(api_rejected(503, [{"code": "busy"}]), True, timedelta(seconds=2)), at(1))
    generation.alarm(at(5))
    generation.record_dispatching(2, at(5))
    generation.record_dispatch(2, Unknown("no answer in time"), at(35))
    generation.record_projection(1, at(35))
    generation.record_webhook(a_delivery("a", "b", a_result("c", url=None), a_failure("slow"), an_invalid("x")), at(40))
    generation.record_webhook(a_delivery(a_failure("nsfw", image="d")), at(41))
    generation.record_webhook(a_delivery(a_result("b", url="https://im.runware.ai/b2.jpg")), at(42))
    generation.confirm_outputs([stored("a"), down("b", status=404)], at(43))
    generation.confirm_outputs([down("b", url="https://im.runware.ai/b2.jpg")], at(200))
    generation.confirm_outputs([refused("c")], at(201))
    generation.set_error(projection_failed("no such column: prompt"), generation.version, at(202))
    return generation


def test_a_register_of_schema_1_reads_as_it_was_written() -> None:
    """A file of this release must open in every later one: this text is never written anew."""
    generation = Generation(decode(GOLDEN.read_bytes()), POLICY)

    state = state_of(generation)
    assert [(output.type, _code(output)) for output in state.outputs] == [
        ("success", None),
        ("error", "content_rejected"),
        ("error", "webhook_error"),
        ("error", "validation"),
        ("error", "webhook_error"),
    ]
    assert (state.version, state.status, state.dispatch) == (13, "running", "accepted")
    assert state.counts.model_dump() == {"expected": 4, "stored": 1, "failed": 2, "missing": 1}
    assert state.projection_error == projection_failed("no such column: prompt")
    assert at(40) == state.dispatched_at
    assert (generation.register.model, generation.register.price_micros) == ("runware:101@1", 1_900)


def test_a_register_of_schema_1_is_still_written_alike() -> None:
    """Whoever changes what is kept, raises the schema number and adds an upgrade."""
    assert json.loads(encode(decode(GOLDEN.read_bytes()))) == json.loads(GOLDEN.read_bytes())


def test_a_register_with_its_defaults_is_read_as_one_without() -> None:
    """Some releases wrote them."""
    assert decode(IN_FULL.read_bytes()) == decode(GOLDEN.read_bytes())


def test_an_error_of_runwares_is_kept_once_and_told_in_full() -> None:
    """It is the output's error and, to whoever reads the state, its `raw` as well. What failed sets no price."""
    generation = a_generation(expecting=2)
    said = {"code": "nsfw", "message": "no such thing", "cost": 9.0}
    generation.record_webhook(a_delivery(Failure(str(TASK), "a", "nsfw", said)), at())

    assert encode(generation.register).count("no such thing") == 1
    (output,) = state_of(generation).outputs
    assert output.type == "error"
    assert output.raw == said
    assert generation.costs_micros()[1] == 0


def _code(output: Any) -> str | None:
    return output.error.code if output.type == "error" else None


@pytest.mark.parametrize("schema", [2, 999, "2.0", None])
def test_a_newer_schema_is_refused_untouched(schema: object) -> None:
    """An older release must not write half of what it does not understand."""
    newer = {**json.loads(GOLDEN.read_bytes()), "schema": schema, "new": {"field": 1}}

    with pytest.raises(StateTooNew, match="newer release"):
        decode(json.dumps(newer))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\x00\x00",
        b"null",
        b"[]",
        b'{"schema":1}',
        b'{"schema":0}',
        b'{"schema":1,"id":"x"',
        b'{"schema":1,"id":"no uuid"}',
    ],
)
def test_a_damaged_register_is_said_to_be_so(text: bytes) -> None:
    """Never overwritten, never taken for an empty one."""
    with pytest.raises(StateDamaged):
        decode(text)


@pytest.mark.parametrize("text", [b"", b"null", b'{"input":1}'])
def test_a_damaged_request_is_said_to_be_so(text: bytes) -> None:
    """The same for the other column."""
    with pytest.raises(StateDamaged):
        decode_request(text)


def test_a_request_survives_its_text() -> None:
    """As the caller sent it: emoji, NUL, numbers beyond 64 bits and all."""
    request = Request({"model": "m", "positivePrompt": "🦊 \u0000", "seed": 10**100, "new": [{"x": 1.5}]}, {"a": "ü"})

    text = encode_request(request)

    assert text.isascii()
    assert request == decode_request(text)


def test_the_text_is_ascii() -> None:
    """Whatever was delivered: no database's encoding can refuse it."""
    generation = a_generation()
    generation.record_webhook(
        parse_delivery('{"imageUUID":"ü","imageURL":"https://x/🦊","p":"\\ud800"}'.encode()), at()
    )

    assert encode(generation.register).isascii()


def test_the_largest_register_stays_under_its_maximum() -> None:
    """A hostile or broken Runware cannot fill the disk through one generation, however often it delivers."""
    generation = a_generation(expecting=EXPECTING)
    for number in range(EXPECTING + EXTRA_RESULTS + 1):
        rows = [
            {
                "taskUUID": str(TASK),
                "imageUUID": f"{number}-{'u' * 300}",
                "imageURL": f"https://im.runware.ai/{number}/{again}/" + ("u", "🦊")[again % 2] * 2_000,
                "cost": 0.0019,
                "new": "x" * 8_000,
            }
            for again in range(FORMER_URLS + 3)
        ]
        generation.record_webhook(parse_delivery(json.dumps({"data": rows}).encode()), at())
    for number in range(40):
        loose = {"code": f"{number}-{'c' * 300}", "message": "🦊" * 10_000}
        generation.record_webhook(parse_delivery(json.dumps({"errors": [loose]}).encode()), at())
        generation.record_webhook(parse_delivery(f"{number} {'🦊' * 10_000}".encode()), at())

    text = encode(generation.register)

    assert len(text) < LARGEST_REGISTER_BYTES
    assert len(generation.register.outputs) == EXPECTING + EXTRA_RESULTS + 32
    assert len(generation.register.timeline) == 64
    assert decode(text) == generation.register


_ANY_TEXT = st.text(max_size=8)  # of lone surrogates `schemas` frees what comes, and refuses what is sent
_ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(_ANY_JSON)
def test_whatever_runware_sends_is_written_as_ascii_and_read_as_it_was(raw: Any) -> None:
    """Characters beyond ASCII and numbers of any length are for the slower of two encoders."""
    register = a_generation().register
    output_id = next(iter(register.outputs), UUID(int=1))
    error = webhook_error([{"it": raw}])
    register.outputs[output_id] = OutputRecord("error", at(), "image", item={"it": raw}, error=error)

    text = encode(register)

    assert text.isascii()
    assert decode(text) == register
    assert json.loads(text)["outputs"][str(output_id)]["item"] == {"it": raw}
    assert decode_request(encode_request(Request({"it": raw}, {}))) == Request({"it": raw}, {})
