"""Creating generations: state before money, one bill whatever happens, and an answer that says what is known."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from runware_provider.context import Context
from runware_provider.create import GenerationFailed, create_generation, generate, wait_for
from runware_provider.durable import Birth
from runware_provider.errors import (
    ApiRejected,
    ConfigurationError,
    GenerationNotFound,
    IdempotencyConflict,
    InvalidArgs,
    NetworkError,
    TooManyInFlight,
)
from runware_provider.stub import get_generation_stub
from runware_provider.types import CreateArgs, GenerationArgs, GenerationState
from tests.conformance.builders import reads
from tests.service import (
    JsonObject,
    RawRunware,
    Request,
    a_context,
    a_service,
    acknowledges,
    an_input,
    born,
    eventually,
    hangs_up,
    images,
    says,
    says_nothing,
    some_args,
    until,
)

SOON = timedelta(seconds=1)


async def all_ids(ctx: Context) -> list[UUID]:
    """Every generation there is."""
    return list(await ctx.runtime.ids())


def refusal_of(args: CreateArgs, ctx: Context) -> Any:
    """What `create_generation` raises, to be awaited."""

    async def raised() -> InvalidArgs:
        with pytest.raises(InvalidArgs) as caught:
            await create_generation(ctx, args)
        return caught.value

    return raised()


# State before money


async def test_the_state_is_committed_before_runware_hears_of_the_task(tmp_path: Path) -> None:
    """Whatever Runware does with the request, there is something to receive the result."""
    seen: list[GenerationState] = []
    async with RawRunware(says_nothing) as raw, a_context(tmp_path, runware_url=raw.url) as ctx:

        async def looks_first(request: Request, writer: asyncio.StreamWriter) -> None:
            seen.extend([await ctx.runtime.get_state(each) for each in await all_ids(ctx)])
            await acknowledges(request, writer)

        raw.replies = [looks_first]
        state = await create_generation(ctx, some_args())
        sent = raw.asked[0].task_uuid

    assert [(each.id, each.dispatch) for each in seen] == [(state.id, "sending")]
    assert sent == str(state.task_uuid) == str(seen[0].task_uuid)


async def test_a_webhook_that_comes_before_the_answer_to_the_dispatch_finds_its_generation(tmp_path: Path) -> None:
    """The acknowledgement waits here until the result has been delivered."""
    async with a_service(tmp_path, {"on": "dispatch", "do": "webhook_first"}) as service:
        state = await service.made()

        assert len(images(state)) == 1
        assert service.billed(state) == 1


async def test_only_what_the_caller_set_is_sent_and_what_is_ours(tmp_path: Path) -> None:
    """Fields that we do not know pass through untouched; nothing is filled in, nothing renamed."""
    given = {
        "positivePrompt": "ü\u2028🙂",
        "model": "runware:101@1",
        "brandNew": {"deep": [1, None, 1.5, True]},
        "seed": 0,
    }
    async with (
        RawRunware(acknowledges) as raw,
        a_context(tmp_path, runware_url=raw.url, public_url="https://images.example.com") as ctx,
    ):
        state = await create_generation(ctx, CreateArgs(input=given, metadata={"project": "not for Runware"}))
        (task,) = raw.asked[0].tasks

        assert task == given | {
            "taskType": "imageInference",
            "taskUUID": str(state.task_uuid),
            "webhookURL": ctx.webhook_url(state.id),
            "deliveryMethod": "async",
            "outputType": "URL",
            "includeCost": True,
        }
        assert state.input == given


async def test_without_a_public_url_no_webhook_is_asked_for(tmp_path: Path) -> None:
    """Runware is asked for the results instead."""
    async with RawRunware(acknowledges) as raw, a_context(tmp_path, runware_url=raw.url) as ctx:
        await create_generation(ctx, some_args())

        assert "webhookURL" not in raw.asked[0].tasks[0]


# What a caller may ask for


@pytest.mark.parametrize(
    "field",
    ["taskType", "taskUUID", "webhookURL", "deliveryMethod", "outputType", "includeCost", "uploadEndpoint"],
)
async def test_a_reserved_field_is_refused_by_name(tmp_path: Path, field: str) -> None:
    """It is ours to set: with the caller's, results would go elsewhere or not be kept."""
    async with a_context(tmp_path) as ctx:
        reserved: dict[str, Any] = {field: "x"}
        refusal = await refusal_of(some_args(**reserved), ctx)

        assert [name for name, _ in refusal.issues] == [f"input.{field}"]
        assert await all_ids(ctx) == []


