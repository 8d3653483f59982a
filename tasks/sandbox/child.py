"""What happens in the process that runs programs. Nothing here is trusted once a program has started.

Runs inside the zygote and imports nothing of ours. The process was forked for one program, or for several tame ones,
reads its request from descriptor 3, confines itself, calls each program on every input and writes its answers to
descriptor 3. A program can take over all of this; what it can gain is to answer otherwise.
"""

from __future__ import annotations

import gc
import marshal
import os
import resource
import struct
import sys
import time
from collections.abc import Callable
from types import CodeType, ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tasks.sandbox import commons, kernel, rooms, streams, tame
    from tasks.sandbox.seccomp import Filter
else:
    import commons
    import kernel
    import rooms
    import streams
    import tame

_CHANNEL = 3
_HEADER = struct.Struct("=IIII")
_LENGTH = struct.Struct("=I")
_SHARED_LENGTH = struct.Struct("=II")  # length, microseconds of CPU time
_LIST = struct.Struct("<cI")
_OK = b"(\2\0\0\0u\2\0\0\0ok"  # marshal's beginning of ("ok", ...)
_PLAIN = frozenset((type(None), bool, int, float, complex, str, bytes, type(...)))
_CONTAINERS = frozenset((list, tuple, set, frozenset, dict))
_DEPTH = 90  # the trusted side refuses less than this; here it only ends the recursion
_BYTES_TAG = ord("s")
_LOST = 70  # exit code when the request could not be read
_TOGETHER_BYTES = 16_384  # of one answer among several; a larger one is given alone
_CHANNEL_BYTES = 98_304  # of all of them: nobody reads before the end, and the socket holds no more for sure
_SLACK = 16 << 20  # bytes of address space that neighbours may leave occupied

Calls = tuple[tuple[tuple[object, ...], dict[str, object]], ...]
Item = tuple[str, str, Calls]  # source, entry, calls
Namespace = Callable[[], dict[str, object]]


def _plain(value: object, depth: int = 0) -> bool:
    """Whether these are the exact builtin types all the way down."""
    kind = type(value)
    if kind in _PLAIN:
        return True
    if depth > _DEPTH or kind not in _CONTAINERS:
        return False
    # The exact type was looked up, so isinstance only tells the type checker what is known.
    if isinstance(value, dict):
        return all(_plain(key, depth + 1) and _plain(item, depth + 1) for key, item in value.items())
    return isinstance(value, list | tuple | set | frozenset) and all(_plain(item, depth + 1) for item in value)


def _raised(error: BaseException) -> bytes:
    try:
        name, message = type(error).__name__, str(error)
    except BaseException as second:  # noqa: BLE001 - the program's own __str__ may raise anything
        name, message = type(second).__name__, ""
    return _dumps(("raised", name[:100], message[:500] if type(message) is str else ""), 2)


def _answer(value: object) -> bytes:
    """The result as data if it is made of literals, else what it is in words; later calls cannot change it."""
    try:
        data = _dumps(value, 2)
        # marshal writes whatever has a buffer, like a bytearray, as bytes.
        if _BYTES_TAG not in data or _plain(value):
            return _OK + data
    except ValueError:
        pass
    kind, text = type(value), repr(value)
    return _dumps(("opaque", f"{kind.__module__}.{kind.__qualname__}"[:100], text[:500]), 2)


# Bound before any program can replace them.
_dumps: Callable[[object, int], bytes] = marshal.dumps  # type: ignore[assignment]  # the stub takes what it cannot fail on
_read, _write, _exit, _cpu_ns = os.read, os.write, os._exit, time.process_time_ns


def _request() -> tuple[tuple[int, int, int, int], bytes]:
    data = _read(_CHANNEL, 1 << 17)
    if len(data) < _HEADER.size:
        _exit(_LOST)
    header = _HEADER.unpack_from(data)
    while len(data) < header[0] + _HEADER.size:
        more = _read(_CHANNEL, 1 << 17)
        if not more:
            _exit(_LOST)
        data += more
    return header, data[_HEADER.size :]


def _confine(cpu_s: int, memory_mb: int, confinement: Filter | None) -> None:
    for limit, value in (
        (resource.RLIMIT_NOFILE, _CHANNEL + 1),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_AS, memory_mb << 20),
        (resource.RLIMIT_NPROC, 0),
    ):
        kernel.lower_limit(limit, value)
    if confinement is not None:
        confinement.install()


def _compiled(source: str) -> CodeType:
    return compile(source, "<program>", "exec", dont_inherit=True)


