"""Kill a writer with SIGKILL at every point of the commit protocol and at random times, and look after each kill.

usage: python killer.py DIRECTORY KILLS SEED. Prints JSON: kills by point, rounds, reads. Fails on the first surprise.
One process forks every writer: importing takes longer than a whole run of this size.
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
from collections.abc import Callable
from pathlib import Path

from storage.attempts import Outcome
from storage.commit import POINTS, Disk, nothing
from storage.ids import Mode, Place, Position, Stage, pack
from storage.layout import RUN_FILE, SCRATCH
from storage.ledger import Ledger
from storage.records import Reward, Row, Task, Tokens
from storage.seals import Provenance, RunFacts
from storage.seeds import rng

RUN = "kill"
PLAN = [
    *(Position(0, stage, round) for round in range(2) for stage in (Stage.PROPOSE, Stage.VALIDATE)),
    *(Position(iteration, stage) for iteration in (1, 2) for stage in Stage),
]
CLOCK = "clock"
BEGUN = POINTS[0]
KEPT = 20  # rounds that a reader beside us may still look at


def task(position: Position, slot: int, draw: random.Random) -> Task:
    return Task(
        iteration=position.iteration,
        round=position.round,
        task_id=pack(Place(position.iteration, position.round, Mode.DEDUCTION, slot)),
        content_key=None,
        program_key=None,
        mode=Mode.DEDUCTION,
        format="ok",
        verdict=draw.choice(["valid", "error"]),
        reason=None,
        program=f"def f(x):\n    return x + {draw.randrange(10**9)}",
        inputs=(str(draw.random()),),
        outputs=(),
        visible=0,
        message=None,
        cpu_us=time.time_ns() % 1000,  # measured: differs from run to run
        memory_kb=os.getpid(),
    )


def tokens(position: Position, slot: int, draw: random.Random) -> Tokens:
    ids = tuple(draw.randrange(1000) for _ in range(20))
    return Tokens(
        iteration=position.iteration,
        round=position.round,
        rollout_id=pack(Place(position.iteration, position.round, Mode.DEDUCTION, slot)),
        prompt_ids=ids,
        completion_ids=ids[:7],
        logprobs=tuple(-draw.random() for _ in range(7)),
    )


def tables(position: Position, before: str) -> dict[type[Row], list[Row]]:
    """A stage: a pure function of its place and of the content of what it reads."""
    draw = rng(1, str(position), before)
    makers: tuple[Callable[[Position, int, random.Random], Row], ...] = (task, tokens)
    made = [[make(position, slot, draw) for slot in range(draw.randrange(1, 30))] for make in makers]
    return {Task: made[0], Tokens: made[1], Reward: []}


def write(root: Path, disk: Disk) -> str:
    """Begin or continue the run until it is whole, as `azr train` does; returns its ledger hash."""
    facts = RunFacts(run=RUN, seed=1, config={}, config_hash="c", code_version="v", python="3")
    begun = (root / RUN / RUN_FILE).exists()
    with Ledger.open(root, RUN, write=True, disk=disk) if begun else Ledger.create(root, facts, disk=disk) as ledger:
        inputs: list[Position] = []
        for position in PLAN:
            if ledger.seal_of(position) is None:
                with ledger.begin(position, inputs=inputs, provenance=Provenance(code_version="v")) as attempt:
                    before = "".join(ledger.require(needed).content for needed in inputs)
                    attempt.seal(tables(position, before), seeds={"run": 1})
            inputs = [position]
        return ledger.ledger_hash()


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
        write(root, Disk(durable=durable, pause=pause))
        code = 0
    finally:
        os._exit(code)


def look(root: Path, sealed: set[Position]) -> set[Position]:
    """A reader at any time: what was sealed stays, and every row that a seal promises is there."""
    if not (root / RUN / RUN_FILE).exists():
        assert not sealed
        return set()
    ledger = Ledger.open(root, RUN)
    found = {seal.position for seal in ledger.sealed()}
    assert found >= sealed, sealed - found
    assert list(found ^ set(PLAN[: len(found)])) == [], found
    for position in found - sealed:
        rows = ledger.read(Task, position)
        assert len({row.task_id for row in rows}) == ledger.require(position).outputs[Task.table].rows
    ledger.attempts()
    return found


def kill_once(
    root: Path, draw: random.Random, sealed: set[Position], counts: Counter[str]
) -> tuple[bool, set[Position]]:
    fresh = not (root / RUN / RUN_FILE).exists()
    point, after = draw.choice((*POINTS, *(CLOCK,) * 4)), draw.randrange(1, 8)
    if fresh and draw.random() < 0.4:  # while the run itself is being made
        point, after = draw.choice((BEGUN, "written", "synced")), 1
    pid = child(root, point, after, durable=draw.random() < 0.1)
    if point == CLOCK:
        deadline = time.monotonic() + draw.uniform(0.0, 0.06)
        while time.monotonic() < deadline:
            sealed = look(root, sealed)
            counts["reads"] += 1
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    killed = os.WIFSIGNALED(status)
    assert killed or os.WEXITSTATUS(status) == 0, "the writer failed by itself"
    counts[point] += killed
    counts["kills"] += killed
    return killed, look(root, sealed)


def check_whole(root: Path, truth: str) -> None:
    """After the last resume: the same hash, nothing left behind, and every attempt accounted for."""
    assert write(root, Disk(durable=False)) == truth
    ledger = Ledger.open(root, RUN)
    assert ledger.ledger_hash() == truth
    assert ledger.verify() == []
    assert not (root / RUN / SCRATCH).exists() or not list((root / RUN / SCRATCH).iterdir())
    assert ledger.owner() is None
    attempts = ledger.attempts()
    assert {record.outcome for record in attempts} <= {Outcome.SEALED, Outcome.KILLED}
    for position in PLAN:
        mine = [record for record in attempts if record.position == position]
        assert [record.attempt for record in mine] == list(range(1, len(mine) + 1))
        assert [record.outcome for record in mine] == [Outcome.KILLED] * (len(mine) - 1) + [Outcome.SEALED]


def main(directory: Path, kills: int, seed: int) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    truth = write(directory / "clean", Disk(durable=False, pause=nothing))
    assert truth == write(directory / "again", Disk(durable=False, pause=nothing)), "not a pure function"
    draw, counts = random.Random(seed), Counter[str]()
    while counts["kills"] < kills:
        counts["rounds"] += 1
        root, sealed, killed = directory / f"round-{counts['rounds']:05d}", set[Position](), True
        while killed:
            killed, sealed = kill_once(root, draw, sealed, counts)
        check_whole(root, truth)
        shutil.rmtree(directory / f"round-{counts['rounds'] - KEPT:05d}", ignore_errors=True)
    print(json.dumps(counts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
