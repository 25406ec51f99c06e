"""The typed contract of a generation's calls: `get_generation_stub(ctx, id)` gives what can be said to one generation.

Each call is one committed step of the register; what it does is said in `Generation`, what it may raise in
`GenerationRuntime.call`. All may be repeated.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

from runware_provider.durable import Assignment, Clock, GenerationRuntime
from runware_provider.errors import ProjectionFailed
from runware_provider.generation import Generation
from runware_provider.types import (
    Answer,
    Confirmation,
    Delivery,
    DispatchOutcome,
    GenerationState,
    Order,
    Request,
    Stored,
)


@dataclass(frozen=True, slots=True)
class ToStore:
    """What is to be fetched, and as which attempt (from 1). `url` is None when there is nothing to do.

    Then a process may have died between a put and its confirm: `kept` is the only key of this output that is right,
    and when `purged` is set none of the generation's is.
    """

    url: str | None
    attempt: int
    kept: str | None = None
    purged: bool = False


class Superseded(Exception):
    """An image was stored that the generation does not keep: another was confirmed first, or it was deleted."""


class HasRuntime(Protocol):
    """A context, as far as a stub needs one."""

    @property
    def runtime(self) -> GenerationRuntime:
        """Where generations are kept."""

    @property
    def clock(self) -> Clock:
        """What time it is."""


Wish = Literal["retry", "replay", "clear_error", "delete", "undelete"]

_WISHES: Mapping[Wish, Callable[[Generation, datetime], list[Order]]] = {
    "retry": Generation.retry,
    "replay": Generation.replay,
    "clear_error": Generation.clear_error,
    "delete": Generation.delete,
    "undelete": Generation.undelete,
}


class GenerationStub:
    """One generation, wherever it is kept. Holds nothing itself."""

    __slots__ = ("_clock", "_runtime", "id")

    def __init__(self, runtime: GenerationRuntime, id: UUID, clock: Clock) -> None:
        self._runtime = runtime
        self._clock = clock
        self.id = id

    async def get_state(self) -> GenerationState:
        """The last committed state."""
        return await self._runtime.get_state(self.id)

    async def get_request(self) -> Request:
        """What was asked for."""
        return await self._runtime.get_request(self.id)

    async def record_dispatching(self, attempt: int) -> UUID | None:
        """Take the lease for one attempt; the `taskUUID` to send it under, None when it is not to be sent."""

        def step(generation: Generation) -> list[Order]:
            return generation.record_dispatching(attempt, self._now())

        def granted(generation: Generation) -> UUID | None:
            dispatch = generation.register.dispatch
            return (
                generation.register.task_uuid if dispatch.status == "sending" and dispatch.attempt == attempt else None
            )

        return await self._runtime.call(self.id, step, granted)

    async def record_dispatch(self, attempt: int, outcome: DispatchOutcome, done: Assignment | None = None) -> None:
        """How an attempt ended."""
        await self._runtime.call(
            self.id, lambda generation: generation.record_dispatch(attempt, outcome, self._now()), _nothing, done=done
        )

    def record_webhook(self, delivery: Delivery) -> Awaitable[None]:
        """One delivery of Runware's."""
        now = self._clock()
        return self._runtime.call(self.id, lambda generation: generation.record_webhook(delivery, now), _nothing)

    async def record_response(self, answer: Answer) -> None:
        """What Runware said when asked."""
        await self._runtime.call(self.id, lambda generation: generation.record_response(answer, self._now()), _nothing)

    async def to_store(self, output_id: UUID) -> ToStore:
        """Where one output is to be fetched from, if it still is."""

        def reply(generation: Generation) -> ToStore:
            register = generation.register
            record = register.outputs.get(output_id)
            if record is None or not record.storing or register.deleted_at is not None:
                kept = record.stored.key if record is not None and record.stored is not None else None
                return ToStore(None, 1, kept, register.purged_at is not None)
            return ToStore(record.url, record.attempts + 1)

        return await self._runtime.look(self.id, reply)

    async def confirm_outputs(self, confirmations: Sequence[Confirmation], done: Assignment | None = None) -> None:
        """What became of outputs. Raises Superseded, and keeps nothing, when a stored image is not the one kept."""

        def step(generation: Generation) -> list[Order]:
            orders = generation.confirm_outputs(confirmations, self._now())
            register = generation.register
            for confirmation in confirmations:
                if isinstance(confirmation, Stored):
                    record = register.outputs.get(confirmation.output_id)
                    kept = record.stored if record is not None and register.deleted_at is None else None
                    if kept is None or kept.key != confirmation.key:
                        raise Superseded(confirmation.key)
            return orders

        await self._runtime.call(self.id, step, _nothing, done=done)

    async def record_projection(self, version: int, done: Assignment | None = None) -> None:
        """The read model has `version`."""
        await self._runtime.call(
            self.id, lambda generation: generation.record_projection(version, self._now()), _nothing, done=done
        )

    async def set_error(self, error: ProjectionFailed, version: int, done: Assignment | None = None) -> None:
        """The read model refused `version`."""
        await self._runtime.call(
            self.id, lambda generation: generation.set_error(error, version, self._now()), _nothing, done=done
        )

    async def record_purge(self, done: Assignment | None = None) -> None:
        """The objects are gone."""
        await self._runtime.call(self.id, lambda generation: generation.record_purge(self._now()), _nothing, done=done)

    async def tell(self, wish: Wish) -> int:
        """What a person asks for, see the register's method of that name; returns the version it led to."""
        method = _WISHES[wish]
        return await self._runtime.call(
            self.id, lambda generation: method(generation, self._now()), lambda generation: generation.version
        )

    def _now(self) -> datetime:
        return self._clock()


def get_generation_stub(ctx: HasRuntime, id: UUID) -> GenerationStub:
    """What can be said to the generation `id`. Whether it exists is found at the first call."""
    return GenerationStub(ctx.runtime, id, ctx.clock)


def _nothing(_: Generation) -> None:
    return None
