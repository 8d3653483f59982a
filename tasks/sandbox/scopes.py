"""What `normal_form` knows of Python: which fields hold nodes, whose variable a name is, what a signature has.

Runs inside the zygote and imports nothing of ours. Scopes are those of
https://docs.python.org/3/reference/executionmodel.html#naming-and-binding.
"""

from __future__ import annotations

import ast
from typing import NamedTuple

_NO_CHILDREN = {
    *("ctx", "op", "ops", "id", "attr", "arg", "name", "module", "level", "asname", "conversion", "kind", "simple"),
    *("is_async", "kwd_attrs", "rest", "tag", "type_comment", "type_ignores", "type_params"),
}
_TEXTS = {ast.Constant: {"value"}, ast.MatchSingleton: {"value"}, ast.Global: {"names"}, ast.Nonlocal: {"names"}}
CHILDREN: dict[type[ast.AST], tuple[str, ...]] = {
    kind: tuple(field for field in kind._fields if field not in _NO_CHILDREN | _TEXTS.get(kind, set()))
    for kind in vars(ast).values()
    if isinstance(kind, type) and issubclass(kind, ast.AST)
}
"""The fields of each kind of node that hold nodes, one or a list; contexts and operators are left out."""


class Scope:
    """A block with names of its own: those it binds with their new names, and those it declares to be another's."""

    __slots__ = ("bound", "declared", "is_class", "is_comprehension", "parent")

    def __init__(self, parent: Scope | None, *, is_class: bool = False, is_comprehension: bool = False) -> None:
        self.parent = parent
        self.is_class = is_class
        self.is_comprehension = is_comprehension
        self.bound: dict[str, str | None] = {}
        self.declared: dict[str, bool] = {}  # True: global, False: nonlocal

    def home(self, name: str, module: Scope) -> Scope | None:
        """The scope whose variable a name used here is; None for builtins and for names that nothing binds."""
        scope: Scope | None = self
        while scope is not None:
            if not scope.is_class or scope is self:
                is_global = scope.declared.get(name)
                if is_global:
                    return module if name in module.bound else None
                if is_global is None and name in scope.bound:
                    return scope
            scope = scope.parent
        return None


class Place(NamedTuple):
    """Where a name stands in a tree: a field, or an item of one that is a list."""

    owner: ast.AST
    field: str
    item: int | None
    scope: Scope
    name: str


def signature(arguments: ast.arguments) -> list[tuple[str, str, ast.expr | None]]:
    """Kind, name and default of each parameter."""
    positional = [*arguments.posonlyargs, *arguments.args]
    kinds = ["only"] * len(arguments.posonlyargs) + ["either"] * len(arguments.args)
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    found = [(kind, one.arg, default) for kind, one, default in zip(kinds, positional, defaults, strict=True)]
    if arguments.vararg:
        found.append(("rest", arguments.vararg.arg, None))
    named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    found += [("named", one.arg, default) for one, default in named]
    if arguments.kwarg:
        found.append(("others", arguments.kwarg.arg, None))
    return found


def text_of(default: ast.expr) -> str:
    """The source of an expression; an ellipsis for an int beyond 4300 digits."""
    try:
        return ast.unparse(default)
    except ValueError:
        return "..."
