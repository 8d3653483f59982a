"""What one program costs the executor, in CPU time, against plain `exec` and other ways to run a program.

    python benchmarks/executor.py [--programs DIR] [--quick] [--json FILE]

One run measures everything, a round of each row after the other, again and again (A B C A B C), so that what else the
machine does falls on all of them. README.md says what the figures mean.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import cputime
from contenders import ALL, ALONE, Contender, Row
from programs import SAMPLE, Program, harmless, one_each, read

from tasks.sandbox.executor import Executor, Job, Layer, Limits, Status
from tasks.sandbox.values import Refused, equal, parse_value

BOUND = Row("plain exec in process", 1, "in_process", rounds=5)
OURS = [
    Row("our fast lane", 1),
    Row("our fast lane", 2),
    Row("our slow lane", 1, lanes=ALONE, at_most=200),
    Row("our slow lane", 2, lanes=ALONE, at_most=200),
]
OTHERS = [
    Row("multiprocessing.Pool", 2, "pool", rounds=2),
    Row("pydantic-monty", 1, "monty", rounds=2),
    Row("Process and Manager per program", 1, "process_each", at_most=40),
    Row("python -I -S -c per program", 1, "interpreter_each", at_most=60),
]
LAYERS = [
    Row(f"slow lane, {', '.join(['rlimits', *sorted(layers)])}", 1, lanes=ALONE, layers=layers, at_most=100)
    for layers in (frozenset[Layer](), *(frozenset({layer}) for layer in Layer), ALL)
]


class Reading(NamedTuple):
    """One repetition of one row: milliseconds of CPU time per program and run."""

    ms: float
    own_ms: float
    """The part of it in the process that asks."""
    ratio: float
    """Against the bound in the same repetition."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """A line of the table: medians over the repetitions, and the least and the greatest."""

    name: str
    workers: int
    cpu_ms: float
    cpu_ms_range: tuple[float, float]
    own_ms: float
    ratio: float
    ratio_range: tuple[float, float]
    programs: int
    agree: int
    """Programs whose output is the one that validation makes the gold."""
    fast: int
    """Programs that shared a process with others."""


def usable(programs: Sequence[Program], workers: int) -> dict[Program, str]:
    """The programs that every row can run, each with its gold output: harmless, and valid tasks."""
    with Executor(workers) as executor:
        limits = Limits(cpu_s=1.0)
        jobs = [Job(program=one.text, inputs=(one.input,), limits=limits, interpreters=2) for one in programs]
        found = executor.run(jobs, lambda done, total: said(f"which programs are valid: {done} of {total}"))
    return {
        program: execution.outputs[0].text or ""
        for program, execution in zip(programs, found, strict=True)
        if execution.status is Status.OK
    }


def said(text: str) -> None:
    """Progress: one line that is written over, where there is a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)


class Track:
    """A row that is being measured."""

    def __init__(self, row: Row, contender: Contender, gold: dict[Program, str]) -> None:
        self.row = row
        self._contender = contender
        self._programs = list(gold)[: row.at_most]
        answers = contender.run(self._programs, 1)  # and everything is warm
        self._agree = sum(map(same, answers, gold.values()))
        self.readings: list[Reading] = []

    def measure(self, bound_ms: float | None) -> float:
        """One repetition; its milliseconds per program and run."""
        before = cputime.begin()
        self._contender.run(self._programs, self.row.rounds)
        used = cputime.end().since(before)
        runs = len(self._programs) * self.row.rounds * self._contender.runs
        ms = (used.own + used.below) * 1000 / runs
        self.readings.append(Reading(ms, used.own * 1000 / runs, ms / (bound_ms or ms)))
        return ms

    def figures(self) -> Figures:
        ms, own, ratios = zip(*self.readings, strict=True)
        return Figures(
            name=self.row.name,
            workers=self.row.workers,
            cpu_ms=round(statistics.median(ms), 4),
            cpu_ms_range=(round(min(ms), 4), round(max(ms), 4)),
            own_ms=round(statistics.median(own), 4),
            ratio=round(statistics.median(ratios), 2),
            ratio_range=(round(min(ratios), 2), round(max(ratios), 2)),
            programs=len(self._programs),
            agree=self._agree,
            fast=self._contender.fast,
        )


def same(answer: str, gold: str) -> bool:
    """Whether an answer is the gold output."""
    try:
        return equal(parse_value(answer), parse_value(gold))
    except Refused:
        return False


def tracks(rows: Sequence[Row], gold: dict[Program, str], cleanup: ExitStack) -> Iterator[Track]:
    """The rows that can be measured here, warm; says which cannot, and why."""
    for row in rows:
        reason = row.missing()
        if reason is not None:
            print(f"{row.name}: left out, {reason}")
            continue
        said(f"warming up: {row.name}")
        contender = row.make()
        cleanup.callback(contender.close)
        yield Track(row, contender, gold)


def measured(rows: Sequence[Row], gold: dict[Program, str], repetitions: int) -> list[Figures]:
    """The figures of every row; the first row is the bound."""
    with ExitStack() as cleanup:
        going = list(tracks(rows, gold, cleanup))
        for repetition in range(repetitions):
            print(f"repetition {repetition + 1} of {repetitions}", file=sys.stderr)
            bound_ms: float | None = None
            for track in going:
                said(f"{track.row.name}, {track.row.workers} workers")
                ms = track.measure(bound_ms)
                bound_ms = bound_ms or ms
            said("")
        return [track.figures() for track in going]


HEAD = (
    "row",
    "workers",
    "CPU ms/program",
    "least-greatest",
    "of it asking",
    "x bound",
    "least-greatest",
    "agree",
    "shared",
)


def table(figures: Sequence[Figures]) -> str:
    """The figures as a Markdown table."""
    lines = [HEAD, ("---", *["--:"] * (len(HEAD) - 1))]
    lines += [
        (
            one.name,
            str(one.workers),
            f"{one.cpu_ms:.3f}",
            "{:.3f}-{:.3f}".format(*one.cpu_ms_range),
            f"{one.own_ms:.3f}",
            f"{one.ratio:.1f}",
            "{:.1f}-{:.1f}".format(*one.ratio_range),
            f"{one.agree}/{one.programs}",
            str(one.fast),
        )
        for one in figures
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--programs", type=Path, default=SAMPLE, help="a folder of published seeds (*.jsonl)")
    parser.add_argument("--quick", action="store_true", help="60 programs, 3 repetitions: shows that it works")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where the figures go as JSON")
    return parser.parse_args()


def main() -> int:
    asked = arguments()
    try:
        programs = one_each(read(asked.programs))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    chosen = [program for program in programs if harmless(program)]
    gold = usable(chosen[:: max(1, len(chosen) // 60)] if asked.quick else chosen, 2)
    started = time.strftime("%Y-%m-%d")
    facts = cputime.machine()
    print(f"{len(programs)} different programs, {len(chosen)} harmless by rule, {len(gold)} of them valid and measured")
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    figures = measured([BOUND, *OURS, *OTHERS, *LAYERS], gold, 3 if asked.quick else asked.repetitions)
    print(table(figures))
    if asked.json:
        found = {"date": started, "machine": facts, "programs": len(gold), "rows": [asdict(one) for one in figures]}
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"{asked.json} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
