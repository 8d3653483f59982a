"""The log file of a run: what Prefect and our own loggers say, and the tracebacks that the console does not show."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from storage.errors import LedgerError
from storage.layout import LOG_FILE

# Prefect's loggers do not propagate to the root logger; tasks' warn of lost processes.
LOGGERS = ("prefect", "azr", "tasks")


class _Forgiving(logging.FileHandler):
    """A log that a full disk does not turn into noise: what cannot be written is dropped."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Drop the record."""


@contextmanager
def log_file(directory: Path) -> Iterator[Path]:
    """Append what is logged meanwhile to a run's log file; the run's directory is made when it is not there.

    Raises:
        LedgerError: the file cannot be written there.
    """
    path = directory / LOG_FILE
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handler = _Forgiving(path, encoding="utf-8")
    except OSError as error:
        raise LedgerError(
            f"Run {directory.name} cannot be written below {directory.parent}: {error}. Nothing was written. "
            "Make it writable, or choose another --root."
        ) from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s  %(message)s"))
    logging.getLogger("azr").setLevel(logging.INFO)
    logging.getLogger("azr").propagate = False
    for name in LOGGERS:
        logging.getLogger(name).addHandler(handler)
    try:
        yield path
    finally:
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(handler)
        with suppress(OSError):
            handler.close()
