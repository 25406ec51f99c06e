"""The client of Runware's API: what each answer proves about a dispatch, and what questions teach."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest

from runware_provider.errors import RunwareRefused, RunwareUnavailable
from runware_provider.runware import ANSWER_BYTES, ASK_BATCH, RunwareClient, inference_task, retry_after
from runware_provider.types import Accepted, Ask, DispatchOutcome, Failure, Refused, Result, Unknown
from tests.service import (
    KEY,
    JsonObject,
    RawRunware,
    Reply,
    Request,
    a_simulator,
    acknowledges,
    an_input,
    eventually,
    hangs_up,
    says,
    says_nothing,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TASK = UUID("b9a1c5d2-0000-4000-8000-000000000001")
OTHER_TASK = UUID("b9a1c5d2-0000-4000-8000-000000000002")
IMAGE = "5b9e0d3c-0000-4000-8000-00000000000a"
URL = f"https://im.runware.ai/image/ws/2/ii/{IMAGE}.jpg"
ERROR = {"code": "invalidWidth", "message": "'width' is too large.", "parameter": "width", "max": 2048}
ROW = {"taskType": "imageInference", "taskUUID": str(TASK)}
ITEM = {**ROW, "imageUUID": IMAGE, "imageURL": URL, "seed": 1, "cost": 0.0019}


@asynccontextmanager
async def a_client(url: str, key: str = KEY) -> AsyncIterator[RunwareClient]:
    """A client of the API at `url`, for which it is always `NOW`."""
    client = RunwareClient(url, key, lambda: NOW)
    try:
        yield client
    finally:
        await client.close()


async def dispatched(url: str, task_uuid: UUID = TASK, attempt: int = 1) -> DispatchOutcome:
    """The outcome of one dispatch to `url`."""
    async with a_client(url) as client:
        return await client.dispatch(inference_task(an_input(), task_uuid, None), attempt)


async def outcome_of(*replies: Reply) -> DispatchOutcome:
    """The outcome of a dispatch that is answered so."""
    async with RawRunware(*replies) as raw:
        return await dispatched(raw.url)


def a_free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


# Refused: Runware does not have the task


async def test_a_refused_connection_is_a_refusal() -> None:
    """No byte left this machine, so nothing can have been accepted: it is sent again."""
    outcome = await dispatched(f"http://127.0.0.1:{a_free_port()}/v1", attempt=3)

    assert isinstance(outcome, Refused)
    assert outcome.retryable
    assert outcome.error.code == "network_error"
    assert outcome.error.attempts == 3


async def test_a_name_that_does_not_resolve_is_a_refusal() -> None:
    """There was nobody to connect to."""
    outcome = await dispatched("http://no-such-host.invalid/v1")

    assert isinstance(outcome, Refused)
    assert outcome.retryable
    assert outcome.error.code == "network_error"


async def test_a_certificate_that_is_not_trusted_is_a_refusal() -> None:
    """Whoever it is that answers there gets neither the request nor the key."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(Path(__file__).parent / "artifacts" / "loopback.pem")
    async with RawRunware(acknowledges, tls=tls) as raw:
        outcome = await dispatched(raw.url)

    assert isinstance(outcome, Refused)
    assert outcome.error.code == "network_error"
    assert outcome.error.reason == "its certificate is not trusted"
    assert raw.asked == []