async def test_every_wrong_field_is_named_and_nothing_is_kept(tmp_path: Path) -> None:
    """The caller mends all of them at once; Runware is not even asked."""
    wrong: list[tuple[JsonObject, str]] = [
        ({"width": 0}, "input.width"),
        ({"width": "512"}, "input.width"),
        ({"height": -64}, "input.height"),
        ({"model": ""}, "input.model"),
        ({"model": None}, "input.model"),
        ({"positivePrompt": 7}, "input.positivePrompt"),
        ({"numberResults": 0}, "input.numberResults"),
        ({"numberResults": 101}, "input.numberResults"),
        ({"numberResults": True}, "input.numberResults"),
        ({"outputFormat": "BMP"}, "input.outputFormat"),
        ({"ttl": 59}, "input.ttl"),
        ({"seed": -1}, "input.seed"),
        ({"seed": float("nan")}, "input.seed"),
        ({"CFGScale": float("inf")}, "input.CFGScale"),
        ({"other": float("nan")}, "input"),
        ({"other": "\ud800"}, "input"),
        ({"other": [[[]]] * 2 and _nested(100)}, "input"),
    ]
    async with a_context(tmp_path) as ctx:
        for fields, expected in wrong:
            refusal = await refusal_of(some_args(**fields), ctx)
            assert expected in [name for name, _ in refusal.issues], fields
        both = await refusal_of(some_args(width=0, taskUUID="x"), ctx)
        assert {name for name, _ in both.issues} == {"input.width", "input.taskUUID"}
        assert await all_ids(ctx) == []


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


async def test_labels_are_bounded(tmp_path: Path) -> None:
    """They are the caller's own and stand in an index."""
    async with a_context(tmp_path) as ctx:
        many = await refusal_of(some_args(metadata={str(number): "x" for number in range(33)}), ctx)
        long = await refusal_of(some_args(metadata={"": "x", "k" * 65: "x", "v": "x" * 513}), ctx)

    assert [name for name, _ in many.issues] == ["metadata"]
    assert len(long.issues) == 3


async def test_labels_come_back_with_the_state(tmp_path: Path) -> None:
    """In the state and in the read model."""
    async with a_service(tmp_path) as service:
        state = await service.made(metadata={"project": "postcards", "größe": "🙂"})

        assert state.metadata == {"project": "postcards", "größe": "🙂"}
        summary = await service.ctx.projection.get(state.id)
        assert summary is not None
        assert summary.metadata == state.metadata


async def test_without_a_key_nothing_is_accepted(tmp_path: Path) -> None:
    """It could not be sent, so it must not be promised; the message says what to do."""
    async with a_context(tmp_path, runware_api_key=None) as ctx:
        with pytest.raises(ConfigurationError, match="RUNWARE_API_KEY"):
            await create_generation(ctx, some_args())

        assert await all_ids(ctx) == []


# What is answered


async def test_an_accepted_generation_is_answered_with_its_state(tmp_path: Path) -> None:
    """As soon as Runware has said so, not when the images are there."""
    async with a_service(tmp_path, {"on": "task", "do": "stuck"}) as service:
        state = await service.create(numberResults=3)

        assert (state.status, state.dispatch) == ("running", "accepted")
        assert (state.counts.expected, state.counts.missing) == (3, 3)
        assert state.dispatched_at is not None


async def test_a_refusal_of_runwares_is_the_generations_error(tmp_path: Path) -> None:
    """With Runware's own objects, `min`, `max` and all."""
    async with a_service(tmp_path) as service:
        state = await service.create(width=100)

        assert (state.status, state.dispatch) == ("failed", "refused")
        assert isinstance(state.error, ApiRejected)
        assert state.error.errors[0]["parameter"] == "width"
        assert {"min", "max", "multiplier"} <= set(state.error.errors[0])
        assert service.billed(state) == 0


async def test_a_wrong_key_is_the_generations_error(tmp_path: Path) -> None:
    """Nothing is tried again: only the operator can mend it."""
    async with a_service(tmp_path, options={"api_keys": frozenset({"another"})}) as service:
        state = await service.create()

        assert isinstance(state.error, ApiRejected)
        assert state.error.status == 401
        assert (await service.settled(state.id)).status == "failed"


