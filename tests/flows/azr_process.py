"""`azr` as a person meets it: a real process with a home, a working directory and nothing of Prefect around it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

from storage.attempts import read_attempts
from storage.ids import Position, Stage
from storage.layout import RUN_FILE
from storage.ledger import Ledger
from storage.lock import process_mark
from storage.records import Checkpoint

AZR = Path(sys.executable).with_name("azr")
REPOSITORY = Path(__file__).resolve().parents[2]
NANO = REPOSITORY / "configs" / "nano.toml"
TINY = (
    "--set", "curriculum.proposals=4", "--set", "curriculum.probes=2", "--set", "curriculum.buffer_tasks=2",
    "--set", "bootstrap.wanted=4", "--set", "bootstrap.proposals=8", "--set", "engine.threads=1",
    "--set", "tracking.mlflow=false",
)  # fmt: skip
PATIENCE = 240.0  # seconds until a step that takes seconds counts as stuck

_HOLDER = """
import sys
from pathlib import Path
from flows.server import prefect_server
with prefect_server(Path(sys.argv[1])) as api:
    print(api, flush=True)
    sys.stdin.read()
"""


class Done(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


class End(NamedTuple):
    """What a run came to, for comparing two of them."""

    ledger_hash: str
    policy: str
    optimizer: str | None


class Person:
    """Someone at a shell of their own; `variables` are added to a small environment."""

    def __init__(self, directory: Path, **variables: str) -> None:
        self.home, self.desk, self.temporary = directory / "home", directory / "desk", directory / "tmp"
        for made in (self.home, self.desk, self.temporary):
            made.mkdir(parents=True)
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        self.environment = {
            **kept,
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
            **variables,
        }

    def azr(self, *words: str | Path, limits: Callable[[], None] | None = None) -> Done:
        """Run one command to its end; `limits` runs in the child before azr starts."""
        done = subprocess.run(
            [AZR, *words],
            cwd=self.desk,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            preexec_fn=limits,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *words: str | Path, to: Path | None = None) -> subprocess.Popen[str]:
        """Begin a command in a session of its own; what it says goes into a pipe, or to a file."""
        with nullcontext(subprocess.PIPE) if to is None else to.open("w") as output:
            return subprocess.Popen(
                [AZR, *words],
                cwd=self.desk,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    @contextmanager
    def server(self, *roots: Path) -> Iterator[list[str]]:
        """Use the private servers of some roots, each from a process of its own; all are asked for at once."""
        holders = [
            subprocess.Popen(
                [sys.executable, "-c", _HOLDER, str(root)],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for root in roots
        ]
        try:
            yield [holder.stdout.readline().strip() for holder in holders if holder.stdout is not None]
        finally:
            for holder in holders:
                holder.communicate("", timeout=PATIENCE)


def tiny(root: Path, run: str, iterations: int = 2, seed: int = 1) -> list[str]:
    """The words that train a small run."""
    wanted = ["--iterations", str(iterations), "--set", f"seed={seed}"]
    return ["train", "--config", str(NANO), "--root", str(root), "--run", run, *wanted, *TINY]


def until(true: Callable[[], bool], patience: float = PATIENCE) -> bool:
    """Wait for something; False when it did not come about."""
    deadline = time.monotonic() + patience
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def begun(root: Path, run: str) -> list[tuple[Position, int]]:
    """Position and number of every attempt begun so far."""
    return [(record.position, record.attempt) for record in read_attempts(root / run, {})]


def await_stage(process: subprocess.Popen[str], root: Path, run: str, at: Position) -> bool:
    """Wait until a running training begins an attempt at a stage; False when it ends before."""
    known = set(begun(root, run))
    new = lambda: any(one[0] == at and one not in known for one in begun(root, run))  # noqa: E731 - said once
    until(lambda: new() or process.poll() is not None)
    return new()


def family(pid: int) -> dict[int, str]:
    """All living descendants of a process, each with the mark that tells it from a later one with its pid."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    found: set[int] = set()
    layer = {pid}
    while layer := {child for child, parent in parents.items() if parent in layer}:
        found |= layer
    return {child: mark for child in found if (mark := process_mark(child)) is not None}


def gone(processes: dict[int, str]) -> bool:
    """Whether none of these processes lives any more."""
    return all(process_mark(pid) != mark for pid, mark in processes.items())


def end_of(root: Path, run: str) -> End:
    """The hashes that a run came to."""
    ledger = Ledger.open(root, run)
    last = max(seal.iteration for seal in ledger.sealed() if seal.stage is Stage.UPDATE)
    row = ledger.read(Checkpoint, Position(last, Stage.UPDATE))[0]
    return End(ledger.ledger_hash(), row.policy, row.optimizer)


def sealed(root: Path, run: str) -> dict[Position, int]:
    """Every sealed position with the attempt that counts; empty when there is no run yet."""
    if not (root / run / RUN_FILE).exists():
        return {}
    return {seal.position: seal.attempt for seal in Ledger.open(root, run).sealed()}


def picture(directory: Path, *, leave_out: tuple[str, ...] = ()) -> dict[str, str]:
    """What lies in a directory: every path below it, files with a hash of their bytes."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if not name.startswith(leave_out) or not leave_out:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "directory"
    return found
