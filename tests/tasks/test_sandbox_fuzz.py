# ruff: noqa: E501, RUF001 - tables, and characters that only look alike
"""Random bytes, literals and programs: only what docs/sandbox.md declares comes out.

The fast tier takes a few thousand of each from fixed seeds; the long one takes many more from others.
"""

import ast
import json
import marshal
import random
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tasks.sandbox import wire
from tasks.sandbox.executor import Execution, Executor, Job, Lane, Limits, Status
from tasks.sandbox.values import (
    Arguments,
    Refused,
    canonical,
    equal,
    parse_value,
)

HERE = Path(__file__).parent
SEEDS = HERE.parents[1] / "benchmarks" / "data"
REAL = [json.loads(line) for line in (SEEDS / "seed_io.jsonl").read_text("utf-8").splitlines()]
HOSTILE = [json.loads(line) for line in (HERE / "data" / "hostile.jsonl").read_text("utf-8").splitlines()]
TIERS = pytest.mark.parametrize(
    ("seed", "scale"), [(1, 1), pytest.param(2, 30, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
)


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor(workers=2) as executor:
        yield executor


# ---- random literals

EDGES = [0, -1, 255, 2**31, -(2**63), 2**61 - 1, 10**40, 0.0, -0.0, 1e308, float("inf"), float("nan"), 5e-324, 1j, -0j, "", "é", "\ud800", "\0", "'\"\\\n", b"", b"\xff", None, True, False, ...]  # fmt: skip


def scalar(rng: random.Random) -> object:
    draws: list[Callable[[], object]] = [
        lambda: rng.choice(EDGES),
        lambda: rng.randint(-(10 ** rng.randint(1, 30)), 10 ** rng.randint(1, 30)),
        lambda: struct.unpack("<d", rng.randbytes(8))[0],
        lambda: complex(rng.uniform(-9, 9), rng.choice([0.0, -0.0, float("nan"), 1e300])),
        lambda: "".join(chr(rng.choice([rng.randrange(128), rng.randrange(0x110000)])) for _ in range(rng.randrange(6))),
        lambda: rng.randbytes(rng.randrange(5)),
    ]  # fmt: skip
    return rng.choice(draws)()


def hashable(rng: random.Random, depth: int) -> object:
    if depth == 0 or rng.random() < 0.6:
        return scalar(rng)
    return rng.choice([tuple, frozenset])(hashable(rng, depth - 1) for _ in range(rng.randrange(4)))


def literal(rng: random.Random, depth: int = 4) -> object:
    """A random value of the exact types that are literals."""
    if depth == 0 or rng.random() < 0.3:
        return scalar(rng)
    size = rng.randrange(5)
    draws: list[Callable[[], object]] = [
        lambda: [literal(rng, depth - 1) for _ in range(size)],
        lambda: tuple(literal(rng, depth - 1) for _ in range(size)),
        lambda: {hashable(rng, depth - 1): literal(rng, depth - 1) for _ in range(size)},
        lambda: {hashable(rng, depth - 1) for _ in range(size)},
        lambda: frozenset(hashable(rng, depth - 1) for _ in range(size)),
    ]
    return rng.choice(draws)()


@TIERS
def test_a_random_literal_is_the_same_after_every_journey(seed: int, scale: int) -> None:
    rng = random.Random(seed)
    for _ in range(600 * scale):
        value = literal(rng)
        text = canonical(value)
        assert canonical(parse_value(text)) == text
        assert equal(parse_value(text), value)
        (args, _) = marshal.loads(wire.encoded_call(Arguments((value,), {})))  # noqa: S302 - our own bytes
        assert canonical(args[0]) == text
        (answer,) = wire.answers(framed(marshal.dumps([("ok", value)], 2)), 1, Limits())
        assert answer.output.text == text


@TIERS
def test_random_literals_pass_through_programs_unchanged(executor: Executor, seed: int, scale: int) -> None:
    rng = random.Random(seed)
    batches = [[canonical(literal(rng)) for _ in range(20)] for _ in range(10 * scale)]
    jobs = [Job(program="def f(x):\n    return x", inputs=tuple(batch), interpreters=2) for batch in batches]
    for batch, execution in zip(batches, executor.run(jobs), strict=True):
        assert execution.status is Status.OK, execution.reason
        assert [output.text for output in execution.outputs] == batch


# ---- texts that are almost literals

PIECES = ["[", "]", "(", ")", "{", "}", ",", ":", "-", "+", "1", "0x", "1e9", "'", '"', "\\", "set(", "frozenset(", "dict(a=", "float('nan')", "None", "...", " ", "\n", "#", "b'", "r'", "_", ".", "j", "inf", "x", "=", "\0", "é", "１", "'''"]  # fmt: skip
TYPES = {type(None), bool, int, float, complex, str, bytes, type(...), list, tuple, set, frozenset, dict}


SIGNED = re.compile(r"[-+]\s*\(")  # Python has a sign before parentheses, and `1, 2` is one tuple, not two arguments


def mutated(rng: random.Random, text: str, pieces: list[str]) -> str:
    """The text with a few places cut, doubled or filled with something else."""
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.choice([0, 1, 1, 2, rng.randrange(1, 20)]))
        text = text[:start] + rng.choice([*pieces[: len(pieces) // 4], text[start:end] * 2, *rng.choices(pieces, k=9)]) + text[end:]  # fmt: skip
    return text


def ours(value: object) -> bool:
    """Whether Python's value is made of literal types all the way down."""
    if isinstance(value, dict):
        return all(ours(key) and ours(item) for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(ours, value))
    return type(value) in TYPES


@TIERS
def test_a_text_is_read_as_python_reads_it_or_refused(seed: int, scale: int) -> None:
    rng = random.Random(seed)
    read, refused = 0, 0
    for _ in range(3_000 * scale):
        text = mutated(rng, canonical(literal(rng, 3)), PIECES)
        try:
            value = parse_value(text)
        except Refused:
            refused += 1
            with suppress(SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
                python = ast.literal_eval(text.strip())
                assert "," in text or not ours(python) or SIGNED.search(text), text
            continue
        read += 1
        assert canonical(parse_value(canonical(value))) == canonical(value)
        with suppress(SyntaxError, ValueError, TypeError):
            assert equal(value, ast.literal_eval(text.strip())), text
    assert min(read, refused) > 100 * scale


# ---- frames


def framed(data: bytes) -> bytes:
    return struct.pack("=I", len(data)) + data


TAGS = [b"N", b"T", b"F", b".", b"i", b"l", b"g", b"y", b"s", b"u", b"[", b"(", b"<", b">", b"{", b"0", b"r", b"R", b"c", b"t", b"a", b"z", b"Z", b"\xdb", b"\xa9", b"S", b"I"]  # fmt: skip
COUNTS = [0, 1, 1, 2, 3, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1]


def soup(rng: random.Random, depth: int = 0) -> bytes:
    """Bytes in the shape of marshal's format: known tags with counts and contents that may not fit them."""
    tag = rng.choice(TAGS)
    if depth > 6 or tag in (b"N", b"T", b"F", b".", b"0"):
        return tag
    if tag in (b"[", b"(", b"<", b">", b"{"):
        items = [soup(rng, depth + 1) for _ in range(rng.randrange(4))]
        count = len(items) if rng.random() < 0.8 else rng.choice(COUNTS)
        return tag + (b"" if tag == b"{" else struct.pack("<I", count)) + b"".join(items) + b"0" * (tag == b"{")
    data = rng.randbytes(rng.choice([0, 1, 2, 4, 8, 16]))
    return tag + struct.pack("<I", rng.choice([len(data), len(data) // 2, rng.choice(COUNTS)])) + data


def altered(rng: random.Random, data: bytes) -> bytes:
    """The bytes with some changed, cut out, doubled or swapped with others."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 5)):
        start = rng.randrange(len(found) + 1)
        end = start + rng.choice([0, 1, 1, 1, 4, rng.randrange(9)])
        fillings = [
            b"",
            rng.randbytes(end - start),
            bytes(found[start:end]) * 2,
            soup(rng, 5),
            struct.pack("<I", rng.choice(COUNTS)),
        ]
        found[start:end] = rng.choice(fillings)
    return bytes(found)


def hostile_frame(rng: random.Random) -> tuple[bytes, int]:
    """A frame, and how many answers are wanted."""
    honest = [("ok", literal(rng)), ("raised", "E", "text"), ("opaque", "a.B", "text"), ("large", 70_000)]
    items = [rng.choice(honest) for _ in range(rng.randint(1, 3))]
    draws: list[Callable[[], bytes]] = [
        lambda: altered(rng, marshal.dumps(items, 2)),
        lambda: marshal.dumps(items, rng.choice([0, 1, 3, 4])),
        lambda: b"[\1\0\0\0(\2\0\0\0u\2\0\0\0ok" + soup(rng),
        lambda: b"[" + struct.pack("<I", rng.choice(COUNTS)) + soup(rng),
        lambda: rng.randbytes(rng.randrange(40)),
        lambda: marshal.dumps(items, 2),
    ]
    data = rng.choice(draws)()
    return (framed(data) if rng.random() < 0.9 else altered(rng, framed(data))), len(items)


@TIERS
def test_whatever_a_child_writes_gives_answers_or_a_declared_refusal(seed: int, scale: int) -> None:
    rng = random.Random(seed)
    read = 0
    for _ in range(4_000 * scale):
        data, calls = hostile_frame(rng)
        try:
            found = wire.answers(data, calls, Limits())
        except (wire.Malformed, Refused):
            continue
        read += 1
        assert len(found) == calls
        for answer in found:
            assert (answer.output.text is None) != (answer.output.error is None)
            if answer.output.text is not None:
                assert canonical(parse_value(answer.output.text)) == answer.output.text
            else:
                assert answer.output.error.isprintable()
    assert read > 200 * scale


# ---- programs

_WORDS = "def f ( x ) : return lambda if else for in while not and or is None True 0 1 2 x x x f [ ] { } , . = == + - * ** // % @ & < > class try except finally raise yield await async import global del with as match case print len str int list dict set range sum sorted map zip '' 'a' \n \n\n \n\t \t # \\ ; -> := ... f'{x}' b'' __class__ __dict__ __import__ object type super eval exec open hash id iter next"
WORDS = _WORDS.split(" ")  # newlines and tabs are words, too


def program(rng: random.Random) -> tuple[str, str]:
    """A text that may be a program, and one that may be its input."""
    one, attack = rng.choice(REAL), rng.choice(HOSTILE)
    words = " ".join(rng.choices(WORDS, k=rng.randint(1, 30)))
    draws: list[Callable[[], tuple[str, str]]] = [
        lambda: (words, "1"),
        lambda: (f"def f(x):\n    return {words}", "[1, 2, 3]"),
        lambda: (mutated(rng, one["snippet"], WORDS), one["input"]),
        lambda: (mutated(rng, one["snippet"], WORDS), one["input"]),
        lambda: (one["snippet"], mutated(rng, one["input"], PIECES)),
        lambda: (rng.choice(REAL)["snippet"], one["input"]),
        lambda: (mutated(rng, attack["snippet"], WORDS), attack["input"]),
        lambda: (rng.randbytes(rng.randrange(200)).decode("latin-1"), "1"),
        lambda: (rng.randbytes(rng.randrange(60)).decode("utf-8", "surrogateescape"), "1"),
    ]
    return rng.choice(draws)()


def check(execution: Execution, inputs: int) -> None:
    """What holds for every execution, whatever the program was."""
    assert isinstance(execution.status, Status)
    assert len(execution.outputs) == inputs
    assert (execution.status is Status.OK) == (execution.reason is None)
    for output in execution.outputs:
        assert (output.text is None) != (output.error is None)
        if output.text is not None:
            assert canonical(parse_value(output.text)) == output.text
    if execution.status is Status.OK:
        assert all(output.text is not None for output in execution.outputs)


def jobs_of(rng: random.Random, count: int, interpreters: tuple[int, ...]) -> list[Job]:
    texts = [program(rng) for _ in range(count)]
    limits = Limits(cpu_s=0.2, memory_mb=128)
    return [
        Job(program=text, inputs=(given,), limits=limits, interpreters=rng.choice(interpreters))
        for text, given in texts
    ]


@TIERS
def test_random_programs_end_in_a_declared_way(executor: Executor, seed: int, scale: int) -> None:
    found = executor.run(jobs_of(random.Random(seed), 200 * scale, (1, 2)))
    for execution in found:
        check(execution, 1)
    assert {Status.OK, Status.ERROR, Status.REJECTED} <= {execution.status for execution in found}
    after = executor.run([Job(program="def f(x):\n    return x + 1", inputs=("1",), interpreters=2)])
    assert after[0].outputs[0].text == "2"


UNSETTLED = {Status.NONDETERMINISTIC, Status.TIMEOUT}  # chance, and a program near its limit, may end otherwise


@TIERS
def test_a_lane_never_changes_what_a_random_program_gives(executor: Executor, seed: int, scale: int) -> None:
    jobs = jobs_of(random.Random(seed + 100), 150 * scale, (2,))
    together = executor.run(jobs)
    with Executor(workers=2, lanes=frozenset({Lane.SLOW})) as slow:
        alone = slow.run(jobs)
    differing = [
        (job.program, job.inputs, one, other)
        for job, one, other in zip(jobs, together, alone, strict=True)
        if (one.status, one.outputs) != (other.status, other.outputs) and not {one.status, other.status} & UNSETTLED
    ]
    assert differing == []
    assert Lane.FAST in {execution.lane for execution in together}
