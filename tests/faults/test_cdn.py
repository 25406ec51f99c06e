"""Images that the CDN does not give, or gives wrong: what passes heals by itself, what does not is told and retried."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from pydantic import ByteSize

from runware_provider.types import GenerationState
from tests.artifacts.cdn import Cdn, body
from tests.faults.staged import MovedClock, all_stored, balanced, everything_fired, for_prompts, idle, made_of, stored
from tests.service import JsonObject, Service, a_service, error_codes, images, until

LIMIT = ByteSize(400_000)

PASSING: dict[str, JsonObject] = {
    "404": {"do": "status", "status": 404},
    "408": {"do": "status", "status": 408},
    "429": {"do": "status", "status": 429, "retry_after": 2},
    "500": {"do": "status", "status": 500},
    "502": {"do": "status", "status": 502},
    "503": {"do": "status", "status": 503, "retry_after": 1},
    "stalled in the middle": {"do": "stall", "after_bytes": 1000, "seconds": 0.1},
    "short of its length": {"do": "truncate", "how": "length"},
    "short of its last chunk": {"do": "truncate", "how": "chunked"},
    "closed in the middle": {"do": "truncate", "how": "close"},
    "HTML": {"do": "html"},
    "HTML that claims to be an image": {"do": "html", "as_image": True},
    "empty": {"do": "empty"},
    "broken connection": {"do": "break"},
    "no answer": {"do": "hang", "seconds": 0.1},
}
"""What may be otherwise the next time."""

LASTING: dict[str, tuple[str, JsonObject]] = {
    "403": ("fetch_failed", {"do": "status", "status": 403}),
    "410": ("fetch_failed", {"do": "status", "status": 410}),
    "too large, and says so": ("content_rejected", {"do": "oversize", "size_bytes": 500_000}),
    "too large, and does not say so": (
        "content_rejected",
        {"do": "oversize", "size_bytes": 500_000, "declared": False},
    ),
    "a decompression bomb": ("content_rejected", {"do": "bomb"}),
    "a redirect to the inside": ("content_rejected", {"do": "redirect"}),
}
"""What is no better the next time, and the error it shows as."""

HARMLESS: dict[str, JsonObject] = {
    "slow": {"do": "slow", "seconds": 0.2},
    "wrong Content-Type": {"do": "content_type"},
}
"""What is no fault of the image's."""


async def test_a_fault_of_the_cdn_that_passes_heals_by_itself(tmp_path: Path) -> None:
    """Each image fails twice, then comes; nobody has to do anything, and the client has seen no error."""
    cases = {name: [{**rule, "first": 2, "per": "image"}] for name, rule in PASSING.items()}
    cases |= {name: [rule] for name, rule in HARMLESS.items()}
    clock = MovedClock()
    async with a_service(tmp_path, *for_prompts(cases, "cdn"), clock=clock) as service:
        states = list((await made_of(service, cases, 2)).values())
        for _ in range(2):
            await _tried(service, states)
            clock.pass_time(service, timedelta(seconds=4))
        done = await all_stored(service, states)

        everything_fired(service)
        for name, state in zip(cases, done, strict=True):
            balanced(service, f"CDN: {name}", [state])
            assert "error" not in {entry.event for entry in state.timeline}, name


async def _tried(service: Service, states: list[GenerationState]) -> None:
    """Wait until all their results are known and no fetch is under way."""
    for state in states:
        await until(
            service.ctx, state.id, lambda state: [entry.event for entry in state.timeline].count("delivered") == 2
        )
    await idle(service)


