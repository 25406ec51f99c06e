"""What tasks do: dispatch, store an output, project, purge; and the questions that alarms put to Runware.

Any of it may run twice, or die at any point: each ends in one call that commits its outcome together with its end.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from time import perf_counter, time_ns
from typing import Any, Protocol, assert_never
from uuid import UUID

from runware_provider.artifacts import Artifacts, NotKept, StoreUnavailable
from runware_provider.durable import Assignment, Clock, GenerationRuntime, TaskKind, TryLater
from runware_provider.errors import (
    ApiRejected,
    ConfigurationError,
    ContentRejected,
    DispatchError,
    FetchFailed,
    GenerationNotFound,
    HttpError,
    NetworkError,
    OutputError,
    RunwareRefused,
    RunwareUnavailable,
    StateUnavailable,
    StorageFailed,
)
from runware_provider.logs import get_logger
from runware_provider.metrics import Metrics, Outcome
from runware_provider.projection import ProjectionWriter
from runware_provider.runware import ASK_BATCH, RunwareClient, inference_task
from runware_provider.stub import GenerationStub, Superseded, ToStore
from runware_provider.tracing import Span, span
from runware_provider.types import (
    Accepted,
    Answer,
    Ask,
    Dispatch,
    DispatchOutcome,
    NotStored,
    Project,
    Purge,
    Refused,
    StoreOutput,
    Task,
    Unknown,
)

log = get_logger()

MAX_QUESTIONS = 20_000
"""Questions that wait; further ones are dropped, and the alarms ask them again."""

ASKING_AT_ONCE = 4
GATHERING = 0.02
"""Seconds that questions gather before a body goes out with them."""


_WELL: frozenset[Outcome] = frozenset({"accepted", "stored", "projected", "purged", "nothing_to_do"})


class Ports(Protocol):
    """What the processing works with."""

    @property
    def runtime(self) -> GenerationRuntime: ...
    @property
    def artifacts(self) -> Artifacts: ...
    @property
    def projection_writer(self) -> ProjectionWriter: ...
    @property
    def runware_client(self) -> RunwareClient | None: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def metrics(self) -> Metrics: ...


class Processing:
    """The worker. `webhook_url` makes the address that Runware is given for one generation, None when polling."""

    def __init__(self, ports: Ports, webhook_url: Callable[[UUID], str | None]) -> None:
        self._ports = ports
        self._webhook_url = webhook_url
        self._asker = Asker(ports)

    async def perform(self, assignment: Assignment) -> None:
        """See `Worker.perform`."""
        began = perf_counter()
        kind, name = _NAMES[type(assignment.task)]
        outcome: Outcome = "raised"
        try:
            with span(name, assignment.generation_id, starts=assignment.attempts) as noted:
                try:
                    outcome = await self._doing(assignment, noted)
                except GenerationNotFound:
                    await self._ports.runtime.finish(assignment)
                    outcome = "nothing_to_do"
                noted.note(outcome=outcome)
                if outcome not in _WELL:
                    noted.failed(outcome)
        except (StateUnavailable, TryLater, asyncio.CancelledError):
            outcome = "waits"
            raise
        finally:
            self._ports.metrics.task(kind, outcome, perf_counter() - began)

    def _doing(self, assignment: Assignment, noted: Span) -> Coroutine[Any, Any, Outcome]:
        """What does it, ends it, and says what came of it."""
        stub = GenerationStub(self._ports.runtime, assignment.generation_id, self._ports.clock)
        match assignment.task:
            case Dispatch(attempt=attempt):
                noted.note(attempt=attempt)
                return self._dispatch(stub, attempt, assignment)
            case StoreOutput(output_id=output_id):
                if noted.recording:
                    noted.note(output_id=str(output_id))
                return self._store(stub, output_id, assignment, noted)
            case Project():
                return self._project(stub, assignment)
            case Purge():
                return self._purge(stub, assignment)
            case _:
                assert_never(assignment.task)

    def ask(self, generation_id: UUID, ask: Ask) -> None:
        """See `Worker.ask`."""
        if self._ports.runware_client is not None:
            self._asker.put(generation_id, ask)

    async def close(self) -> None:
        """Ask nothing more."""
        await self._asker.close()

    async def _dispatch(self, stub: GenerationStub, attempt: int, assignment: Assignment) -> Outcome:
        client = self._ports.runware_client
        if client is None:
            raise ConfigurationError("RUNWARE_API_KEY is not set")
        # Read before the lease is taken: a read that fails must not leave an outcome that is unknown.
        request = await stub.get_request()
        task_uuid = await stub.record_dispatching(attempt)
        if task_uuid is None:
            await self._ports.runtime.finish(assignment)
            return "nothing_to_do"
        task = inference_task(request.input, task_uuid, self._webhook_url(stub.id))
        outcome = await client.dispatch(task, attempt)
        _log_outcome(stub.id, outcome)
        await self._keep_outcome(stub, attempt, outcome, assignment)
        return _name(outcome)

    async def _keep_outcome(
        self, stub: GenerationStub, attempt: int, outcome: DispatchOutcome, assignment: Assignment
    ) -> None:
        """Commit what came of an attempt. Worth a few tries: without it the outcome would have to be found out."""
        for pause in (0.1, 0.5, 2.0, 5.0):
            try:
                return await stub.record_dispatch(attempt, outcome, done=assignment)
            except StateUnavailable:
                await asyncio.sleep(pause)
        return await stub.record_dispatch(attempt, outcome, done=assignment)

    async def _store(self, stub: GenerationStub, output_id: UUID, assignment: Assignment, noted: Span) -> Outcome:
        wanted = await stub.to_store(output_id)
        artifacts = self._ports.artifacts
        if wanted.url is None:
            await self._sweep(stub.id, output_id, wanted)
            await self._ports.runtime.finish(assignment)
            return "nothing_to_do"
        noted.note(attempt=wanted.attempt)
        try:
            stored = await artifacts.keep(stub.id, output_id, wanted.url, attempt=wanted.attempt)
        except NotKept as failure:
            log.warning("image_not_stored", id=str(stub.id), output=str(output_id), reason=str(failure)[:300])
            not_stored = NotStored(output_id, wanted.url, failure.error, failure.retry_after)
            await stub.confirm_outputs([not_stored], done=assignment)
            return _why(failure.error)
        noted.note(size_bytes=stored.size_bytes)
        try:
            await stub.confirm_outputs([stored], done=assignment)
        except (GenerationNotFound, Superseded):
            # The task ends only when the object is gone: who dies in between leaves it to the next one.
            await self._remove(stored.key)
            await self._ports.runtime.finish(assignment)
            return "nothing_to_do"
        self._ports.metrics.stored(stored.size_bytes)
        return "stored"

    async def _remove(self, key: str) -> None:
        try:
            await self._ports.artifacts.delete(key)
        except StoreUnavailable as error:
            raise TryLater(str(error)) from error

    async def _sweep(self, generation_id: UUID, output_id: UUID, wanted: ToStore) -> None:
        """Remove what somebody put who died before he could confirm it."""
        # A generation that is deleted and not purged yet has its purge before it, which removes everything.
        try:
            if wanted.purged:
                await self._ports.artifacts.purge(generation_id)
            elif wanted.kept is not None:
                await self._ports.artifacts.sweep(generation_id, output_id, wanted.kept)
        except StoreUnavailable as error:
            raise TryLater(str(error)) from error

    async def _purge(self, stub: GenerationStub, assignment: Assignment) -> Outcome:
        try:
            await self._ports.artifacts.purge(stub.id)
        except StoreUnavailable as error:  # what was deleted must go, however long the store is away
            raise TryLater(str(error)) from error
        await stub.record_purge(done=assignment)
        return "purged"

    async def _project(self, stub: GenerationStub, assignment: Assignment) -> Outcome:
        state = await stub.get_state()
        error = await self._ports.projection_writer.project(state)
        if error is None:
            await stub.record_projection(state.version, done=assignment)
            return "projected"
        log.error("projection_failed", id=str(stub.id), reason=error.message[:300])
        await stub.set_error(error, state.version, done=assignment)
        return "projection_failed"


_NAMES: Mapping[type[Task], tuple[TaskKind, str]] = {
    Dispatch: ("Dispatch", "dispatch"),
    StoreOutput: ("StoreOutput", "store_output"),
    Project: ("Project", "project"),
    Purge: ("Purge", "purge"),
}
"""A task's kind, and what its span is called."""


