"""What a person sees: messages, tables, and the progress of a training. The only file that prints."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from storage.ids import Position, Stage, step_text

Cell = object  # whatever DuckDB returns; shown as text


# The part of an iteration that is done after a stage, measured on the nano model.
DONE_AFTER = {Stage.PROPOSE: 0.07, Stage.VALIDATE: 0.1, Stage.SOLVE: 0.48, Stage.VERIFY: 0.57, Stage.UPDATE: 1.0}


class Table(NamedTuple):
    """Columns and rows to print."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def say(text: str = "") -> None:
    """One message on standard output."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def emit(data: bytes) -> None:
    """Bytes on standard output, as they are."""
    sys.stdout.buffer.write(data)
    sys.stdout.flush()


def complain(text: str) -> None:
    """One error on standard error."""
    sys.stderr.write(f"azr: {text}\n")


def say_json(value: object) -> None:
    """A value as JSON; UUIDs, dates and decimals as text."""
    say(_json(value))


def as_table(table: Table) -> str:
    """Aligned plain text; numbers to the right, newlines in cells shown as spaces."""
    cells = [[_cell(value) for value in row] for row in table.rows]
    widths = [max([len(name), *(len(row[i]) for row in cells)]) for i, name in enumerate(table.columns)]
    numeric = [_numeric([row[i] for row in table.rows]) for i in range(len(table.columns))]

    def line(values: Sequence[str]) -> str:
        padded = [v.rjust(w) if n else v.ljust(w) for v, w, n in zip(values, widths, numeric, strict=True)]
        return "  ".join(padded).rstrip()

    ruler = "  ".join("-" * width for width in widths)
    return "\n".join([line(list(table.columns)), ruler, *(line(row) for row in cells)])


def as_csv(table: Table) -> str:
    """RFC 4180, header first, without the last newline."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return written.getvalue().removesuffix("\n")


def as_json(table: Table) -> str:
    """A list of objects; what is no number (NaN, infinity) is null, since JSON has no word for it."""
    return _json([dict(zip(table.columns, map(_finite, row), strict=True)) for row in table.rows])


def seconds(value: float) -> str:
    """A duration as people say it: ``0.4 s``, ``41 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if value < 10:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _json(value: object) -> str:
    return json.dumps(value, indent=2, default=str, ensure_ascii=False)


def _finite(value: Cell) -> Cell:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return {name: _finite(item) for name, item in value.items()} if isinstance(value, dict) else value


def _cell(value: Cell) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("\n", "⏎ ")


def _numeric(values: Sequence[Cell]) -> bool:
    return all(isinstance(value, int | float) or value is None for value in values)


class Gauge(Protocol):
    """Who is told how much of a long job is done."""

    def __call__(self, done: int, total: int, detail: str = "") -> None:
        """So much is done."""

    def close(self) -> None:
        """Nothing more will be told."""


class Meter:
    """Progress of a long command, on standard error: a live line on a terminal, now and then a plain one elsewhere."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._live = sys.stderr.isatty()
        self._began = self._shown = time.monotonic()

    def __call__(self, done: int, total: int, detail: str = "") -> None:
        """So much is done; told at most twice a second on a terminal, every 15 s elsewhere."""
        now = time.monotonic()
        if now - self._shown < (0.5 if self._live else 15.0):
            return
        self._shown, spent = now, now - self._began
        left = f", about {seconds(spent * (total - done) / done)} left" if done else ""
        line = f"{self._what} {done}/{total}{detail}, {seconds(spent)}{left}"
        sys.stderr.write(f"\r\x1b[2K{line}" if self._live else f"{line}\n")
        sys.stderr.flush()

    def close(self) -> None:
        """Leave an empty line behind."""
        if self._live:
            sys.stderr.write("\r\x1b[2K")


class TrainingConsole:
    """Shows the stages of a run as they happen: a live line on a terminal, one plain line per stage elsewhere."""

    def __init__(self, *, first: int, last: int) -> None:
        self._first, self._last = first, last
        self._began = self._stage_began = time.monotonic()
        self._live = sys.stdout.isatty()
        self._shown = 0.0
        self._at = Position(0, Stage.PROPOSE)

    def begin(self, at: Position) -> None:
        """A stage starts to run."""
        if at.iteration > 0 and self._at.iteration == 0:
            self._began = time.monotonic()  # the bootstrap says nothing about the pace of iterations
        self._at, self._stage_began, self._shown = at, time.monotonic(), 0.0

    def progress(self, done: int, total: int) -> None:
        """Part of the running stage is done; shown at most twice a second on a terminal, every 15 s elsewhere."""
        now = time.monotonic()
        if now - max(self._shown, self._stage_began) < (0.5 if self._live else 15.0):
            return
        self._shown = now
        line = f"{self._label(self._at)} {done}/{total}, {seconds(now - self._stage_began)}{self._left()}"
        if self._live:
            sys.stdout.write(f"\r\x1b[2K{line}")
            sys.stdout.flush()
        else:
            say(line)

    def end(self, at: Position, note: str) -> None:
        """A stage is sealed."""
        spent = seconds(time.monotonic() - self._stage_began)
        self._line(f"{self._label(at)} {note:<44} {spent:>8}{self._left()}")

    def skip(self, at: Position) -> None:
        """A stage was sealed before."""
        self._line(f"{self._label(at)} sealed before, not run again")

    def _line(self, text: str) -> None:
        say(f"\r\x1b[2K{text}" if self._live else text)

    def _label(self, at: Position) -> str:
        step = step_text(at.iteration, at.round)
        where = f"bootstrap {step}" if at.iteration == 0 else f"iteration {step}/{self._last}"
        return f"{where:<16} {at.stage:<9}"

    def _left(self) -> str:
        """Time left, from the pace since training began here and the usual share of each stage."""
        if self._at.iteration < max(self._first, 1):
            return ""
        done = self._at.iteration - max(self._first, 1) + DONE_AFTER[self._at.stage]
        left = self._last - max(self._first, 1) + 1 - done
        spent = time.monotonic() - self._began
        return f"   about {seconds(spent * left / done)} left" if left > 1e-9 else ""


def summary(lines: Mapping[str, str]) -> str:
    """Named facts, one per line, aligned."""
    width = max(map(len, lines))
    return "\n".join(f"  {name.ljust(width)}  {value}" for name, value in lines.items())
