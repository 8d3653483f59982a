"""Kill whole trainings with SIGKILL, look after each kill, and compare their ends with uninterrupted ones.

usage: python drive_kills.py DIRECTORY KILLS SEED...

Every run is killed once in each of its stages and at random times, then left to finish. Prints one line per kill and
one per run; fails at the first surprise. All trainings share one private Prefect server.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from azr_process import End, Person, await_stage, end_of, family, gone, sealed, tiny, until

from storage.attempts import AttemptRecord, Outcome
from storage.ids import Position, Stage
from storage.layout import RUN_FILE
from storage.ledger import Ledger

ITERATIONS = 2
DEATH = 30.0  # seconds until the children of a killed training must be gone, on a machine that does other things
STAGES = [
    Position(0, Stage.UPDATE),
    *(Position(0, stage, 1) for stage in (Stage.PROPOSE, Stage.VALIDATE)),
    *(Position(iteration, stage) for iteration in range(1, ITERATIONS + 1) for stage in Stage),
]


class Kill(NamedTuple):
    """When to kill: so long after an attempt at a stage begins, or after the command begins where there is none."""

    at: Position | None
    after: float

    def __str__(self) -> str:
        return f"{self.at or 'the command'} + {self.after:.2f} s"


class Killed(NamedTuple):
    """What a kill met."""

    running: Position | None  # the stage that was cut off, if any
    sealed: int  # stages
    children: int
    output: str


def kill(person: Person, root: Path, run: str, when: Kill, *, seed: int = 1) -> Killed | None:
    """Begin or continue a training and kill it; None when it had ended before."""
    process = person.start(*tiny(root, run, ITERATIONS, seed))
    if when.at is None or await_stage(process, root, run, when.at):
        time.sleep(when.after)
    if process.poll() is not None:
        process.communicate()
        return None
    return kill_now(process, root, run)


def kill_now(process: subprocess.Popen[str], root: Path, run: str) -> Killed:
    """Kill a training and nothing else, and look: nothing is lost, nothing is left, all that is sealed is whole."""
    process.send_signal(signal.SIGSTOP)  # it begins no more children between the look and the kill
    children, held = family(process.pid), sealed(root, run)
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate(timeout=DEATH)
    assert process.returncode == -signal.SIGKILL
    assert until(lambda: gone(children), DEATH), f"left behind: {children}"
    now = sealed(root, run)
    assert now == held, f"sealed before the kill: {held}, after it: {now}"
    return Killed(cut_off(root, run), len(now), len(children), output)


def cut_off(root: Path, run: str) -> Position | None:
    """The stage whose last attempt was killed, after a look at the whole run."""
    if not (root / run / RUN_FILE).exists():
        return None
    ledger = Ledger.open(root, run)
    assert ledger.owner() is None
    assert ledger.verify() == []
    last = {record.position: record for record in ledger.attempts()}
    killed = [at for at, record in last.items() if record.outcome is Outcome.KILLED]
    assert len(killed) <= 1, killed
    return killed[0] if killed else None


def attempts_by_stage(root: Path, run: str) -> dict[Position, list[AttemptRecord]]:
    """Every attempt of a run."""
    found: dict[Position, list[AttemptRecord]] = {}
    for record in Ledger.open(root, run).attempts():
        found.setdefault(record.position, []).append(record)
    return found


def only_the_killed_was_done_again(root: Path, run: str, cuts: Sequence[Position | None]) -> None:
    """Each stage was sealed once, by its last attempt, and begun once more for each kill in it."""
    times = Counter(cuts)
    for at, records in attempts_by_stage(root, run).items():
        outcomes = [record.outcome for record in records]
        assert outcomes == [Outcome.KILLED] * times[at] + [Outcome.SEALED], f"{at}: {outcomes}"


def finish(person: Person, root: Path, run: str, *, seed: int = 1) -> tuple[End, str]:
    """Let a training come to its end; returns what it came to and what it said."""
    done = person.azr(*tiny(root, run, ITERATIONS, seed))
    assert done.code == 0, done
    return end_of(root, run), done.out


def plan(kills: int, seed: int) -> Iterator[Kill]:
    """A fixed list of moments: the stages in their order, a time in each, and times from the command's start."""
    draw = random.Random(seed)
    chosen = sorted(draw.sample(range(len(STAGES)), min(kills - kills // 5, len(STAGES))))
    yield from (Kill(None, draw.uniform(0, 12)) for _ in range(kills - len(chosen)))
    yield from (Kill(STAGES[number], draw.choice([0.0, draw.uniform(0, 1.0)])) for number in chosen)


def drive(directory: Path, kills: int, seed: int) -> Counter[str]:
    """Kill one run so often, then compare it with one that was left alone; returns kills by stage that was cut off."""
    root, person = directory / "root", Person(directory / f"person-{seed}")
    wanted, _ = finish(person, root, f"whole-{seed}", seed=seed)
    run, cuts = f"killed-{seed}", []
    for number, when in enumerate(plan(kills, seed), 1):
        met = kill(person, root, run, when, seed=seed)
        if met is None:
            print(f"seed {seed} kill {number:2}: {when}: had ended before", flush=True)
            continue
        cuts.append(met.running)
        what = f"cut off {met.running or 'no stage'}, {met.sealed} sealed, {met.children} children gone"
        print(f"seed {seed} kill {number:2}: {when}: {what}", flush=True)
    found, _ = finish(person, root, run, seed=seed)
    assert found == wanted, f"{found} is not {wanted}"
    only_the_killed_was_done_again(root, run, cuts)
    print(
        f"seed {seed}: {len(cuts)} kills, ledger {found.ledger_hash[:12]}, policy {found.policy[:12]}: as uninterrupted"
    )
    return Counter(str(cut.stage) if cut else "between" for cut in cuts)


def main(words: Sequence[str]) -> None:
    """Drive every seed with one server."""
    directory, kills, seeds = Path(words[0]), int(words[1]), [int(word) for word in words[2:]]
    total: Counter[str] = Counter()
    with Person(directory / "holder").server(directory / "root"):
        for seed in seeds:
            total += drive(directory, kills, seed)
    print(f"{total.total()} kills: " + ", ".join(f"{count} {word}" for word, count in sorted(total.items())))


if __name__ == "__main__":
    main(sys.argv[1:])
