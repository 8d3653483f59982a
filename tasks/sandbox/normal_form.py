"""The normal form of a program: what is left when layout, comments and the names of its own variables do not count.

Runs inside the zygote, beside `facts_child`, and imports nothing of ours. It reads syntax trees and executes nothing.

Dropped: comments, docstrings and other constants standing alone, annotations of functions and variables. Renamed
``x0, x1, ...`` in order of appearance, scope by scope: variables, parameters, helpers, plain classes, import aliases.
Kept: the entry, builtins, attributes and what a class body defines, keywords and the parameters that a call may name,
classes that a repr may name (with decorators or foreign bases).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tasks.sandbox.scopes import CHILDREN, Place, Scope, signature, text_of
else:
    from scopes import CHILDREN, Place, Scope, signature, text_of

ENTRY = "f"
_TYPE_PARTS = frozenset(
    (ast.Name, ast.Attribute, ast.Subscript, ast.Constant, ast.Tuple, ast.List, ast.BinOp, ast.BitOr, ast.Load)
)
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class Normal:
    """Takes a tree of Python 3.11 syntax apart; the tree loses what does not count, and `rename` does the rest.

    `outer` is the set of names that the program looks up in its module, its classes or among the builtins, those of
    dropped annotations included.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.outer: set[str] = set()
        self._module = Scope(None)
        self._kept: set[str] = set()
        self._places: list[Place] = []
        self._parameters: list[str] = []  # that a call can name
        self._keywords: set[str | None] = set()  # that calls do name; None for `**`
        self._classes: set[str] = set()
        self._plain: set[str] = set()
        self._attributes: set[str] = set()
        self._class_loads: list[tuple[Scope, str]] = []
        self._star = False
        self._entries: list[Scope] = []
        self._signature: list[tuple[str, str, ast.expr | None]] | None = None
        self._block(tree, "body", self._module)
        self._homes = [place.scope.home(place.name, self._module) for place in self._places]
        self.outer.update(
            place.name
            for place, home in zip(self._places, self._homes, strict=True)
            if home is None or home is self._module or home.is_class
        )

    def parameters(self) -> list[tuple[str, str, str | None]] | None:
        """Kind, name and default text of the entry's parameters; None unless one bare `def` is all that binds it."""
        if self._signature is None or sum(scope is self._module for scope in self._entries) != 1:
            return None
        return [(kind, name, None if default is None else text_of(default)) for kind, name, default in self._signature]

    # ---- what stays, and the new names

    def rename(self) -> None:
        """Gives every name that need not stay its number."""
        self._keep()
        homes = self._homes
        strangers = [
            place.name for place, home in zip(self._places, homes, strict=True) if home is None or home.is_class
        ]
        used = self._kept.union(strangers)
        fresh = (f"x{number}" for number in range(len(self._places) + len(used)))
        for place, home in zip(self._places, homes, strict=True):
            if home is None or home.is_class or place.name in self._kept:
                continue
            if home is self._module and (self._star or place.name == ENTRY):
                continue
            new = home.bound[place.name]
            if new is None:
                new = home.bound[place.name] = next(name for name in fresh if name not in used)
            if place.item is None:
                setattr(place.owner, place.field, new)
            else:
                getattr(place.owner, place.field)[place.item] = new

    def _keep(self) -> None:
        every = None in self._keywords
        self._kept.update(name for name in self._parameters if every or name in self._keywords)
        self._kept.update(place.name for place in self._places if place.name.startswith("__"))
        # A class body falls back on the module's variable of that name.
        self._kept.update(name for scope, name in self._class_loads if name in scope.bound)
        mangled = [name for name in self._attributes if name.startswith("_") and "__" in name[1:]]
        self._kept.update(
            name for name in self._classes if name not in self._plain or any(f"_{name}__" in one for one in mangled)
        )

    # ---- reading

    def _visit(self, node: ast.AST, scope: Scope) -> None:
        reader = _READERS.get(node.__class__)
        if reader is not None:
            reader(self, node, scope)
        else:
            self._children(node, scope)

    def _children(self, node: ast.AST, scope: Scope) -> None:
        for field in CHILDREN[node.__class__]:
            value = getattr(node, field)
            if value.__class__ is not list:
                if value is not None:
                    self._visit(value, scope)
            elif field in _BLOCKS:
                self._block(node, field, scope)
            else:
                self._each(value, scope)

    def _each(self, nodes: Iterable[ast.AST | None], scope: Scope) -> None:
        for node in nodes:
            if node is not None:
                self._visit(node, scope)

    def _block(self, owner: ast.AST, field: str, scope: Scope, *, annotated: bool = False) -> None:
        """Statements, less those that say nothing; a block that is emptied so becomes `pass`."""
        statements = getattr(owner, field)
        left = [one for one in statements if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
        if not annotated:
            left = [self._unannotated(one) if isinstance(one, ast.AnnAssign) else one for one in left]
        setattr(owner, field, left or ([ast.Pass()] if statements and field != "orelse" else []))
        self._each(left, scope)

    def _unannotated(self, node: ast.AnnAssign) -> ast.stmt:
        node.annotation = self._dropped(node.annotation) or ast.Constant(None)
        if node.value is None or not isinstance(node.annotation, ast.Constant):
            return node
        return ast.Assign([node.target], node.value, type_comment=None, lineno=node.lineno)

    def _dropped(self, annotation: ast.expr | None) -> ast.expr | None:
        """None for an annotation that does nothing but name types; it still may not name what is banned."""
        parts = [] if annotation is None else list(ast.walk(annotation))
        if not all(part.__class__ in _TYPE_PARTS for part in parts):
            return annotation
        self.outer.update(part.id for part in parts if isinstance(part, ast.Name))
        return None

    def _bind(self, owner: ast.AST, field: str, name: str, scope: Scope) -> None:
        is_global = scope.declared.get(name)
        if is_global is None:
            scope.bound.setdefault(name, None)
        elif is_global:
            self._module.bound.setdefault(name, None)
        self._places.append(Place(owner, field, None, scope, name))
        if name == ENTRY:
            self._entries.append(self._module if is_global else scope)

    def _name(self, node: ast.Name, scope: Scope) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._bind(node, "id", node.id, scope)
            return
        self._places.append(Place(node, "id", None, scope, node.id))
        if scope.is_class:
            self._class_loads.append((scope, node.id))

    def _attribute(self, node: ast.Attribute, scope: Scope) -> None:
        self._attributes.add(node.attr)
        self._visit(node.value, scope)

    def _constant(self, _node: ast.AST, _scope: Scope) -> None:
        pass

    def _augmented(self, node: ast.AugAssign, scope: Scope) -> None:
        if scope.is_class and isinstance(node.target, ast.Name):
            self._class_loads.append((scope, node.target.id))
        self._visit(node.target, scope)
        self._visit(node.value, scope)

    def _walrus(self, node: ast.NamedExpr, scope: Scope) -> None:
        self._visit(node.value, scope)
        while scope.is_comprehension and scope.parent is not None:
            scope = scope.parent
        self._visit(node.target, scope)

    def _keyword(self, node: ast.keyword, scope: Scope) -> None:
        self._keywords.add(node.arg)
        self._visit(node.value, scope)

    def _comprehension(self, node: _Comprehension, scope: Scope) -> None:
        first = node.generators[0]
        self._visit(first.iter, scope)
        inner = Scope(scope, is_comprehension=True)
        for generator in node.generators:
            self._visit(generator.target, inner)
            if generator is not first:
                self._visit(generator.iter, inner)
            self._each(generator.ifs, inner)
        self._each([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt], inner)

    def _function(self, node: _Function, scope: Scope) -> None:
        if not isinstance(node, ast.Lambda):
            self._each(node.decorator_list, scope)
            self._bind(node, "name", node.name, scope)
            node.returns = self._dropped(node.returns)
            self._each([node.returns], scope)
        arguments = node.args
        self._each([*arguments.defaults, *arguments.kw_defaults], scope)
        self._parameters += [one.arg for one in (*arguments.args, *arguments.kwonlyargs)]
        if scope is self._module and not isinstance(node, ast.Lambda) and node.name == ENTRY:
            self._signature = None if node.decorator_list else signature(arguments)
        inner = Scope(scope)
        rest = [one for one in (arguments.vararg, arguments.kwarg) if one is not None]
        for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *rest):
            one.annotation = self._dropped(one.annotation)
            self._each([one.annotation], scope)
            self._bind(one, "arg", one.arg, inner)
        if isinstance(node, ast.Lambda):
            self._visit(node.body, inner)
        else:
            self._block(node, "body", inner)

    def _class(self, node: ast.ClassDef, scope: Scope) -> None:
        self._each(node.decorator_list, scope)
        self._each([*node.bases, *node.keywords], scope)
        self._bind(node, "name", node.name, scope)
        self._classes.add(node.name)
        inner = Scope(scope, is_class=True)
        own = all(isinstance(base, ast.Name) and base.id in self._plain for base in node.bases)
        plain = own and not node.decorator_list and not node.keywords
        (self._plain.add if plain else self._plain.discard)(node.name)
        self._block(node, "body", inner, annotated=not plain)  # annotations may be fields

    def _import(self, node: ast.Import | ast.ImportFrom, scope: Scope) -> None:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            return
        for alias in node.names:
            name = alias.asname or alias.name.split(".")[0]
            if alias.asname is None and name != alias.name:
                self._kept.add(name)
            if name == "*":
                self._star = True
            else:
                self._bind(alias, "asname", name, scope)

    def _declaration(self, node: ast.Global | ast.Nonlocal, scope: Scope) -> None:
        for index, name in enumerate(node.names):
            scope.declared[name] = isinstance(node, ast.Global)
            self._places.append(Place(node, "names", index, scope, name))

    def _captured(self, node: ast.ExceptHandler | ast.MatchAs | ast.MatchStar, scope: Scope) -> None:
        if node.name is not None:
            self._bind(node, "name", node.name, scope)
        self._children(node, scope)

    def _class_pattern(self, node: ast.MatchClass, scope: Scope) -> None:
        self._attributes.update(node.kwd_attrs)
        self._each([node.cls, *node.patterns, *node.kwd_patterns], scope)

    def _mapping(self, node: ast.MatchMapping, scope: Scope) -> None:
        self._children(node, scope)
        if node.rest is not None:
            self._bind(node, "rest", node.rest, scope)


_BLOCKS = frozenset(("body", "orelse", "finalbody"))
_READERS: dict[type[ast.AST], Callable[..., None]] = {
    ast.Name: Normal._name,
    ast.Attribute: Normal._attribute,
    ast.Constant: Normal._constant,
    ast.AugAssign: Normal._augmented,
    ast.NamedExpr: Normal._walrus,
    ast.keyword: Normal._keyword,
    ast.ListComp: Normal._comprehension,
    ast.SetComp: Normal._comprehension,
    ast.DictComp: Normal._comprehension,
    ast.GeneratorExp: Normal._comprehension,
    ast.FunctionDef: Normal._function,
    ast.AsyncFunctionDef: Normal._function,
    ast.Lambda: Normal._function,
    ast.ClassDef: Normal._class,
    ast.Import: Normal._import,
    ast.ImportFrom: Normal._import,
    ast.Global: Normal._declaration,
    ast.Nonlocal: Normal._declaration,
    ast.ExceptHandler: Normal._captured,
    ast.MatchAs: Normal._captured,
    ast.MatchStar: Normal._captured,
    ast.MatchClass: Normal._class_pattern,
    ast.MatchMapping: Normal._mapping,
}
