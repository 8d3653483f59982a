"""Where things lie below a root, and in which order: the one place that knows file names.

```
<root>/<run>/run.json                       marks a run
<root>/<run>/ledger/000012/<stage>/         one sealed partition: tables and seal.json
<root>/<run>/ledger/000000.02/<stage>/      the same for a bootstrap round
<root>/<run>/scratch/000012.00.solve.attempt-1.4711/    an attempt that is not sealed yet
<root>/<run>/checkpoints/<name>/            published policies
<root>/<run>/rescored/<rule>.parquet        what would have been paid by another rule; in no hash chain
<root>/<run>/attempts.jsonl                 every attempt, also failed and killed ones
<root>/<run>/dropped.jsonl                  what retention let go, with its hash and the reason
<root>/<run>/index.jsonl                    what readers want of every seal, in one file; decides nothing
<root>/<run>/writer.lock                    held by the one writer
<root>/<run>/mlflow.json                    where MLflow keeps the run
<root>/<run>/azr.log                        what was said, with tracebacks; for people
```
A root may hold other files; whatever has no run.json is not ours.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import time
from collections.abc import Collection
from pathlib import Path

from storage.errors import ConfigError, LedgerError
from storage.ids import Position, Stage, step_text

RUN_FILE = "run.json"
SEAL_FILE = "seal.json"
ATTEMPTS_FILE = "attempts.jsonl"
INDEX_FILE = "index.jsonl"
DROPPED_FILE = "dropped.jsonl"
LOCK_FILE = "writer.lock"
LOG_FILE = "azr.log"
MLFLOW_LINK = "mlflow.json"  # where MLflow keeps the run
MLFLOW_STORE, MLFLOW_FILES = "mlflow.db", "mlflow-artifacts"  # below a root, when no tracking URI is given
LEDGER, SCRATCH, CHECKPOINTS, RESCORED = "ledger", "scratch", "checkpoints", "rescored"

_STAGES = list(Stage)
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_STEP = re.compile(r"(\d{6,})(?:\.(\d{2,}))?")
_POSITION = re.compile(r"(\d+)(?:\.(\d+))?/([a-z]+)")
_latest = (0, 0)  # what `now_us` said last, and the monotonic clock then


def order(position: Position) -> tuple[int, int, int]:
    """Sorting key of positions: iteration, bootstrap round, then the order of the stages."""
    return position.iteration, position.round, _STAGES.index(position.stage)


def step_directory(iteration: int, round: int) -> str:
    """Directory name of an iteration (``000012``) or a bootstrap round (``000000.02``)."""
    return f"{iteration:06d}.{round:02d}" if iteration == 0 else f"{iteration:06d}"


def partition_of(run_directory: Path, position: Position) -> Path:
    """The directory of one partition; raises ValueError for a round outside the bootstrap."""
    if position.iteration and position.round:
        raise ValueError(f"round {position.round} of iteration {position.iteration}: only iteration 0 has rounds")
    return run_directory / LEDGER / step_directory(position.iteration, position.round) / position.stage


def scratch_of(run_directory: Path, position: Position, attempt: int, pid: int) -> Path:
    """The directory in which an attempt builds its partition."""
    name = f"{position.iteration:06d}.{position.round:02d}.{position.stage}.attempt-{attempt}.{pid}"
    return run_directory / SCRATCH / name


def partitions(run_directory: Path, without: Collection[str] = ()) -> list[Position]:
    """The position of every partition directory, latest first; step directories in `without` are not opened.

    Latest first, because a writer may be at work: whatever a partition was made from is older than it, so it is
    there by the time it is looked for.
    """
    ledger = run_directory / LEDGER
    found: list[Position] = []
    entries = [entry for entry in _entries(ledger) if entry not in without]
    steps = [step for entry in entries if (step := _STEP.fullmatch(entry)) is not None]
    for step in sorted(steps, key=lambda step: (int(step[1]), int(step[2] or 0)), reverse=True):
        stages = [Stage(entry) for entry in _entries(ledger / step[0]) if entry in _STAGES]
        positions = [Position(int(step[1]), stage, int(step[2] or 0)) for stage in stages]
        found += sorted(positions, key=order, reverse=True)
    return found


def ledger_entries(run_directory: Path) -> list[Path]:
    """Everything in the first two levels of the ledger's directory, ours or not."""
    ledger = run_directory / LEDGER
    steps = [ledger / entry for entry in _entries(ledger)]
    return steps + [step / entry for step in steps for entry in _entries(step)]


