"""Rewards of a sealed iteration by another rule, or after other verdicts: what would have been paid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from storage.ids import Position, Role, Stage
from storage.records import Answer, Reward, Task
from storage.rescored import Rescored
from tasks.config import RewardConfig
from tasks.rewarding import rewards
from tasks.workshop import Workshop

Answers = Callable[[Workshop, Position], Sequence[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What to pay by: a name, a ladder, and where the verdicts come from."""

    name: str
    rewards: RewardConfig
    answers: Answers


def stored_answers(work: Workshop, at: Position) -> list[Answer]:
    """The answers with the verdicts that were sealed."""
    return work.ledger.read(Answer, at)


def rescore(work: Workshop, at: Position, rule: Rule) -> list[Rescored]:
    """Every reward of a sealed verification, as the rule would have paid it."""
    answers = rule.answers(work, at)
    tasks = work.ledger.read(Task, at._replace(stage=Stage.VALIDATE))
    verdicts = {answer.rollout_id: answer.verdict for answer in answers}
    return [_row(work, rule, reward, verdicts) for reward in rewards(rule.rewards, tasks, answers)]


def _row(work: Workshop, rule: Rule, reward: Reward, verdicts: dict[int, str]) -> Rescored:
    return Rescored(
        iteration=reward.iteration,
        round=reward.round,
        rollout_id=reward.rollout_id,
        role=reward.role,
        mode=reward.mode,
        task_id=reward.task_id,
        rule=rule.name,
        ladder=reward.rule,
        code_version=work.code_version,
        verdict=verdicts[reward.rollout_id] if reward.role is Role.SOLVER else None,
        would_be=reward.total,
        rung=reward.rung,
        accuracy=reward.accuracy,
        solve_rate=reward.solve_rate,
        probes=reward.probes,
        learnability=reward.learnability,
    )