async def test_an_unknown_outcome_is_answered_as_what_it_is(tmp_path: Path) -> None:
    """The caller has an id and no error: the generation may well succeed."""
    async with RawRunware(hangs_up) as raw, a_context(tmp_path, runware_url=raw.url) as ctx:
        state = await create_generation(ctx, some_args())

    assert (state.status, state.dispatch, state.error) == ("running", "unknown", None)


async def test_a_slow_runware_is_not_waited_for_longer_than_the_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5 s, in truth; the generation goes on."""
    monkeypatch.setattr("runware_provider.create.DISPATCH_WAIT", timedelta(milliseconds=50))
    async with a_service(tmp_path, {"on": "dispatch", "do": "slow", "seconds": 0.3}, delivery="poll") as service:
        state = await service.create()

        assert (state.status, state.dispatch) == ("running", "sending")
        assert len(images(await service.settled(state.id))) == 1


@pytest.mark.parametrize("traced", [False, True])
async def test_a_wait_counts_from_when_the_request_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, traced: bool
) -> None:
    """What Runware's answer takes is part of it, whether anybody listens to the traces or not."""
    monkeypatch.setattr("runware_provider.create.DISPATCH_WAIT", timedelta(seconds=0.5))
    monkeypatch.setattr("runware_provider.create.listening", lambda: traced)
    faults: list[JsonObject] = [{"on": "task", "do": "stuck"}, {"on": "dispatch", "do": "slow", "seconds": 0.4}]
    async with a_service(tmp_path, *faults) as service:
        began = asyncio.get_running_loop().time()
        state = await create_generation(service.ctx, some_args(), wait=SOON)

        assert 0.9 <= asyncio.get_running_loop().time() - began < 1.3  # and not 1.4
        assert (state.status, state.dispatch) == ("running", "accepted")


async def test_a_cancelled_caller_leaves_the_generation_going(tmp_path: Path) -> None:
    """Dispatching is the runtime's: who hangs up after it was sent has paid, and gets what was paid for."""
    async with a_service(tmp_path, {"on": "dispatch", "do": "slow", "seconds": 0.2}, delivery="poll") as service:
        calling = asyncio.create_task(service.create())
        assert service.simulator is not None
        totals = service.simulator.ledger.totals
        await eventually(lambda: totals.billed == 1)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        (generation_id,) = await all_ids(service.ctx)
        state = await service.settled(generation_id)

        assert len(images(state)) == 1
        assert service.billed(state) == 1


async def test_a_caller_that_is_cancelled_at_once_pays_once_or_not_at_all(tmp_path: Path) -> None:
    """At whatever step it is cancelled: what was committed is finished, what was not has left no trace."""
    async with a_service(tmp_path) as service:
        assert service.simulator is not None
        for steps in range(12):
            calling = asyncio.create_task(service.create(key=f"key {steps}"))
            for _ in range(steps):
                await asyncio.sleep(0)
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)
            state = await service.made(key=f"key {steps}")
            assert service.billed(state) == 1, steps

        assert service.simulator.ledger.totals.billed == 12


# Once and only once


async def test_the_same_key_and_input_give_the_same_generation(tmp_path: Path) -> None:
    """A client that lost our answer asks again and does not pay again; labels belong to the input."""
    async with a_service(tmp_path) as service:
        first = await service.made(key="k", metadata={"a": "b"})
        again = await service.create(key="k", metadata={"a": "b"})

        assert again == first
        assert service.simulator is not None
        assert service.simulator.ledger.totals.billed == 1


async def test_the_order_of_fields_makes_no_other_input(tmp_path: Path) -> None:
    """JSON objects have none."""
    async with a_service(tmp_path) as service:
        first = await create_generation(service.ctx, CreateArgs(input=an_input(a=1, b=2), idempotency_key="k"))
        again = await create_generation(
            service.ctx, CreateArgs(input=dict(reversed(an_input(a=1, b=2).items())), idempotency_key="k")
        )

        assert first.id == again.id


async def test_the_same_key_for_another_input_is_a_conflict(tmp_path: Path) -> None:
    """Answering with somebody else's picture would be worse than an error."""
    async with a_service(tmp_path) as service:
        await service.create(key="k")

        for changes in ({"seed": 7}, {"metadata": {"a": "b"}}):
            with pytest.raises(IdempotencyConflict):
                await service.create(key="k", **changes)
        assert service.simulator is not None
        assert service.simulator.ledger.totals.billed == 1


