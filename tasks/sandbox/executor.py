"""`Executor.run`: programs in, what became of them out, in order. The only way by which this project runs programs.

Every run of every program is one process, forked from a warm interpreter and confined by the kernel; docs/sandbox.md
names the layers and the words of the answer. This file decides which run goes where and when; `outcomes` judges them.
"""

from __future__ import annotations

import logging
import os
import re
import selectors
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence, Set
from types import TracebackType
from typing import NamedTuple, Self

from storage.errors import SandboxError
from tasks.sandbox import outcomes, wire
from tasks.sandbox.jobs import Execution, Job, Limits, Output, Progress, Status
from tasks.sandbox.values import Refused, parse_arguments
from tasks.sandbox.zygotes import MODULES, SEEDS, End, Layer, Lost, Warmth, Zygote

__all__ = ["Execution", "Executor", "Job", "Layer", "Limits", "Output", "Progress", "Status"]

_PER_ZYGOTE = 4
"""Children at a time per zygote: forking costs it about a quarter of what a program costs a core."""
_ATTEMPTS = 3
_GRACE_S = 60.0
"""How much longer than its own hard limit a zygote may take before it counts as stuck."""
_IMPORTS = re.compile(r"(?m)^[ \t]*(?:from[ \t]+([A-Za-z_]\w*)|import[ \t]+([^#\n]+))")
_log = logging.getLogger(__name__)


class _Kind(NamedTuple):
    """Which zygotes can run something."""

    warmth: Warmth
    interpreter: int


class _Run(NamedTuple):
    """One run of one job."""

    job: int
    kind: _Kind
    request: bytes
    attempt: int = 1


class _Flight(NamedTuple):
    """A run that a zygote has."""

    run: _Run
    zygote: Zygote
    deadline: float


