"""SQL over everything that is sealed: an in-memory DuckDB connection whose views can change nothing.

No single DuckDB setting is enough, so there are three layers. External access is off except for the sealed files, so
nothing else can be read or written; the configuration is locked, so a query cannot undo that; and `query` takes exactly
one SELECT, since COPY over a sealed file would pass the first two. File lists come from seals, never from globs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import duckdb
import pyarrow as pa

from storage.errors import ConfigError, LedgerError
from storage.ids import SHORT, Stage
from storage.layout import partition_of, require_runs
from storage.ledger import Ledger
from storage.partitions import missing_files
from storage.records import ROWS, Kind, Row
from storage.schemas import fields_of
from storage.seals import Seal

VIEWS = (
    "runs", "iterations", "stages", "attempts", "tasks", "task_parents", "rollouts", "tokens", "answers", "rewards",
    "advantages", "update_metrics", "checkpoints",
)  # fmt: skip

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": "4GB",
    "temp_directory": "",  # nothing spills to disk
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,  # a name in a query is a view, never a Python variable
}
_TYPES = {
    Kind.INT32: "INTEGER",
    Kind.INT64: "BIGINT",
    Kind.DOUBLE: "DOUBLE",
    Kind.TEXT: "VARCHAR",
    Kind.UUID: "UUID",
    Kind.TEXTS: "VARCHAR[]",
    Kind.INTS: "INTEGER[]",
    Kind.FLOATS: "FLOAT[]",
}
_TIME = pa.timestamp("us")  # UTC without a zone: zoned times need one more package in Python
_RUNS = pa.schema(
    {
        "run": pa.string(), "name": pa.string(), "seed": pa.int64(), "iterations": pa.int64(),
        "stages_sealed": pa.int64(), "state": pa.string(), "config_hash": pa.string(), "ledger_hash": pa.string(),
        "code_version": pa.string(), "parent": pa.string(), "created": _TIME,
    }
)  # fmt: skip
_STAGES = pa.schema(
    {
        "run": pa.string(), "iteration": pa.int32(), "round": pa.int32(), "stage": pa.string(), "attempt": pa.int32(),
        "rows": pa.int64(), "bytes": pa.int64(), "content": pa.string(), "seconds": pa.float64(),
        "cpu_seconds": pa.float64(), "code_version": pa.string(), "flow_run_id": pa.string(), "started": _TIME,
        "finished": _TIME,
    }
)  # fmt: skip
_ATTEMPTS = pa.schema(
    {
        "run": pa.string(), "iteration": pa.int32(), "round": pa.int32(), "stage": pa.string(), "attempt": pa.int32(),
        "outcome": pa.string(), "seconds": pa.float64(), "error": pa.string(), "code_version": pa.string(),
        "flow_run_id": pa.string(), "pid": pa.int64(), "host": pa.string(), "started": _TIME, "ended": _TIME,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a query answered: column names, DuckDB's types as text, and the rows as Python values."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


def query(root: Path, sql: str, run: str | None = None) -> Result:
    """Answer one SELECT over all runs below a root, or over one.

    Raises ConfigError when it is no single SELECT or DuckDB refuses it, LedgerError when there is no ledger to ask.
    """
    statement = one_select(sql)
    with connect(root, run) as connection:
        return ask(connection, statement)


def ask(connection: duckdb.DuckDBPyConnection, statement: duckdb.Statement) -> Result:
    """Run one statement of `one_select` on a connection of `connect`; raises ConfigError when DuckDB refuses it."""
    with _explained():
        cursor = connection.execute(statement)
        described = cursor.description or []
        rows = cursor.fetchall()
    return Result(
        columns=tuple(str(column[0]) for column in described),
        types=tuple(str(column[1]) for column in described),
        rows=tuple(rows),
    )


def one_select(sql: str) -> duckdb.Statement:
    """The statement in a text; raises ConfigError unless it is exactly one SELECT."""
    with _explained():
        statements = duckdb.extract_statements(sql)
    kinds = [statement.type.name for statement in statements]
    if kinds != ["SELECT"]:
        given = ", ".join(kinds) or "nothing"
        raise ConfigError(
            f"azr sql is read-only and takes exactly one SELECT; this is {given}. Nothing was run or changed. "  # noqa: S608
            'Try: azr sql "SELECT * FROM runs" (a PIVOT goes inside: FROM (PIVOT ... ON mode IN (...)))'
        )
    return statements[0]


def connect(root: Path, run: str | None = None) -> duckdb.DuckDBPyConnection:
    """A connection with every view, over all runs below a root or one of them, as sealed at this moment.

    Raises LedgerError when there is no such run, or a sealed file is missing or has another size.
    """
    ledgers = [Ledger.open(root, name) for name in ([run] if run is not None else require_runs(root))]
    for ledger in ledgers:
        missing_files(ledger.directory, {seal.position: seal for seal in ledger.sealed()})
    connection = duckdb.connect(config=_SETTINGS)
    connection.execute(_id_text())
    _add_table(connection, "runs", _RUNS, (_run_row(ledger) for ledger in ledgers))
    _add_table(
        connection, "stages", _STAGES, (_stage_row(ledger, seal) for ledger in ledgers for seal in ledger.sealed())
    )
    _add_table(connection, "attempts", _ATTEMPTS, (row for ledger in ledgers for row in _attempt_rows(ledger)))
    connection.execute("CREATE SCHEMA raw")
    paths = [path for row_type in ROWS for path in _add_raw(connection, ledgers, row_type)]
    connection.execute(files("storage").joinpath("sql/views.sql").read_text())
    connection.execute("SET allowed_paths = $paths", {"paths": sorted(paths)})  # refused after the next line
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


@contextmanager
def _explained() -> Iterator[None]:
    """DuckDB's errors as ours."""
    try:
        yield
    except duckdb.IOException as error:
        raise LedgerError(f"A sealed file cannot be read: {error}. Nothing was changed. Run: azr status") from error
    except duckdb.Error as error:
        if ".parquet" in str(error):  # what lies on disk is damaged, not the question
            raise LedgerError(f"A sealed file cannot be read: {error}. Restore it from a backup.") from error
        raise ConfigError(
            f"DuckDB refuses this query: {error}\nNothing was run or changed. Views: {', '.join(VIEWS)}. "
            'Their columns: azr sql "DESCRIBE tasks"'
        ) from error


