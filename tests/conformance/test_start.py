"""What a runtime does at its start for generations that are open."""

import asyncio

from runware_provider.types import Accepted
from tests.conformance.builders import a_birth, now
from tests.conformance.engines import OpenRuntime
from tests.conformance.workers import Scribe


async def test_every_open_generation_is_looked_after_at_the_start(open_runtime: OpenRuntime) -> None:
    """Deliveries may have been lost while nobody listened; their next question would be minutes away."""
    births = [a_birth() for _ in range(50)]
    async with open_runtime() as runtime:
        for birth in births:
            await runtime.create(birth)
            await runtime.call(birth.id, lambda g: g.record_dispatching(1, now()), lambda _: None)
            await runtime.call(birth.id, lambda g: g.record_dispatch(1, Accepted(), now()), lambda _: None)
    async with open_runtime() as runtime:
        worker = Scribe(runtime)
        runtime.start(worker, slots={"Dispatch": 4, "StoreOutput": 4, "Project": 4, "Purge": 1})

        await worker.until(lambda: len({each[0] for each in worker.asked}) == 50, within=5)
        await asyncio.sleep(0)
