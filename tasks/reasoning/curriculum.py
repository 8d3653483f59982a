"""Which earlier tasks are shown to proposers and solved again: pure draws from (buffers, generator).

A buffer is the sequence of a mode's valid tasks, or of their ids, in the ledger's order. Draws are uniform and without
replacement, and give fewer than asked where there are fewer. The generator comes from `storage.seeds.rng` with the
draw's coordinates.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

from storage.ids import Mode
from tasks.reasoning.modes import MODES, Shown

IDENTITY_PROGRAM = "def f(a):\n    return a"

T = TypeVar("T")


def draw_references(
    buffers: Mapping[Mode, Sequence[T]], mode: Mode, *, least: int, most: int, rng: random.Random
) -> list[T]:
    """The earlier tasks that one proposer of `mode` is shown, in the order drawn.

    Between `least` and `most` of them (uniform); a mode whose proposer is shown one program gets one task. The pool is
    the union of the buffers that feed the mode; a buffer that is missing is empty.
    """
    rules = MODES[mode]
    pool = [buffers.get(source, ()) for source in rules.sources]
    size = sum(map(len, pool))
    count = 1 if Shown.PROGRAM in rules.proposer_sees else rng.randint(least, most)
    return [_at(pool, place) for place in rng.sample(range(size), min(count, size))]  # a run's buffers are long


def draw_buffer_tasks(buffer: Sequence[T], count: int, rng: random.Random) -> list[T]:
    """The earlier tasks of one mode that are solved again, in the order drawn."""
    return [buffer[place] for place in rng.sample(range(len(buffer)), min(count, len(buffer)))]


def _at(parts: Sequence[Sequence[T]], place: int) -> T:
    """The element at a place in parts joined one after another."""
    for part in parts:
        if place < len(part):
            return part[place]
        place -= len(part)
    raise IndexError(place)
