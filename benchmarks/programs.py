"""Real programs: the published seeds, and which of them may run without a sandbox."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SAMPLE = Path(__file__).with_name("data")
_PURE = """
array bisect calendar cmath collections copy dataclasses datetime decimal enum fractions functools heapq itertools
json math numbers operator re statistics string textwrap typing unicodedata
"""
_IMPORT = re.compile(r"\b(?:from\s+([\w.]+)\s+import|import\s+([\w., \t]+))")
_REACHING_OUT = re.compile(
    r"(?<!re\.)\b(?:open|exec|eval|compile|input|breakpoint|exit|quit|globals|locals|vars|getattr|setattr|delattr)\s*\("
    r"|\b(?:__\w+__|environ|system|popen|gi_\w+|tb_\w+|co_\w+)\b"
)
_OWN_METHODS = re.compile(r"\bdef\s+__\w+__\b|\bsuper\(\)\.__init__\b")


class Program(NamedTuple):
    """One published program and one of its inputs."""

    text: str
    input: str
    stored: str
    """The output that was published with it."""


def read(directory: Path) -> list[Program]:
    """Every pair of program and input in the directory's `*.jsonl`, in order; raises OSError and ValueError."""
    lines = [line for path in sorted(directory.glob("*.jsonl")) for line in path.read_text("utf-8").splitlines()]
    if not lines:
        raise FileNotFoundError(f"No *.jsonl in {directory}. Nothing was measured. Give --programs a folder of seeds")
    return [program for line in lines for program in _programs(json.loads(line))]


def _programs(row: dict[str, object]) -> Iterator[Program]:
    match row:
        case {"snippet": str(text), "input": str(given), "output": str(stored)}:
            yield Program(text, given, stored)
        case {"snippet": str(text), "inputs": list(inputs), "outputs": list(outputs)}:
            for given, stored in zip(inputs, outputs, strict=True):
                yield Program(text, str(given), str(stored))


def one_each(programs: list[Program]) -> list[Program]:
    """The first pair of every different program: many induction tasks ask about the same one."""
    return list({program.text: program for program in reversed(programs)}.values())[::-1]


def harmless(program: Program) -> bool:
    """Whether a program may run in a process without confinement: pure modules, and no name that reaches further."""
    text = f"{program.text}\n{program.input}"
    origins = [names for found in _IMPORT.findall(text) for names in found if names]
    roots = {name.split()[0].split(".")[0] for names in origins for name in names.split(",") if name.strip()}
    return roots <= set(_PURE.split()) and not _REACHING_OUT.search(_OWN_METHODS.sub("", text))
