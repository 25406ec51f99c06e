"""A process that serves until it is killed, or dies of a task.

    python -m tests.conformance.process crowd ADDRESS
    python -m tests.conformance.process deadly ADDRESS GENERATION_ID

Whatever a call of the runtime has returned is written to stdout, one JSON list a line: nothing else is.
"""

import asyncio
import json
import os
import signal
import sys
from uuid import UUID

from runware_provider.durable import Assignment, GenerationRuntime
from runware_provider.types import Dispatch, Project, StoreOutput
from tests.conformance.builders import a_birth, deliver, version
from tests.conformance.engines import opened
from tests.conformance.workers import Scribe, slots


def tell(*fact: object) -> None:
    """A fact that has been committed, whole or not at all: it is shorter than a pipe's atomic write."""
    os.write(1, json.dumps([str(each) for each in fact]).encode() + b"\n")


class Crowd(Scribe):
    """Does everything, and tells of it. A dispatch is answered by two images."""

    async def tell_and_do(self, assignment: Assignment) -> None:
        """The faithful worker, on record."""
        generation_id = assignment.generation_id
        await self.do(assignment)
        match assignment.task:
            case Dispatch():
                for image in ("a", "b"):
                    await self._runtime.call(generation_id, deliver(image), version)
                    tell("delivered", generation_id, image)
            case StoreOutput(output_id=output_id):
                tell("stored", generation_id, output_id)
            case _:
                pass

    async def one_after_the_other(self) -> None:
        """Create, wait until it is settled, and again."""
        for _ in range(40):
            birth = a_birth(expected=2)
            await self._runtime.create(a_birth(expected=2, key=(str(birth.id), "digest")))
            created = await self._runtime.create(a_birth(key=(str(birth.id), "digest")))
            tell("created", created.id, birth.id)
            seen = 0
            while not (await self._runtime.get_state(created.id)).settled:
                seen = await self._runtime.changed(created.id, after=seen)
            tell("settled", created.id)


async def crowd(runtime: GenerationRuntime) -> None:
    """Serve what is left, and a crowd of new ones."""
    worker = Crowd(runtime)
    worker._act = worker.tell_and_do
    runtime.start(worker, slots=slots(8))
    await asyncio.gather(*(worker.one_after_the_other() for _ in range(8)))
    await asyncio.Event().wait()


async def deadly(runtime: GenerationRuntime, victim: UUID) -> None:
    """Do what is left; the projection of `victim` kills this process."""

    async def act(assignment: Assignment) -> None:
        if assignment.generation_id == victim and isinstance(assignment.task, Project):
            tell("dies", assignment.attempts)
            os.kill(os.getpid(), signal.SIGKILL)
        await worker.do(assignment)

    worker = Scribe(runtime, act)
    runtime.start(worker, slots=slots(4))
    while any((await runtime.stats()).tasks.values()):  # noqa: ASYNC110  no event tells of it
        await asyncio.sleep(0.002)


async def main() -> None:
    """The command."""
    what, address, *rest = sys.argv[1:]
    async with opened(address) as runtime:
        if what == "crowd":
            await crowd(runtime)
        else:
            await deadly(runtime, UUID(rest[0]))


if __name__ == "__main__":
    asyncio.run(main())