def _name(outcome: DispatchOutcome) -> Outcome:
    match outcome:
        case Accepted():
            return "accepted"
        case Refused(retryable=retryable):
            return "refused_for_now" if retryable else "refused"
        case Unknown():
            return "unknown"
        case _:
            assert_never(outcome)


def _why(error: OutputError) -> Outcome:
    match error:
        case FetchFailed() | ContentRejected() | StorageFailed():
            return error.code
        case _:  # of deliveries, never of images
            return "raised"


def _log_outcome(generation_id: UUID, outcome: DispatchOutcome) -> None:
    match outcome:
        case Refused(error=error, retryable=retryable):
            write = log.warning if retryable else log.error
            write("dispatch_refused", id=str(generation_id), code=error.code, retryable=retryable, reason=_told(error))
        case Unknown(reason=reason):
            log.warning("dispatch_unknown", id=str(generation_id), reason=reason[:300])


def _told(error: DispatchError) -> str:
    """What Runware said, short. Never the request: it holds the prompt."""
    match error:
        case HttpError(status=status):
            return f"HTTP {status}"
        case NetworkError(reason=reason):
            return reason[:300]
        case ApiRejected(errors=errors):
            return ", ".join(str(each.get("code", "")) for each in errors)[:300]
        case _:
            assert_never(error)


