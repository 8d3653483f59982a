"""The ledger: every task, rollout, reward and checkpoint of a run, sealed stage by stage, asked by SQL."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb


def connect(root: str | PathLike[str] = "runs", run: str | None = None) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with every view of docs/ledger.md, over the runs below a root or one of them.

    It shows what is sealed at this moment, and reads nothing but the ledgers. Its results become pandas, polars or
    Arrow by `df()`, `pl()` and `to_arrow_table()`. A damaged run is left out with a warning. Raises LedgerError when
    there is no such run, or it is damaged.
    """
    from storage.database import connect as connected  # duckdb and pyarrow are imported when they are needed

    return connected(Path(root), run)
