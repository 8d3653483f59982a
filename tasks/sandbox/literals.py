"""Text to literal: the parser for everything that a model writes as data.

No `eval`, no `ast` but for one string token at a time, no names but a fixed table; nesting and sizes are bounded and
hash tables guarded, so that nothing the text can say costs more than about linear work. docs/sandbox.md says in words
what is accepted.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

MAX_TEXT = 65_536
"""Characters of one literal or argument list."""
MAX_DEPTH = 60
"""Containers inside one another."""
MAX_INT_BITS = 14_284
"""Largest int whose decimal text has at most 4300 digits, Python's own limit for int <-> str."""
MAX_COLLISIONS = 64
"""Members of one set or dict that may share a hash; more is an attack on the hash table."""


class Refused(ValueError):
    """The text or value is not a literal that this project represents; the message says why."""


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


# ---- guarded values, also used by the decoder of a child's answer


def checked_int(value: int) -> int:
    """The int itself; raises Refused when its decimal text would pass Python's limit of 4300 digits."""
    if value.bit_length() > MAX_INT_BITS:
        raise Refused(f"an int of {value.bit_length()} bits, {MAX_INT_BITS} are the limit")
    return value


def checked_keys(keys: Sequence[object]) -> None:
    """Raises Refused when a set or dict of these would be slow to build, or cannot be built at all."""
    try:
        hashes = list(map(hash, keys))
    except TypeError as error:
        raise Refused(f"{error} in a set or as a key") from error
    if len(keys) > MAX_COLLISIONS:
        most = max(Counter(hashes).values())
        if most > MAX_COLLISIONS:
            raise Refused(f"{most} members of a set or dict share one hash, {MAX_COLLISIONS} are the limit")


def _set(members: Sequence[object]) -> set[object]:
    checked_keys(members)
    return set(members)


def _dict(pairs: Sequence[tuple[object, object]]) -> dict[object, object]:
    checked_keys([key for key, _ in pairs])
    return dict(pairs)


