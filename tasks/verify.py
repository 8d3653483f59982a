"""Verify: every answer is judged outside the program's process, and both roles are rewarded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from storage.buffers import tasks_of
from storage.ids import Position, Stage
from storage.records import Answer, Reward, Rollout, Task
from tasks.reasoning import parsing
from tasks.reasoning.checks import Rejected, Rejection, answer_key, check_facts
from tasks.reasoning.modes import MODES, Block
from tasks.reasoning.parsing import Format, Refusal, parse_answer
from tasks.rewarding import rewards
from tasks.rollouts import finished
from tasks.sandbox.judge import Judgement, Question, Verdict, judge
from tasks.stage import Outcome, stage
from tasks.workshop import Workshop


@dataclass(frozen=True, slots=True)
class Attempted:
    """One solver rollout with its task and what was read from its completion."""

    rollout: Rollout
    task: Task
    parsed: parsing.Answer | Refusal


@stage(Stage.VERIFY)
def verify(work: Workshop, at: Position) -> Outcome:
    """Judge the answers; reward solvers by accuracy, and proposers by what their probes could learn."""
    answers = judged(work, at)
    proposed = work.ledger.read(Task, at._replace(stage=Stage.VALIDATE))
    earned = rewards(work.config.rewards, proposed, answers)
    correct = sum(answer.verdict == Verdict.CORRECT for answer in answers)
    return Outcome(tables={Answer: answers, Reward: earned}, note=f"{correct} of {len(answers)} correct")


def judged(work: Workshop, at: Position) -> list[Answer]:
    """The answers of an iteration, read from their completions and judged by this executor."""
    rollouts = work.ledger.read(Rollout, at._replace(stage=Stage.SOLVE))
    tasks = tasks_of(work.ledger, (rollout.task_id for rollout in rollouts))
    return _answers(work, at, [_read(work, rollout, tasks[rollout.task_id]) for rollout in rollouts])


def _read(work: Workshop, rollout: Rollout, task: Task) -> Attempted:
    parsed = parse_answer(work.templates, rollout.mode, rollout.completion, finished=finished(rollout))
    return Attempted(rollout, task, parsed)


def _answers(work: Workshop, at: Position, attempted: Sequence[Attempted]) -> list[Answer]:
    questions = {one.rollout.rollout_id: _question(one.task, one.parsed) for one in attempted}
    asked = {rollout_id: question for rollout_id, question in questions.items() if question is not None}
    refused = _refused(work, asked)
    asked = {rollout_id: question for rollout_id, question in asked.items() if rollout_id not in refused}
    judgements = judge(
        work.executor(), list(asked.values()), limits=work.judging_limits, progress=work.reporter.progress
    )
    judged = refused | dict(zip(asked, judgements, strict=True))
    return [_answer(at, one, judged.get(one.rollout.rollout_id)) for one in attempted]


def _refused(work: Workshop, asked: Mapping[int, Question]) -> dict[int, Judgement]:
    """Answers in the form of programs that are not run: they are none after all, or use modules that are banned."""
    programs = {
        rollout_id: question.answer
        for rollout_id, question in asked.items()
        if question.answer is not None and MODES[question.mode].answer is Block.PROGRAM
    }
    readings = work.analyser().facts(list(programs.values())) if programs else []
    rejected = {
        rollout_id: check_facts(reading, work.config.sandbox)
        for rollout_id, reading in zip(programs, readings, strict=True)
    }
    return {rollout_id: _unrun(asked[rollout_id], why) for rollout_id, why in rejected.items() if why is not None}


def _unrun(question: Question, why: Rejected) -> Judgement:
    verdict = Verdict.REJECTED if why.verdict is Rejection.BANNED else Verdict(why.verdict.value)
    return Judgement(verdict=verdict, reason=why.reason, checks=len(question.outputs) - question.visible)


def _question(task: Task, parsed: parsing.Answer | Refusal) -> Question | None:
    if isinstance(parsed, Refusal):
        return None
    return Question(
        mode=task.mode,
        program=task.program,
        inputs=task.inputs,
        outputs=task.outputs,
        visible=task.visible,
        answer=parsed.text,
    )


def _answer(at: Position, one: Attempted, judgement: Judgement | None) -> Answer:
    refusal = one.parsed if isinstance(one.parsed, Refusal) else None
    answer = None if isinstance(one.parsed, Refusal) else one.parsed.text
    judgement = judgement or Judgement(
        verdict=Verdict.UNPARSED, reason=None if refusal is None else refusal.reason, checks=0
    )
    return Answer(
        iteration=at.iteration,
        round=at.round,
        rollout_id=one.rollout.rollout_id,
        content_key=_key(one.task, answer),
        task_id=one.task.task_id,
        mode=one.task.mode,
        format=(Format.OK if refusal is None else refusal.format).value,
        answer=answer,
        verdict=judgement.verdict.value,
        reason=judgement.reason,
        passed=judgement.passed,
        checks=judgement.checks,
        cpu_us=judgement.cpu_us,
    )


def _key(task: Task, answer: str | None) -> UUID | None:
    return None if answer is None or task.content_key is None else answer_key(task.content_key, answer)
