"""Update: advantages by task-relative REINFORCE++, one gradient step, and the next checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from models.config import Ablation, UpdateConfig
from models.manifest import Published
from models.policy import PolicyRef, count_parameters, policy_files
from models.samples import Metric, Sample, UpdateInputs
from storage.ids import Position, Stage
from storage.records import Advantage, Checkpoint, Reward, Tokens, UpdateMetric
from tasks.base import find_base
from tasks.crediting import credited
from tasks.needs import BASE, previous_update
from tasks.rollouts import policy_before
from tasks.stage import Outcome, stage
from tasks.workshop import Workshop

if TYPE_CHECKING:  # torch is imported when a policy is trained: a form or an audit needs no torch
    from models.updater import UpdateResult


@stage(Stage.UPDATE)
def update(work: Workshop, at: Position) -> Outcome:
    """Train the policy before this iteration on its rewarded rollouts, and publish it; at 0, name the base."""
    if at == BASE:
        return _base(work, at)
    policy = policy_before(work, at)
    rewards = work.ledger.read(Reward, at._replace(stage=Stage.VERIFY))
    tokens = _tokens(work, at)
    lengths = {reward.rollout_id: len(tokens[reward.rollout_id].completion_ids) for reward in rewards}
    rows = credited(work.config, at, rewards, lengths)
    samples = [_sample(row, tokens[row.rollout_id]) for row in rows]
    result = _train(work, at, policy, samples)
    published = _publish(work, at, policy, result)
    return Outcome(
        tables={
            Advantage: rows,
            UpdateMetric: [_metric(at, metric) for metric in result.metrics],
            Checkpoint: [_checkpoint(work, at, policy, published)],
        },
        artifacts={"policy": published.policy.hash, "optimizer": published.optimizer_hash},
        note=_note(work.config.update, result.metrics, len(samples)),
    )


def _base(work: Workshop, at: Position) -> Outcome:
    """Checkpoint 0 is the base model, by hash, where it lies; nothing is copied."""
    base = find_base(work.config, work.templates)
    row = Checkpoint(
        iteration=at.iteration,
        round=at.round,
        policy=base.hash,
        parent=None,
        optimizer=None,
        directory=None,
        optimizer_steps=0,
        parameters=count_parameters(base.directory),
        bytes=sum((base.directory / name).stat().st_size for name in policy_files(base.directory)),
    )
    return Outcome(tables={Checkpoint: [row]}, artifacts={"policy": base.hash}, note=f"base {base.hash[:12]}")


def _tokens(work: Workshop, at: Position) -> Mapping[int, Tokens]:
    stages = (Stage.PROPOSE, Stage.SOLVE)
    return {row.rollout_id: row for word in stages for row in work.ledger.read(Tokens, at._replace(stage=word))}


def _sample(row: Advantage, tokens: Tokens) -> Sample:
    return Sample(
        prompt_ids=tokens.prompt_ids,
        completion_ids=tokens.completion_ids,
        logprobs=tokens.logprobs,
        advantage=row.advantage,
        weight=row.weight,
        role=row.role,
        mode=row.mode,
    )


def _train(work: Workshop, at: Position, policy: PolicyRef, samples: Sequence[Sample]) -> UpdateResult:
    from models.updater import update as train_on

    inputs = UpdateInputs(
        policy=policy,
        optimizer=policy.directory if previous_update(at) != BASE else None,
        samples=samples,
        temperature=work.config.sampling.temperature,
    )
    config, engine = work.config.update, work.config.engine
    return train_on(inputs, config, engine=engine, progress=work.reporter.progress)


def _publish(work: Workshop, at: Position, policy: PolicyRef, result: UpdateResult) -> Published:
    from models import checkpoints

    return checkpoints.publish(
        run_directory=work.publishes_below,
        iteration=at.iteration,
        parent=policy,
        model=result.model,
        optimizer=result.optimizer,
    )


def _checkpoint(work: Workshop, at: Position, policy: PolicyRef, published: Published) -> Checkpoint:
    return Checkpoint(
        iteration=at.iteration,
        round=at.round,
        policy=published.policy.hash,
        parent=policy.hash,
        optimizer=published.optimizer_hash,
        directory=str(Path(published.policy.directory).relative_to(work.publishes_below)),
        optimizer_steps=published.optimizer_steps,
        parameters=published.parameters,
        bytes=published.bytes,
    )


def _metric(at: Position, metric: Metric) -> UpdateMetric:
    return UpdateMetric(
        iteration=at.iteration,
        round=at.round,
        step=metric.step,
        name=metric.name,
        role=metric.role,
        mode=metric.mode,
        value=metric.value,
    )


def _note(config: UpdateConfig, metrics: Sequence[Metric], samples: int) -> str:
    ablation = "" if config.ablation is Ablation.NONE else f"ABLATION {config.ablation}: "
    shown = {metric.name: metric.value for metric in metrics if metric.role == metric.mode == "all"}
    return (
        f"{ablation}{samples} rollouts, loss {shown.get('loss', 0.0):+.4f}, gradient {shown.get('grad_norm', 0.0):.3f}"
    )