class Executor:
    """Owns the zygotes; a context manager; `run` may be called from several threads and takes turns.

    Raises SandboxError when the kernel offers no seccomp filter and `allow_unsafe` does not say to go on without, and
    wherever zygotes cannot be started. They end with this process, whatever ends it.
    """

    def __init__(self, workers: int = 0, allow_unsafe: bool = False, *, layers: Set[Layer] = frozenset(Layer)) -> None:
        self._workers = workers or len(_cores())
        self._layers = layers
        self._lock = threading.Lock()
        self._zygotes: dict[_Kind, list[Zygote]] = {}
        self._selector = selectors.DefaultSelector()
        self._number = 0
        if sys.platform != "linux":
            raise SandboxError(f"Programs are confined by Linux; this is {sys.platform}. Run it in a Linux container.")
        self._report = self._start(_Kind(Warmth.SLIM, 0)).report
        if not self._report["seccomp"].startswith("on"):
            self._without_seccomp(allow_unsafe)

    def _without_seccomp(self, allow_unsafe: bool) -> None:
        state = f"no seccomp filter here: {self._report['seccomp']}"
        if not allow_unsafe:
            self.close()
            raise SandboxError(
                f"There is {state}. A program that a model wrote could harm this machine; none was run. On a machine "
                "that may be thrown away, set the config key sandbox.allow_unsafe (--set sandbox.allow_unsafe=true)"
            )
        _log.warning("UNSAFE: there is %s. Programs that a model wrote can harm this machine.", state)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends every process of the executor; may be called twice."""
        for zygotes in self._zygotes.values():
            for zygote in zygotes:
                zygote.close()
        self._zygotes.clear()
        self._selector.close()

    def report(self) -> dict[str, str]:
        """The layers that are really there ("on ..." or "off (reason)") and what identifies the interpreters."""
        return {**self._report, "hash seeds": ", ".join(map(str, SEEDS)), "workers": str(self._workers)}

    def run(self, jobs: Sequence[Job], progress: Progress | None = None) -> list[Execution]:
        """What became of each job, in the order of the jobs; `progress` hears of every job that is done.

        Raises SandboxError when zygotes cannot be started any more. Whatever a program does is an Execution.
        """
        with self._lock:
            batch = _Batch(jobs, progress)
            flights: dict[int, _Flight] = {}
            try:
                while batch.waiting or flights:
                    self._take_off(batch, flights)
                    self._land(batch, flights)
            finally:
                for flight in flights.values():  # only after an exception
                    self._stop(flight.run.kind, flight.zygote)
            return batch.executions()

    def _take_off(self, batch: _Batch, flights: dict[int, _Flight]) -> None:
        while batch.waiting and len(flights) < self._workers:
            run = batch.waiting.popleft()
            zygote = self._zygote(run.kind)
            self._number += 1
            cpu_s = batch.jobs[run.job].limits.cpu_s
            flights[self._number] = _Flight(run, zygote, time.monotonic() + 30.0 + 10.0 * cpu_s + _GRACE_S)
            try:
                zygote.submit(self._number, cpu_s, run.request)
            except Lost:
                self._lose(batch, flights, zygote)

    def _land(self, batch: _Batch, flights: dict[int, _Flight]) -> None:
        for key, _ in self._selector.select(1.0):
            zygote = key.fileobj
            assert isinstance(zygote, Zygote)  # noqa: S101 - nothing else is registered
            try:
                while (ended := zygote.next_end(wire.MAX_ANSWER)) is not None:
                    batch.settle(flights.pop(ended[0]).run, ended[1])
            except Lost:
                self._lose(batch, flights, zygote)
        now = time.monotonic()
        for zygote in {flight.zygote for flight in flights.values() if now > flight.deadline}:
            self._lose(batch, flights, zygote)

    def _lose(self, batch: _Batch, flights: dict[int, _Flight], zygote: Zygote) -> None:
        """A zygote is dead or stuck: what it was running is run again by another one."""
        numbers = [number for number, flight in flights.items() if flight.zygote is zygote]
        for number in numbers:
            batch.again(flights.pop(number).run)
        for kind, zygotes in self._zygotes.items():
            if zygote in zygotes:
                self._stop(kind, zygote)
                _log.warning("An interpreter of the sandbox was lost; %d runs are repeated.", len(numbers))
                break

    def _zygote(self, kind: _Kind) -> Zygote:
        """The least busy zygote of a kind, a new one when all have enough to do."""
        found = min(self._zygotes.get(kind, []), key=lambda zygote: len(zygote.busy), default=None)
        return found if found is not None and len(found.busy) < _PER_ZYGOTE else self._start(kind)

    def _start(self, kind: _Kind) -> Zygote:
        zygote = Zygote(seed=SEEDS[kind.interpreter], modules=MODULES[kind.warmth], layers=self._layers)
        self._zygotes.setdefault(kind, []).append(zygote)
        self._selector.register(zygote, selectors.EVENT_READ)
        return zygote

    def _stop(self, kind: _Kind, zygote: Zygote) -> None:
        if zygote in self._zygotes[kind]:
            self._zygotes[kind].remove(zygote)
            self._selector.unregister(zygote)
            zygote.close()


class _Batch:
    """The jobs of one call of `run`: what waits, and what is known so far."""

    def __init__(self, jobs: Sequence[Job], progress: Progress | None) -> None:
        self.jobs = list(jobs)
        self.waiting: deque[_Run] = deque()
        self._progress = progress
        self._found: dict[int, Execution] = {}
        self._first: dict[int, Execution] = {}
        for job in range(len(self.jobs)):
            self._enter(job, 0)

    def _enter(self, number: int, interpreter: int) -> None:
        job = self.jobs[number]
        try:
            request = _request(job, interpreter)
        except Refused as error:
            self._done(number, outcomes.refused(job, str(error)))
            return
        self.waiting.append(_Run(number, _Kind(_warmth(job.program), interpreter), request))

    def settle(self, run: _Run, end: End) -> None:
        """A run has ended."""
        job = self.jobs[run.job]
        found = outcomes.execution(job, run.kind.interpreter, end)
        if run.kind.interpreter + 1 < job.interpreters and found.status is Status.OK:
            self._first[run.job] = found
            self._enter(run.job, 1)
        elif run.kind.interpreter == 1:
            self._done(run.job, outcomes.combined(self._first.pop(run.job), found))
        else:
            self._done(run.job, found)

    def again(self, run: _Run) -> None:
        """A run was lost without its own fault, unless that happens every time."""
        if run.attempt == _ATTEMPTS:
            self._done(run.job, outcomes.lost(self.jobs[run.job], _ATTEMPTS))
        else:
            self.waiting.append(run._replace(attempt=run.attempt + 1))

    def _done(self, number: int, execution: Execution) -> None:
        self._found[number] = execution
        if self._progress is not None:
            self._progress(len(self._found), len(self.jobs))

    def executions(self) -> list[Execution]:
        """All of them, in the order of the jobs."""
        return [self._found[number] for number in range(len(self.jobs))]


def _cores() -> set[int]:
    return os.sched_getaffinity(0) if sys.platform == "linux" else {0}


def _request(job: Job, interpreter: int) -> bytes:
    """The bytes for one run; raises Refused when an input is not literals."""
    calls = []
    for number, text in enumerate(job.inputs, 1):
        try:
            calls.append(parse_arguments(text))
        except Refused as error:
            raise Refused(f"input {number} is not a list of literals: {error}") from error
    return wire.request(job.program, job.entry, calls[::-1] if interpreter else calls, job.limits)


def _warmth(program: str) -> Warmth:
    """The smallest interpreter that has what the program seems to import: a choice of speed, never of safety."""
    if "import" not in program:
        return Warmth.SLIM
    names = set()
    for origin, several in _IMPORTS.findall(program):
        names |= {origin} if origin else {name.split(" as ")[0].split(".")[0].strip() for name in several.split(",")}
    slim = names <= set(MODULES[Warmth.SLIM]) and bool(names) and "__import__" not in program
    return Warmth.SLIM if slim else Warmth.FULL
