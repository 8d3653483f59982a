"""The log file of a run: what Prefect and our own loggers say, and the tracebacks that the console does not show."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOG_FILE = "azr.log"
LOGGERS = ("prefect", "azr")  # Prefect's loggers do not propagate to the root logger


@contextmanager
def log_file(directory: Path) -> Iterator[Path]:
    """Append what is logged meanwhile to the run's log file; the directory is made when it is not there."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / LOG_FILE
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s  %(message)s"))
    handler.setLevel(logging.INFO)
    for name in LOGGERS:
        logging.getLogger(name).addHandler(handler)
    logging.getLogger("azr").setLevel(logging.INFO)
    logging.getLogger("azr").propagate = False
    try:
        yield path
    finally:
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(handler)
        handler.close()
