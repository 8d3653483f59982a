"""The log of attempts: one line when an attempt starts, before its stage does anything, and one when it ends.

It stands outside the partitions and outside both hash chains, and is only ever appended to (storage.journal).
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from storage.ids import Position, Stage
from storage.journal import append_line, read_lines
from storage.layout import ATTEMPTS_FILE, now_us, order
from storage.lock import is_alive, process_mark
from storage.seals import Provenance, Seal


class Outcome(StrEnum):
    """How an attempt ended, or that it did not."""

    SEALED = "sealed"
    FAILED = "failed"
    DISCARDED = "discarded"  # another attempt was sealed first
    KILLED = "killed"  # its process is gone, and it left no word
    RUNNING = "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One attempt, as far as it is known."""

    position: Position
    attempt: int
    outcome: Outcome
    started_us: int
    ended_us: int | None
    error: str | None
    code_version: str
    flow_run_id: str | None
    pid: int
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    iteration: int
    round: int
    stage: str
    attempt: int
    started_us: int
    code_version: str
    flow_run_id: str | None
    pid: int
    process: str
    host: str

    @property
    def key(self) -> tuple[Position, int]:
        return Position(self.iteration, Stage(self.stage), self.round), self.attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    iteration: int
    round: int
    stage: str
    attempt: int
    ended_us: int
    outcome: str
    error: str | None

    @property
    def key(self) -> tuple[Position, int]:
        return Position(self.iteration, Stage(self.stage), self.round), self.attempt


_EVENTS: dict[str, type[_Start] | type[_End]] = {"start": _Start, "end": _End}


class AttemptLog:
    """The writer's side of the log; the caller holds the run's lock. Raises OSError when it cannot write."""

    def __init__(self, run_directory: Path, *, durable: bool = True) -> None:
        self._path = run_directory / ATTEMPTS_FILE
        self._durable = durable
        self._last: dict[Position, int] = {}
        for event in _events(run_directory):
            position, attempt = event.key
            self._last[position] = max(attempt, self._last.get(position, 0))

    def start(self, position: Position, provenance: Provenance) -> int:
        """Write down that an attempt begins; returns its number at this position, from 1."""
        attempt = self._last.get(position, 0) + 1
        pid = os.getpid()
        line = _Start(
            iteration=position.iteration,
            round=position.round,
            stage=position.stage.value,
            attempt=attempt,
            started_us=now_us(),
            code_version=provenance.code_version,
            flow_run_id=provenance.flow_run_id,
            pid=pid,
            process=process_mark(pid) or "",
            host=socket.gethostname(),
        )
        self._append("start", asdict(line))
        self._last[position] = attempt
        return attempt

    def end(self, position: Position, attempt: int, outcome: Outcome, error: str | None = None) -> None:
        """Write down how an attempt ended."""
        line = _End(
            iteration=position.iteration,
            round=position.round,
            stage=position.stage.value,
            attempt=attempt,
            ended_us=now_us(),
            outcome=outcome.value,
            error=error,
        )
        self._append("end", asdict(line))

    def _append(self, event: str, fields: Mapping[str, object]) -> None:
        append_line(self._path, {"event": event, **fields}, durable=self._durable)


def read_attempts(run_directory: Path, seals: Mapping[Position, Seal]) -> list[AttemptRecord]:
    """Every attempt of a run, in order of position and number; `seals` decides where the log is silent."""
    starts: dict[tuple[Position, int], _Start] = {}
    ends: dict[tuple[Position, int], _End] = {}
    for event in _events(run_directory):
        if isinstance(event, _Start):
            starts[event.key] = event
        else:
            ends[event.key] = event
    records = [_record(start, ends.get(key), seals.get(key[0])) for key, start in starts.items()]
    return sorted(records, key=lambda record: (*order(record.position), record.attempt))


def unreadable_lines(run_directory: Path) -> dict[int, str]:
    """The lines of the log that say nothing, by their number from 1: torn ones, or such that were edited."""
    lines = enumerate(read_lines(run_directory / ATTEMPTS_FILE), start=1)
    return {number: line for number, line in lines if line and _event(line) is None}


def _events(run_directory: Path) -> list[_Start | _End]:
    lines = read_lines(run_directory / ATTEMPTS_FILE)
    return [event for line in lines if (event := _event(line)) is not None]


def _event(line: str) -> _Start | _End | None:
    try:
        fields = json.loads(line)
        event = _EVENTS[fields.pop("event")](**fields)
        Stage(event.stage)
    except (ValueError, TypeError, KeyError, AttributeError):  # torn
        return None
    return event


def _record(start: _Start, end: _End | None, seal: Seal | None) -> AttemptRecord:
    position, attempt = start.key
    return AttemptRecord(
        position=position,
        attempt=attempt,
        outcome=_outcome(start, end, seal),
        started_us=start.started_us,
        ended_us=_ended(start, end, seal),
        error=None if end is None else end.error,
        code_version=start.code_version,
        flow_run_id=start.flow_run_id,
        pid=start.pid,
        host=start.host,
    )


def _outcome(start: _Start, end: _End | None, seal: Seal | None) -> Outcome:
    if end is not None:
        return Outcome(end.outcome)
    if seal is not None and seal.attempt == start.attempt:
        return Outcome.SEALED  # killed after the commit point, before its last line
    return Outcome.RUNNING if is_alive(start.pid, start.process) else Outcome.KILLED


def _ended(start: _Start, end: _End | None, seal: Seal | None) -> int | None:
    if end is not None:
        return end.ended_us
    return seal.timings.finished_us if seal is not None and seal.attempt == start.attempt else None
