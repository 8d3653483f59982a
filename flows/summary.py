"""What a training says at its end: what was proposed, accepted, solved and learned, where it lies, what to try next."""

from __future__ import annotations

from pathlib import Path

from flows.config import RunConfig
from flows.console import Table, as_table, summary
from storage import layout
from storage.database import query

_MODES = """
WITH proposed AS (
    SELECT mode, count(*) AS proposed, count(*) FILTER (verdict = 'valid') AS accepted FROM tasks
    WHERE NOT (iteration = 0 AND round = 0) GROUP BY mode
), solved AS (
    SELECT mode, count(*) AS answers, count(*) FILTER (verdict = 'correct') AS correct FROM answers GROUP BY mode
), learned AS (
    SELECT mode, count(*) FILTER (rung = 'learnable') AS learnable,
           avg(total) FILTER (role = 'proposer') AS proposer_reward,
           avg(total) FILTER (role = 'solver') AS solver_reward
    FROM rewards GROUP BY mode
)
SELECT mode, proposed, accepted, answers, correct, round(correct / answers, 3) AS accuracy, learnable,
       round(proposer_reward, 3) AS proposer_reward, round(solver_reward, 3) AS solver_reward
FROM proposed LEFT JOIN solved USING (mode) LEFT JOIN learned USING (mode) ORDER BY mode"""
_LAST = "SELECT iteration, policy, directory, optimizer_steps FROM checkpoints ORDER BY iteration DESC LIMIT 1"
_EXAMPLE = """
SELECT max_by(id, task_id) FROM rewards
WHERE role = 'proposer' AND iteration > 0 AND rung IN ('learnable', 'unlearnable')"""


def summarise(root: Path, run: str, config: RunConfig) -> str:
    """The closing page of a training."""
    modes = query(root, _MODES, run)
    iteration, policy, directory, steps = query(root, _LAST, run).rows[0]
    home = root / run
    model = home / str(directory) if directory else config.model.path
    facts = {
        "learned": f"{steps} optimizer steps; policy {str(policy)[:12]} after iteration {iteration}",
        "ledger": str(home / layout.LEDGER),
        "log": str(home / layout.LOG_FILE),
        "model": f"{model}   (AutoModelForCausalLM.from_pretrained reads it)",
    }
    question = "SELECT id, role, mode, total, rung FROM rewards ORDER BY total DESC LIMIT 5"
    nexts = [
        layout.command("show", "task", _example(root, run), root=root, run=run),
        layout.command("sql", question, root=root),
        f"{layout.command('train', root=root, run=run)} --iterations {config.iterations + 2}",
    ]
    page = [
        f"Run {run} has its iterations: {iteration}.",
        as_table(Table(modes.columns, modes.rows)),
    ]
    return "\n\n".join(["", *page, summary(facts), "Next:\n" + "\n".join(f"  {command}" for command in nexts)])


def _example(root: Path, run: str) -> str:
    found = query(root, _EXAMPLE, run).rows[0][0]
    return str(found or "0.0-ded-000")
