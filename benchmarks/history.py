"""A synthetic history, written through the ledger's own code, and how long it takes to ask it.

usage: python benchmarks/history.py write DIRECTORY --iterations 1000 --proposals 8 --probes 4
       python benchmarks/history.py ask DIRECTORY --out FILE.json

`write` seals whole iterations of the five stages (rows through records, partitions and seals, without fsync). `ask`
opens the root anew for every repetition and writes each duration, in seconds, with what was asked of which history.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from uuid import UUID

import duckdb
import pyarrow as pa

from storage import ids
from storage.commit import Disk
from storage.database import connect, query
from storage.ids import Mode, Place, Position, Role, Source, Stage
from storage.ledger import Ledger
from storage.metrics import known_content_keys, valid_tasks
from storage.records import (
    Advantage,
    Answer,
    Checkpoint,
    Reward,
    Rollout,
    Row,
    Task,
    TaskParent,
    Tokens,
    UpdateMetric,
)
from storage.seals import Provenance, RunFacts
from storage.seeds import rng

RUN = "history"
MODES = (Mode.DEDUCTION, Mode.ABDUCTION, Mode.INDUCTION)
PROVENANCE = Provenance(
    code_version="benchmark", host={"cpu": platform.processor(), "python": platform.python_version()}
)
Tables = dict[type[Row], list[Row]]
Valid = list[tuple[int, int]]  # id and iteration of every valid task so far
REPEATS = 5


def write(root: Path, iterations: int, proposals: int, probes: int) -> None:
    """Seal a run of so many iterations: proposals per iteration over three modes, probes of each valid task."""
    facts = RunFacts(run=RUN, seed=1, config={}, config_hash="0", code_version="benchmark", python="3")
    valid: Valid = []
    with Ledger.create(root, facts, disk=Disk(durable=False)) as ledger:
        before: list[Position] = []
        for iteration in range(1, iterations + 1):
            for stage, tables in stages(iteration, proposals, probes, valid).items():
                at = Position(iteration, stage)
                with ledger.begin(at, inputs=before, provenance=PROVENANCE) as attempt:
                    attempt.seal(tables)
                before = [at]


def stages(iteration: int, proposals: int, probes: int, valid: Valid) -> dict[Stage, Tables]:
    """The tables of one iteration, by stage; adds its valid tasks to `valid`."""
    draw = rng(1, "history", iteration)
    places = [Place(iteration, 0, MODES[slot % 3], slot // 3) for slot in range(proposals)]
    tasks = [task(place, draw) for place in places]
    parents = [row for place in places for row in references(place, valid, draw)]
    new = [row for row in tasks if row.verdict == "valid"]
    asked = [place._replace(sample=sample) for place in places for sample in range(probes)]
    known = {row.task_id for row in new}
    asked = [place for place in asked if ids.pack(place._replace(sample=None)) in known]
    proposed, solved = [rollout(place, draw) for place in places], [rollout(place, draw) for place in asked]
    answers = [answer(place, draw) for place in asked]
    rewards = [reward(row, draw) for row in [*proposed, *solved]]
    valid += [(row.task_id, iteration) for row in new]
    return {
        Stage.PROPOSE: {Rollout: proposed, Tokens: [tokens(row, draw) for row in proposed], TaskParent: parents},
        Stage.VALIDATE: {Task: tasks},
        Stage.SOLVE: {Rollout: solved, Tokens: [tokens(row, draw) for row in solved]},
        Stage.VERIFY: {Answer: answers, Reward: rewards},
        Stage.UPDATE: {Advantage: [advantage(row) for row in rewards], **update(iteration)},
    }


def task(place: Place, draw: Random) -> Task:
    """A proposal after validation, three in four valid."""
    number = draw.getrandbits(60)
    program = f"def f(x):\n    y = x * {number % 97} + {number}\n    return [y, y % {1 + number % 13}]"
    good = draw.random() < 0.75
    return Task(
        iteration=place.iteration,
        round=0,
        task_id=ids.pack(place),
        content_key=UUID(int=number),
        program_key=UUID(int=number % 2**20),
        mode=place.mode,
        format="ok",
        verdict="valid" if good else "error",
        reason=None if good else "TypeError: 'int' object is not subscriptable",
        program=program,
        inputs=(str(number % 1000),),
        outputs=(f"[{number}, 3]",) if good else (),
        visible=0,
        message=None,
        cpu_us=900,
        memory_kb=9000,
    )


def references(place: Place, valid: Valid, draw: Random) -> list[TaskParent]:
    """Two earlier valid tasks, drawn evenly."""
    shown = draw.sample(valid, min(2, len(valid)))
    return [
        TaskParent(
            iteration=place.iteration,
            round=0,
            task_id=ids.pack(place),
            position=position,
            parent_id=parent,
            parent_iteration=iteration,
        )
        for position, (parent, iteration) in enumerate(shown)
    ]


def rollout(place: Place, draw: Random) -> Rollout:
    """One prompt and completion of some 60 words."""
    solver = place.sample is not None
    return Rollout(
        iteration=place.iteration,
        round=0,
        rollout_id=ids.pack(place),
        content_key=UUID(int=draw.getrandbits(100)),
        role=Role.SOLVER if solver else Role.PROPOSER,
        mode=place.mode,
        task_id=ids.pack(place._replace(sample=None)),
        source=Source.NEW if solver else Source.PROPOSAL,
        slot=place.slot,
        sample=place.sample or 0,
        policy=f"{place.iteration - 1:064x}",
        policy_iteration=place.iteration - 1,
        seed=draw.getrandbits(62),
        temperature=1.0,
        top_p=1.0,
        max_tokens=192,
        prompt="Here are some programs. " * 8 + str(draw.getrandbits(60)),
        completion=f"def f(x):\n    return x + {draw.getrandbits(60)}",
        finish_reason="stop",
        prompt_tokens=12,
        completion_tokens=8,
    )


def tokens(row: Rollout, draw: Random) -> Tokens:
    """Token ids and log-probabilities of a rollout."""
    return Tokens(
        iteration=row.iteration,
        round=0,
        rollout_id=row.rollout_id,
        prompt_ids=tuple(draw.choices(range(512), k=row.prompt_tokens)),
        completion_ids=tuple(draw.choices(range(512), k=row.completion_tokens)),
        logprobs=tuple(-draw.random() for _ in range(row.completion_tokens)),
    )


def answer(place: Place, draw: Random) -> Answer:
    """A solver's answer, half of them correct."""
    right = draw.random() < 0.5
    return Answer(
        iteration=place.iteration,
        round=0,
        rollout_id=ids.pack(place),
        content_key=UUID(int=draw.getrandbits(100)),
        task_id=ids.pack(place._replace(sample=None)),
        mode=place.mode,
        format="ok",
        answer=str(draw.getrandbits(30)),
        verdict="correct" if right else "wrong",
        reason=None,
        passed=int(right),
        checks=1,
        cpu_us=100,
    )


