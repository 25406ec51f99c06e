"""Settings of the interpreter and of its allocator for a process that is a service."""

import ctypes
import gc
import os
import sys
from contextlib import suppress

SWITCH_INTERVAL = 0.0005
"""Seconds. With Python's 5 ms the thread that comes back from a commit waits too long for a busy event loop."""

GC_THRESHOLDS = (5_000, 100, 20)
"""Objects before a collection, and collections before one of those that are older. Almost nothing here is in a cycle;
with Python's 700 the collector, which walks all that is kept in memory, takes a sixth of a webhook's time. Of 20,000
objects it takes 5 to 12 ms in which nothing is answered, of 5,000 one; of those that are older 12 to 18."""

_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3


def tune() -> None:
    """Apply them to this process."""
    gc.set_threshold(*GC_THRESHOLDS)
    with suppress(OSError, AttributeError):  # glibc's alone
        mallopt = ctypes.CDLL(None).mallopt
        # Threads that each keep a heap of their own, and buffers of a megabyte that are kept after use, would double
        # the memory of a service that stores large images.
        mallopt(_M_ARENA_MAX, 2)
        mallopt(_M_MMAP_THRESHOLD, 256 * 1024)


def leave_a_core() -> None:
    """For the process that keeps images: where there are just two cores, it keeps to one of them.

    Of its threads one at a time runs Python. On two cores they hand its lock from one to the other, with an interrupt
    and cold caches each time, and are in the way of the process that answers. Where there are more cores, what they do
    without the lock (hashes, writes) is worth more. Which of the two is chance, or several workers would share one.
    """
    with suppress(OSError, AttributeError):  # macOS has no such thing
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) == 2:
            os.sched_setaffinity(0, {cores[os.getpid() % 2]})


def answer_soon() -> None:
    """For the process that answers clients and Runware: acknowledgements take a little less time."""
    sys.setswitchinterval(SWITCH_INTERVAL)
