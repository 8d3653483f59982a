"""A workshop that reads a run and writes nothing into it: for stages that are done again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from flows.console import Gauge
from flows.session import stored_config
from flows.version import code_version
from storage.ids import Position
from storage.ledger import Ledger
from tasks.workshop import Workshop


class Counting:
    """Counts stages on a gauge; a reporter."""

    def __init__(self, gauge: Gauge, total: int) -> None:
        self._gauge, self._done, self._total = gauge, 0, total
        self._at = ""

    def begin(self, at: Position) -> None:
        """A stage starts to run."""
        self._at = str(at)
        self._gauge(self._done, self._total, f" ({at})")

    def progress(self, done: int, total: int) -> None:
        """Part of the running stage is done."""
        self._gauge(self._done, self._total, f" ({self._at} {done}/{total})")

    def end(self, at: Position, note: str) -> None:
        """A stage is done."""
        self._count(at)

    def skip(self, at: Position) -> None:
        """A stage could not be done."""
        self._count(at)

    def _count(self, at: Position) -> None:
        self._done += 1
        self._gauge(self._done, self._total, f" ({at})")


@contextmanager
def aside(root: Path, run: str, *, gauge: Gauge, total: int) -> Iterator[Workshop]:
    """A workshop over the run as it is now, with the run's own config; the run may be written meanwhile.

    Checkpoints are published into a temporary directory, which is removed. Modules that import prefect must be imported
    within: it makes its home where it is imported, and here that is the same temporary directory.

    Args:
        root: directory of the runs.
        run: name of the run.
        gauge: told how many stages are done; closed at the end.
        total: stages to do.

    Raises:
        LedgerError: there is no such run, or its seals do not fit each other.
    """
    config = stored_config(root, run)
    ledger = Ledger.open(root, run)
    with ExitStack() as stack:
        place = stack.enter_context(TemporaryDirectory(prefix="azr-"))
        stack.enter_context(_prefect_home(place))
        reporter = Counting(stack.enter_context(closing(gauge)), total)
        yield stack.enter_context(
            Workshop(ledger=ledger, config=config, code_version=code_version(), reporter=reporter, aside=Path(place))
        )


@contextmanager
def _prefect_home(place: str) -> Iterator[None]:
    before = os.environ.get("PREFECT_HOME")
    os.environ.setdefault("PREFECT_HOME", place)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PREFECT_HOME"]
