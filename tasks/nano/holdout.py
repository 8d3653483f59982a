"""Which programs the nano base never sees: a fixed tenth by program, and a twentieth by structure.

The rule reads text only, so it decides about any program: one drawn from the language or one that a model wrote.
"""

from __future__ import annotations

import builtins
import hashlib
import keyword
import re
from enum import StrEnum


class Split(StrEnum):
    """Where a program belongs."""

    TRAINING = "training"
    PROGRAM = "program"  # held out: this program, up to the names of its variables
    STRUCTURE = "structure"  # held out: every program of this shape, whatever its constants


_PIECE = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|\.?[A-Za-z_]\w*|\d+")
_KEPT = frozenset(keyword.kwlist) | frozenset(dir(builtins)) | {"f"}
_CONSTANT = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|\b\d+\b")
PROGRAM_SHARE, STRUCTURE_SHARE = 10, 20


def normalise(program: str) -> str:
    """The text with its variables and helpers renamed ``x0, x1, ...`` in order of appearance, trailing space dropped.

    Keywords, builtins, attributes, strings and the entry ``f`` stay.
    """
    names: dict[str, str] = {}

    def rename(piece: re.Match[str]) -> str:
        text = piece.group()
        if not (text[0].isalpha() or text[0] == "_") or text in _KEPT:
            return text
        return names.setdefault(text, f"x{len(names)}")

    return "\n".join(line.rstrip() for line in _PIECE.sub(rename, program).strip().splitlines())


def structure(program: str) -> str:
    """The normalised text with every number and string replaced by ``0``."""
    return _CONSTANT.sub("0", normalise(program))


def program_hash(program: str) -> int:
    """64-bit hash of the normalised program (blake2b)."""
    return _hash(normalise(program))


def split(program: str) -> Split:
    """The set of a program; the structure rule is for bodies of two lines and more."""
    if program_hash(program) % PROGRAM_SHARE == 0:
        return Split.PROGRAM
    shape = structure(program)
    if shape.count("\n") >= 2 and _hash(shape) % STRUCTURE_SHARE == 0:
        return Split.STRUCTURE
    return Split.TRAINING


def held_out(program: str) -> bool:
    """Whether a program never enters pre-training."""
    return split(program) is not Split.TRAINING


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
