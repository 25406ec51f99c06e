"""Client of Runware's HTTP API: send a task, ask what became of it, and tell apart what an answer proves."""

import asyncio
import json
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from io import BytesIO
from typing import Any
from uuid import UUID

import aiohttp

from runware_provider.errors import RunwareRefused, RunwareUnavailable, api_rejected, http_error, network_error
from runware_provider.logs import get_logger
from runware_provider.schemas import bounded, loads, read_rows
from runware_provider.types import (
    Accepted,
    Answer,
    Ask,
    Delivery,
    DispatchOutcome,
    Fact,
    Failure,
    Invalid,
    JsonObject,
    Refused,
    Unknown,
)

log = get_logger()

ASK_BATCH = 50
"""Ids in one `getResponse` body."""

REFUSALS = 3
"""Single questions that Runware refuses before a body of them is given up."""

ANSWER_BYTES = 8 * 1024 * 1024
"""The most that is read of one of Runware's answers."""

_TIMEOUT = aiohttp.ClientTimeout(total=60, connect=15, sock_connect=10, sock_read=45)
_QUESTIONS = frozenset({"getResponse", "getTaskDetails"})
_KNOWS_NOTHING = re.compile(r"not.?found|unknown.?task|no.?such", re.IGNORECASE)
_CONFLICT = "conflicttaskuuid"
_RETRYABLE = frozenset({408, 425, 429})


LARGE_BODY = 256 * 1024
"""Bytes."""

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


