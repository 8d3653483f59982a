"""Journals: files of JSON lines that are only ever appended to.

A line torn by a full disk or a kill is skipped by readers, and the next append begins on a fresh line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path


def append_line(path: Path, fields: Mapping[str, object], *, durable: bool) -> None:
    """Append one line, synced when `durable`; raises OSError when it cannot be written whole."""
    line = json.dumps(fields).encode() + b"\n"
    with path.open("ab+", buffering=0) as file:
        if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
            line = b"\n" + line
        written = file.write(line)
        if durable:
            os.fsync(file.fileno())
    if written != len(line):
        raise OSError(f"only {written} of {len(line)} bytes could be appended to {path}")


def read_lines(path: Path) -> list[str]:
    """Every line, torn ones too; none when there is no such file."""
    try:
        return path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
