"""What rollouts would have been paid by another rule or after another verdict: a side table per rule.

``<run>/rescored/<rule>.parquet`` lies beside the ledger, in no hash chain. It appears whole by one rename, and is
replaced as a whole.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import pyarrow.parquet as pq

from storage.errors import ConfigError, LedgerError
from storage.ids import Mode, Role
from storage.layout import RESCORED
from storage.records import Column, Kind, Row
from storage.schemas import schema_of, to_table

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SUFFIX, _PARTIAL = ".parquet", ".partial"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescored(Row):
    """One rollout, paid by another rule or after another verdict."""

    table: ClassVar[str] = "rescored"
    key: ClassVar[tuple[str, ...]] = ("rollout_id",)

    rollout_id: Annotated[int, Column(Kind.INT64, "the rollout")]
    role: Annotated[Role, Column(Kind.TEXT, "proposer or solver")]
    mode: Annotated[Mode, Column(Kind.TEXT, "mode of the task")]
    task_id: Annotated[int, Column(Kind.INT64, "the task proposed or solved")]
    rule: Annotated[str, Column(Kind.TEXT, "name it was rescored under")]
    ladder: Annotated[str, Column(Kind.TEXT, "the reward rule in words")]
    code_version: Annotated[str, Column(Kind.TEXT, "code that rescored it")]
    verdict: Annotated[str | None, Column(Kind.TEXT, "of a solver's answer, judged again or as sealed")]
    would_be: Annotated[float, Column(Kind.DOUBLE, "the reward it would have been paid")]
    rung: Annotated[str, Column(Kind.TEXT, "which rung of the ladder would have decided")]
    accuracy: Annotated[float | None, Column(Kind.DOUBLE, "solver: share of checks passed, or 0 and 1, by config")]
    solve_rate: Annotated[
        float | None, Column(Kind.DOUBLE, "proposer of a valid task: share of its probes judged correct")
    ]
    probes: Annotated[int | None, Column(Kind.INT32, "proposer of a valid task: number of those probes")]
    learnability: Annotated[float | None, Column(Kind.DOUBLE, "proposer of a valid task: the curve at solve_rate")]


@contextmanager
def replacing(run_directory: Path, rule: str) -> Iterator[Callable[[Sequence[Rescored]], None]]:
    """Write the table of a rule anew: yields what takes the rows of one iteration after another.

    It counts when the block ends without an error; otherwise the table that was there before stays.

    Raises:
        ConfigError: the rule's name cannot be a file's.
        LedgerError: it cannot be written.
    """
    target = table_of(run_directory, rule)
    partial = target.with_name(f"{target.name}.{os.getpid()}{_PARTIAL}")
    try:
        _sweep(target)
        with pq.ParquetWriter(
            partial, schema_of(Rescored), version="2.6", compression="zstd", store_schema=False
        ) as writer:
            yield lambda rows: writer.write_table(to_table(Rescored, rows))
        _sync(partial)
        partial.replace(target)
        _sync(target.parent)
    except LedgerError:  # of what was done within, and an OSError too
        raise
    except OSError as error:
        raise LedgerError(
            f"{target} cannot be written: {error}. What was there before stays, and the ledger is as it was. "
            "Free space or mend the disk, then run the same command again."
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink()


def table_of(run_directory: Path, rule: str) -> Path:
    """The file of a rule; raises ConfigError when its name cannot be a file's."""
    if _NAME.fullmatch(rule) is None:
        raise ConfigError(
            f"{rule!r} cannot name a rule: letters, digits, dot, dash and underscore, at most 64, beginning with a "
            "letter or digit. Nothing was written. Choose another with --name."
        )
    return run_directory / RESCORED / f"{rule}{_SUFFIX}"


def tables(run_directory: Path) -> list[Path]:
    """The side tables of a run, by name."""
    return sorted((run_directory / RESCORED).glob(f"*{_SUFFIX}"))


def _sweep(target: Path) -> None:
    """Remove what killed processes left behind."""
    target.parent.mkdir(exist_ok=True)
    for left in target.parent.glob(f"*{_PARTIAL}"):
        if not Path("/proc", left.name.split(".")[-2]).exists():
            left.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
