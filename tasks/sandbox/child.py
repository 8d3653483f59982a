"""What happens in the process that runs one program. Nothing here is trusted once the program has started.

Runs inside the zygote and imports nothing of ours. The process was forked for this program alone, reads its request
from descriptor 3, confines itself, calls the program on every input and writes one frame of answers to descriptor 3.
A program can take over all of this; what it can gain is to write another frame, that is, to answer otherwise.
"""

from __future__ import annotations

import gc
import marshal
import os
import resource
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tasks.sandbox import kernel
    from tasks.sandbox.seccomp import Filter
else:
    import kernel

_CHANNEL = 3
_HEADER = struct.Struct("=IIII")
_LENGTH = struct.Struct("=I")
_PLAIN = frozenset((type(None), bool, int, float, complex, str, bytes, type(...)))
_CONTAINERS = frozenset((list, tuple, set, frozenset, dict))
_DEPTH = 90  # the trusted side refuses less than this; here it only ends the recursion
_BYTES_TAG = ord("s")
_LOST = 70  # exit code when the request could not be read


class Nothing:
    """Standard streams of a program: everything written is dropped, nothing can be read."""

    encoding = "utf-8"
    errors = "strict"
    closed = False
    newlines = None
    name = "<nothing>"

    @property
    def buffer(self) -> Nothing:
        """The binary layer, as empty as the text layer."""
        return self

    def write(self, data: str | bytes) -> int:
        """Drops the data."""
        return len(data)

    def writelines(self, lines: Iterable[str]) -> None:
        """Drops the lines."""
        for _ in lines:
            pass

    def flush(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""

    def isatty(self) -> bool:
        """Never."""
        return False

    def readable(self) -> bool:
        """Never."""
        return False

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """There is none."""
        raise OSError("no file descriptor")

    def read(self, _size: int = -1) -> str:
        """The end of the file."""
        return ""

    def readline(self, _size: int = -1) -> str:
        """The end of the file."""
        return ""

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __enter__(self) -> Nothing:
        return self

    def __exit__(self, *_: object) -> None:
        pass


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


def _raised(error: BaseException) -> tuple[str, str, str]:
    try:
        name, message = type(error).__name__, str(error)
    except BaseException as second:  # noqa: BLE001 - the program's own __str__ may raise anything
        name, message = type(second).__name__, ""
    return ("raised", name[:100], message[:500] if type(message) is str else "")


def _answer(value: object) -> tuple[object, ...]:
    """The result as data if it is made of literals, else what it is in words."""
    try:
        data = _dumps(value, 2)
        # marshal writes whatever has a buffer, like a bytearray, as bytes.
        if _BYTES_TAG not in data or _plain(value):
            return ("ok", value)
    except ValueError:
        pass
    kind, text = type(value), repr(value)
    return ("opaque", f"{kind.__module__}.{kind.__qualname__}"[:100], text[:500])


# Bound before any program can replace them.
_dumps: Callable[[object, int], bytes] = marshal.dumps  # type: ignore[assignment]  # the stub takes what it cannot fail on
_read, _write, _exit = os.read, os.write, os._exit


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


def _run(source: str, entry: str, calls: tuple[tuple[tuple[object, ...], dict[str, object]], ...]) -> list[object]:
    """The program's answers, one per call."""
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    try:
        exec(compile(source, "<program>", "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - its purpose
        if entry not in module.__dict__:
            raise NameError(f"the program does not define {entry}")
        function = module.__dict__[entry]
    except BaseException as error:  # noqa: BLE001 - SystemExit and worse are answers too
        return [_raised(error)] * len(calls)
    found: list[object] = []
    for args, kwargs in calls:
        try:
            found.append(_answer(function(*args, **kwargs)))
        except BaseException as error:  # noqa: BLE001
            found.append(_raised(error))
    return found


def _frame(found: list[object], limit: int) -> bytes:
    try:
        data = _dumps(found, 2)
    except BaseException as error:  # noqa: BLE001 - memory may have run out
        data = _dumps([_raised(error)] * len(found), 2)
    if len(data) > limit:
        data = _dumps([("large", len(data))] * len(found), 2)
    return _LENGTH.pack(len(data)) + data


def run_program(channel: int, confinement: Filter | None) -> None:
    """Runs the program that comes in through this descriptor; never returns."""
    os.dup2(channel, _CHANNEL)
    os.closerange(_CHANNEL + 1, 64)
    (_, cpu_s, memory_mb, limit), body = _request()
    source, entry, calls = marshal.loads(body)  # noqa: S302 - the trusted side wrote it
    # From here on a full channel is an error for the program, never a way to block.
    os.set_blocking(_CHANNEL, False)
    nothing = Nothing()
    for stream in ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__"):
        setattr(sys, stream, nothing)
    _confine(cpu_s, memory_mb, confinement)
    gc.enable()
    data = _frame(_run(source, entry, calls), limit)
    while data:
        data = data[_write(_CHANNEL, data) :]
    _exit(0)
