"""Kill a writer with SIGKILL at every point of its work and at random times, and look after each kill.

usage: python killer.py DIRECTORY KILLS SEED. Prints a line now and then and at the end JSON: kills by point, rounds,
reads. Fails on the first surprise. What is written is in story.py: a run, its fork, side tables, things dropped.
One process forks every writer: importing takes longer than all that it writes. Another reads all the while.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from onlooker import watching
from story import FORK, PAID, PLAN, POINTS, RUN, RUNS, kill_points, own, paid, write

from storage.attempts import Outcome
from storage.commit import Disk
from storage.database import query
from storage.ids import Position
from storage.layout import RUN_FILE, SCRATCH
from storage.ledger import Ledger
from storage.records import Task
from storage.retention import dropped

CLOCK = "clock"
BEGUN = POINTS[0]
RARE = {BEGUN, *POINTS[POINTS.index("listed") :]}  # passed a few times in a story, where others are at every stage
KEPT = 20  # rounds that a reader beside us may still look at
BREATH = 0.05  # seconds between two looks of the onlooker
TOLD = 100  # kills between two lines
Sealed = dict[str, set[Position]]


def child(root: Path, point: str, after: int, *, durable: bool) -> int:
    """Fork a writer that kills itself the `after`-th time it passes `point`; returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    left = after

    def pause(name: str) -> None:
        nonlocal left
        left -= name == point
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    code = 1
    try:
        kill_points(pause)
        write(root, Disk(durable=durable, pause=pause))
        code = 0
    finally:
        os._exit(code)


def look(root: Path, sealed: Sealed) -> Sealed:
    """A reader at any time: what was sealed stays, and every row that a seal promises is there or let go by name."""
    return {run: look_at(root, run, sealed.get(run, set())) for run in RUNS}


def look_at(root: Path, run: str, sealed: set[Position]) -> set[Position]:
    """The same for one run."""
    if not (root / run / RUN_FILE).exists():
        assert not sealed
        return set()
    ledger = Ledger.open(root, run)
    found = {seal.position for seal in ledger.sealed()}
    assert found >= sealed, sealed - found
    assert found == set(PLAN[: len(found)]), found
    for position in found - sealed:
        rows = ledger.read(Task, position)
        assert len({row.task_id for row in rows}) == ledger.require(position).outputs[Task.table].rows
    ledger.attempts()
    ledger.require_files()
    assert paid(root / run) in (0, PAID, 2 * PAID)
    return found


def kill_once(root: Path, draw: random.Random, sealed: Sealed, counts: Counter[str]) -> tuple[bool, Sealed]:
    """One writer, killed unless it comes to its end first; returns whether it was, and what is sealed now."""
    fresh = not (root / RUN / RUN_FILE).exists()
    point = draw.choice((*POINTS, *(CLOCK,) * 6))
    after = draw.randrange(1, 3 if point in RARE else 9)
    if fresh and draw.random() < 0.4:  # while the run itself is being made
        point, after = draw.choice((BEGUN, "written", "synced")), 1
    pid = child(root, point, after, durable=draw.random() < 0.1)
    if point == CLOCK:
        deadline = time.monotonic() + draw.uniform(0.0, 0.12)
        while time.monotonic() < deadline:
            sealed = look(root, sealed)
            counts["looks beside a writer"] += 1
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    killed = os.WIFSIGNALED(status)
    assert killed or os.WEXITSTATUS(status) == 0, "the writer failed by itself"
    counts[point] += killed
    counts["kills"] += killed
    counts["kills beside a fork"] += killed and (root / FORK / RUN_FILE).exists()
    return killed, look(root, sealed)


def check_whole(root: Path, truth: list[str], gone: dict[str, set[str]]) -> None:
    """After the last resume: the same hashes, nothing left behind, and every attempt accounted for."""
    assert write(root, Disk(durable=False)) == truth
    rows = dict(query(root, "SELECT run, count(*) FROM tasks GROUP BY run").rows)
    for run, wanted in zip(RUNS, truth, strict=True):
        ledger = Ledger.open(root, run)
        assert ledger.ledger_hash() == wanted
        assert ledger.verify() == []
        assert not (root / run / SCRATCH).exists() or not list((root / run / SCRATCH).iterdir())
        assert ledger.owner() is None
        assert rows[run] == sum(seal.outputs[Task.table].rows for seal in ledger.made().values())
        check_beside(ledger, gone[run])
        check_attempts(ledger)


def check_beside(ledger: Ledger, gone: set[str]) -> None:
    """What stands beside the partitions: the side table, and the list of what went."""
    assert paid(ledger.directory) == 2 * PAID
    assert not list(ledger.directory.rglob("*.partial"))
    assert set(dropped(ledger.directory)) == gone
    assert not any((ledger.directory / path).exists() for path in gone)


def check_attempts(ledger: Ledger) -> None:
    """Each stage was sealed once, by its last attempt."""
    attempts = ledger.attempts()
    for position in own(ledger.run):
        mine = [record for record in attempts if record.position == position]
        assert [record.attempt for record in mine] == list(range(1, len(mine) + 1))
        assert [record.outcome for record in mine] == [Outcome.KILLED] * (len(mine) - 1) + [Outcome.SEALED]


def kill_all(directory: Path, kills: int, seed: int) -> Counter[str]:
    """Rounds of kills until there were enough; returns how often each point was hit."""
    truth = write(directory / "clean", Disk(durable=False))
    assert truth == write(directory / "again", Disk(durable=False)), "not a pure function"
    gone = {run: set(dropped(directory / "clean" / run)) for run in RUNS}
    assert all(gone.values())
    draw, counts = random.Random(seed), Counter[str]()
    while counts["kills"] < kills:
        before = counts["kills"]
        counts["rounds"] += 1
        root, sealed, killed = directory / f"round-{counts['rounds']:05d}", Sealed(), True
        while killed:
            killed, sealed = kill_once(root, draw, sealed, counts)
        check_whole(root, truth, gone)
        shutil.rmtree(directory / f"round-{counts['rounds'] - KEPT:05d}", ignore_errors=True)
        if before // TOLD < counts["kills"] // TOLD:
            print(f"seed {seed}: {counts['kills']} kills in {counts['rounds']} rounds, all as wanted", flush=True)
    return counts


def main(directory: Path, kills: int, seed: int) -> None:
    """Kill, with an onlooker beside."""
    shutil.rmtree(directory, ignore_errors=True)
    with watching(directory, "round-*", BREATH) as seen:
        counts = kill_all(directory, kills, seed)
    print(json.dumps({**counts, "onlooker": seen.reads, "failures": seen.failures}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
