"""What processes have used of the machine."""

import os
from pathlib import Path


def processor(pid: int) -> float:
    """Seconds of processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def most_memory(pid: int | str = "self") -> int:
    """The most bytes of memory that a process has had. (`ru_maxrss` would begin with what its parent had.)"""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def family(pid: int) -> list[int]:
    """A process and those that it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def most_of_its_own(pid: int) -> int:
    """The most bytes of memory that a process has had, with its share of what it has together with others."""
    share = Path(f"/proc/{pid}/smaps_rollup").read_text()
    status = Path(f"/proc/{pid}/status").read_text()
    now = int(status.partition("VmRSS:")[2].split()[0]) * 1024
    return int(share.partition("Pss:")[2].split()[0]) * 1024 + most_memory(pid) - now


def of_all() -> float:
    """Seconds of processor that everybody on this machine has used, the kernel included."""
    user, nice, system, _, _, irq, soft, steal = map(int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")
