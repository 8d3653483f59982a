"""What a query may be: one SELECT that reads the views and nothing else.

DuckDB takes COPY, INSERT, UPDATE and DELETE as the body of a WITH, and calls the whole a SELECT; a table function may
open a file or run other SQL. So the query's syntax tree is read: every query in it must be one that only reads, and
every table function must be in a list of those that stay inside the database.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import duckdb

from storage.errors import ConfigError

_READING = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_QUERY = "_NODE"  # how the names of all kinds of query end
_FUNCTIONS = {
    "ancestors", "compare_runs", "descendants", "duckdb_columns", "duckdb_functions", "duckdb_settings",
    "duckdb_tables", "duckdb_views", "generate_series", "histogram", "histogram_values", "json_each", "json_tree",
    "pragma_table_info", "range", "repeat", "unnest",
}  # fmt: skip
_ONE = (
    'Try: azr sql "SELECT * FROM runs" (a PIVOT goes inside: FROM (PIVOT ... ON mode IN (...)); '
    "results go to a file by --out FILE)"
)
Tree = dict[str, object]


def one_select(sql: str) -> duckdb.Statement:
    """The statement in a text.

    Raises:
        ConfigError: it is not exactly one SELECT, or one that writes or reads more than the views.
        duckdb.Error: it is no SQL.
    """
    statements = duckdb.extract_statements(sql)
    kinds = [statement.type.name for statement in statements]
    if kinds != ["SELECT"]:
        raise _refused(", ".join(kinds) or "nothing")
    for part in _parts(_tree(statements[0].query)):
        if (refused := _writes(part) or _leaves(part)) is not None:
            raise _refused(refused)
    return statements[0]


def _tree(sql: str) -> object:
    found = duckdb.execute("SELECT json_serialize_sql($sql)", {"sql": sql}).fetchone()
    tree = json.loads(found[0]) if found is not None else {"error": True}
    if tree["error"]:
        raise _refused("something that cannot be looked through")
    return tree["statements"]


def _parts(tree: object) -> Iterator[Tree]:
    """Every object in a syntax tree."""
    waiting = [tree]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _writes(part: Tree) -> str | None:
    kind = str(part.get("type"))
    return (
        f"a SELECT with {kind.removesuffix('_QUERY_NODE')}" if kind.endswith(_QUERY) and kind not in _READING else None
    )


def _leaves(part: Tree) -> str | None:
    function = part.get("function")
    if part.get("type") != "TABLE_FUNCTION" or not isinstance(function, dict):
        return None
    name = str(function["function_name"]).lower()
    return None if name in _FUNCTIONS else f"a SELECT from {name}(), which may leave the ledger"


def _refused(given: str) -> ConfigError:
    return ConfigError(
        f"azr sql is read-only and takes exactly one SELECT from the views; this is {given}. "
        f"Nothing was run or changed. {_ONE}"
    )