async def test_a_connection_that_is_never_accepted_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener whose queue is full answers nothing: the connection is not made, and times out."""
    monkeypatch.setattr("runware_provider.runware._TIMEOUT", aiohttp.ClientTimeout(total=5, connect=0.2))
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = []
        for _ in range(4):
            each = socket.socket()
            each.setblocking(False)
            each.connect_ex(full.getsockname())
            waiting.append(each)
        outcome = await dispatched(f"http://127.0.0.1:{full.getsockname()[1]}/v1")
        for each in waiting:
            each.close()

    assert isinstance(outcome, Refused)
    assert outcome.retryable
    assert outcome.error.code == "network_error"


@pytest.mark.parametrize("status", ["400 Bad Request", "401 Unauthorized", "402 Payment Required", "403 Forbidden"])
async def test_runwares_own_refusal_is_final_and_keeps_its_words(status: str) -> None:
    """A wrong field, a wrong key or an empty balance would be the same again; `min` and `max` help the caller."""
    outcome = await outcome_of(says({"errors": [{**ERROR, "taskUUID": str(TASK)}]}, status))

    assert isinstance(outcome, Refused)
    assert not outcome.retryable
    assert outcome.error.code == "api_rejected"
    assert outcome.error.status == int(status[:3])
    assert outcome.error.errors == [{**ERROR, "taskUUID": str(TASK)}]


async def test_errors_beside_an_empty_data_are_a_refusal() -> None:
    """Runware sometimes sends both keys."""
    outcome = await outcome_of(says({"data": [], "errors": [ERROR]}, "400 Bad Request"))

    assert isinstance(outcome, Refused)
    assert outcome.error.code == "api_rejected"


async def test_errors_under_status_200_are_a_refusal_too() -> None:
    """Runware's errors are per task, whatever the status of the whole."""
    outcome = await outcome_of(says({"errors": [{**ERROR, "taskUUID": str(TASK)}]}))

    assert isinstance(outcome, Refused)
    assert not outcome.retryable


async def test_a_refusal_without_error_objects_keeps_what_was_said() -> None:
    """A proxy's page, for instance: URL, status and an excerpt tell the operator where to look."""
    async with RawRunware(says(b"<h1>Not here</h1>", "404 Not Found")) as raw:
        outcome = await dispatched(raw.url)

    assert isinstance(outcome, Refused)
    assert not outcome.retryable
    assert outcome.error.code == "http_error"
    assert (outcome.error.url, outcome.error.status, outcome.error.body) == (raw.url, 404, "<h1>Not here</h1>")


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ("7", timedelta(seconds=7)),
        ("Fri, 02 Jan 2026 03:05:05 GMT", timedelta(seconds=60)),
        ("Fri, 02 Jan 2026 03:00:00 GMT", timedelta(0)),
        ("soon", None),
        ("-5", None),
        ("99999999999999999999", timedelta(days=1)),
    ],
)
async def test_a_429_is_sent_again_when_it_asks_to(wish: str, expected: timedelta | None) -> None:
    """`Retry-After` comes in seconds or as a date; nonsense is no wish, and none is longer than a day."""
    outcome = await outcome_of(says({"errors": [ERROR]}, "429 Too Many Requests", Retry_After=wish))

    assert isinstance(outcome, Refused)
    assert outcome.retryable
    assert expected == outcome.retry_after


async def test_a_503_of_runwares_own_is_sent_again() -> None:
    """With error objects it is Runware that says that it has no capacity, so it did not take the task."""
    outcome = await outcome_of(says({"errors": [ERROR]}, "503 Service Unavailable", Retry_After="2"))

    assert isinstance(outcome, Refused)
    assert outcome.retryable
    assert outcome.retry_after == timedelta(seconds=2)


async def test_a_redirect_is_not_followed() -> None:
    """The request carries the key and costs money: it goes where the operator said, and nowhere else."""
    async with RawRunware(acknowledges) as elsewhere:
        outcome = await outcome_of(says(b"", "307 Temporary Redirect", Location=elsewhere.url))

    assert isinstance(outcome, Refused)
    assert elsewhere.asked == []


# Accepted: Runware has the task


async def test_an_acknowledgement_is_acceptance() -> None:
    """It names the task."""
    outcome = await outcome_of(acknowledges)

    assert outcome == Accepted()


async def test_an_acknowledgement_in_capitals_is_acceptance() -> None:
    """A UUID is the same in either case."""
    outcome = await outcome_of(says({"data": [{**ROW, "taskUUID": str(TASK).upper()}]}))

    assert outcome == Accepted()


async def test_an_acknowledgement_that_is_not_wrapped_is_acceptance() -> None:
    """Webhooks come flat as well as wrapped; an answer that names the task is one in either shape."""
    outcome = await outcome_of(says(ROW))

    assert outcome == Accepted()


