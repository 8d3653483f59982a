"""One attempt at one partition: it is recorded, its tables are written aside, and one rename makes them count."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from storage import commit, index, layout
from storage.attempts import AttemptLog, Outcome
from storage.errors import LedgerError
from storage.ids import Position, step_text
from storage.partitions import read_seal
from storage.records import Row
from storage.seals import Output, Provenance, Seal, Timings, sealed

if TYPE_CHECKING:
    from storage.ledger import Ledger

_ERROR_CHARACTERS = 2_000  # of an attempt's error text


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
