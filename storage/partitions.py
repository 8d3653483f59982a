"""Reading sealed partitions: a seal, and the rows behind it, from the directory of the run that made it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from storage.errors import LedgerError
from storage.hashes import bytes_hash
from storage.ids import Position
from storage.layout import RUN_FILE, SEAL_FILE, another_run, command, partition_of, require_runs
from storage.records import Row
from storage.retention import dropped, explains, explanation
from storage.schemas import from_parquet, to_rows
from storage.seals import Output, RunFacts, Seal, facts_from_json, seal_from_json

R = TypeVar("R", bound=Row)


def read_facts(run_directory: Path) -> RunFacts:
    """The facts of a run; raises LedgerError naming the runs there are when there is none by that name."""
    path = run_directory / RUN_FILE
    try:
        written = path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        root = run_directory.parent
        raise LedgerError(
            f"There is no run {run_directory.name} under {root}; there are: {', '.join(require_runs(root))}. "
            f"Nothing was read or written. List them: {command('runs', root=root)}"
        ) from None
    except OSError as error:
        raise LedgerError(f"{path} cannot be read: {error}. Nothing was written.") from error
    return facts_from_json(written, str(path))


def read_seal(run_directory: Path, position: Position) -> Seal:
    """One seal; raises LedgerError when it is missing, damaged, or belongs to another position."""
    path = partition_of(run_directory, position) / SEAL_FILE
    try:
        written = path.read_text()
    except FileNotFoundError:
        raise LedgerError(
            f"{path} is missing, but its directory is there, and the two are made in one step. Nothing was written. "
            f"Restore it from a backup, or, if it was the last stage made, move {path.parent} away and continue: "
            f"{command('train', root=run_directory.parent, run=run_directory.name)}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise LedgerError(f"{path} cannot be read: {error}. Nothing was written. Restore it from a backup.") from error
    seal = seal_from_json(written, str(path))
    if seal.position != position:
        raise LedgerError(f"{path} is the seal of {seal.position}. Nothing was written. Restore it from a backup.")
    return seal


def read_bytes(run_directory: Path, seal: Seal, table: str) -> bytes:
    """The bytes of one table, as sealed; raises LedgerError when the file is missing, dropped or changed."""
    output = _output(run_directory, seal, table)
    path = partition_of(run_directory, seal.position) / output.file
    try:
        data = path.read_bytes()
    except OSError as error:
        why = explanation(run_directory, path, output.file_hash) or _damaged(run_directory, path, str(error))
        raise LedgerError(why) from error
    if problem := damage(output, data):
        raise LedgerError(_damaged(run_directory, path, problem))
    return data


def read_rows(run_directory: Path, seal: Seal, row_type: type[R]) -> list[R]:
    """The records of one sealed table, in canonical order; raises LedgerError when it is not what was sealed."""
    return to_rows(row_type, read_table(run_directory, seal, row_type))


def read_table(run_directory: Path, seal: Seal, row_type: type[Row], columns: Sequence[str] | None = None) -> pa.Table:
    """One sealed table as it was stored, or some columns of it; raises LedgerError when it is not what was sealed."""
    data = read_bytes(run_directory, seal, row_type.table)
    try:
        return from_parquet(data, columns)
    except (pa.ArrowException, OSError) as error:
        path = partition_of(run_directory, seal.position) / seal.outputs[row_type.table].file
        raise LedgerError(_damaged(run_directory, path, str(error))) from error


def damage(output: Output, data: bytes) -> str | None:
    """How the bytes of a table differ from what its seal says, or None."""
    if len(data) != output.bytes:
        return f"it has {len(data)} bytes, its seal says {output.bytes}"
    if (found := bytes_hash(data)) != output.file_hash:
        return f"its bytes hash to {found[:12]}, its seal says {output.file_hash[:12]}"
    return None


def present(run_directory: Path, seals: Iterable[Seal]) -> Iterator[tuple[Seal, str, Path]]:
    """Each seal with each of its tables and the file that must be there: retention did not drop it."""
    gone = dropped(run_directory)
    for seal in seals:
        for table, output in seal.outputs.items():
            path = partition_of(run_directory, seal.position) / output.file
            if not explains(gone, path.relative_to(run_directory), output.file_hash):
                yield seal, table, path


def missing_files(run_directory: Path, seals: Iterable[Seal]) -> None:
    """Raise LedgerError for the first sealed file that is missing or has another size; reads none of them."""
    for seal, table, path in present(run_directory, seals):
        output = seal.outputs[table]
        try:
            size = path.stat().st_size
        except OSError as error:
            if explanation(run_directory, path, output.file_hash) is not None:
                continue  # dropped just now, while a writer is at work
            raise LedgerError(_damaged(run_directory, path, str(error))) from error
        if size != output.bytes:
            why = f"it has {size} bytes, its seal says {output.bytes}"
            raise LedgerError(_damaged(run_directory, path, why))


def _output(run_directory: Path, seal: Seal, table: str) -> Output:
    if table not in seal.outputs:
        there = ", ".join(seal.outputs) or "none"
        raise LedgerError(f"{seal.position} of run {run_directory.name} has no table {table}; it has: {there}.")
    return seal.outputs[table]


def _damaged(run_directory: Path, path: Path, why: str) -> str:
    return (
        f"{path} is not what was sealed: {why}. Nothing was written, and the stage is not made again, since later "
        f"ones may stand on it. Restore the file from a backup. {another_run(run_directory.parent)}"
    )
