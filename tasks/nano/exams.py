"""The held-out sets, committed: problems that no training document ever held, the same for every model.

They stand in one file of JSON lines, one row per program, each a problem in every mode. `generate` drew them once from
the language; the file, known by its hash, is what counts from then on.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from storage.errors import ConfigError
from storage.ids import Mode
from storage.seeds import rng
from tasks.nano.documents import INPUTS, VISIBLE, message
from tasks.nano.holdout import Split, program_hash
from tasks.nano.samples import Sample, draw_sample
from tasks.reasoning.modes import MODES, Pairs

FILE = "held_out.jsonl.gz"
HASH = "d71e6d733abdca25cc98e97e3f6d4e32"
"""`content_hash` of the committed file."""
COUNT = 500
"""Programs per part and level."""
LEVELS: dict[str, dict[int, float]] = {"easy": {1: 1, 2: 1}, "middle": {3: 1, 4: 1}, "hard": {5: 1, 6: 1}}
"""Names of difficulties, and the numbers of operations that each draws from; training knows one to four."""
PARTS = (Split.PROGRAM, Split.STRUCTURE)


class Problem(NamedTuple):
    """A task to solve."""

    mode: Mode
    program: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    visible: int
    message: str | None


class Row(NamedTuple):
    """One held-out program with its pairs and its induction message."""

    part: str
    level: str
    operations: int
    program: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    message: str


def held_out(mode: Mode, level: str, part: Split = Split.PROGRAM, count: int = COUNT) -> list[Problem]:
    """The first `count` problems of one mode, level and part; raises ConfigError when the set has fewer."""
    found = [row for row in rows() if row.level == level and row.part == part]
    if count > len(found):
        raise ConfigError(f"{count} problems were asked for and {FILE} has {len(found)} of each kind. Nothing was run.")
    return [_problem(mode, row) for row in found[:count]]


def _problem(mode: Mode, row: Row) -> Problem:
    several = MODES[mode].pairs is Pairs.SEVERAL
    kept = None if several else 1
    return Problem(
        mode=mode,
        program=row.program,
        inputs=row.inputs[:kept],
        outputs=row.outputs[:kept],
        visible=VISIBLE if several else 0,
        message=row.message if several else None,
    )


@cache
def rows() -> tuple[Row, ...]:
    """The whole committed set."""
    lines = gzip.decompress(files("tasks.nano").joinpath(FILE).read_bytes()).decode().splitlines()
    return tuple(_row(*json.loads(line)) for line in lines)


def _row(
    part: str, level: str, operations: int, program: str, inputs: list[str], outputs: list[str], message: str
) -> Row:
    return Row(part, level, operations, program, tuple(inputs), tuple(outputs), message)


def content_hash(of: Iterable[Row]) -> str:
    """Hash of the rows, whatever file they stand in (blake2b of their JSON)."""
    return hashlib.blake2b(_text(of).encode(), digest_size=16).hexdigest()


def _text(of: Iterable[Row]) -> str:
    return "\n".join(json.dumps(row) for row in of)


def generate(part: Split, level: str, count: int) -> list[Row]:
    """Draw `count` programs that differ in more than names, of one level and part; the same ones every time."""
    draw = rng("nano held-out", part, level)
    found: dict[int, Sample] = {}
    while len(found) < count:
        sample = draw_sample(draw, levels=LEVELS[level], pairs=INPUTS, part=part)
        found.setdefault(program_hash(sample.program), sample)
    return [_generated(part, level, sample) for sample in found.values()]


def _generated(part: Split, level: str, sample: Sample) -> Row:
    inputs, outputs = zip(*sample.pairs, strict=True)
    hint = message(rng("nano hint", sample.program), sample)
    return Row(part, level, sample.operations, sample.program, inputs, outputs, hint)


def packed(of: Iterable[Row]) -> bytes:
    """The rows as the bytes of the file."""
    return gzip.compress(_text(of).encode(), mtime=0)
