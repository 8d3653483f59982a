"""One sealed partition under examination: its bytes, contents, rows and ids, whatever state they are in.

Nothing here raises on damage. A table whose bytes are not as sealed is read all the same, where it still reads, so that
the rows in it can be named; a table that cannot be read is left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from enum import Enum
from itertools import pairwise
from operator import lt
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage import layout
from storage.findings import Check, Result, result
from storage.hashes import content_hash
from storage.ids import BITS, Mode, Position, text
from storage.partitions import damage
from storage.records import ROWS, Row
from storage.retention import Dropped, dropped, explains
from storage.schemas import ARROW, Field, fields_of, from_parquet, to_rows
from storage.seals import Output, Seal

R = TypeVar("R", bound=Row)
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

_TABLES = {row_type.table: row_type for row_type in ROWS}
_MODES = [mode.value for mode in Mode]


class Readable(NamedTuple):
    """A table that could be read; `intact` when its bytes are those that were sealed."""

    table: pa.Table
    intact: bool


class Examined(NamedTuple):
    """One partition: what was found in it, and those of its tables that could be read."""

    seal: Seal
    results: tuple[Result, ...]
    tables: Mapping[str, Readable]

    def rows(self, row_type: type[R]) -> list[R] | None:
        """The records of one table, or None when it could not be read."""
        found = self.tables.get(row_type.table)
        return None if found is None else to_rows(row_type, found.table)

    def lengths(self, row_type: type[Row], column: str) -> list[int] | None:
        """How many elements each row has in a column of lists, or None when the table could not be read."""
        found = self.tables.get(row_type.table)
        if found is None:
            return None
        lengths: list[int] = pc.list_value_length(found.table.column(column)).to_numpy().tolist()
        return lengths

    def integers(self, row_type: type[Row], column: str) -> list[int] | None:
        """One column of whole numbers, or None when the table could not be read."""
        found = self.tables.get(row_type.table)
        if found is None:
            return None
        values: list[int] = found.table.column(column).to_numpy().tolist()
        return values

    def intact(self, row_type: type[Row]) -> bool:
        """Whether a table stands as it was sealed."""
        found = self.tables.get(row_type.table)
        return found is not None and found.intact


def examine(directory: Path, seal: Seal, gone: Mapping[str, Dropped], only: Collection[str] | None = None) -> Examined:
    """Everything that one seal says about its tables, or `only` about some, compared with what lies on disk.

    `gone` is what was dropped.
    """
    partition = layout.partition_of(directory, seal.position)
    strays = _strays(partition, seal)
    results = [result(Check.FILES, str(seal.position), 0, strays)]
    tables: dict[str, Readable] = {}
    for name, output in ((name, one) for name, one in seal.outputs.items() if only is None or name in only):
        path = (partition / output.file).relative_to(directory)
        found, readable = _table(partition, seal.position, name, output)
        if not (directory / path).exists() and _is_listed(directory, gone, path, output.file_hash):
            results.append(result(Check.FILES, str(seal.position), 1, [], [_let_go(name)]))
            continue
        results += found
        if readable is not None:
            tables[name] = readable
    return Examined(seal, tuple(results), tables)


def _is_listed(directory: Path, gone: Mapping[str, Dropped], path: Path, wanted: str) -> bool:
    """Whether retention dropped a file, perhaps just now, while a writer is at work."""
    return explains(gone, path, wanted) or explains(dropped(directory), path, wanted)


def _let_go(table: str) -> str:
    return f"{table} of some stages were dropped by retention, and are listed; their hashes stay in the seals"


def _strays(partition: Path, seal: Seal) -> list[str]:
    named = {output.file for output in seal.outputs.values()} | {layout.SEAL_FILE}
    return [f"{partition / name} is not named by the seal" for name in sorted(_entries(partition) - named)]


def _entries(directory: Path) -> set[str]:
    try:
        return {entry.name for entry in directory.iterdir()}
    except OSError:
        return set()


def _table(partition: Path, at: Position, name: str, output: Output) -> tuple[list[Result], Readable | None]:
    path, where = partition / output.file, str(at)
    try:
        data = path.read_bytes()
    except OSError as error:
        return [result(Check.FILES, where, 1, [f"{path} cannot be read: {error}"])], None
    changed = damage(output, data)
    found = [result(Check.FILES, where, 1, [f"{path} is not what was sealed: {changed}"] if changed else [])]
    if (row_type := _TABLES.get(name)) is None:
        return [*found, result(Check.ROWS, where, 0, [f"{path}: there is no table {name}"])], None
    try:
        table = from_parquet(data)
        table.validate(full=changed is not None)
    except (pa.ArrowException, OSError, ValueError) as error:  # a flipped byte may spoil even a column's name
        unreadable = [] if changed else [f"{path} is no Parquet file: {error}"]
        return [*found, result(Check.ROWS, where, 0, unreadable)], None
    found.append(_contents(row_type, table, output, where) if not changed else result(Check.CONTENTS, where, 0, []))
    return _sound(found, row_type, table, output, at, intact=changed is None)


def _contents(row_type: type[Row], table: pa.Table, output: Output, where: str) -> Result:
    found = content_hash(row_type, table)
    wrong = f"table {row_type.table} holds content {found[:12]}, its seal says {output.content_hash[:12]}"
    return result(Check.CONTENTS, where, 1, [wrong] if found != output.content_hash else [])


def _sound(
    found: list[Result], row_type: type[Row], table: pa.Table, output: Output, at: Position, *, intact: bool
) -> tuple[list[Result], Readable | None]:
    """The results with those about rows and ids; the table, unless its rows could not be made records."""
    where = str(at)
    if unfit := list(_unfit(row_type, table)):
        return [*found, result(Check.ROWS, where, table.num_rows, unfit)], None
    rows = [*_counted(row_type, table, output), *_keys(row_type, table)]
    found.append(result(Check.ROWS, where, table.num_rows, rows))
    ids = _ids(row_type, table)
    broken = [line for name, values in ids.items() for line in _broken(row_type, name, values)]
    if broken:
        return [*found, result(Check.IDS, where, table.num_rows, broken)], None
    found.append(result(Check.IDS, where, table.num_rows, list(_misplaced(row_type, table, ids, at))))
    return found, Readable(table, intact)


def _unfit(row_type: type[Row], table: pa.Table) -> Iterator[str]:
    """Why the rows of a table cannot be read as records; a column added later may be missing in an older file."""
    known = {field.name: field for field in fields_of(row_type)}
    filled = {field.name for field in dataclasses.fields(row_type) if field.default is not dataclasses.MISSING}
    for name in table.column_names:
        if name not in known:
            yield f"{row_type.table} has a column {name}, which was never declared"
    for name, field in known.items():
        if name in table.column_names:
            yield from _unfit_column(row_type, field, table.column(name))
        elif not field.nullable and name not in filled:
            yield f"{row_type.table} has no column {name}"


def _unfit_column(row_type: type[Row], field: Field, column: pa.ChunkedArray) -> Iterator[str]:
    kind = ARROW[field.column.kind]
    if not _is_of(kind, column.type):
        yield f"{row_type.table}.{field.name} holds {column.type}, declared is {kind}"
    elif column.null_count and not field.nullable:
        yield f"{row_type.table}.{field.name} is null in {column.null_count} rows, where it may not be"
    elif issubclass(field.python, Enum):
        words = {member.value for member in field.python}
        for word in sorted(set(pc.unique(column).to_pylist()) - words - {None}):
            yield f"{row_type.table}.{field.name} holds {word!r}, which is none of {', '.join(sorted(words))}"


def _is_of(kind: pa.DataType, found: pa.DataType) -> bool:
    """Whether a column is stored as declared: a file may name the elements of lists otherwise, and UUIDs as bytes."""
    if pa.types.is_list(kind):
        return bool(pa.types.is_list(found) and found.value_type == kind.value_type)
    return bool(found == kind or (isinstance(kind, pa.UuidType) and found == kind.storage_type))


def _counted(row_type: type[Row], table: pa.Table, output: Output) -> Iterator[str]:
    if table.num_rows != output.rows:
        yield f"{row_type.table} has {table.num_rows} rows, its seal says {output.rows}"


def _keys(row_type: type[Row], table: pa.Table) -> Iterator[str]:
    """Rows that stand twice or out of order; rows are sealed sorted by their key."""
    columns = [_plain(table.column(name)) for name in row_type.key]
    keys = list(zip(*columns, strict=True))
    if all(map(lt, keys, keys[1:])):
        return
    for before, after in pairwise(keys):
        if before == after:
            yield f"{row_type.table} {_named(row_type, after)} stands there twice"
        elif before > after:
            yield f"{row_type.table} {_named(row_type, after)} stands after {_named(row_type, before)}"


def _plain(column: pa.ChunkedArray) -> list[object]:
    values: list[object] = column.to_numpy().tolist()  # ten times as fast as to_pylist
    return values


def _named(row_type: type[Row], key: tuple[object, ...]) -> str:
    """A row by its key, ids as people read them."""
    parts = zip(row_type.key, key, strict=True)
    return " ".join(id_text(value) if name.endswith("_id") else f"{name}={value}" for name, value in parts)


def id_text(packed: object) -> str:
    """The readable form of an id, or of what stands where one should."""
    try:
        return text(packed) if isinstance(packed, int) and packed >= 0 else repr(packed)
    except IndexError:
        return repr(packed)


def _ids(row_type: type[Row], table: pa.Table) -> dict[str, Integers]:
    """The columns of positional ids, the row's own first."""
    names = [field.name for field in fields_of(row_type) if field.name.endswith("_id")]
    own_first = sorted(names, key=lambda name: name != row_type.key[0])
    return {name: table.column(name).to_numpy() for name in own_first}


