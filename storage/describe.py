"""docs/ledger.md from the definitions: every table and column, so that the page cannot drift (a test compares them).

Write it anew with ``python -m storage.describe > docs/ledger.md``.
"""

from __future__ import annotations

import sys

from storage.records import ROWS, Row
from storage.schemas import SCHEMA_VERSION, Field, fields_of

_HEAD = f"""# The ledger

A run is a directory below the root. Each stage of each iteration is one *partition*: a directory of Parquet files made
whole by one rename, with its seal (`seal.json`) inside. Readers take their list of files from the seals.

```
<root>/<run>/run.json                     name, seed, resolved config, code version
<root>/<run>/ledger/000012/<stage>/       one partition: <table>.parquet ..., seal.json
<root>/<run>/ledger/000000.02/<stage>/    the same for a bootstrap round
<root>/<run>/checkpoints/000012-<hash>/   a policy in Hugging Face layout, with manifest.json and optimizer/
<root>/<run>/attempts.jsonl               every attempt at a stage, also failed and killed ones
```

Two hash chains run through the seals. *content* covers what was computed: the rows of every table (columns marked
measured left out), the config, the content of what was read. Never names, times, hosts or code versions: two runs of
one config and seed on one kind of machine have the same content, and `ledger_hash` compares them. *integrity* covers
what lies on disk: the bytes of every file, the whole seal, and the seal made before it.

Ids are positions: `12-ded-031` is slot 31 of the deduction proposals of iteration 12, `0.2-ind-004` comes from
bootstrap round 2, `12-ded-031:4` is the fifth solver answer of that slot. Stored as INT64 they sort by position; every
view of `azr sql` carries the text beside the number (`id`, `task`, `parent`), and a `run` column.

The views have the names of the tables below; `runs`, `iterations`, `stages` and `attempts` come beside them. The view
`rollouts` adds `format` and `validity` from what validate and verify found; `tasks` adds `input` and `output`, the
first pair.

Schema version {SCHEMA_VERSION}. Columns are only ever added.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *(_table(row_type) for row_type in ROWS)])


def _table(row_type: type[Row]) -> str:
    doc = (row_type.__doc__ or "").strip().splitlines()[0]
    lines = [f"## {row_type.table}", "", doc, f"Key: {', '.join(f'`{name}`' for name in row_type.key)}.", ""]
    lines += ["| column | type | kind | meaning |", "|---|---|---|---|"]
    return "\n".join([*lines, *map(_line, fields_of(row_type)), ""])


def _line(field: Field) -> str:
    kind = "measured" if field.column.measured else "content"
    null = ", may be null" if field.nullable else ""
    return f"| `{field.name}` | {field.column.kind.value}{null} | {kind} | {field.column.meaning} |"


if __name__ == "__main__":
    sys.stdout.write(page())