async def test_results_in_the_answer_are_kept() -> None:
    """A fast or a synchronous Runware answers with the images themselves; they are paid for."""
    outcome = await outcome_of(says({"data": [ITEM]}))

    assert isinstance(outcome, Accepted)
    assert [fact.image_uuid for fact in outcome.delivery.facts if isinstance(fact, Result)] == [IMAGE]


async def test_an_answer_with_a_row_of_the_task_is_acceptance_also_with_errors_beside_it() -> None:
    """One image of several may be refused; the others are being made and paid for."""
    outcome = await outcome_of(says({"data": [ITEM], "errors": [{**ERROR, "taskUUID": str(TASK)}]}))

    assert isinstance(outcome, Accepted)
    assert [fact.image_uuid for fact in outcome.delivery.facts if isinstance(fact, Result)] == [IMAGE]


@pytest.mark.parametrize("code", ["conflictTaskUUID", "conflicttaskuuid"])
async def test_a_conflict_is_acceptance(code: str) -> None:
    """The task that runs under this id is ours: an earlier attempt had arrived."""
    outcome = await outcome_of(says({"errors": [{"code": code, "message": "running"}]}, "400 Bad Request"))

    assert outcome == Accepted()


# Unknown: bytes left, and nothing says what became of them


@pytest.mark.parametrize("status", ["500 Internal Server Error", "502 Bad Gateway", "504 Gateway Timeout"])
@pytest.mark.parametrize("body", [{"errors": [ERROR]}, b"<h1>Oh no</h1>", b""])
async def test_a_server_error_proves_nothing(status: str, body: Any) -> None:
    """Whatever its body says, the task may have been taken before it."""
    assert isinstance(await outcome_of(says(body, status)), Unknown)


@pytest.mark.parametrize(
    "body", [b"<h1>Service Unavailable</h1>", b"", {"error": "upstream connect error"}, {"errors": []}]
)
async def test_a_503_without_runwares_errors_proves_nothing(body: Any) -> None:
    """It is a proxy's, and what stands behind the proxy may have the task."""
    assert isinstance(await outcome_of(says(body, "503 Service Unavailable")), Unknown)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"garbage",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"7" * 100,
        b"[" * 50_000,
        b'{"data":[]}',
        b'{"data":null}',
        b'{"data":[null,7,"x",[]]}',
        json.dumps({"data": [{**ROW, "taskUUID": str(OTHER_TASK)}]}).encode(),
    ],
    ids=lambda body: body[:12],
)
async def test_a_200_that_does_not_name_the_task_proves_nothing(body: bytes) -> None:
    """It was not understood, so nothing is concluded from it."""
    assert isinstance(await outcome_of(says(body)), Unknown)


async def test_a_connection_that_breaks_after_the_request_was_read_proves_nothing() -> None:
    """Sent again at once, it could be paid twice. And it is not: a POST is not repeated behind our back."""
    async with RawRunware(hangs_up) as raw:
        outcome = await dispatched(raw.url)

    assert isinstance(outcome, Unknown)
    assert len(raw.asked) == 1


