"""The command `runware-provider`. Heavy imports wait until a command needs them."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; every failure is a line on stderr and an exit code, never a traceback.

    0: done. 1: the job failed. 2: wrong usage, input or setting. 75: try again later. 130: interrupted.
    """
    from runware_provider.cli.app import run

    sys.exit(run(sys.argv[1:]))
