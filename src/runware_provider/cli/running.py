"""How a command runs: its event loop, and Ctrl-C, which ends it in good order."""

import os
import signal
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from runware_provider.cli import INTERRUPTED, leave
from runware_provider.cli.console import err, say

if TYPE_CHECKING:  # pydantic takes a tenth of a second, and `--help` has no use for it
    from runware_provider.settings import Settings

Work = Coroutine[Any, Any, int | None]
"""A command at work; it comes to an exit code, 0 when None."""


def run_with_settings(command: Callable[["Settings"], Work]) -> int:
    """Run a command that needs the settings; its exit code."""
    from runware_provider.settings import load_settings

    return run_until_done(lambda: command(load_settings()))


def run_until_done(command: Callable[[], Work]) -> int:
    """Run a command to its end; its exit code."""
    import asyncio
    import logging

    import uvloop

    from runware_provider.logs import configure

    debug = os.environ.pop("RUNWARE_PROVIDER_DEBUG", None)  # no setting: it is for whoever works on this command
    configure(logging.DEBUG if debug else logging.CRITICAL)
    work = command()
    before = signal.getsignal(signal.SIGINT)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_interruptible(work)) or 0
    finally:
        signal.signal(signal.SIGINT, before)


async def _interruptible(work: Work) -> int | None:
    """`work`, which Ctrl-C ends in good order, and a second one at once: what counts is durable by then."""
    import asyncio

    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    patience: list[asyncio.TimerHandle] = []

    def pressed() -> None:
        if patience:
            leave()
        patience.append(loop.call_later(1, say, err, "stopping in good order; once more stops at once"))
        task.cancel()

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGINT, pressed)
    try:
        return await task
    except asyncio.CancelledError:
        return INTERRUPTED
    finally:
        for timer in patience:
            timer.cancel()
        loop.remove_signal_handler(signal.SIGINT)
