"""CPU time of this process and all that it started, and the facts of the machine that a figure belongs to."""

from __future__ import annotations

import os
import platform
import resource
import time
from pathlib import Path
from typing import NamedTuple

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PARENT, _CHILD_USER, _CHILD_SYSTEM = 1, 13, 14  # fields of /proc/PID/stat, counted after the name


class Used(NamedTuple):
    """Seconds of CPU time, user and system."""

    own: float
    """This process alone."""
    below: float
    """Every process that it started, and those that they started; the ended ones too, once somebody waited for them."""

    def since(self, before: Used) -> Used:
        """What was used between two readings."""
        return Used(self.own - before.own, self.below - before.below)


def begin() -> Used:
    """A reading before the work; walking the processes is done first, so that it is not counted."""
    below = _below()
    return Used(time.process_time(), below)


def end() -> Used:
    """A reading after the work."""
    own = time.process_time()
    return Used(own, _below())


def _below() -> float:
    """Living descendants to the nanosecond, those that they waited for to the clock tick (10 ms)."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime + sum(_process(pid, fields) for pid, fields in _descendants().items())


def _process(pid: int, fields: list[str]) -> float:
    try:
        own = time.clock_gettime(~pid << 3 | 2)  # CPUCLOCK_SCHED, include/linux/posix-timers_types.h
    except OSError:  # it has just ended, and its parent has its time
        return 0.0
    return own + (int(fields[_CHILD_USER]) + int(fields[_CHILD_SYSTEM])) * _TICK_S


def _descendants() -> dict[int, list[str]]:
    """The processes below this one, with the fields of their stat."""
    stats = {int(path.name): fields for path in Path("/proc").glob("[0-9]*") if (fields := _stat(path))}
    found: dict[int, list[str]] = {}
    parents = {os.getpid()}
    while parents:
        parents = {pid for pid, fields in stats.items() if int(fields[_PARENT]) in parents}
        found |= {pid: stats[pid] for pid in parents}
    return found


def _stat(process: Path) -> list[str]:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def machine() -> dict[str, str | int | float]:
    """What a figure depends on besides the code."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }
