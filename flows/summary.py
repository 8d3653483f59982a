"""What a training says at its end: what was proposed, accepted, solved and learned, where it lies, what to try next."""

from __future__ import annotations

from pathlib import Path

from flows.config import RunConfig
from flows.console import as_table, summary
from flows.look import table
from storage import layout
from storage.database import query_all

_QUESTIONS = {
    "modes": "SELECT * EXCLUDE (run) FROM mode_totals",
    "last": "SELECT iteration, policy, directory, optimizer_steps FROM checkpoints ORDER BY iteration DESC LIMIT 1",
    "example": """
        SELECT id_text(max(task_id)) FROM rewards
        WHERE role = 'proposer' AND iteration > 0 AND rung IN ('learnable', 'unlearnable')""",
}


def summarise(root: Path, run: str, config: RunConfig) -> str:
    """The closing page of a training."""
    found = query_all(root, _QUESTIONS, run)
    iteration, policy, directory, steps = found["last"].rows[0]
    example = str(found["example"].rows[0][0] or "0.0-ded-000")
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
        layout.command("show", "task", example, root=root, run=run),
        layout.command("sql", question, root=root),
        f"{layout.command('train', root=root, run=run)} --iterations {config.iterations + 2}",
    ]
    page = [
        f"Run {run} has its iterations: {iteration}.",
        as_table(table(found["modes"])),
    ]
    return "\n\n".join(["", *page, summary(facts), "Next:\n" + "\n".join(f"  {command}" for command in nexts)])
