"""What a literal is, how it is written, and when two are equal. docs/sandbox.md is the definition; this is its code.

A literal is None, bool, int, float, complex, str, bytes, Ellipsis, list, tuple, set, frozenset or dict of exactly these
types, subclasses excluded, at most MAX_DEPTH deep. Reading text is in `literals`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import EllipsisType, NoneType
from typing import NamedTuple

from tasks.sandbox.bounds import MAX_DEPTH, MAX_INT_BITS, MAX_TEXT, Refused, checked_int
from tasks.sandbox.literals import Arguments, parse_arguments, parse_value

__all__ = [
    "MAX_DEPTH",
    "MAX_INT_BITS",
    "MAX_TEXT",
    "Arguments",
    "Refused",
    "canonical",
    "canonical_arguments",
    "equal",
    "parse_arguments",
    "parse_value",
]


class _Form(NamedTuple):
    """A way to write literals: how numbers with a sign of zero look, and in which order a dict's entries come."""

    number: Callable[[float | complex], str]
    entries: Callable[[Iterable[str]], Iterable[str]]


def canonical(value: object) -> str:
    """The one text under which a value is stored and shown; `parse_value` reads it back.

    It is what `repr` prints, but for sets, whose members are sorted by their text so that no hash seed shows. A dict
    keeps the order of its entries. Raises Refused for what is not a literal.
    """
    return _text(value, _STORED, 0)


def canonical_arguments(arguments: Arguments) -> str:
    """The text between the parentheses of a call with these arguments; raises Refused for what is not a literal."""
    named = [f"{name}={canonical(value)}" for name, value in arguments.kwargs.items()]
    return ", ".join([canonical(value) for value in arguments.args] + named)


def equal(a: object, b: object) -> bool:
    """Whether one literal is as good an answer as the other; raises Refused for what is not a literal.

    Python's `==`, but types must be the same at every place (True is not 1, 1 is not 1.0, a list is not a tuple) and
    nan equals nan. So 0.0 equals -0.0 and the order of a dict's entries does not matter.
    """
    return _text(a, _COMPARED, 0) == _text(b, _COMPARED, 0)


def _text(value: object, form: _Form, depth: int) -> str:
    if depth > MAX_DEPTH:
        raise Refused(f"more than {MAX_DEPTH} containers around a value")
    kind = type(value)
    if kind in _SCALARS:
        return repr(value)
    # The exact type was looked up, so isinstance only tells the type checker what is known.
    if kind is int and isinstance(value, int):
        return repr(checked_int(value))
    if kind in (float, complex) and isinstance(value, (float, complex)):
        return form.number(value)
    if kind in (list, tuple, set, frozenset) and isinstance(value, (list, tuple, set, frozenset)):
        inner = depth + 1 + (kind is frozenset)  # written as a set inside a call
        return _BRACKETS[kind]([_text(item, form, inner) for item in value])
    if kind is dict and isinstance(value, dict):
        entries = [f"{_text(key, form, depth + 1)}: {_text(item, form, depth + 1)}" for key, item in value.items()]
        return "{" + ", ".join(form.entries(entries)) + "}"
    raise Refused(f"{kind.__name__[:40]} is not a literal")


def _set_text(members: list[str]) -> str:
    return "{" + ", ".join(sorted(members)) + "}" if members else "set()"


def _frozenset_text(members: list[str]) -> str:
    return "frozenset(" + (_set_text(members) if members else "") + ")"


def _tuple_text(items: list[str]) -> str:
    return "(" + ", ".join(items) + (",)" if len(items) == 1 else ")")


def _list_text(items: list[str]) -> str:
    return "[" + ", ".join(items) + "]"


def _unsigned(value: float | complex) -> str:
    """The number's text with every -0.0 made 0.0: adding 0.0 changes nothing else."""
    return repr(complex(value.real + 0.0, value.imag + 0.0) if isinstance(value, complex) else value + 0.0)


_SCALARS = frozenset((NoneType, bool, str, bytes, EllipsisType))
_BRACKETS: dict[type, Callable[[list[str]], str]] = {
    list: _list_text,
    tuple: _tuple_text,
    set: _set_text,
    frozenset: _frozenset_text,
}
_STORED = _Form(number=repr, entries=iter)
_COMPARED = _Form(number=_unsigned, entries=sorted)
