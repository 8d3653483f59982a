"""The numbers that describe an optimizer step: of all its tokens, and of those of each (role, mode).

N completion tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from models.loss import Objective, Sampled, token_metrics
from models.samples import ALL, Metric, Sample


class Pass(NamedTuple):
    """What one micro-batch left behind, for metrics."""

    sampled: Sampled
    entropy_N: Tensor
    terms: Objective
    samples_N: Tensor


def step_metrics(step: int, passes: Sequence[Pass], samples: Sequence[Sample], norm: float) -> Iterator[Metric]:
    """All metrics of one optimizer step; `norm` is the gradient's, before clipping.

    Of the step: loss, grad_norm, optimizer_step (1 when one was taken). Of all tokens and of every (role, mode): those
    of `token_metrics`, and samples, tokens and weight (the share of the loss).
    """
    sampled = Sampled(*(torch.cat(column) for column in zip(*(each.sampled for each in passes), strict=True)))
    terms = Objective(
        torch.stack([each.terms.loss for each in passes]).sum(),
        *(torch.cat(column) for column in zip(*(each.terms[1:] for each in passes), strict=True)),
    )
    entropy_N = torch.cat([each.entropy_N for each in passes])
    samples_N = torch.cat([each.samples_N for each in passes])
    overall = {"loss": float(terms.loss), "grad_norm": norm, "optimizer_step": 1.0}
    for name, value in overall.items():
        yield Metric(step, name, ALL, ALL, value)
    for (role, mode), members in _groups(samples).items():
        inside_N = torch.isin(samples_N, torch.tensor(members)).to(entropy_N.device)
        part = Sampled(*(column[inside_N] for column in sampled))
        part_terms = Objective(terms.loss, *(column[inside_N] for column in terms[1:]))
        numbers = token_metrics(part, entropy_N[inside_N], part_terms) | {
            "samples": float(len(members)),
            "tokens": float(inside_N.sum()),
            "weight": math.fsum(samples[index].weight for index in members),
        }
        for name, value in numbers.items():
            yield Metric(step, name, role, mode, value)


def _groups(samples: Sequence[Sample]) -> dict[tuple[str, str], list[int]]:
    """Indices of all samples, and of those of every (role, mode)."""
    groups: dict[tuple[str, str], list[int]] = {(ALL, ALL): list(range(len(samples)))}
    for index, sample in enumerate(samples):
        groups.setdefault((sample.role.value, sample.mode.value), []).append(index)
    return groups