async def test_callers_with_one_key_at_the_same_time_share_one_generation(tmp_path: Path) -> None:
    """The key is committed with the generation, not looked up before."""
    async with a_service(tmp_path) as service:
        states = await asyncio.gather(*(service.create(key="k") for _ in range(20)))
        await service.settled(states[0].id)

        assert len({state.id for state in states}) == 1
        assert service.simulator is not None
        assert service.simulator.ledger.totals.billed == 1


async def test_a_key_is_remembered_over_a_restart(tmp_path: Path) -> None:
    """The crash between is just when a client asks again."""
    async with RawRunware(acknowledges) as raw:
        async with a_context(tmp_path, runware_url=raw.url) as ctx:
            first = await create_generation(ctx, some_args(key="k"))
        async with a_context(tmp_path, runware_url=raw.url) as ctx:
            again = await create_generation(ctx, some_args(key="k"))

        assert first.id == again.id
        assert [request for request in raw.asked if request.tasks[0]["taskType"] == "imageInference"] == raw.asked[:1]


async def test_the_key_of_a_deleted_generation_makes_no_new_one(tmp_path: Path) -> None:
    """A retry that comes late must not bring back, and pay for, what was thrown away."""
    async with a_service(tmp_path) as service:
        state = await service.made(key="k")
        await get_generation_stub(service.ctx, state.id).tell("delete")

        with pytest.raises(IdempotencyConflict, match="deleted"):
            await service.create(key="k")


# Not more than allowed


async def test_no_more_run_at_once_than_allowed(tmp_path: Path) -> None:
    """Also when all ask in the same moment; who is refused learns when to come again, and nothing is kept of it."""
    async with a_service(tmp_path, {"on": "task", "do": "stuck"}, max_in_flight=3) as service:
        results = await asyncio.gather(*(service.create() for _ in range(30)), return_exceptions=True)

        refused = [each for each in results if isinstance(each, TooManyInFlight)]
        assert len(refused) == 27
        assert all(each.retry_after > 0 for each in refused)
        assert len(await all_ids(service.ctx)) == 3
        assert service.simulator is not None
        assert service.simulator.ledger.totals.billed == 3


async def test_a_repeat_is_answered_even_when_no_more_may_run(tmp_path: Path) -> None:
    """It asks for nothing new."""
    async with a_service(tmp_path, {"on": "task", "do": "stuck"}, max_in_flight=1) as service:
        first = await service.create(key="k")
        again = await service.create(key="k")

        assert first.id == again.id


async def test_what_is_complete_makes_room(tmp_path: Path) -> None:
    """Only what runs is counted."""
    async with a_service(tmp_path, max_in_flight=1) as service:
        states = [await service.made() for _ in range(3)]

        assert [len(images(state)) for state in states] == [1, 1, 1]


# Sent again


async def test_a_refusal_that_passes_is_sent_again_under_the_same_id_and_billed_once(tmp_path: Path) -> None:
    """Runware had no capacity: it did not take the task, and the next attempt is the same task."""
    fault = {"on": "dispatch", "do": "status", "status": 503, "first": 1}
    async with a_service(tmp_path, fault) as service:
        state = await service.made()

        assert service.simulator is not None
        entry = service.simulator.ledger.entry(str(state.task_uuid))
        assert entry is not None
        assert (entry.dispatches, entry.billed) == (2, 1)
        assert state.error is None
        assert len(images(state)) == 1


async def test_a_wish_to_wait_is_followed(tmp_path: Path) -> None:
    """`Retry-After` is longer than the backoff would be; nothing is sent before."""
    async with (
        RawRunware(says({"errors": [{"code": "busy"}]}, "429 Too Many Requests", Retry_After="1000")) as raw,
        a_context(tmp_path, runware_url=raw.url) as ctx,
    ):
        creating = asyncio.create_task(create_generation(ctx, some_args()))
        await eventually(lambda: len(raw.asked) == 1)
        (generation_id,) = await all_ids(ctx)
        state = await until(ctx, generation_id, lambda state: state.dispatch == "queued")
        creating.cancel()
        await asyncio.gather(creating, return_exceptions=True)

        note = next(entry.note for entry in reversed(state.timeline) if entry.event == "queued")
        assert note == "api_rejected; again in 1000.0 s"


