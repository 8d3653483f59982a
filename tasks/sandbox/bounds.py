"""How large a literal may be, and the checks that keep hostile ones cheap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

MAX_TEXT = 65_536
"""Characters of one literal or argument list."""
MAX_DEPTH = 60
"""Containers around one value; frozenset, written as a set inside a call, counts as two."""
MAX_INT_BITS = 14_284
"""Largest int whose decimal text has at most 4300 digits, Python's own limit for int <-> str."""
MAX_COLLISIONS = 64
"""Members of one set or dict that may share a hash; more is an attack on the hash table."""
MAX_PAIRS = 4_096
"""Pairs of members that share a hash, in all sets and dicts of one literal: sets in sets multiply what each costs."""


class Refused(ValueError):
    """The text or value is not a literal that this project represents; the message says why."""


def checked_int(value: int) -> int:
    """The int itself; raises Refused when its decimal text would pass Python's limit of 4300 digits."""
    if value.bit_length() > MAX_INT_BITS:
        raise Refused(f"an int of {value.bit_length()} bits, {MAX_INT_BITS} are the limit")
    return value


class Keys:
    """Watches over the sets and dicts of one literal while it is built."""

    def __init__(self) -> None:
        self._pairs = 0

    def check(self, keys: Sequence[object]) -> None:
        """Raises Refused when a set or dict of these would be slow to build, or cannot be built at all."""
        try:
            hashes = list(map(hash, keys))
        except TypeError as error:
            raise Refused(f"{error} in a set or as a key") from error
        if len(set(hashes)) < len(hashes):
            self._count(Counter(hashes))

    def _count(self, shared: Counter[int]) -> None:
        most = max(shared.values())
        if most > MAX_COLLISIONS:
            raise Refused(f"{most} members of a set or dict share one hash, {MAX_COLLISIONS} are the limit")
        self._pairs += sum(count * (count - 1) // 2 for count in shared.values())
        if self._pairs > MAX_PAIRS:
            raise Refused(f"more than {MAX_PAIRS} pairs of members share a hash, in all sets and dicts together")
