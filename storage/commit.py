"""The commit protocol: build a directory in scratch, its seal last, and make it count by one rename.

1. tables into ``scratch/<attempt>/``, each synced
2. seal.json into the same directory, synced; then the directory itself
3. ``os.rename`` to the partition's place: data and seal appear together, or not at all
4. the parent directories synced

A partition's directory never exists without its seal. A second rename onto it fails, and its maker discards its own.
Scratch is no hidden directory beside the target, since globs of readers would match those.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from storage.errors import LedgerError
from storage.hashes import bytes_hash, content_hash
from storage.ids import Position
from storage.layout import RUN_FILE, SCRATCH, SEAL_FILE
from storage.records import Row
from storage.schemas import to_parquet, to_table
from storage.seals import Output, RunFacts, Seal, to_json

Pause = Callable[[str], None]
POINTS = (
    "run written",
    "started",
    "made",
    "written",
    "synced",
    "seal begun",
    "seal written",
    "sealed",
    "renamed",
    "durable",
    "ended",
)


def nothing(point: str) -> None:
    """What happens at a named point of the protocol outside tests that kill there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """How files are written: synced (survives power loss) or not, and a hook that is told each point passed."""

    durable: bool = True
    pause: Pause = nothing

    def write(self, path: Path, data: bytes) -> None:
        """A new file with these bytes."""
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            self.pause("written")
            if self.durable:
                os.fsync(file.fileno())
        self.pause("synced")

    def sync(self, *directories: Path) -> None:
        """Make the entries of directories durable."""
        for directory in directories if self.durable else ():
            descriptor = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


class Encoded(NamedTuple):
    """One table, ready to be written."""

    output: Output
    data: bytes


def encode(position: Position, row_type: type[Row], rows: Sequence[Row]) -> Encoded:
    """The rows of one table as file bytes with their hashes; raises LedgerError for rows that cannot be stored."""
    place = (position.iteration, position.round)
    if stray := next((row for row in rows if (row.iteration, row.round) != place), None):
        raise LedgerError(
            f"Table {row_type.table} of {position} was given a row of iteration {stray.iteration}, round {stray.round}."
        )
    table = to_table(row_type, rows)
    data = to_parquet(row_type, table)
    output = Output(
        file=f"{row_type.table}.parquet",
        rows=table.num_rows,
        bytes=len(data),
        file_hash=bytes_hash(data),
        content_hash=content_hash(row_type, table),
    )
    return Encoded(output, data)


def write_tables(disk: Disk, scratch: Path, tables: Mapping[str, Encoded]) -> None:
    """Step 1; raises OSError."""
    scratch.mkdir(parents=True)
    disk.pause("made")
    for encoded in tables.values():
        disk.write(scratch / encoded.output.file, encoded.data)


def publish(disk: Disk, scratch: Path, target: Path, seal: Seal) -> bool:
    """Steps 2 to 4: True when this made the partition, False when it was there already; raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    disk.pause("seal begun")
    disk.write(scratch / SEAL_FILE, to_json(seal).encode())
    disk.pause("seal written")
    disk.sync(scratch)
    disk.pause("sealed")
    try:
        scratch.rename(target)  # the commit point
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    disk.pause("renamed")
    disk.sync(target.parent, target.parent.parent)
    disk.pause("durable")
    return True


def write_facts(disk: Disk, run_directory: Path, facts: RunFacts) -> None:
    """Make a directory a run, in one step; raises OSError."""
    partial = run_directory / f"{RUN_FILE}.partial"
    partial.unlink(missing_ok=True)
    disk.write(partial, to_json(facts).encode())
    partial.rename(run_directory / RUN_FILE)
    disk.sync(run_directory, run_directory.parent)
    disk.pause("run written")


def sweep(run_directory: Path) -> None:
    """Remove what dead attempts left in scratch; the caller holds the run's lock."""
    shutil.rmtree(run_directory / SCRATCH, ignore_errors=True)
