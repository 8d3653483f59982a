"""The process that takes flow runs and starts a process for each: ``python -P -m flows.serving.runner ROOT API``.

It leaves when told to (SIGTERM: flow runs are cancelled first). It takes no new flow runs and leaves with the last of
its own when the one that started it is gone, or when the server was started anew: Prefect's runner outlives that, but
its Cancel does not. Until it has left it holds a shared use of the private server, so that its flow runs can end well.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path

from prefect.runner import Runner

from flows.server import START_SECONDS, healthy, home_of, known, shared_use
from flows.serving.automations import install
from flows.serving.deployments import deployments
from flows.serving.places import RUNNER, announce
from storage.errors import AzrError

POLL_S = 2.0
_LOOK_S = 0.5
_STOP_S = 30.0
_log = logging.getLogger("azr.runner")


def serve(root: Path, api: str) -> int:
    """Register the deployments and automations, then run what is asked for until it is time to leave."""
    told_to_stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told_to_stop.set())
    with shared_use(home_of(root)):
        if not _answers(api, told_to_stop):
            return 1
        runner = Runner(name="azr", query_seconds=POLL_S, pause_on_shutdown=False)
        ids = {made.name: str(runner.add_deployment(made)) for made in deployments(root)}
        automations = install()
        thread = threading.Thread(target=lambda: asyncio.run(runner.start()), name="runner")
        thread.start()  # not the main thread: there the runner would take SIGTERM for itself
        announce(root, RUNNER, {"deployments": list(ids), "ids": list(ids.values()), "automations": automations})
        return _watch(runner, thread, root, told_to_stop)


def _answers(api: str, told_to_stop: threading.Event) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while not healthy(api):
        if time.monotonic() > deadline or told_to_stop.wait(0.05):
            return False
    return True


def _watch(runner: Runner, thread: threading.Thread, root: Path, told_to_stop: threading.Event) -> int:
    """Wait for a reason to leave; 0 when there was one, 1 when the runner ended by itself."""
    server = known(home_of(root))
    leaving = False
    while thread.is_alive() and not told_to_stop.wait(_LOOK_S):
        if not leaving and (known(home_of(root)) != server or _left_alone()):
            _log.warning("no new flow runs are taken")
            leaving = True
        if leaving and _idle(runner):
            break
    if not thread.is_alive():
        return 1
    _stop(runner)
    thread.join(_STOP_S)
    return 0


def _idle(runner: Runner) -> bool:
    """Take no new flow runs, and say whether those that were taken have ended.

    Prefect 3.7.7 has no public word for either; the pinned version and tests/flows/test_up.py guard these names.
    """
    if not runner.started:
        return False
    poller = runner._scheduled_run_poller
    poller.stopping = True
    return not poller._submitting_flow_run_ids and not runner._process_manager.flow_run_ids()


def _stop(runner: Runner) -> None:
    """Cancel the flow runs that are running, and end the runner's loop."""
    if runner.started:
        runner.execute_in_background(runner.astop).result(_STOP_S)


def _left_alone() -> bool:
    """Whether the supervisor is gone: our standard input is a pipe from it."""
    return bool(select.select([sys.stdin], [], [], 0)[0])


def main(root: str, api: str) -> None:
    """Serve until it is time to leave; an error of ours is one line in the runner's log."""
    try:
        code = serve(Path(root), api)
    except AzrError as error:
        sys.stderr.write(f"azr: {error}\n")
        code = 1
    sys.stderr.flush()
    os._exit(code)  # Prefect's own threads would hold the process for some seconds


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
