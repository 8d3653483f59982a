"""The rewards of one iteration as rows, from its answers and tasks alone: no rollout, no model and no executor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache, partial
from uuid import UUID

from storage.ids import Mode, Role
from storage.records import VALID, Answer, Reward, Task
from tasks.config import RewardConfig
from tasks.reasoning.checks import Rejection, reward_key
from tasks.reasoning.modes import MODES, Block
from tasks.reasoning.parsing import Format
from tasks.reasoning.rewards import Earned, accepted_reward, rejected_reward, rule_name, solver_reward
from tasks.sandbox.judge import Verdict


def rewards(config: RewardConfig, tasks: Sequence[Task], answers: Sequence[Answer]) -> list[Reward]:
    """The rewards of both roles: solvers by accuracy, proposers by what their probes could learn.

    Args:
        config: the ladder.
        tasks: the iteration's own, rejected ones too.
        answers: the iteration's; those to its own tasks are the probes, the others are to tasks of the buffer.
    """
    probes, rule = _probes(tasks, answers), rule_name(config)
    keyed, solver = cache(partial(_key, rule)), cache(partial(_solved, config))  # few rewards differ in their parts
    solved = [(answer, solver(*_checked(answer))) for answer in answers]
    proposed = [(task, _proposed(config, task, probes)) for task in tasks]
    return [
        *(_reward(rule, answer, Role.SOLVER, one, keyed(one), answer.rollout_id) for answer, one in solved),
        *(_reward(rule, task, Role.PROPOSER, one, keyed(one), task.task_id) for task, one in proposed),
    ]


def _probes(tasks: Iterable[Task], answers: Iterable[Answer]) -> Mapping[int, list[Verdict]]:
    """The verdicts of the probes of each new task."""
    new = {task.task_id for task in tasks}
    results: dict[int, list[Verdict]] = defaultdict(list)
    for answer in answers:
        if answer.task_id in new:
            results[answer.task_id].append(Verdict(answer.verdict))
    return results


def _checked(answer: Answer) -> tuple[Mode, str, int, int]:
    """All that decides what an answer earns."""
    return answer.mode, answer.format, answer.passed, answer.checks


def _solved(config: RewardConfig, mode: Mode, parsed: str, passed: int, checks: int) -> Earned:
    return solver_reward(config, mode, Format(parsed), passed=passed, checks=checks)


def _proposed(config: RewardConfig, task: Task, probes: Mapping[int, Sequence[Verdict]]) -> Earned:
    if task.verdict != VALID:
        return rejected_reward(config, Rejection(task.verdict))
    verdicts = probes[task.task_id]
    if MODES[task.mode].answer is Block.INPUT and Verdict.NONDETERMINISTIC in verdicts:
        return rejected_reward(config, Rejection.NONDETERMINISTIC)  # its own program tossed a coin
    return accepted_reward(config, solved=verdicts.count(Verdict.CORRECT), probes=len(verdicts))


def _key(rule: str, earned: Earned) -> UUID:
    return reward_key(rule, earned.total, {name: part for name, part in asdict(earned).items() if name != "total"})


def _reward(rule: str, row: Answer | Task, role: Role, earned: Earned, key: UUID, rollout_id: int) -> Reward:
    return Reward(
        iteration=row.iteration,
        round=row.round,
        rollout_id=rollout_id,
        content_key=key,
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
