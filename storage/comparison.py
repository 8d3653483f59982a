"""A sealed partition beside the same one computed again: table by table, row by row, column by column.

Equal means equal content hashes, so nothing is read where nothing differs. Measured columns never count, nor do columns
that were added to the records after the partition was sealed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

import pyarrow as pa

from storage import ids
from storage.hashes import content_hash
from storage.ids import Position
from storage.ledger import Ledger
from storage.records import Row
from storage.schemas import fields_of, to_rows, to_table

EXAMPLES = 3  # of each table
ARTIFACTS = "artifacts"  # what a seal names by hash beside its tables, shown as if it were one
_SHOWN = 60  # characters of a value
_Key = tuple[object, ...]
_Pairs = Mapping[_Key, tuple[Row, Row]]


class Example(NamedTuple):
    """One value that differs: its row's key as people write it, its column, and both values as text."""

    row: str
    column: str
    sealed: str
    made: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One table that differs: how many rows there are and how they differ, and in how many rows each column does."""

    table: str
    sealed: int
    made: int
    missing: int  # rows that are sealed and were not made again
    added: int  # rows made that are not sealed
    changed: int
    columns: Mapping[str, int]
    examples: tuple[Example, ...]


def compare(
    ledger: Ledger, at: Position, tables: Mapping[type[Row], Sequence[Row]], artifacts: Mapping[str, str]
) -> list[Difference]:
    """Every table of a sealed partition that differs from these rows, and the artifacts that do; empty when equal.

    Raises LedgerError when the partition is not sealed, when rows could not be stored, or when a table that differs
    cannot be read.
    """
    seal = ledger.require(at)
    found = [_artifacts(at, seal.artifacts, artifacts)]
    for row_type, rows in tables.items():
        made = to_table(row_type, rows)
        output = seal.outputs.get(row_type.table)
        if output is None or output.content_hash != content_hash(row_type, made):
            sealed = to_table(row_type, []) if output is None else ledger.table(row_type, at)
            found.append(_table(row_type, sealed, made))
    found += [_gone(name, seal.outputs[name].rows) for name in seal.outputs.keys() - {kind.table for kind in tables}]
    return [one for one in found if one is not None]


def _artifacts(at: Position, sealed: Mapping[str, str], made: Mapping[str, str]) -> Difference | None:
    names = [name for name in sorted({*sealed, *made}) if sealed.get(name) != made.get(name)]
    if not names:
        return None
    return Difference(
        table=ARTIFACTS,
        sealed=len(sealed),
        made=len(made),
        missing=len(sealed.keys() - made.keys()),
        added=len(made.keys() - sealed.keys()),
        changed=sum(name in sealed and name in made for name in names),
        columns=dict.fromkeys(names, 1),
        examples=tuple(Example(str(at), name, *_shown(sealed.get(name), made.get(name))) for name in names),
    )


def _gone(table: str, rows: int) -> Difference:
    return Difference(table=table, sealed=rows, made=0, missing=rows, added=0, changed=0, columns={}, examples=())


def _table(row_type: type[Row], sealed: pa.Table, made: pa.Table) -> Difference | None:
    """The difference of two tables, over the content columns that both have."""
    fields = [field for field in fields_of(row_type) if field.name in sealed.column_names]
    if content_hash(row_type, made.select([field.name for field in fields])) == content_hash(row_type, sealed):
        return None
    ours, theirs = _by_key(row_type, sealed), _by_key(row_type, made)
    pairs = {key: (ours[key], theirs[key]) for key in ours if key in theirs}
    columns = [field.name for field in fields if not field.column.measured]
    return Difference(
        table=row_type.table,
        sealed=len(ours),
        made=len(theirs),
        missing=len(ours.keys() - theirs.keys()),
        added=len(theirs.keys() - ours.keys()),
        changed=len({key for key, _, _ in _values(pairs, columns)}),
        columns=Counter(column for _, column, _ in _values(pairs, columns)),
        examples=tuple(islice(_examples(row_type, ours, theirs, columns), EXAMPLES)),
    )


def _by_key(row_type: type[Row], table: pa.Table) -> dict[_Key, Row]:
    return {tuple(getattr(row, name) for name in row_type.key): row for row in to_rows(row_type, table)}


def _values(pairs: _Pairs, columns: Sequence[str]) -> Iterator[tuple[_Key, str, tuple[object, object]]]:
    """Every value that differs; by `repr`, which tells -0.0 from 0.0 and nan from no other nan, as the hash does."""
    for column in columns:
        value = attrgetter(column)
        for key, (ours, theirs) in pairs.items():
            both = value(ours), value(theirs)
            if repr(both[0]) != repr(both[1]):
                yield key, column, both


def _examples(
    row_type: type[Row], ours: Mapping[_Key, Row], theirs: Mapping[_Key, Row], columns: Sequence[str]
) -> Iterator[Example]:
    """The first rows that differ, each by its first column that does."""
    for key in sorted({*ours, *theirs}):
        name = _key_text(row_type, key)
        if key not in theirs:
            yield Example(name, "", "a row", "none")
        elif key not in ours:
            yield Example(name, "", "none", "a row")
        else:
            for _, column, both in islice(_values({key: (ours[key], theirs[key])}, columns), 1):
                yield Example(name, column, *_shown(*both))


def _key_text(row_type: type[Row], key: _Key) -> str:
    """A row's key as people write it: ids readable, other parts by name."""
    parts = zip(row_type.key, key, strict=True)
    return " ".join(
        ids.text(part) if isinstance(part, int) and name.endswith("_id") else str(part) for name, part in parts
    )


def _shown(sealed: object, made: object) -> tuple[str, str]:
    """Both values as text, cut to where they begin to differ."""
    texts = str(sealed), str(made)
    same = next((at for at, (one, other) in enumerate(zip(*texts, strict=False)) if one != other), min(map(len, texts)))
    start = max(0, same - _SHOWN // 3) if max(map(len, texts)) > _SHOWN else 0
    one, other = (_cut(text, start) for text in texts)
    return one, other


def _cut(text: str, start: int) -> str:
    head, tail = "..." if start else "", "..." if len(text) > start + _SHOWN else ""
    return f"{head}{text[start : start + _SHOWN]}{tail}"
