"""Derived randomness: every draw of a run is a pure function of the run's seed and of what the draw is for.

Nothing here has state, so a stage that runs again draws the same numbers, in any order and in any process.
"""

from __future__ import annotations

import hashlib
import random


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed from the run's seed and the draw's coordinates (blake2b over unambiguous text, never `hash()`)."""
    written = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(written.encode(), digest_size=8).digest(), "big") >> 1


def rng(*parts: int | str) -> random.Random:
    """A generator for one purpose, for example ``rng(seed, iteration, "propose", mode, slot)``."""
    return random.Random(seed_of(*parts))
