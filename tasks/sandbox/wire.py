"""What crosses the process boundary: a program and its calls go in, one frame of answers comes out.

Both directions are a subset of CPython's marshal format, version 2 (no references). Requests are written here rather
than by `marshal`, because it writes sets in the order of this process's hash seed, and that order would show inside.
Answers were written by an untrusted process: `marshal.loads` and pickle are unsafe on such bytes, so they are read by a
decoder of our own that builds nothing but literals and whose work is bounded by the frame's size.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tasks.sandbox.bounds import Keys, checked_int
from tasks.sandbox.jobs import Limits, Output
from tasks.sandbox.values import MAX_DEPTH, MAX_INT_BITS, MAX_TEXT, Arguments, Refused, canonical

HEADER = struct.Struct("=IIII")  # length of the request, CPU seconds, MiB, bytes of answer
LENGTH = struct.Struct("=I")  # length of the answer
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")
MAX_ANSWER = LENGTH.size + MAX_TEXT
"""Bytes of one answer that are read at most; one more shows that there were too many."""
SHARED = struct.Struct("=II")  # length of one program's answer among several, microseconds of CPU time
MAX_REQUEST = 131_072
"""Bytes of one request; it must fit into a socket buffer."""


class Malformed(ValueError):
    """Bytes that no honest child writes."""


# ---- requests


def encoded_call(arguments: Arguments) -> bytes:
    """One call as a child reads it; raises Refused when an argument is not a literal."""
    return _encode(tuple(arguments))


def encoded_item(program: str, entry: str, calls: Sequence[bytes]) -> bytes:
    """One program with its encoded calls, in this order."""
    return _sequence(b"(", (_encode(program), _encode(entry), _sequence(b"(", calls)))


def request(items: Sequence[bytes], limits: Limits, *, together: bool = False, anew: bool = False) -> bytes:
    """The bytes that a child reads: encoded programs; raises Refused when they would be too many.

    `together` lets tame programs share the child, `anew` gives every call globals of its own.
    """
    return _headed(_sequence(b"(", (_encode(together), _encode(anew), _sequence(b"[", items))), limits)


def _sequence(tag: bytes, encoded: Sequence[bytes]) -> bytes:
    return struct.pack("<cI", tag, len(encoded)) + b"".join(encoded)


def asked(value: object, limits: Limits) -> bytes:
    """The bytes by which a child gets one literal; raises Refused when they would be too many."""
    return _headed(_encode(value), limits)


def _headed(body: bytes, limits: Limits) -> bytes:
    if len(body) > MAX_REQUEST:
        raise Refused(f"program and inputs make {len(body)} bytes, {MAX_REQUEST} are the limit")
    # The zygote measures CPU time; the kernel's own limit only stands behind it.
    return HEADER.pack(len(body), int(limits.cpu_s) + 2, limits.memory_mb, limits.output_bytes) + body


def _encode(value: object) -> bytes:
    """A literal in marshal's version 2, sets in canonical order."""
    kind = type(value)
    if kind in _CONSTANT_TAGS:
        return _CONSTANT_TAGS[kind]
    if isinstance(value, bool):
        return b"T" if value else b"F"
    if isinstance(value, int):
        return _encode_int(value)
    if isinstance(value, float):
        return struct.pack("<cd", b"g", value)
    if isinstance(value, complex):
        return struct.pack("<cdd", b"y", value.real, value.imag)
    if isinstance(value, str | bytes):
        data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        return struct.pack("<cI", b"u" if kind is str else b"s", len(data)) + data
    if isinstance(value, dict):
        return b"{" + b"".join(_encode(key) + _encode(item) for key, item in value.items()) + b"0"
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value, key=canonical) if isinstance(value, set | frozenset) else value
        return struct.pack("<cI", _CONTAINER_TAGS[kind], len(value)) + b"".join(map(_encode, items))
    raise Refused(f"{kind.__name__} is not a literal")


