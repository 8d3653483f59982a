"""The ledger of one run: read sealed partitions, and make new ones.

A partition is a directory made whole by one rename, its seal inside. Kill -9 at any moment loses at most what was not
sealed; nothing sealed is ever replaced. Readers take no lock and create nothing; the one writer holds the run's lock.

```
with Ledger.open(root, "nano", write=True) as ledger:
    with ledger.begin(position, inputs=[earlier], provenance=provenance) as attempt:
        rows = ledger.read(Task, earlier)
        attempt.seal({Rollout: rollouts, Tokens: tokens}, seeds={"run": 1})
```
"""

from __future__ import annotations

import contextlib
import copy
import os
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import pyarrow as pa

from storage import commit, index, layout
from storage.access import locked, refuse_foreign, unwritable
from storage.attempts import AttemptLog, AttemptRecord, Outcome, read_attempts
from storage.audit import audit
from storage.commit import Disk
from storage.errors import LedgerError
from storage.family import family_of, read_seals, require_files
from storage.findings import Finding
from storage.ids import Position, step_text
from storage.lock import Owner, WriterLock, owner_of
from storage.partitions import read_facts, read_rows, read_seal, read_table
from storage.records import Row, Task
from storage.seals import Output, Provenance, RunFacts, Seal, Timings, ledger_hash, sealed

R = TypeVar("R", bound=Row)

_ERROR_CHARACTERS = 2_000  # of an attempt's error text


