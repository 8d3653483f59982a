"""What a tame program finds: builtins and modules of its own, made of what the real ones offer in public.

Runs inside the zygote and imports nothing of ours. Asking for what only a program alone may have ends its turn: it
is run again in a process of its own.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable
from types import ModuleType
from typing import NoReturn

_EVERYTHING = ""
_OFFERED = {
    "bisect": _EVERYTHING,
    "collections": "ChainMap Counter OrderedDict defaultdict deque namedtuple",
    "collections.abc": _EVERYTHING,
    "functools": "cache cmp_to_key lru_cache partial reduce",
    "heapq": "heapify heappop heappush heappushpop heapreplace merge nlargest nsmallest",
    "itertools": _EVERYTHING,
    "math": _EVERYTHING,
    "operator": "abs add and_ concat contains countOf delitem eq floordiv ge getitem gt iadd iand iconcat ifloordiv"
    " ilshift imatmul imod imul index indexOf inv invert ior ipow irshift is_ is_not isub itemgetter itruediv ixor le"
    " length_hint lshift lt matmul mod mul ne neg not_ or_ pos pow rshift setitem sub truediv truth xor",
    "re": "A ASCII DOTALL I IGNORECASE M MULTILINE Match Pattern S U UNICODE VERBOSE X compile error escape findall"
    " finditer fullmatch match search split sub subn",
    "string": "ascii_letters ascii_lowercase ascii_uppercase capwords digits hexdigits octdigits printable punctuation"
    " whitespace",
    "typing": "Any Callable Collection Container Counter DefaultDict Deque Dict FrozenSet Generator Hashable Iterable"
    " Iterator List Mapping MutableMapping MutableSequence MutableSet NoReturn Optional OrderedDict Sequence Set Sized"
    " Text Tuple Type Union",
}
_APART = """
breakpoint compile delattr dir eval exec exit getattr globals help id input locals memoryview open quit setattr vars
"""
"""Builtins that reach further than a name says; who calls one runs alone."""


class _Untamed(BaseException):
    """Ends a program that did what only a program alone may do."""


_untamed: list[bool] = []  # filled when a program went too far, even if it caught `_Untamed`


def _leave() -> NoReturn:
    _untamed.append(True)
    raise _Untamed


class _Builtin:
    """Stands in for a builtin that only a program alone may call."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *_args: object, **_kwargs: object) -> NoReturn:
        _leave()

    def __repr__(self) -> str:
        return f"<built-in function {self._name}>"


class _TypeOfTypes(type):
    """`type(x)`, and nothing else that `type` can do: with three arguments it makes a class out of any names."""

    def __new__(cls, name: str, bases: tuple[type, ...], members: dict[str, object]) -> _TypeOfTypes:
        if bases:
            _leave()
        return super().__new__(cls, name, bases, members)

    def __call__(cls, *args: object, **kwargs: object) -> type:
        if len(args) != 1 or kwargs or isinstance(args[0], type):
            _leave()
        return type(args[0])

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, type)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, type)

    def __getattribute__(cls, name: str) -> object:
        if name not in ("__name__", "__qualname__", "__module__", "__doc__"):
            _leave()
        return "builtins" if name == "__module__" else type.__getattribute__(cls, name)

    def __setattr__(cls, name: str, value: object) -> NoReturn:
        _leave()

    def __repr__(cls) -> str:
        return "<class 'type'>"


TYPE = _TypeOfTypes("type", (), {"__doc__": type.__doc__})
BUILTINS: dict[str, object] = {
    **vars(builtins),
    **{name: _Builtin(name) for name in _APART.split() if hasattr(builtins, name)},
    "type": TYPE,
}


def _offer(name: str) -> dict[str, object]:
    """What a program's own copy of a module holds; asking it for anything else ends the program."""
    module = vars(sys.modules[name])
    wanted = _OFFERED[name].split() or [key for key in module if not key.startswith("_")]
    names = [*wanted, "__name__", "__doc__", "__spec__", "__loader__", "__package__"]
    return {key: module[key] for key in names if key in module} | {"__getattr__": _missing}


def _missing(_name: str) -> NoReturn:
    _leave()


for _name in _OFFERED:
    __import__(_name)
OFFERS = {name: _offer(name) for name in _OFFERED}


def _module(name: str) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(OFFERS[name])
    if name == "collections":
        module.__dict__["abc"] = _module("collections.abc")
    return module


def _importer() -> Callable[..., ModuleType]:
    made: dict[str, ModuleType] = {}

    def import_(
        name: str,
        globals: object = None,  # noqa: A002 - as Python passes it
        locals: object = None,  # noqa: A002
        fromlist: tuple[str, ...] | None = (),
        level: int = 0,
    ) -> ModuleType:
        if level or name not in OFFERS or (fromlist and "*" in fromlist):
            _leave()
        top, _, rest = name.partition(".")
        if top not in made:
            made[top] = _module(top)
        return made[top].__dict__[rest] if rest and fromlist else made[top]

    return import_


def namespace() -> dict[str, object]:
    """Globals for one program, with builtins and modules of its own."""
    own = BUILTINS.copy()
    own["__import__"] = _importer()
    return {
        "__name__": "__main__",
        "__doc__": None,
        "__package__": None,
        "__loader__": None,
        "__spec__": None,
        "__builtins__": own,
    }


def went_too_far() -> bool:
    """Whether the program asked for what only a program alone may have; forgets it."""
    found = bool(_untamed)
    _untamed.clear()
    return found
