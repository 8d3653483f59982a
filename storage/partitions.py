"""Reading sealed partitions: the seals of a run with their chains checked, and the rows behind a seal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from storage.errors import LedgerError
from storage.hashes import bytes_hash
from storage.ids import Position
from storage.layout import RUN_FILE, SEAL_FILE, command, order, parse_position, partition_of, partitions, require_runs
from storage.records import Row
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


def read_seals(run_directory: Path, known: Mapping[Position, Seal] | None = None) -> dict[Position, Seal]:
    """Every seal of a run in the order of positions; `known` ones are not read again, since none ever changes.

    Raises LedgerError when a seal is damaged, or missing although a later one names it, or is not the one that it
    names.
    """
    seals = dict(known or {})
    for position in partitions(run_directory):
        if position not in seals:
            seals[position] = read_seal(run_directory, position)
    for problem in broken_links(run_directory, seals):
        raise LedgerError(problem)
    return dict(sorted(seals.items(), key=lambda item: order(item[0])))


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


def broken_links(run_directory: Path, seals: Mapping[Position, Seal]) -> Iterator[str]:
    """Every way in which the seals do not fit each other, as a sentence with the way out."""
    followers: dict[str, Position] = {}
    for position, seal in seals.items():
        for name, stated in seal.inputs.items():
            yield from _link(run_directory, seals, position, name, stated, "content")
        for name, stated in seal.before.items():
            yield from _link(run_directory, seals, position, name, stated, "integrity")
        follows = next(iter(seal.before), "the beginning")
        if (other := followers.setdefault(follows, position)) != position:
            yield (
                f"{other} and {position} of run {run_directory.name} both say that they were made right after "
                f"{follows}, so one was put there by hand. Nothing was written. {_way_out(run_directory)}"
            )


def read_bytes(run_directory: Path, seal: Seal, table: str) -> bytes:
    """The bytes of one table, as sealed; raises LedgerError when the file is missing or was changed."""
    output = _output(run_directory, seal, table)
    path = partition_of(run_directory, seal.position) / output.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LedgerError(_damaged(run_directory, path, str(error))) from error
    if problem := damage(output, data):
        raise LedgerError(_damaged(run_directory, path, problem))
    return data


def read_rows(run_directory: Path, seal: Seal, row_type: type[R]) -> list[R]:
    """The records of one sealed table, in canonical order; raises LedgerError when it is not what was sealed."""
    data = read_bytes(run_directory, seal, row_type.table)
    try:
        return to_rows(row_type, from_parquet(data))
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


def missing_files(run_directory: Path, seals: Mapping[Position, Seal]) -> None:
    """Raise LedgerError for the first sealed file that is missing or has another size; reads no file."""
    for position, seal in seals.items():
        for output in seal.outputs.values():
            path = partition_of(run_directory, position) / output.file
            try:
                size = path.stat().st_size
            except OSError as error:
                raise LedgerError(_damaged(run_directory, path, str(error))) from error
            if size != output.bytes:
                why = f"it has {size} bytes, its seal says {output.bytes}"
                raise LedgerError(_damaged(run_directory, path, why))


def _output(run_directory: Path, seal: Seal, table: str) -> Output:
    if table not in seal.outputs:
        there = ", ".join(seal.outputs) or "none"
        raise LedgerError(f"{seal.position} of run {run_directory.name} has no table {table}; it has: {there}.")
    return seal.outputs[table]


def _link(
    run_directory: Path, seals: Mapping[Position, Seal], position: Position, name: str, stated: str, chain: str
) -> Iterator[str]:
    named = seals.get(parse_position(name))
    run = run_directory.name
    if named is None:
        where = partition_of(run_directory, parse_position(name))
        yield (
            f"The seal of {name} of run {run} is missing, but {position} was made after it and names it. "
            f"Nothing was written, and {name} is not made again, since later stages stand on it. "
            f"Restore {where} from a backup. {_way_out(run_directory)}"
        )
    elif stated != (found := {"content": named.content, "integrity": named.integrity}[chain]):
        yield (
            f"{name} of run {run} is not the partition that {position} was made after: its {chain} is {found[:12]}, "
            f"{position} names {stated[:12]}. Nothing was written. {_way_out(run_directory)}"
        )


def _way_out(run_directory: Path) -> str:
    return f"Or begin another run: {command('train', root=run_directory.parent, run='NAME')}"


def _damaged(run_directory: Path, path: Path, why: str) -> str:
    return (
        f"{path} is not what was sealed: {why}. Nothing was written, and the stage is not made again, since later "
        f"ones may stand on it. Restore the file from a backup. {_way_out(run_directory)}"
    )