class Ledger:
    """One run's sealed partitions; a writer's also holds the run's lock until `close`.

    `root`, `run` (the directory's name), `directory`, `facts` (run.json) and `family` may be read by all.
    """

    def __init__(
        self, directory: Path, facts: RunFacts, *, lock: WriterLock | None = None, disk: Disk | None = None
    ) -> None:
        self.root, self.run, self.directory, self.facts = directory.parent, directory.name, directory, facts
        self.disk = disk or Disk()
        self.committing = threading.Lock()
        self._lock = lock
        self.family = family_of(directory, facts)
        self._seals = read_seals(self.family)
        self._tasks: dict[Position, tuple[Task, ...]] = {}
        self._log = AttemptLog(directory, durable=self.disk.durable) if lock is not None else None
        if lock is not None:
            index.complete(directory, self.made().values())

    @classmethod
    def create(cls, root: Path, facts: RunFacts, *, disk: Disk | None = None) -> Self:
        """Begin a run and open it for writing.

        Raises LedgerError when the run exists, another process is beginning it, or nothing can be written there.
        """
        directory = layout.run_directory(root, facts.run)
        refuse_foreign(directory)
        disk = disk or Disk()
        with contextlib.ExitStack() as undo:
            lock = locked(directory)
            undo.callback(lock.release)
            if (directory / layout.RUN_FILE).exists():
                again = layout.command("train", root=root, run=facts.run)
                raise LedgerError(f"Run {facts.run} exists under {root}. Nothing was written. Continue it: {again}")
            try:
                commit.write_facts(disk, directory, facts)
            except OSError as error:
                raise unwritable(directory, error) from error
            ledger = cls(directory, facts, lock=lock, disk=disk)
            undo.pop_all()
        return ledger

    @classmethod
    def open(cls, root: Path, run: str, *, write: bool = False, disk: Disk | None = None) -> Self:
        """An existing run, to read or to write.

        Raises LedgerError when there is no such run, when its seals do not fit each other, or, to write, when another
        process is writing it.
        """
        directory = layout.run_directory(root, run)
        facts = read_facts(directory)
        if not write:
            return cls(directory, facts)
        with contextlib.ExitStack() as undo:
            lock = locked(directory)
            undo.callback(lock.release)
            commit.sweep(directory)
            ledger = cls(directory, facts, lock=lock, disk=disk)
            undo.pop_all()
        return ledger

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the right to write back; a reader has nothing to close."""
        if self._lock is not None:
            self._lock.release()

    def sealed(self) -> list[Seal]:
        """Every seal, in the order of positions."""
        return list(self._seals.values())

    def seal_of(self, position: Position) -> Seal | None:
        """The seal of a partition, or None while it is not sealed."""
        return self._seals.get(position)

    def made(self) -> dict[Position, Seal]:
        """The seals of this run itself, in the order of positions: of a fork, those from its point on."""
        _, made = next(self.family.shares(self._seals))
        return made

    def home(self, position: Position) -> Path:
        """The directory of the run that made a partition, or would: before a fork's point, its parent's."""
        return self.family.home(position)

    def require_files(self) -> None:
        """Raise LedgerError for the first sealed file that is missing or has another size; reads none of them."""
        require_files(self.family, self._seals)

    def require(self, position: Position, *, needed_by: Position | None = None) -> Seal:
        """The seal of a partition; raises LedgerError with the command that makes it when it is not sealed."""
        if (seal := self.seal_of(position)) is not None:
            return seal
        what = f"{stage_text(position)} of run {self.run} is not sealed"
        if needed_by is not None:
            what = f"{stage_text(needed_by)} needs {position}, which is not sealed in run {self.run}"
        raise LedgerError(f"{what}. Nothing was written. Run: {layout.rerun_command(self.root, self.run, position)}")

    def read(self, row_type: type[R], position: Position) -> list[R]:
        """The rows of one sealed table, in canonical order.

        Raises LedgerError when the partition is not sealed, has no such table, or its file is not what was sealed.
        """
        return read_rows(self.home(position), self.require(position), row_type)

    def table(self, row_type: type[Row], position: Position) -> pa.Table:
        """One sealed table as it was stored, with the columns that it had then; raises as `read` does."""
        return read_table(self.home(position), self.require(position), row_type)

    def tasks(self, position: Position) -> tuple[Task, ...]:
        """The tasks of a sealed partition, read once: sealed partitions never change."""
        self.require(position)
        if position not in self._tasks:
            self._tasks[position] = tuple(self.read(Task, position))
        return self._tasks[position]

    def refresh(self) -> None:
        """See what was sealed since; for readers while a writer is at work."""
        self._seals = read_seals(self.family, self._seals)

    def before(self, position: Position) -> Self:
        """A reader of this run as it was before a position: later seals, and its own, are not there."""
        past = copy.copy(self)
        past._seals = {at: seal for at, seal in self._seals.items() if layout.order(at) < layout.order(position)}
        past._lock, past._log = None, None
        return past

    def ledger_hash(self) -> str:
        """One hash over the content of all sealed partitions: equal for runs that computed the same."""
        return ledger_hash(self._seals.values())

    def attempts(self) -> list[AttemptRecord]:
        """Every attempt so far, in order of position and number."""
        return read_attempts(self.directory, self._seals)

    def verify(self) -> list[Finding]:
        """Every difference between this run's files and its seals; empty is good."""
        return audit(self.root, self.run)

    def owner(self) -> Owner | None:
        """The living process that writes this run, or None."""
        return owner_of(self.directory)

    def begin(self, position: Position, *, inputs: Sequence[Position] = (), provenance: Provenance) -> Attempt:
        """An attempt to make one partition from sealed ones, to be entered with `with`.

        Raises LedgerError when an input is not sealed, or when this process does not hold the run's lock.
        """
        if (home := self.home(position)) != self.directory:
            raise LedgerError(
                f"Run {self.run} is a fork, and {position} lies before its point: there it is run {home.name}. "
                f"Nothing was written. Fork {home.name} earlier: "
                + layout.command(
                    "fork", "--at", step_text(position.iteration, position.round), root=self.root, run=home.name
                )
            )
        contents = {str(needed): self.require(needed, needed_by=position).content for needed in inputs}
        return Attempt(self, self._writing(), position, contents, provenance)

    def last(self) -> Seal | None:
        """The seal made last: the one that no other follows."""
        followed = {name for seal in self._seals.values() for name in seal.before}
        return next((seal for position, seal in self._seals.items() if str(position) not in followed), None)

    def note(self, seal: Seal) -> Seal:
        """Take note of a partition that is sealed now; returns the seal that counts."""
        if (known := self._seals.get(seal.position)) is not None:
            return known
        latest = next(reversed(self._seals), seal.position)
        self._seals[seal.position] = seal
        if layout.order(seal.position) < layout.order(latest):
            self._seals = dict(sorted(self._seals.items(), key=lambda item: layout.order(item[0])))
        return seal

    def _writing(self) -> AttemptLog:
        if self._log is None or self._lock is None or not self._lock.held:
            raise LedgerError(f"Run {self.run} is not open for writing in process {os.getpid()}. Nothing was written.")
        return self._log


