"""What the views stand on, in the schema `raw`: facts of the runs, their seals and attempts, and every sealed row.

Asked of all runs, each row is there once, under the run that made it. Asked of one run, its whole history is there
under its name: of a fork, also what it took from its parent. A run that cannot be opened has one row in `raw.runs` that
says why, and is nowhere else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import duckdb

from storage.errors import LedgerError
from storage.family import Family, Member, family_of
from storage.ids import Position, Stage
from storage.layout import ATTEMPTS_FILE, LEDGER, run_directory
from storage.ledger import Ledger
from storage.lock import is_alive, owner_of
from storage.partitions import present, read_bytes, read_facts
from storage.records import ROWS, Row
from storage.rescored import Rescored, tables
from storage.retention import dropped
from storage.sealed import HISTORY, load_history
from storage.views import empty

_EVENTS = {
    "event": "VARCHAR", "iteration": "INTEGER", "round": "INTEGER", "stage": "VARCHAR", "attempt": "INTEGER",
    "started_us": "BIGINT", "ended_us": "BIGINT", "outcome": "VARCHAR", "error": "VARCHAR", "code_version": "VARCHAR",
    "flow_run_id": "VARCHAR", "pid": "BIGINT", "process": "VARCHAR", "host": "VARCHAR",
}  # fmt: skip
_TABLES = (
    "CREATE SCHEMA raw",
    """CREATE TABLE raw.runs (run VARCHAR, name VARCHAR, seed BIGINT, state VARCHAR, config_hash VARCHAR,
       code_version VARCHAR, parent VARCHAR, forked_at VARCHAR, created_us BIGINT, problem VARCHAR)""",
    HISTORY,
    "CREATE TABLE raw.attempts (run VARCHAR, home VARCHAR, {})".format(
        ", ".join(f"{n} {t}" for n, t in _EVENTS.items())
    ),
    "CREATE TABLE raw.living (pid BIGINT, process VARCHAR)",
    """CREATE TABLE raw.dropped (home VARCHAR, what VARCHAR, position VARCHAR, path VARCHAR, hash VARCHAR, bytes BIGINT,
       policy VARCHAR, dropped_us BIGINT)""",
)
_ATTEMPTS = """
INSERT INTO raw.attempts
SELECT $run, $home, * FROM read_json($path, format = 'newline_delimited', columns = {columns}, ignore_errors = true)
WHERE stage_order(stage) IS NOT NULL AND attempt IS NOT NULL
""".format(columns="{{{}}}".format(", ".join(f"{n}: '{t}'" for n, t in _EVENTS.items())))
_TRIED = "SELECT DISTINCT iteration, round, stage FROM raw.attempts WHERE run = $run AND home = $home"
_FORGET = "DELETE FROM raw.attempts WHERE run = ? AND home = ? AND iteration = ? AND round = ? AND stage = ?"
_DAMAGED = "INSERT INTO raw.runs BY NAME SELECT $run AS run, 'damaged' AS state, $problem AS problem"
_SILENT = """
SELECT DISTINCT pid, process FROM raw.attempts s WHERE event = 'start' AND NOT EXISTS (
    FROM raw.attempts e WHERE e.event = 'end' AND (e.run, e.iteration, e.round, e.stage, e.attempt)
        = (s.run, s.iteration, s.round, s.stage, s.attempt))
"""
_PATHS = f"""
WITH files AS (
    SELECT * EXCLUDE (outputs), unnest(outputs, recursive := true) FROM raw.sealed
), paths AS (
    SELECT *, '{LEDGER}/' || format('{{:06d}}', iteration)
           || CASE WHEN iteration = 0 THEN format('.{{:02d}}', round) ELSE '' END || '/' || stage || '/' || file AS path
    FROM files WHERE rows > 0
)
SELECT "table", schema_version,
       list($root || '/' || home || '/' || path ORDER BY run, iteration, round, stage_order(stage))