def _encode_int(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return struct.pack("<ci", b"i", value)
    digits, rest = [], abs(value)
    while rest:
        digits.append(rest & 0x7FFF)
        rest >>= 15
    return struct.pack(f"<ci{len(digits)}H", b"l", len(digits) if value > 0 else -len(digits), *digits)


# ---- answers


@dataclass(frozen=True, slots=True)
class Answer:
    """What a child said about one call: an output, and whether what was returned is a literal."""

    output: Output
    literal: bool = True


class TooLarge(Refused):
    """The child says that its answers do not fit the limit."""


def answers(data: bytes, calls: int, limits: Limits) -> list[Answer]:
    """The answers in what a child wrote, one per call.

    Raises Malformed when no honest child writes such bytes, Refused when an answer is not a literal or too large.
    """
    items = decoded(data, limits.output_bytes // 3 + 64)
    if not isinstance(items, list) or len(items) != calls:
        raise Malformed(f"a frame without its {calls} answers")
    found = [_answer(item) for item in items]
    size = sum(len((answer.output.text or "").encode()) for answer in found)
    if size > limits.output_bytes:
        raise TooLarge(f"outputs of {size} bytes of text, {limits.output_bytes} are the limit")
    return found


class SharedFrame(NamedTuple):
    """What a child of several programs wrote about one; no `data` asks for it to be run alone."""

    cpu_us: int
    data: bytes


def shared_frames(data: bytes, most: int) -> list[SharedFrame]:
    """The whole frames at the front of what a child of several programs wrote, `most` of them at most."""
    found: list[SharedFrame] = []
    at = 0
    while len(found) < most and at + SHARED.size <= len(data):
        length, cpu_us = SHARED.unpack_from(data, at)
        end = at + SHARED.size + length
        if end > len(data):
            break
        found.append(SharedFrame(cpu_us, data[at + SHARED.size : end]))
        at = end
    return found


def decoded(data: bytes, budget: int) -> object:
    """The literal in what a child wrote, of at most `budget` values.

    Raises Malformed when no honest child writes such bytes, Refused when it is no literal or has more values.
    """
    if len(data) < LENGTH.size or LENGTH.unpack_from(data)[0] != len(data) - LENGTH.size:
        raise Malformed(f"{len(data)} bytes that are not one frame")
    try:
        return _Decoder(data[LENGTH.size :], budget).whole()
    except (struct.error, UnicodeDecodeError) as error:
        raise Malformed(f"a frame that does not decode: {error}") from error


def _answer(item: object) -> Answer:
    match item:
        case ("ok", value):
            return Answer(Output(canonical(value)))
        case ("raised", str(kind), str(message)):
            return Answer(Output(None, f"{line(kind, 80)}: {line(message, 200)}".removesuffix(": "), raised=kind))
        case ("opaque", str(kind), str(text)):
            return Answer(Output(None, f"not a literal: {line(kind, 80)} {line(text, 200)}"), literal=False)
        case ("large", int(size)):
            raise TooLarge(f"outputs of {size} bytes, the limit is lower")
    raise Malformed("an answer of no known kind")


def line(text: str, limit: int) -> str:
    """Text from a child made fit for the ledger: printable, one line, cut, without addresses, which differ by run."""
    return _ADDRESS.sub("0x...", repr(text[:limit])[1:-1])


class _Decoder:
    """Reads one value from the front of `data`; `budget` bounds how many values there may be."""

    def __init__(self, data: bytes, budget: int) -> None:
        self._data = data
        self._at = 0
        self._budget = budget
        self._keys = Keys()

    def whole(self) -> object:
        value = self._value(-2)  # the frame's own list and tuple are not the program's
        if self._at != len(self._data):
            raise Malformed(f"{len(self._data) - self._at} bytes after the answer")
        return value

    def _value(self, depth: int) -> object:
        self._budget -= 1
        if self._budget < 0:
            raise TooLarge("more values than the text of an output can hold")
        if depth > MAX_DEPTH:
            raise Refused(f"more than {MAX_DEPTH} containers around a value")
        tag = self._take(1)
        if tag in _CONSTANTS:
            return _CONSTANTS[tag]
        reader = _READERS.get(tag)
        if reader is None:
            raise Refused(f"not a literal: marshal's {tag!r}")
        return reader(self, depth + 1)

    def _take(self, count: int) -> bytes:
        start, self._at = self._at, self._at + count
        if self._at > len(self._data):
            raise Malformed("a frame that ends too early")
        return self._data[start : self._at]

    def _count(self) -> int:
        return int.from_bytes(self._take(4), "little")

    def _int(self, _depth: int) -> int:
        return int.from_bytes(self._take(4), "little", signed=True)

    def _long(self, _depth: int) -> int:
        count = self._int(0)
        if abs(count) > MAX_INT_BITS // 15 + 1:
            raise Refused(f"an int of {15 * abs(count)} bits, {MAX_INT_BITS} are the limit")
        value = 0
        for digit in reversed(struct.unpack(f"<{abs(count)}H", self._take(2 * abs(count)))):
            if digit > 0x7FFF:
                raise Malformed("a digit of more than 15 bits")
            value = value << 15 | digit
        return checked_int(-value if count < 0 else value)

    def _float(self, _depth: int) -> float:
        value: float = struct.unpack("<d", self._take(8))[0]
        return value

    def _complex(self, _depth: int) -> complex:
        return complex(*struct.unpack("<dd", self._take(16)))

    def _bytes(self, _depth: int) -> bytes:
        return self._take(self._count())

    def _str(self, _depth: int) -> str:
        return self._take(self._count()).decode("utf-8", "surrogatepass")

    def _items(self, depth: int) -> list[object]:
        count = self._count()
        if count > len(self._data) - self._at:
            raise Malformed("more items than bytes")
        return [self._value(depth) for _ in range(count)]

    def _tuple(self, depth: int) -> tuple[object, ...]:
        return tuple(self._items(depth))

    def _set(self, depth: int) -> set[object]:
        members = self._items(depth)
        self._keys.check(members)
        found = set(members)
        if len(found) != len(members):
            raise Malformed("a set with a member twice")
        return found

    def _frozenset(self, depth: int) -> frozenset[object]:
        self._budget -= 3  # its text is longer than that of four other values
        return frozenset(self._set(depth + 1))  # written as a set inside a call

    def _dict(self, depth: int) -> dict[object, object]:
        pairs = []
        while self._data[self._at : self._at + 1] != b"0":
            pairs.append((self._value(depth), self._value(depth)))
        self._at += 1
        self._keys.check([key for key, _ in pairs])
        return dict(pairs)


_CONSTANTS: dict[bytes, object] = {b"N": None, b"T": True, b"F": False, b".": ...}
_CONSTANT_TAGS: dict[type, bytes] = {type(None): b"N", type(...): b"."}
_CONTAINER_TAGS: dict[type, bytes] = {list: b"[", tuple: b"(", set: b"<", frozenset: b">"}
_READERS: dict[bytes, Callable[[_Decoder, int], object]] = {
    b"i": _Decoder._int,
    b"l": _Decoder._long,
    b"g": _Decoder._float,
    b"y": _Decoder._complex,
    b"s": _Decoder._bytes,
    b"u": _Decoder._str,
    b"[": _Decoder._items,
    b"(": _Decoder._tuple,
    b"<": _Decoder._set,
    b">": _Decoder._frozenset,
    b"{": _Decoder._dict,
}
