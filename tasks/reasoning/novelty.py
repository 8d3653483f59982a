"""What counts as the same call: inputs bound to the entry's parameters, so that `1`, `a=1` and a default are one.

Pure rules over static facts and literals; the keys made of them are in `checks`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tasks.sandbox.facts import Parameter, ParameterKind
from tasks.sandbox.values import Refused, canonical, parse_arguments, parse_value

_POSITIONAL = (ParameterKind.ONLY, ParameterKind.EITHER)


def bound(parameters: Sequence[Parameter] | None, text: str) -> str:
    """One canonical argument list as what each parameter gets; the list itself where that cannot be said.

    The texts of two calls are equal where the same values reach the same parameters, whatever their names.
    """
    if parameters is None:
        return text
    arguments = parse_arguments(text)
    given = list(arguments.args)
    named = dict(arguments.kwargs)
    try:
        parts = [part for parameter in parameters for part in _part(parameter, given, named)]
    except LookupError:
        return text
    return text if given or named else "; ".join(parts)


def _part(parameter: Parameter, given: list[object], named: dict[str, object]) -> Iterator[str]:
    """What a parameter takes out of the arguments; raises LookupError when it gets nothing."""
    if parameter.kind is ParameterKind.REST:
        yield f"*{canonical(tuple(given))}"
        given.clear()
    elif parameter.kind is ParameterKind.OTHERS:
        yield f"**{canonical(named)}"
        named.clear()
    elif parameter.kind in _POSITIONAL and given:
        yield canonical(given.pop(0))
    elif parameter.kind is not ParameterKind.ONLY and parameter.name in named:
        yield canonical(named.pop(parameter.name))
    else:
        yield _default(parameter)


def _default(parameter: Parameter) -> str:
    if parameter.default is None:
        raise LookupError(parameter.name)
    try:
        return canonical(parse_value(parameter.default))
    except Refused:  # an expression, of which only the program knows the value
        return f"={parameter.default}"
