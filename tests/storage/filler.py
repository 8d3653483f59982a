"""Let the disk be full at every write of a writer in turn, then give it room again.

usage: python filler.py DIRECTORY [all]. Prints JSON: what was said, by the point at which there was no more room. Fails
on the first surprise. What is written is in story.py. The limit is the kernel's, for the size of any file that is
written, so it hits whatever writes next: a table, a seal, run.json, the lock, a journal, the index, a side table.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from story import POINTS, RUNS, kill_points, told, write

from storage import ledger as ledgers
from storage import rescored
from storage.attempts import Outcome
from storage.commit import Disk
from storage.layout import ATTEMPTS_FILE, DROPPED_FILE, RUN_FILE
from storage.ledger import Ledger

BEGIN, WRITING = "begin", "writing"  # before all, and before each file of the commit protocol
LOCKED, SWEPT = "after locked", "after _sweep"  # before a run.json, and before a side table
WHOLE, UNHIT = 0, 4
Room = Callable[[Path], int]


def none(root: Path) -> int:
    """Not one byte."""
    return 0


def some(root: Path) -> int:
    """Files are cut off after their first bytes."""
    return 100


def a_torn_line(root: Path) -> int:
    """The longest journal gets half a line more."""
    journals = [root / run / name for run in RUNS for name in (ATTEMPTS_FILE, DROPPED_FILE)]
    return 60 + max((path.stat().st_size for path in journals if path.exists()), default=0)


ROOMS: tuple[Room, ...] = (none, some, a_torn_line)


class Case(NamedTuple):
    """Where there is no more room, at which passing of that point, and how much room there is."""

    point: str
    after: int
    room: Room


ALL = [Case(point, 1, room) for room in ROOMS for point in (BEGIN, WRITING, LOCKED, *POINTS, SWEPT)]
FORKING = [Case(LOCKED, 2, room) for room in ROOMS]  # the fork's run.json: the first lock is its parent's
TORN = {
    BEGIN,
    WRITING,
    "run written",
    "started",
    "ended",
    "removed",
    SWEPT,
}  # where half a file or a line is of interest
FEW = [case for case in ALL if case.room is none or case.point in TORN]


@dataclass(frozen=True, slots=True, kw_only=True)
class FullDisk(Disk):
    """A disk that also tells when a file is about to be written."""

    def write(self, path: Path, data: bytes) -> None:
        """As before."""
        self.pause(WRITING)
        Disk.write(self, path, data)


def attempt(root: Path, case: Case) -> tuple[bool, str]:
    """A writer in a process of its own whose disk fills up; whether it did, and what the writer said."""
    read, said = os.pipe()
    pid = os.fork()
    if pid == 0:
        os._exit(_write(root, case, said))
    os.close(said)
    with os.fdopen(read) as pipe:
        message = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (WHOLE, UNHIT), f"{case.point}, {case.room.__name__}: {message}"
    return code != UNHIT, message


def _write(root: Path, case: Case, said: int) -> int:
    """In the child: write until there is no room, say what happened, and see that room is all that it takes."""
    left = case.after

    def pause(name: str) -> None:
        nonlocal left
        left -= name == case.point
        if name == case.point and left == 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (case.room(root), resource.RLIM_INFINITY))

    try:
        kill_points(pause)
        told(ledgers, "locked", pause)
        told(rescored, "_sweep", pause)
        pause(BEGIN)
        try:
            write(root, FullDisk(durable=False, pause=pause))
        except OSError as error:  # a LedgerError is one
            os.write(said, f"{type(error).__name__}: {error}".encode())
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        for run in begun(root):
            Ledger.open(root, run, write=True, disk=Disk(durable=False)).close()
    except BaseException as error:
        os.write(said, f"{type(error).__name__}: {error}".encode())
        raise
    return WHOLE if left <= 0 else UNHIT


def begun(root: Path) -> list[str]:
    """The runs that are there."""
    return [run for run in RUNS if (root / run / RUN_FILE).exists()]


def look(root: Path, held: dict[str, int]) -> dict[str, int]:
    """Nothing that was sealed is lost and all of it is whole; returns how many stages are sealed."""
    now = {}
    for run in begun(root):
        ledger = Ledger.open(root, run)
        assert ledger.verify() == [], ledger.verify()
        now[run] = len(ledger.sealed())
    assert all(now[run] >= count for run, count in held.items()), (held, now)
    return now


def check_whole(root: Path, truth: Sequence[str]) -> None:
    """With room, the same writer comes to the same end."""
    assert write(root, Disk(durable=False)) == truth
    look(root, {})
    for run in RUNS:
        outcomes = {record.outcome for record in Ledger.open(root, run).attempts()}
        assert outcomes <= {Outcome.SEALED, Outcome.FAILED, Outcome.KILLED}, outcomes


def fill(directory: Path, cases: Sequence[Case]) -> dict[str, list[str]]:
    """Every case once, on as few ledgers as it takes."""
    truth, waiting = write(directory / "clean", Disk(durable=False)), list(cases)
    said: dict[str, list[str]] = defaultdict(list)
    rounds = 0
    while waiting:
        rounds += 1
        root, held = directory / f"round-{rounds}", dict[str, int]()
        for case in list(waiting):
            hit, message = attempt(root, case)
            held = look(root, held)
            if hit:
                waiting.remove(case)
                said[case.point].append(message)
            if not hit or not message:
                break  # it came to its end
        check_whole(root, truth)
    return dict(said)


def main(words: Sequence[str]) -> None:
    """Fill, and tell."""
    middle = [*POINTS].index("before append")
    cases = ALL if words[1:] == ["all"] else FEW
    print(json.dumps(fill(Path(words[0]), [*cases[:middle], *FORKING, *cases[middle:]])))


if __name__ == "__main__":
    main(sys.argv[1:])
