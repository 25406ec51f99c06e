"""Staged answers: what a fault puts in place of an answer, or between it and the client."""

import asyncio
import json
from typing import Any

from starlette.responses import Response

from runware_provider.simulator.answers import Broken, json_answer
from runware_provider.simulator.bodies import malformed
from runware_provider.simulator.faults import Fault
from runware_provider.simulator.faults.api import (
    AnswerBreak,
    AnswerEmpty,
    AnswerHang,
    AnswerMalformed,
    AnswerSlow,
    AnswerStatus,
    DispatchBreak,
    DispatchHang,
    DispatchSlow,
    DispatchStatus,
    DispatchWebhookFirst,
    Refusal,
)
from runware_provider.simulator.ledger import Run
from runware_provider.simulator.wire import encode, error_of_status


async def staged_after(faults: list[Fault], runs: list[Run], response: Response, closing: asyncio.Event) -> Response:
    """Hold an answer back as long as the faults say, then give it, or what the first other fault puts in its place."""
    for fault in faults:
        if isinstance(fault, DispatchSlow | AnswerSlow):
            await _pause(closing, fault.seconds)
        elif isinstance(fault, DispatchWebhookFirst):
            for run in runs:
                if run.tried is not None:
                    await _pause(run.tried, fault.seconds)
    for fault in faults:
        if not isinstance(fault, DispatchSlow | AnswerSlow | DispatchWebhookFirst):
            return staged(fault, bytes(response.body))
    return response


def staged(fault: Fault, body: bytes = b"") -> Response:
    """The answer that a fault puts in place of `body`."""
    match fault:
        case DispatchStatus() | AnswerStatus():
            return _status(fault)
        case DispatchBreak() | AnswerBreak():
            return Broken(body, sent_bytes=fault.sent_bytes)
        case DispatchHang() | AnswerHang():
            return Broken(seconds=fault.seconds)
        case AnswerMalformed():
            kept: Any = json.loads(body) if body else {}
            return Response(malformed(fault.kind, kept), media_type="application/json")
        case AnswerEmpty():
            return json_answer({"data": []})
        case _:
            raise TypeError(f"no answer is staged by {fault.on}/{fault.do}")


def _status(fault: Refusal) -> Response:
    error = error_of_status(fault.status, code=fault.code, message=fault.message)
    headers = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
    page = f"<html><head><title>{fault.status}</title></head><body><h1>{fault.status}</h1></body></html>".encode()
    bodies: dict[str, tuple[bytes, str]] = {
        "errors": (encode({"errors": [error]}), "application/json"),
        "errors_and_data": (encode({"data": [], "errors": [error]}), "application/json"),
        "empty_data": (encode({"data": []}), "application/json"),
        "html": (page, "text/html"),
        "not_json": (page, "application/json"),
        "empty": (b"", "text/plain"),
    }
    content, media_type = bodies[fault.body]
    return Response(content, fault.status, headers, media_type)


async def _pause(until: asyncio.Event, seconds: float) -> None:
    """Wait for an event, `seconds` at most."""
    try:
        async with asyncio.timeout(seconds):
            await until.wait()
    except TimeoutError:
        return
