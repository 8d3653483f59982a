"""The policy gradient of one micro-batch, token by token, and what an update reports about its tokens.

N completion tokens of a micro-batch (or of an update), V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Scored(NamedTuple):
    """What the trainer's model says about sampled tokens."""

    logprobs_N: Tensor  # nats, at the sampling temperature; carries the gradient
    entropy_N: Tensor  # nats, of the whole distribution; detached


class Sampled(NamedTuple):
    """What is known of completion tokens besides the model: what loss and metrics need. No gradients."""

    old_N: Tensor  # log-probs by the trainer before the update's first step
    engine_N: Tensor  # log-probs by the engine that sampled
    advantages_N: Tensor  # of the token's sample
    weights_N: Tensor  # of the token in the loss; those of an update sum to 1


class Objective(NamedTuple):
    """The loss, and its per-token terms (detached)."""

    loss: Tensor  # scalar; those of an update's micro-batches add up
    ratio_N: Tensor  # pi_theta / pi_old
    importance_N: Tensor  # min(pi_old / pi_engine, cap)
    clipped_N: Tensor  # bool: the clip held the ratio, so this token has no gradient


def score(logits_NV: Tensor, targets_N: Tensor, *, temperature: float) -> Scored:
    """Log-probability of each target and entropy of its distribution, in float32."""
    logprobs_NV = torch.log_softmax(logits_NV.float() / temperature, dim=-1)
    with torch.no_grad():
        entropy_N = -(logprobs_NV.exp() * logprobs_NV).sum(-1)
    return Scored(logprobs_NV.gather(1, targets_N[:, None])[:, 0], entropy_N)


def objective(logprobs_N: Tensor, sampled: Sampled, *, clip: float, importance_cap: float) -> Objective:
    """PPO's clipped objective (arXiv 1707.06347, equation 7), each token weighted once for the engine's mismatch.

    loss = - sum_t weight_t * importance_t * min(ratio_t * A_t, clamp(ratio_t, 1 - clip, 1 + clip) * A_t)
    with ratio = exp(logprob - old) and importance = min(exp(old - engine), importance_cap), detached (truncated
    importance sampling). In an update's first step ratio is 1 and the clip never acts.
    """
    ratio_N = (logprobs_N - sampled.old_N).exp()
    importance_N = (sampled.old_N - sampled.engine_N).exp().clamp(max=importance_cap)
    plain_N = ratio_N * sampled.advantages_N
    held_N = ratio_N.clamp(1 - clip, 1 + clip) * sampled.advantages_N
    loss = -(sampled.weights_N * importance_N * torch.minimum(plain_N, held_N)).sum()
    return Objective(loss, ratio_N.detach(), importance_N, (held_N < plain_N).detach())


def token_weights(sample_weights: Tensor, lengths: Tensor, *, per_token: bool) -> Tensor:
    """What one token of each sample weighs, for samples of these weights and completion lengths (equal shapes).

    By sample, a sample's weight is spread over its tokens: its loss is the mean over them, whatever its length. Per
    token, all tokens of equally weighted samples count alike, and long completions count more (the published code).
    Either way the sum over all tokens is the sum of the samples' weights.
    """
    if not per_token:
        return sample_weights / lengths
    masses = sample_weights * lengths
    total = masses.sum()
    return sample_weights * sample_weights.sum() / total if total > 0 else sample_weights


def token_metrics(sampled: Sampled, entropy_N: Tensor, terms: Objective) -> dict[str, float]:
    """Means and extremes over N >= 1 tokens.

    entropy: mean, nats. kl_engine: mean of exp(d) - 1 - d with d = old - engine, the k3 estimate of
    KL(engine || trainer). mismatch, mismatch_max: mean and largest |d|. importance: mean weight; importance_capped:
    share of tokens at the cap. ratio_max: largest ratio. clip_fraction: share of tokens that the clip held.
    """
    d_N = (sampled.old_N - sampled.engine_N).double()
    uncapped_N = (sampled.old_N - sampled.engine_N).exp()
    means = {
        "entropy": entropy_N.double(),
        "kl_engine": d_N.expm1() - d_N,
        "mismatch": d_N.abs(),
        "importance": terms.importance_N.double(),
        "importance_capped": (terms.importance_N < uncapped_N).double(),
        "clip_fraction": terms.clipped_N.double(),
    }
    extremes = {"mismatch_max": d_N.abs().max(), "ratio_max": terms.ratio_N.max()}
    return {name: float(value.mean()) for name, value in means.items()} | {
        name: float(value) for name, value in extremes.items()
    }
