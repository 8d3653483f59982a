"""Which programs the nano base was trained on, as a sorted file of 32-bit hashes beside its weights.

Two different programs share a hash about once in four billion pairs, so a program that was never seen is called seen
with a chance of (number of hashes) / 2^32.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.errors import EngineError
from tasks.nano.holdout import program_hash

FILE = "programs.npy"
Memory = NDArray[np.uint32]


def remember(programs: Iterable[str]) -> Memory:
    """The sorted hashes of programs, variables renamed."""
    return np.unique(np.fromiter((_short(program) for program in programs), dtype=np.uint32))


def seen(memory: Memory, program: str) -> bool:
    """Whether a program (up to the names of its variables) is among those remembered."""
    wanted = _short(program)
    place = int(np.searchsorted(memory, np.uint32(wanted)))
    return place < len(memory) and int(memory[place]) == wanted


def write_memory(memory: Memory, directory: Path) -> None:
    """Save the hashes in a model's directory."""
    np.save(directory / FILE, memory, allow_pickle=False)


def read_memory(directory: Path) -> Memory:
    """The hashes of a model's directory; raises EngineError when there are none or they cannot be read."""
    try:
        memory: Memory = np.load(directory / FILE, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise EngineError(f"{directory / FILE} does not tell which programs the model has seen: {error}.") from error
    return memory


def known_of(directory: Path | None) -> Memory | None:
    """The hashes of a model's directory, if it is there and has any."""
    return read_memory(directory) if directory is not None and (directory / FILE).is_file() else None


def _short(program: str) -> int:
    return program_hash(program) >> 32
