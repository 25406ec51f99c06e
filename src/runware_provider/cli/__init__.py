"""The command `runware-provider`. Heavy imports wait until a command needs them."""

import os
import signal
import sys
from contextlib import suppress
from types import FrameType

__all__ = ["main"]

FAILED, WRONG, TRY_AGAIN, INTERRUPTED = 1, 2, 75, 130
"""Exit codes, so that a script knows who can act."""


def main() -> None:
    """Run the command line; every failure is a line on stderr and an exit code, never a traceback.

    0: done. 1: the job failed. 2: wrong usage, input or setting. 75: try again later. 130: interrupted.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else a script told us to ignore it
        signal.signal(signal.SIGINT, leave)  # first of all: most of the time of a short command goes into imports
    _expect_streams()
    from runware_provider.cli.app import run
    from runware_provider.cli.console import discard

    code = run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # it was said when it happened; Python would complain of it once more, at the exit
            discard(stream)
    sys.exit(code)


def _expect_streams() -> None:
    """What was started with a closed stdout or stderr (`>&-`) writes to nowhere, instead of into its next socket."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # the lowest that is free
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  until the end
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # text of any language, in any locale


def leave(_number: int = signal.SIGINT, _frame: FrameType | None = None) -> None:
    """Ctrl-C while nothing is at stake yet or any more, as during imports: gone at once, without a traceback."""
    with suppress(OSError):
        if os.isatty(2):
            os.write(2, b"\n")  # the shell's prompt would stand behind the terminal's ^C
    os._exit(INTERRUPTED)