FROM paths WHERE (home, path) NOT IN (SELECT home, path FROM raw.dropped)
GROUP BY ALL ORDER BY ALL
"""  # noqa: S608 - an empty file costs as much to open as a full one


def add_facts(connection: duckdb.DuckDBPyConnection, *, inherited: bool = False) -> None:
    """The tables of facts, without rows; with `inherited`, what a fork took from its parent counts as its own."""
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute(f"CREATE VIEW raw.sealed AS FROM raw.history {'' if inherited else 'WHERE home = run'}")


def load_facts(
    connection: duckdb.DuckDBPyConnection, root: Path, runs: Iterable[str], known: Mapping[str, str], *, inherited: bool
) -> dict[str, str]:
    """Make and fill the tables of facts; returns why each run that is left out is damaged, beginning with `known`."""
    add_facts(connection, inherited=inherited)
    problems: dict[str, str] = {}
    for run in runs:
        problem = known.get(run) or _load_run(connection, run_directory(root, run), inherited=inherited)
        if problem is not None:
            problems[run] = problem
            connection.execute("DELETE FROM raw.history WHERE run = $run", {"run": run})
            connection.execute(_DAMAGED, {"run": run, "problem": problem})
    silent = connection.execute(_SILENT).fetchall()
    for one in [list(one) for one in silent if is_alive(*one)]:
        connection.execute("INSERT INTO raw.living VALUES (?, ?)", one)
    return problems


def add_rows(connection: duckdb.DuckDBPyConnection, root: Path, run: str | None, *, standing: bool) -> None:
    """Put every `raw.<table>` in the place of an empty one; `standing` views name their files, for a database file.

    One branch per schema version, so that columns added later read as null in older files. Other views bind while a
    list holds one file: binding opens files, and the list may be long.
    """
    branches = {row_type.table: [empty(row_type)] for row_type in ROWS}
    lists: dict[str, list[str]] = {}
    for table, version, paths in connection.execute(_PATHS, {"root": str(root)}).fetchall():
        name = f"{table}_{version}"
        lists[name] = paths
        connection.execute(f"SET VARIABLE {name} = $paths", {"paths": paths[:1]})
        branches[table].append(_rows(_listed(paths) if standing else f"getvariable('{name}')", run))
    for table, parts in branches.items():
        connection.execute(f"DROP TABLE raw.{table}")
        connection.execute(f"CREATE VIEW raw.{table} AS {' UNION ALL BY NAME '.join(parts)}")
    for name, paths in lists.items():
        connection.execute(f"SET VARIABLE {name} = $paths", {"paths": paths})


def add_rescored(connection: duckdb.DuckDBPyConnection, root: Path, runs: Iterable[str]) -> None:
    """Put the side tables of these runs, which no seal names, in the place of the empty `raw.rescored`."""
    paths = [str(path) for run in runs for path in tables(root / run)]
    if paths:
        files = f"read_parquet({_listed(paths)}, hive_partitioning = false, union_by_name = true)"
        rows = f"SELECT parse_path(filename, 'forward_slash')[-3] AS run, * FROM {files}"  # noqa: S608 - our own names
        connection.execute("DROP TABLE raw.rescored")
        connection.execute(f"CREATE VIEW raw.rescored AS {empty(Rescored)} UNION ALL BY NAME {rows}")


def damaged_runs(root: Path, runs: Collection[str]) -> dict[str, str]:
    """What is wrong with those of the runs whose sealed files are not what was sealed; reads every byte of them."""
    found = {run: _damage(run_directory(root, run)) for run in runs}
    return {run: problem for run, problem in found.items() if problem is not None}


def add_empty(connection: duckdb.DuckDBPyConnection) -> None:
    """Every `raw.<table>` without rows: views bind to these a hundred times faster than to files."""
    row_types: tuple[type[Row], ...] = (*ROWS, Rescored)
    for row_type in row_types:
        connection.execute(f"CREATE TABLE raw.{row_type.table} AS {empty(row_type)}")


def _load_run(connection: duckdb.DuckDBPyConnection, directory: Path, *, inherited: bool) -> str | None:
    """Load one run; returns why it cannot be, or None."""
    try:
        facts = read_facts(directory)
        family = family_of(directory, facts)
        load_history(connection, family)
        for member in family.members if inherited else family.members[:1]:
            _load_log(connection, directory.name, family, member)
        state = "idle" if owner_of(directory) is None else "running"
    except LedgerError as error:
        return str(error)
    parent = (None, None) if facts.parent is None else (facts.parent.run, facts.parent.at)
    values = [directory.name, facts.run, facts.seed, state, facts.config_hash, facts.code_version, *parent]
    connection.execute("INSERT INTO raw.runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)", [*values, facts.created_us])
    return None


def _load_log(connection: duckdb.DuckDBPyConnection, run: str, family: Family, member: Member) -> None:
    """The attempts of one member of a family at what it made, and what it dropped."""
    log, gone = member.directory / ATTEMPTS_FILE, dropped(member.directory).values()
    if log.is_file():
        connection.execute(_ATTEMPTS, {"run": run, "home": member.directory.name, "path": str(log)})
        tried = connection.execute(_TRIED, {"run": run, "home": member.directory.name}).fetchall()
        for iteration, round, stage in tried if len(family.members) > 1 else ():
            if family.maker(Position(iteration, Stage(stage), round)) is not member:
                connection.execute(_FORGET, [run, member.directory.name, iteration, round, stage])
    lines = [[one.what, one.position, one.path, one.hash, one.bytes, one.policy, one.dropped_us] for one in gone]
    if lines:
        insert = "INSERT INTO raw.dropped VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        connection.executemany(insert, [[member.directory.name, *line] for line in lines])


def _rows(files: str, run: str | None) -> str:
    """The rows of sealed files, of one run or of the run that their paths name: <run>/ledger/<step>/<stage>/<file>.

    A condition on the run leaves whole files out, since it is made from their paths.
    """
    name = "parse_path(filename, 'forward_slash')[-5]" if run is None else f"'{run}'"  # which has no quotes
    return f"SELECT {name} AS run, * FROM read_parquet({files}, hive_partitioning = false)"  # noqa: S608


def _listed(paths: Iterable[str]) -> str:
    return "[{}]".format(", ".join("'{}'".format(path.replace("'", "''")) for path in paths))


def _damage(directory: Path) -> str | None:
    try:
        made = Ledger.open(directory.parent, directory.name).made()
        for seal, table, _ in present(directory, made.values()):
            read_bytes(directory, seal, table)
    except LedgerError as error:
        return str(error)
    return None
