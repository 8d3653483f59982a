"""All zygotes of an executor: which one gets a child to run, who is waited for, and what happens when one is lost."""

from __future__ import annotations

import logging
import os
import selectors
import time
from collections.abc import Set
from typing import NamedTuple

from tasks.sandbox.zygotes import MODULES, SEEDS, End, Layer, Lost, Warmth, Zygote

_PER_ZYGOTE = 4
"""Children at a time per zygote: forking costs it about a quarter of what a program costs a core."""
_GRACE_S = 60.0
"""How much longer than its own hard limit a zygote may take before it counts as stuck."""
_log = logging.getLogger(__name__)


class Kind(NamedTuple):
    """Which zygotes can run something."""

    warmth: Warmth
    interpreter: int


class _Flight(NamedTuple):
    """A child that a zygote has started, or was told to."""

    zygote: Zygote
    deadline: float
    limit: int


class Landing(NamedTuple):
    """A child that has ended; `end` is None when its zygote was lost."""

    number: int
    end: End | None


class Fleet:
    """Owns the zygotes, started when first wanted, and a descriptor by which another thread can end the waiting.

    Raises SandboxError wherever zygotes cannot be started. They end with this process, whatever ends it.
    """

    def __init__(self, layers: Set[Layer]) -> None:
        self.lost = 0
        self._layers = layers
        self._zygotes: dict[Kind, list[Zygote]] = {}
        self._flights: dict[int, _Flight] = {}
        self._fallen: list[Landing] = []  # lost while they were being started
        self._number = 0
        self._selector = selectors.DefaultSelector()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._bell, selectors.EVENT_READ)

    def report(self) -> dict[str, str]:
        """What a zygote says about its layers; starts one."""
        return self._start(Kind(Warmth.SLIM, 0)).report

    def __len__(self) -> int:
        return len(self._flights)

    def start(self, kind: Kind, cpu_s: float, request: bytes, limit: int) -> int:
        """Starts a child; returns the number that its `Landing` will have, with at most `limit` bytes of answer."""
        zygote = self._zygote(kind)
        self._number += 1
        deadline = time.monotonic() + 30.0 + 10.0 * cpu_s + _GRACE_S
        self._flights[self._number] = _Flight(zygote, deadline, limit)
        try:
            zygote.submit(self._number, cpu_s, request)
        except Lost:
            self._fallen += self._lose(zygote)
        return self._number

    def wait(self, seconds: float) -> list[Landing]:
        """The children that ended, or whose zygote was lost, when there are some or the time is over or `ring`."""
        found, self._fallen = self._fallen, []
        for key, _ in self._selector.select(0 if found else seconds):
            if key.fileobj == self._bell:
                os.eventfd_read(self._bell)
            elif isinstance(key.fileobj, Zygote):
                found += self._landings(key.fileobj)
        now = time.monotonic()
        for zygote in {flight.zygote for flight in self._flights.values() if now > flight.deadline}:
            found += self._lose(zygote)
        return found

    def ring(self) -> None:
        """Ends `wait` early; for other threads."""
        os.eventfd_write(self._bell, 1)

    def _landings(self, zygote: Zygote) -> list[Landing]:
        found: list[Landing] = []
        limit = max((flight.limit for flight in self._flights.values() if flight.zygote is zygote), default=0)
        try:
            while (ended := zygote.next_end(limit)) is not None:
                del self._flights[ended[0]]
                found.append(Landing(*ended))
        except Lost:
            found += self._lose(zygote)
        return found

    def _lose(self, zygote: Zygote) -> list[Landing]:
        """A zygote is dead or stuck: what it was running must be run by another one."""
        self.lost += 1
        numbers = self._stop(zygote)
        _log.warning("An interpreter of the sandbox was lost; %d runs are repeated.", len(numbers))
        return [Landing(number, None) for number in numbers]

    def abandon(self) -> None:
        """Ends every child that is running; the zygotes that had one are started anew when next wanted."""
        self._fallen.clear()
        for zygote in {flight.zygote for flight in self._flights.values()}:
            self._stop(zygote)

    def _stop(self, zygote: Zygote) -> list[int]:
        numbers = [number for number, flight in self._flights.items() if flight.zygote is zygote]
        for number in numbers:
            del self._flights[number]
        for zygotes in self._zygotes.values():
            if zygote in zygotes:
                zygotes.remove(zygote)
                self._selector.unregister(zygote)
                zygote.close()
        return numbers

    def _zygote(self, kind: Kind) -> Zygote:
        """The least busy zygote of a kind, a new one when all have enough to do."""
        found = min(self._zygotes.get(kind, []), key=lambda zygote: len(zygote.busy), default=None)
        return found if found is not None and len(found.busy) < _PER_ZYGOTE else self._start(kind)

    def _start(self, kind: Kind) -> Zygote:
        zygote = Zygote(seed=SEEDS[kind.interpreter], modules=MODULES[kind.warmth], layers=self._layers)
        self._zygotes.setdefault(kind, []).append(zygote)
        self._selector.register(zygote, selectors.EVENT_READ)
        return zygote

    def close(self) -> None:
        """Ends every process; may be called twice."""
        for zygotes in self._zygotes.values():
            for zygote in zygotes:
                zygote.close()
        self._zygotes.clear()
        self._flights.clear()
        self._selector.close()
        if self._bell >= 0:
            os.close(self._bell)
            self._bell = -1
