"""What happens in the process that looks at programs without executing them. Nothing that comes out of it is trusted.

Runs inside the zygote and imports nothing of ours but its neighbours. It reads a batch of sources, parses each with the
interpreter's own parser, and writes one frame with the facts about all of them. No source is ever compiled to code or
run; a source that brings the parser down takes its batch with it, and the trusted side tries each alone.
"""

from __future__ import annotations

import ast
import marshal
import os
import resource
import struct
import sys
import unicodedata  # noqa: F401 - the parser looks for it when a name is not ASCII
import warnings
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import complexipy

    from tasks.sandbox import kernel, normal_form
    from tasks.sandbox.scopes import CHILDREN
    from tasks.sandbox.seccomp import Filter
else:
    # Without this complexipy's allocator reserves 1 GiB of the address space, which is limited here.
    os.environ["MIMALLOC_ARENA_RESERVE"] = "0"
    import complexipy
    import kernel
    import normal_form
    from scopes import CHILDREN

_CHANNEL = 3
_HEADER = struct.Struct("=IIII")
_LENGTH = struct.Struct("=I")
_DEPTH = 20_000
"""Frames of Python code: deeper than any tree of the sources that the parser takes."""
_LOST, _NO_MEMORY = 70, 71  # exit codes
# A program that looks at its own names keeps them, and its docstrings and annotations too.
_NAMES = "globals locals vars dir eval exec compile __import__ get_type_hints singledispatch singledispatchmethod"
_ATTRIBUTES = """
__name__ __qualname__ __dict__ __doc__ __annotations__ __code__ __defaults__ __kwdefaults__ __globals__ __closure__
__subclasses__ __getattribute__ __wrapped__ get_type_hints singledispatch singledispatchmethod
"""
_MODULES = "__main__ ast builtins dis gc importlib inspect sys traceback"
_MIRRORS, _MIRROR_ATTRIBUTES = frozenset(_NAMES.split()), frozenset(_ATTRIBUTES.split())
_MIRROR_MODULES = frozenset(_MODULES.split())
_LOOKUPS = frozenset(("getattr", "setattr", "delattr", "hasattr"))


