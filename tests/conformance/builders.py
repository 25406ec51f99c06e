"""Small words for what the tests are about: births, steps, and the invariant that ties tasks to state."""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from runware_provider.durable import Assignment, Birth, GenerationRuntime, Stats, Step
from runware_provider.generation import Generation
from runware_provider.types import (
    Accepted,
    Answer,
    Delivery,
    Dispatch,
    Order,
    Project,
    Request,
    Result,
    Stored,
    StoreOutput,
)

PATIENCE = 10.0
"""Seconds that a test waits for what should happen at once."""


def now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


def a_birth(
    *,
    expected: int = 1,
    at: datetime | None = None,
    deadline: datetime | None = None,
    key: tuple[str, str] | None = None,
    prompt: str = "a lighthouse",
) -> Birth:
    """One generation to be made, of which nothing is due before an hour."""
    at = at or now()
    return Birth(
        id=UUID(bytes=int(at.timestamp() * 1000).to_bytes(6, "big") + b"\x70" + os.urandom(9)),
        task_uuid=uuid4(),
        request=Request({"positivePrompt": prompt, "model": "runware:101@1"}, {}),
        expected=expected,
        now=at,
        deadline=deadline or at + timedelta(hours=1),
        idempotency=key,
    )


def a_delivery(*images: str) -> Delivery:
    """A webhook body with these results."""
    return Delivery(
        tuple(Result(None, image, f"https://im.runware.ai/{image}.jpg", {"imageUUID": image}) for image in images)
    )


def deliver(*images: str) -> Step:
    """The step of a webhook with these results."""
    at = now()
    return lambda generation: generation.record_webhook(a_delivery(*images), at)


def accept(generation: Generation) -> list[Order]:
    """The step of a dispatch that Runware accepted."""
    attempt = generation.register.dispatch.attempt
    first = generation.record_dispatching(attempt, now())
    return [*first, *generation.record_dispatch(attempt, Accepted(), now())]


def nothing(generation: Generation) -> list[Order]:
    """A step that changes nothing and asks for nothing."""
    return []


def version(generation: Generation) -> int:
    """A reply."""
    return generation.version


def images(generation: Generation) -> list[str]:
    """A reply: the results it knows of, in order of arrival."""
    return [record.image_uuid or "" for record in generation.register.outputs.values()]


def a_stored(output_id: UUID) -> Stored:
    """An image that was kept."""
    return Stored(output_id, f"generations/x/{output_id}.jpg", "image/jpeg", 1_000, "0" * 64, 64, 64)


def confirm(*output_ids: UUID) -> Step:
    """The step that confirms these outputs."""
    return lambda generation: generation.confirm_outputs([a_stored(each) for each in output_ids], now())


def confirm_all(generation: Generation) -> list[Order]:
    """The step that confirms whatever is being stored."""
    storing = [each for each, record in generation.register.outputs.items() if record.storing]
    return generation.confirm_outputs([a_stored(each) for each in storing], now())


def projected(generation: Generation) -> list[Order]:
    """The step that says that the read model has the present version."""
    return generation.record_projection(generation.version, now())


def live(generation: Generation) -> list[Order]:
    """A whole life in one step; the tasks it asks for are for who performs them to find done."""
    orders = accept(generation)
    orders += generation.record_webhook(
        a_delivery(*(f"image-{slot}" for slot in range(generation.register.expected))), now()
    )
    orders += confirm_all(generation)
    orders += projected(generation)
    return orders


def timed_out(generation: Generation) -> list[Order]:
    """The step of an answer, after the deadline, that knows nothing."""
    return generation.record_response(Answer(generation.register.deadline + timedelta(seconds=1), Delivery()), now())


def do(runtime: GenerationRuntime, assignment: Assignment) -> "asyncio.Future[object]":
    """What a faithful worker does with a task: the call that ends it."""
    match assignment.task:
        case Dispatch():
            step: Step = accept
        case StoreOutput(output_id=output_id):
            step = confirm(output_id)
        case Project():
            step = projected
        case _:

            def step(generation: Generation) -> list[Order]:
                return generation.record_purge(now())

    return asyncio.ensure_future(runtime.call(assignment.generation_id, step, version, done=assignment))


def owed(generation: Generation) -> Counter[str]:
    """The tasks that must exist, by kind, for a register in this state."""
    register = generation.register
    tasks: Counter[str] = Counter()
    tasks["Dispatch"] = int(register.dispatch.status == "queued" and register.dispatch.retry_at is None)
    tasks["Project"] = int(register.projection.asked)
    tasks["StoreOutput"] = sum(record.storing for record in register.outputs.values())
    tasks["Purge"] = int(register.purging and register.purged_at is None)
    return tasks


async def all_ids(runtime: GenerationRuntime) -> list[UUID]:
    """Every generation, page by page."""
    found: list[UUID] = []
    while page := await runtime.ids(after=found[-1] if found else None):
        found += page
    return found


async def tasks_match_state(runtime: GenerationRuntime) -> None:
    """Assert that there is one task for everything that some register asks for, and no other.

    But for dispatches: acceptance may be learnt from a webhook, while the task that sends has not ended.
    """
    wanted: Counter[str] = Counter()
    for each in await all_ids(runtime):
        wanted += await runtime.call(each, nothing, owed)
    there = Counter((await runtime.stats()).tasks) + Counter()  # `+` drops kinds of which there are none
    assert there["Dispatch"] >= wanted.pop("Dispatch", 0), (wanted, there)
    del there["Dispatch"]

    assert wanted == there, (wanted, there)


async def eventually(holds: Callable[[], bool | Awaitable[bool]], *, within: float = PATIENCE) -> None:
    """Wait for what no event tells: counts and the like."""
    async with asyncio.timeout(within):
        while True:
            held = holds()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(0.002)


async def reads(runtime: GenerationRuntime, holds: Callable[[Stats], bool]) -> bool:
    """Whether the runtime's counts are so."""
    return holds(await runtime.stats())


async def idle(runtime: GenerationRuntime) -> bool:
    """Whether no task is left."""
    return await reads(runtime, lambda stats: not any(stats.tasks.values()))


async def make(runtime: GenerationRuntime, births: Iterable[Birth]) -> list[UUID]:
    """Create them all at once; their ids."""
    births = list(births)
    await asyncio.gather(*(runtime.create(birth) for birth in births))
    return [birth.id for birth in births]