def _part(ids: Integers, part: str) -> Integers:
    """One field of packed ids, as in storage.ids."""
    below = sum(list(BITS.values())[list(BITS).index(part) + 1 :])
    return ids >> below & (1 << BITS[part]) - 1


def _broken(row_type: type[Row], name: str, ids: Integers) -> Iterator[str]:
    for packed in ids[(ids < 0) | (_part(ids, "mode") >= len(_MODES))].tolist():
        yield f"{row_type.table}.{name} {packed} is no id"


def _misplaced(row_type: type[Row], table: pa.Table, ids: Mapping[str, Integers], at: Position) -> Iterator[str]:
    """Rows of another place than this partition's, and ids that point to what was not there yet."""
    names = _names(row_type, table.num_rows, ids)
    for part, wanted in (("iteration", at.iteration), ("round", at.round)):
        found = table.column(part).to_numpy()
        for row in np.flatnonzero(found != wanted).tolist():
            yield f"{names(row)} is of {part} {found[row]}, not {wanted}"
    here = at.iteration << BITS["round"] | at.round
    for name, packed in ids.items():
        moments = _part(packed, "iteration") << BITS["round"] | _part(packed, "round")
        what, wrong = _when(row_type, name, moments, here)
        for row in np.flatnonzero(wrong).tolist():
            yield f"{names(row)} {what}: {name} {id_text(int(packed[row]))}"
    for what, wrong in _disagreeing(row_type, table, ids).items():
        for row in np.flatnonzero(wrong).tolist():
            yield f"{names(row)} has another {what} than its id"


