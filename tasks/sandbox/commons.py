"""What programs in one process share all the same, and whether it is as it was.

Runs inside the zygote and imports nothing of ours. The list is made once, before any program is there.
"""

from __future__ import annotations

import builtins
import functools
import gc
import itertools
import operator
import re
import typing
from collections.abc import Iterator
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tasks.sandbox import rooms
else:
    import rooms


def _roots() -> list[object]:
    offered = [value for offer in rooms.OFFERS.values() for value in offer.values()]
    made: list[object] = [typing.List[int], typing.Union[int, str], typing.Callable[[int], str], typing.Tuple[int, ...]]  # noqa: UP006, UP007 - what the functions of `typing` give
    cached = functools.lru_cache(None)(len)
    stand_ins = [value for value in rooms.BUILTINS.values() if value is not rooms.TYPE]  # that one guards itself
    return [*offered, *made, *vars(builtins).values(), *stand_ins, cached, cached.cache_info()]


def _beside(found: object) -> Iterator[object]:
    """What an attribute with a tame name could lead to from here, and more."""
    yield type(found)
    if isinstance(found, type):
        yield from found.__mro__
        yield from vars(found).values()
    if isinstance(found, staticmethod | classmethod):
        yield found.__func__
    if isinstance(found, property):
        yield from (found.fget, found.fset)


def _reachable() -> list[object]:
    found: dict[int, object] = {}
    waiting = _roots()
    while waiting:
        one = waiting.pop()
        if id(one) not in found:
            found[id(one)] = one
            waiting += _beside(one)
    return list(found.values())


def _attributes(shared: object) -> dict[str, object] | None:
    """The dict that attributes stored on this object would change; None when there is none."""
    if isinstance(shared, type):
        changeable = shared.__flags__ & 1 << 9 and not shared.__flags__ & 1 << 8  # object.h: HEAPTYPE, IMMUTABLETYPE
        return gc.get_referents(shared.__dict__)[0] if changeable else None
    if isinstance(shared, ModuleType):
        return None  # the submodules that a class body mentions; no tame name leads there
    attributes = getattr(shared, "__dict__", None)
    return attributes if type(attributes) is dict else None


def _carried(shared: list[object]) -> frozenset[str]:
    """Every name with one underscore in front that some shared object answers to."""
    names = {name for one in shared if isinstance(one, type) for name in dir(one)}
    names |= {name for one in shared for name in _attributes(one) or ()}
    own = {"_asdict", "_fields", "_make", "_replace"}  # of named tuples, whose classes each program makes itself
    return frozenset(name for name in names if name[0] == "_" and name[:2] != "__") - own


_SHARED = _reachable()
CARRIED = _carried(_SHARED)
_DICTS = [found for one in _SHARED if (found := _attributes(one)) is not None]
_SIZES = list(map(len, _DICTS))
_KEYS = list(itertools.chain.from_iterable(_DICTS))
_VALUES = list(itertools.chain.from_iterable(map(dict.values, _DICTS)))


def unchanged() -> bool:
    """Whether every shared class and function has the attributes that it had, the very same objects."""
    return (
        list(map(len, _DICTS)) == _SIZES
        and all(map(operator.is_, itertools.chain.from_iterable(_DICTS), _KEYS))
        and all(map(operator.is_, itertools.chain.from_iterable(map(dict.values, _DICTS)), _VALUES))
    )


def forget() -> None:
    """Empties the caches that a program's classes could have got into as keys, whose `__eq__` others would meet."""
    re.purge()
    for clear in typing._cleanups:  # type: ignore[attr-defined]  # as test.libregrtest does
        clear()
