"""Kill whole trainings with SIGKILL, look after each kill, and compare their ends with uninterrupted ones.

usage: python drive_kills.py DIRECTORY SEED...

Every run is killed in each of its stages and at random times between, then left to finish. Prints one line per kill
and one per run; fails at the first surprise. All trainings share one private Prefect server.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
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


def kill_now(process: subprocess.Popen[str], root: Path, run: str, *, spare: Collection[int] = ()) -> Killed:
    """Kill a training and nothing else, and look: nothing is lost, nothing is left, all that is sealed is whole.

    `spare` are children that others use.
    """
    process.send_signal(signal.SIGSTOP)  # it begins no more children between the look and the kill
    children = {pid: mark for pid, mark in family(process.pid).items() if pid not in spare}
    held = sealed(root, run)
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate(timeout=DEATH)
    assert process.returncode == -signal.SIGKILL
    assert until(lambda: gone(children), DEATH), f"left behind: {children}"
    now = sealed(root, run)
    assert now == held, f"sealed before the kill: {held}, after it: {now}"
    return Killed(cut_off(root, run, process.pid), len(now), len(children), output)


def cut_off(root: Path, run: str, pid: int) -> Position | None:
    """The stage that a killed process was at, after a look at the whole run."""
    if not (root / run / RUN_FILE).exists():
        return None
    ledger = Ledger.open(root, run)
    assert ledger.owner() is None
    assert ledger.verify() == []
    killed = [one.position for one in ledger.attempts() if one.pid == pid and one.outcome is Outcome.KILLED]
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


def plan(seed: int) -> Iterator[Kill]:
    """A fixed list of moments: a time in every stage, in their order, and times from the start of the command."""
    draw = random.Random(seed)
    for at in STAGES:
        if draw.random() < 0.25:
            yield Kill(None, draw.uniform(0, 5))
        yield Kill(at, draw.choice([0.0, draw.uniform(0, 0.4)]))


def drive(directory: Path, seed: int) -> Counter[str]:
    """Kill one run again and again, then compare it with one that was left alone; returns kills by stage cut off."""
    root, person = directory / "root", Person(directory / f"person-{seed}")
    wanted, _ = finish(person, root, f"whole-{seed}", seed=seed)
    run = f"killed-{seed}"
    cuts: list[Position | None] = []
    for when in plan(seed):
        if when.at in sealed(root, run):
            continue  # an earlier kill came after its seal
        met = kill(person, root, run, when, seed=seed)
        if met is None:
            say(f"seed {seed}, {when}: had ended before")
            continue
        cuts.append(met.running)
        what = f"cut off {met.running or 'no stage'}, {met.sealed} stages sealed, {met.children} children gone"
        say(f"seed {seed}, kill {len(cuts)} at {when}: {what}")
    found, _ = finish(person, root, run, seed=seed)
    assert found == wanted, f"{found} is not {wanted}"
    only_the_killed_was_done_again(root, run, cuts)
    same = f"ledger {found.ledger_hash[:12]} and policy {found.policy[:12]} as uninterrupted"
    say(f"seed {seed}: {len(cuts)} kills, {same}")
    return Counter(cut.stage.value if cut else "between stages" for cut in cuts)


def say(text: str) -> None:
    """One line, at once."""
    print(text, flush=True)


def main(words: Sequence[str]) -> None:
    """Drive every seed with one server."""
    directory, seeds = Path(words[0]), [int(word) for word in words[1:]]
    total: Counter[str] = Counter()
    with Person(directory / "holder").server(directory / "root"):
        for seed in seeds:
            total += drive(directory, seed)
    say(f"{total.total()} kills: " + ", ".join(f"{count} {word}" for word, count in total.most_common()))


if __name__ == "__main__":
    main(sys.argv[1:])
