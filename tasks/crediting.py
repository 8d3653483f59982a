"""From the rewards of one iteration to its advantages: TRR++, or the control that an ablation puts in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from models.advantages import Rewarded, Whitened, advantages, loss_weights, shuffled
from models.config import Ablation
from storage.ids import Position, Role
from storage.records import Advantage, Reward
from storage.seeds import rng
from tasks.loop import LoopConfig


def credited(
    config: LoopConfig, at: Position, rewards: Sequence[Reward], lengths: Mapping[int, int]
) -> list[Advantage]:
    """The advantage and loss weight of every rewarded rollout, in the order of the rewards.

    Args:
        config: whitening, weights of the roles, ablation and seed.
        at: the update.
        rewards: in canonical order, which an ablation's draw depends on.
        lengths: completion tokens by rollout id.
    """
    rewarded = _learnt_from(config, at, [_rewarded(row, lengths[row.rollout_id]) for row in rewards])
    roles = {Role.PROPOSER: config.update.proposer_weight, Role.SOLVER: config.update.solver_weight}
    weights = loss_weights(rewarded, role_weights=roles)
    whitened = advantages(rewarded, whiten=config.update.whiten)
    return [_advantage(at, one, weight) for one, weight in zip(whitened, weights, strict=True)]


def _rewarded(row: Reward, length: int) -> Rewarded:
    return Rewarded(
        rollout_id=row.rollout_id, task_id=row.task_id, role=row.role, mode=row.mode, reward=row.total, length=length
    )


def _learnt_from(config: LoopConfig, at: Position, rewarded: Sequence[Rewarded]) -> Sequence[Rewarded]:
    """The rewards that the update learns from: those that were earned, unless the config asks for an ablation."""
    if config.update.ablation is Ablation.SHUFFLED_REWARDS:
        return shuffled(rewarded, rng(config.seed, at.iteration, at.round, "shuffled rewards"))
    return rewarded


def _advantage(at: Position, one: Whitened, weight: float) -> Advantage:
    return Advantage(
        iteration=at.iteration,
        round=at.round,
        rollout_id=one.rollout_id,
        role=one.role,
        mode=one.mode,
        advantage=one.advantage,
        baseline=one.baseline,
        scale=one.scale,
        weight=weight,
    )
