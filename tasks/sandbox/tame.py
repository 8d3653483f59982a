"""Which programs may share a process with others: those that can reach nothing that outlives their own turn.

Runs inside the zygote and imports nothing of ours. This is not the boundary against the machine (the kernel is): a miss
here could spoil the answers of the other programs in one child, and each of those is asked again among others. It
judges compiled code, never text, and compiling happens only here, in a confined child.

A tame program gets builtins and modules of its own, made of what they offer in public. It can then touch something
shared only by the name of an attribute, so names decide: none that begins with an underscore and is carried by a shared
object, no dunder but harmless ones, nothing that leads to frames, code or registries. Attributes that it stores could
land on a shared class or function; these are compared afterwards (`commons`).
"""

from __future__ import annotations

import opcode
import re
import sys
import types
from collections.abc import Iterator
from types import CodeType
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tasks.sandbox import commons
else:
    import commons

_HARMLESS = """
__abs__ __add__ __and__ __bool__ __bytes__ __call__ __ceil__ __complex__ __contains__ __delitem__ __divmod__ __doc__
__enter__ __eq__ __exit__ __float__ __floor__ __floordiv__ __format__ __ge__ __getitem__ __gt__ __hash__ __iadd__
__iand__ __ifloordiv__ __ilshift__ __imatmul__ __imod__ __imul__ __index__ __init__ __int__ __invert__ __ior__
__ipow__ __irshift__ __isub__ __iter__ __itruediv__ __ixor__ __le__ __len__ __length_hint__ __lshift__ __lt__
__main__ __matmul__ __missing__ __mod__ __module__ __mul__ __name__ __ne__ __neg__ __new__ __next__ __or__ __pos__
__pow__ __qualname__ __radd__ __rand__ __rdivmod__ __repr__ __reversed__ __rfloordiv__ __rlshift__ __rmatmul__
__rmod__ __rmul__ __ror__ __round__ __rpow__ __rrshift__ __rshift__ __rsub__ __rtruediv__ __rxor__ __setitem__
__slots__ __str__ __sub__ __truediv__ __trunc__ __xor__
__classcell__ __firstlineno__ __static_attributes__
"""
"""Dunders; the last line holds what the compiler itself puts into a class."""
_FORBIDDEN_NAMES = frozenset(("mro", "register", "with_traceback"))
_INNER = ("gi_", "cr_", "ag_", "tb_", "f_", "co_")
_INNER_TYPES = ("GeneratorType", "CoroutineType", "AsyncGeneratorType", "TracebackType", "FrameType", "CodeType")
_DUNDERS = frozenset(_HARMLESS.split())
_CAREFUL = frozenset(("__class__", "__annotations__", "format", "format_map"))
"""Names that are tame in some places only."""


class Traits(NamedTuple):
    """What a tame program does that calls for a look afterwards."""

    stores: bool
    """It stores or deletes attributes."""
    classes: bool
    """It makes classes, whose members Python calls in places of its own."""


def _inner_names() -> frozenset[str]:
    """Attributes of generators, tracebacks, frames and code objects, by which all else can be reached."""
    names = {name for kind in _INNER_TYPES for name in dir(getattr(types, kind))}
    return frozenset(name for name in names if name.startswith(_INNER)) | _FORBIDDEN_NAMES


_REACHING = _inner_names() | commons.CARRIED
_OP = opcode.opmap
_MATCH_CLASS, _EXTENDED, _CONSTANT = _OP["MATCH_CLASS"], _OP["EXTENDED_ARG"], _OP["LOAD_CONST"]
_STORING = (_OP["STORE_ATTR"], _OP["DELETE_ATTR"])
_PLAIN_NAMES = {_OP["LOAD_NAME"]: 0, _OP["STORE_NAME"]: 0, _OP["STORE_GLOBAL"]: 0, _OP["LOAD_GLOBAL"]: 1}
# By how many bits the index of the name is shifted: Python/bytecodes.c. LOAD_METHOD was merged into LOAD_ATTR in 3.12.
_MERGED = sys.version_info >= (3, 12)
_ATTRIBUTES = (
    {_OP["LOAD_ATTR"]: 1, _OP["LOAD_SUPER_ATTR"]: 2} if _MERGED else {_OP["LOAD_ATTR"]: 0, _OP["LOAD_METHOD"]: 0}
)
_NAMED = _PLAIN_NAMES | _ATTRIBUTES | dict.fromkeys(_STORING, 0)
_ASYNC = 0x80 | 0x100 | 0x200  # CO_COROUTINE, CO_ITERABLE_COROUTINE, CO_ASYNC_GENERATOR


def traits(code: CodeType) -> Traits | None:
    """What to look after when this program shares a process; None when it must not."""
    stores = classes = False
    waiting = [code]
    while waiting:
        one = waiting.pop()
        operations = one.co_code[::2]
        storing = _STORING[0] in operations or _STORING[1] in operations
        if not _tame_names(one.co_names) or _MATCH_CLASS in operations or one.co_flags & _ASYNC:
            return None
        if (storing or not _CAREFUL.isdisjoint(one.co_names)) and not _tame_places(one):
            return None
        stores |= storing
        classes |= _OP["LOAD_BUILD_CLASS"] in operations
        waiting += [constant for constant in one.co_consts if type(constant) is CodeType]
    return Traits(stores, classes)


def _tame_names(names: tuple[str, ...]) -> bool:
    if not _REACHING.isdisjoint(names):
        return False
    for name in names:  # a loop, since this is done for every program
        if name[0] == "_" and name not in _DUNDERS and name not in _CAREFUL and name[:2] == name[-2:] == "__" != name:
            return False
    return True


def _instructions(code: CodeType) -> Iterator[tuple[int, int]]:
    """Operations and arguments without the caches between them."""
    extended, body = 0, code.co_code
    for at in range(0, len(body), 2):
        operation, argument = body[at], body[at + 1] | extended
        extended = argument << 8 if operation == _EXTENDED else 0
        if operation and operation != _EXTENDED:
            yield operation, argument


def _tame_places(code: CodeType) -> bool:
    """Whether careful names stand where they are harmless and no dunder is stored as an attribute."""
    before, class_read = (0, 0), False
    for operation, argument in _instructions(code):
        shift = _NAMED.get(operation)
        name = "" if shift is None else code.co_names[argument >> shift]
        if class_read and not (operation in _ATTRIBUTES and name == "__name__"):
            return False  # only `x.__class__.__name__`: a class's own class makes classes without a class statement
        class_read = operation in _ATTRIBUTES and name == "__class__"
        if operation in _STORING and name[:2] == "__" == name[-2:]:
            return False
        if name in _CAREFUL and not class_read and not _tame_place(code, name, operation, before):
            return False
        before = operation, argument
    return True


def _tame_place(code: CodeType, name: str, operation: int, before: tuple[int, int]) -> bool:
    if name == "__annotations__":
        return operation == _OP["LOAD_NAME"]
    if name == "__class__" or operation not in _ATTRIBUTES:
        return name != "__class__" and operation in _PLAIN_NAMES
    text = code.co_consts[before[1]] if before[0] == _CONSTANT else None
    return type(text) is str and _plain_fields(text)


def _plain_fields(text: str) -> bool:
    """Whether no replacement field of a `format` string reads an attribute or an item."""
    fields = [re.split("[:!}]", part, maxsplit=1)[0] for part in text.split("{")[1:]]
    return not any("." in field or "[" in field for field in fields)
