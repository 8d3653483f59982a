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
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self, TypeVar

import pyarrow as pa

from storage import commit, index, layout
from storage.access import locked, refuse_foreign, unwritable
from storage.attempt import Attempt, stage_text
from storage.attempts import AttemptLog, AttemptRecord, read_attempts
from storage.audit import audit
from storage.buffers import Buffers
from storage.commit import Disk
from storage.errors import LedgerError
from storage.family import family_of, read_seals, require_files
from storage.findings import Finding
from storage.ids import Position, step_text
from storage.lock import Owner, WriterLock, owner_of
from storage.partitions import read_facts, read_rows, read_table
from storage.records import Row
from storage.seals import Provenance, RunFacts, Seal, ledger_hash

R = TypeVar("R", bound=Row)


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
        self._buffers = Buffers()
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

    def table(self, row_type: type[Row], position: Position, columns: Sequence[str] | None = None) -> pa.Table:
        """One sealed table as it was stored, with the columns that it had then, or some; raises as `read` does."""
        return read_table(self.home(position), self.require(position), row_type, columns)

    def buffers(self) -> Buffers:
        """What is known of all tasks sealed so far; raises LedgerError when a file is not what was sealed."""
        self._buffers.take(self)
        return self._buffers

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
