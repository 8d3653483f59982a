"""SQL over everything that is sealed: a DuckDB connection with views that change nothing.

No single DuckDB setting is enough, so there are four layers. External access is off except for the ledgers of the runs,
so nothing else can be read or written; the configuration is locked, so a query cannot undo that; a query runs in a
read-only transaction; and it must be one SELECT that only reads (storage.gate), since COPY over a sealed file would
pass the others. File lists come from seals, never from globs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import ConfigError, LedgerError
from storage.gate import one_select
from storage.layout import LEDGER, RESCORED, command, require_runs
from storage.relations import add_empty, add_rescored, add_rows, damaged_runs, load_facts
from storage.retention import dropped_bytes
from storage.views import VIEWS, create_macros, create_views

T = TypeVar("T")
Connection = duckdb.DuckDBPyConnection

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": "4GB",
    "temp_directory": "",  # nothing spills to disk
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,  # a name in a query is a view, never a Python variable
}
# What DuckDB raises over a damaged file; some of it also over a question.
_UNREADABLE = (
    duckdb.Error, duckdb.IOException, duckdb.InvalidInputException, duckdb.SerializationException,
    duckdb.InternalException,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a query answered: column names, DuckDB's types as text, the rows as Python values, and what is missing.

    `left_out` says of each damaged run, by name, why it is not in the answer.
    """

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    left_out: Mapping[str, str]


class _Opened(NamedTuple):
    connection: Connection
    left_out: Mapping[str, str]


def query(root: Path, sql: str, run: str | None = None) -> Result:
    """Answer one SELECT over all runs below a root that can be read, or over one.

    Raises ConfigError when it is no single SELECT or DuckDB refuses it, LedgerError when there is no ledger to ask,
    or the one run meant is damaged.
    """
    return query_all(root, {"": sql}, run)[""]


def query_all(root: Path, questions: Mapping[str, str], run: str | None = None) -> dict[str, Result]:
    """As `query`, for several questions by name, all about the same moment."""
    statements = {name: _gated(sql) for name, sql in questions.items()}
    results, left_out = _with(
        root, run, lambda connection: {name: ask(connection, one) for name, one in statements.items()}
    )
    return {name: replace(result, left_out=left_out) for name, result in results.items()}


def query_parquet(root: Path, sql: str) -> tuple[bytes, Mapping[str, str]]:
    """As `query`, answered as the bytes of a Parquet file, and the damaged runs that are not in it."""
    statement = _gated(sql)

    def fetched(connection: Connection) -> pa.Table:
        with _reading(connection):
            return connection.sql(statement).to_arrow_table()

    table, left_out = _with(root, None, fetched)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes(), left_out


def connect(root: Path, run: str | None = None) -> Connection:
    """A connection with every view, over all runs below a root or one of them, as sealed at this moment.

    A damaged run is left out with a warning. Raises LedgerError when there is no such run, or it is damaged.
    """
    opened = _retried(root, run, lambda opened: opened)
    for message in left_out_messages(root, opened.left_out):
        warnings.warn(message, stacklevel=3)
    return opened.connection


def write_database(root: Path, file: Path) -> Mapping[str, str]:
    """Write a DuckDB database with every view, over the files sealed at this moment; returns the runs left out.

    The views name files by absolute path. A database that this wrote before is replaced. Raises ConfigError when the
    file is something else, LedgerError when there is no ledger.
    """
    _refuse_other(file)
    partial = file.with_name(f"{file.name}.partial")
    try:
        opened = _retried(root, None, lambda opened: opened, file=partial)
        opened.connection.close()
        partial.replace(file)
    except LedgerError:  # of the runs, and an OSError too
        raise
    except OSError as error:
        raise LedgerError(f"{file} cannot be written: {error}. The runs stay as they are. Choose another.") from error
    finally:
        partial.unlink(missing_ok=True)
    return opened.left_out


def ask(connection: Connection, statement: duckdb.Statement) -> Result:
    """Run one statement of `one_select` on a connection of `connect`; raises duckdb.Error when it is refused."""
    with _reading(connection):
        cursor = connection.execute(statement)
        described = cursor.description or []
        rows = tuple(cursor.fetchall())
    columns, types = (tuple(str(column[at]) for column in described) for at in (0, 1))
    return Result(columns=columns, types=types, rows=rows, left_out={})