def is_begun(path: Path) -> bool:
    """Whether this is the directory of a step whose first stage is not there yet: made, but nothing moved into it."""
    return _STEP.fullmatch(path.name) is not None and path.is_dir() and not _entries(path)


def parse_position(written: str) -> Position:
    """The position behind ``12/solve`` or ``0.2/validate``; raises ValueError when it is none."""
    found = _POSITION.fullmatch(written)
    if found is None:
        raise ValueError(f"{written!r} is not a position such as 12/solve or 0.2/validate")
    return Position(int(found[1]), Stage(found[3]), int(found[2] or 0))


def run_directory(root: Path, run: str) -> Path:
    """The directory of a run; raises ConfigError when the name cannot be a directory name."""
    if _RUN_NAME.fullmatch(run) is None:
        raise ConfigError(
            f"{run!r} cannot name a run: letters, digits, dot, dash and underscore, at most 100, "
            "beginning with a letter or digit. Nothing was read or written. Choose another: azr train --run NAME"
        )
    return root / run


def run_names(root: Path) -> list[str]:
    """Names of the runs below a root, sorted; empty when there are none or the root does not exist."""
    return sorted(name for name in _entries(root) if _RUN_NAME.fullmatch(name) and (root / name / RUN_FILE).is_file())


def require_runs(root: Path) -> list[str]:
    """Names of the runs below a root; raises LedgerError when there is none."""
    if names := run_names(root):
        return names
    what = "holds no run" if root.is_dir() else "does not exist"
    raise LedgerError(
        f"There is no ledger here: {root} {what}. Nothing was read or written. "
        f"Name the right directory with --root, or begin: {command('train', root=root)} --config FILE"
    )


def command(*words: str | int, root: Path, run: str | None = None) -> str:
    """A command line of `azr` to put in front of a person, quoted for the shell."""
    options = ["--root", str(root), *(["--run", run] if run else [])]
    return shlex.join([_program(), *map(str, words), *options])


def _program() -> str:
    """What to type for `azr`: its path as given, when the shell would not find it by name."""
    script = Path(sys.argv[0])
    found = shutil.which("azr")
    if script.name != "azr" or (found is not None and script.exists() and Path(found).samefile(script)):
        return "azr"
    return sys.argv[0]


def rerun_command(root: Path, run: str, position: Position) -> str:
    """The command that makes one missing partition."""
    step = step_text(position.iteration, position.round)
    return command("rerun", step, position.stage.value, root=root, run=run)


def now_us() -> int:
    """Wall-clock time, microseconds since 1970; within a process it never goes back, though the clock may be set so."""
    global _latest
    wall, ticks = time.time_ns() // 1000, time.monotonic_ns() // 1000
    said, then = _latest
    now = wall if wall >= said else said + ticks - then
    _latest = now, ticks
    return now


def _entries(directory: Path) -> list[str]:
    try:
        return [entry.name for entry in directory.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise LedgerError(f"{directory} cannot be read: {error}. Nothing was read or written.") from error


def tracking_uri(root: Path, uri: str) -> str:
    """The MLflow tracking URI that a config names, or the local store of a root."""
    return uri or f"sqlite:///{(root / MLFLOW_STORE).resolve()}"


def another_run(root: Path) -> str:
    """The last way out of a damaged run, as a sentence."""
    return f"Or begin another run: {command('train', root=root, run='NAME')}"
