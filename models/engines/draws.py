"""Drawing one token per row from logits, by a counter instead of a generator.

B rows, V vocabulary. A draw is a pure function of (request seed, step, logits), so a completion does not depend on
what is sampled beside it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_STRIDE = 0x9E3779B97F4A7C15  # splitmix64's increment and multipliers (Steele, Lea & Flood, OOPSLA 2014)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


class Drawn(NamedTuple):
    """One token per row and its log-probability in nats."""

    tokens_B: Tensor
    logprobs_B: Tensor


def uniforms(seeds_B: NDArray[np.uint64], step: int) -> NDArray[np.float64]:
    """One number in [0, 1) per row, from (seed, step): two rounds of splitmix64.

    The numbers are multiples of 2**-48, so that a number times a probability mass stays below that mass.
    """
    counter = np.uint64(_STRIDE * (step + 1) % 2**64)
    bits_B = _mix(_mix(seeds_B) + counter) >> np.uint64(16)
    return bits_B.astype(np.float64) * 2.0**-48


def draw(logits_BV: Tensor, *, temperatures_B: Tensor, top_ps_B: Tensor, uniforms_B: Tensor) -> Drawn:
    """One token per row by inversion of the cumulative distribution, in float64.

    Temperature 0 takes the most likely token. The log-probability is that of softmax(logits / temperature), at
    temperature 1 where it is 0; where top_p is below 1, renormalised over the nucleus.
    """
    greedy_B = temperatures_B == 0
    logprobs_BV = torch.log_softmax(logits_BV.float() / temperatures_B.masked_fill(greedy_B, 1.0)[:, None], dim=-1)
    if bool((top_ps_B < 1).any()):
        logprobs_BV = nucleus(logprobs_BV, top_ps_B)
    masses_BV = logprobs_BV.exp().double().cumsum(-1)
    thresholds_B = uniforms_B * masses_BV[:, -1]
    tokens_B = torch.searchsorted(masses_BV, thresholds_B[:, None], right=True)[:, 0]
    tokens_B = tokens_B.clamp_(max=logits_BV.shape[-1] - 1)  # only NaN gets there; the log-probability tells
    if bool(greedy_B.any()):
        tokens_B = torch.where(greedy_B, logprobs_BV.argmax(-1), tokens_B)
    return Drawn(tokens_B, logprobs_BV.gather(1, tokens_B[:, None])[:, 0])


def nucleus(logprobs_BV: Tensor, top_ps_B: Tensor) -> Tensor:
    """Log-probabilities over the smallest set of likeliest tokens whose mass reaches top_p; others get -inf."""
    sorted_BV, order_BV = logprobs_BV.sort(dim=-1, descending=True, stable=True)
    before_BV = sorted_BV.exp().cumsum(-1) - sorted_BV.exp()  # mass of the likelier tokens
    outside_BV = before_BV >= top_ps_B[:, None]
    outside_BV[:, 0] = False
    kept_BV = sorted_BV.masked_fill(outside_BV, -torch.inf)
    return torch.empty_like(kept_BV).scatter_(1, order_BV, kept_BV).log_softmax(-1)


def _mix(keys_B: NDArray[np.uint64]) -> NDArray[np.uint64]:
    keys_B = (keys_B ^ (keys_B >> np.uint64(30))) * _MIX1
    keys_B = (keys_B ^ (keys_B >> np.uint64(27))) * _MIX2
    return keys_B ^ (keys_B >> np.uint64(31))