async def test_a_runware_that_is_away_until_the_deadline_is_the_generations_error(tmp_path: Path) -> None:
    """Nothing was accepted, so nothing is charged, and the client is told why."""
    async with a_context(tmp_path, runware_url="http://127.0.0.1:9/v1", deadline=SOON) as ctx:
        state = await create_generation(ctx, some_args())

        assert (state.status, state.dispatch) == ("failed", "refused")
        assert isinstance(state.error, NetworkError)
        assert state.error.attempts >= 1


# The outcome that nobody knows


async def test_accepted_but_the_answer_lost_is_billed_once_and_kept(tmp_path: Path) -> None:
    """The task runs at Runware: its webhook comes, and it is never sent again."""
    for fault in ({"do": "break", "accept": True}, {"do": "status", "status": 504, "body": "html", "accept": True}):
        async with a_service(
            tmp_path / str(fault["do"]), {"on": "dispatch", **fault}, patience=timedelta(milliseconds=50)
        ) as service:
            state = await service.made()

            assert len(images(state)) == 1
            assert service.billed(state) == 1


async def test_accepted_but_the_answer_lost_without_webhooks_is_found_by_asking(tmp_path: Path) -> None:
    """Both the acknowledgement and every webhook are lost: `getResponse` knows it before patience ends."""
    async with RawRunware(says_nothing) as raw, a_context(tmp_path, runware_url=raw.url) as ctx:

        async def breaks_then_knows(request: Request, writer: asyncio.StreamWriter) -> None:
            if request.tasks[0]["taskType"] == "imageInference":
                await hangs_up(request, writer)
            else:
                row = {"taskUUID": request.task_uuid, "imageUUID": "i", "imageURL": "http://127.0.0.1:9/i.jpg"}
                await says({"data": [row | {"status": "success"}]})(request, writer)

        raw.replies = [breaks_then_knows]
        state = await create_generation(ctx, some_args())
        assert state.dispatch == "unknown"
        await get_generation_stub(ctx, state.id).tell("retry")  # asks at once
        state = await until(ctx, state.id, lambda state: state.dispatch == "accepted")

        sent = [request for request in raw.asked if request.tasks[0]["taskType"] == "imageInference"]
        assert len(sent) == 1


async def test_what_never_arrived_is_sent_again_once_patience_is_over_and_runware_knows_nothing(tmp_path: Path) -> None:
    """Under the same id. Before, it could be running unseen; after, two questions have said no."""
    fault = {"on": "dispatch", "do": "break", "accept": False, "first": 1}
    async with a_service(tmp_path, fault, patience=timedelta(milliseconds=100)) as service:
        state = await service.create()
        assert state.dispatch == "unknown"
        state = await service.settled(state.id)

        assert len(images(state)) == 1
        assert service.simulator is not None
        entry = service.simulator.ledger.entry(str(state.task_uuid))
        assert entry is not None
        assert (entry.dispatches, entry.billed) == (2, 1)
        assert service.simulator.ledger.totals.details >= 1


async def test_an_answer_that_cannot_be_read_is_no_leave_to_send_again(tmp_path: Path) -> None:
    """A proxy that answers 200 with a page has not looked for the task."""
    async with (
        RawRunware(says_nothing) as raw,
        a_context(tmp_path, runware_url=raw.url, patience=timedelta(milliseconds=1)) as ctx,
    ):

        async def breaks_then_babbles(request: Request, writer: asyncio.StreamWriter) -> None:
            if request.tasks[0]["taskType"] == "imageInference":
                await hangs_up(request, writer)
            else:
                await says(b"<html>Welcome</html>")(request, writer)

        raw.replies = [breaks_then_babbles]
        state = await create_generation(ctx, some_args())
        for questions in (1, 2):
            await get_generation_stub(ctx, state.id).tell("retry")  # asks at once
            await eventually(lambda: len(raw.asked) > questions)  # noqa: B023  awaited in the loop

        assert [request.tasks[0]["taskType"] for request in raw.asked].count("imageInference") == 1
        assert (await ctx.runtime.get_state(state.id)).dispatch == "unknown"


async def test_a_process_that_died_while_sending_does_not_send_again_at_once(tmp_path: Path) -> None:
    """Its lease is found at the next start: bytes may have left, so the outcome is unknown."""
    async with a_context(tmp_path, work=False) as ctx:
        state = await born(ctx)
        assert await get_generation_stub(ctx, state.id).record_dispatching(1)

    async with RawRunware(acknowledges) as raw, a_context(tmp_path, runware_url=raw.url) as ctx:
        state = await until(ctx, state.id, lambda state: state.dispatch == "unknown")

        assert [request for request in raw.asked if request.tasks[0]["taskType"] == "imageInference"] == []


