"""The short way of `POST /v1/generations` says what the long one says."""

import json
from pathlib import Path

import pytest

from tests.service import a_service, an_input

SHORT, LONG = "application/json", "application/json; charset=utf-8"

BODIES = {
    "not JSON": b"{",
    "nothing": b"",
    "not an object": b"[]",
    "no input": b'{"metadata": {}}',
    "one field too many": b'{"input": {}, "inptu": {}}',
    "a label that is a number": b'{"input": {}, "metadata": {"a": 1}}',
    "input without a model": b'{"input": {"positivePrompt": "a boat"}}',
    "half a character": b'{"input": {"positivePrompt": "\\ud83d", "model": "runware:101@1"}, "metadata": 1}',
    "not UTF-8": b'{"input": {"positivePrompt": "\xff"}}',
    "too deep": b'{"input": ' + b"[" * 2_000 + b"]" * 2_000 + b"}",
    "no number": b'{"input": {"positivePrompt": "a boat", "model": "runware:101@1", "width": NaN}}',
}


@pytest.mark.parametrize("name", BODIES)
async def test_what_is_wrong_is_said_in_the_same_words(tmp_path: Path, name: str) -> None:
    """A client cannot tell which way its request went."""
    async with a_service(tmp_path) as service:
        answers = [
            await service.post("/v1/generations", data=BODIES[name], headers={"Content-Type": content_type})
            for content_type in (SHORT, LONG)
        ]

    assert answers[0].status == answers[1].status >= 400
    assert answers[0].body == answers[1].body


async def test_a_key_means_the_same_on_both_ways(tmp_path: Path) -> None:
    """The same key and input give the same generation."""
    body = json.dumps({"input": an_input(), "metadata": {"order": "4711"}}).encode()
    async with a_service(tmp_path) as service:
        ids = []
        for content_type in (SHORT, LONG, SHORT):
            headers = {"Content-Type": content_type, "Idempotency-Key": "a", "Prefer": "wait=10"}
            answer = await service.post("/v1/generations", data=body, headers=headers)
            assert answer.status == 202
            assert json.loads(answer.body)["settled"]
            ids.append(answer.headers["location"])

    assert len(set(ids)) == 1


@pytest.mark.parametrize("header", ["Idempotency-Key", "Prefer"])
async def test_a_header_that_is_too_long_is_named(tmp_path: Path, header: str) -> None:
    """Whatever else is right."""
    body = json.dumps({"input": an_input()}).encode()
    async with a_service(tmp_path) as service:
        answer = await service.post("/v1/generations", data=body, headers={"Content-Type": SHORT, header: "a" * 256})

    assert answer.status == 422
    assert header.lower() in answer.body.decode().lower()
