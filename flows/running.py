"""What a run needs inside a flow run: its workshop, its log file, and a wait for a writer that is still ending."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from prefect.context import FlowRunContext
from prefect.exceptions import Pause, TerminationSignal
from prefect.logging.handlers import APILogHandler
from prefect.runtime import flow_run
from prefect.utilities.urls import url_for

from flows.config import RunConfig
from flows.logs import log_file
from flows.session import opened, workshop
from flows.shown import shown
from storage.errors import RunTaken
from storage.lock import call_process
from tasks.workshop import Workshop

WAIT_S = 30.0
"""How long a flow run waits for another writer: a process that is told to stop has so long before it is killed."""
_LOOK_S = 0.5
_log = logging.getLogger("azr")


@contextmanager
def running(root: Path, run: str, *, config: RunConfig | None = None) -> Iterator[Workshop]:
    """The run's workshop inside a flow run: the one that this process has open, or a new one, closed at the end.

    A new one waits up to WAIT_S for another writer. What is logged meanwhile goes to the run's log file as well, also
    the traceback of what ends it, and the lines of our own loggers go to the flow run's page.

    Raises:
        RunTaken: another process still writes the run after that time; the message names it.
        LedgerError, ConfigError: as `flows.session.workshop`.
    """
    with _shown_on_its_page(), ExitStack() as closing:
        work = opened(root, run)
        if work is None:
            if (number := flow_run.get_id()) is not None:
                call_process(f"flow run {flow_run.get_name()}, {url_for('flow-run', obj_id=number) or number}")
            work = _when_free(closing, root, run, config)
            closing.enter_context(log_file(work.ledger.directory))
            closing.enter_context(_last_words(run))
        closing.enter_context(shown(work))
        yield work


def _when_free(closing: ExitStack, root: Path, run: str, config: RunConfig | None) -> Workshop:
    """Open the run as soon as no other process writes it, but do not wait for ever."""
    deadline = time.monotonic() + WAIT_S
    told = False
    while True:
        try:
            return closing.enter_context(workshop(root, run, config=config))
        except RunTaken as taken:
            if time.monotonic() > deadline:
                raise
            if not told:
                told = True
                _log.warning("Waiting up to %.0f s for another writer. %s", WAIT_S, taken)
        time.sleep(_LOOK_S)


@contextmanager
def _last_words(run: str) -> Iterator[None]:
    """Leave what ends the run in its log file."""
    try:
        yield
    except Exception:
        _log.exception("run %s stopped", run, extra={"send_to_api": False})  # Prefect's page has it already
        raise
    except Pause:
        _log.info("run %s is suspended; Resume goes on with it", run)
        raise
    except TerminationSignal:
        _log.warning("run %s was told to stop", run)
        gc.freeze()  # or the process, on its way out, looks for garbage in all of torch: 1.6 s of CPU
        raise


@contextmanager
def _shown_on_its_page() -> Iterator[None]:
    """Send what our own logger says to the page of the flow run in which it is said."""
    if any(isinstance(handler, APILogHandler) for handler in _log.handlers):
        yield
        return
    handler = APILogHandler(logging.INFO)
    handler.addFilter(lambda record: FlowRunContext.get() is not None)  # another thread's lines belong to no flow run
    _log.setLevel(logging.INFO)
    _log.addHandler(handler)
    try:
        yield
    finally:
        _log.removeHandler(handler)
