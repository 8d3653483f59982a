"""What a sealed stage shows on Prefect's pages: counts, verdicts, rewards, three examples, and the SQL that shows more.

Everything is counted from the rows of that one partition, so a page costs the same at every iteration.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from flows.markdown import code, excerpt, plain, table
from storage import ids, layout
from storage.ids import Mode, Position, Role, Stage
from storage.ledger import Ledger
from storage.records import Answer, Checkpoint, Reward, Rollout, Task, UpdateMetric
from tasks.stage import page_name

EXAMPLES = 3
R = TypeVar("R")

_MORE = {
    Stage.PROPOSE: "SELECT id, mode, completion FROM rollouts WHERE role = $$proposer$$ AND",
    Stage.VALIDATE: "SELECT id, mode, verdict, reason, program FROM tasks WHERE",
    Stage.SOLVE: "SELECT id, mode, source, completion FROM rollouts WHERE role = $$solver$$ AND",
    Stage.VERIFY: "SELECT id, mode, verdict, reason, answer FROM answers WHERE",
    Stage.UPDATE: "SELECT name, role, mode, value FROM update_metrics WHERE",
}
"""Words in $$, so that a shell's quotes around the whole stay readable."""


def stage_page(ledger: Ledger, at: Position) -> str:
    """The page of a sealed stage, as Markdown; Prefect shows the stage's note above it, as the description.

    Raises:
        LedgerError: it is not sealed, or a file of it is not what was sealed.
    """
    parts = [f"### {plain(page_name(ledger.run, at))}", *_PAGES[at.stage](ledger, at), more(ledger, at)]
    return "\n\n".join(parts)


def more(ledger: Ledger, at: Position) -> str:
    """The command that shows all rows of a stage."""
    where = f"run = $${ledger.run}$$ AND iteration = {at.iteration} AND round = {at.round}"
    return f"More: {code(layout.command('sql', f'{_MORE[at.stage]} {where}', root=ledger.root))}"


def _rollouts(ledger: Ledger, at: Position) -> list[str]:
    rollouts = ledger.read(Rollout, at)
    chosen = one_per_kind(rollouts, lambda row: row.mode)
    return [rollout_table(rollouts), *_shown(ledger, [(row.task_id, rollout_example(row)) for row in chosen])]


def _tasks(ledger: Ledger, at: Position) -> list[str]:
    tasks = ledger.read(Task, at)
    chosen = one_per_kind(tasks, lambda row: row.verdict)
    return [verdict_table(tasks), *_shown(ledger, [(row.task_id, task_example(row)) for row in chosen])]


def _answers(ledger: Ledger, at: Position) -> list[str]:
    answers, rewards = ledger.read(Answer, at), ledger.read(Reward, at)
    chosen = one_per_kind(answers, lambda row: row.verdict)
    tasks = _tasks_of(ledger, chosen)
    examples = [(row.task_id, answer_example(row, tasks[row.task_id])) for row in chosen]
    return [verdict_table(answers), reward_table(rewards), *_shown(ledger, examples)]


def _update(ledger: Ledger, at: Position) -> list[str]:
    checkpoint = ledger.read(Checkpoint, at)[0]
    metrics = ledger.read(UpdateMetric, at) if UpdateMetric.table in ledger.require(at).outputs else []
    where = "the base model, where the config names it" if checkpoint.directory is None else checkpoint.directory
    facts = (
        f"Policy {code(checkpoint.policy[:12])} after {checkpoint.optimizer_steps} optimizer steps: "
        f"{checkpoint.parameters:,} weights, {checkpoint.bytes:,} bytes, {code(where)}."
    )
    return [facts, metric_table(metrics)] if metrics else [facts]


_PAGES: Mapping[Stage, Callable[[Ledger, Position], list[str]]] = {
    Stage.PROPOSE: _rollouts,
    Stage.VALIDATE: _tasks,
    Stage.SOLVE: _rollouts,
    Stage.VERIFY: _answers,
    Stage.UPDATE: _update,
}


def rollout_table(rollouts: Sequence[Rollout]) -> str:
    """Rollouts and tokens by mode and source, and how they ended."""
    groups: dict[tuple[str, str], list[Rollout]] = defaultdict(list)
    for row in rollouts:
        groups[row.mode, row.source].append(row)
    lines = [
        (
            *group,
            len(rows),
            sum(row.finish_reason == "stop" for row in rows),
            sum(row.finish_reason != "stop" for row in rows),
            sum(row.prompt_tokens for row in rows),
            sum(row.completion_tokens for row in rows),
            max(row.completion_tokens for row in rows),
        )
        for group, rows in groups.items()
    ]
    columns = ("mode", "source", "rollouts", "ended", "cut off", "prompt tokens", "tokens", "longest")
    return table(columns, lines)


