"""`POST /v1`: an array of tasks in, `data` and `errors` out, and the faults of the answer."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NoReturn

from starlette.requests import Request
from starlette.responses import Response

from runware_provider.simulator.answers import CLOSING, error_answer
from runware_provider.simulator.bodies import encode_poisoned
from runware_provider.simulator.catalogue import search
from runware_provider.simulator.faults import Fault, Staging, Subject
from runware_provider.simulator.faults.api import DispatchBreak, DispatchHang, DispatchStatus, DispatchWebhookFirst
from runware_provider.simulator.ledger import Ledger, Run
from runware_provider.simulator.options import SimulatorOptions
from runware_provider.simulator.staged import staged, staged_after
from runware_provider.simulator.tasks import Tasks
from runware_provider.simulator.validation import check_inference, task_uuid_of
from runware_provider.simulator.wire import JsonObject, Refused, encode, error_object, error_of_status

_PLACES = {
    "imageInference": "dispatch",
    "getResponse": "response",
    "getTaskDetails": "details",
    "modelSearch": "search",
}


@dataclass(slots=True)
class _Answer:
    """What the tasks of one request came to; `status` is that of the first refusal, for when nothing else came."""

    data: list[JsonObject] = field(default_factory=list)
    errors: list[JsonObject] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    status: int = 200
    retry_after: float | None = None

    def refuse(self, refused: Refused) -> None:
        self.errors.append(refused.error)
        if self.status == 200:
            self.status, self.retry_after = refused.status, refused.retry_after

    def response(self) -> Response:
        body: JsonObject = {"data": self.data} if self.data or not self.errors else {}
        if self.errors:
            body["errors"] = self.errors
        headers = {} if self.retry_after is None else {"Retry-After": f"{self.retry_after:g}"}
        status = 200 if self.data else self.status
        return Response(encode_poisoned(body), status, headers, "application/json")


class Rest:
    """Runware's one endpoint."""

    def __init__(self, options: SimulatorOptions, staging: Staging, ledger: Ledger, tasks: Tasks) -> None:
        self._options = options
        self._staging = staging
        self._ledger = ledger
        self._tasks = tasks
        self._kinds: dict[str, Callable[[JsonObject, _Answer, str], Awaitable[None]]] = {
            "imageInference": self._inference,
            "getResponse": self._get_response,
            "getTaskDetails": self._get_task_details,
            "modelSearch": self._model_search,
        }

    async def post(self, request: Request) -> Response:
        """Answer one request; never raises for what a client can send."""
        try:
            tasks = self._authenticated(request, await self._read(request))
        except Refused as refused:
            return error_answer(refused.status, refused.error, refused.retry_after)
        faults = self._faults(tasks)
        for fault in faults:
            if isinstance(fault, DispatchStatus | DispatchBreak | DispatchHang) and not fault.accept:
                self._count_refused(tasks)
                return staged(fault, _acknowledgement(tasks))
        watched = any(isinstance(fault, DispatchWebhookFirst) for fault in faults)
        answer = await self._answer(tasks, self._origin(request), watched=watched)
        response = answer.response()
        if not faults:
            return response
        return await staged_after(faults, answer.runs, response, request.scope[CLOSING])

    async def _answer(self, tasks: list[JsonObject], origin: str, *, watched: bool) -> _Answer:
        answer = _Answer()
        for task in tasks:
            kind = task.get("taskType")
            handle = self._kinds.get(kind) if isinstance(kind, str) else None
            try:
                if handle is None:
                    _refuse_kind(task)
                elif watched and kind == "imageInference":
                    await self._inference(task, answer, origin, watched=True)
                else:
                    await handle(task, answer, origin)
            except Refused as refused:
                answer.refuse(refused)
        return answer

    async def _inference(self, task: JsonObject, answer: _Answer, origin: str, *, watched: bool = False) -> None:
        totals = self._ledger.totals
        totals.dispatches += 1
        try:
            entry = self._ledger.open(task_uuid_of(task))
            entry.dispatches += 1
            inference = check_inference(task, self._options)
            run = self._tasks.accept(inference, task, origin, watched=watched)
        except Refused as refused:
            totals.refused += 1
            self._note_refused(task)
            raise refused from None
        answer.runs.append(run)
        if not inference.sync:
            answer.data.append({"taskType": "imageInference", "taskUUID": inference.task_uuid})
            return
        # The client may leave: the work goes on, and so does the bill.
        if run.work is not None:
            await asyncio.wait({run.work})
        if not run.finished:
            raise Refused(503, error_of_status(503, task_uuid=inference.task_uuid, task_type="imageInference"))
        items, errors = await self._tasks.outcome(run)
        answer.data.extend(items)
        for error in errors:
            answer.refuse(Refused(run.http_status, error))

    async def _get_response(self, task: JsonObject, answer: _Answer, origin: str) -> None:  # noqa: ARG002 - one shape
        self._ledger.totals.responses += 1
        data, errors = await self._tasks.rows(task_uuid_of(task))
        answer.data.extend(data)
        answer.errors.extend(errors)

    async def _get_task_details(self, task: JsonObject, answer: _Answer, origin: str) -> None:  # noqa: ARG002 - one shape
        self._ledger.totals.details += 1
        task_uuid = task_uuid_of(task)
        run, response = await self._tasks.details(task_uuid)
        answer.data.append(
            {
                "taskType": "getTaskDetails",
                "taskUUID": task_uuid,
                "request": [json.loads(run.request)],
                "response": response,
            }
        )

    async def _model_search(self, task: JsonObject, answer: _Answer, origin: str) -> None:
        self._ledger.totals.searches += 1
        task_uuid_of(task)
        answer.data.append(search(task, origin))

    async def _read(self, request: Request) -> list[JsonObject]:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self._options.max_body_bytes:
                raise Refused(413, error_of_status(413))
        try:
            tasks = json.loads(body, parse_constant=_not_a_number)
        except (ValueError, RecursionError) as error:
            raise Refused(400, error_object("invalidJSON", f"The body is not JSON: {error}.")) from None
        if not isinstance(tasks, list) or not tasks or not all(isinstance(task, dict) for task in tasks):
            raise Refused(400, error_object("invalidRequest", "The body must be a JSON array of task objects."))
        if len(tasks) > self._options.max_tasks:
            most = self._options.max_tasks
            raise Refused(400, error_object("maxTasksExceeded", f"At most {most} tasks in one request.", max=most))
        return tasks

    def _authenticated(self, request: Request, tasks: list[JsonObject]) -> list[JsonObject]:
        """The tasks without the authentication. Raises `Refused` (401)."""
        header = request.headers.get("authorization", "")
        scheme, _, key = header.partition(" ")
        first = tasks[0]
        if first.get("taskType") == "authentication":
            key, tasks = str(first.get("apiKey") or ""), tasks[1:]
        elif scheme.lower() != "bearer":
            raise Refused(401, error_of_status(401, code="missingApiKey", parameter="apiKey"))
        if not self._accepted(key.strip()):
            raise Refused(401, error_of_status(401, parameter="apiKey"))
        return tasks

    def _accepted(self, key: str) -> bool:
        if self._options.api_keys is not None:
            return key in self._options.api_keys
        return bool(key) and not key.startswith("wrong")

    def _faults(self, tasks: list[JsonObject]) -> list[Fault]:
        """What is staged for this request: decided once, for the first task of each kind in it."""
        faults: list[Fault] = []
        places = set()
        for task in tasks:
            place = _PLACES.get(str(task.get("taskType")))
            if place is None or place in places:
                continue
            places.add(place)
            prompt = task.get("positivePrompt")
            if place != "dispatch":
                entry = self._ledger.entry(str(task.get("taskUUID")))
                prompt = entry.run.task.prompt if entry is not None and entry.run is not None else None
            subject = Subject(str(task.get("taskUUID")), prompt if isinstance(prompt, str) else "")
            faults += self._staging.firing(place, "body", subject)
        return faults

    def _count_refused(self, tasks: list[JsonObject]) -> None:
        for task in tasks:
            if task.get("taskType") == "imageInference":
                self._ledger.totals.dispatches += 1
                self._ledger.totals.refused += 1
                try:
                    self._ledger.open(task_uuid_of(task)).dispatches += 1
                except Refused:
                    continue
                self._note_refused(task)

    def _note_refused(self, task: JsonObject) -> None:
        entry = self._ledger.entry(str(task.get("taskUUID")))
        if entry is not None:
            entry.refused += 1

    def _origin(self, request: Request) -> str:
        if self._options.public_url is not None:
            return self._options.public_url
        host = request.headers.get("host", "127.0.0.1")
        return f"{request.scope.get('scheme', 'http')}://{host}"


def _acknowledgement(tasks: list[JsonObject]) -> bytes:
    """What would be answered if all were taken: the start of it may get out before a connection breaks."""
    kinds = [task for task in tasks if task.get("taskType") == "imageInference"]
    return encode({"data": [{"taskType": "imageInference", "taskUUID": task.get("taskUUID")} for task in kinds]})


def _refuse_kind(task: JsonObject) -> NoReturn:
    kinds = ", ".join(_PLACES)
    message = f"'taskType' must be one of {kinds}."
    task_uuid = task.get("taskUUID")
    named = task_uuid if isinstance(task_uuid, str) else None
    raise Refused(400, error_object("invalidTaskType", message, parameter="taskType", task_uuid=named))


def _not_a_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")
