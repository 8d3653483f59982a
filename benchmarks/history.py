"""A synthetic history, written through the ledger's own code, and how long it takes to ask it.

usage: python benchmarks/history.py write DIRECTORY --iterations 1000 --proposals 8 --probes 4
       python benchmarks/history.py ask DIRECTORY --out FILE.json
       python benchmarks/history.py audit DIRECTORY --run NAME --out FILE.json

`write` seals whole iterations of the five stages (rows through records, partitions and seals, without fsync). `ask`
opens the root anew for every repetition and writes each duration, in seconds, with what was asked of which history.
`audit` audits a real run, since a synthetic one would be all findings.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import chain, count
from pathlib import Path
from uuid import UUID

import duckdb
import pyarrow as pa
from synthetic import PROVENANCE, Valid, stages

from flows.shares import in_processes
from storage.audit import read_all_seals
from storage.buffers import first_with, tasks_of, valid_ids
from storage.commit import Disk
from storage.database import connect, query
from storage.ids import Position, Stage
from storage.ledger import Ledger
from storage.records import Task
from storage.seals import RunFacts
from storage.seeds import rng

RUN = "history"
REPEATS = 5
DRAWN = 64


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
    durations |= sampling(root, last)
    return {"iterations": last, "tasks": tasks, "partitions": len(ledger.sealed()), "seconds": durations}


def sampling(root: Path, last: int) -> dict[str, dict[str, list[float]]]:
    """What a stage does before it asks a model: the buffers, a draw from them, the tasks drawn; and known contents."""
    ledger = Ledger.open(root, RUN)
    durations = {"buffers, first time in a process": repeated(ledger.buffers, 1)}
    for name, at in (("a tenth", last // 10), ("half", last // 2), ("the end", last)):
        position = Position(at, Stage.PROPOSE)
        numbers = count()  # other tasks each time, or rows would be remembered
        durations[f"draw {DRAWN} tasks before {name}"] = repeated(
            lambda position=position, numbers=numbers: drawn(ledger, position, next(numbers))
        )
        keys = [UUID(int=one) for one in range(DRAWN)]
        durations[f"look up {DRAWN} content keys before {name}"] = repeated(partial(first_with, ledger, keys, position))
    return durations


def drawn(ledger: Ledger, before: Position, number: int) -> list[Task]:
    """As many valid tasks, whole, from all modes, by a generator of their own."""
    pool = list(chain.from_iterable(valid_ids(ledger, before).values()))
    draw = rng(number, before.iteration)
    ids = [pool[place] for place in draw.sample(range(len(pool)), min(DRAWN, len(pool)))]
    return list(tasks_of(ledger, ids).values())


def check(root: Path, run: str) -> dict[str, object]:
    """Audit a real run in as many processes as there are cores, values as stored.

    `after_first` leaves out the start of the processes and the first step, the bootstrap's small one; a million
    rollouts at that pace are `seconds_per_million`.
    """
    rollouts = int(str(query(root, "SELECT count(*) FROM rollouts", run).rows[0][0]))
    seals, _ = read_all_seals(root / run)
    whole, after_first = [], []
    for _ in range(REPEATS):
        started = time.perf_counter()
        steps = in_processes(root, run, seals, os.cpu_count() or 1)
        next(steps)
        first = time.perf_counter()
        deque(steps, maxlen=0)
        whole.append(round(time.perf_counter() - started, 3))
        after_first.append(round(time.perf_counter() - first, 3))
    million = round(statistics.median(after_first) * 1e6 / rollouts, 1)
    found = {"rollouts": rollouts, "iterations": max(at.iteration for at in seals), "seconds_per_million": million}
    return found | {"whole": whole, "after_first": after_first}


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


def keep(file: Path, found: dict[str, object]) -> None:
    """Write figures with what they depend on."""
    file.write_text(json.dumps(host() | found, indent=1) + "\n")


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
    checking = commands.add_parser("audit")
    checking.add_argument("directory", type=Path)
    checking.add_argument("--run", dest="name", required=True)
    checking.add_argument("--out", type=Path, required=True)
    checking.set_defaults(run=lambda given: keep(given.out, check(given.directory, given.name)))
    writing.set_defaults(run=lambda given: write(given.directory, given.iterations, given.proposals, given.probes))
    asking.set_defaults(run=lambda given: keep(given.out, ask(given.directory)))
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