async def test_a_fault_of_the_cdn_that_stays_shows_and_is_tried_on(tmp_path: Path) -> None:
    """After STORE_PATIENCE the client knows; hours later the image comes all the same and replaces the error."""
    # What is answered wrong, but answered, is tried briefly only.
    lasting = {name: rule for name, rule in PASSING.items() if name not in {"404", "empty"} and "HTML" not in name}
    clock = MovedClock()
    plan = for_prompts({name: [rule] for name, rule in lasting.items()}, "cdn")
    async with a_service(tmp_path, *plan, clock=clock) as service:
        states = await made_of(service, {name: [] for name in lasting}, 1)
        await clock.pass_until(service, timedelta(minutes=1), lambda: _settled(service, states))
        for name, state in states.items():
            shown = await service.ctx.runtime.get_state(state.id)
            assert (shown.status, error_codes(shown)) == ("failed", ["fetch_failed"]), name
        service.stage()
        await idle(service)
        clock.pass_time(service, timedelta(hours=3))
        done = await all_stored(service, states.values())

        for name, state in zip(states, done, strict=True):
            balanced(service, f"CDN: {name}", [state])
            assert error_codes(state) == [], name


async def _settled(service: Service, states: dict[str, GenerationState]) -> bool:
    now = [await service.ctx.runtime.get_state(state.id) for state in states.values()]
    return all(state.settled for state in now)


async def test_an_image_that_is_refused_is_told_and_retry_brings_it(tmp_path: Path) -> None:
    """It would be the same again, so it is not tried on; a person may, when the cause is mended, at no cost."""
    plan = for_prompts({name: [rule] for name, (_, rule) in LASTING.items()}, "cdn")
    short = timedelta(seconds=0.2)
    async with a_service(tmp_path, *plan, store_patience=short, max_image_bytes=LIMIT) as service:
        states = await made_of(service, {name: [] for name in LASTING}, 2)
        for name, (code, _) in LASTING.items():
            state = await until(service.ctx, states[name].id, lambda state: state.settled and len(state.outputs) == 2)
            assert (state.status, error_codes(state)) == ("failed", [code] * 2), name
        everything_fired(service)
        service.stage()
        for state in states.values():
            await service.post(f"/v1/generations/{state.id}/retry")
        done = await all_stored(service, states.values())

        for name, state in zip(LASTING, done, strict=True):
            balanced(service, f"CDN, until somebody retries: {name}", [state])


@asynccontextmanager
async def expired(tmp_path: Path) -> AsyncIterator[tuple[Service, GenerationState]]:
    """A generation whose image's address has expired: it is answered 403, whoever asks."""
    cdn = Cdn()
    await cdn.start()
    dead = cdn.says(body(b"URL expired", "403 Forbidden"))
    rule = {"on": "result", "do": "url", "url": dead}
    try:
        async with a_service(tmp_path, rule, store_patience=timedelta(seconds=0.2)) as service:
            state = await service.create()
            yield service, await until(service.ctx, state.id, lambda state: state.settled)
    finally:
        await cdn.stop()


async def test_an_address_that_has_expired_is_asked_for_anew(tmp_path: Path) -> None:
    """`retry` of a failed output fetches its address; when that is dead, getTaskDetails may know a living one."""
    async with expired(tmp_path) as (service, state):
        assert error_codes(state) == ["fetch_failed"]
        assert service.simulator is not None
        asked = service.simulator.ledger.totals.details
        entry = service.simulator.ledger.entry(str(state.task_uuid))
        assert entry is not None
        [result] = entry.results
        picture = f"{result.image_uuid}.{result.picture.format.lower().replace('jpeg', 'jpg')}"
        result.url = f"{service.simulator.origin}/image/ws/2/ii/{picture}"
        await service.post(f"/v1/generations/{state.id}/retry")
        healed = await stored(service, state, 1)

        assert service.simulator.ledger.totals.details > asked
        assert [image.item["imageURL"] for image in images(healed)] != [result.url]
        balanced(service, "retry when the address has expired", [healed])


async def test_an_address_that_stays_dead_stays_an_error(tmp_path: Path) -> None:
    """`retry` says what it found, and neither loops nor pays."""
    async with expired(tmp_path) as (service, state):
        version = state.version
        await service.post(f"/v1/generations/{state.id}/retry")
        again = await until(service.ctx, state.id, lambda state: state.version > version + 1 and state.settled)

        assert error_codes(again) == ["fetch_failed"]
        assert service.billed(again) == 1
