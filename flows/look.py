"""The commands that look: runs, status, sql. What they print comes from views and named SQL."""

from __future__ import annotations

from pathlib import Path

from flows.console import Table, as_csv, as_json, as_table, say, say_json, summary
from flows.launch import pick_run
from storage import layout
from storage.database import Result, query
from storage.ledger import Ledger

_RUNS = "SELECT run, state, iterations, seed, ledger_hash, created FROM runs ORDER BY created"
_ITERATIONS = """
SELECT iteration, stages_sealed AS stages, proposals, valid, answers, round(solver_accuracy, 3) AS accuracy,
       round(proposer_reward, 3) AS proposer_reward, round(solver_reward, 3) AS solver_reward,
       round(seconds, 1) AS seconds
FROM iterations ORDER BY iteration"""
_STAGES = """
SELECT a.iteration, a.round, a.stage, count(*) AS attempts,
       count(*) FILTER (a.outcome = 'failed') AS failed, count(*) FILTER (a.outcome = 'killed') AS killed,
       max_by(a.outcome, a.attempt) AS last,
       max(s.rows) AS rows, max(s.seconds) AS seconds, max(s.cpu_seconds) AS cpu_seconds
FROM attempts a LEFT JOIN stages s USING (run, iteration, round, stage)
GROUP BY a.iteration, a.round, a.stage
ORDER BY a.iteration, a.round, list_position(['propose', 'validate', 'solve', 'verify', 'update'], a.stage)"""
_FAILURES = """
SELECT iteration, round, stage, attempt, outcome, error FROM attempts
WHERE outcome IN ('failed', 'killed') ORDER BY started"""

FORMATS = {"table": as_table, "csv": as_csv, "json": as_json}


def list_runs(root: Path, *, as_json: bool) -> int:
    """Print the runs below a root."""
    found = query(root, _RUNS)
    if as_json:
        say_json(records(found))
    else:
        say(as_table(table(found)))
        say(f"\nNext: {layout.command('status', root=root, run=str(found.rows[-1][0]))}")
    return 0


def show_status(root: Path, run: str | None, *, as_json: bool) -> int:
    """Print iterations and stages of a run, with attempts and failures."""
    name = pick_run(root, run)
    found = {key: query(root, sql, name) for key, sql in _STATUS.items()}
    ledger = Ledger.open(root, name)
    facts = {"run": name, "ledger_hash": ledger.ledger_hash(), "config_hash": ledger.facts.config_hash}
    if as_json:
        say_json({**facts, **{key: records(result) for key, result in found.items()}})
        return 0
    say(summary({**facts, "owner": str(ledger.owner() or "nobody writes it")}))
    for key, result in found.items():
        if result.rows:
            say(f"\n{key}\n{as_table(table(result))}")
    say(f"\nNext: {layout.command('show', 'task', _last_task(root, name), root=root, run=name)}")
    return 0


_STATUS = {"iterations": _ITERATIONS, "stages": _STAGES, "failures": _FAILURES}


def answer_sql(root: Path, sql: str, *, form: str) -> int:
    """Print what one SELECT answers."""
    say(FORMATS[form](table(query(root, sql))))
    return 0


def records(result: Result) -> list[dict[str, object]]:
    """The rows of a result by column name."""
    return [dict(zip(result.columns, row, strict=True)) for row in result.rows]


def table(result: Result) -> Table:
    """A result as something to print."""
    return Table(result.columns, result.rows)


def _last_task(root: Path, run: str) -> str:
    found = query(root, "SELECT max_by(id, task_id) FROM tasks WHERE verdict = 'valid'", run).rows[0][0]
    return str(found or "ID")
