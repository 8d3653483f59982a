"""Worked traces: what the think section of a document says.

Forward (deduction): every expression with its values put in, then its result. Backward (abduction): from the output to
the arguments, each equation followed by values that solve it. The last step is left to the answer itself.
"""

from __future__ import annotations

import re

from tasks.nano.language import VARIABLES
from tasks.nano.programs import Assign, Execution, Loop, Program, Scope, Step, When, elements, evaluate

_VARIABLE = re.compile(rf"(?<![\w'.])[{VARIABLES}](?![\w'])")
_LOOP_NAME = re.compile(rf"(?<![\w'.])[{VARIABLES}n](?![\w'])")
_CALL = re.compile(r"g\(([^()]*)\)")
SEPARATOR = ";"


def forward(program: Program, execution: Execution) -> str:
    """The trace of an execution; empty when the program only returns its argument."""
    events: list[str] = []
    for step, scope in zip(program.steps, execution.scopes, strict=False):
        events += _forward_step(program, step, scope)
    if not program.result.isidentifier():
        events.append(_expanded(program, program.result, execution.scopes[-1]))
    return SEPARATOR.join(events)


def _forward_step(program: Program, step: Step, scope: Scope) -> list[str]:
    match step:
        case Assign(target, expression):
            result = evaluate(expression, scope)
            return [f"{target}={_expanded(program, expression, scope)}={result!r}"]
        case When(condition, target, expression):
            holds = bool(evaluate(condition, scope))
            test = f"{_put_in(condition, scope)}={holds}"
            if not holds:
                return [test]
            return [test, *_forward_step(program, Assign(target, expression), scope)]
        case Loop():
            return _forward_loop(step, scope)


def _forward_loop(step: Loop, scope: Scope) -> list[str]:
    inner = {**scope, step.target: evaluate(step.start, scope)}
    events = [f"{step.target}={inner[step.target]!r}"]
    for element in elements(step.items, scope):
        inner["n"] = element
        written = _put_in(step.expression, inner, _LOOP_NAME)
        inner[step.target] = evaluate(step.expression, inner)
        events.append(f"{step.target}={written}={inner[step.target]!r}")
    return events


def _put_in(expression: str, scope: Scope, names: re.Pattern[str] = _VARIABLE) -> str:
    return names.sub(lambda name: repr(scope[name.group()]), expression)


def _expanded(program: Program, expression: str, scope: Scope) -> str:
    """An expression with its values; a call of the helper is followed by the helper's body with its argument."""
    written = _put_in(expression, scope)
    call = _CALL.fullmatch(written)
    if program.helper is None or call is None:
        return written
    body = re.sub(r"(?<![\w'.])v(?![\w'])", lambda _: call.group(1), program.helper)
    if " for " in program.helper:
        body = program.helper.replace("in v", f"in {call.group(1)}")
    return f"{written}={body}"


def backward(program: Program, execution: Execution) -> str:
    """The trace of an inversion."""
    events = [f"{program.result}={execution.output!r}"]
    known: set[str] = set()

    def solve(expression: str, scope: Scope) -> None:
        for name in dict.fromkeys(_VARIABLE.findall(expression)):
            if name not in known:
                known.add(name)
                events.append(f"{name}={scope[name]!r}")

    solve(program.result, execution.scopes[-1])
    for index in range(len(program.steps) - 1, -1, -1):
        step, before, after = program.steps[index], execution.scopes[index], execution.scopes[index + 1]
        known.discard(step.target)
        match step:
            case Assign(target, expression):
                events.append(f"{expression}={after[target]!r}")
                solve(expression, before)
            case When(_, target, _):
                solve(target, before)
            case Loop(_, start, items, expression):
                solve(f"{start} {items} {expression.replace(step.target, '')}", before)
    return SEPARATOR.join(events)
