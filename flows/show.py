"""`azr show task`: one task whole, as a person reads it."""

from __future__ import annotations

from pathlib import Path

from flows.console import say, say_json
from flows.launch import pick_run
from flows.look import records
from storage import ids, layout
from storage.database import query_all
from storage.errors import LedgerError

_PARTS = {
    "task": "SELECT * FROM tasks WHERE task_id = {id}",
    "proposal": "SELECT * FROM rollouts WHERE rollout_id = {id} AND role = 'proposer'",
    "parents": """
        SELECT p.parent AS id, t.program, t.input, t.output
        FROM task_parents p LEFT JOIN tasks t ON t.run = p.run AND t.task_id = p.parent_id
        WHERE p.task_id = {id} ORDER BY p.position""",
    "proposal_reward": "SELECT * FROM rewards WHERE rollout_id = {id}",
    "answers": """
        SELECT a.id, a.iteration, r.source, a.verdict, a.reason, a.answer, a.passed, a.checks, r.completion,
               w.total AS reward, w.rung, w.accuracy, v.advantage, v.weight
        FROM answers a
        JOIN rollouts r USING (run, rollout_id)
        LEFT JOIN rewards w USING (run, rollout_id)
        LEFT JOIN advantages v USING (run, rollout_id)
        WHERE a.task_id = {id} ORDER BY a.rollout_id""",
}
_TASKS = "SELECT id, mode, verdict FROM tasks"
Record = dict[str, object]


def show_one_task(root: Path, run: str | None, written: str, *, as_json: bool) -> int:
    """Print one task; raises LedgerError when the run has none by that id, ConfigError when it is no id."""
    name = pick_run(root, run)
    packed = ids.parse(written)
    if ids.unpack(packed).sample is not None:
        packed = ids.pack(ids.unpack(packed)._replace(sample=None))
    questions = {part: sql.format(id=packed) for part, sql in _PARTS.items()}
    found = {part: records(result) for part, result in query_all(root, questions, name).items()}
    if not found["task"] and not found["proposal"]:
        raise LedgerError(
            f"Run {name} has no task {written}. Nothing was written. Find one: "
            + layout.command("sql", _TASKS, root=root)
        )
    if as_json:
        say_json({"run": name, "id": ids.text(packed), **found})
    else:
        say(_page(name, ids.text(packed), found))
    return 0


def _page(run: str, task: str, found: dict[str, list[Record]]) -> str:
    parts = [f"Task {task} of run {run}", *map(_verdict, found["task"])]
    parts += [_proposal(row) for row in found["proposal"]]
    parts += [_reward(row) for row in found["proposal_reward"]]
    parts += [_block("shown to the proposer", _parents(found["parents"]))] if found["parents"] else []
    parts += [_block(f"answers ({len(found['answers'])})", "\n".join(map(_answer, found["answers"])) or "none")]
    return "\n\n".join(parts)


def _block(title: str, text: str) -> str:
    return f"{title}\n" + "\n".join(f"    {line}" for line in text.splitlines())


def _verdict(task: Record) -> str:
    reason = f": {task['reason']}" if task["reason"] else ""
    pairs = _pairs(task)
    shown = [_block("program", str(task["program"] or "(none was read)")), _block("input -> output", pairs or "(none)")]
    if task["message"]:
        shown.append(_block("message", str(task["message"])))
    return "\n\n".join([f"{task['mode']}, {task['verdict']}{reason}", *shown])


def _pairs(task: Record) -> str:
    inputs, outputs = _texts(task["inputs"]), _texts(task["outputs"])
    hidden = int(str(task["visible"]))
    padded = outputs + ["?"] * (len(inputs) - len(outputs))
    marks = ["" if not hidden else "  (shown)" if at < hidden else "  (hidden)" for at in range(len(inputs))]
    return "\n".join(f"{one} -> {other}{mark}" for one, other, mark in zip(inputs, padded, marks, strict=True))


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else []


def _proposal(row: Record) -> str:
    who = f"policy {str(row['policy'])[:12]} (iteration {row['policy_iteration']}), seed {row['seed']}"
    ended = f"{row['completion_tokens']} tokens, ended by {row['finish_reason']}"
    return "\n\n".join(
        [_block("prompt", str(row["prompt"])), _block(f"proposer's text ({who}, {ended})", str(row["completion"]))]
    )


def _reward(row: Record) -> str:
    parts = ", ".join(f"{key} {row[key]}" for key in ("solve_rate", "probes", "learnability") if row[key] is not None)
    return _block("proposer's reward", f"{row['total']} ({row['rung']}{', ' + parts if parts else ''})\n{row['rule']}")


def _parents(rows: list[Record]) -> str:
    return "\n".join(f"{row['id']}: f({row['input']}) -> {row['output']}\n{row['program']}" for row in rows)


def _answer(row: Record) -> str:
    reason = f": {row['reason']}" if row["reason"] else ""
    head = f"{row['id']} ({row['source']}, iteration {row['iteration']}): {row['verdict']}{reason}"
    checks = f"{row['passed']}/{row['checks']} checks, reward {row['reward']} ({row['rung']})"
    learned = f", advantage {row['advantage']:+.3f}" if isinstance(row["advantage"], float) else ""
    return f"{head}\n    {checks}{learned}\n    {str(row['completion']).strip()}"
