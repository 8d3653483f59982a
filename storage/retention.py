"""What retention let go of a run: listed in dropped.jsonl, by path, with its hash and the reason, before it is deleted.

Nothing else is ever deleted. The order is: a line in the list, one rename out of the way, deletion. After a kill each
thing is there or listed, and whoever drops next finishes what is listed. The list is outside both hash chains: the hash
of what went stays in its seal, and only a line with that very hash explains that a file is missing.
"""

from __future__ import annotations

import dataclasses
import fcntl
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path, PurePath, PurePosixPath
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from storage.access import unwritable
from storage.commit import Disk
from storage.config import RetentionConfig
from storage.ids import Position, step_text
from storage.journal import append_line, read_lines
from storage.layout import (
    CHECKPOINTS,
    DROPPED_FILE,
    LEDGER,
    SCRATCH,
    command,
    now_us,
    parse_position,
    partition_of,
    run_names,
)
from storage.records import Tokens
from storage.seals import Seal

POINTS = ("listed", "moved", "removed")


class What(StrEnum):
    """The kinds of things that may go."""

    TOKENS = "tokens"
    OPTIMIZER = "optimizer state"
    CHECKPOINT = "checkpoint"
    UNSEALED = "unsealed checkpoint"  # published by an attempt that was killed before its seal


@with_config(ConfigDict(extra="forbid", strict=True))
@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """One thing that went: `path` is below the run, `hash` the one that its seal names, `policy` why it could go."""

    what: Annotated[What, Field(strict=False)]
    position: str
    path: str
    hash: str
    bytes: int
    policy: str
    dropped_us: int = 0  # microseconds since 1970; 0 while it is only planned

    @property
    def at(self) -> Position:
        """The partition that names it."""
        return parse_position(self.position)


_LINE = TypeAdapter(Dropped)
_OURS = re.compile(rf"{CHECKPOINTS}/[^/]+(/optimizer)?|{LEDGER}/[^/]+/[^/]+/{Tokens.table}\.parquet")


def dropped(run_directory: Path) -> dict[str, Dropped]:
    """What a run let go, by its path below the run; a torn or edited line says nothing."""
    return {one.path: one for one in _listed(run_directory)}


def dropped_bytes(root: Path) -> int:
    """The size of the lists of all runs below a root; it grows when something is let go."""
    return sum(size_of(root / name / DROPPED_FILE) for name in run_names(root))


@contextmanager
def guarded(run_directory: Path) -> Iterator[None]:
    """Hold what may be dropped of a run as it is: whoever drops waits, and so does whoever begins a fork.

    Raises LedgerError when the run's directory cannot be written.
    """
    try:
        descriptor = os.open(run_directory / DROPPED_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise unwritable(run_directory, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough: a child forked meanwhile has it open as well
        os.close(descriptor)


def drop(run_directory: Path, things: Sequence[Dropped], disk: Disk) -> list[Dropped]:
    """List and delete these, one by one; the caller holds the run's lock and `guarded`.

    What a killed call listed last is deleted first. Returns what was listed now. Raises OSError; each thing is then
    there or listed.
    """
    for left in _listed(run_directory)[-1:]:  # only the last: an earlier one that is there was restored from a backup
        _delete(run_directory, left, disk)
    listed = []
    for thing in things:
        gone = dataclasses.replace(thing, dropped_us=now_us())
        append_line(run_directory / DROPPED_FILE, dataclasses.asdict(gone), durable=disk.durable)
        disk.pause("listed")
        listed.append(gone)
        _delete(run_directory, gone, disk)
    return listed


def explains(gone: Mapping[str, Dropped], path: PurePath, wanted: str) -> bool:
    """Whether `gone`, of `dropped`, lists a path below the run with the hash that its seal names."""
    found = gone.get(path.as_posix())
    return found is not None and found.hash == wanted


def explanation(run_directory: Path, path: Path, wanted: str) -> str | None:
    """Why a path of a run that should have this hash is not there, as a message; None when it was not dropped."""
    gone, below = dropped(run_directory), path.relative_to(run_directory)
    if path.exists() or not explains(gone, below, wanted):
        return None
    found = gone[below.as_posix()]
    return f"{told(found)} Its hash {wanted[:12]} stays in the seal. Nothing was written. {again(run_directory, found)}"


def told(gone: Dropped) -> str:
    """What went, when and why, as a sentence."""
    since = datetime.fromtimestamp(gone.dropped_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{gone.path} ({gone.what} of {gone.position}) was dropped on {since} by {gone.policy}."


def again(run_directory: Path, gone: Dropped) -> str:
    """How to have it again."""
    step = step_text(gone.at.iteration, gone.at.round)
    fork = command("fork", "--at", step, root=run_directory.parent, run=run_directory.name)
    return f"Make it again by training a fork up to there: {fork}"


def spare_tokens(
    run_directory: Path, made: Iterable[Seal], config: RetentionConfig, *, updated: int, held: Collection[int]
) -> list[Dropped]:
    """The token tables that may go, oldest first.

    Args:
        run_directory: the run that made the partitions.
        made: their seals, in the order of positions.
        config: how many iterations keep theirs.
        updated: the last iteration whose update is sealed.
        held: iterations in which a fork leaves this run: its update reads their tokens.
    """
    if config.tokens_last == 0:
        return []
    policy = f"retention.tokens_last = {config.tokens_last}"
    old = [seal for seal in made if seal.iteration <= updated - config.tokens_last and seal.iteration not in held]
    spare = [_tokens(run_directory, seal, policy) for seal in old if Tokens.table in seal.outputs]
    return [thing for thing in spare if (run_directory / thing.path).exists()]


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a directory; 0 when there is none."""
    if path.is_dir():
        return sum(size_of(entry) for entry in path.iterdir())
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _tokens(run_directory: Path, seal: Seal, policy: str) -> Dropped:
    output = seal.outputs[Tokens.table]
    path = (partition_of(run_directory, seal.position) / output.file).relative_to(run_directory).as_posix()
    return Dropped(
        what=What.TOKENS,
        position=str(seal.position),
        path=path,
        hash=output.file_hash,
        bytes=output.bytes,
        policy=policy,
    )


def _listed(run_directory: Path) -> list[Dropped]:
    found = (_parsed(line) for line in read_lines(run_directory / DROPPED_FILE))
    return [one for one in found if one is not None]


def _parsed(line: str) -> Dropped | None:
    try:
        found = _LINE.validate_json(line)
        parse_position(found.position)
    except (ValidationError, ValueError):
        return None
    return found if _is_ours(PurePosixPath(found.path)) else None


def _is_ours(path: PurePosixPath) -> bool:
    """Whether a path names something that retention may drop; the list could have been edited."""
    return ".." not in path.parts and _OURS.fullmatch(str(path)) is not None


def _delete(run_directory: Path, gone: Dropped, disk: Disk) -> None:
    """Move it out of the way in one step, then delete it; what a kill leaves in scratch is swept there."""
    path, scratch = run_directory / gone.path, run_directory / SCRATCH
    if not path.exists():
        return
    scratch.mkdir(exist_ok=True)
    moved = scratch / f"dropped.{gone.path.replace('/', '.')}.{os.getpid()}"
    path.rename(moved)
    disk.pause("moved")
    if moved.is_dir():
        shutil.rmtree(moved)
    else:
        moved.unlink()
    disk.pause("removed")
