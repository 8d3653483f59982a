# ruff: noqa: E501 - tables
"""Frames of 64 KB made to be slow: deep, many, great, and sets of members that share a hash, inside one another."""

import marshal
import struct
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from tasks.sandbox import wire
from tasks.sandbox.jobs import Limits
from tasks.sandbox.values import Refused, parse_value

M = 2**61 - 1  # the modulus of Python's integer hash
ALIKE = [marshal.dumps(2.0 ** (61 * k), 2) for k in range(2, 17)] + [marshal.dumps(1 + k * M, 2) for k in range(2, 4_000)]  # fmt: skip
"""Floats and ints that all have the hash 1: comparing one with the other is the slowest comparison of numbers."""


def sequence(tag: bytes, items: list[bytes]) -> bytes:
    return tag + struct.pack("<I", len(items)) + b"".join(items)


def alike_sets(fanout: list[int], unique: int = 0) -> bytes:
    """A frozenset of such sets, and so on: one hash at every level, and two differ in their last member only."""
    if len(fanout) == 1:
        return sequence(b">", [*ALIKE[: fanout[0] - 1], ALIKE[fanout[0] + unique]])
    inner = [*range(fanout[0] - 1), 1_000 + unique]
    return sequence(b">", [alike_sets(fanout[1:], number % 3_000) for number in inner])


def nested(opening: bytes, leaf: bytes, closing: bytes, depth: int) -> bytes:
    return opening * depth + leaf + closing * depth


FANOUTS = [[64, 64], [64, 8], [32, 32], [16, 16, 16], [10, 10, 10], [8] * 4, [4] * 6, [4] * 5, [3] * 7, [2] * 11, [64, 2, 2], [32, 4, 4]]  # fmt: skip
NESTS = {
    "list": b"[\1\0\0\0",
    "tuple": b"(\1\0\0\0",
    "frozenset": b">\1\0\0\0",
    "tuple in frozenset": b">\1\0\0\0(\1\0\0\0",
}
SMALL = {
    "None": b"N", "empty list": b"[\0\0\0\0", "empty dict": b"{0", "dict": b"{NN0", "set": b"<\1\0\0\0N", "float": marshal.dumps(1.2345678901234567e-300, 2),
    "complex": marshal.dumps(3.3 - 1.7j, 2), "str": b"u\0\0\0\0", "surrogate": marshal.dumps("\ud800", 2), "long": marshal.dumps(2**40, 2),
    "longer": marshal.dumps(-(2**1499), 2), "longest": marshal.dumps(2**14_000, 2), "huge": b"l" + struct.pack("<i", 32_000) + b"\1\0" * 32_000,
}  # fmt: skip
SLOW = {
    **{f"alike {fanout}": alike_sets(fanout) for fanout in FANOUTS},
    **{f"{name} {depth}": nested(opening, b"N", b"", depth) for name, opening in NESTS.items() for depth in (1, 5, 17, 55)},
    **{f"dict {depth}": nested(b"{u\0\0\0\0", b"N", b"0", depth) for depth in (1, 5, 57)},
    **{f"key {depth}": b"{" + nested(NESTS["tuple"], b"N", b"", depth) + b"N0" for depth in (1, 20, 55)},
    **SMALL,
}  # fmt: skip


def cpu_ms(work: Callable[[], object]) -> float:
    """The least of several measurements, in milliseconds of CPU time."""
    times = []
    for _ in range(5):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def read_or_refuse(data: bytes) -> None:
    with suppress(wire.Malformed, Refused):
        wire.answers(data, 1, Limits())


def yardstick() -> int:
    return sum(number % 7 for number in range(200_000))


@pytest.mark.parametrize("name", SLOW)
def test_no_frame_of_64_kb_is_slow(name: str) -> None:
    """50 ms where the yardstick takes 7 ms; a slower or busier core is given more."""
    unit = SLOW[name]
    answer = b"[\1\0\0\0(\2\0\0\0u\2\0\0\0ok" + sequence(b"[", [unit] * max(1, 65_000 // len(unit)))
    ms = cpu_ms(lambda: read_or_refuse(struct.pack("=I", len(answer)) + answer))
    assert ms < 50 * max(1.0, cpu_ms(yardstick) / 7), ms


def test_sets_of_sets_that_share_a_hash_are_refused_as_text_too() -> None:
    inner = ["frozenset({" + ", ".join(str(k * M) for k in [*range(50), 50 + n]) + "})" for n in range(58)]
    with pytest.raises(Refused, match="more than 4096 pairs of members share a hash"):
        parse_value("{" + ", ".join(inner) + "}")


def test_neighbours_on_a_grid_may_share_a_hash() -> None:
    """In Python -1 and -2 have the same hash: sets of such pairs are honest values."""
    grid = "{" + ", ".join(f"({x}, {y})" for x in range(-3, 3) for y in range(-3, 3)) + "}"
    assert len(parse_value("[" + ", ".join([grid] * 100) + "]")) == 100
