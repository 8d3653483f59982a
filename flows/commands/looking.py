"""The commands that look at runs and configs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from flows.commands.common import HERE, Common, Settings, app, config_app, show


@app.command
def runs(*, json: Annotated[bool, Parameter(negative="")] = False, common: Common = HERE) -> int:
    """List the runs below the root.

    Args:
        json: Print JSON.
    """
    from flows.look import list_runs

    return list_runs(common.root, as_json=json)


@app.command
def status(
    *, run: str | None = None, json: Annotated[bool, Parameter(negative="")] = False, common: Common = HERE
) -> int:
    """Show iterations and stages of a run: counts, timings, attempts, failures.

    Args:
        run: Name of the run (default: the only or latest one).
        json: Print JSON, with the ledger hash.
    """
    from flows.look import show_status

    return show_status(common.root, run, as_json=json)


@show.command(name="task")
def show_task(
    id: str,  # noqa: A002 - the word on the command line
    /,
    *,
    run: str | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    common: Common = HERE,
) -> int:
    """Print one task: prompt, proposer's text, program, parents, verdict, its answers and their rewards.

    Args:
        id: The task's id, such as 12-ded-031 or, in bootstrap, 0.2-ded-031.
        run: Name of the run (default: the only or latest one).
        json: Print JSON.
    """
    from flows.show import show_one_task

    return show_one_task(common.root, run, id, as_json=json)


@app.command
def sql(
    query: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,  # SQL may begin with a comment
    /,
    *,
    file: Annotated[Path | None, Parameter(name=["--file", "-f"])] = None,
    format: Literal["table", "csv", "json", "parquet"] = "table",  # noqa: A002 - the word on the command line
    out: Path | None = None,
    duckdb: Path | None = None,
    common: Common = HERE,
) -> int:
    """Answer one SELECT over all runs below the root, also while one is going. It can change nothing.

    Args:
        query: The SELECT; without it, it is read from --file or from standard input.
        file: File with the SELECT.
        format: How to print the rows.
        out: File for the rows, instead of standard output.
        duckdb: Write a DuckDB database with every view to this file instead, for the duckdb shell and other tools.
    """
    from flows.ask import answer_sql, write_views

    if duckdb is not None:
        return write_views(common.root, duckdb, asked=query is not None or file is not None)
    return answer_sql(common.root, query, file=file, form=format, out=out)


@config_app.command(name="show")
def show_config(
    *, config: Path | None = None, run: str | None = None, settings: Settings = (), common: Common = HERE
) -> int:
    """Print every config value, what it means, and where it came from.

    Args:
        config: TOML file.
        run: Show the stored config of this run instead.
        settings: One config value, as key=value; may be repeated.
    """
    from flows.provenance import print_config

    return print_config(common.root, file=config, run=run, settings=settings)
