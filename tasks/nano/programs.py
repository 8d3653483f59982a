"""Programs drawn from the language, their source text, and their execution.

Only programs made here by rule are executed here; text that a model wrote never is.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType
from typing import NamedTuple, cast

from tasks.nano.language import (
    ARGUMENT_TYPES,
    CONDITIONS,
    FOLDS,
    HELPER,
    OPERATIONS,
    VARIABLES,
    Fold,
    Operation,
    Type,
    Value,
    fill,
    small,
)


class Assign(NamedTuple):
    """``target = expression``."""

    target: str
    expression: str


class When(NamedTuple):
    """``if condition: target = expression``."""

    condition: str
    target: str
    expression: str


class Loop(NamedTuple):
    """``target = start``, then ``for n in items: target = expression``."""

    target: str
    start: str
    items: str
    expression: str


Step = Assign | When | Loop
Scope = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A function ``f``: its steps, the returned expression, and the body of helper ``g`` if it has one.

    `words` names what each operation does, with its constants: ``add 3``.
    """

    arguments: tuple[Type, ...]
    steps: tuple[Step, ...]
    result: str
    words: tuple[str, ...]
    operations: int
    helper: str | None = None


class Execution(NamedTuple):
    """The scope before every step and before the return, and the output."""

    scopes: tuple[Scope, ...]
    output: Value


class Refused(ValueError):
    """A draw that is not a program of the language: a dead argument, an error, or a value too large."""


_HELPER_SHARE, _WHEN_SHARE, _FOLD_SHARE, _REUSE_SHARE = 0.08, 0.10, 0.06, 0.12
_BUILTINS = {item.__name__: item for item in (abs, divmod, len, max, min, range, sorted, sum)}


class _Draft:
    """A program while it is being drawn: typed variables, which of them are used, and the steps so far."""

    def __init__(self, draw: random.Random, arguments: list[Type]) -> None:
        self.draw = draw
        self.variables = dict(zip(VARIABLES, arguments, strict=False))
        self.arguments = tuple(self.variables)
        self.latest = draw.choice((self.arguments[0], self.arguments[-1]))
        self.used: set[str] = set()
        self.steps: list[Step] = []
        self.words: list[str] = []
        self.helper: str | None = None
        self.helper_rules: dict[Type, list[Operation]] = {}

    @property
    def unused(self) -> list[str]:
        return [name for name in self.arguments if name not in self.used]

    def target(self) -> str:
        """The name of the next value: a new one, or sometimes the latest again."""
        free = [name for name in VARIABLES if name not in self.variables]
        return self.latest if self.draw.random() < _REUSE_SHARE or not free else free[0]

    def word(self, word: str, constants: tuple[str, ...] = ()) -> None:
        """Name an operation for messages, with its constants."""
        self.words.append(" ".join((word, *constants)))

    def store(self, step: Assign | Loop, result: Type) -> None:
        self.steps.append(step)
        self.variables[step.target] = result
        self.latest = step.target


def generate(draw: random.Random, operations: int) -> Program:
    """A program of so many operations; raises Refused when the draw leaves an argument or the helper unused."""
    arguments = draw.choices(*ARGUMENT_TYPES, k=draw.choices((1, 2), (0.65, 0.35))[0])
    draft = _Draft(draw, arguments)
    if draw.random() < _HELPER_SHARE:
        _give_helper(draft)
    result = None
    for index in range(operations):
        result = _operation(draft, last=index == operations - 1)
    if draft.unused or (draft.helper is not None and "call" not in draft.words):
        raise Refused("an argument or the helper is not used")
    return Program(
        arguments=tuple(arguments),
        steps=tuple(draft.steps),
        result=result or draft.latest,
        words=tuple(draft.words),
        operations=operations,
        helper=draft.helper,
    )


def _give_helper(draft: _Draft) -> None:
    """Draw a one-line function ``g`` and the operations that call it."""
    of = draft.draw.choice((Type.INT, Type.INT, draft.variables[draft.latest]))
    rule = _choose(draft.draw, [rule for rule in OPERATIONS[of] if rule.other is None])
    draft.helper = fill(draft.draw, rule.template, x="v").text
    draft.helper_rules[of] = [Operation(rule.result, None, f"{HELPER}({{x}})", "call", 12)]
    if of is Type.INT and rule.result is Type.INT:
        each = Operation(Type.LIST, None, f"[{HELPER}(v) for v in {{x}}]", "call", 12)
        draft.helper_rules[Type.LIST] = [each]


def _choose(draw: random.Random, rules: list[Operation]) -> Operation:
    return draw.choices(rules, [rule.weight for rule in rules])[0]


def _operation(draft: _Draft, *, last: bool) -> str | None:
    """Add one operation; the last one is returned as an expression where it is one."""
    draft.used.add(draft.latest)
    kind = draft.draw.random()
    if kind < _WHEN_SHARE:
        _when(draft)
        return None
    if kind < _WHEN_SHARE + _FOLD_SHARE:
        _fold(draft)
        return None
    rule, other = _applicable(draft, last=last)
    expression, constants = fill(draft.draw, rule.template, x=draft.latest, y=other or "")
    draft.word(rule.word, constants)
    if last:
        return expression
    draft.store(Assign(draft.target(), expression), rule.result)
    return None


