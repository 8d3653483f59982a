"""Kill whole trainings with SIGKILL, look after each kill, and compare their ends with uninterrupted ones.

usage: python drive_kills.py DIRECTORY SEED...

Every run is killed in each of its stages and at random times between. After its first iteration it is forked, and from
then on kills fall on the run and on its fork in turns; retention drops what it may. Both are then left to finish. All
the while another process reads the ledgers. Prints one line per kill and one per run; fails at the first surprise.
All trainings share one private Prefect server.
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

sys.path.append(str(Path(__file__).parents[1] / "storage"))  # where the onlooker lies

from onlooker import watching

from models.manifest import verify
from storage.attempts import AttemptRecord, Outcome
from storage.ids import Position, Stage
from storage.layout import RUN_FILE
from storage.ledger import Ledger

ITERATIONS = 2
SPARING = (
    "--set", "retention.room_gb=0", "--set", "retention.checkpoints_last=1", "--set", "retention.optimizer_last=1",
    "--set", "retention.tokens_last=1",
)  # fmt: skip
FORKED = ("1.solve", "1.update", "2")  # where a fork may begin once iteration 1 is sealed
SLOW = 1800.0  # seconds for a training on a machine that does other things
BREATH = 0.2  # seconds between two looks of the onlooker, which would else fill a core
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
    process = person.start(*tiny(root, run, ITERATIONS, seed), *SPARING)
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


def plan(stages: Sequence[Position], draw: random.Random) -> Iterator[Kill]:
    """A time in every stage, in their order, and times from the start of the command."""
    for at in stages:
        if draw.random() < 0.25:
            yield Kill(None, draw.uniform(0, 5))
        yield Kill(at, draw.choice([0.0, draw.uniform(0, 0.4)]))


def in_turns(one: Sequence[Kill], other: Sequence[Kill], draw: random.Random) -> Iterator[tuple[int, Kill]]:
    """Both lists in their orders, mixed: which list, and its next kill."""
    turns = [0] * len(one) + [1] * len(other)
    draw.shuffle(turns)
    lists = iter(one), iter(other)
    for turn in turns:
        yield turn, next(lists[turn])


class Victim:
    """A run that is killed again and again, and what each kill cut off."""

    def __init__(self, person: Person, root: Path, run: str, seed: int) -> None:
        self.person, self.root, self.run, self.seed = person, root, run, seed
        self.cuts: list[Position | None] = []

    def strike(self, when: Kill) -> None:
        """One kill, unless an earlier one came after the seal of its stage."""
        if when.at in sealed(self.root, self.run):
            return
        met = kill(self.person, self.root, self.run, when, seed=self.seed)
        if met is None:
            say(f"{self.run}, {when}: had ended before")
            return
        self.cuts.append(met.running)
        what = f"cut off {met.running or 'no stage'}, {met.sealed} stages sealed, {met.children} children gone"
        say(f"{self.run}, kill {len(self.cuts)} at {when}: {what}")

    def train(self, iterations: int) -> None:
        """Let it come to so many iterations."""
        process = self.person.start(*tiny(self.root, self.run, iterations, self.seed), *SPARING)
        said, _ = process.communicate(timeout=SLOW)
        assert process.returncode == 0, said

    def end(self, wanted: End) -> None:
        """Let it finish, and compare its end, files and attempts with what an uninterrupted run came to."""
        self.train(ITERATIONS)
        found = end_of(self.root, self.run)
        assert found == wanted, f"{found} is not {wanted}"
        last = verify(next((self.root / self.run).glob(f"checkpoints/{ITERATIONS:06d}-*")))
        assert (last.policy, last.optimizer) == (wanted.policy, wanted.optimizer)
        only_the_killed_was_done_again(self.root, self.run, self.cuts)
        same = f"ledger {found.ledger_hash[:12]} and policy {found.policy[:12]} as uninterrupted"
        say(f"{self.run}: {len(self.cuts)} kills, {same}")


def fork(parent: Victim, draw: random.Random) -> Victim:
    """A fork of a run whose first iteration is sealed, begun by a command that is killed until it has been quick."""
    child = Victim(parent.person, parent.root, f"fork-{parent.seed}", parent.seed)
    at = draw.choice(FORKED)
    words = ("fork", "--root", parent.root, "--run", parent.run, "--at", at, "--name", child.run)
    for number, after in enumerate((draw.uniform(0, 3) for _ in range(3)), start=1):
        if (parent.root / child.run / RUN_FILE).exists():
            break
        process = parent.person.start(*words)
        time.sleep(after)
        process.kill()
        process.communicate()
        say(f"{child.run}, kill {number} of its beginning at {at} after {after:.2f} s")
    if not (parent.root / child.run / RUN_FILE).exists():
        done = parent.person.azr(*words)
        assert done.code == 0, done
    return child


def drive(directory: Path, seed: int) -> Counter[str]:
    """Kill one run and its fork, then compare both with one that was left alone; returns kills by stage cut off."""
    root, person, draw = directory / "root", Person(directory / f"person-{seed}"), random.Random(seed)
    whole, victim = (Victim(person, root, f"{name}-{seed}", seed) for name in ("whole", "killed"))
    whole.train(ITERATIONS)
    wanted = end_of(root, whole.run)
    early, late = ([at for at in STAGES if (at.iteration == ITERATIONS) is last] for last in (False, True))
    for when in plan(early, draw):
        victim.strike(when)
    victim.train(ITERATIONS - 1)
    child = fork(victim, draw)
    mine, its = list(plan(late, draw)), list(plan(STAGES, draw))
    for turn, when in in_turns(mine, its, draw):
        (victim, child)[turn].strike(when)
    for one in (victim, child):
        one.end(wanted)
    return Counter(cut.stage.value if cut else "between stages" for cut in (*victim.cuts, *child.cuts))


def say(text: str) -> None:
    """One line, at once."""
    print(text, flush=True)


def main(words: Sequence[str]) -> None:
    """Drive every seed with one server."""
    directory, seeds = Path(words[0]), [int(word) for word in words[1:]]
    total: Counter[str] = Counter()
    with Person(directory / "holder").server(directory / "root"), watching(directory, "root", BREATH) as seen:
        for seed in seeds:
            total += drive(directory, seed)
    say(f"{total.total()} kills: " + ", ".join(f"{count} {word}" for word, count in total.most_common()))
    say(f"an onlooker read beside them: {seen.reads}, failures: {len(seen.failures)}")
    assert not seen.failures, seen.failures


if __name__ == "__main__":
    main(sys.argv[1:])
