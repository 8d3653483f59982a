"""The standard streams of a program: everything written is dropped, nothing can be read.

Runs inside the zygote and imports nothing of ours.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

_STREAMS = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")


class Nothing:
    """An endless place to write to, and an empty one to read from."""

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


def silence() -> None:
    """Puts `Nothing` in the place of every standard stream."""
    nothing = Nothing()
    for stream in _STREAMS:
        setattr(sys, stream, nothing)
