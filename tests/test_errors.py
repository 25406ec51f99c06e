"""Failures as data: what tells them apart, how much of other people's text they keep, which are worth another try."""

from collections.abc import Callable
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from runware_provider import errors
from runware_provider.errors import (
    GenerationError,
    OutputError,
    RunwareProviderError,
    RunwareRefused,
    api_rejected,
    content_rejected,
    excerpt,
    fetch_failed,
    http_error,
    network_error,
    projection_failed,
    storage_failed,
    timeout,
    validation,
    webhook_error,
    worth_trying,
)

LONG = "é" * 100_000
OF_A_GENERATION: list[GenerationError] = [
    http_error("https://api.runware.ai/v1", 418, "<html>"),
    network_error("connection refused", attempts=0),
    api_rejected(400, [{"code": "invalidModel", "min": 1}]),
    timeout(1, 4),
    projection_failed("no such column: prompt"),
]
OF_AN_OUTPUT: list[OutputError] = [
    validation(["body: not JSON"], "<html>"),
    webhook_error([{"code": "nsfw"}]),
    fetch_failed("https://im.runware.ai/a.jpg", None, "connection reset"),
    content_rejected("too_large", "larger than allowed"),
    storage_failed("generations/a", "no space left"),
]


@pytest.mark.parametrize("error", OF_A_GENERATION, ids=lambda error: error.code)
def test_a_generations_error_is_told_by_its_code(error: GenerationError) -> None:
    """What is kept as text must come back as the same error."""
    union: TypeAdapter[GenerationError] = TypeAdapter(GenerationError)

    assert error == union.validate_json(union.dump_json(error, exclude_defaults=True))


@pytest.mark.parametrize("error", OF_AN_OUTPUT, ids=lambda error: error.code)
def test_an_outputs_error_is_told_by_its_code(error: OutputError) -> None:
    """The register leaves defaults out: the code may not be one."""
    union: TypeAdapter[OutputError] = TypeAdapter(OutputError)

    assert error == union.validate_json(union.dump_json(error, exclude_defaults=True))


def test_the_two_levels_share_no_code() -> None:
    """A client that sees a code knows what it is about."""
    levels = [[get_args(member.model_fields["code"].annotation)[0] for member in _members(union)] for union in _UNIONS]

    assert levels == [
        ["http_error", "network_error", "api_rejected", "timeout", "projection_failed"],
        ["validation", "webhook_error", "fetch_failed", "content_rejected", "storage_failed"],
    ]


_UNIONS: tuple[Any, ...] = (GenerationError, OutputError)


def _members(union: Any) -> tuple[Any, ...]:
    return get_args(get_args(union)[0])


@pytest.mark.parametrize(
    "made",
    [
        lambda: http_error(LONG[:100], 500, LONG),
        lambda: network_error(LONG),
        lambda: projection_failed(LONG),
        lambda: validation([LONG] * 100, LONG),
        lambda: fetch_failed(LONG, 503, LONG, LONG),
        lambda: content_rejected("too_large", LONG),
        lambda: storage_failed("key", LONG),
        lambda: webhook_error([{"code": "x"}] * 10_000),
        lambda: api_rejected(400, [{"code": "x"}] * 10_000),
    ],
)
def test_no_error_keeps_more_than_an_excerpt(made: Callable[[], GenerationError | OutputError]) -> None:
    """A megabyte of HTML in an error page must not end in every copy of the state."""
    assert len(made().model_dump_json()) < 32_768


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("half a \ud800 pair", "half a \ufffd pair"),
        ("a \x00 byte", "a \ufffd byte"),
        ("a fox 🦊 is a character", "a fox 🦊 is a character"),
    ],
)
def test_an_excerpt_can_be_kept_by_every_database(text: str, expected: str) -> None:
    """UTF-8 has no lone surrogates, PostgreSQL no NUL; the rest of the text is untouched."""
    assert expected == excerpt(text)


def test_a_cut_through_a_token_does_not_save_it() -> None:
    """Redaction comes before the cut: half a token is half a secret."""
    text = "x" * 90 + "?token=SECRET"

    assert "SEC" not in excerpt(text, 102)


@pytest.mark.parametrize(
    "text",
    [
        "https://us.example/webhooks/runware?generation_id=1&token=SECRET",
        "https://us.example/webhooks/runware?token=SECRET&generation_id=1",
        r"https:\/\/us.example\/?generation_id=1\u0026token=SECRET",
        "next=https%3A%2F%2Fus.example%2F%3Fgeneration_id%3D1%26token%3DSECRET%26more",
        '{"apiKey": "SECRET"}',
        '{"taskType":"authentication","apiKey":"SECRET"}',
        "?API_KEY=SECRET",
        "token=SECRET and token=SECRET",
    ],
)
def test_no_token_survives_in_an_error(text: str) -> None:
    """Runware may echo our webhook's address, quoted in whatever way its encoder likes."""
    error = http_error("https://api.runware.ai/v1", 400, text)

    assert "SECRET" not in error.body


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (fetch_failed("u", None, "reset"), "long"),
        (fetch_failed("u", 408, "timeout"), "long"),
        (fetch_failed("u", 425, "early"), "long"),
        (fetch_failed("u", 429, "busy"), "long"),
        (fetch_failed("u", 500, "error"), "long"),
        (fetch_failed("u", 503, "down"), "long"),
        (fetch_failed("u", 403, "expired"), "briefly"),
        (fetch_failed("u", 404, "not there"), "briefly"),
        (fetch_failed("u", 302, "moved"), "briefly"),
        (storage_failed("key", "no space"), "long"),
        (content_rejected("truncated", "cut"), "briefly"),
        (content_rejected("not_an_image", "HTML"), "briefly"),
        (content_rejected("too_large", "65 MiB"), "no"),
        (content_rejected("host_not_allowed", "evil.example"), "no"),
        (content_rejected("no_image", "no address"), "no"),
        (validation(["body"], "raw"), "no"),
        (webhook_error([{}]), "no"),
    ],
)
def test_what_is_not_about_the_image_is_tried_for_long(error: OutputError, expected: str) -> None:
    """An overloaded CDN or a full disk passes; an image over the limit stays over the limit."""
    assert expected == worth_trying(error)


def test_errors_are_frozen_and_know_their_fields() -> None:
    """They are values: shared between versions of the state, and never guessed at."""
    error = timeout(1, 4)

    with pytest.raises(ValidationError):
        error.received = 2  # type: ignore[misc]  # that is the point
    with pytest.raises(ValidationError):
        TypeAdapter(GenerationError).validate_python({"code": "timeout", "received": 1, "expected": 4, "more": 1})


def test_every_exception_of_ours_has_one_base() -> None:
    """A caller catches one class to catch them all."""
    ours = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]

    assert len(ours) > 10
    assert [each for each in ours if not issubclass(each, RunwareProviderError)] == []


def test_runwares_refusal_speaks_in_runwares_words() -> None:
    """Its first message, or the status when it said nothing."""
    assert str(RunwareRefused(400, [{"message": "model is unknown"}])) == "model is unknown"
    assert str(RunwareRefused(402, [])) == "HTTP 402"
