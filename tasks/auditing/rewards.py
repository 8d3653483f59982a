"""The audit of answers and rewards: one answer per solver rollout, one reward per rollout, computed again."""

from __future__ import annotations

from collections.abc import Iterator, Set
from uuid import UUID

from storage.examination import id_text
from storage.findings import Result, result
from storage.ids import Stage
from storage.records import VALID, Answer, Reward, Rollout, Task
from tasks.auditing.history import Check, History, Rules, Step, Values, differences
from tasks.reasoning.checks import Rejection, answer_key
from tasks.reasoning.parsing import Format
from tasks.rewarding import rewards
from tasks.sandbox.judge import Verdict

_REWARD = (
    "role", "mode", "task_id", "rule", "total", "rung", "accuracy", "solve_rate", "probes", "learnability",
    "content_key",
)  # fmt: skip
_VERDICTS = {word.value for word in Verdict}
_FORMATS = {word.value for word in Format}
_REJECTIONS = {word.value for word in Rejection}


def audit_answers(history: History, step: Step) -> Iterator[Result]:
    """Every answer that a step should have, and what its row says."""
    at = step.at(Stage.VERIFY)
    answers, rollouts = step.rows(Stage.VERIFY, Answer), step.rows(Stage.SOLVE, Rollout)
    if answers is None:
        return
    wrong = [line for answer in answers for line in _odd(answer)]
    if rollouts is not None:
        expected: dict[int, Values] = {row.rollout_id: (row.task_id, row.mode) for row in rollouts}
        found: dict[int, Values] = {row.rollout_id: (row.task_id, row.mode) for row in answers}
        wrong += differences(Answer.table, ("task_id", "mode"), expected, found)
    tasks = history.known(step)
    asked = {one: tasks.get(one) for one in {answer.task_id for answer in answers}}
    complete = history.gap is None and step.rows(Stage.VALIDATE, Task) is not None
    wrong += [line for answer in answers for line in _unlike(answer, asked[answer.task_id], complete=complete)]
    yield result(Check.ANSWERS, str(at), len(answers), wrong)


def audit_rewards(rules: Rules, step: Step) -> Iterator[Result]:
    """Every reward of a step, computed again from what is stored of answers and tasks."""
    at = step.at(Stage.VERIFY)
    stated, answers = step.rows(Stage.VERIFY, Reward), step.rows(Stage.VERIFY, Answer)
    tasks = step.rows(Stage.VALIDATE, Task)
    if stated is None:
        return
    if answers is None or tasks is None:
        yield result(Check.REWARDS, str(at), 0, [], [f"rewards of {at} cannot be computed again: not all was read"])
        return
    told = [answer for answer in answers if _is_known(answer)]
    probed = {answer.task_id for answer in told}
    proposed = [task for task in tasks if _is_rewardable(task, probed)]
    expected = {row.rollout_id: _values(row) for row in rewards(rules.config.rewards, proposed, told)}
    found = {row.rollout_id: _values(row) for row in stated}
    yield result(Check.REWARDS, str(at), len(stated), differences(Reward.table, _REWARD, expected, found))


def _is_known(answer: Answer) -> bool:
    """Whether the words of an answer are words at all; an edited one may hold any."""
    return answer.verdict in _VERDICTS and answer.format in _FORMATS


def _is_rewardable(task: Task, probed: Set[int]) -> bool:
    return task.verdict in _REJECTIONS or (task.verdict == VALID and task.task_id in probed)


def _name(answer: Answer) -> str:
    return f"{answer.table} {id_text(answer.rollout_id)}"


def _odd(answer: Answer) -> Iterator[str]:
    """What cannot be so, whatever the model wrote."""
    told = f"verdict {answer.verdict!r}, format {answer.format!r}, {answer.passed} of {answer.checks} checks passed"
    if answer.verdict not in _VERDICTS or answer.format not in _FORMATS:
        yield f"{_name(answer)}: such words are not known: {told}"
    elif (answer.answer is None) is (answer.format == Format.OK) or not 0 <= answer.passed <= answer.checks:
        yield f"{_name(answer)}: these do not fit: {told}"
    elif (answer.verdict == Verdict.CORRECT) and not answer.passed == answer.checks > 0:
        yield f"{_name(answer)}: it is no correct answer: {told}"


def _unlike(answer: Answer, task: Task | None, *, complete: bool) -> Iterator[str]:
    """An answer without its task, where all tasks are known, or with the content key of another answer."""
    if task is None:
        if complete:
            yield f"{_name(answer)}: there is no valid task {id_text(answer.task_id)}"
        return
    without = answer.answer is None or task.content_key is None
    key = None if without else answer_key(task.content_key or UUID(int=0), answer.answer or "")
    if answer.content_key != key:
        yield f"{_name(answer)}: its content key is not that of its answer"


def _values(row: Reward) -> Values:
    return (
        row.role, row.mode, row.task_id, row.rule, row.total, row.rung, row.accuracy, row.solve_rate, row.probes,
        row.learnability, row.content_key,
    )  # fmt: skip
