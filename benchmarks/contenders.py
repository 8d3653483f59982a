"""What is measured: our executor in its lanes, and other ways to run a program, all asked in the same way."""

from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import sys
from collections.abc import Sequence, Set
from pathlib import Path
from typing import NamedTuple, Protocol

from programs import Program

from tasks.sandbox.executor import Executor, Job, Lane, Layer

_SCRIPT = Path(__file__).with_name("yardsticks.py")
ALL = frozenset(Layer)
BOTH = frozenset(Lane)
ALONE = frozenset({Lane.SLOW})


class Contender(Protocol):
    """A way to run programs."""

    runs: int
    """How often each program is run for one answer."""
    fast: int
    """How many programs of the last round shared a process with others."""

    def run(self, programs: Sequence[Program], rounds: int) -> list[str]:
        """The output of each program; all of them are run anew in every round."""

    def close(self) -> None:
        """Ends its processes."""


class Ours:
    """The executor as validation and judging use it: every program in two interpreters."""

    runs = 2

    def __init__(self, workers: int, lanes: Set[Lane], layers: Set[Layer]) -> None:
        # Only programs that are harmless by rule come here, so the warning of an executor without seccomp is left out.
        logging.getLogger("tasks.sandbox").setLevel(logging.ERROR)
        self._executor = Executor(workers, Layer.SECCOMP not in layers, layers=layers, lanes=lanes, cache_bytes=0)
        self.fast = 0

    def run(self, programs: Sequence[Program], rounds: int) -> list[str]:
        jobs = [Job(program=program.text, inputs=(program.input,), interpreters=2) for program in programs]
        for _ in range(rounds):
            found = self._executor.run(jobs)
        self.fast = sum(execution.lane is Lane.FAST for execution in found)
        return [execution.outputs[0].text or str(execution.reason) for execution in found]

    def close(self) -> None:
        self._executor.close()


class Yardstick:
    """One of the ways in `yardsticks.py`, in a process of its own."""

    runs = 1
    fast = 0

    def __init__(self, name: str, workers: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(_SCRIPT), name, str(workers)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._programs: Sequence[Program] = ()

    def run(self, programs: Sequence[Program], rounds: int) -> list[str]:
        """The programs must be the same every time: they were sent with the first call."""
        if not self._programs:
            self._programs = programs
            self._send(json.dumps([(program.text, program.input) for program in programs]))
        self._send(str(rounds))
        assert self._process.stdout is not None
        answer: list[str] = json.loads(self._process.stdout.readline())
        return answer

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def close(self) -> None:
        self._process.communicate()


class Row(NamedTuple):
    """A line of the table, and how to make its contender."""

    name: str
    workers: int
    way: str = ""
    """A way of `yardsticks.py`; empty for our executor."""
    lanes: Set[Lane] = BOTH
    layers: Set[Layer] = ALL
    at_most: int = 1_000_000
    """Programs per round: fewer of those that take long."""
    rounds: int = 1
    """Of those that take short."""

    def make(self) -> Contender:
        return Yardstick(self.way, self.workers) if self.way else Ours(self.workers, self.lanes, self.layers)

    def missing(self) -> str | None:
        """Why this row cannot be measured here; None when it can."""
        if self.way == "monty" and importlib.util.find_spec("pydantic_monty") is None:
            return "pydantic-monty is not installed. Run: pip install -c constraints.txt -e '.[bench]'"
        return None