def left_out_messages(root: Path, left_out: Mapping[str, str]) -> list[str]:
    """What is said of runs that an answer does not cover."""
    return [
        f"run {run} is damaged and left out: {problem} What else is wrong: {command('audit', root=root, run=run)}"
        for run, problem in left_out.items()
    ]


def _gated(sql: str) -> duckdb.Statement:
    try:
        return one_select(sql)
    except duckdb.Error as error:
        raise _refused(error) from error


@contextmanager
def _reading(connection: Connection) -> Iterator[None]:
    connection.execute("BEGIN TRANSACTION READ ONLY")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def _with(root: Path, run: str | None, use: Callable[[Connection], T]) -> tuple[T, Mapping[str, str]]:
    def used(opened: _Opened) -> tuple[T, Mapping[str, str]]:
        with opened.connection as connection:
            return use(connection), opened.left_out

    return _retried(root, run, used)


def _retried(root: Path, run: str | None, use: Callable[[_Opened], T], file: Path | None = None) -> T:
    """Use a connection; when a file turns out to be damaged, once more without the runs that are.

    Once more, too, when a file went meanwhile that a writer let go.
    """
    without: dict[str, str] = {}
    while True:
        listed = dropped_bytes(root)
        try:
            return use(_open(root, run, without, file))
        except duckdb.Error as error:
            names = [name for name in _names(root, run) if name not in without]
            found = damaged_runs(root, names) if type(error) in _UNREADABLE else {}
            if dropped_bytes(root) != listed:
                continue
            if not found:
                raise _refused(error) from error
            without |= found


def _names(root: Path, run: str | None) -> list[str]:
    return require_runs(root) if run is None else [run]


def _open(root: Path, run: str | None, without: Mapping[str, str], file: Path | None) -> _Opened:
    if file is not None:
        file.unlink(missing_ok=True)  # of an earlier try
    connection = duckdb.connect(":memory:" if file is None else str(file), config=_SETTINGS)
    try:
        return _Opened(connection, _fill(connection, root, run, without, standing=file is not None))
    except BaseException:
        connection.close()
        raise


def _fill(
    connection: Connection, root: Path, run: str | None, without: Mapping[str, str], *, standing: bool
) -> Mapping[str, str]:
    """Make every view on a fresh connection and lock it; returns the runs left out."""
    names, home = _names(root, run), root.resolve()
    create_macros(connection)
    left_out = load_facts(connection, root, names, without, inherited=run is not None)
    if len(left_out) == len(names):
        raise LedgerError(next(iter(left_out.values())))
    add_empty(connection)
    create_views(connection)
    add_rows(connection, home, run, standing=standing)
    shown = [name for name in names if name not in left_out]
    add_rescored(connection, home, shown)
    makers = connection.execute("SELECT DISTINCT home FROM raw.history").fetchall()
    allowed = [str(home / name / LEDGER) for (name,) in makers] + [str(home / name / RESCORED) for name in shown]
    connection.execute("SET allowed_directories = $allowed", {"allowed": allowed})  # refused after the next line
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return left_out


def _refuse_other(file: Path) -> None:
    if not file.exists():
        return
    try:
        with duckdb.connect(str(file), read_only=True) as connection:
            connection.execute("SELECT count(*) FROM raw.sealed")
    except duckdb.Error as error:
        raise ConfigError(
            f"{file} is there and is no database of azr. Nothing was written. Choose another: azr sql --duckdb FILE"
        ) from error


def _refused(error: duckdb.Error) -> ConfigError | LedgerError:
    if isinstance(error, duckdb.IOException):
        return LedgerError(f"A file cannot be read: {error}. Nothing was changed. Run: azr status")
    return ConfigError(
        f"DuckDB refuses this query: {error}\nNothing was run or changed. Views: {', '.join(VIEWS)}. "
        'Their columns: azr sql "DESCRIBE tasks"'
    )