async def test_a_process_that_died_before_sending_sends(tmp_path: Path) -> None:
    """The generation was promised, and no lease was taken."""
    async with a_context(tmp_path, work=False) as ctx:
        state = await born(ctx)

    async with RawRunware(acknowledges) as raw, a_context(tmp_path, runware_url=raw.url) as ctx:
        await until(ctx, state.id, lambda state: state.dispatch == "accepted")

        assert [request.task_uuid for request in raw.asked[:1]] == [str(state.task_uuid)]


# The one-liner


async def test_generate_waits_and_returns_the_stored_images(tmp_path: Path) -> None:
    """For scripts: the bytes are in the store when it returns, and the row is in the read model."""
    async with a_service(tmp_path, delivery="poll") as service:
        made = await generate(service.ctx, some_args(numberResults=2))
        contents = [await image.read() for image in made]

        assert [len(content) for content in contents] == [image.output.size_bytes for image in made]
        assert all(content.startswith(b"\xff\xd8\xff") for content in contents)
        page = await service.get("/v1/generations")
        assert len(page.json["items"][0]["artifacts"]) == 2


async def test_generate_says_why_there_is_no_image(tmp_path: Path) -> None:
    """The state is with the exception."""
    async with a_service(tmp_path) as service:
        with pytest.raises(GenerationFailed, match="api_rejected") as caught:
            await generate(service.ctx, some_args(width=100))

        assert caught.value.state.status == "failed"


async def test_generate_notices_that_its_generation_was_deleted(tmp_path: Path) -> None:
    """It does not wait for what nobody makes any more."""
    async with a_service(tmp_path, {"on": "task", "do": "stuck"}) as service:
        making = asyncio.create_task(generate(service.ctx, some_args()))
        await eventually(lambda: reads(service.ctx.runtime, lambda stats: stats.running == 1))
        (generation_id,) = await all_ids(service.ctx)
        await until(service.ctx, generation_id, lambda state: state.dispatch == "accepted")
        await get_generation_stub(service.ctx, generation_id).tell("delete")

        with pytest.raises(GenerationNotFound):
            await asyncio.wait_for(making, 5)


# Waiting


async def test_waiting_ends_when_the_time_is_over(tmp_path: Path) -> None:
    """With the state as it then is."""
    async with a_context(tmp_path, work=False) as ctx:
        state = await born(ctx)

        waited = await wait_for(ctx, GenerationArgs(generation_id=state.id), _never, timedelta(milliseconds=20))

    assert waited == state


async def test_waiting_wakes_with_every_commit(tmp_path: Path) -> None:
    """Nothing is polled: the version that was committed wakes who waits."""
    async with a_context(tmp_path, work=False) as ctx:
        state = await born(ctx)
        args = GenerationArgs(generation_id=state.id)
        wait: Callable[[], Any] = lambda: wait_for(ctx, args, lambda now: now.dispatch == "sending", SOON)  # noqa: E731
        waiting = [asyncio.create_task(wait()) for _ in range(5)]
        await asyncio.sleep(0)
        await get_generation_stub(ctx, state.id).record_dispatching(1)

        assert {each.dispatch for each in await asyncio.gather(*waiting)} == {"sending"}


async def test_waiting_for_what_does_not_exist_is_an_error(tmp_path: Path) -> None:
    """Never an endless wait."""
    async with a_context(tmp_path, work=False) as ctx:
        with pytest.raises(GenerationNotFound):
            await wait_for(ctx, GenerationArgs(generation_id=UUID(int=7)), _never, SOON)


def _never(_: GenerationState) -> bool:
    return False


async def test_the_same_birth_twice_is_one_generation(tmp_path: Path) -> None:
    """After `StateUnavailable` nobody knows whether it was kept: the call may be repeated."""
    async with a_context(tmp_path, work=False) as ctx:
        state = await born(ctx)
        birth = Birth(
            id=state.id,
            task_uuid=state.task_uuid,
            request=await ctx.runtime.get_request(state.id),
            expected=1,
            now=state.created_at,
            deadline=state.deadline,
        )

        created = await ctx.runtime.create(birth)

        assert (created.id, created.created) == (state.id, False)