# ---- tokens

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f]+ | \#[^\n]*)
      | (?P<string>(?:[rR][bB]? | [bB][rR]? | [uU])?
            (?:'''(?:[^\\]|\\[\s\S])*?''' | \"\"\"(?:[^\\]|\\[\s\S])*?\"\"\"
             | '(?:[^'\\\n]|\\[\s\S])*' | "(?:[^"\\\n]|\\[\s\S])*"))
      | (?P<integer>0[xXoObB][0-9a-fA-F_]+ | [0-9][0-9_]*(?![0-9_.eEjJ]))
      | (?P<float>(?:[0-9][0-9_]*(?:\.[0-9_]*)? | \.[0-9][0-9_]*)(?:[eE][+-]?[0-9_]+)?[jJ]?)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<mark>\.\.\. | [()\[\]{},:=+-])""",
    re.VERBOSE,
)
_INF, _NAN = float("inf"), float("nan")
_NUMBERS = {"inf": _INF, "nan": _NAN, "infj": complex(0.0, _INF), "nanj": complex(0.0, _NAN)}  # as repr() writes them
_CONSTANTS = {"None": None, "True": True, "False": False, "Ellipsis": ...}
_FLOAT_WORDS = re.compile(r"([+-]?)(inf|infinity|nan)", re.IGNORECASE)
_ESCAPES = {str: "\n\\'\"abfnrtv01234567xuUN", bytes: "\n\\'\"abfnrtv01234567x"}


class _Token(NamedTuple):
    kind: str
    text: str


_END = _Token("mark", "")


def _tokens(text: str) -> list[_Token]:
    if len(text) > MAX_TEXT:
        raise Refused(f"{len(text)} characters, {MAX_TEXT} are the limit")
    tokens, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise Refused(f"{text[at : at + 12]!r} is not part of a literal")
        at = match.end()
        if match.lastgroup != "space":
            tokens.append(_Token(match.lastgroup, match[0]))
    return tokens


def _integer(text: str) -> int:
    try:
        return checked_int(int(text, 0))
    except ValueError as error:
        raise Refused(f"{text[:20]} is not an int: {error}") from error


def _float(text: str) -> float | complex:
    try:
        return complex(0.0, float(text[:-1])) if text[-1] in "jJ" else float(text)
    except ValueError as error:
        raise Refused(f"{text[:20]} is not a float") from error


def _string(token: str) -> str | bytes:
    """The value of one string token."""
    prefix = token[: min(token.find("'") % len(token), token.find('"') % len(token))].lower()
    if "\\" in token and "r" not in prefix:
        known = _ESCAPES[bytes if "b" in prefix else str]
        # Python keeps an unknown escape as it stands and warns; a doubled backslash says the same without the warning.
        token = re.sub(r"\\([\s\S])", lambda found: found[0] if found[1] in known else "\\" + found[0], token)
    try:
        value: object = ast.literal_eval(token)
    except (SyntaxError, ValueError) as error:
        raise Refused(f"{token[:20]} is not a string") from error
    if isinstance(value, str | bytes):
        return value
    raise Refused(f"{token[:20]} is not a string")


# ---- grammar


class _Parser:
    """Recursive descent over the tokens of one text; every method consumes what it returns."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0

    def _peek(self, ahead: int = 0) -> _Token:
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else _END

    def _next(self) -> _Token:
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
            raise Refused(f"more than {MAX_DEPTH} containers inside one another")
        kind, text = self._peek()
        if kind == "string":
            return self._strings()
        if kind in ("integer", "float") or text in _SIGNS or text in _NUMBERS:
            return self._number(depth)
        if kind == "name":
            return self._named(depth)
        self._at += 1
        if text not in _READERS:
            raise Refused(f"a literal expected, not {text or 'the end'!r}")
        return _READERS[text](self, depth + 1)

    def _strings(self) -> str | bytes:
        """One string, written as one token or several side by side."""
        parts = [_string(self._next().text)]
        while self._peek().kind == "string":
            parts.append(_string(self._next().text))
        if all(isinstance(part, str) for part in parts):
            return "".join(part for part in parts if isinstance(part, str))
        if all(isinstance(part, bytes) for part in parts):
            return b"".join(part for part in parts if isinstance(part, bytes))
        raise Refused("str and bytes side by side")

    def _sign(self) -> int:
        return _SIGNS[self._next().text] if self._peek().text in _SIGNS else 1

    def _number(self, depth: int) -> int | float | complex:
        """A number and its sign, or the two parts of a complex one, `a+bj`."""
        sign, value = self._sign(), self._magnitude(depth)
        if isinstance(value, complex):
            return complex(0.0, sign * value.imag)
        if self._peek().text not in _SIGNS:
            return sign * value
        real = sign * float(value)  # -0 is a float here, as in what repr() writes: (-0+1j)
        sign, imaginary = self._sign(), self._magnitude(depth)
        if isinstance(imaginary, complex):
            return complex(real, sign * imaginary.imag)
        raise Refused("arithmetic is not a literal")

    def _magnitude(self, depth: int) -> int | float | complex:
        kind, text = self._peek()
        if kind == "name" and text not in _NUMBERS:
            value = self._named(depth)
            if isinstance(value, float):
                return value
        elif text in _NUMBERS:
            return _NUMBERS[self._next().text]
        elif kind in ("integer", "float"):
            return _integer(self._next().text) if kind == "integer" else _float(self._next().text)
        raise Refused(f"a number expected, not {text[:20] or 'the end'!r}")

    def _named(self, depth: int) -> object:
        """A constant, or one of the calls by which Python itself writes literals."""
        name = self._next().text
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if name not in _CALLS or not self._skip("("):
            raise Refused(f"{name[:40]} is not a literal")
        return _CALLS[name](self.arguments(")", depth + 1))

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
            return _set([first, *self._rest("}", depth)])
        pairs = [(first, self.value(depth))]
        while self._more("}"):
            key = self.value(depth)
            self.expect(":")
            pairs.append((key, self.value(depth)))
        return _dict(pairs)


def _call_set(found: Arguments) -> list[object]:
    """The members that `set(...)` or `frozenset(...)` was given."""
    if found.kwargs or len(found.args) > 1:
        raise Refused("set() takes one list, tuple or set")
    members = found.args[0] if found.args else ()
    if not isinstance(members, list | tuple | set | frozenset):
        raise Refused("set() takes one list, tuple or set")
    checked_keys(list(members))
    return list(members)


def _call_dict(found: Arguments) -> object:
    if found.args:
        raise Refused("dict() takes named entries only")
    return found.kwargs


def _call_float(found: Arguments) -> object:
    text = found.args[0] if len(found.args) == 1 and not found.kwargs else None
    match = _FLOAT_WORDS.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise Refused("float() is a literal only for 'inf', '-inf' and 'nan'")
    return float(match[0])


_SIGNS = {"+": 1, "-": -1}
_READERS: dict[str, Callable[[_Parser, int], object]] = {
    "...": lambda _parser, _depth: ...,
    "(": _Parser._parenthesis,
    "[": _Parser._list,
    "{": _Parser._braces,
}
_CALLS: dict[str, Callable[[Arguments], object]] = {
    "set": lambda found: set(_call_set(found)),
    "frozenset": lambda found: frozenset(_call_set(found)),
    "dict": _call_dict,
    "float": _call_float,
}
