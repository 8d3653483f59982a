"""The audit of validated tasks: one per proposal, with pairs and verdicts that agree, and no valid one twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from storage.examination import id_text
from storage.findings import Result, result
from storage.ids import Place, Stage, pack
from storage.records import VALID, Rollout, Task
from tasks.auditing.history import Check, History, Rules, Step, Values, differences
from tasks.needs import IDENTITY
from tasks.reasoning.checks import Rejection, program_key
from tasks.reasoning.modes import MODES, Pairs, inputs_wanted, pairs_visible
from tasks.reasoning.parsing import Format

_VERDICTS = {VALID, *(word.value for word in Rejection)}
_FORMATS = {word.value for word in Format}


def audit_tasks(rules: Rules, history: History, step: Step) -> Iterator[Result]:
    """Every task that a step should have, and what its row says."""
    at = step.at(Stage.VALIDATE)
    tasks = step.rows(Stage.VALIDATE, Task)
    if tasks is None:
        return
    wrong = _missing(rules, step, tasks)
    wrong += [line for task in tasks for line in _odd(rules, task)]
    wrong += _repeated(history, tasks)
    yield result(Check.TASKS, str(at), len(tasks), wrong)


def _missing(rules: Rules, step: Step, tasks: Sequence[Task]) -> list[str]:
    """Tasks without a proposal, and proposals without a task."""
    if step.at(Stage.VALIDATE) == IDENTITY:
        modes = (mode for mode in rules.config.curriculum.modes if MODES[mode].pairs is Pairs.ONE)
        expected: dict[int, Values] = {pack(Place(0, 0, mode, 0)): (mode,) for mode in modes}
    elif (proposals := step.rows(Stage.PROPOSE, Rollout)) is not None:
        expected = {row.rollout_id: (row.mode,) for row in proposals}
    else:
        return []
    return differences(Task.table, ("mode",), expected, {task.task_id: (task.mode,) for task in tasks})


def _odd(rules: Rules, task: Task) -> Iterator[str]:
    """What cannot be so, whatever the model wrote."""
    name = f"{task.table} {id_text(task.task_id)}"
    if task.verdict not in _VERDICTS or task.format not in _FORMATS:
        yield f"{name}: no verdict is {task.verdict!r} with format {task.format!r}"
    elif (task.verdict == Rejection.MALFORMED) is (task.format == Format.OK):
        yield f"{name}: its verdict is {task.verdict}, but its format {task.format}"
    if (task.program is None) is not (task.content_key is None):
        yield f"{name}: a program and a content key belong together"
    if task.program_key != (None if task.program is None else program_key(task.program)):
        yield f"{name}: its program key is not that of its program"
    if task.verdict == VALID:
        yield from _unfit(rules, name, task)


def _unfit(rules: Rules, name: str, task: Task) -> Iterator[str]:
    curriculum = rules.config.curriculum
    wanted, visible = inputs_wanted(task.mode, curriculum.inputs), pairs_visible(task.mode, curriculum.visible)
    pairs = (len(task.inputs), len(task.outputs), task.visible)
    if pairs != (wanted, wanted, visible):
        yield "{}: it is valid with {} inputs, {} outputs, {} visible; {} pairs, {} visible are wanted".format(
            name, *pairs, wanted, visible
        )
    if task.program is None:
        yield f"{name}: it is valid without a program"


def _repeated(history: History, tasks: Sequence[Task]) -> list[str]:
    """Valid tasks that were known before, and refused repeats of none."""
    wrong = []
    first: dict[object, int] = {}
    for task in tasks:
        earlier = history.keys.get(task.content_key) if task.content_key is not None else None
        earlier = first.get(task.content_key) if earlier is None else earlier
        if task.verdict == VALID and earlier is not None:
            wrong.append(f"{task.table} {id_text(task.task_id)}: it is valid, but the same task as {id_text(earlier)}")
        if task.verdict == Rejection.DUPLICATE and earlier is None and history.gap is None:
            wrong.append(f"{task.table} {id_text(task.task_id)}: it is a duplicate of no earlier valid task")
        if task.verdict == VALID:
            first.setdefault(task.content_key, task.task_id)
    return wrong
