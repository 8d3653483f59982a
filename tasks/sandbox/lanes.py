"""Which job runs where: the fast lane, the slow lane, and the way from one to the other. No process is started here.

    fast, interpreter 0 ──▶ fast, interpreter 1, other neighbours ──▶ both the same: done
            │                             │
            └── not tame, any limit or signal, two answers ──▶ slow, interpreter 0 ──▶ slow, interpreter 1 (if asked)

A batch of the fast lane proves nothing by itself: only an output or a plain exception that a second batch confirms,
with the neighbours in another order, is an answer. Everything else is found alone.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from random import SystemRandom
from typing import NamedTuple

from tasks.sandbox import outcomes, wire
from tasks.sandbox.fleet import Kind
from tasks.sandbox.jobs import Execution, Job, Lane, Limits
from tasks.sandbox.values import Refused, parse_arguments
from tasks.sandbox.zygotes import MODULES, End, Warmth

BATCH = 48
"""Programs in one child of the fast lane."""
_FEW = 6  # programs in one child when there are hardly enough for every worker
_BATCH_BYTES = 65_536  # of one request; a program that takes more than a quarter goes alone
_BATCH_CPU_S = 0.5
"""CPU time of a batch, or less: one job's own. Who was running when it was over is run again alone."""
_ATTEMPTS = 3
_IMPORTS = re.compile(r"(?m)^[ \t]*(?:from[ \t]+([A-Za-z_]\w*)|import[ \t]+([^#\n]+))")


@dataclass(slots=True, eq=False)
class Case:
    """One job on its way."""

    number: int
    job: Job
    calls: tuple[bytes, ...]
    """Encoded, in the job's order."""
    warmth: Warmth
    lane: Lane
    interpreter: int = 0
    first: Execution | None = None
    """What the first interpreter found."""
    seat: int = 0
    """Its place in its first batch."""
    attempt: int = 1


class _Queue(NamedTuple):
    """Cases that may run in one child, or at least one after the other in the same zygote."""

    lane: Lane
    kind: Kind
    limits: Limits


class Flight(NamedTuple):
    """What one child is to do."""

    cases: list[Case]
    lane: Lane
    kind: Kind
    cpu_s: float
    request: bytes
    answer_bytes: int


