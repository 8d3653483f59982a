"""The language of the nano base: a small part of Python, as tables of operations that can be drawn at random.

Values are integers, lists of integers, short strings and tuples of two or three integers. A template's ``{x}`` is the
latest value, ``{y}`` another variable, ``{k}`` a number 1-9, ``{m}`` a number 2-5 and ``{c}`` a letter in quotes.
"""

from __future__ import annotations

import random
import re
from enum import StrEnum
from typing import NamedTuple


class Type(StrEnum):
    """The types of values."""

    INT = "int"
    LIST = "list"
    TEXT = "str"
    PAIR = "tuple"


class Operation(NamedTuple):
    """An expression over the latest value: result type, type of the other variable (if any), word for messages."""

    result: Type
    other: Type | None
    template: str
    word: str
    weight: float


class Filled(NamedTuple):
    """A template with everything put in, and the constants that were drawn for it, as they stand in the text."""

    text: str
    constants: tuple[str, ...]


class Fold(NamedTuple):
    """A ``for`` loop over `items` (element ``n``) that changes an accumulator ``{z}`` from `start` by `step`."""

    result: Type
    start: str
    items: str
    step: str
    word: str
    weight: float


Value = int | str | list[int] | tuple[int, ...]

VARIABLES = "abcdehij"
LETTERS = "pqrst"
HELPER = "g"
IDENTITY = "def f(a):\n    return a"
_I, _L, _S, _P = Type.INT, Type.LIST, Type.TEXT, Type.PAIR

OPERATIONS: dict[Type, tuple[Operation, ...]] = {
    _I: (
        Operation(_I, None, "{x} + {k}", "add", 4),
        Operation(_I, None, "{x} - {k}", "subtract", 4),
        Operation(_I, None, "{x} * {m}", "times", 3),
        Operation(_I, None, "{x} // {m}", "divide", 2),
        Operation(_I, None, "{x} % {m}", "modulo", 2),
        Operation(_I, None, "max({x}, {k})", "least", 1.5),
        Operation(_I, None, "min({x}, {k})", "most", 1.5),
        Operation(_I, None, "abs({x})", "absolute", 0.7),
        Operation(_I, None, "-{x}", "negate", 1),
        Operation(_I, None, "{k} - {x}", "from", 1),
        Operation(_I, _I, "{x} + {y}", "plus", 2.5),
        Operation(_I, _I, "{x} - {y}", "minus", 2.5),
        Operation(_I, _I, "{x} * {y}", "product", 1),
        Operation(_I, _I, "max({x}, {y})", "larger", 1),
        Operation(_I, _I, "min({x}, {y})", "smaller", 1),
        Operation(_P, None, "({x}, {k})", "tuple", 0.7),
        Operation(_P, _I, "({x}, {y})", "couple", 1.2),
        Operation(_P, None, "divmod({x}, {m})", "divmod", 0.7),
        Operation(_L, None, "[{x}, {k}]", "list", 1),
        Operation(_L, None, "[{x}] * {m}", "repeat", 1),
        Operation(_L, _I, "[{x}, {y}]", "pair", 1.5),
        Operation(_L, _L, "[{x}] + {y}", "before", 2),
        Operation(_L, _L, "{y} + [{x}]", "after", 2),
        Operation(_L, _L, "[v + {x} for v in {y}]", "shift", 2),
        Operation(_L, _L, "[v - {x} for v in {y}]", "lower", 1),
        Operation(_L, _L, "[v for v in {y} if v > {x}]", "exceeding", 1.5),
        Operation(_L, _L, "{y}[:{x}]", "take", 1),
        Operation(_I, _L, "{y}.count({x})", "counting", 0.7),
        Operation(_S, None, "{c} * {x}", "letters", 1),
        Operation(_S, _S, "{y} * {x}", "copies", 1),
        Operation(_S, _S, "{y}[:{x}]", "take", 1),
    ),
    _L: (
        Operation(_L, None, "{x}[::-1]", "reverse", 2.5),
        Operation(_L, None, "sorted({x})", "sort", 2),
        Operation(_L, None, "{x} + [{k}]", "append", 2),
        Operation(_L, None, "[{k}] + {x}", "prepend", 2),
        Operation(_L, None, "{x}[1:]", "tail", 2),
        Operation(_L, None, "{x}[:-1]", "init", 2),
        Operation(_L, None, "{x}[:{m}]", "head", 1),
        Operation(_L, None, "{x}[::2]", "skip", 1),
        Operation(_L, None, "[v + {k} for v in {x}]", "increase", 2),
        Operation(_L, None, "[v - {k} for v in {x}]", "decrease", 2),
        Operation(_L, None, "[v * {m} for v in {x}]", "scale", 1.5),
        Operation(_L, None, "[v % {m} for v in {x}]", "remainders", 1),
        Operation(_L, None, "[v for v in {x} if v > {k}]", "above", 1.5),
        Operation(_L, None, "[v for v in {x} if v < {k}]", "below", 1.5),
        Operation(_L, None, "[v for v in {x} if v % 2 == 0]", "even", 1),
        Operation(_L, _I, "{x} + [{y}]", "after", 1.5),
        Operation(_L, _I, "[v + {y} for v in {x}]", "shift", 1.5),
        Operation(_L, _I, "[v for v in {x} if v > {y}]", "exceeding", 1),
        Operation(_L, _L, "{x} + {y}", "join", 2),
        Operation(_I, None, "sum({x})", "sum", 2),
        Operation(_I, None, "len({x})", "length", 2),
        Operation(_I, None, "max({x})", "max", 2),
        Operation(_I, None, "min({x})", "min", 2),
        Operation(_I, None, "{x}[0]", "first", 2),
        Operation(_I, None, "{x}[-1]", "last", 2),
        Operation(_I, None, "{x}.count({k})", "count", 0.7),
        Operation(_P, None, "(min({x}), max({x}))", "range", 0.8),
        Operation(_P, None, "({x}[0], {x}[-1])", "ends", 0.8),
    ),
    _S: (
        Operation(_S, None, "{x}[::-1]", "reverse", 2),
        Operation(_S, None, "{x} + {c}", "append", 2),
        Operation(_S, None, "{c} + {x}", "prepend", 2),
        Operation(_S, None, "{x}[1:]", "tail", 2),
        Operation(_S, None, "{x}[:-1]", "init", 2),
        Operation(_S, None, "{x} * 2", "repeat", 1),
        Operation(_S, None, "{x}[0]", "first", 0.7),
        Operation(_S, None, "{x}.replace({c}, {c})", "replace", 1.5),
        Operation(_S, _S, "{x} + {y}", "join", 2),
        Operation(_S, _I, "{x}[:{y}]", "take", 1),
        Operation(_I, None, "len({x})", "length", 1.5),
        Operation(_I, None, "{x}.count({c})", "count", 1.5),
    ),
    _P: (
        Operation(_I, None, "{x}[0]", "first", 2),
        Operation(_I, None, "{x}[1]", "second", 2),
        Operation(_I, None, "sum({x})", "sum", 1.5),
        Operation(_I, None, "max({x})", "max", 1.5),
        Operation(_I, None, "{x}[0] - {x}[1]", "difference", 1.5),
        Operation(_I, None, "{x}[0] * {x}[1]", "product", 1),
        Operation(_P, None, "{x}[::-1]", "reverse", 2),
        Operation(_P, None, "{x} + ({k},)", "append", 1),
        Operation(_L, None, "[v + {k} for v in {x}]", "increase", 1),
        Operation(_L, None, "[v * {m} for v in {x}]", "scale", 1),
        Operation(_L, None, "sorted({x})", "sort", 1),
    ),
}

