"""`azr up`: one command that starts what a root needs, says where it is, and watches over it until it is stopped."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flows.console import say, seconds, summary
from flows.server import Known, home_of, make_home, prefect_server
from flows.serving.household import Household
from flows.serving.places import UP, announce, announced, forget
from flows.settings import KEEP_EVENTS_DAYS, KEEP_RUNS_DAYS
from storage import layout
from storage.lock import process_mark

_LEAVE_S = 15.0


def up(root: Path, *, port: int, mlflow: bool) -> int:
    """Serve the deployments of a root until Ctrl-C or SIGTERM; returns the exit code.

    Raises:
        ServerError: the port is taken, or the server or the runner does not start; the message says what to do.
    """
    began = time.monotonic()
    root = root.resolve()
    make_home(root)
    with _only_one(root) as free:
        if not free:
            say(_already(root))
            return 0
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # both ways to stop go one way
        household = Household(root)
        try:
            _serve(household, port, mlflow, began)
        except KeyboardInterrupt:
            _stopped(household)
    return 0


def _serve(household: Household, port: int, mlflow: bool, began: float) -> None:
    root = household.root
    with ExitStack() as closing:
        closing.callback(household.close)  # for what was started before the server answered
        api = closing.enter_context(prefect_server(root, port=port, meanwhile=household.start_runner))
        closing.callback(household.close)  # before the server may leave
        if mlflow:
            household.start_mlflow()
        deployments = household.await_runner()
        announce(root, UP, {"ui": api.removesuffix("/api")})
        closing.callback(forget, root, UP)
        say(_page(household, api.removesuffix("/api"), deployments))
        say(f"Ready after {seconds(time.monotonic() - began)}. Stop it with Ctrl-C.")
        household.watch()


def _page(household: Household, ui: str, deployments: dict[str, str]) -> str:
    facts = {
        "Prefect": ui,
        "train": f"{ui}/deployments/deployment/{deployments['train']}/run   (Deployments, train, Run, Custom run)",
        "served": ", ".join(deployments),
        "runs": str(household.root),
        "kept": f"ended flow runs {KEEP_RUNS_DAYS} days, events {KEEP_EVENTS_DAYS} days, the ledger for good"
        if household.private
        else "as that server is set up; the ledger for good",
    }
    if household.mlflow_url:
        facts["MLflow"] = household.mlflow_url
    return summary(facts)


@contextmanager
def _only_one(root: Path) -> Iterator[bool]:
    """Whether no other `azr up` serves this root; none can begin while this lasts."""
    descriptor = os.open(home_of(root) / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _already(root: Path) -> str:
    told = announced(root, UP)
    if told is None:
        return f"azr up is already starting for {root}. Nothing was started."
    return f"azr up already serves {root}: {told['ui']} (process {told['pid']}). Nothing was started."


def _stopped(household: Household) -> None:
    """Say what is left: nothing, or the server of another process below this root."""
    if not _is_gone(household.server):
        say("The Prefect server stays as long as another azr uses it.")
    again = layout.command("up", root=household.root)
    say(f"Stopped. Flow runs that were going on are Cancelled; what is sealed stays, and Retry goes on. Again: {again}")


def _is_gone(server: Known | None) -> bool:
    """Wait for the private server to leave; False when it stays for another user."""
    deadline = time.monotonic() + _LEAVE_S
    while server is not None and process_mark(server.pid) == server.mark:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
