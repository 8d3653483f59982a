"""Every sealed partition of the runs that are asked as one DuckDB table: from a run's index, else from its seals."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from storage.errors import LedgerError
from storage.family import Family, Member
from storage.ids import Position, Stage
from storage.index import entry
from storage.layout import (
    INDEX_FILE,
    LEDGER,
    SEAL_FILE,
    another_run,
    parse_position,
    partition_of,
    partitions,
    step_directory,
)
from storage.partitions import read_seal

_TEXT, _INT, _BIG = ("VARCHAR", pa.string()), ("INTEGER", pa.int32()), ("BIGINT", pa.int64())
_OUTPUTS = pa.list_(
    pa.struct({"table": pa.string(), "file": pa.string(), "rows": pa.int64(), "bytes": pa.int64()}),
)
_FIELDS: dict[str, tuple[str, pa.DataType]] = {
    "position": _TEXT, "iteration": _INT, "round": _INT, "stage": _TEXT, "attempt": _INT, "schema_version": _INT,
    "content": _TEXT, "code_version": _TEXT, "flow_run_id": _TEXT, "started_us": _BIG, "finished_us": _BIG,
    "cpu_us": _BIG, "seal_bytes": _BIG, "seal_changed_ns": _BIG, "named": ("VARCHAR[]", pa.list_(pa.string())),
    "outputs": ('STRUCT("table" VARCHAR, file VARCHAR, rows BIGINT, bytes BIGINT)[]', _OUTPUTS),
}  # fmt: skip
HISTORY = "CREATE TABLE raw.history (run VARCHAR, home VARCHAR, {})".format(
    ", ".join(f"{name} {kind}" for name, (kind, _) in _FIELDS.items())
)
_SCHEMA = pa.schema({name: arrow for name, (_, arrow) in _FIELDS.items()})
_COLUMNS = "{{{}}}".format(", ".join(f"{name}: '{kind}'" for name, (kind, _) in _FIELDS.items()))
_FROM_FILE = f"""
INSERT INTO raw.history
SELECT $run, $home, * FROM read_json($path, format = 'newline_delimited', columns = {_COLUMNS}, ignore_errors = true)
WHERE position = format('{{}}{{}}/{{}}', iteration, CASE WHEN iteration = 0 THEN '.' || round ELSE '' END, stage)
AND stage_order(stage) IS NOT NULL AND outputs IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY position) = 1
"""  # noqa: S608 - our own names; a torn line is skipped, its seal is read instead
_NOTED = """
SELECT iteration, stage, round, seal_bytes, seal_changed_ns FROM raw.history WHERE run = $run AND home = $home
"""
_DROP = "DELETE FROM raw.history WHERE run = $run AND home = $home AND list_contains($others, position)"
_NAMED = """
SELECT DISTINCT name, position FROM (SELECT position, unnest(named) AS name FROM raw.history WHERE run = $run)
WHERE name NOT IN (SELECT position FROM raw.history WHERE run = $run)
"""


def load_history(connection: duckdb.DuckDBPyConnection, family: Family) -> None:
    """Every sealed partition of a run's history into `raw.history`, with the run that made it as its `home`.

    A line of an index counts as said in storage.index. Raises LedgerError when a seal that must be read is damaged, or
    one is missing that another names.
    """
    run = family.members[0].directory.name
    for member in family.members:
        _load_member(connection, run, family, member)
    for name, position in connection.execute(_NAMED, {"run": run}).fetchall():
        where = partition_of(family.home(parse_position(name)), parse_position(name))
        raise LedgerError(
            f"The seal of {name} of run {run} is missing, but {position} was made from it. Nothing was written. "
            f"Restore {where} from a backup. {another_run(where.parents[3])}"
        )


def _load_member(connection: duckdb.DuckDBPyConnection, run: str, family: Family, member: Member) -> None:
    index, keys = member.directory / INDEX_FILE, {"run": run, "home": member.directory.name}
    if index.is_file():
        connection.execute(_FROM_FILE, {**keys, "path": str(index)})
    found = connection.execute(_NOTED, keys).fetchall()
    noted = {Position(iteration, Stage(stage), round): facts for iteration, stage, round, *facts in found}
    written = {position for position, facts in noted.items() if _written(member.directory, position) == facts}
    counting = {position for position in written if family.maker(position) is member}
    if others := [str(position) for position in noted.keys() - counting]:
        connection.execute(_DROP, {**keys, "others": others})
    unknown = _others(member.directory, counting)
    _add(connection, run, member.directory, [position for position in unknown if family.maker(position) is member])


def _others(run_directory: Path, known: set[Position]) -> Iterator[Position]:
    """The partitions that are not known; directories of whole iterations are not opened."""
    steps = Counter(step_directory(position.iteration, position.round) for position in known)
    whole = {step for step, count in steps.items() if count == len(Stage)}
    return (position for position in partitions(run_directory, without=whole) if position not in known)


def _add(connection: duckdb.DuckDBPyConnection, run: str, home: Path, positions: Sequence[Position]) -> None:
    if positions:
        entries = [entry(home, read_seal(home, position)) for position in positions]
        connection.register("given", pa.Table.from_pylist(entries, schema=_SCHEMA))
        connection.execute("INSERT INTO raw.history SELECT $run, $home, * FROM given", {"run": run, "home": home.name})
        connection.unregister("given")


def _written(home: Path, position: Position) -> list[int]:
    """Size and time of change of a seal; empty when there is none."""
    step = step_directory(position.iteration, position.round)
    try:
        found = os.stat(f"{home}/{LEDGER}/{step}/{position.stage}/{SEAL_FILE}")  # noqa: PTH116 - thousands; twice as fast
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]
