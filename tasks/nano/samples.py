"""Samples: a drawn program with several inputs, their outputs and the traces of the first pair."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tasks.nano.holdout import Split, split
from tasks.nano.language import LETTERS, Type, Value, fill, number, value
from tasks.nano.programs import Assign, Program, Refused, execute, generate, source
from tasks.nano.traces import backward, forward


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A task made by rule: text of the program, (input, output) pairs as literal text, traces of the first pair."""

    program: str
    pairs: tuple[tuple[str, str], ...]
    forward: str
    backward: str
    words: tuple[str, ...]
    operations: int


TRAINING_LEVELS = {1: 0.2, 2: 0.3, 3: 0.3, 4: 0.2}
EASY_LEVELS = {1: 0.45, 2: 0.35, 3: 0.15, 4: 0.05}
_DISTINCT_OUTPUTS = 3


def draw_sample(
    draw: random.Random, *, levels: dict[int, float] = TRAINING_LEVELS, pairs: int = 6, part: Split = Split.TRAINING
) -> Sample:
    """A fresh sample of a part of the split; `levels` weighs the numbers of operations.

    Inputs are distinct; with three pairs or more at least three outputs differ, so constant functions do not occur.
    """
    while True:
        operations = draw.choices(tuple(levels), tuple(levels.values()))[0]
        try:
            program = generate(draw, operations)
            if split(source(program)) is not part:
                continue
            arguments = _distinct(draw, program.arguments, pairs)
            sample = make_sample(program, arguments)
        except Refused:
            continue
        if len({output for _, output in sample.pairs}) >= min(_DISTINCT_OUTPUTS, pairs):
            return sample


def make_sample(program: Program, arguments: list[tuple[Value, ...]]) -> Sample:
    """Run a program on its arguments; raises Refused when it fails on one of them."""
    runs = [execute(program, values) for values in arguments]
    inputs = [", ".join(map(repr, values)) for values in arguments]
    return Sample(
        program=source(program),
        pairs=tuple((text, repr(run.output)) for text, run in zip(inputs, runs, strict=True)),
        forward=forward(program, runs[0]),
        backward=backward(program, runs[0]),
        words=program.words,
        operations=program.operations,
    )


def _distinct(draw: random.Random, types: tuple[Type, ...], count: int) -> list[tuple[Value, ...]]:
    found: dict[str, tuple[Value, ...]] = {}
    for _ in range(count * 4):
        values = tuple(value(draw, of) for of in types)
        found.setdefault(repr(values), values)
        if len(found) == count:
            return list(found.values())
    raise Refused("not enough distinct inputs")


_COPIES = ("{x}", "{x}", "{x}[1:]", "{x}[:-1]", "{x}[::-1]")
_EXTENSIONS = {Type.LIST: ("{x} + [{k}]", "[{k}] + {x}"), Type.TEXT: ("{x} + {c}", "{c} + {x}")}


def draw_copying(draw: random.Random) -> Sample:
    """A sample on copying alone (identity, slices, append, prepend) over longer values: the warm-up."""
    while True:
        of = Type.LIST if draw.random() < 0.65 else Type.TEXT
        names = "abc"[: draw.choice((1, 1, 2, 3))]
        expressions = [fill(draw, draw.choice(_COPIES + _EXTENSIONS[of]), x=name).text for name in names]
        steps = tuple(Assign(name, text) for name, text in zip(names[1:], expressions, strict=False))
        program = Program(arguments=(of,), steps=steps, result=expressions[-1], words=(), operations=len(names))
        length = draw.randint(2, 6)
        long: Value = [number(draw) for _ in range(length)]
        if of is Type.TEXT:
            long = "".join(draw.choice(LETTERS) for _ in range(length))
        if split(source(program)) is not Split.TRAINING:
            continue
        try:
            return make_sample(program, [(long,)])
        except Refused:
            continue
