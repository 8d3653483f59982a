"""docs/ledger.md from the definitions: every table, view and column, so that the page cannot drift (a test compares).

Write it anew with ``python -m storage.describe > docs/ledger.md``.
"""

from __future__ import annotations

import sys

import duckdb

from storage.records import ROWS, Row
from storage.relations import add_empty, add_facts
from storage.schemas import SCHEMA_VERSION, Field, fields_of
from storage.views import FACTS, FUNCTIONS, METRICS, View, create_macros, create_views, view

_HEAD = f"""# The ledger

A run is a directory below the root. Each stage of each iteration is one *partition*: a directory of Parquet files made
whole by one rename, with its seal (`seal.json`) inside. Readers take their list of files from the seals.

```
<root>/<run>/run.json                     name, seed, resolved config, code version; of a fork its parent and the point
<root>/<run>/ledger/000012/<stage>/       one partition: <table>.parquet ..., seal.json
<root>/<run>/ledger/000000.02/<stage>/    the same for a bootstrap round
<root>/<run>/checkpoints/000012-<hash>/   a policy in Hugging Face layout, with manifest.json and optimizer/
<root>/<run>/attempts.jsonl               every attempt at a stage, also failed and killed ones
<root>/<run>/dropped.jsonl                what retention let go, with its hash and the reason (fork.md)
<root>/<run>/index.jsonl                  what readers want of every seal, in one file; may be removed
```

Two hash chains run through the seals. *content* covers what was computed: the rows of every table (columns marked
measured left out), the config, the content of what was read. Never names, times, hosts or code versions: two runs of
one config and seed on one kind of machine have the same content, and `ledger_hash` compares them. *integrity* covers
what lies on disk: the bytes of every file, the whole seal, and the seal made before it.

Ids are positions: `12-ded-031` is slot 31 of the deduction proposals of iteration 12, `0.2-ind-004` comes from
bootstrap round 2, `12-ded-031:4` is the fifth solver answer of that slot. Stored as INT64 they sort by position; every
view of `azr sql` carries the text beside the number (`id`, `task`, `parent`), and a `run` column.

`azr sql` asks views: one per table below, then facts and metrics. What a view adds to its table is said there.
[sql.md](sql.md) is a cookbook. A damaged run is left out of every view but `runs`, with a warning.

Schema version {SCHEMA_VERSION}. Columns are only ever added.
"""


_VIEWS = """## Facts and metrics

Each is one file below `storage/sql`; nothing that azr prints or logs is computed by other SQL. Times are UTC.
"""
_FUNCTIONS = """## Functions

Asked as `FROM ancestors('12-ded-031')`. `id_text(number)` and `id_number(text)` turn ids into each other.
"""


def page() -> str:
    """The whole page."""
    tables = [_table(row_type) for row_type in ROWS]
    with duckdb.connect() as connection:
        create_macros(connection)
        add_facts(connection)
        add_empty(connection)
        create_views(connection)
        facts = [_view(view(name), columns_of(connection, name)) for name in (*FACTS, *METRICS)]
        functions = [_view(view(name), columns_of(connection, name), FUNCTIONS[name]) for name in FUNCTIONS]
    return "\n".join([_HEAD, *tables, _VIEWS, *facts, _FUNCTIONS, *functions])


def columns_of(connection: duckdb.DuckDBPyConnection, name: str) -> dict[str, str]:
    """The columns of a view or table function, with DuckDB's types."""
    called = f"{name}({', '.join('NULL' for _ in FUNCTIONS[name])})" if name in FUNCTIONS else name
    found = connection.execute(f"DESCRIBE FROM {called}").fetchall()
    return {str(column[0]): str(column[1]) for column in found}


def _table(row_type: type[Row]) -> str:
    doc = (row_type.__doc__ or "").strip().splitlines()[0]
    lines = [f"## {row_type.table}", "", doc, f"Key: {', '.join(f'`{name}`' for name in row_type.key)}.", ""]
    lines += ["| column | type | kind | meaning |", "|---|---|---|---|"]
    lines += map(_line, fields_of(row_type))
    lines += [f"| `{name}` | text | view | {meaning} |" for name, meaning in view(row_type.table).columns.items()]
    return "\n".join([*lines, ""])


def _view(shown: View, types: dict[str, str], parameters: tuple[str, ...] = ()) -> str:
    called = f"{shown.name}({', '.join(parameters)})" if parameters else shown.name
    lines = [f"### {called}", "", shown.question, "", "| column | type | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {types[name].lower()} | {meaning} |" for name, meaning in shown.columns.items()]
    return "\n".join([*lines, ""])


def _line(field: Field) -> str:
    kind = "measured" if field.column.measured else "content"
    null = ", may be null" if field.nullable else ""
    return f"| `{field.name}` | {field.column.kind.value}{null} | {kind} | {field.column.meaning} |"


if __name__ == "__main__":
    sys.stdout.write(page())
