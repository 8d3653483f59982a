"""`azr sql`: one question from the command line, a file or standard input, answered in one of four formats."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from flows.console import Table, as_csv, as_json, as_table, emit, say
from flows.look import table, warn
from storage.database import query, query_parquet, write_database
from storage.errors import ConfigError, LedgerError


def answer_sql(root: Path, sql: str | None, *, file: Path | None, form: str, out: Path | None) -> int:
    """Print what one SELECT answers, or write it to a file; raises ConfigError or LedgerError."""
    data = FORMATS[form](root, _question(sql, file))
    if out is None:
        _refuse_terminal(form)
        emit(data)
        return 0
    try:
        out.write_bytes(data)
    except OSError as error:
        raise LedgerError(f"{out} cannot be written: {error}. The runs stay as they are. Choose another.") from error
    return 0


def write_views(root: Path, file: Path, *, asked: bool) -> int:
    """Write a DuckDB database of views, and say how to open it; raises ConfigError when a question was `asked` too."""
    if asked:
        raise ConfigError("--duckdb writes every view and takes no question. Nothing was written. Give one of the two.")
    warn(root, write_database(root, file))
    say(f"{file} holds every view as sealed at this moment; write it again to see more.\nNext: duckdb -readonly {file}")
    return 0


def _question(sql: str | None, file: Path | None) -> str:
    if sql is not None and file is not None:
        raise ConfigError("There are two questions, one as text and one in a file. Nothing was run. Give one of them.")
    if sql is not None:
        return sql
    try:
        return sys.stdin.read() if file is None else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}. Nothing was run. Try: azr sql -f FILE") from error


def _text(shown: Callable[[Table], str]) -> Callable[[Path, str], bytes]:
    def answered(root: Path, sql: str) -> bytes:
        result = query(root, sql)
        warn(root, result.left_out)
        return f"{shown(table(result))}\n".encode(errors="backslashreplace")

    return answered


def _parquet(root: Path, sql: str) -> bytes:
    data, left_out = query_parquet(root, sql)
    warn(root, left_out)
    return data


def _refuse_terminal(form: str) -> None:
    if form in _BINARY and sys.stdout.isatty():
        raise ConfigError(f"{form} is not for a terminal. Nothing was printed. Add --out FILE, or > FILE.")


FORMATS: dict[str, Callable[[Path, str], bytes]] = {
    "table": _text(as_table),
    "csv": _text(as_csv),
    "json": _text(as_json),
    "parquet": _parquet,
}
_BINARY = {"parquet"}