def _names(row_type: type[Row], rows: int, ids: Mapping[str, Integers]) -> Callable[[int], str]:
    own = ids.get(row_type.key[0], np.arange(rows))
    return lambda row: f"{row_type.table} {id_text(int(own[row])) if ids else f'row {own[row]}'}"


def _when(row_type: type[Row], name: str, moments: Integers, here: int) -> tuple[str, Booleans]:
    """What an id may not be, and where it is: a row's own is of this place, a parent is earlier, others not later."""
    if name == row_type.key[0]:
        return "has the id of another place", moments != here
    if name == "parent_id":
        return "has a parent that is not earlier", moments >= here
    return "names what came later", moments > here


def _disagreeing(row_type: type[Row], table: pa.Table, ids: Mapping[str, Integers]) -> dict[str, Booleans]:
    """Where a column says something else than the id that it is part of."""
    wrong: dict[str, Booleans] = {}
    if "mode" in table.column_names and ids:
        modes = np.array([_MODES.index(word) for word in table.column("mode").to_pylist()], np.int64)
        wrong["mode"] = _part(ids[row_type.key[0]], "mode") != modes
    if "slot" in table.column_names:
        own = ids[row_type.key[0]]
        wrong["slot"] = _part(own, "slot") != table.column("slot").to_numpy()
        wrong["sample"] = np.maximum(_part(own, "sample") - 1, 0) != table.column("sample").to_numpy()
    if "parent_iteration" in table.column_names:
        parents = _part(ids["parent_id"], "iteration")
        wrong["parent_iteration"] = parents != table.column("parent_iteration").to_numpy()
    return wrong