def _perform(code: CodeType, entry: str, calls: Calls, namespace: Namespace, anew: bool) -> list[bytes]:
    """The program's answers, one per call; `anew` gives every call globals of its own."""
    found: list[bytes] = []
    names: dict[str, object] | None = None
    for args, kwargs in calls:
        try:
            if names is None or anew:
                names = namespace()
                exec(code, names)  # noqa: S102 - its purpose
                if entry not in names:
                    raise NameError(f"the program does not define {entry}")
                function = names[entry]
        except BaseException as error:  # noqa: BLE001 - SystemExit and worse are answers too
            return [_raised(error)] * len(calls)
        try:
            found.append(_answer(function(*args, **kwargs)))  # type: ignore[operator]  # or it is a TypeError
        except BaseException as error:  # noqa: BLE001
            found.append(_raised(error))
    return found


def _listed(answers: list[bytes], limit: int) -> bytes:
    data = _LIST.pack(b"[", len(answers)) + b"".join(answers)
    if len(data) <= limit:
        return data
    return _LIST.pack(b"[", len(answers)) + _dumps(("large", len(data)), 2) * len(answers)


# ---- alone


def _main() -> dict[str, object]:
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    return module.__dict__


def _alone(item: Item, anew: bool, limit: int) -> None:
    """One program, which may do to this process whatever the kernel lets it."""
    gc.enable()
    answers = _only_turn(*item, anew)
    try:
        data = _listed(answers, limit)
    except BaseException as error:  # noqa: BLE001 - memory may have run out
        data = _listed([_raised(error)] * len(answers), limit)
    data = _LENGTH.pack(len(data)) + data
    while data:
        data = data[_write(_CHANNEL, data) :]


def _only_turn(source: str, entry: str, calls: Calls, anew: bool) -> list[bytes]:
    """As deep in calls as `_turn`, so that both leave a program the same number of its own."""
    try:
        code = _compiled(source)
    except BaseException as error:  # noqa: BLE001
        return [_raised(error)] * len(calls)
    return _perform(code, entry, calls, _main, anew)


# ---- together


def _together(items: list[Item], anew: bool, room: int) -> None:
    """Several programs, each before the next; an empty answer asks for the program to be run alone.

    Ends early, so that the others are run elsewhere, when one has left something behind.
    """
    written = 0
    for source, entry, calls in items:
        start = _cpu_ns()
        data, clean = _turn(source, entry, calls, anew)
        frame = _SHARED_LENGTH.pack(len(data), (_cpu_ns() - start) // 1000) + data
        written += len(frame)
        if written > _CHANNEL_BYTES:
            return
        _write(_CHANNEL, frame)
        if not (clean and _has_room(room)):
            return


def _turn(source: str, entry: str, calls: Calls, anew: bool) -> tuple[bytes, bool]:
    """The answers of one tame program, and whether the process is as it was."""
    try:
        code = _compiled(source)
    except BaseException as error:  # noqa: BLE001
        return _listed([_raised(error)] * len(calls), _TOGETHER_BYTES), True
    traits = tame.traits(code)
    if traits is None:
        return b"", True
    made: list[dict[str, object]] = []

    def namespace() -> dict[str, object]:
        made.append(rooms.namespace())
        return made[-1]

    data = _listed(_perform(code, entry, calls, namespace, anew), _TOGETHER_BYTES)
    for names in made:
        names.clear()  # ends what the program left running: its generators, and cycles through its functions
    if traits.classes:
        commons.forget()
    clean = not traits.stores or commons.unchanged()
    return b"" if rooms.went_too_far() or not clean or len(data) > _TOGETHER_BYTES else data, clean


def _has_room(size: int) -> bool:
    """Whether so many bytes could be had; `bytes` does not touch them (calloc), so asking is cheap."""
    try:
        bytes(size)
    except MemoryError:
        return False
    return True


def _free(memory_mb: int) -> int:
    """Bytes of address space that the first program finds."""
    free = memory_mb << 20
    while free and not _has_room(free):
        free -= 4 << 20
    return free


def _shift_addresses() -> list[object]:
    """Small objects, that the low bits of later addresses tell nothing that is the same in both interpreters.

    Of the commonest sizes only: each further one would touch a page of memory that the zygote still shares.
    """
    found: list[object] = [bytes(size) for size in (7, 23, 39) * 3]
    for number in range(3):
        found += [object(), float(number), {number: None}, lambda: None]
    return found


def serve(channel: int, confinement: Filter | None) -> None:
    """Runs the programs that come in through this descriptor; never returns."""
    os.dup2(channel, _CHANNEL)
    os.closerange(_CHANNEL + 1, 64)
    (_, cpu_s, memory_mb, limit), body = _request()
    together, anew, items = marshal.loads(body)  # noqa: S302 - the trusted side wrote it
    # From here on a full channel is an error for the program, never a way to block.
    os.set_blocking(_CHANNEL, False)
    streams.silence()
    _confine(cpu_s, memory_mb, confinement)
    held = _shift_addresses() if anew else []
    if together:
        _together(items, anew, _free(memory_mb) - _SLACK)
    else:
        _alone(items[0], anew, limit)
    held.clear()
    _exit(0)
