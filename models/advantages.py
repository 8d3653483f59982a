"""Task-relative REINFORCE++ (TRR++): one baseline per (role, mode), and what each sample weighs in the loss."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from models.config import Whitening
from storage.ids import Mode, Role

_TOKEN_EPSILON = 1e-8  # of the published code's masked_whiten, below the root


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewarded:
    """One rollout and its reward."""

    rollout_id: int
    task_id: int  # the task proposed, or the task solved
    role: Role
    mode: Mode
    reward: float
    length: int  # completion tokens, at least 1
    weight: float = 1.0  # what it counts in the group's mean and deviation, above 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Whitened:
    """A rollout's advantage, and the statistics of its group that made it."""

    rollout_id: int
    role: Role
    mode: Mode
    advantage: float
    baseline: float
    scale: float


@dataclass(frozen=True, slots=True)
class _Statistics:
    mean: float
    scale: float


def advantages(rewarded: Sequence[Rewarded], *, whiten: Whitening = Whitening.SAMPLE) -> list[Whitened]:
    """A = (r - mean) / deviation within each (role, mode), in the order given (arXiv 2505.03335, section 3.3.5).

    `Whitening.SAMPLE`: every sample is one draw (times its `weight`), population deviation, no epsilon.
    `Whitening.TOKEN`: a sample is as many draws as it has tokens (times its `weight`), and the variance is
    Bessel-corrected over them plus 1e-8, as verl's masked_whiten does: long completions dominate the baseline.
    A group of one sample, or whose rewards are all equal, has advantage 0 and scale 0.
    """
    groups: dict[tuple[Role, Mode], list[Rewarded]] = defaultdict(list)
    for row in rewarded:
        groups[row.role, row.mode].append(row)
    statistics = {group: _statistics(rows, whiten) for group, rows in groups.items()}
    return [_whitened(row, statistics[row.role, row.mode]) for row in rewarded]


def shuffled(rewarded: Sequence[Rewarded], draw: random.Random) -> list[Rewarded]:
    """The rollouts in their order, the rewards of each (role, mode) dealt among them at random: a control."""
    pools: dict[tuple[Role, Mode], list[float]] = defaultdict(list)
    for row in rewarded:
        pools[row.role, row.mode].append(row.reward)
    for pool in pools.values():
        draw.shuffle(pool)
    return [replace(row, reward=pools[row.role, row.mode].pop()) for row in rewarded]


def loss_weights(rewarded: Sequence[Rewarded], *, role_weights: Mapping[Role, float]) -> list[float]:
    """What each rollout weighs in the loss, in the order given; the weights of an update sum to 1.

    The roles present split 1 by their `role_weights`; within a role every task gets the same share; the rollouts of
    one task split that task's share equally. So a new task's probes together count as much as the rollouts of one
    buffer task, and the roles stay balanced whatever the number of probes. A proposal is its own task.

    Example, role weights 1:1: two proposals; a new task with 4 probes; a buffer task with 1 rollout.
    Each role has 1/2. Each proposal weighs 1/4. Each solved task has 1/4: each probe weighs 1/16, the buffer rollout
    1/4. The sum is 2/4 + 4/16 + 1/4 = 1.

    All weights are 0 when no role present has a weight above 0.
    """
    shares = _role_shares({row.role for row in rewarded}, role_weights)
    samples = Counter((row.role, row.task_id) for row in rewarded)
    tasks = Counter(role for role, _ in samples)
    return [shares[row.role] / tasks[row.role] / samples[row.role, row.task_id] for row in rewarded]


def _role_shares(present: Iterable[Role], role_weights: Mapping[Role, float]) -> dict[Role, float]:
    weights = {role: role_weights[role] for role in sorted(present)}
    total = sum(weights.values())
    return {role: weight / total if total > 0 else 0.0 for role, weight in weights.items()}


def _whitened(row: Rewarded, group: _Statistics) -> Whitened:
    advantage = 0.0 if group.scale == 0 else (row.reward - group.mean) / group.scale
    return Whitened(
        rollout_id=row.rollout_id,
        role=row.role,
        mode=row.mode,
        advantage=advantage,
        baseline=group.mean,
        scale=group.scale,
    )


def _statistics(rows: Sequence[Rewarded], whiten: Whitening) -> _Statistics:
    rewards = [row.reward for row in rows]
    if min(rewards) == max(rewards):  # exact, where a computed mean could be off by one rounding
        return _Statistics(rewards[0], 0.0)
    draws = [row.weight * (row.length if whiten is Whitening.TOKEN else 1) for row in rows]
    total = math.fsum(draws)  # fsum: the result does not depend on the order of the rows
    mean = math.fsum(draw * reward for draw, reward in zip(draws, rewards, strict=True)) / total
    squares = math.fsum(draw * (reward - mean) ** 2 for draw, reward in zip(draws, rewards, strict=True))
    if whiten is Whitening.TOKEN:
        return _Statistics(mean, math.sqrt(squares / (total - 1) + _TOKEN_EPSILON))
    return _Statistics(mean, math.sqrt(squares / total))