def _applicable(draft: _Draft, *, last: bool) -> tuple[Operation, str | None]:
    """An operation on the latest value and the other variable it takes; arguments not yet used go first."""
    of = draft.variables[draft.latest]
    others = {name: kind for name, kind in draft.variables.items() if name != draft.latest}
    rules = [*OPERATIONS[of], *draft.helper_rules.get(of, [])]
    rules = [rule for rule in rules if rule.other is None or rule.other in others.values()]
    waiting = {others[name] for name in draft.unused}
    wanted = [rule for rule in rules if rule.other in waiting]
    if wanted and (last or draft.draw.random() < 0.6):
        rules = wanted
    rule = _choose(draft.draw, rules)
    if rule.other is None:
        return rule, None
    names = [name for name, kind in others.items() if kind is rule.other]
    other = draft.draw.choice([name for name in names if name in draft.unused] or names)
    draft.used.add(other)
    return rule, other


def _when(draft: _Draft) -> None:
    """``if``: the latest value is changed under a condition, its type kept."""
    of = draft.variables[draft.latest]
    condition = fill(draft.draw, draft.draw.choice(CONDITIONS[of]), x=draft.latest)
    rule = draft.draw.choice([rule for rule in OPERATIONS[of] if rule.result is of and rule.other is None])
    change = fill(draft.draw, rule.template, x=draft.latest)
    draft.steps.append(When(condition.text, draft.latest, change.text))
    draft.word("if", condition.constants)
    draft.word(rule.word, change.constants)


def _fold(draft: _Draft) -> None:
    """``for``: an accumulator in a new variable."""
    of = draft.variables[draft.latest]
    free = [name for name in VARIABLES if name not in draft.variables]
    rules: tuple[Fold, ...] = FOLDS[of]
    rule = draft.draw.choices(rules, [rule.weight for rule in rules])[0]
    if not free:
        raise Refused("no variable is left for an accumulator")
    target = free[0]
    start, items, step = (
        fill(draft.draw, part, x=draft.latest, z=target) for part in (rule.start, rule.items, rule.step)
    )
    draft.word("loop")
    draft.word(rule.word, (*start.constants, *items.constants, *step.constants))
    draft.store(Loop(target, start.text, items.text, step.text), rule.result)


def source(program: Program) -> str:
    """The program's text."""
    helper = "" if program.helper is None else f"def {HELPER}(v):\n    return {program.helper}\n"
    header = f"def f({', '.join(VARIABLES[: len(program.arguments)])}):"
    lines = [_line(step) for step in program.steps]
    return helper + "\n    ".join([header, *lines, f"return {program.result}"])


def _line(step: Step) -> str:
    match step:
        case Assign(target, expression):
            return f"{target} = {expression}"
        case When(condition, target, expression):
            return f"if {condition}:\n        {target} = {expression}"
        case Loop(target, start, items, expression):
            return f"{target} = {start}\n    for n in {items}:\n        {target} = {expression}"


@lru_cache(maxsize=100_000)
def _compiled(expression: str) -> CodeType:
    return compile(expression, "<nano>", "eval")


def evaluate(expression: str, scope: Scope) -> Value:
    """The value of an expression that this module wrote."""
    return cast("Value", eval(_compiled(expression), scope))  # noqa: S307 (written by rule, never by a model)


def execute(program: Program, arguments: tuple[Value, ...]) -> Execution:
    """Run a program; raises Refused on an error of the program and on a value that is not small."""
    scope: Scope = {"__builtins__": _BUILTINS, **dict(zip(VARIABLES, arguments, strict=False))}
    if program.helper is not None:
        scope[HELPER] = evaluate(f"lambda v: {program.helper}", scope)
    scopes = [dict(scope)]
    try:
        for step in program.steps:
            apply(step, scope)
            scopes.append(dict(scope))
        output = evaluate(program.result, scope)
    except (ArithmeticError, LookupError, ValueError) as error:
        raise Refused(str(error)) from None
    if not small(output):
        raise Refused(f"output {output!r} is too large")
    return Execution(tuple(scopes), output)


def apply(step: Step, scope: Scope) -> None:
    """Execute one step in place; raises Refused on a value that is not small."""
    match step:
        case Assign(target, expression):
            _put(scope, target, evaluate(expression, scope))
        case When(condition, target, expression):
            if evaluate(condition, scope):
                _put(scope, target, evaluate(expression, scope))
        case Loop(target, start, items, expression):
            _put(scope, target, evaluate(start, scope))
            for element in elements(items, scope):
                _put(scope, target, evaluate(expression, {**scope, "n": element}))


def elements(items: str, scope: Scope) -> list[int] | list[str]:
    """What a loop runs over."""
    return list(cast("list[int]", evaluate(items, scope)))


def _put(scope: Scope, target: str, result: Value) -> None:
    if not small(result):
        raise Refused(f"{target} becomes {result!r}, which is too large")
    scope[target] = result