def reward(row: Rollout, draw: Random) -> Reward:
    """The reward of a rollout; a proposer's has a solve rate."""
    proposer = row.role is Role.PROPOSER
    rate = draw.randrange(9) / 8
    return Reward(
        iteration=row.iteration,
        round=0,
        rollout_id=row.rollout_id,
        content_key=UUID(int=draw.getrandbits(100)),
        role=row.role,
        mode=row.mode,
        task_id=row.task_id,
        rule="azr",
        total=1 - rate if proposer else float(draw.random() < 0.5),
        rung="learnable" if proposer else "correct",
        accuracy=None if proposer else 1.0,
        solve_rate=rate if proposer else None,
        probes=8 if proposer else None,
        learnability=1 - rate if proposer else None,
    )


def advantage(row: Reward) -> Advantage:
    """What an update might make of a reward."""
    return Advantage(
        iteration=row.iteration,
        round=0,
        rollout_id=row.rollout_id,
        role=row.role,
        mode=row.mode,
        advantage=row.total - 0.5,
        baseline=0.5,
        scale=1.0,
        weight=0.001,
    )


def update(iteration: int) -> Tables:
    """Metrics and checkpoint of an update."""
    at = {"iteration": iteration, "round": 0}
    names = ("loss", "grad_norm", "entropy", "kl_engine")
    checkpoint = Checkpoint(
        **at,
        policy=f"{iteration:064x}",
        parent=f"{iteration - 1:064x}",
        optimizer="0",
        directory=f"checkpoints/{iteration:06d}",
        optimizer_steps=iteration,
        parameters=900_000,
        bytes=3_600_000,
    )
    return {
        UpdateMetric: [UpdateMetric(**at, step=0, name=name, role="all", mode="all", value=0.1) for name in names],
        Checkpoint: [checkpoint],
    }


