"""Judging answers on the trusted side: what a solver wrote against what is known to be right.

Deduction: the answer is a literal and is compared with the gold output; nothing is executed. Abduction: the answer is
an argument list; the task's program runs on it, and any preimage of the gold output counts. Induction: the answer is a
program; it runs on the hidden inputs. Gold never enters a child process, and an answer never becomes code but as the
program that it is in induction. Every program runs in two interpreters, so that a coin toss is no right answer. A bad
answer is a verdict, never an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from storage.errors import ConfigError
from storage.ids import Mode
from tasks.sandbox.executor import Execution, Executor, Job, Limits, Progress, Status
from tasks.sandbox.values import Refused, canonical_arguments, equal, parse_arguments, parse_value


class Verdict(StrEnum):
    """What an answer is worth: only `correct` is right, the others say how it failed."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSED = "unparsed"
    ERROR = "error"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    REJECTED = "rejected"
    CRASH = "crash"
    NONDETERMINISTIC = "nondeterministic"
    PROTOCOL = "protocol"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A task and one answer to it.

    `inputs` and `outputs` are the task's pairs, gold both; of induction the first `visible` were shown. `answer` is
    the text between the markers of the answer, None when there was none. Raises ValueError when nothing would be
    checked: such a question would make every answer right.
    """

    mode: Mode
    program: str | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    visible: int = 0
    answer: str | None

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.outputs) or not 0 <= self.visible < len(self.outputs):
            counts = f"{len(self.inputs)} inputs, {len(self.outputs)} outputs, {self.visible} visible"
            raise ValueError(f"a question needs pairs of which at least one is hidden, not {counts}")
        if self.mode is Mode.ABDUCTION and self.program is None:
            raise ValueError("abduction needs the task's program")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdict on one answer; `passed` of `checks` comparisons with gold succeeded."""

    verdict: Verdict
    reason: str | None = None
    passed: int = 0
    checks: int = 1
    cpu_us: int = 0


class _Plan(NamedTuple):
    """How a question is decided: at once, or by running a job and comparing its outputs with gold."""

    judgement: Judgement | None = None
    job: Job | None = None
    gold: tuple[object, ...] = ()


def judge(
    executor: Executor,
    questions: Sequence[Question],
    progress: Progress | None = None,
    *,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> list[Judgement]:
    """One judgement per question, in order; all programs run in one batch, whose progress is reported.

    Raises ConfigError for a mode that cannot be judged, SandboxError from the executor.
    """
    plans = [_plan(question, limits) for question in questions]
    jobs = [plan.job for plan in plans if plan.job is not None]
    executions = iter(executor.run(jobs, progress))
    return [plan.judgement or _compared(plan, next(executions)) for plan in plans]


def _plan(question: Question, limits: Limits) -> _Plan:
    if question.mode not in _PLANS:
        raise ConfigError(f"Answers in mode {question.mode} cannot be judged; the modes are {', '.join(_PLANS)}")
    if question.answer is None:
        return _failed(Verdict.UNPARSED, "no answer", question)
    try:
        gold = tuple(parse_value(output) for output in question.outputs[question.visible :])
    except Refused as error:
        return _failed(Verdict.REJECTED, f"the gold output is not a literal: {error}", question)
    return _PLANS[question.mode](question, question.answer, gold, limits)


def _failed(verdict: Verdict, reason: str, question: Question) -> _Plan:
    return _Plan(Judgement(verdict=verdict, reason=reason, checks=len(question.outputs) - question.visible))


def _deduction(question: Question, answer: str, gold: tuple[object, ...], _limits: Limits) -> _Plan:
    try:
        value = parse_value(answer)
    except Refused as error:
        return _failed(Verdict.UNPARSED, f"not a literal: {error}", question)
    if equal(value, gold[0]):
        return _Plan(Judgement(verdict=Verdict.CORRECT, passed=1))
    return _failed(Verdict.WRONG, "another output", question)


def _abduction(question: Question, answer: str, gold: tuple[object, ...], limits: Limits) -> _Plan:
    try:
        arguments = canonical_arguments(parse_arguments(answer))
    except Refused as error:
        return _failed(Verdict.UNPARSED, f"not a list of literals: {error}", question)
    program = question.program or ""
    return _Plan(job=Job(program=program, inputs=(arguments,), limits=limits, interpreters=2), gold=gold)


def _induction(question: Question, answer: str, gold: tuple[object, ...], limits: Limits) -> _Plan:
    hidden = question.inputs[question.visible :]
    return _Plan(job=Job(program=answer, inputs=hidden, limits=limits, interpreters=2), gold=gold)


_COUNTED = frozenset({Status.OK, Status.ERROR})  # an error spoils its own input; any other end spoils them all


def _compared(plan: _Plan, execution: Execution) -> Judgement:
    """The judgement of what a job gave; one that did not end well can pass some checks but is never correct."""
    texts = [output.text for output in execution.outputs]
    hits = [text is not None and equal(parse_value(text), gold) for text, gold in zip(texts, plan.gold, strict=True)]
    passed, checks = sum(hits) if execution.status in _COUNTED else 0, len(hits)
    if execution.status is not Status.OK:
        verdict, reason = Verdict(execution.status.value), execution.reason
    elif passed == checks:
        verdict, reason = Verdict.CORRECT, None
    else:
        verdict, reason = Verdict.WRONG, f"{passed} of {checks} outputs as they should be"
    return Judgement(verdict=verdict, reason=reason, passed=passed, checks=checks, cpu_us=execution.cpu_us)


_PLANS: dict[Mode, Callable[[Question, str, tuple[object, ...], Limits], _Plan]] = {
    Mode.DEDUCTION: _deduction,
    Mode.ABDUCTION: _abduction,
    Mode.INDUCTION: _induction,
}