class _Survey:
    """Facts of one tree, gathered in one walk over its nodes.

    Halstead's operators and operands are those of https://radon.readthedocs.io/en/latest/intro.html#halstead-metrics:
    the operators of expressions, and what stands on their sides, operands of equal text in one function being one.
    Cyclomatic complexity is one more than the decisions (McCabe 1976): if, for, while, except, assert, case, and, or,
    each `for` and `if` of a comprehension.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.nodes = self.depth = 0
        self.decisions = 1
        self.operators = self.operands = 0
        self.distinct_operators: set[str] = set()
        self.distinct_operands: set[tuple[str, object]] = set()
        self.functions: list[str] = []
        self.names: set[str] = set()
        self.literal_lookups: set[int] = set()
        self.attributes: set[str] = set()
        self.imports: set[str] = set()
        self.members: set[str] = set()
        self.generic = False  # has the type parameters of Python 3.12, whose scopes are not known here
        self._walk(tree)

    def _walk(self, tree: ast.Module) -> None:
        stack: list[tuple[ast.AST, int, str]] = [(tree, 1, "")]
        while stack:
            node, depth, function = stack.pop()
            self.nodes += 1
            if depth > self.depth:
                self.depth = depth
            reader = _READERS.get(node.__class__)
            if reader is not None:
                reader(self, node, function)
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    function = node.name
            depth += 1
            for field in CHILDREN[node.__class__]:
                value = getattr(node, field)
                if value.__class__ is list:
                    stack += [(item, depth, function) for item in value[::-1] if item is not None]
                elif value is not None:
                    stack.append((value, depth, function))

    def mirrors(self, outer: set[str]) -> bool:
        """Whether the program may look at its own names; `outer` is as in `Normal`."""
        modules = {name.split(".")[0] for name in self.imports}
        imported = {name.rpartition(".")[2] for name in self.members}
        return self.generic or not (
            outer.isdisjoint(_MIRRORS)
            and _MIRROR_ATTRIBUTES.isdisjoint(self.attributes | imported)
            and modules.isdisjoint(_MIRROR_MODULES)
        )

    def _halstead(self, function: str, operators: list[ast.AST], operands: list[ast.expr]) -> None:
        self.operators += len(operators)
        self.operands += len(operands)
        self.distinct_operators.update([operator.__class__.__name__ for operator in operators])
        for operand in operands:
            kind = operand.__class__
            text = getattr(operand, _OPERAND_TEXT[kind]) if kind in _OPERAND_TEXT else operand
            self.distinct_operands.add((function, text))

    def _binary(self, node: ast.BinOp, function: str) -> None:
        self._halstead(function, [node.op], [node.left, node.right])

    def _unary(self, node: ast.UnaryOp, function: str) -> None:
        self._halstead(function, [node.op], [node.operand])

    def _boolean(self, node: ast.BoolOp, function: str) -> None:
        self.decisions += len(node.values) - 1
        self._halstead(function, [node.op], node.values)

    def _augmented(self, node: ast.AugAssign, function: str) -> None:
        self._halstead(function, [node.op], [node.target, node.value])

    def _compare(self, node: ast.Compare, function: str) -> None:
        self._halstead(function, [*node.ops], [*node.comparators, node.left])

    def _decision(self, _node: ast.AST, _function: str) -> None:
        self.decisions += 1

    def _comprehension(self, node: ast.comprehension, _function: str) -> None:
        self.decisions += 1 + len(node.ifs)

    def _name(self, node: ast.Name, _function: str) -> None:
        if id(node) not in self.literal_lookups:
            self.names.add(node.id)

    def _attribute(self, node: ast.Attribute, _function: str) -> None:
        self.attributes.add(node.attr)

    def _class_pattern(self, node: ast.MatchClass, _function: str) -> None:
        self.attributes.update(node.kwd_attrs)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, _function: str) -> None:
        self.functions.append(node.name)
        self._parametric(node, "")

    def _parametric(self, node: ast.AST, _function: str) -> None:
        self.generic |= bool(getattr(node, "type_params", ()))

    def _alias(self, _node: ast.AST, _function: str) -> None:
        self.generic = True

    def _import(self, node: ast.Import, _function: str) -> None:
        self.imports.update(alias.name for alias in node.names)

    def _import_from(self, node: ast.ImportFrom, _function: str) -> None:
        module = "." * node.level + (node.module or "")
        self.imports.add(module)
        self.members.update(f"{module}.{alias.name}" for alias in node.names)

    def _call(self, node: ast.Call, _function: str) -> None:
        """Names given as text: the attribute of getattr, the module of __import__."""
        named = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        texts = [one.value if isinstance(one, ast.Constant) else None for one in node.args]
        if named in ("__import__", "import_module") and texts and isinstance(texts[0], str):
            self.imports.add(texts[0])
        elif named in _LOOKUPS and len(texts) > 1 and isinstance(texts[1], str):
            self.attributes.add(texts[1])
            self.literal_lookups.add(id(node.func))


_OPERAND_TEXT: dict[type, str] = {ast.Name: "id", ast.Attribute: "attr", ast.Constant: "value"}
_DECISIONS = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.Assert, ast.match_case)
_READERS: dict[type, Callable[..., None]] = {
    ast.BinOp: _Survey._binary,
    ast.UnaryOp: _Survey._unary,
    ast.BoolOp: _Survey._boolean,
    ast.AugAssign: _Survey._augmented,
    ast.Compare: _Survey._compare,
    **dict.fromkeys(_DECISIONS, _Survey._decision),
    ast.comprehension: _Survey._comprehension,
    ast.Name: _Survey._name,
    ast.Attribute: _Survey._attribute,
    ast.MatchClass: _Survey._class_pattern,
    ast.FunctionDef: _Survey._function,
    ast.AsyncFunctionDef: _Survey._function,
    ast.ClassDef: _Survey._parametric,
    ast.Import: _Survey._import,
    ast.ImportFrom: _Survey._import_from,
    ast.Call: _Survey._call,
    **{getattr(ast, name): _Survey._alias for name in ("TypeAlias",) if hasattr(ast, name)},
}


def _facts(source: str) -> tuple[object, ...]:
    tree = ast.parse(source, "<program>")
    survey = _Survey(tree)
    normal = normal_form.Normal(tree)
    names, parameters = normal.outer & survey.names, None
    if survey.mirrors(names):
        tree = ast.parse(source)
    else:
        normal.rename()
        parameters = normal.parameters()
    texts = (names, survey.attributes, survey.imports, survey.members)
    return (
        "facts",
        _text(tree, source),
        parameters,
        [survey.functions, *map(sorted, texts)],
        [survey.nodes, survey.depth, survey.decisions],
        _cognitive(source),
        [len(survey.distinct_operators), len(survey.distinct_operands), survey.operators, survey.operands],
    )


def _warm() -> None:
    """Goes through the code once for all children: what CPython learns of it is shared, and not learnt in each anew."""
    with open(__file__, encoding="utf-8") as file:  # noqa: PTH123 - pathlib is not worth its memory here
        source = file.read()
    for _ in range(2):
        _facts(source)


def _text(tree: ast.Module, source: str) -> str:
    """The tree as source; of the few that cannot be written (ints beyond 4300 digits), the source itself."""
    try:
        return ast.unparse(tree)
    except ValueError:
        return source


def _cognitive(source: str) -> int | None:
    try:
        return int(complexipy.code_complexity(source).complexity)
    except ValueError:  # what its parser does not take
        return None


def _found(source: str, *, alone: bool) -> tuple[object, ...]:
    try:
        return _facts(source)
    except MemoryError:
        if not alone:
            os._exit(_NO_MEMORY)
        return ("raised", "MemoryError", "")
    except Exception as error:  # noqa: BLE001 - whatever the parser makes of hostile text
        return ("raised", type(error).__name__, str(error)[:500])


def _request() -> tuple[tuple[int, int, int, int], bytes]:
    data = os.read(_CHANNEL, 1 << 17)
    if len(data) < _HEADER.size:
        os._exit(_LOST)
    header = _HEADER.unpack_from(data)
    while len(data) < header[0] + _HEADER.size:
        more = os.read(_CHANNEL, 1 << 17)
        if not more:
            os._exit(_LOST)
        data += more
    return header, data[_HEADER.size :]


def serve(channel: int, confinement: Filter | None) -> None:
    """Looks at the sources that come in through this descriptor; never returns."""
    os.dup2(channel, _CHANNEL)
    os.closerange(_CHANNEL + 1, 64)
    (_, cpu_s, memory_mb, limit), body = _request()
    sources = marshal.loads(body)  # noqa: S302 - the trusted side wrote it
    os.set_blocking(_CHANNEL, False)
    for resources, value in (
        (resource.RLIMIT_NOFILE, _CHANNEL + 1),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_AS, memory_mb << 20),
        (resource.RLIMIT_NPROC, 0),
    ):
        kernel.lower_limit(resources, value)
    if confinement is not None:
        confinement.install()
    sys.setrecursionlimit(_DEPTH)
    warnings.simplefilter("ignore")
    data = marshal.dumps([_found(source, alone=len(sources) == 1) for source in sources], 2)
    if len(data) > limit:
        data = marshal.dumps([("large", len(data))] * len(sources), 2)
    data = _LENGTH.pack(len(data)) + data
    while data:
        data = data[os.write(_CHANNEL, data) :]
    os._exit(0)


_warm()