class Lanes:
    """The cases of one stream of jobs: what waits for a child, and what is done."""

    def __init__(self, lanes: Set[Lane]) -> None:
        self.done: deque[tuple[Case, Execution]] = deque()
        self.reruns = 0
        self._lanes = lanes
        self._waiting: dict[_Queue, deque[Case]] = {}
        self._random = SystemRandom()

    @property
    def waiting(self) -> bool:
        """Whether something wants a child."""
        return bool(self._waiting)

    def enter(self, number: int, job: Job) -> Case:
        """Takes a job in; one with an input that is not literals is done at once."""
        warmth = _warmth(job.program)
        case = Case(number, job, (), warmth, Lane.SLOW)
        try:
            case.calls = _calls(job)
            item = wire.encoded_item(job.program, job.entry, case.calls)
            wire.request([item], job.limits)
        except Refused as error:
            self.done.append((case, outcomes.refused(job, str(error))))
            return case
        if warmth is Warmth.SLIM and Lane.FAST in self._lanes and len(item) <= _BATCH_BYTES // 4:
            case.lane = Lane.FAST
        self._wait(case)
        return case

    def _wait(self, case: Case) -> None:
        queue = _Queue(case.lane, Kind(case.warmth, case.interpreter), case.job.limits)
        self._waiting.setdefault(queue, deque()).append(case)

    # ---- taking off

    def next_flight(self, room: int) -> Flight:
        """What the next of `room` free children is to do: second runs first, so that jobs are finished."""
        queue = max(self._waiting, key=lambda queue: (queue.kind.interpreter, queue.lane is Lane.SLOW))
        cases = self._waiting[queue]
        if queue.lane is Lane.FAST and (len(cases) > 1 or cases[0].first is not None):
            found = self._together(queue, cases, room)
        else:
            found = _alone(cases.popleft())
        if not cases:
            del self._waiting[queue]
        return found

    def _together(self, queue: _Queue, cases: deque[Case], room: int) -> Flight:
        """A batch in random order, but those that sat together before now sit in the opposite order."""
        self._random.shuffle(cases)
        wanted = min(BATCH, max(_FEW, -(-len(cases) // room)))
        chosen: list[Case] = []
        items: list[bytes] = []
        size = 0
        while cases and len(chosen) < wanted:
            item = _item(cases[0])
            size += len(item)
            if size > _BATCH_BYTES:
                break
            chosen.append(cases.popleft())
            items.append(item)
        order = sorted(range(len(chosen)), key=lambda at: -chosen[at].seat)
        request = wire.request(
            [items[at] for at in order], queue.limits, together=True, anew=queue.kind.interpreter == 1
        )
        ordered = [chosen[at] for at in order]
        cpu_s = min(_BATCH_CPU_S, queue.limits.cpu_s)
        return Flight(ordered, Lane.FAST, queue.kind, cpu_s, request, len(ordered) * wire.MAX_ANSWER)

    # ---- landing

    def land(self, flight: Flight, end: End | None) -> None:
        """A child has ended, or was lost with its zygote."""
        if end is None:
            self._lost(flight)
        elif flight.lane is Lane.FAST:
            self._landed_together(flight.cases, end)
        else:
            self._landed_alone(flight.cases[0], end)

    def _lost(self, flight: Flight) -> None:
        for case in flight.cases:
            if case.attempt < _ATTEMPTS:
                case.attempt += 1
                self._wait(case)
            elif flight.lane is Lane.FAST:
                self._again_alone(case)
            else:
                self.done.append((case, outcomes.lost(case.job, _ATTEMPTS)))

    def _landed_alone(self, case: Case, end: End) -> None:
        found = outcomes.execution(case.job, case.interpreter, end)
        if case.interpreter == 1 and case.first is not None:
            self.done.append((case, outcomes.combined(case.first, found)))
        elif case.job.interpreters == 2 and found.status in outcomes.REPEATED:
            self._second(case, found)
        else:
            self.done.append((case, found))

    def _second(self, case: Case, first: Execution) -> None:
        case.first, case.interpreter, case.attempt = first, 1, 1
        self._wait(case)

    def _landed_together(self, cases: Sequence[Case], end: End) -> None:
        frames = wire.shared_frames(end.data, len(cases))
        share = max(0, end.cpu_us - sum(frame.cpu_us for frame in frames)) // len(cases)
        for seat, (case, frame) in enumerate(zip(cases, frames, strict=False)):
            found = outcomes.shared(case.job, case.interpreter, frame, share, end.memory_kb)
            self._answered(case, seat, found)
        unanswered = iter(cases[len(frames) :])
        if not (end.killed == 0 and end.status == 0 and frames):
            for culprit in _first(unanswered):
                self._again_alone(culprit)
        for innocent in unanswered:
            self._wait(innocent)

    def _answered(self, case: Case, seat: int, found: Execution | None) -> None:
        if found is None:
            self._again_alone(case)
        elif case.first is None:
            case.seat = seat
            self._second(case, found)
        elif found.outputs == case.first.outputs:
            self.done.append((case, outcomes.combined(case.first, found)))
        else:
            self._again_alone(case)

    def _again_alone(self, case: Case) -> None:
        self.reruns += 1
        case.lane, case.interpreter, case.first, case.attempt = Lane.SLOW, 0, None, 1
        self._wait(case)


def _first(cases: Iterator[Case]) -> list[Case]:
    return [case for case in [next(cases, None)] if case is not None]


def _alone(case: Case) -> Flight:
    case.lane = Lane.SLOW
    kind = Kind(case.warmth, case.interpreter)
    request = wire.request([_item(case)], case.job.limits, anew=case.interpreter == 1)
    return Flight([case], Lane.SLOW, kind, case.job.limits.cpu_s, request, wire.MAX_ANSWER)


def _item(case: Case) -> bytes:
    """The second interpreter gets the first input last.

    What follows the number of the call alone then agrees with itself only if all its outputs are equal: a rotation has
    no shorter cycles, as reversing has.
    """
    calls = case.calls[1:] + case.calls[:1] if case.interpreter else case.calls
    return wire.encoded_item(case.job.program, case.job.entry, calls)


def _calls(job: Job) -> tuple[bytes, ...]:
    """The encoded calls; raises Refused when an input is not literals."""
    calls = []
    for number, text in enumerate(job.inputs, 1):
        try:
            calls.append(wire.encoded_call(parse_arguments(text)))
        except Refused as error:
            raise Refused(f"input {number} is not a list of literals: {error}") from error
    return tuple(calls)


def _warmth(program: str) -> Warmth:
    """The smallest interpreter that has what the program seems to import: a choice of speed, never of safety."""
    if "import" not in program:
        return Warmth.SLIM
    names = set()
    for origin, several in _IMPORTS.findall(program):
        names |= {origin} if origin else {name.split(" as ")[0].split(".")[0].strip() for name in several.split(",")}
    slim = names <= set(MODULES[Warmth.SLIM]) and bool(names) and "__import__" not in program
    return Warmth.SLIM if slim else Warmth.FULL
