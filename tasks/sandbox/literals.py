"""Text to literal: the parser for everything that a model writes as data.

No `eval`, no `ast` but for one string token at a time, no names but a fixed table; nesting and sizes are bounded and
hash tables guarded, so that nothing the text can say costs more than about linear work. docs/sandbox.md says in words
what is accepted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tasks.sandbox.bounds import MAX_DEPTH, Keys, Refused
from tasks.sandbox.tokens import CONSTANTS, NUMBERS, SIGNS, Token, read_float, read_integer, read_string, tokens_of


class Arguments(NamedTuple):
    """The arguments of one call, literals all."""

    args: tuple[object, ...]
    kwargs: dict[str, object]


def parse_arguments(text: str) -> Arguments:
    """The arguments in the text between a call's parentheses, `1, [2], k=3`; raises Refused for anything else."""
    return _Parser(text).arguments("", 0)


def parse_value(text: str) -> object:
    """The one literal that the text spells; raises Refused for anything else."""
    parser = _Parser(text)
    value = parser.value(0)
    parser.expect("")
    return value


_END = Token("mark", "")


class _Parser:
    """Recursive descent over the tokens of one text; every method consumes what it returns."""

    def __init__(self, text: str) -> None:
        self._tokens = tokens_of(text)
        self._at = 0
        self._keys = Keys()

    def _peek(self, ahead: int = 0) -> Token:
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else _END

    def _next(self) -> Token:
        token = self._peek()
        self._at += 1
        return token

    def _skip(self, mark: str) -> bool:
        """Whether the next token is this mark ("" is the end); only then it is consumed."""
        found = self._peek() == ("mark", mark)
        self._at += found
        return found

    def expect(self, mark: str) -> None:
        if not self._skip(mark):
            raise Refused(f"{mark or 'the end'!r} expected, not {self._peek().text[:20] or 'the end'!r}")

    def _more(self, close: str) -> bool:
        """After an item: whether another one follows; the comma, or the closing mark, is consumed."""
        if self._skip(close):
            return False
        self.expect(",")
        return not self._skip(close)

    def arguments(self, close: str, depth: int) -> Arguments:
        args: list[object] = []
        kwargs: dict[str, object] = {}
        going = not self._skip(close)
        while going:
            name = self._keyword()
            if name is None and kwargs:
                raise Refused("an argument without a name after one with a name")
            if name in kwargs:
                raise Refused(f"the argument {name} twice")
            value = self.value(depth)
            if name is None:
                args.append(value)
            else:
                kwargs[name] = value
            going = self._more(close)
        return Arguments(tuple(args), kwargs)

    def _keyword(self) -> str | None:
        token = self._peek()
        if token.kind != "name" or self._peek(1) != ("mark", "="):
            return None
        self._at += 2
        return token.text

    def value(self, depth: int) -> object:
        if depth > MAX_DEPTH:
            raise Refused(f"more than {MAX_DEPTH} containers around a value")
        kind, text = self._peek()
        if kind == "string":
            return self._strings()
        if kind in ("integer", "float") or text in SIGNS or text in NUMBERS:
            return self._number(depth)
        if kind == "name":
            return self._named(depth)
        self._at += 1
        if text not in _READERS:
            raise Refused(f"a literal expected, not {text or 'the end'!r}")
        return _READERS[text](self, depth + 1)

    def _strings(self) -> str | bytes:
        """One string, written as one token or several side by side."""
        parts = [read_string(self._next().text)]
        while self._peek().kind == "string":
            parts.append(read_string(self._next().text))
        if all(isinstance(part, str) for part in parts):
            return "".join(part for part in parts if isinstance(part, str))
        if all(isinstance(part, bytes) for part in parts):
            return b"".join(part for part in parts if isinstance(part, bytes))
        raise Refused("str and bytes side by side")

    def _sign(self) -> int:
        return SIGNS[self._next().text] if self._peek().text in SIGNS else 1

    def _number(self, depth: int) -> int | float | complex:
        """A number and its sign, or the two parts of a complex one, `a+bj`."""
        sign, value = self._sign(), self._magnitude(depth)
        if isinstance(value, complex):
            return complex(0.0, sign * value.imag)
        if self._peek().text not in SIGNS:
            return sign * value
        real = sign * float(value)  # -0 is a float here, as in what repr() writes: (-0+1j)
        sign, imaginary = self._sign(), self._magnitude(depth)
        if isinstance(imaginary, complex):
            return complex(real, sign * imaginary.imag)
        raise Refused("arithmetic is not a literal")

    def _magnitude(self, depth: int) -> int | float | complex:
        kind, text = self._peek()
        if kind == "name" and text not in NUMBERS:
            value = self._named(depth)
            if isinstance(value, float):
                return value
        elif text in NUMBERS:
            return NUMBERS[self._next().text]
        elif kind in ("integer", "float"):
            return read_integer(self._next().text) if kind == "integer" else read_float(self._next().text)
        raise Refused(f"a number expected, not {text[:20] or 'the end'!r}")

    def _named(self, depth: int) -> object:
        """A constant, or one of the calls by which Python itself writes literals."""
        name = self._next().text
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name not in _CALLS or not self._skip("("):
            raise Refused(f"{name[:40]} is not a literal")
        return _CALLS[name](self, self.arguments(")", depth + 1))

    def _items(self, close: str, depth: int) -> list[object]:
        items: list[object] = []
        going = not self._skip(close)
        while going:
            items.append(self.value(depth))
            going = self._more(close)
        return items

    def _list(self, depth: int) -> list[object]:
        return self._items("]", depth)

    def _parenthesis(self, depth: int) -> object:
        if self._skip(")"):
            return ()
        first = self.value(depth)
        return first if self._skip(")") else (first, *self._rest(")", depth))

    def _rest(self, close: str, depth: int) -> list[object]:
        """The items after the first one."""
        if self._skip(close):
            return []
        self.expect(",")
        return self._items(close, depth)

    def _braces(self, depth: int) -> object:
        if self._skip("}"):
            return {}
        first = self.value(depth)
        if not self._skip(":"):
            return self.set_of([first, *self._rest("}", depth)])
        pairs = [(first, self.value(depth))]
        while self._more("}"):
            key = self.value(depth)
            self.expect(":")
            pairs.append((key, self.value(depth)))
        self._keys.check([key for key, _ in pairs])
        return dict(pairs)

    def set_of(self, members: Sequence[object]) -> set[object]:
        self._keys.check(members)
        return set(members)