class RunwareClient:
    """One session to one API. `clock` dates the questions; `key` goes into a header and nowhere else."""

    def __init__(self, url: str, key: str, clock: Callable[[], datetime]) -> None:
        self.url = url
        self._clock = clock
        self._dated: tuple[datetime, str] | None = None
        # A connection that idles longer could be closed by the other side just as a task is written to it, and then
        # nobody knows whether the task has arrived.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=64, keepalive_timeout=4, ttl_dns_cache=60),
            headers={"Authorization": f"Bearer {key}", "Accept": "application/json"},
            timeout=_TIMEOUT,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    @property
    def clock_skew(self) -> timedelta | None:
        """How far our clock is ahead of Runware's, by its last answer; None before the first."""
        if self._dated is None:
            return None
        ours, theirs = self._dated
        try:
            return ours - parsedate_to_datetime(theirs)
        except (ValueError, TypeError):
            return None

    async def close(self) -> None:
        """Close the session."""
        await self._session.close()

    async def dispatch(self, task: JsonObject, attempt: int) -> DispatchOutcome:
        """Send one task. Never raises but for cancellation: every way this can go is an outcome."""
        try:
            status, headers, body = await self._post([task])
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return Refused(network_error(_reason(error), attempts=attempt), retryable=True)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Unknown(_reason(error))
        return self._classify(task["taskUUID"], status, headers, body, attempt)

    def _classify(
        self, task_uuid: str, status: int, headers: Mapping[str, str], body: bytes, attempt: int
    ) -> DispatchOutcome:
        try:
            errors, rows = _errors_and_rows(body)
        except ValueError:
            errors, rows = [], []
        if any(str(error.get("code", "")).lower() == _CONFLICT for error in errors):
            return Accepted()
        if 200 <= status < 300:
            if any(str(row.get("taskUUID", "")).lower() == task_uuid for row in rows):
                # Errors beside it are of single images: the task as a whole was taken.
                return Accepted(_results([*rows, *({**error, "status": "error"} for error in errors)]))
            if errors:
                return Refused(api_rejected(status, errors), retryable=False)
            return Unknown(f"HTTP {status} that does not name the task")
        if status < 500 or (status == 503 and _is_runwares(body)):
            error = (
                api_rejected(status, errors)
                if errors
                else http_error(self.url, status, body.decode("utf-8", "replace"), attempts=attempt)
            )
            retryable = status in _RETRYABLE or status == 503
            return Refused(error, retryable, retry_after(headers, self._clock()) if retryable else None)
        return Unknown(f"HTTP {status}")

    async def ask(self, questions: Sequence[Ask]) -> dict[UUID, Answer]:
        """Ask what became of up to `ASK_BATCH` tasks; those that got an answer, however empty, are in the result.

        Raises RunwareUnavailable, RunwareRefused.
        """
        asked_at = self._clock()
        deliveries = await self._ask("getResponse", [ask.task_uuid for ask in questions])
        wanted = [ask.task_uuid for ask in questions if ask.details]
        details = await self._ask("getTaskDetails", wanted) if wanted else {}
        return {
            task_uuid: Answer(asked_at, delivery, details.get(task_uuid)) for task_uuid, delivery in deliveries.items()
        }

    async def _ask(
        self, task_type: str, task_uuids: Sequence[UUID], refused: list[UUID] | None = None
    ) -> dict[UUID, Delivery]:
        refused = [] if refused is None else refused
        tasks = [{"taskType": task_type, "taskUUID": str(task_uuid)} for task_uuid in task_uuids]
        status, errors, rows = await self._exchange(tasks)
        rows_of: dict[str, list[Any]] = {}
        for row in (*rows, *({**error, "status": "error"} for error in errors)):
            if isinstance(row.get("taskUUID"), str):
                rows_of.setdefault(row["taskUUID"].lower(), []).append(row)
        read = _details if task_type == "getTaskDetails" else _response
        answered = {
            each: read(rows_of.get(str(each), [])) for each in task_uuids if str(each) in rows_of or status < 300
        }
        silent = [each for each in task_uuids if each not in answered]
        if len(task_uuids) > 1 and silent:  # the body failed as a whole, perhaps because of one of them
            half = (len(silent) + 1) // 2
            for part in (silent[:half], silent[half:]):
                if part:
                    answered |= await self._ask(task_type, part, refused)
        elif silent and errors and all(_KNOWS_NOTHING.search(str(error.get("code"))) for error in errors):
            answered[silent[0]] = Delivery()
        elif silent:
            log.warning("runware_does_not_say", task_type=task_type, status=status, task_uuid=str(silent[0]))
            refused += silent
            if len(refused) >= REFUSALS:  # it is not about one of them: the alarms ask again
                raise RunwareUnavailable(f"Runware answers questions with HTTP {status}")
        return answered

    async def call(self, tasks: Sequence[JsonObject]) -> list[JsonObject]:
        """Send tasks that cost nothing and return their rows. Raises RunwareUnavailable, RunwareRefused."""
        status, errors, rows = await self._exchange(tasks)
        if errors or status >= 300:
            raise RunwareRefused(status, errors)
        return rows

    async def _exchange(self, tasks: Sequence[JsonObject]) -> tuple[int, list[JsonObject], list[JsonObject]]:
        try:
            status, _, body = await self._post(tasks)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise RunwareUnavailable(f"Runware cannot be reached: {_reason(error)}") from error
        try:
            errors, rows = _errors_and_rows(body)
        except ValueError as error:
            if status in {401, 402, 403}:
                raise RunwareRefused(status, []) from error
            raise RunwareUnavailable(f"Runware's answer (HTTP {status}) could not be read: {error}") from error
        if status in {401, 402, 403}:
            raise RunwareRefused(status, errors)
        if status == 429 or status >= 500:
            raise RunwareUnavailable(f"Runware answered HTTP {status}")
        return status, errors, rows

    async def _post(self, tasks: Sequence[JsonObject]) -> tuple[int, Mapping[str, str], bytes]:
        payload = _encode(tasks).encode()
        # aiohttp warns of large bytes, which it would copy; and small ones cost it less than a file.
        data = payload if len(payload) < LARGE_BODY else BytesIO(payload)
        async with self._session.post(
            self.url, data=data, headers={"Content-Type": "application/json"}, allow_redirects=False
        ) as response:
            if date := response.headers.get("Date"):
                self._dated = (self._clock(), date)
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > ANSWER_BYTES:
                    raise aiohttp.ClientPayloadError(f"an answer of more than {ANSWER_BYTES} bytes")
            return response.status, response.headers, bytes(body)


