"""A long life of one executor: nothing grows, and a crowded machine makes no honest program late."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.sandbox.executor import Executor, Job, Limits, Status

PROGRAMS = 100_000
BUSY = "while True: pass"


def programs(start: int, count: int) -> Iterator[Job]:
    for n in range(start, start + count):
        yield Job(
            program=f"class A:\n    def __init__(self, v): self.v = v\ndef f(x):\n    return A(x).v + {n}",
            inputs=("1",),
        )


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def traces() -> tuple[int, list[str], int]:
    """Open descriptors, ended children that nobody waited for, files in the directory for temporary ones."""
    children = [text for path in Path("/proc/self/task").glob("*/children") for text in path.read_text().split()]
    zombies = [pid for pid in children if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"]
    return len(list(Path("/proc/self/fd").iterdir())), zombies, len(list(Path("/tmp").glob("azr*")))


def consume(executor: Executor, start: int, count: int) -> None:
    for number, execution in executor.stream(programs(start, count)):
        assert execution.outputs[0].text == str(start + number + 1)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_programs_leave_nothing_behind() -> None:
    with Executor(workers=2, cache_bytes=1 << 20) as executor:
        consume(executor, 0, 5_000)
        before, memory = traces(), resident_mb()
        consume(executor, 5_000, PROGRAMS - 5_000)
        assert traces() == before
        assert resident_mb() - memory < 8
        assert executor.statistics().jobs == PROGRAMS
        assert executor.statistics().lost_zygotes == 0


@contextmanager
def crowd(count: int) -> Iterator[None]:
    """So many processes that never rest."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_no_honest_program_is_late_on_a_crowded_machine() -> None:
    honest = [
        Job(
            program=f"def f(n):\n    s = {number}\n    for i in range(n): s += i * i\n    return s",
            inputs=("400000",),
            limits=Limits(cpu_s=1.0),
            interpreters=2,
        )
        for number in range(40)
    ]
    with Executor() as executor, crowd(4 * len(os.sched_getaffinity(0))):
        assert {execution.status for execution in executor.run(honest)} == {Status.OK}