class Attempt:
    """One attempt at one partition, recorded from entering to leaving the `with` block, whatever happens in it."""

    def __init__(
        self, ledger: Ledger, log: AttemptLog, position: Position, inputs: Mapping[str, str], provenance: Provenance
    ) -> None:
        self.position = position
        self.number = 0
        self._ledger, self._log, self._inputs, self._provenance = ledger, log, inputs, provenance
        self._target = layout.partition_of(ledger.directory, position)
        self._outcome: Outcome | None = None

    def __enter__(self) -> Self:
        with self._explained("could not be begun"), self._ledger.committing:
            self.number = self._log.start(self.position, self._provenance)
        self._started_us, self._started_cpu = layout.now_us(), _cpu_us()
        self._ledger.disk.pause("started")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        outcome, text = self._outcome, None
        if outcome is None:
            outcome = Outcome.FAILED
            text = "it ended without a seal" if kind is None else f"{kind.__name__}: {error}"[:_ERROR_CHARACTERS]
        # A full disk may refuse this line; the seal still says what was sealed, and the rest shows as killed.
        with contextlib.suppress(OSError), self._ledger.committing:
            self._log.end(self.position, self.number, outcome, text)
        self._ledger.disk.pause("ended")

    def seal(
        self,
        tables: Mapping[type[Row], Sequence[Row]],
        *,
        artifacts: Mapping[str, str] | None = None,
        seeds: Mapping[str, int] | None = None,
    ) -> Seal:
        """Write the tables and make the partition count; returns its seal, or the one that was there before.

        `artifacts` names what is not a table by its hash, such as a checkpoint. Raises LedgerError when the rows
        cannot be stored or the disk refuses; nothing is sealed then, and what was written is removed.
        """
        encoded = {kind.table: commit.encode(self.position, kind, rows) for kind, rows in tables.items()}
        outputs = {name: encoded[name].output for name in sorted(encoded)}
        scratch = layout.scratch_of(self._ledger.directory, self.position, self.number, os.getpid())
        with self._explained("could not be sealed"), self._ledger.committing:
            try:
                commit.write_tables(self._ledger.disk, scratch, encoded)
                seal = self._seal(outputs, artifacts or {}, seeds or {})
                first = commit.publish(self._ledger.disk, scratch, self._target, seal)
                seal = self._ledger.note(seal if first else read_seal(self._ledger.directory, self.position))
                index.append(self._ledger.directory, seal)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        self._outcome = Outcome.SEALED if first else Outcome.DISCARDED
        return seal

    def _seal(self, outputs: Mapping[str, Output], artifacts: Mapping[str, str], seeds: Mapping[str, int]) -> Seal:
        last = self._ledger.last()
        timings = Timings(
            started_us=self._started_us, finished_us=layout.now_us(), cpu_us=max(0, _cpu_us() - self._started_cpu)
        )
        return sealed(
            Seal(
                run=self._ledger.run,
                iteration=self.position.iteration,
                round=self.position.round,
                stage=self.position.stage,
                attempt=self.number,
                code_version=self._provenance.code_version,
                config_hash=self._ledger.facts.config_hash,
                seeds=dict(seeds),
                inputs=self._inputs,
                outputs=outputs,
                artifacts=dict(artifacts),
                host=dict(self._provenance.host),
                timings=timings,
                flow_run_id=self._provenance.flow_run_id,
                before={} if last is None else {str(last.position): last.integrity},
            )
        )

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except LedgerError:
            raise
        except OSError as error:
            run = self._ledger.run
            raise LedgerError(
                f"{stage_text(self.position)} of run {run} {what}: {error}. {self._state()} Free space or mend the "
                f"disk, then: {layout.rerun_command(self._ledger.root, run, self.position)}"
            ) from error

    def _state(self) -> str:
        if self._target.exists():
            return "It is sealed, but the disk did not confirm that it will survive power loss."
        return "Nothing was sealed; what was sealed earlier stays as it is."


def stage_text(position: Position) -> str:
    """A position in words: ``Stage solve of iteration 12``."""
    return f"Stage {position.stage} of iteration {step_text(position.iteration, position.round)}"


def _cpu_us() -> int:
    times = os.times()
    return round(1e6 * (times.user + times.system + times.children_user + times.children_system))
