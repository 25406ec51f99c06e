"""Durable runtimes: they keep generations, the tasks these ask for, and the alarms they set.

A runtime knows nothing of HTTP, Runware or images. What the protocol promises is held by one conformance suite that
every engine passes.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol, TypeVar
from uuid import UUID

import msgspec

from runware_provider.generation import Generation
from runware_provider.types import Ask, GenerationState, Order, Request, Task

T = TypeVar("T")

Step = Callable[[Generation], list[Order]]
Reply = Callable[[Generation], T]
ANSWERED, REFUSED, SETTLED, DELETED = 1, 2, 4, 8
"""Marks that a version of a generation may have, of which one can wait for several: Runware has answered its dispatch,
refused it for good; nothing more will happen; it was deleted."""

TaskKind = Literal["Dispatch", "StoreOutput", "Project", "Purge"]
TASK_KINDS: tuple[TaskKind, ...] = ("Dispatch", "StoreOutput", "Project", "Purge")

UNHEARD_PRICE_MICROS = 50_000
"""What an image is taken to cost while Runware has never said a cost: never nothing."""

MAX_ATTEMPTS = 5
"""A task that has failed this many starts, or this many times in one process, is parked."""

Flag = Literal["running", "projection_failed"]


@dataclass(frozen=True, slots=True)
class Birth:
    """A generation to be made. `idempotency`: the caller's key and a digest of the input it stands for.

    `max_in_flight`: not when so many are running already. `daily_budget_micros`: not when the day's spend, with this
    at the price of `model`, would go beyond.
    """

    id: UUID
    task_uuid: UUID
    request: Request
    expected: int
    now: datetime
    deadline: datetime
    idempotency: tuple[str, str] | None = None
    max_in_flight: int | None = None
    model: str | None = None
    daily_budget_micros: int | None = None


@dataclass(frozen=True, slots=True)
class Created:
    """`created` is False when the idempotency key had made this generation before."""

    id: UUID
    created: bool


class Assignment(msgspec.Struct, frozen=True, gc=False):
    """One task, given to a worker. `attempts`: how many starts have picked it up before."""

    number: int
    generation_id: UUID
    task: Task
    attempts: int


@dataclass(frozen=True, slots=True)
class Parked:
    """A task that nobody tries any more until a person says so."""

    number: int
    generation_id: UUID
    task: str
    error: str
    parked_at: datetime


@dataclass(frozen=True, slots=True)
class UnclaimedDelivery:
    """Something delivered that belonged to nothing here. `body` is what came, bounded."""

    number: int
    generation_id: UUID | None
    reason: str
    body: bytes
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Stats:
    """What is going on. `tasks` by kind: waiting or being performed, the oldest for `oldest_task` seconds.

    The spend is this UTC day's, with reservations. `ended`: generations that this process completed since its start,
    by status.
    """

    running: int
    projection_failed: int
    spent_today_micros: int
    tasks: Mapping[str, int]
    parked: int
    unclaimed: int
    oldest_task: float = field(default=0.0, compare=False)
    ended: Mapping[str, int] = field(default_factory=dict, compare=False)


class TryLater(Exception):
    """Raised by a worker when a task cannot be done for now and is not to blame: given again, never parked."""


class Worker(Protocol):
    """Who does what generations ask for. Any of it may be asked for twice."""

    async def perform(self, assignment: Assignment) -> None:
        """Do one task and end it, with `done=assignment` on a call or with `finish`.

        An exception, or a return without an end: the task is given again after a backoff, at most `MAX_ATTEMPTS`
        times, then parked.
        """

    def ask(self, generation_id: UUID, ask: Ask) -> None:
        """Put one question to Runware when convenient. Losing it does no harm: the alarm asks again."""


class News(Protocol):
    """What is committed while somebody follows everything. Bounded: what one does not take in time is summed up."""

    async def take(self) -> Mapping[UUID, int] | None:
        """The newest version of each generation that changed since the last time, as soon as there is one.

        None: more changed than is kept, or changes were missed; whoever wants to know must look for himself. Raises
        ServiceStopping once `release` was called.
        """


class GenerationRuntime(Protocol):
    """Keeps generations and performs what they ask for.

    *Durable*: when a method returns, what it did survives `kill -9` and loss of power. *Atomic*: a step's new state,
    the tasks it asks for, and the end of the task that brought it are one transaction. *In order*: steps on one
    generation run one at a time in order of arrival; different ones share a commit. *Isolated*: a step that raises
    keeps nothing of itself, harms nobody else's, and its exception comes to its caller. *Never early*: nothing is
    read, handed to a worker or told to a watcher before its commit. *At least once*: a task is given until it ends.
    """

    def create(self, birth: Birth) -> Awaitable[Created]:
        """Make a generation. Raises IdempotencyConflict when its key stands for another input; TooManyInFlight
        or OverBudget, but not for a key that has its generation already; StateUnavailable."""

    def call(self, generation_id: UUID, step: Step, reply: Reply[T], *, done: Assignment | None = None) -> Awaitable[T]:
        """Run `step`, commit, then return what `reply` read right after it.

        A step that changes nothing and asks for nothing commits nothing. Raises GenerationNotFound, StateUnavailable
        (it may or may not be kept: call again, steps are idempotent), and whatever `step` raises.
        """

    async def finish(self, assignment: Assignment) -> None:
        """End a task that needs no call."""

    async def get_state(self, generation_id: UUID) -> GenerationState:
        """The last committed state. Raises GenerationNotFound."""

    async def get_request(self, generation_id: UUID) -> Request:
        """What was asked for. Raises GenerationNotFound."""

    async def look(self, generation_id: UUID, reply: Reply[T]) -> T:
        """What `reply` reads of the last committed register; it changes nothing, and keeps nothing of it.

        Costs less than `get_state`: the request, which may be large, is not read. Raises GenerationNotFound,
        StateUnavailable.
        """

    async def changed(self, generation_id: UUID, *, after: int, marks: int = 0) -> int:
        """Wait until the committed version is greater than `after`, and return it.

        `marks`: only versions that have one of these count, or are deleted. Raises GenerationNotFound, and
        ServiceStopping once `release` was called.
        """

    def news(self) -> AbstractContextManager[News]:
        """Follow all generations, also new ones, whichever process changes them, until the block ends."""

    def release(self) -> None:
        """Let nobody wait for changes any more: the first step of a stop."""

    async def ready(self) -> None:
        """Raises StateUnavailable when nothing can be committed now."""

    async def ids(self, *, flag: Flag | None = None, after: UUID | None = None, limit: int = 500) -> Sequence[UUID]:
        """Generations in order of id, those with `flag` when given."""

    async def keep_unclaimed(self, generation_id: UUID | None, reason: str, body: bytes, now: datetime) -> None:
        """Keep a delivery that has nowhere to go. Bounded: the oldest make way. A repeat is kept once."""

    async def unclaimed(self, *, limit: int = 100, after: int = 0) -> Sequence[UnclaimedDelivery]:
        """The oldest first, those whose number is greater than `after`."""

    async def forget_unclaimed(self, numbers: Sequence[int]) -> None:
        """They found a home, or nobody wants them."""

    async def parked(self, *, limit: int = 100) -> Sequence[Parked]:
        """The oldest first."""

    async def unpark(self, generation_id: UUID | None = None) -> int:
        """Give parked tasks again; return how many. None means all."""

    async def secret(self, name: str, make: Callable[[], str]) -> str:
        """The secret kept under `name`, made and kept at the first call."""

    async def stats(self) -> Stats:
        """What is going on. Raises StateUnavailable when that cannot be read."""

    async def advice(self) -> Sequence[str]:
        """What an operator should change about the store, each with its remedy; empty when all is well."""

    async def check(self) -> Sequence[str]:
        """Read everything that is kept, and say what cannot be read; empty when all is well. Changes nothing."""

    def start(self, worker: Worker, *, slots: Mapping[TaskKind, int]) -> None:
        """Begin to hand out tasks, at most `slots` of a kind at once, and to call alarms; what an earlier process
        left unfinished comes first."""

    async def stop(self, *, grace: float = 10.0) -> None:
        """Hand out nothing more, let what runs finish for `grace` seconds, cancel the rest, close.

        A second time does nothing.
        """


Clock = Callable[[], datetime]
