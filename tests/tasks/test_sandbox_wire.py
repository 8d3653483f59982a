# ruff: noqa: E501 - tables
"""Frames: requests as marshal reads them, answers as hostile as bytes can be."""

import marshal
import random
import struct
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.sandbox import wire
from tasks.sandbox.jobs import Limits, Output
from tasks.sandbox.values import Arguments, Refused, canonical, equal

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text()
    | st.binary()
    | st.just(...)
)
HASHABLE = st.recursive(SCALARS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4), max_leaves=5)
LITERALS = st.recursive(
    SCALARS | st.sets(HASHABLE, max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.tuples(inner) | st.dictionaries(HASHABLE, inner, max_size=5),
    max_leaves=20,
)


def frame(*answers: object) -> bytes:
    return framed(marshal.dumps(list(answers), 2))


def framed(data: bytes) -> bytes:
    return struct.pack("=I", len(data)) + data


def read(data: bytes, calls: int = 1) -> list[wire.Answer]:
    return wire.answers(data, calls, Limits())


@given(LITERALS)
@settings(derandomize=True, max_examples=300, deadline=None)
def test_a_request_is_what_marshal_reads(value: object) -> None:
    item = wire.encoded_item("p", "f", [wire.encoded_call(Arguments((value,), {"k": 1}))])
    data = wire.request([item, item], Limits(cpu_s=1.5, memory_mb=100, output_bytes=10), anew=True)
    length, *limits = struct.unpack_from("=IIII", data)
    together, anew, items = marshal.loads(data[16:])  # noqa: S302 - our own bytes
    assert (length, limits, together, anew, len(items)) == (len(data) - 16, [3, 100, 10], False, True, 2)
    program, entry, calls = items[1]
    assert (program, entry, calls[0][1]) == ("p", "f", {"k": 1})
    assert equal(calls[0][0][0], value)


@given(LITERALS)
@settings(derandomize=True, max_examples=300, deadline=None)
def test_an_honest_answer_arrives(value: object) -> None:
    text = canonical(value)
    assert read(frame(("ok", value))) == [wire.Answer(Output(text))]


def test_sets_travel_in_one_order_whatever_the_hash_seed() -> None:
    assert wire._encode({"b", "a"}) == wire._encode({"a", "b"}) == b"<\2\0\0\0u\1\0\0\0au\1\0\0\0b"


def test_a_request_that_no_socket_holds_is_refused() -> None:
    with pytest.raises(Refused, match="131072 are the limit"):
        wire.request([wire.encoded_item("#" * 131_072, "f", [])], Limits())


def test_frames_of_several_programs_are_read_as_far_as_they_are_whole() -> None:
    one = struct.pack("=II", 3, 7) + b"abc"
    assert wire.shared_frames(one * 2 + one[:-1], 5) == [(7, b"abc")] * 2
    assert wire.shared_frames(one * 9, 2) == [(7, b"abc")] * 2
    assert wire.shared_frames(struct.pack("=II", 0, 1), 1) == [(1, b"")]
    assert wire.shared_frames(struct.pack("=II", 2**32 - 1, 1), 1) == []


def test_errors_and_other_values_arrive_in_words() -> None:
    found = read(
        frame(("raised", "ValueError", "no\n\x1b[2J \ud800"), ("opaque", "a.B", "<B at 0x7f00deadbeef>")), calls=2
    )
    assert found[0] == wire.Answer(Output(None, r"ValueError: no\n\x1b[2J \ud800", raised="ValueError"))
    assert found[1] == wire.Answer(Output(None, "not a literal: a.B <B at 0x...>"), literal=False)


MALFORMED = [
    b"", b"\0", framed(b""), framed(b"N"), framed(b"[\0\0\0\0"), framed(b"[\1\0\0\0N"), frame(("ok", 1), ("ok", 2)),
    frame(("ok",)), frame(("raised", 1, 2)), frame(("nonsense", 1)), frame(("ok", 1)) + b"\0", framed(frame(("ok", 1))[4:] + b"N"),
    frame(("ok", 1))[:-1], struct.pack("=I", 2**32 - 1), framed(b"[\xff\xff\xff\xff"), framed(b"[\1\0\0\0(\2\0\0\0u\2\0\0\0oki\1"),
    framed(b"[\1\0\0\0(\2\0\0\0u\2\0\0\0oku\1\0\0\0\xff"), framed(b"[\1\0\0\0(\2\0\0\0u\2\0\0\0okl\1\0\0\0\xff\xff"),
    framed(b"[\1\0\0\0(\2\0\0\0u\2\0\0\0ok<\2\0\0\0NN"), framed(b"[\1\0\0\0(\2\0\0\0u\2\0\0\0ok{N"),
]  # fmt: skip
NOT_LITERAL = [
    compile("1", "", "eval"), StopIteration, [[]] * 66_000, "x" * 65_537, "\0" * 30_000, 2**14_284, list(range(30_000)),
]  # fmt: skip


@pytest.mark.parametrize("data", MALFORMED)
def test_bytes_that_no_honest_child_writes_are_malformed(data: bytes) -> None:
    with pytest.raises(wire.Malformed):
        read(data)


@pytest.mark.parametrize("value", NOT_LITERAL, ids=range(len(NOT_LITERAL)))
def test_answers_that_are_not_representable_are_refused(value: object) -> None:
    with pytest.raises(Refused):
        read(frame(("ok", value)))


def test_too_deep_is_refused_as_deep_as_text_is() -> None:
    value: object = 1
    for _ in range(60):
        value = [value]
    assert read(frame(("ok", value)))[0].output.text == "[" * 60 + "1" + "]" * 60
    with pytest.raises(Refused, match="60 containers"):
        read(frame(("ok", [value])))


def test_an_unhashable_member_is_refused() -> None:
    with pytest.raises(Refused, match="unhashable"):
        read(framed(b"[\1\0\0\0(\2\0\0\0u\2\0\0\0ok<\1\0\0\0[\0\0\0\0"))


@given(LITERALS, st.randoms(use_true_random=False))
@settings(derandomize=True, max_examples=400, deadline=None)
def test_mutated_frames_give_only_declared_refusals(value: object, rng: random.Random) -> None:
    data = bytearray(frame(("ok", value)))
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(4, len(data))
        data[place : place + rng.randint(0, 2)] = rng.choice(
            [rng.randbytes(rng.randint(0, 3)), b"[", b"{", b"<", b"l", b"0"]
        )
    data[:4] = struct.pack("=I", len(data) - 4)
    try:
        found = read(bytes(data))
    except (wire.Malformed, Refused):
        return
    assert len(found) == 1


M = 2**61 - 1  # the modulus of Python's integer hash
SLOW = {
    "colliding ints in a set": marshal.dumps({k * M for k in range(1, 60)}, 2)[:0]
    + b"<" + struct.pack("<I", 4_000) + b"".join(marshal.dumps(k * M, 2) for k in range(1, 4_001)),
    "colliding keys": b"{" + b"".join(marshal.dumps(k * M, 2) + b"N" for k in range(1, 4_001)) + b"0",
    "colliding tuples": b">" + struct.pack("<I", 3_000) + b"".join(marshal.dumps((k * M,), 2) for k in range(1, 3_001)),
    "colliding floats": b"<" + struct.pack("<I", 7_000)
    + b"".join(b"g" + struct.pack("<d", 2.0**61 * k if k % 2 else k) for k in range(7_000)),
    "64 members a hash": b"<" + struct.pack("<I", 4_032)
    + b"".join(marshal.dumps(j + k * M, 2) for j in range(63) for k in range(64)),
    "one huge int": b"l" + struct.pack("<i", 32_000) + b"\1\0" * 32_000,
    "many great ints": b"[" + struct.pack("<I", 34) + (b"l" + struct.pack("<i", 952) + b"\1\0" * 952) * 34,
    "only None": b"[" + struct.pack("<I", 65_000) + b"N" * 65_000,
    "empty lists": b"[" + struct.pack("<I", 13_000) + b"[\0\0\0\0" * 13_000,
    "deep": b"[\1\0\0\0" * 13_000 + b"N",
    "deep sets": (b"(\1\0\0\0" * 50 + b"i\1\0\0\0") * 200,
    "escapes": b"u" + struct.pack("<I", 65_000) + b"\0" * 65_000,
    "ints": b"[" + struct.pack("<I", 13_000) + b"".join(marshal.dumps(k, 2) for k in range(13_000)),
}  # fmt: skip


@pytest.mark.parametrize("name", SLOW)
def test_a_frame_made_to_be_slow_is_cheap(name: str) -> None:
    data = framed(b"[\1\0\0\0(\2\0\0\0u\2\0\0\0ok" + SLOW[name])
    times = []
    for _ in range(3):
        start = time.process_time()
        with suppress(wire.Malformed, Refused):
            read(data)
        times.append(time.process_time() - start)
    assert min(times) < 0.05, times
