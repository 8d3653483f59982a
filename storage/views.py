"""The views that people and reports ask: one SQL file each, its head saying what it answers and what each column is.

Each file reads the relations ``raw.<table>`` (every sealed row), the facts beside them (storage.relations), and the
views before it. A function is a view with parameters. There is no other SQL for a curve: what is printed, logged or
reported is one of these.
"""

from __future__ import annotations

from importlib.resources import files
from itertools import takewhile
from typing import NamedTuple

import duckdb

from storage.ids import BITS, SHORT
from storage.records import Kind, Row
from storage.schemas import fields_of

FACTS = ("runs", "family", "stages", "attempts", "dropped")
TABLES = (
    "tasks", "task_parents", "rollouts", "tokens", "answers", "rewards", "advantages", "update_metrics", "checkpoints",
)  # fmt: skip
METRICS = (
    "iterations", "reward_curves", "update_curves", "rejections", "learnability", "program_history", "diversity",
    "costs", "lineage", "mode_totals", "run_totals", "rescored", "rescored_totals",
)  # fmt: skip
VIEWS = (*FACTS, *TABLES, *METRICS)
FUNCTIONS = {"ancestors": ("task",), "descendants": ("task",), "compare_runs": ("run_a", "run_b")}

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


class View(NamedTuple):
    """The definition of one view or function: the question it answers, the meaning of its columns, its SQL."""

    name: str
    question: str
    columns: dict[str, str]
    sql: str


def view(name: str) -> View:
    """The definition in ``sql/<name>.sql``."""
    written = _file(name)
    lines = takewhile(lambda line: line.startswith("--"), written.splitlines())
    head = [line.removeprefix("--").strip() for line in lines]
    question, _, columns = "\n".join(head).partition("\n\n")
    meanings = dict(line.split(": ", maxsplit=1) for line in columns.splitlines())
    return View(name, question.replace("\n", " "), meanings, written)


def create_macros(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the scalar functions that views and relations use."""
    connection.execute(_id_macros())
    connection.execute(_file("macros"))


def create_views(connection: duckdb.DuckDBPyConnection) -> None:
    """Make every view and table function, over the relations of the schema `raw`."""
    for name in VIEWS:
        connection.execute(f"CREATE VIEW {name} AS {_file(name)}")
    for name, parameters in FUNCTIONS.items():
        connection.execute(f"CREATE MACRO {name}({', '.join(parameters)}) AS TABLE {_file(name)}")


def empty(row_type: type[Row]) -> str:
    """A SELECT with the columns of `raw.<table>` and no row."""
    columns = ", ".join(f"NULL::{_TYPES[field.column.kind]} AS {field.name}" for field in fields_of(row_type))
    return f"SELECT NULL::VARCHAR AS run, {columns} WHERE false"


def _file(name: str) -> str:
    return files("storage").joinpath("sql", f"{name}.sql").read_text()


def _id_macros() -> str:
    """storage.ids.text and storage.ids.parse in SQL (a property test compares them)."""
    shorts = ", ".join(f"'{short}'" for short in SHORT.values())
    sample, slot, mode, round = BITS["sample"], BITS["slot"], BITS["mode"], BITS["round"]
    at_mode, at_round, at_iteration = slot + sample, mode + slot + sample, round + mode + slot + sample
    return rf"""
    CREATE MACRO id_text(packed) AS format('{{}}{{}}-{{}}-{{:03d}}{{}}',
        packed >> {at_iteration},
        CASE WHEN packed >> {at_iteration} = 0 THEN '.' || (packed >> {at_round} & {2**round - 1}) ELSE '' END,
        [{shorts}][(packed >> {at_mode} & {2**mode - 1}) + 1],
        packed >> {sample} & {2**slot - 1},
        CASE WHEN packed & {2**sample - 1} = 0 THEN '' ELSE ':' || ((packed & {2**sample - 1}) - 1) END);
    CREATE MACRO id_number(written) AS (
        (regexp_extract(written, '^(\d+)', 1)::BIGINT << {at_iteration})
        | (coalesce(try_cast(regexp_extract(written, '^\d+\.(\d+)', 1) AS BIGINT), 0) << {at_round})
        | ((list_position([{shorts}], regexp_extract(written, '-([a-z]+)-', 1)) - 1)::BIGINT << {at_mode})
        | (regexp_extract(written, '-(\d+)', 1)::BIGINT << {sample})
        | coalesce(try_cast(regexp_extract(written, ':(\d+)$', 1) AS BIGINT) + 1, 0)
    )
    """