def ask(root: Path) -> dict[str, object]:
    """Ask a history written by `write` what people and stages ask, each question on a connection of its own."""
    ledger = Ledger.open(root, RUN)
    last = max(seal.iteration for seal in ledger.sealed())
    tasks = sum(seal.outputs[Task.table].rows for seal in ledger.sealed() if Task.table in seal.outputs)
    latest = f"id_text((SELECT max(task_id) FROM task_parents WHERE iteration = {last}))"
    youngest = str(query(root, f"SELECT {latest}").rows[0][0])
    questions = {
        "open and count tasks": "SELECT count(*) FROM tasks",
        "open and list runs": "FROM runs",
        "reward curves": "FROM reward_curves",
        "ancestors of one task": f"FROM ancestors('{youngest}')",
        "descendants of one task": f"FROM descendants('{last // 2}-ded-000')",
        "rejections": "FROM rejections",
        "one task by id": f"FROM tasks WHERE run = '{RUN}' AND task_id = id_number('{youngest}')",
    }
    durations = {name: repeated(partial(query, root, sql)) for name, sql in questions.items()}
    with connect(root) as connection:
        for name in ("ancestors of one task", "descendants of one task"):
            asked = partial(connection.execute, questions[name])
            durations[f"{name}, connection open"] = repeated(lambda asked=asked: asked().fetchall())
    for name, at in (("a tenth", last // 10), ("a fifth", last // 5)):  # Python objects: all would not fit
        position = Position(at, Stage.PROPOSE)
        durations[f"valid tasks before, first time, {name}"] = repeated(
            lambda position=position: valid_tasks(Ledger.open(root, RUN), position), 1
        )
        durations[f"valid tasks before, again, {name}"] = repeated(partial(valid_tasks, ledger, position))
        durations[f"known content keys before, again, {name}"] = repeated(partial(known_content_keys, ledger, position))
    return {"iterations": last, "tasks": tasks, "partitions": len(ledger.sealed()), "seconds": durations}


def repeated(what: Callable[[], object], times: int = REPEATS) -> dict[str, list[float]]:
    """Wall-clock and CPU seconds of doing something, each time."""
    wall, cpu = [], []
    for _ in range(times):
        started, started_cpu = time.perf_counter(), time.process_time()
        what()
        wall.append(round(time.perf_counter() - started, 4))
        cpu.append(round(time.process_time() - started_cpu, 4))
    return {"wall": wall, "cpu": cpu}


def host() -> dict[str, object]:
    """What the durations depend on."""
    return {
        "python": platform.python_version(),
        "duckdb": duckdb.__version__,
        "pyarrow": pa.__version__,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Write a history, or ask one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    writing, asking = commands.add_parser("write"), commands.add_parser("ask")
    for one in (writing, asking):
        one.add_argument("directory", type=Path)
    for name, default in (("--iterations", 1000), ("--proposals", 6), ("--probes", 2)):
        writing.add_argument(name, type=int, default=default)
    asking.add_argument("--out", type=Path, required=True)
    writing.set_defaults(run=lambda given: write(given.directory, given.iterations, given.proposals, given.probes))
    asking.set_defaults(
        run=lambda given: given.out.write_text(json.dumps(host() | ask(given.directory), indent=1) + "\n")
    )
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
