"""`Executor`: programs in, what became of them out, in order or as they are done. The only way to run one here.

Programs run in processes forked from a warm interpreter and confined by the kernel; docs/sandbox.md names the layers,
the lanes and the words of the answer. `lanes` decides which run goes where, `fleet` has the processes, `outcomes`
judges what comes back.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Self

from storage.errors import SandboxError
from tasks.sandbox import cache
from tasks.sandbox.cache import Cache
from tasks.sandbox.fleet import Fleet
from tasks.sandbox.jobs import Cancelled, Execution, Job, Lane, Limits, Output, Progress, Statistics, Status
from tasks.sandbox.lanes import BATCH, Flight, Lanes
from tasks.sandbox.zygotes import SEEDS, Layer, unconfined

__all__ = [
    "Cancelled",
    "Execution",
    "Executor",
    "Job",
    "Lane",
    "Layer",
    "Limits",
    "Output",
    "Progress",
    "Statistics",
    "Status",
]

CACHE_BYTES = 64 << 20
_AHEAD = 3
"""Batches per worker that are taken from the jobs before they can run: enough to choose neighbours from."""
_log = logging.getLogger(__name__)


class Executor:
    """Owns the zygotes; a context manager; may be used from several threads, which take turns.

    `lanes` without Lane.FAST gives every program a process of its own; `cache_bytes` bounds what is kept of earlier
    answers, 0 keeps none. Raises SandboxError when the kernel offers no seccomp filter and `allow_unsafe` does not say
    to go on without, and wherever zygotes cannot be started. They end with this process, whatever ends it.
    """

    def __init__(
        self,
        workers: int = 0,
        allow_unsafe: bool = False,
        *,
        layers: Set[Layer] = frozenset(Layer),
        lanes: Set[Lane] = frozenset(Lane),
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if sys.platform != "linux":
            raise SandboxError(f"Programs are confined by Linux; this is {sys.platform}. Run it in a Linux container.")
        self._workers = workers or len(os.sched_getaffinity(0))
        self._lanes = lanes
        self._lock = threading.Lock()
        self._holder: int | None = None
        self._cancelled = False
        self._cache = Cache(cache_bytes)
        self._counts: Counter[str] = Counter()
        self._fleet = Fleet(layers)
        self._report = self._fleet.report()
        try:
            state = unconfined(self._report, allow_unsafe, spared="run")
        except SandboxError:
            self.close()
            raise
        if state is not None:
            _log.warning("UNSAFE: there is %s. Programs that a model wrote can harm this machine.", state)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends every process of the executor; may be called twice."""
        self._fleet.close()

    def report(self) -> dict[str, str]:
        """The layers that are really there ("on ..." or "off (reason)") and what identifies the interpreters."""
        return {**self._report, "hash seeds": ", ".join(map(str, SEEDS)), "workers": str(self._workers)}

    def statistics(self) -> Statistics:
        """What was done so far."""
        return Statistics(**self._counts, lost_zygotes=self._fleet.lost)

    def run(self, jobs: Sequence[Job], progress: Progress | None = None) -> list[Execution]:
        """What became of each job, in the order of the jobs; `progress` hears of every job that is done.

        Raises SandboxError when zygotes cannot be started any more, Cancelled after `cancel`. Whatever a program does
        is an Execution.
        """
        found: dict[int, Execution] = {}
        for number, execution in self.stream(jobs):
            found[number] = execution
            if progress is not None:
                progress(len(found), len(jobs))
        return [found[number] for number in range(len(jobs))]

    def stream(self, jobs: Iterable[Job]) -> Iterator[tuple[int, Execution]]:
        """The number of each job (from 0) and what became of it, as soon as it is known.

        Jobs are taken from the iterable as there is room for them; what is not asked for is not run. Closing the
        iterator, or an exception in it, ends what is running at once. Other threads wait until it is finished or
        closed. Raises as `run` does.
        """
        with self._turn():
            stream = _Stream(jobs, Lanes(self._lanes), self._cache, self._counts, _AHEAD * BATCH * self._workers)
            flights: dict[int, Flight] = {}
            try:
                while True:
                    yield from stream.take_in()
                    if not flights and not stream.lanes.waiting:
                        return
                    self._take_off(stream.lanes, flights)
                    for landing in self._fleet.wait(1.0):
                        stream.lanes.land(flights.pop(landing.number), landing.end)
                    if self._cancelled:
                        raise Cancelled(f"Cancelled by another thread; {stream.open} programs were not finished.")
            finally:
                self._fleet.abandon()

    def cancel(self) -> None:
        """Ends the stream or run that another thread is in, and its children, at once; that thread gets Cancelled."""
        if self._holder is not None:
            self._cancelled = True
            self._fleet.ring()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if self._holder == threading.get_ident():
            raise SandboxError("A stream of this executor is still open in this thread. Finish it, or close() it.")
        with self._lock:
            self._holder = threading.get_ident()
            self._cancelled = False
            try:
                yield
            finally:
                self._holder = None

    def _take_off(self, lanes: Lanes, flights: dict[int, Flight]) -> None:
        while lanes.waiting and len(flights) < self._workers:
            flight = lanes.next_flight(self._workers - len(flights))
            number = self._fleet.start(flight.kind, flight.cpu_s, flight.request, flight.answer_bytes)
            flights[number] = flight


class _Stream:
    """The jobs of one call of `stream`: which are open, and which wait for another one that is the same."""

    def __init__(self, jobs: Iterable[Job], lanes: Lanes, found: Cache, counts: Counter[str], ahead: int) -> None:
        self.lanes = lanes
        self.open = 0
        self._jobs = enumerate(jobs)
        self._cache, self._counts, self._ahead = found, counts, ahead
        self._twins: dict[bytes, list[tuple[int, Job]]] = {}  # by key, while the first of them is on its way
        self._keys: dict[int, bytes] = {}
        self._ready: deque[tuple[int, Execution]] = deque()

    def take_in(self) -> Iterator[tuple[int, Execution]]:
        """Fills up with jobs, and gives what is done."""
        while True:
            self._settle()
            while self._ready:
                self.open -= 1
                yield self._ready.popleft()
            if self.open >= self._ahead or (entry := next(self._jobs, None)) is None:
                return
            self._enter(*entry)

    def _enter(self, number: int, job: Job) -> None:
        self.open += 1
        self._counts["jobs"] += 1
        key = cache.key(job)
        known = self._cache.get(key)
        if known is not None:
            self._answer(number, known)
        elif key in self._twins:
            self._twins[key].append((number, job))
        else:
            self._twins[key], self._keys[number] = [], key
            self.lanes.enter(number, job)

    def _settle(self) -> None:
        """Takes what the lanes have done; twins of a job get its answer when it would be theirs for sure."""
        while self.lanes.done:
            case, execution = self.lanes.done.popleft()
            self._answer(case.number, execution)
            key = self._keys.pop(case.number, None)
            twins = [] if key is None else self._twins.pop(key)
            if key is not None and cache.settled(case.job, execution):
                self._cache.put(key, execution)
                for number, _ in twins:
                    self._answer(number, replace(execution, cached=True))
            else:
                for number, job in twins:
                    self.lanes.enter(number, job)
        self._counts["reruns"] += self.lanes.reruns
        self.lanes.reruns = 0

    def _answer(self, number: int, execution: Execution) -> None:
        self._counts["cached" if execution.cached else execution.lane.value] += 1
        self._ready.append((number, execution))