def _call_set(parser: _Parser, found: Arguments) -> set[object]:
    """The set that `set(...)` or `frozenset(...)` makes of what it was given."""
    members = found.args[0] if found.args else ()
    if found.kwargs or len(found.args) > 1 or not isinstance(members, list | tuple | set | frozenset):
        raise Refused("set() takes one list, tuple or set")
    return parser.set_of(list(members))


def _call_dict(_parser: _Parser, found: Arguments) -> object:
    if found.args:
        raise Refused("dict() takes named entries only")
    return found.kwargs


def _call_float(_parser: _Parser, found: Arguments) -> object:
    text = found.args[0] if len(found.args) == 1 and not found.kwargs else None
    match = _FLOAT_WORDS.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise Refused("float() is a literal only for 'inf', '-inf' and 'nan'")
    return float(match[0])


_FLOAT_WORDS = re.compile(r"[+-]?(inf|infinity|nan)", re.IGNORECASE)
_READERS: dict[str, Callable[[_Parser, int], object]] = {
    "...": lambda _parser, _depth: ...,
    "(": _Parser._parenthesis,
    "[": _Parser._list,
    "{": _Parser._braces,
}
_CALLS: dict[str, Callable[[_Parser, Arguments], object]] = {
    "set": _call_set,
    "frozenset": lambda parser, found: frozenset(_call_set(parser, found)),
    "dict": _call_dict,
    "float": _call_float,
}
