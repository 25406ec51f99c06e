"""What is kept beside generations: unclaimed deliveries, secrets, counts and lists."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from runware_provider.durable import GenerationRuntime
from runware_provider.errors import projection_failed
from runware_provider.generation import Generation
from runware_provider.types import Delivery, Order, Result
from tests.conformance.builders import a_birth, all_ids, eventually, idle, live, make, now, version
from tests.conformance.engines import OpenRuntime
from tests.conformance.workers import Scribe, slots

AT = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)


async def bodies(runtime: GenerationRuntime) -> list[bytes]:
    """What is unclaimed, the oldest first."""
    return [each.body for each in await runtime.unclaimed()]


# Unclaimed


async def test_what_belongs_to_nothing_is_kept_as_it_came(open_runtime: OpenRuntime) -> None:
    """Byte for byte, with whom it named, why, and when: it may be a paid image."""
    named, body = uuid4(), bytes(range(256))
    async with open_runtime() as runtime:
        await runtime.keep_unclaimed(named, "unknown_generation", body, AT)
        await runtime.keep_unclaimed(None, "foreign_task", b"", AT + timedelta(seconds=1))
    async with open_runtime() as runtime:
        first, second = await runtime.unclaimed()

        assert (named, "unknown_generation", body, AT) == (
            first.generation_id,
            first.reason,
            first.body,
            first.received_at,
        )
        assert (second.generation_id, second.reason, second.body) == (None, "foreign_task", b"")
        assert (await runtime.stats()).unclaimed == 2


async def test_a_repeat_is_kept_once(open_runtime: OpenRuntime) -> None:
    """Runware delivers again until it is answered; also at the same moment, and after our restart."""
    named = uuid4()
    async with open_runtime() as runtime:
        await asyncio.gather(*(runtime.keep_unclaimed(named, "unknown_generation", b"body", AT) for _ in range(10)))
    async with open_runtime() as runtime:
        await runtime.keep_unclaimed(named, "unknown_generation", b"body", AT)
        await runtime.keep_unclaimed(uuid4(), "unknown_generation", b"body", AT)

        assert await bodies(runtime) == [b"body", b"body"]
        assert (await runtime.stats()).unclaimed == 2


async def test_a_step_can_keep_what_is_not_its_own(open_runtime: OpenRuntime) -> None:
    """A result of another task that was delivered here: kept in the same commit, though the register is unchanged."""
    birth = a_birth()
    foreign = Delivery((Result(str(uuid4()), "image", "https://im.runware.ai/x.jpg", {"imageUUID": "image"}),))
    async with open_runtime() as runtime:
        await runtime.create(birth)
        await runtime.call(birth.id, lambda generation: generation.record_webhook(foreign, now()), version)
        [kept] = await runtime.unclaimed()

        assert (birth.id, "foreign_task", b'{"data": [{"imageUUID": "image"}]}') == (
            kept.generation_id,
            kept.reason,
            kept.body,
        )


async def test_what_found_a_home_is_forgotten(open_runtime: OpenRuntime) -> None:
    """Those and no others; unknown numbers do no harm."""
    async with open_runtime() as runtime:
        await asyncio.gather(*(runtime.keep_unclaimed(None, "r", b"%d" % number, AT) for number in range(10)))
        kept = await runtime.unclaimed()
        await runtime.forget_unclaimed([each.number for each in kept if int(each.body) % 2] + [999_999])
        await runtime.forget_unclaimed([])

        assert [b"%d" % number for number in range(0, 10, 2)] == await bodies(runtime)
        assert (await runtime.stats()).unclaimed == 5
        assert len(await runtime.unclaimed(limit=3)) == 3


async def test_what_is_kept_after_it_was_forgotten_is_kept(open_runtime: OpenRuntime) -> None:
    """A delivery that comes again at the moment at which its first copy is forgotten: it was that copy, or is kept."""
    async with open_runtime() as runtime:
        await runtime.keep_unclaimed(None, "r", b"body", AT)
        [kept] = await runtime.unclaimed()
        await asyncio.gather(
            runtime.forget_unclaimed([kept.number]),
            runtime.keep_unclaimed(None, "r", b"body", AT),
        )

        left = await bodies(runtime)
        assert left in ([], [b"body"])  # two connections of one database: either may be the first
        assert (await runtime.stats()).unclaimed == len(left)
        await runtime.keep_unclaimed(None, "r", b"body", AT)
        assert await bodies(runtime) == [b"body"]


async def test_the_count_of_unclaimed_holds_while_some_come_and_some_go(open_runtime: OpenRuntime) -> None:
    """`stats` is from memory; it must not drift from what is kept, whoever was cancelled meanwhile."""
    async with open_runtime() as runtime:
        pending: list[asyncio.Future[None]] = []
        for number in range(60):
            pending.append(asyncio.ensure_future(runtime.keep_unclaimed(None, "r", b"%d" % number, AT)))
            if number % 3 == 0:
                some = [each.number for each in await runtime.unclaimed(limit=2)]
                forgetting = asyncio.ensure_future(runtime.forget_unclaimed(some))
                pending.append(forgetting)
                for _ in range(number % 7):
                    await asyncio.sleep(0)
                if number % 9 == 0:
                    forgetting.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await runtime.keep_unclaimed(None, "r", b"last", AT)

        assert len(await runtime.unclaimed()) == (await runtime.stats()).unclaimed


# Secrets


async def test_a_secret_is_made_once(open_runtime: OpenRuntime) -> None:
    """All who ask, at once or after a restart, get the same one."""
    made: list[str] = []

    def make_one() -> str:
        made.append(f"secret {len(made)}")
        return made[-1]

    async with open_runtime() as runtime:
        secrets = set(await asyncio.gather(*(runtime.secret("webhook", make_one) for _ in range(20))))

        assert len(secrets) == 1
        assert secrets != {await runtime.secret("other", make_one)}
    async with open_runtime() as runtime:
        assert secrets == {await runtime.secret("webhook", lambda: "another")}


# Lists and counts


def unprojectable(generation: Generation) -> list[Order]:
    """A step: the read model refused the present version."""
    return generation.set_error(projection_failed("no such table"), generation.version, now())


async def test_generations_are_listed_in_order_page_by_page(open_runtime: OpenRuntime) -> None:
    """Each once, also when new ones come while somebody reads."""
    async with open_runtime() as runtime:
        ids = sorted(await make(runtime, (a_birth() for _ in range(25))))
        pages = [await runtime.ids(limit=10)]
        newest = await make(runtime, [a_birth(at=now() + timedelta(seconds=10))])
        while pages[-1]:
            pages.append(await runtime.ids(after=pages[-1][-1], limit=10))

        assert [len(page) for page in pages] == [10, 10, 6, 0]
        assert ids + newest == [each for page in pages for each in page]


async def test_generations_are_listed_by_what_they_carry(open_runtime: OpenRuntime) -> None:
    """`running` ones for the operator, `projection_failed` ones for `replay --all-failed`; also after a restart."""
    async with open_runtime() as runtime:
        ids = sorted(await make(runtime, (a_birth() for _ in range(30))))
        for number, each in enumerate(ids):
            if number % 3 == 0:
                await runtime.call(each, live, version)
            if number % 5 == 0:
                await runtime.call(each, lambda g: g.replay(now()), version)
                await runtime.call(each, unprojectable, version)
    for _ in range(2):
        async with open_runtime() as runtime:
            running = [each for number, each in enumerate(ids) if number % 3]
            failed = ids[::5]

            assert running == await runtime.ids(flag="running")
            assert failed == await runtime.ids(flag="projection_failed")
            assert failed[3:5] == await runtime.ids(flag="projection_failed", after=failed[2], limit=2)
            assert ((await runtime.stats()).running, (await runtime.stats()).projection_failed) == (20, 6)


async def test_counts_are_right_after_everything(open_runtime: OpenRuntime) -> None:
    """They are kept in memory; a restart, which counts anew, finds the same."""
    async with open_runtime() as runtime:
        ids = await make(runtime, (a_birth() for _ in range(40)))

        def boom(generation: Generation) -> list[Order]:
            live(generation)
            raise RuntimeError

        calls = [runtime.call(each, boom if number % 4 == 3 else live, version) for number, each in enumerate(ids)]
        await asyncio.gather(*calls, return_exceptions=True)
        await asyncio.gather(*(runtime.call(each, unprojectable, version) for each in ids[:8]))
        await asyncio.gather(*(runtime.call(each, lambda g: g.clear_error(now()), version) for each in ids[:4]))
        await asyncio.gather(*(runtime.call(each, lambda g: g.delete(now()), version) for each in ids[20:24]))
        await runtime.keep_unclaimed(None, "r", b"body", AT)
        before = await runtime.stats()
    async with open_runtime() as runtime:
        assert before == await runtime.stats()
        assert before.running == len(await runtime.ids(flag="running"))
        assert before.projection_failed == len(await runtime.ids(flag="projection_failed"))
        assert len(await all_ids(runtime)) == 40
        runtime.start(Scribe(runtime), slots=slots())
        await eventually(lambda: idle(runtime))
        assert (await runtime.stats()).projection_failed == 0
