"""Micro-batches: which samples share a forward pass, so that little of it is padding."""

from __future__ import annotations

from collections.abc import Sequence


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
