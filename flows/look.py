"""The commands that look at runs: runs and status. What they print comes from the views."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flows.console import Table, as_table, complain, say, say_json, summary
from flows.launch import pick_run
from storage import layout
from storage.database import Result, left_out_messages, query, query_all
from storage.ledger import Ledger

_RUNS = "SELECT run, state, iterations, seed, ledger_hash, created FROM runs"
_STATUS = {
    "iterations": "SELECT * EXCLUDE (run, policy) FROM iterations",
    "stages": """
        SELECT iteration, round, stage, attempts, failed, killed, last, rows, seconds, cpu_seconds FROM costs""",
    "failures": """
        SELECT iteration, round, stage, attempt, outcome, error FROM attempts
        WHERE outcome IN ('failed', 'killed') ORDER BY started""",
}
_LAST_TASK = "SELECT id_text(max(task_id)) FROM tasks WHERE verdict = 'valid'"


def list_runs(root: Path, *, as_json: bool) -> int:
    """Print the runs below a root, damaged ones too."""
    found = query(root, _RUNS)
    warn(root, found.left_out)
    if as_json:
        say_json(records(found))
        return 0
    say(as_table(table(found)))
    latest = [row["run"] for row in records(found) if row["run"] not in found.left_out][-1]
    say(f"\nNext: {layout.command('status', root=root, run=str(latest))}")
    return 0


def show_status(root: Path, run: str | None, *, as_json: bool) -> int:
    """Print iterations and stages of a run, with attempts and failures."""
    name = pick_run(root, run)
    ledger = Ledger.open(root, name)  # checks every seal, so the hash below can be relied on
    found = query_all(root, {**_STATUS, "last": _LAST_TASK}, name)
    last = str(found.pop("last").rows[0][0] or "ID")
    facts = {"run": name, "ledger_hash": ledger.ledger_hash(), "config_hash": ledger.facts.config_hash}
    if as_json:
        say_json({**facts, **{key: records(result) for key, result in found.items()}})
        return 0
    say(summary({**facts, "owner": str(ledger.owner() or "nobody writes it")}))
    for key, result in found.items():
        if result.rows:
            say(f"\n{key}\n{as_table(table(result))}")
    say(f"\nNext: {layout.command('show', 'task', last, root=root, run=name)}")
    return 0


def records(result: Result) -> list[dict[str, object]]:
    """The rows of a result by column name."""
    return [dict(zip(result.columns, row, strict=True)) for row in result.rows]


def table(result: Result) -> Table:
    """A result as something to print."""
    return Table(result.columns, result.rows)


def warn(root: Path, left_out: Mapping[str, str]) -> None:
    """Say on standard error which runs an answer does not cover."""
    for message in left_out_messages(root, left_out):
        complain(message)