def verdict_table(rows: Sequence[Task] | Sequence[Answer]) -> str:
    """How many of each verdict, by mode; the most frequent verdicts first."""
    counts = Counter((row.verdict, row.mode) for row in rows)
    modes = [mode for mode in Mode if any(row.mode is mode for row in rows)]
    totals = Counter(row.verdict for row in rows)
    lines = [(verdict, *(counts[verdict, mode] for mode in modes), count) for verdict, count in totals.most_common()]
    return table(("verdict", *modes, "all"), lines)


def reward_table(rewards: Sequence[Reward]) -> str:
    """Mean and number of rewards by role and mode, and on which rung of the ladder they came out."""
    groups: dict[tuple[Role, Mode], list[Reward]] = defaultdict(list)
    for row in rewards:
        groups[row.role, row.mode].append(row)
    lines = [
        (role, mode, len(rows), sum(row.total for row in rows) / len(rows), _rungs(rows))
        for (role, mode), rows in sorted(groups.items())
    ]
    return table(("role", "mode", "rewards", "mean", "rungs"), lines)


def metric_table(metrics: Sequence[UpdateMetric]) -> str:
    """The last optimizer step's metrics: a line per name, a column per role and mode."""
    last = max(metric.step for metric in metrics)
    values = {(metric.name, metric.role, metric.mode): metric.value for metric in metrics if metric.step == last}
    groups = dict.fromkeys((role, mode) for _, role, mode in values)
    names = dict.fromkeys(name for name, _, _ in values)
    heads = ["all" if role == mode else f"{role[0]} {mode[:3]}" for role, mode in groups]  # all of them fit a page
    lines = [(name, *(values.get((name, *group)) for group in groups)) for name in names]
    return f"{table(('metric', *heads), lines)}\n\np: proposer, s: solver."


def rollout_example(rollout: Rollout) -> str:
    """One completion as it was sampled."""
    head = f"{code(ids.text(rollout.rollout_id))} {rollout.mode}, {rollout.completion_tokens} tokens"
    return f"{head}\n\n{excerpt(rollout.completion)}"


def task_example(task: Task) -> str:
    """One proposal after validation: verdict, program, inputs and gold outputs."""
    head = f"{code(ids.text(task.task_id))} {task.mode}: **{plain(task.verdict)}**"
    reason = [] if task.reason is None else [task.reason]
    return "\n\n".join([head, *_program(task), excerpt("\n".join([*_pairs(task), *reason]))])


def answer_example(answer: Answer, task: Task) -> str:
    """One answer with its task, the gold and the verdict."""
    checks = f"{answer.passed} of {answer.checks} checks"
    head = f"{code(ids.text(answer.rollout_id))} {answer.mode}: **{plain(answer.verdict)}**, {checks}"
    said = "(no answer was found in the text)" if answer.answer is None else answer.answer
    reason = [] if answer.reason is None else [f"because: {answer.reason}"]
    asked = "\n".join([*_pairs(task), *reason])
    return "\n\n".join([head, *_program(task), excerpt(asked), "Answered:", excerpt(said)])


def one_per_kind(rows: Sequence[R], kind: Callable[[R], str]) -> list[R]:
    """A few rows that show different things: the first of each kind, then the next in their order."""
    first: dict[str, R] = {}
    for row in rows:
        first.setdefault(kind(row), row)
    chosen = list(first.values())[:EXAMPLES]
    return [*chosen, *[row for row in rows if row not in chosen][: EXAMPLES - len(chosen)]]


def _shown(ledger: Ledger, examples: Sequence[tuple[int, str]]) -> list[str]:
    """Examples below each other, each with its task, and how to see the first one whole."""
    if not examples:
        return []
    first, _ = examples[0]
    whole = layout.command("show", "task", ids.text(first), root=ledger.root, run=ledger.run)
    return ["#### Examples", *(page for _, page in examples), f"The first one whole: {code(whole)}"]


def _tasks_of(ledger: Ledger, answers: Iterable[Answer]) -> dict[int, Task]:
    """The tasks of a few answers, read for themselves: the ledger's own memory belongs to the stages."""
    wanted = {answer.task_id for answer in answers}
    places = map(ids.unpack, wanted)
    sealed = {Position(place.iteration, Stage.VALIDATE, place.round) for place in places}
    rows = (row for position in sealed for row in ledger.read(Task, position))
    return {row.task_id: row for row in rows if row.task_id in wanted}


def _program(task: Task) -> list[str]:
    return ["(no program was read)"] if task.program is None else [excerpt(task.program, "python")]


def _pairs(task: Task) -> list[str]:
    outputs = [*task.outputs, *["?"] * (len(task.inputs) - len(task.outputs))]
    return [f"f({given}) -> {output}" for given, output in zip(task.inputs, outputs, strict=True)]


def _rungs(rewards: Sequence[Reward]) -> str:
    return ", ".join(f"{count} {rung}" for rung, count in Counter(row.rung for row in rewards).most_common())