def inference_task(request_input: JsonObject, task_uuid: UUID, webhook_url: str | None) -> JsonObject:
    """The task that is sent: what the caller set, and what is ours."""
    task: JsonObject = {
        "taskType": "imageInference",
        "taskUUID": str(task_uuid),
        **request_input,
        "outputType": "URL",
        "includeCost": True,
        "deliveryMethod": "async",
    }
    if webhook_url is not None:
        task["webhookURL"] = webhook_url
    return task


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """The wait that a `Retry-After` asks for, in seconds or as a date."""
    value = headers.get("Retry-After", "").strip()
    if value.isdigit():
        return timedelta(seconds=min(int(value[:9]), 86_400))
    try:
        return max(timedelta(0), parsedate_to_datetime(value) - now)
    except (ValueError, TypeError):
        return None


def _reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLError):
        return "its certificate is not trusted"
    if isinstance(error, asyncio.TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


def _is_runwares(body: bytes) -> bool:
    """Whether an error is Runware's own, and not that of a proxy before it."""
    try:
        value = loads(body)
    except ValueError:
        return False
    errors = value.get("errors") if isinstance(value, dict) else None
    return isinstance(errors, list) and any(isinstance(error, dict) for error in errors)


def _errors_and_rows(body: bytes) -> tuple[list[JsonObject], list[JsonObject]]:
    """The error objects of an answer, fit to be kept, and its rows.

    Raises ValueError for what is none of Runware's answers: it says nothing about any task.
    """
    value = loads(body)
    if isinstance(value, list):
        return [], [row for row in value if isinstance(row, dict)]
    if isinstance(value, dict) and "data" not in value and "taskUUID" in value:
        return [], [value]  # flat, without a wrapper
    if not isinstance(value, dict) or not value.keys() & {"data", "errors", "error"}:
        raise ValueError("it has neither data nor errors")
    found = value.get("errors") or value.get("error") or []
    errors = [
        bounded(error) if isinstance(error, dict) else {"message": str(error)[:500]}
        for error in (found if isinstance(found, list) else [found])
    ]
    rows = value.get("data") or []
    return errors, [row for row in (rows if isinstance(rows, list) else [rows]) if isinstance(row, dict)]


def _results(rows: Sequence[JsonObject]) -> Delivery:
    """Results and errors that came with an acknowledgement. The acknowledgement itself is none."""
    told = ("imageURL", "imageUUID", "code", "error")
    return read_rows([row for row in rows if any(row.get(name) for name in told)])


def _response(rows: Sequence[JsonObject]) -> Delivery:
    """What `getResponse` said about one task, without what it said about the question."""
    delivery = read_rows(
        [row for row in rows if not (row.get("status") == "error" and row.get("taskType") in _QUESTIONS)]
    )
    facts = tuple(
        fact
        for fact in delivery.facts
        if not isinstance(fact, Invalid) and not (isinstance(fact, Failure) and _KNOWS_NOTHING.search(fact.code))
    )
    return Delivery(facts, delivery.processing)


def _details(rows: Sequence[JsonObject]) -> Delivery:
    """What `getTaskDetails` said about one task. `processing`: it knows the task, but has no result of it."""
    known = [row for row in rows if row.get("request") or row.get("response")]
    facts: list[Fact] = []
    for row in known:
        response = row.get("response")
        for part in response if isinstance(response, list) else [response]:
            if isinstance(part, dict) and part.get("taskType") not in _QUESTIONS:
                facts += [fact for fact in read_rows(part).facts if not isinstance(fact, Invalid)]
    return Delivery(tuple(facts), processing=bool(known) and not facts)
