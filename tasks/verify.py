"""Verify: every answer is judged outside the program's process, and both roles are rewarded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

from storage.ids import Position, Role, Source, Stage
from storage.records import VALID, Answer, Reward, Rollout, Task
from tasks.reasoning import parsing
from tasks.reasoning.checks import Rejection, answer_key, reward_key
from tasks.reasoning.modes import MODES, Block
from tasks.reasoning.parsing import Format, Refusal, parse_answer
from tasks.reasoning.rewards import Earned, accepted_reward, rejected_reward, rule_name, solver_reward
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
    attempted = [_read(work, rollout) for rollout in work.ledger.read(Rollout, at._replace(stage=Stage.SOLVE))]
    answers = _answers(work, at, attempted)
    proposed = work.ledger.tasks(at._replace(stage=Stage.VALIDATE))
    rewards = [*_solver_rewards(work, answers), *_proposer_rewards(work, proposed, attempted, answers)]
    correct = sum(answer.verdict == Verdict.CORRECT for answer in answers)
    return Outcome(tables={Answer: answers, Reward: rewards}, note=f"{correct} of {len(answers)} correct")


def _read(work: Workshop, rollout: Rollout) -> Attempted:
    parsed = parse_answer(work.templates, rollout.mode, rollout.completion, finished=finished(rollout))
    return Attempted(rollout, work.task(rollout.task_id), parsed)


def _answers(work: Workshop, at: Position, attempted: Sequence[Attempted]) -> list[Answer]:
    questions = {one.rollout.rollout_id: _question(one.task, one.parsed) for one in attempted}
    asked = {rollout_id: question for rollout_id, question in questions.items() if question is not None}
    judgements = judge(
        work.executor(), list(asked.values()), limits=work.judging_limits, progress=work.reporter.progress
    )
    judged = dict(zip(asked, judgements, strict=True))
    return [_answer(at, one, judged.get(one.rollout.rollout_id)) for one in attempted]


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


def _solver_rewards(work: Workshop, answers: Iterable[Answer]) -> list[Reward]:
    config = work.config.rewards
    return [
        _reward(
            work,
            answer,
            Role.SOLVER,
            solver_reward(config, answer.mode, Format(answer.format), passed=answer.passed, checks=answer.checks),
            rollout_id=answer.rollout_id,
        )
        for answer in answers
    ]


def _proposer_rewards(
    work: Workshop, tasks: Iterable[Task], attempted: Iterable[Attempted], answers: Iterable[Answer]
) -> list[Reward]:
    probes = _probe_results(attempted, answers)
    return [
        _reward(work, task, Role.PROPOSER, _proposer_earned(work, task, probes), rollout_id=task.task_id)
        for task in tasks
    ]


def _probe_results(attempted: Iterable[Attempted], answers: Iterable[Answer]) -> Mapping[int, list[Verdict]]:
    """For each new task, the verdicts of its probes."""
    new = {one.rollout.rollout_id for one in attempted if one.rollout.source is Source.NEW}
    results: dict[int, list[Verdict]] = defaultdict(list)
    for answer in answers:
        if answer.rollout_id in new:
            results[answer.task_id].append(Verdict(answer.verdict))
    return results


def _proposer_earned(work: Workshop, task: Task, probes: Mapping[int, Sequence[Verdict]]) -> Earned:
    if task.verdict != VALID:
        return rejected_reward(work.config.rewards, Rejection(task.verdict))
    verdicts = probes[task.task_id]
    if MODES[task.mode].answer is Block.INPUT and Verdict.NONDETERMINISTIC in verdicts:
        return rejected_reward(work.config.rewards, Rejection.NONDETERMINISTIC)  # its own program tossed a coin
    return accepted_reward(work.config.rewards, solved=verdicts.count(Verdict.CORRECT), probes=len(verdicts))


def _reward(work: Workshop, row: Answer | Task, role: Role, earned: Earned, *, rollout_id: int) -> Reward:
    rule = rule_name(work.config.rewards)
    parts = {name: part for name, part in asdict(earned).items() if name != "total"}
    return Reward(
        iteration=row.iteration,
        round=row.round,
        rollout_id=rollout_id,
        content_key=reward_key(rule, earned.total, parts),
        role=role,
        mode=row.mode,
        task_id=row.task_id,
        rule=rule,
        total=earned.total,
        rung=earned.rung.value,
        accuracy=earned.accuracy,
        solve_rate=earned.solve_rate,
        probes=earned.probes,
        learnability=earned.learnability,
    )
