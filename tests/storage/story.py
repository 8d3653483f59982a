"""What a victim of killer.py writes: a run and a fork of it, in turns, with an index, side tables and things dropped.

Every step looks whether it was done, as `azr train` does, so whoever comes after a kill calls `write` again.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pyarrow.parquet as pq

from storage import index, rescored, retention
from storage.commit import POINTS as COMMIT
from storage.commit import Disk, Pause
from storage.config import RetentionConfig
from storage.family import fork_points
from storage.ids import Mode, Place, Position, Role, Stage, pack
from storage.layout import RUN_FILE, order
from storage.ledger import Ledger
from storage.records import Reward, Row, Task, Tokens
from storage.rescored import Rescored, replacing, table_of
from storage.retention import drop, guarded, spare_tokens
from storage.seals import Parent, Provenance, RunFacts
from storage.seeds import rng

RUN, FORK, RULE = "kill", "fork", "generous"
RUNS = (RUN, FORK)
PLAN = [
    *(Position(0, stage, round) for round in range(2) for stage in (Stage.PROPOSE, Stage.VALIDATE)),
    *(Position(iteration, stage) for iteration in (1, 2) for stage in Stage),
]
FORKED_AT = Position(1, Stage.SOLVE)
FORKED = Position(1, Stage.UPDATE)  # once this is sealed
KEPT = RetentionConfig(tokens_last=1)
PAID = 10  # rows of a side table for each iteration that is verified
_WRAPPED = ((index, "append"), (index, "complete"), (rescored, "_sync"))
POINTS = (*COMMIT, *retention.POINTS, *(f"{when} {name}" for _, name in _WRAPPED for when in ("before", "after")))


def write(root: Path, disk: Disk) -> list[str]:
    """Begin or continue both runs until they are whole; returns their ledger hashes."""
    with opened(root, _facts(RUN), disk) as parent:
        for position in PLAN[: PLAN.index(FORKED) + 1]:
            make(parent, position)
        rescore(parent)
        spare(parent)
        with forked(root, parent, disk) as child:
            for position in PLAN:
                make(parent, position)
                make(child, position)
            for ledger in (parent, child):
                spare(ledger)
                rescore(ledger)
            return [ledger.ledger_hash() for ledger in (parent, child)]


def opened(root: Path, facts: RunFacts, disk: Disk) -> Ledger:
    """A run open for writing, begun if it is not there."""
    begun = (root / facts.run / RUN_FILE).exists()
    return Ledger.open(root, facts.run, write=True, disk=disk) if begun else Ledger.create(root, facts, disk=disk)


@contextmanager
def forked(root: Path, parent: Ledger, disk: Disk) -> Iterator[Ledger]:
    """The fork, open for writing; it begins as `azr fork` does, while nothing of its parent may be dropped."""
    last = parent.before(FORKED_AT).last()
    assert last is not None
    grown = Parent(run=RUN, at=str(FORKED_AT), before={str(last.position): last.integrity})
    with guarded(parent.directory):
        ledger = opened(root, _facts(FORK, grown), disk)
    with ledger:
        yield ledger


def make(ledger: Ledger, position: Position) -> None:
    """One stage, unless it is sealed."""
    if ledger.seal_of(position) is not None:
        return
    before = PLAN[: PLAN.index(position)][-1:]
    with ledger.begin(position, inputs=before, provenance=Provenance(code_version="v")) as attempt:
        read = "".join(ledger.require(needed).content for needed in before)
        attempt.seal(tables(position, read), seeds={"run": 1})


def tables(position: Position, before: str) -> dict[type[Row], list[Row]]:
    """A stage: a pure function of its place and of the content of what it reads."""
    draw = rng(1, str(position), before)
    makers: tuple[Callable[[Position, int, random.Random], Row], ...] = (_task, _tokens)
    made = [[maker(position, slot, draw) for slot in range(draw.randrange(1, 30))] for maker in makers]
    return {Task: made[0], Tokens: made[1], Reward: []}


def spare(ledger: Ledger) -> None:
    """Let tokens go as `azr gc` does."""
    with guarded(ledger.directory):
        held = {point.iteration for point in fork_points(ledger.directory).values()}
        done = max((seal.iteration for seal in ledger.sealed() if seal.stage is Stage.UPDATE), default=0)
        made = ledger.made().values()
        drop(ledger.directory, spare_tokens(ledger.directory, made, KEPT, updated=done, held=held), ledger.disk)


def rescore(ledger: Ledger) -> None:
    """The side table of one rule over what is verified, unless it is there."""
    verified = [seal.iteration for seal in ledger.sealed() if seal.stage is Stage.VERIFY]
    if paid(ledger.directory) != PAID * len(verified):
        with replacing(ledger.directory, RULE) as writing:
            for iteration in verified:
                writing([_would_be(iteration, slot) for slot in range(PAID)])


def paid(run_directory: Path) -> int:
    """How many rows the side table has; every one is read."""
    path = table_of(run_directory, RULE)
    return len(pq.read_table(path).to_pylist()) if path.exists() else 0


def kill_points(pause: Pause) -> None:
    """Have points told also where the ledger knows no `Disk`: around the index and the syncs of side tables."""
    for module, name in _WRAPPED:
        told(module, name, pause)


def told(module: ModuleType, name: str, pause: Pause) -> None:
    """Have points told before and after a function of a module."""
    act = getattr(module, name)

    def acts(*given: object) -> object:
        pause(f"before {name}")
        result = act(*given)
        pause(f"after {name}")
        return result

    setattr(module, name, acts)


def own(run: str) -> list[Position]:
    """The partitions that a run makes itself."""
    return [at for at in PLAN if run == RUN or order(at) >= order(FORKED_AT)]


def _facts(run: str, parent: Parent | None = None) -> RunFacts:
    return RunFacts(run=run, seed=1, config={}, config_hash="c", code_version="v", python="3", parent=parent)


def _task(position: Position, slot: int, draw: random.Random) -> Task:
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


def _tokens(position: Position, slot: int, draw: random.Random) -> Tokens:
    ids = tuple(draw.randrange(1000) for _ in range(20))
    return Tokens(
        iteration=position.iteration,
        round=position.round,
        rollout_id=pack(Place(position.iteration, position.round, Mode.DEDUCTION, slot)),
        prompt_ids=ids,
        completion_ids=ids[:7],
        logprobs=tuple(-draw.random() for _ in range(7)),
    )


def _would_be(iteration: int, slot: int) -> Rescored:
    own_id = pack(Place(iteration, 0, Mode.DEDUCTION, slot))
    return Rescored(
        iteration=iteration, round=0, rollout_id=own_id, role=Role.PROPOSER, mode=Mode.DEDUCTION, task_id=own_id,
        rule=RULE, ladder="one more", code_version="v", verdict=None, would_be=1.0, rung="learnable", accuracy=None,
        solve_rate=None, probes=None, learnability=None,
    )  # fmt: skip
