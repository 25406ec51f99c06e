"""Tasks: accepting one (which bills it), running it, and answering what became of it."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import uuid4

from runware_provider.simulator.bodies import poisoned
from runware_provider.simulator.catalogue import price_micros
from runware_provider.simulator.chance import seeded
from runware_provider.simulator.courier import Courier
from runware_provider.simulator.darkroom import Darkroom
from runware_provider.simulator.faults import Fault, Staging, Subject, first_of
from runware_provider.simulator.faults.api import (
    DetailsUnknown,
    ResponseErrorsInData,
    ResponsePoison,
    ResponseProcessing,
    ResultError,
    ResultOmit,
    ResultRefusal,
    ResultUrl,
    TaskError,
    TaskFewer,
    TaskMore,
    TaskSlow,
    TaskStuck,
)
from runware_provider.simulator.items import error_of, item_of
from runware_provider.simulator.ledger import Entry, Ledger, Result, Run
from runware_provider.simulator.options import SimulatorOptions, Span
from runware_provider.simulator.pictures import Picture
from runware_provider.simulator.validation import MAX_SEED, Inference
from runware_provider.simulator.wire import JsonObject, Refused, encode, error_of_status

EXTENSIONS = {"JPG": "jpg", "PNG": "png", "WEBP": "webp"}
Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


class Tasks:
    """The part of Runware that takes tasks, spends money and remembers."""

    def __init__(
        self,
        options: SimulatorOptions,
        staging: Staging,
        ledger: Ledger,
        darkroom: Darkroom,
        courier: Courier,
        spawn: Spawn,
    ) -> None:
        self._options = options
        self._staging = staging
        self._ledger = ledger
        self._darkroom = darkroom
        self._courier = courier
        self._spawn = spawn
        self._chance: random.Random = seeded(options.seed, "tasks")

    def accept(self, task: Inference, request: JsonObject, image_origin: str, *, watched: bool = False) -> Run:
        """Take a task, and bill it. With `watched`, `run.tried` is set once a webhook of it has been tried.

        Raises `Refused`: `conflictTaskUUID` for an id that is still running (not billed), 429 when too many run. A
        finished id is run, billed and delivered again: nothing that is known of Runware rules it out.
        """
        entry = self._ledger.open(task.task_uuid)
        named = {"task_uuid": task.task_uuid, "task_type": "imageInference"}
        if entry.running:
            entry.conflicts += 1
            self._ledger.totals.conflicts += 1
            message = "A task with this taskUUID is still running."
            code = "conflictTaskUUID"
            raise Refused(400, error_of_status(400, code=code, message=message, parameter="taskUUID", **named))
        if self._ledger.totals.running >= self._options.max_running:
            raise Refused(429, error_of_status(429, **named), retry_after=1)
        subject = Subject(task.task_uuid, task.prompt)
        faults = self._staging.firing("task", "body", subject)
        run = Run(task, encode(request), [])
        failure = first_of(TaskError, faults)
        if failure is not None:
            run.error = error_of_status(500, code=failure.code, message=failure.message)
            run.http_status = failure.http_status
        else:
            run.results = self._results(task, faults, image_origin)
        if watched:
            run.tried = asyncio.Event()
        self._ledger.bill(entry, run)
        run.work = self._spawn(self._work(entry, run, faults))
        return run

    async def rows(self, task_uuid: str) -> tuple[list[JsonObject], list[JsonObject]]:
        """What `getResponse` says of a task: rows of `data` and of `errors`. An unknown id looks like a running one."""
        entry = self._ledger.entry(task_uuid)
        run = entry.run if entry is not None else None
        prompt = run.task.prompt if run is not None else ""
        faults = self._staging.firing("response", "row", Subject(task_uuid, prompt))
        processing = {"taskType": "imageInference", "taskUUID": task_uuid, "status": "processing"}
        if run is None or first_of(ResponseProcessing, faults) is not None:
            return [processing], []
        data, errors = await self.outcome(run)
        data = [{**item, "status": "success"} for item in data]
        errors = [{**error, "status": "error"} for error in errors]
        poison = first_of(ResponsePoison, faults)
        if poison is not None:
            data = [poisoned(item, poison.kind) for item in data]
        if first_of(ResponseErrorsInData, faults) is not None:
            data += [_as_data(error) for error in errors]
            errors = []
        if not run.finished:
            data.append(processing)
        return data, errors

    async def outcome(self, run: Run) -> tuple[list[JsonObject], list[JsonObject]]:
        """What has come of a run so far: items, and errors with their taskUUID."""
        finished = [result for result in run.results if result.finished]
        items = [await item_of(run.task, result, self._darkroom) for result in finished if result.error is None]
        errors = [error_of(run.task, result.error, result) for result in finished if result.error is not None]
        if run.finished and run.error is not None:
            errors.append(error_of(run.task, run.error))
        return items, errors

    async def details(self, task_uuid: str) -> tuple[Run, JsonObject]:
        """The last finished run of a task and its response. Raises `Refused` (404) for an id that never finished."""
        entry = self._ledger.entry(task_uuid)
        run = entry.details if entry is not None else None
        faults = self._staging.firing("details", "row", Subject(task_uuid, run.task.prompt if run is not None else ""))
        if run is None or first_of(DetailsUnknown, faults) is not None:
            raise Refused(
                404, error_of_status(404, parameter="taskUUID", task_uuid=task_uuid, task_type="getTaskDetails")
            )
        items, errors = await self.outcome(run)
        response: JsonObject = {"data": items}
        if errors:
            response["errors"] = errors
        return run, response

    async def _work(self, entry: Entry, run: Run, faults: list[Fault]) -> None:
        latency = self._drawn(self._options.latency)
        latency += sum(fault.seconds for fault in faults if isinstance(fault, TaskSlow))
        if latency:
            await asyncio.sleep(latency)
        if first_of(TaskStuck, faults) is not None:
            await asyncio.Event().wait()
        for number, result in enumerate(run.results):
            spread = self._drawn(self._options.result_spread) if number else 0
            if spread:
                await asyncio.sleep(spread)
            self._ledger.finish_result(result)
            if number < len(run.results) - 1:
                self._bring(entry, run, result)
        # The run is over before its last delivery leaves, so that whoever asks because of it finds it finished.
        last = run.results[-1] if run.results else None
        self._bring(entry, run, last)
        self._ledger.finish_run(entry, run)

    def _bring(self, entry: Entry, run: Run, result: Result | None) -> None:
        if run.task.webhook_url is not None and (result is not None or run.error is not None):
            self._courier.announce(entry, run, result, self._drawn(self._options.webhook_latency))

    def _results(self, task: Inference, faults: list[Fault], image_origin: str) -> list[Result]:
        count = task.count
        count += sum(fault.extra for fault in faults if isinstance(fault, TaskMore))
        count -= sum(fault.missing for fault in faults if isinstance(fault, TaskFewer))
        first_seed = task.seed if task.seed is not None else self._chance.randrange(1, MAX_SEED)
        return [self._result(task, index, (first_seed + index) & MAX_SEED, image_origin) for index in range(count)]

    def _result(self, task: Inference, index: int, seed: int, image_origin: str) -> Result:
        image_uuid = str(uuid4())
        name = f"{image_uuid}.{EXTENSIONS[task.format]}"
        lives = task.ttl if task.ttl is not None else self._options.url_ttl
        result = Result(
            task_uuid=task.task_uuid,
            image_uuid=image_uuid,
            index=index,
            seed=seed,
            cost_micros=price_micros(task.model, task.width, task.height),
            picture=Picture(task.prompt, task.model, seed, task.width, task.height, task.format, task.quality),
            url=f"{image_origin}/image/ws/{2 + index % 4}/ii/{name}",
            expires_at=time.time() + lives,
        )
        for fault in self._staging.firing("result", "row", Subject(task.task_uuid, task.prompt, image_uuid)):
            match fault:
                case ResultError():
                    result.error = error_of_status(500, code=fault.code, message=fault.message)
                    result.names_image = fault.image_uuid
                case ResultRefusal():
                    result.url = None
                case ResultOmit():
                    result.omitted = fault.fields
                case ResultUrl():
                    result.url = fault.url.replace("{image_uuid}", image_uuid).replace("{name}", name)
                case _:
                    pass
        return result

    def _drawn(self, span: Span) -> float:
        return self._chance.uniform(*span) if isinstance(span, tuple) else span


def _as_data(error: JsonObject) -> JsonObject:
    """An error row as the SDK's types also allow it: in `data`, with an `error` object."""
    outside: JsonObject = {key: error[key] for key in ("taskType", "taskUUID", "imageUUID", "status") if key in error}
    return {**outside, "error": {key: value for key, value in error.items() if key not in outside}}
