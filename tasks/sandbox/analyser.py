"""Looking at programs without executing them: `Analyser.facts`, sources in, facts out, in order.

A confined child parses the sources (`facts_child`); this side never does. A source can spoil no facts but its own:
where a batch fails, each of its sources is looked at alone.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence, Set
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from storage.errors import SandboxError
from tasks.sandbox import wire
from tasks.sandbox.facts import Facts, NoFacts, readings
from tasks.sandbox.jobs import Limits, Status
from tasks.sandbox.values import Refused
from tasks.sandbox.zygotes import SEEDS, End, Layer, Lost, Zygote, unconfined

_LIMITS = Limits(cpu_s=1.0, memory_mb=256)
"""What one child may use, for a whole batch: a thousand times what honest sources take."""
_BATCH, _BATCH_CHARS = 64, 24_576
"""Sources of one child, and their characters together: their facts must fit into one answer."""
_FLIGHTS = 4
_ATTEMPTS = 3
_STUCK_S = 60.0
_LIBRARY = "complexipy"
_log = logging.getLogger(__name__)


class Analyser:
    """Owns the interpreter in which sources are parsed; a context manager.

    Raises SandboxError when the kernel offers no seccomp filter and `allow_unsafe` does not say to go on without, and
    when the interpreter cannot be started. It ends with this process, whatever ends it.
    """

    def __init__(self, allow_unsafe: bool = False, *, layers: Set[Layer] = frozenset(Layer)) -> None:
        self._layers = layers
        self._number = 0
        self._zygote = self._started()
        try:
            unconfined(self._zygote.report, allow_unsafe, spared="read")
        except SandboxError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the interpreter; may be called twice."""
        self._zygote.close()

    def facts(self, programs: Sequence[str]) -> list[Facts | NoFacts]:
        """The facts about each program, in the order of the programs; equal ones are looked at once.

        Raises SandboxError when the interpreter cannot be started any more. Whatever a source does is a NoFacts.
        """
        found = dict(self._read(_batches(list(dict.fromkeys(programs)))))
        return [found[program] for program in programs]

    def _read(self, batches: Sequence[tuple[str, ...]]) -> Iterator[tuple[str, Facts | NoFacts]]:
        apart: list[tuple[str, ...]] = []
        for batch, end in zip(batches, self._ends(batches), strict=True):
            try:
                yield from zip(batch, _readings(batch, end), strict=True)
            except _Spoilt as spoilt:
                if len(batch) == 1:
                    yield batch[0], spoilt.reading
                else:
                    apart += [(program,) for program in batch]
        if apart:
            yield from self._read(apart)

    def _ends(self, batches: Sequence[tuple[str, ...]]) -> list[End | None]:
        """How the child of each batch ended; None where it cannot be asked or its interpreter is lost each time."""
        waiting = deque((at, request) for at, batch in enumerate(batches) if (request := _request(batch)) is not None)
        ends: list[End | None] = [None] * len(batches)
        flights: dict[int, tuple[int, bytes]] = {}
        attempts = [0] * len(batches)
        while waiting or flights:
            try:
                self._submit(waiting, flights, attempts)
                self._collect(flights, ends)
            except Lost:
                self._again(waiting, flights, attempts)
        return ends

    def _submit(
        self, waiting: deque[tuple[int, bytes]], flights: dict[int, tuple[int, bytes]], attempts: list[int]
    ) -> None:
        while waiting and len(flights) < _FLIGHTS:
            at, request = waiting.popleft()
            attempts[at] += 1
            self._number += 1
            flights[self._number] = at, request
            self._zygote.submit(self._number, _LIMITS.cpu_s, request)

    def _collect(self, flights: dict[int, tuple[int, bytes]], ends: list[End | None]) -> None:
        deadline = time.monotonic() + _STUCK_S
        while flights:
            while (ended := self._zygote.next_end(wire.MAX_ANSWER)) is not None:
                at, _ = flights.pop(ended[0])
                ends[at] = ended[1]
                deadline = 0.0
            if deadline == 0.0:
                return
            if not select.select([self._zygote], [], [], 1.0)[0] and time.monotonic() > deadline:
                raise Lost

    def _again(
        self, waiting: deque[tuple[int, bytes]], flights: dict[int, tuple[int, bytes]], attempts: list[int]
    ) -> None:
        """The interpreter is dead or stuck: what it was reading is read again by a new one, but not for ever."""
        _log.warning("The interpreter that reads programs was lost; %d readings are repeated.", len(flights))
        waiting.extend((at, request) for at, request in flights.values() if attempts[at] < _ATTEMPTS)
        flights.clear()
        self._zygote.close()
        self._zygote = self._started()

    def _started(self) -> Zygote:
        spec = find_spec(_LIBRARY)
        if spec is None or spec.origin is None:
            raise SandboxError(f"The package {_LIBRARY} is missing; no program was read. Run: pip install {_LIBRARY}")
        paths = (str(Path(spec.origin).parents[1]),)
        return Zygote(seed=SEEDS[0], modules=(), layers=self._layers, work="facts_child", paths=paths)


class _Spoilt(Exception):
    """A child did not answer as it should; `reading` is what that says about the source, if it was alone."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.reading = NoFacts(status, reason)


def _batches(programs: Sequence[str]) -> list[tuple[str, ...]]:
    """The programs in order, so many together as one child may get."""
    batches: list[tuple[str, ...]] = []
    batch: list[str] = []
    chars = 0
    for program in programs:
        if batch and (len(batch) == _BATCH or chars + len(program) > _BATCH_CHARS):
            batches.append(tuple(batch))
            batch, chars = [], 0
        batch.append(program)
        chars += len(program)
    return [*batches, tuple(batch)] if batch else batches


def _request(batch: tuple[str, ...]) -> bytes | None:
    try:
        return wire.asked(batch, _LIMITS)
    except Refused:
        return None


def _readings(batch: tuple[str, ...], end: End | None) -> list[Facts | NoFacts]:
    """What a child says about its sources, one reading each; raises _Spoilt."""
    if end is None:
        raise _Spoilt(Status.REJECTED, f"a source of {sum(map(len, batch))} characters cannot be read")
    _check_end(end)
    try:
        return readings(end.data, len(batch))
    except wire.TooLarge as error:
        raise _Spoilt(Status.REJECTED, str(error)) from error
    except (wire.Malformed, Refused) as error:
        raise _Spoilt(Status.PROTOCOL, str(error)) from error


def _check_end(end: End) -> None:
    """Raises _Spoilt unless the child ended by itself, in order."""
    if end.killed or (os.WIFSIGNALED(end.status) and os.WTERMSIG(end.status) == signal.SIGXCPU):
        raise _Spoilt(Status.TIMEOUT, f"parsing it takes more than {_LIMITS.cpu_s} s")
    if os.WIFSIGNALED(end.status):
        raise _Spoilt(Status.CRASH, f"parsing it ends in {signal.Signals(os.WTERMSIG(end.status)).name}")
    if code := os.WEXITSTATUS(end.status):
        raise _Spoilt(Status.MEMORY, f"parsing it ends with exit code {code}, out of memory")
