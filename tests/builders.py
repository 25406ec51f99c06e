"""Generations and what is said to them, in few words."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from runware_provider.errors import content_rejected, fetch_failed, storage_failed
from runware_provider.generation import Generation
from runware_provider.schedule import Policy
from runware_provider.types import (
    Accepted,
    Answer,
    Delivery,
    Failure,
    GenerationState,
    Invalid,
    NotStored,
    Order,
    Request,
    Result,
    Stored,
)

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
DEADLINE = timedelta(minutes=15)
ID = UUID("019b0000-0000-7000-8000-000000000001")
TASK = UUID("11111111-1111-4111-8111-111111111111")
REQUEST = Request({"model": "runware:101@1", "positivePrompt": "a fox"}, {"order": "7"})
POLICY = Policy()


def at(seconds: float = 0) -> datetime:
    """So many seconds after the beginning."""
    return NOW + timedelta(seconds=seconds)


def a_new_generation(
    *, expecting: int = 1, policy: Policy = POLICY, price_micros: int = 0
) -> tuple[Generation, list[Order]]:
    """Just created, with the orders it gives."""
    return Generation.init(
        id=ID,
        task_uuid=TASK,
        expected=expecting,
        now=NOW,
        deadline=NOW + DEADLINE,
        policy=policy,
        model="runware:101@1",
        price_micros=price_micros,
    )


def a_generation(*, expecting: int = 1, policy: Policy = POLICY, price_micros: int = 0) -> Generation:
    """Accepted by Runware and in the read model; nothing has come yet."""
    generation, _ = a_new_generation(expecting=expecting, policy=policy, price_micros=price_micros)
    generation.record_dispatching(1, at())
    generation.record_dispatch(1, Accepted(), at())
    generation.record_projection(generation.version, at())
    return generation


def a_result(name: str, *, url: str | None = "", cost: Any = 0.0019, task: UUID | None = TASK) -> Result:
    """One image of Runware's; `url` is made from the name unless given."""
    address = f"https://im.runware.ai/{name}.jpg" if url == "" else url
    item = {"taskUUID": str(task), "imageUUID": name, "imageURL": address, "seed": 7, "cost": cost}
    return Result(str(task) if task else None, name, address, item)


def a_failure(code: str, *, image: str | None = None, message: str = "no") -> Failure:
    """One error of Runware's, for the task or for one image."""
    return Failure(str(TASK), image, code, {"code": code, "message": message})


def an_invalid(digest: str) -> Invalid:
    """Something that is neither."""
    return Invalid(digest, ("body: not JSON",), "<html>")


def a_delivery(*facts: Result | Failure | Invalid | str, processing: bool = False) -> Delivery:
    """Facts as one webhook; a name stands for a result."""
    return Delivery(tuple(a_result(fact) if isinstance(fact, str) else fact for fact in facts), processing)


def an_answer(
    *facts: Result | Failure | str,
    asked_at: datetime = NOW,
    processing: bool = False,
    details: Delivery | None = None,
) -> Answer:
    """What `getResponse` said, and `getTaskDetails` when given."""
    return Answer(asked_at, a_delivery(*facts, processing=processing), details)


def output_id(name: str) -> UUID:
    """The id under which the result of that name stands."""
    return uuid5(ID, f"{TASK}/{name}")


def stored(name: str, *, content: str = "a") -> Stored:
    """The image of that name, kept; other `content` has another key."""
    key = f"generations/{ID}/{output_id(name)}-{content * 12}.jpg"
    return Stored(output_id(name), key, "image/jpeg", 1_000, content * 64, 512, 512)


def down(name: str, *, status: int | None = 503, url: str | None = None) -> NotStored:
    """The CDN did not give it."""
    address = url or f"https://im.runware.ai/{name}.jpg"
    return NotStored(output_id(name), address, fetch_failed(address, status, "down", attempts=1))


def refused(name: str) -> NotStored:
    """What came is not kept."""
    return NotStored(
        output_id(name), f"https://im.runware.ai/{name}.jpg", content_rejected("too_large", "larger than allowed")
    )


def full(name: str) -> NotStored:
    """The object store did not take it."""
    return NotStored(output_id(name), f"https://im.runware.ai/{name}.jpg", storage_failed("key", "no space"))


def state_of(generation: Generation) -> GenerationState:
    """What a client sees."""
    return generation.get_state(REQUEST)
