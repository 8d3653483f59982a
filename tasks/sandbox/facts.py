"""What is known of programs without executing them, and how it is read from what a child wrote.

The child that parses sources (`facts_child`) is as open to attack as anything that reads hostile text, so its answers
are read like every child's: by a decoder that builds literals, then field by field.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from tasks.sandbox import wire
from tasks.sandbox.jobs import Status


class ParameterKind(StrEnum):
    """How an argument can reach a parameter."""

    ONLY = "only"  # by position only
    EITHER = "either"
    REST = "rest"  # *args
    NAMED = "named"  # by name only
    OTHERS = "others"  # **kwargs


class Parameter(NamedTuple):
    """One parameter of the entry; `default` is its source text, None when there is none."""

    kind: ParameterKind
    name: str
    default: str | None


class Halstead(NamedTuple):
    """Counts of which Halstead's volume, difficulty and effort are made (M. H. Halstead 1977), as radon counts them."""

    distinct_operators: int
    distinct_operands: int
    operators: int
    operands: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a source says about itself; texts are sorted and each stands once, but for `functions` and `parameters`."""

    normalised: str
    """The program in normal form (`normal_form`): equal for programs that differ in layout, comments or names only."""
    parameters: tuple[Parameter, ...] | None
    """Of the entry `f`, in order; None when more than one bare `def` decides what `f` is."""
    functions: tuple[str, ...]
    """Names of all functions and methods, in order of appearance."""
    names: tuple[str, ...]
    """Names that are no variables of a function: builtins, imports, helpers."""
    attributes: tuple[str, ...]
    """Names after a dot, in class patterns, and those given to getattr and its kin as text."""
    imports: tuple[str, ...]
    """Modules imported, dotted as written; those given to __import__ as text too."""
    members: tuple[str, ...]
    """`module.name` for what is imported from modules."""
    nodes: int
    """Nodes of the syntax tree, less operators and contexts."""
    depth: int
    """Nodes on the longest way from the tree's root down."""
    cyclomatic: int
    """One more than the decisions in it."""
    cognitive: int | None
    """Cognitive complexity (G. A. Campbell 2018), all functions and the module, by complexipy; None where it fails."""
    halstead: Halstead


@dataclass(frozen=True, slots=True)
class NoFacts:
    """A source that is no program, or that the parser cannot take; the status is what the executor would say."""

    status: Status
    reason: str


def readings(data: bytes, count: int) -> list[Facts | NoFacts]:
    """The readings in what a child wrote, one per source.

    Raises Malformed when no honest child writes such bytes, TooLarge when the child says that its readings do not fit,
    Refused when it wrote no literal.
    """
    items = wire.decoded(data, len(data))
    if not isinstance(items, list) or len(items) != count:
        raise wire.Malformed(f"a frame without its {count} readings")
    return [_reading(item) for item in items]


def _reading(item: object) -> Facts | NoFacts:
    """One reading, every field checked: the child may have been taken over."""
    match item:
        case ("raised", str(kind), str(message)):
            status = Status.MEMORY if kind == "MemoryError" else Status.ERROR
            return NoFacts(status, f"{wire.line(kind, 80)}: {wire.line(message, 200)}".removesuffix(": "))
        case ("large", int(size)):
            raise wire.TooLarge(f"facts of {size} bytes, the limit is lower")
        case ("facts", str(normalised), parameters, texts, sizes, cognitive, halstead):
            functions, names, attributes, imports, members = map(_texts, _items(texts, 5))
            nodes, depth, cyclomatic = _counts(sizes, 3)
            return Facts(
                normalised=normalised,
                parameters=None if parameters is None else tuple(map(_parameter, _items(parameters))),
                functions=functions,
                names=names,
                attributes=attributes,
                imports=imports,
                members=members,
                nodes=nodes,
                depth=depth,
                cyclomatic=cyclomatic,
                cognitive=None if cognitive is None else _counts([cognitive], 1)[0],
                halstead=Halstead(*_counts(halstead, 4)),
            )
    raise wire.Malformed("a reading of no known kind")


def _items(value: object, count: int | None = None) -> list[object]:
    if not isinstance(value, list) or count not in (None, len(value)):
        raise wire.Malformed("a reading without its lists")
    return value


def _texts(value: object) -> tuple[str, ...]:
    texts = tuple(item for item in _items(value) if isinstance(item, str))
    if len(texts) != len(_items(value)):
        raise wire.Malformed("a name that is no text")
    return texts


def _counts(value: object, count: int) -> list[int]:
    counts = [item for item in _items(value, count) if type(item) is int and 0 <= item < 1 << 31]
    if len(counts) != count:
        raise wire.Malformed("a count that is none")
    return counts


def _parameter(value: object) -> Parameter:
    match value:
        case (str(kind), str(name), None | str() as default) if kind in set(ParameterKind):
            return Parameter(ParameterKind(kind), name, default)
    raise wire.Malformed("a parameter of no known kind")
