"""Micro-batches: which samples share a forward pass, so that little of it is padding, and their tensors.

B samples of a micro-batch, T positions (right-padded), K of them from which completions are predicted, N completion
tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from models.config import Averaging, UpdateConfig
from models.loss import token_weights
from models.samples import Sample


class MicroBatch(NamedTuple):
    """The tensors of some samples; the N tokens are in the order of the samples."""

    ids_BT: Tensor
    keep: int  # K, the last positions of T
    mask_BK: Tensor  # where a completion token is predicted; row by row these are the N tokens
    targets_N: Tensor
    samples_N: Tensor  # index of the token's sample
    engine_N: Tensor
    advantages_N: Tensor
    weights_N: Tensor


def micro_batches(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Indices of samples in micro-batches of at most `tokens` tokens, padding to the longest included.

    Samples of like length go together, shortest first, equal lengths in the order given: the same lengths give the
    same batches. A sample longer than `tokens` goes alone.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: (lengths[index], index)):
        if batches and (len(batches[-1]) + 1) * lengths[index] <= tokens:  # sorted: this one is the longest so far
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def prepare(samples: Sequence[Sample], config: UpdateConfig, device: torch.device) -> list[MicroBatch]:
    """The samples in micro-batches, on the device."""
    weights = token_weights(
        torch.tensor([sample.weight for sample in samples]),
        torch.tensor([len(sample.completion_ids) for sample in samples]),
        per_token=config.average is Averaging.TOKEN,
    ).tolist()
    lengths = [len(sample.prompt_ids) + len(sample.completion_ids) for sample in samples]
    batches = micro_batches(lengths, config.micro_tokens)
    return [_micro_batch(samples, indices, weights, device) for indices in batches]


def _micro_batch(
    samples: Sequence[Sample], indices: Sequence[int], weights: Sequence[float], device: torch.device
) -> MicroBatch:
    """Right-padded: with causal attention no completion sees the padding behind it, so no mask is needed."""
    chosen = [samples[index] for index in indices]
    # The last token of a sequence predicts nothing, and nothing before the last prompt token is predicted.
    width = max(len(sample.prompt_ids) + len(sample.completion_ids) for sample in chosen) - 1
    first = min(len(sample.prompt_ids) for sample in chosen) - 1
    ids_BT = torch.zeros(len(chosen), width, dtype=torch.long)
    mask_BK = torch.zeros(len(chosen), width - first, dtype=torch.bool)
    for row, sample in enumerate(chosen):
        ids = [*sample.prompt_ids, *sample.completion_ids][:width]
        ids_BT[row, : len(ids)] = torch.tensor(ids)
        start = len(sample.prompt_ids) - 1 - first
        mask_BK[row, start : start + len(sample.completion_ids)] = True
    counts = torch.tensor([len(sample.completion_ids) for sample in chosen])

    def spread(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32).repeat_interleave(counts).to(device)

    return MicroBatch(
        ids_BT=ids_BT.to(device),
        keep=width - first,
        mask_BK=mask_BK.to(device),
        targets_N=torch.tensor([token for sample in chosen for token in sample.completion_ids]).to(device),
        samples_N=torch.tensor(indices).repeat_interleave(counts),
        engine_N=torch.tensor([logprob for sample in chosen for logprob in sample.logprobs]).to(device),
        advantages_N=spread([sample.advantage for sample in chosen]),
        weights_N=spread([weights[index] for index in indices]),
    )