@dataclass(slots=True)
class _Question:
    generation_id: UUID
    ask: Ask


class Asker:
    """Gathers questions into bodies of up to 50 ids, a few bodies at once, and records what the answers teach.

    One question a generation waits at a time; a later one that wants details too adds them.
    """

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._waiting: dict[UUID, _Question] = {}
        self._under_way: set[UUID] = set()
        self._slots = asyncio.Semaphore(ASKING_AT_ONCE)
        self._pump: asyncio.Task[None] | None = None
        self._bodies: set[asyncio.Task[None]] = set()

    def put(self, generation_id: UUID, ask: Ask) -> None:
        """Ask this when convenient."""
        known = self._waiting.get(generation_id)
        if known is not None:
            if ask.details and not known.ask.details:
                known.ask = ask
            return
        if len(self._waiting) >= MAX_QUESTIONS or (generation_id in self._under_way and not ask.details):
            return
        self._waiting[generation_id] = _Question(generation_id, ask)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.get_running_loop().create_task(self._work(), name="asker")

    async def close(self) -> None:
        """Ask nothing more; what is under way is dropped, for the alarms ask again."""
        tasks = [task for task in (self._pump, *self._bodies) if task is not None and not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _work(self) -> None:
        await asyncio.sleep(GATHERING)
        while self._waiting:
            await self._slots.acquire()
            batch = [self._waiting.pop(key) for key in list(self._waiting)[:ASK_BATCH]]
            self._under_way.update(question.generation_id for question in batch)
            body = asyncio.get_running_loop().create_task(self._ask(batch), name="ask")
            self._bodies.add(body)
            body.add_done_callback(self._bodies.discard)

    async def _ask(self, batch: list[_Question]) -> None:
        began = time_ns()
        try:
            client = self._ports.runware_client
            answers = await client.ask([question.ask for question in batch]) if client else {}
            told = [(each, answers.get(each.ask.task_uuid)) for each in batch]
            outcomes = await asyncio.gather(*(self._record(*each, began) for each in told), return_exceptions=True)
            for question, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    log.warning("answer_not_recorded", id=str(question.generation_id), reason=str(outcome)[:300])
        except (RunwareUnavailable, RunwareRefused) as error:
            log.warning("runware_not_answering", generations=len(batch), reason=str(error)[:300])
            for question in batch:
                with span("ask", question.generation_id, began=began, details=question.ask.details) as noted:
                    noted.failed(type(error).__name__)
        finally:
            self._under_way.difference_update(question.generation_id for question in batch)
            self._slots.release()

    async def _record(self, question: _Question, answer: Answer | None, began: int) -> None:
        with span("ask", question.generation_id, began=began, details=question.ask.details) as noted:
            noted.note(answered=answer is not None)
            if answer is None:
                return
            stub = GenerationStub(self._ports.runtime, question.generation_id, self._ports.clock)
            try:
                await stub.record_response(answer)
            except GenerationNotFound:
                return
