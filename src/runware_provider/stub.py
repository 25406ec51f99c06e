"""The typed contract of a generation's calls: `get_generation_stub(ctx, id)` gives what can be said to one generation.

Each call is one committed step of the register; what it does is said in `Generation`, what it may raise in
`GenerationRuntime.call`. All may be repeated.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
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

    def get_state(self) -> Awaitable[GenerationState]:
        """The last committed state."""
        return self._runtime.get_state(self.id)

    def get_request(self) -> Awaitable[Request]:
        """What was asked for."""
        return self._runtime.get_request(self.id)

    def record_dispatching(self, attempt: int) -> Awaitable[UUID | None]:
        """Take the lease for one attempt; the `taskUUID` to send it under, None when it is not to be sent."""

        def step(generation: Generation) -> list[Order]:
            return generation.record_dispatching(attempt, self._clock())

        def granted(generation: Generation) -> UUID | None:
            dispatch = generation.register.dispatch
            return (
                generation.register.task_uuid if dispatch.status == "sending" and dispatch.attempt == attempt else None
            )

        return self._runtime.call(self.id, step, granted)

    def record_dispatch(
        self, attempt: int, outcome: DispatchOutcome, done: Assignment | None = None
    ) -> Awaitable[None]:
        """How an attempt ended."""
        return self._runtime.call(
            self.id, lambda generation: generation.record_dispatch(attempt, outcome, self._clock()), _nothing, done=done
        )

    def record_webhook(self, delivery: Delivery) -> Awaitable[None]:
        """One delivery of Runware's."""
        step = partial(Generation.record_webhook, delivery=delivery, now=self._clock())  # no frame of its own
        return self._runtime.call(self.id, step, _nothing)

    def record_response(self, answer: Answer) -> Awaitable[None]:
        """What Runware said when asked."""
        return self._runtime.call(
            self.id, lambda generation: generation.record_response(answer, self._clock()), _nothing
        )

    def to_store(self, output_id: UUID) -> Awaitable[ToStore]:
        """Where one output is to be fetched from, if it still is."""

        def reply(generation: Generation) -> ToStore:
            register = generation.register
            record = register.outputs.get(output_id)
            if record is None or not record.storing or register.deleted_at is not None:
                kept = record.stored.key if record is not None and record.stored is not None else None
                return ToStore(None, 1, kept, register.purged_at is not None)
            return ToStore(record.url, record.attempts + 1)

        return self._runtime.look(self.id, reply)

    def confirm_outputs(self, confirmations: Sequence[Confirmation], done: Assignment | None = None) -> Awaitable[None]:
        """What became of outputs. Raises Superseded, and keeps nothing, when a stored image is not the one kept."""

        def step(generation: Generation) -> list[Order]:
            orders = generation.confirm_outputs(confirmations, self._clock())
            register = generation.register
            for confirmation in confirmations:
                if isinstance(confirmation, Stored):
                    record = register.outputs.get(confirmation.output_id)
                    kept = record.stored if record is not None and register.deleted_at is None else None
                    if kept is None or kept.key != confirmation.key:
                        raise Superseded(confirmation.key)
            return orders

        return self._runtime.call(self.id, step, _nothing, done=done)

    def record_projection(self, version: int, done: Assignment | None = None) -> Awaitable[None]:
        """The read model has `version`."""
        return self._runtime.call(
            self.id, lambda generation: generation.record_projection(version, self._clock()), _nothing, done=done
        )

    def set_error(self, error: ProjectionFailed, version: int, done: Assignment | None = None) -> Awaitable[None]:
        """The read model refused `version`."""
        return self._runtime.call(
            self.id, lambda generation: generation.set_error(error, version, self._clock()), _nothing, done=done
        )

    def record_purge(self, done: Assignment | None = None) -> Awaitable[None]:
        """The objects are gone."""
        return self._runtime.call(
            self.id, lambda generation: generation.record_purge(self._clock()), _nothing, done=done
        )

    def tell(self, wish: Wish) -> Awaitable[int]:
        """What a person asks for, see the register's method of that name; returns the version it led to."""
        method = _WISHES[wish]
        return self._runtime.call(
            self.id, lambda generation: method(generation, self._clock()), lambda generation: generation.version
        )


def get_generation_stub(ctx: HasRuntime, id: UUID) -> GenerationStub:
    """What can be said to the generation `id`. Whether it exists is found at the first call."""
    return GenerationStub(ctx.runtime, id, ctx.clock)


def _nothing(_: Generation) -> None:
    return None