FOLDS: dict[Type, tuple[Fold, ...]] = {
    _I: (
        Fold(_I, "{x}", "range({m})", "{z} + n", "climb", 1),
        Fold(_I, "{x}", "range({m})", "{z} * 2", "double", 1),
        Fold(_L, "[]", "range({m})", "{z} + [{x} + n]", "count", 1),
    ),
    _L: (
        Fold(_I, "0", "{x}", "{z} + n", "sum", 1.5),
        Fold(_I, "{k}", "{x}", "{z} - n", "subtract", 1),
        Fold(_I, "0", "{x}", "n - {z}", "alternate", 1),
        Fold(_I, "{k}", "{x}", "max({z}, n)", "max", 1),
        Fold(_L, "[]", "{x}", "[n] + {z}", "reverse", 1),
        Fold(_L, "[]", "{x}", "{z} + [n - {k}]", "decrease", 1),
    ),
    _S: (
        Fold(_S, "''", "{x}", "n + {z}", "reverse", 1.5),
        Fold(_S, "{c}", "{x}", "{z} + n", "prepend", 1),
    ),
    _P: (Fold(_I, "{k}", "{x}", "{z} + n", "sum", 1),),
}

CONDITIONS: dict[Type, tuple[str, ...]] = {
    _I: ("{x} > {k}", "{x} < {k}", "{x} % 2 == 0"),
    _L: ("len({x}) > {m}", "sum({x}) > {k}", "{x}[0] > {k}"),
    _S: ("len({x}) > {m}", "{c} in {x}"),
    _P: ("{x}[0] > {x}[1]", "sum({x}) > {k}"),
}

ARGUMENT_TYPES = ((_I, _L, _S, _P), (0.40, 0.41, 0.13, 0.06))
WORDS = tuple(
    sorted(
        {rule.word for table in (OPERATIONS, FOLDS) for rules in table.values() for rule in rules}
        | {"if", "loop", "call"}
    )
)
_HOLE = re.compile(r"\{([kmc])\}")
_NUMBERS = {"k": (1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9), "m": (2, 2, 3, 3, 4, 5)}


def fill(draw: random.Random, template: str, *, x: str, y: str = "", z: str = "") -> Filled:
    """A template with its names put in and its constants drawn."""
    constants: list[str] = []

    def constant(hole: re.Match[str]) -> str:
        kind = hole.group(1)
        text = f"'{draw.choice(LETTERS)}'" if kind == "c" else str(draw.choice(_NUMBERS[kind]))
        constants.append(text)
        return text

    written = _HOLE.sub(constant, template)
    return Filled(written.replace("{x}", x).replace("{y}", y).replace("{z}", z), tuple(constants))


def number(draw: random.Random) -> int:
    """An integer argument or element: mostly 0-9, sometimes negative or up to 20."""
    return draw.choices((draw.randint(0, 9), draw.randint(-9, -1), draw.randint(10, 20)), (0.7, 0.15, 0.15))[0]


def value(draw: random.Random, of: Type) -> Value:
    """A random argument of a type."""
    if of is Type.INT:
        return number(draw)
    if of is Type.PAIR:
        return number(draw), number(draw)
    length = draw.choice((1, 2, 3, 3, 4, 4, 5))
    if of is Type.LIST:
        return [number(draw) for _ in range(length)]
    return "".join(draw.choice(LETTERS) for _ in range(length))


def small(result: Value) -> bool:
    """Whether a value stays within what the language allows (so that the model can write it)."""
    if isinstance(result, int):
        return abs(result) <= 99
    if isinstance(result, str):
        return len(result) <= 8
    return len(result) <= 6 and all(abs(element) <= 99 for element in result)