async def test_a_connection_that_breaks_in_the_answer_proves_nothing() -> None:
    """Half of an acknowledgement is none."""

    async def half(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"data":[{"task')
        await writer.drain()
        writer.transport.close()

    assert isinstance(await outcome_of(half), Unknown)


async def test_no_answer_in_time_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request was read; what happened then nobody knows."""
    monkeypatch.setattr("runware_provider.runware._TIMEOUT", aiohttp.ClientTimeout(total=0.2))

    outcome = await outcome_of(says_nothing)

    assert outcome == Unknown("no answer in time")


async def test_an_answer_that_never_ends_is_cut_off() -> None:
    """Memory stays bounded; the task may have been taken."""

    async def endless(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        sent = 0
        while sent < 4 * ANSWER_BYTES:
            writer.write(b" " * 1024 * 1024)
            sent += 1024 * 1024
            await writer.drain()

    assert isinstance(await outcome_of(endless), Unknown)


async def test_what_is_not_http_proves_nothing() -> None:
    """Something answered, after it had read the task."""

    async def babble(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n")
        await writer.drain()
        writer.transport.close()

    assert isinstance(await outcome_of(babble), Unknown)


async def test_a_second_dispatch_on_a_connection_that_died_is_not_repeated_in_secret() -> None:
    """A kept connection may be closed by the other side just then: the outcome is unknown, and one request was sent."""

    async def answers_once(request: Request, writer: asyncio.StreamWriter) -> None:
        await acknowledges(request, writer)

    async with RawRunware(answers_once, hangs_up) as raw, a_client(raw.url) as client:
        first = await client.dispatch(inference_task(an_input(), TASK, None), 1)
        second = await client.dispatch(inference_task(an_input(), OTHER_TASK, None), 1)

    assert isinstance(first, Accepted)
    assert isinstance(second, Unknown)
    assert len(raw.asked) == 2


async def test_a_cancelled_dispatch_is_cancelled() -> None:
    """Cancellation is the only thing that comes out of `dispatch` as an exception."""
    async with RawRunware(says_nothing) as raw, a_client(raw.url) as client:
        sending = asyncio.create_task(client.dispatch(inference_task(an_input(), TASK, None), 1))
        await eventually(lambda: len(raw.asked) == 1)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending


# The same, said by the simulator


@pytest.mark.parametrize(
    ("fault", "expected", "billed"),
    [
        ({"do": "status", "status": 503}, Refused, 0),
        ({"do": "status", "status": 429, "retry_after": 3}, Refused, 0),
        ({"do": "status", "status": 500, "accept": True}, Unknown, 1),
        ({"do": "status", "status": 504, "accept": False}, Unknown, 0),
        ({"do": "status", "status": 503, "body": "html", "accept": True}, Unknown, 1),
        ({"do": "break", "accept": True}, Unknown, 1),
        ({"do": "break", "accept": True, "sent_bytes": 90}, Unknown, 1),
        ({"do": "break", "accept": False}, Unknown, 0),
        ({"do": "slow", "seconds": 0.01}, Accepted, 1),
    ],
)
async def test_only_what_was_not_billed_is_called_refused(fault: JsonObject, expected: type, billed: int) -> None:
    """The other way round money would be spent twice."""
    async with a_simulator({"on": "dispatch", **fault}) as simulator:
        outcome = await dispatched(simulator.url)
        entry = simulator.ledger.entry(str(TASK))

    assert isinstance(outcome, expected)
    assert billed == (entry.billed if entry else 0)


async def test_a_running_task_sent_again_is_accepted_and_billed_once() -> None:
    """`conflictTaskUUID` is how Runware says so."""
    async with a_simulator({"on": "task", "do": "stuck"}) as simulator:
        outcomes = [await dispatched(simulator.url) for _ in range(2)]
        entry = simulator.ledger.entry(str(TASK))

    assert [Accepted(), Accepted()] == outcomes
    assert entry is not None
    assert (entry.billed, entry.conflicts) == (1, 1)


async def test_a_wrong_key_is_refused_for_good() -> None:
    """The operator must change it; asking again would not help."""
    async with a_simulator() as simulator, a_client(simulator.url, "wrong-key") as client:
        outcome = await client.dispatch(inference_task(an_input(), TASK, None), 1)

    assert isinstance(outcome, Refused)
    assert not outcome.retryable
    assert outcome.error.code == "api_rejected"
    assert outcome.error.status == 401


# The task and the key


def test_a_task_holds_what_the_caller_set_and_what_is_ours() -> None:
    """Some models refuse fields that were not asked for, so nothing is filled in."""
    task = inference_task({"positivePrompt": "p", "model": "m", "aNewField": [1, {"x": None}]}, TASK, None)

    assert task == {
        "taskType": "imageInference",
        "taskUUID": str(TASK),
        "positivePrompt": "p",
        "model": "m",
        "aNewField": [1, {"x": None}],
        "outputType": "URL",
        "includeCost": True,
        "deliveryMethod": "async",
    }


def test_a_task_carries_the_webhooks_address_when_there_is_one() -> None:
    """Without one Runware is asked instead."""
    assert inference_task({}, TASK, "https://x/hook")["webhookURL"] == "https://x/hook"
    assert "webhookURL" not in inference_task({}, TASK, None)


async def test_the_key_is_in_the_header_and_nowhere_else() -> None:
    """Bodies end in logs and error reports. Each kind of call is looked at."""
    async with RawRunware(says({"data": [{**ROW, "results": []}]})) as raw, a_client(raw.url) as client:
        await client.dispatch(inference_task(an_input(), TASK, None), 1)
        await client.ask([Ask(TASK, details=True)])
        await client.call([{"taskType": "modelSearch", "taskUUID": str(uuid4())}])

    assert len(raw.asked) == 4
    for request in raw.asked:
        head = request.head.splitlines()
        assert head[0] == "POST /v1 HTTP/1.1"
        assert [f"Authorization: Bearer {KEY}"] == [line for line in head if KEY in line]
        assert KEY.encode() not in request.body
        assert "authentication" not in {task["taskType"] for task in request.tasks}


@pytest.mark.parametrize("reply", [says({"errors": [ERROR]}, "401 Unauthorized"), hangs_up, says(b"", "500 X")])
async def test_no_outcome_shows_the_key(reply: Reply) -> None:
    """Outcomes are kept in the state and shown to clients."""
    assert KEY not in repr(await outcome_of(reply))


# Questions


async def answers_to(*replies: Reply, details: bool = False) -> Any:
    """The answer about `TASK`, None when there was none."""
    async with RawRunware(*replies) as raw, a_client(raw.url) as client:
        return (await client.ask([Ask(TASK, details)])).get(TASK)


async def test_an_answer_is_dated_before_the_question_left() -> None:
    """What happens while it is asked must count as after it."""
    answer = await answers_to(says({"data": []}))

    assert answer.asked_at == NOW


async def test_a_finished_row_is_a_result() -> None:
    """The same item as a webhook's, with `status: success`."""
    answer = await answers_to(says({"data": [{**ITEM, "status": "success"}]}))

    assert [fact.image_uuid for fact in answer.response.facts] == [IMAGE]
    assert not answer.response.processing


async def test_results_and_processing_may_stand_side_by_side() -> None:
    """Finished rows come while others are being made."""
    answer = await answers_to(says({"data": [{**ITEM, "status": "success"}, {**ROW, "status": "processing"}]}))

    assert len(answer.response.facts) == 1
    assert answer.response.processing


@pytest.mark.parametrize(
    "body",
    [
        {"errors": [{**ROW, "status": "error", "code": "inferenceError", "message": "m"}]},
        {"errors": [{**ROW, "code": "inferenceError", "message": "m"}]},
        {"data": [], "errors": [{**ROW, "code": "inferenceError", "message": "m"}]},
        {"data": [{**ROW, "status": "error", "error": {"code": "inferenceError", "message": "m"}}]},
    ],
)
async def test_an_error_row_is_a_failure_in_every_shape(body: JsonObject) -> None:
    """In `errors` with or without a status, or in `data` with an `error` object."""
    answer = await answers_to(says(body))

    assert [fact.code for fact in answer.response.facts if isinstance(fact, Failure)] == ["inferenceError"]


async def test_error_rows_under_an_error_status_still_count() -> None:
    """Runware gives the body the status of its first error."""
    answer = await answers_to(says({"errors": [{**ROW, "code": "inferenceError"}]}, "400 Bad Request"))

    assert [fact.code for fact in answer.response.facts if isinstance(fact, Failure)] == ["inferenceError"]


@pytest.mark.parametrize("task_type", ["getResponse", "getTaskDetails"])
async def test_an_error_of_the_question_is_no_failure_of_the_task(task_type: str) -> None:
    """A question that went wrong says nothing about what was asked about."""
    error = {"taskType": task_type, "taskUUID": str(TASK), "code": "invalidThing", "message": "m"}

    answer = await answers_to(says({"errors": [error]}))

    assert answer.response.facts == ()


@pytest.mark.parametrize("code", ["notFound", "taskNotFound", "unknownTask", "noSuchTask"])
async def test_an_answer_that_knows_nothing_is_no_failure(code: str) -> None:
    """A task that has not arrived may still be sent; one that was forgotten may have been delivered."""
    answer = await answers_to(says({"errors": [{**ROW, "code": code, "message": "m"}]}, "404 Not Found"))

    assert answer.response.facts == ()
    assert not answer.response.processing


async def test_rows_of_others_are_not_taken_for_ours() -> None:
    """Each row says whose it is."""
    answer = await answers_to(says({"data": [{**ITEM, "taskUUID": str(OTHER_TASK), "status": "success"}]}))

    assert answer.response.facts == ()


async def test_an_empty_answer_is_an_answer() -> None:
    """Knowing nothing is what settles an unknown dispatch, and what a verdict needs."""
    answer = await answers_to(says({"data": []}))

    assert answer is not None
    assert answer.details is None


async def test_details_of_a_finished_task_are_its_results() -> None:
    """`getTaskDetails` keeps the request and the last response."""
    row = {"taskType": "getTaskDetails", "taskUUID": str(TASK), "request": [ROW], "response": {"data": [ITEM]}}

    answer = await answers_to(says({"data": []}), says({"data": [row]}), details=True)

    assert [fact.image_uuid for fact in answer.details.facts] == [IMAGE]


@pytest.mark.parametrize("response", [[ITEM], ITEM, {"data": ITEM}, [{"data": [ITEM]}]])
async def test_details_are_read_in_every_shape(response: Any) -> None:
    """The documentation shows an array and the SDK an object."""
    row = {"taskType": "getTaskDetails", "taskUUID": str(TASK), "request": [ROW], "response": response}

    answer = await answers_to(says({"data": []}), says({"data": [row]}), details=True)

    assert [fact.image_uuid for fact in answer.details.facts] == [IMAGE]


@pytest.mark.parametrize(
    "response",
    [{"errors": [{**ROW, "code": "inferenceError"}]}, {"data": [], "errors": [{**ROW, "code": "inferenceError"}]}],
)
async def test_details_of_a_failed_task_are_its_failure(response: Any) -> None:
    """It is over, and this is why."""
    row = {"taskType": "getTaskDetails", "taskUUID": str(TASK), "request": [ROW], "response": response}

    answer = await answers_to(says({"data": []}), says({"data": [row]}), details=True)

    assert [fact.code for fact in answer.details.facts if isinstance(fact, Failure)] == ["inferenceError"]


async def test_details_with_a_request_and_no_response_say_that_runware_has_the_task() -> None:
    """It must not be sent again."""
    row = {"taskType": "getTaskDetails", "taskUUID": str(TASK), "request": [ROW], "response": None}

    answer = await answers_to(says({"data": []}), says({"data": [row]}), details=True)

    assert answer.details.processing


@pytest.mark.parametrize("error", [{"code": "notFound", "taskUUID": str(TASK)}, {"code": "notFound"}])
async def test_details_that_are_not_found_are_an_answer(error: JsonObject) -> None:
    """Runware does not know the task: that is what lets it be sent again. One question, so the error is about it."""
    answer = await answers_to(says({"data": []}), says({"errors": [error]}, "404 Not Found"), details=True)

    assert answer.details is not None
    assert not answer.details.processing
    assert answer.details.facts == ()


async def test_fifty_ids_are_asked_about_in_one_body() -> None:
    """Restarting with a thousand open generations costs twenty requests."""
    ids = [uuid4() for _ in range(ASK_BATCH)]
    async with RawRunware(says({"data": []})) as raw, a_client(raw.url) as client:
        answers = await client.ask([Ask(each, details=False) for each in ids])

    assert [len(request.tasks) for request in raw.asked] == [50]
    assert [task["taskUUID"] for task in raw.asked[0].tasks] == [str(each) for each in ids]
    assert set(answers) == set(ids)


async def test_details_are_asked_only_of_those_that_want_them() -> None:
    """The rest is a second request for nothing."""
    async with RawRunware(says({"data": []})) as raw, a_client(raw.url) as client:
        answers = await client.ask([Ask(TASK, details=True), Ask(OTHER_TASK, details=False)])

    assert [[task["taskType"] for task in request.tasks] for request in raw.asked] == [
        ["getResponse", "getResponse"],
        ["getTaskDetails"],
    ]
    assert answers[TASK].details is not None
    assert answers[OTHER_TASK].details is None


async def test_one_failure_among_many_answers_harms_nobody_else() -> None:
    """Each row stands for itself."""
    body = {
        "data": [{**ITEM, "status": "success"}],
        "errors": [{"taskUUID": str(OTHER_TASK), "code": "inferenceError"}],
    }
    async with RawRunware(says(body)) as raw, a_client(raw.url) as client:
        answers = await client.ask([Ask(TASK, details=False), Ask(OTHER_TASK, details=False)])

    assert [type(fact) for fact in answers[TASK].response.facts] == [Result]
    assert [type(fact) for fact in answers[OTHER_TASK].response.facts] == [Failure]


async def test_a_body_that_failed_as_a_whole_answers_nobody() -> None:
    """An error that names no task must not look like 'Runware knows nothing of it'."""
    refusal = says({"errors": [{"code": "tooManyTasks", "message": "m"}]}, "400 Bad Request")
    async with RawRunware(refusal) as raw, a_client(raw.url) as client:
        answers = await client.ask([Ask(TASK, details=False), Ask(OTHER_TASK, details=False)])

    assert answers == {}


@pytest.mark.parametrize(
    "reply",
    [
        says({"errors": [ERROR]}, "429 Too Many Requests"),
        says(b"", "500 Internal Server Error"),
        says({"errors": [ERROR]}, "503 Service Unavailable"),
        says(b"<h1>Bad Gateway</h1>", "502 Bad Gateway"),
        hangs_up,
    ],
)
async def test_a_question_that_nobody_answers_is_asked_again(reply: Reply) -> None:
    """Never taken for an answer: a verdict needs one."""
    with pytest.raises(RunwareUnavailable):
        await answers_to(reply)


@pytest.mark.parametrize("body", [b"garbage", b"", b"\xff", b"null", b"<html></html>", b"[" * 50_000])
async def test_an_answer_that_cannot_be_read_is_no_answer(body: bytes) -> None:
    """Not 'nothing is known': a task may be sent again, or called timed out, only after a real one."""
    with pytest.raises(RunwareUnavailable):
        await answers_to(says(body))


@pytest.mark.parametrize("status", ["401 Unauthorized", "402 Payment Required", "403 Forbidden"])
async def test_a_question_that_is_refused_says_who_can_mend_it(status: str) -> None:
    """The operator's key or account."""
    with pytest.raises(RunwareRefused) as caught:
        await answers_to(says({"errors": [ERROR]}, status))

    assert caught.value.status == int(status[:3])
    assert caught.value.errors == [ERROR]


async def test_nobody_answers_where_nobody_listens() -> None:
    """The reason is in the message, the key is not."""
    async with a_client(f"http://127.0.0.1:{a_free_port()}/v1") as client:
        with pytest.raises(RunwareUnavailable) as caught:
            await client.ask([Ask(TASK, details=False)])

    assert KEY not in str(caught.value)


async def test_a_poisoned_row_teaches_what_it_can() -> None:
    """NaN, NUL and lone surrogates arrive in real answers; the result in them is paid for."""
    raw_item = json.dumps({**ITEM, "status": "success", "x": "X"}).replace('"X"', 'NaN,"y":"\\u0000","z":"\\ud800"')

    answer = await answers_to(says(b'{"data":[' + raw_item.encode() + b"]}"))

    assert [fact.image_uuid for fact in answer.response.facts] == [IMAGE]


def test_retry_after_without_a_zone_is_no_reason_to_fail() -> None:
    """`-0000` makes Python's parser give a time without zone."""
    assert retry_after({"Retry-After": "Fri, 02 Jan 2026 03:05:05 -0000"}, NOW) in {None, timedelta(seconds=60)}
