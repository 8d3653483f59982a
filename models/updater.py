"""One update: from a policy and its weighted samples to the next policy, by AdamW on fp32 masters.

B samples of a micro-batch, T positions, K of them from which completions are predicted, N completion tokens, V
vocabulary. The order of everything is fixed, so on one CPU type with equal threads and libraries the result is too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from models import runtime
from models.batching import MicroBatch, prepare
from models.checkpoints import OptimizerState, load_model, load_optimizer
from models.config import EngineConfig, UpdateConfig
from models.engines.base import Progress
from models.loss import Sampled, Scored, objective, score
from models.metrics import Pass, step_metrics
from models.samples import ALL, Metric, Sample, UpdateInputs
from storage.errors import EngineError


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateResult:
    """The next policy, ready for `checkpoints.publish`."""

    model: PreTrainedModel  # on the CPU, in the dtype of the weights it started from
    optimizer: OptimizerState
    metrics: list[Metric]


@dataclass(slots=True, eq=False)
class Trainer:
    """A model in training: fp32 weights, AdamW over them, and the dtype to publish in."""

    model: PreTrainedModel
    optimizer: torch.optim.AdamW
    dtype: torch.dtype
    steps: int  # optimizer steps since the base


def update(
    inputs: UpdateInputs, config: UpdateConfig, *, engine: EngineConfig, progress: Progress | None = None
) -> UpdateResult:
    """Train on the samples and return the next policy; nothing is written.

    Runs in this process, with the engine's device and thread count. Without signal (no samples, or every weighted
    advantage 0) no optimizer step is taken, and metric `optimizer_step` is 0. Raises EngineError when policy or
    optimizer state cannot be loaded, or when the gradient is not finite.
    """
    device = runtime.resolve_device(engine.device)
    runtime.configure(threads=engine.threads, device=device)
    trainer = load_trainer(inputs.policy.directory, inputs.optimizer, config, device=device)
    metrics = train(trainer, inputs.samples, config, temperature=inputs.temperature, progress=progress)
    return export(trainer, metrics)


def load_trainer(directory: Path, optimizer: Path | None, config: UpdateConfig, *, device: torch.device) -> Trainer:
    """A trainer that goes on from a policy's directory and from a checkpoint's optimizer state, or from a new one."""
    model = load_model(directory).train(mode=False)  # no dropout, or log-probs would not be the sampled policy's
    dtype = model.dtype
    torch.nn.Module.to(model, device=device, dtype=torch.float32)
    state = None if optimizer is None else load_optimizer(optimizer)
    named = dict(model.named_parameters())
    if state is not None:
        _restore_masters(named, state, directory)
    adamw = torch.optim.AdamW(
        named.values(),
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.epsilon,
        weight_decay=config.weight_decay,
    )
    if state is not None:
        for name, parameter in named.items():
            if name in state.exp_avg:
                adamw.state[parameter] = {
                    "step": torch.tensor(float(state.steps)),
                    "exp_avg": state.exp_avg[name].to(device),
                    "exp_avg_sq": state.exp_avg_sq[name].to(device),
                }
    return Trainer(model, adamw, dtype, 0 if state is None else state.steps)


def train(
    trainer: Trainer,
    samples: Sequence[Sample],
    config: UpdateConfig,
    *,
    temperature: float,
    progress: Progress | None = None,
) -> list[Metric]:
    """Take the config's optimizer steps over the samples; returns every step's metrics."""
    if not any(sample.advantage * sample.weight for sample in samples):
        return [Metric(0, "optimizer_step", ALL, ALL, 0.0), Metric(0, "samples", ALL, ALL, float(len(samples)))]
    batches = prepare(samples, config, trainer.model.device)
    total = config.steps * len(batches)
    metrics: list[Metric] = []
    olds: list[Tensor] = []
    for step in range(config.steps):
        passes = []
        trainer.optimizer.zero_grad(set_to_none=True)
        for number, batch in enumerate(batches):
            scored = _score(trainer.model, batch, temperature)
            if step == 0:
                olds.append(scored.logprobs_N.detach())
            passes.append(_backward(batch, scored, olds[number], config))
            if progress is not None:
                progress(step * len(batches) + number + 1, total)
        norm = _step(trainer, config)
        metrics += step_metrics(step, passes, samples, norm)
    return metrics


def export(trainer: Trainer, metrics: list[Metric]) -> UpdateResult:
    """The trainer's model in the dtype to publish, and its optimizer state; the trainer is used up."""
    named = dict(trainer.model.named_parameters())
    states = [(name, trainer.optimizer.state[parameter]) for name, parameter in named.items()]
    states = [(name, state) for name, state in states if state]  # none before the first step
    low = trainer.dtype is not torch.float32
    optimizer = OptimizerState(
        steps=trainer.steps,
        exp_avg={name: state["exp_avg"].cpu() for name, state in states},
        exp_avg_sq={name: state["exp_avg_sq"].cpu() for name, state in states},
        master={name: parameter.detach().cpu() for name, parameter in named.items()} if low else {},
    )
    trainer.optimizer.zero_grad(set_to_none=True)
    torch.nn.Module.to(trainer.model, device=torch.device("cpu"), dtype=trainer.dtype)
    return UpdateResult(model=trainer.model, optimizer=optimizer, metrics=metrics)


def _restore_masters(named: dict[str, torch.nn.Parameter], state: OptimizerState, directory: Path) -> None:
    """Put the fp32 masters in the place of the rounded weights; raises EngineError for another model's state."""
    tensors = {**state.exp_avg, **state.master}
    unlike = [name for name, tensor in tensors.items() if name not in named or tensor.shape != named[name].shape]
    if unlike:
        raise EngineError(
            f"The optimizer state beside {directory} is of another model: {', '.join(unlike[:3])} "
            "do not fit. Nothing was written. Restore the checkpoint from a copy, or fork before this iteration."
        )
    with torch.no_grad():
        for name, tensor in state.master.items():
            named[name].copy_(tensor)


def _score(model: PreTrainedModel, batch: MicroBatch, temperature: float) -> Scored:
    logits_BKV = model(input_ids=batch.ids_BT, use_cache=False, logits_to_keep=batch.keep).logits
    return score(logits_BKV[batch.mask_BK], batch.targets_N, temperature=temperature)


def _backward(batch: MicroBatch, scored: Scored, old_N: Tensor, config: UpdateConfig) -> Pass:
    sampled = Sampled(old_N, batch.engine_N, batch.advantages_N, batch.weights_N)
    terms = objective(scored.logprobs_N, sampled, clip=config.clip, importance_cap=config.importance_cap)
    torch.autograd.backward(terms.loss)
    return Pass(sampled, scored.entropy_N, terms._replace(loss=terms.loss.detach()), batch.samples_N)


def _step(trainer: Trainer, config: UpdateConfig) -> float:
    """Clip the gradient and step; returns its norm before clipping."""
    norm = float(torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), config.gradient_clip))
    if not math.isfinite(norm):
        raise EngineError(
            f"The gradient of optimizer step {trainer.steps + 1} has norm {norm}. No step was taken and nothing was "
            f"written. Lower update.learning_rate ({config.learning_rate}) in a fork that starts iterations earlier."
        )
    trainer.optimizer.step()
    trainer.steps += 1
    return norm