def _id_text() -> str:
    """storage.ids.text as a macro; the shifts are the bits of a packed id (a property test compares the two)."""
    shorts = ", ".join(f"'{short}'" for short in SHORT.values())
    return f"""
    CREATE MACRO id_text(packed) AS format('{{}}{{}}-{{}}-{{:03d}}{{}}',
        packed >> 40,
        CASE WHEN packed >> 40 = 0 THEN '.' || (packed >> 32 & 255) ELSE '' END,
        [{shorts}][(packed >> 28 & 15) + 1],
        packed >> 11 & 131071,
        CASE WHEN packed & 2047 = 0 THEN '' ELSE ':' || ((packed & 2047) - 1) END)
    """


def _add_table(
    connection: duckdb.DuckDBPyConnection, name: str, schema: pa.Schema, rows: Iterable[dict[str, object]]
) -> None:
    """A table in memory from facts that are not Parquet."""
    connection.register("given", pa.Table.from_pylist(list(rows), schema=schema))
    connection.execute(f"CREATE TABLE {name} AS SELECT * FROM given")  # noqa: S608 - our own names
    connection.unregister("given")


def _add_raw(connection: duckdb.DuckDBPyConnection, ledgers: list[Ledger], row_type: type[Row]) -> list[str]:
    """The view `raw.<table>` with a column `run`; returns the files it reads.

    One branch per run and schema version, so that columns added later read as null in older files.
    """
    empty = ", ".join(f"NULL::{_TYPES[field.column.kind]} AS {field.name}" for field in fields_of(row_type))
    branches = [f"SELECT NULL::VARCHAR AS run, {empty} WHERE false"]
    listed: list[str] = []
    for number, ledger in enumerate(ledgers):
        for version, paths in _files(ledger, row_type.table).items():
            variable = f"{row_type.table}_{number}_{version}"
            connection.execute(f"SET VARIABLE {variable} = $paths", {"paths": paths})
            branches.append(
                f"SELECT '{ledger.run}' AS run, * "  # noqa: S608 - a run's name has no quotes
                f"FROM read_parquet(getvariable('{variable}'), hive_partitioning = false)"
            )
            listed += paths
    connection.execute(f"CREATE VIEW raw.{row_type.table} AS {' UNION ALL BY NAME '.join(branches)}")
    return listed


def _files(ledger: Ledger, table: str) -> dict[int, list[str]]:
    """The sealed files of one table, in order, by schema version."""
    directory = ledger.directory.resolve()  # DuckDB compares allowed paths as text
    found: dict[int, list[str]] = {}
    for seal in ledger.sealed():
        output = seal.outputs.get(table)
        if output is not None and output.rows:  # an empty file costs as much to open as a full one
            path = partition_of(directory, seal.position) / output.file
            found.setdefault(seal.schema_version, []).append(str(path))
    return found


def _run_row(ledger: Ledger) -> dict[str, object]:
    facts, seals = ledger.facts, ledger.sealed()
    return {
        "run": ledger.run,
        "name": facts.run,
        "seed": facts.seed,
        "iterations": sum(seal.stage is Stage.UPDATE and seal.iteration > 0 for seal in seals),
        "stages_sealed": len(seals),
        "state": "idle" if ledger.owner() is None else "running",
        "config_hash": facts.config_hash,
        "ledger_hash": ledger.ledger_hash(),
        "code_version": facts.code_version,
        "parent": facts.parent,
        "created": _time(facts.created_us),
    }


def _stage_row(ledger: Ledger, seal: Seal) -> dict[str, object]:
    timings, outputs = seal.timings, seal.outputs.values()
    return {
        "run": ledger.run,
        "iteration": seal.iteration,
        "round": seal.round,
        "stage": seal.stage.value,
        "attempt": seal.attempt,
        "rows": sum(output.rows for output in outputs),
        "bytes": sum(output.bytes for output in outputs),
        "content": seal.content,
        "seconds": (timings.finished_us - timings.started_us) / 1e6,
        "cpu_seconds": timings.cpu_us / 1e6,
        "code_version": seal.code_version,
        "flow_run_id": seal.flow_run_id,
        "started": _time(timings.started_us),
        "finished": _time(timings.finished_us),
    }


def _attempt_rows(ledger: Ledger) -> Iterator[dict[str, object]]:
    for record in ledger.attempts():
        ended = record.ended_us
        yield {
            "run": ledger.run,
            "iteration": record.position.iteration,
            "round": record.position.round,
            "stage": record.position.stage.value,
            "attempt": record.attempt,
            "outcome": record.outcome.value,
            "seconds": None if ended is None else (ended - record.started_us) / 1e6,
            "error": record.error,
            "code_version": record.code_version,
            "flow_run_id": record.flow_run_id,
            "pid": record.pid,
            "host": record.host,
            "started": _time(record.started_us),
            "ended": None if ended is None else _time(ended),
        }


def _time(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).replace(tzinfo=None)
