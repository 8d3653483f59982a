"""The processes of `azr up`: the runner, the private server and the MLflow UI, each started again when it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from flows.console import complain, say, seconds
from flows.server import (
    START_SECONDS,
    Known,
    ServerError,
    alive,
    find_or_start,
    home_of,
    known,
    port_is_free,
)
from flows.serving.places import MLFLOW, RUNNER, announce, announced, forget
from flows.settings import environment, quiet
from storage import layout

_LOOK_S = 0.5
_STOP_S, _END_S = 20.0, 5.0  # to cancel flow runs when told to stop; to end after that
_TRIES, _SHORT_S = 3, 20.0
MLFLOW_PORT = 5000


class Household:
    """Owns the child processes of one `azr up`. Each child has a process group, which also holds what it starts."""

    def __init__(self, root: Path) -> None:
        self.root, self.home = root, home_of(root)
        self.private = "PREFECT_API_URL" not in os.environ
        self.mlflow_url = ""
        self.server: Known | None = None
        self._api = ""
        self._runner: subprocess.Popen[bytes] | None = None
        self._began, self._short_lives = 0.0, 0
        self._mlflow: subprocess.Popen[bytes] | None = None
        self._children: list[subprocess.Popen[bytes]] = []

    def start_runner(self, api: str) -> None:
        """Start the process that takes flow runs; it waits for the API by itself."""
        self._api, self._began = api, time.monotonic()
        words = ["-m", "flows.serving.runner", str(self.root), api]
        settings = environment(self.home, api) if self.private else quiet()
        self._runner = self._start(words, "runner.log", settings)

    def await_runner(self) -> dict[str, str]:
        """The deployments that the runner serves, name to id; raises ServerError when it does not come to that."""
        deadline = time.monotonic() + START_SECONDS
        while (told := self._announced()) is None:
            if self._ended() is not None or time.monotonic() > deadline:
                raise ServerError(f"The deployments could not be served. {self._state()}")
            time.sleep(0.05)
        return told

    def start_mlflow(self) -> None:
        """Serve the MLflow UI of the store below the root, on the first free port."""
        port = next(port for port in range(MLFLOW_PORT, MLFLOW_PORT + 1000) if port_is_free(port))
        if port != MLFLOW_PORT:
            say(f"Port {MLFLOW_PORT} is taken by another program; MLflow listens on {port}.")
        words = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        words += ["--backend-store-uri", layout.tracking_uri(self.root, "")]
        words += ["--artifacts-destination", str(self.root / layout.MLFLOW_FILES)]
        settings = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self._mlflow = self._start(words, "mlflow-ui.log", settings)
        self.mlflow_url = f"http://127.0.0.1:{port}"
        announce(self.root, MLFLOW, {"url": self.mlflow_url}, pid=self._mlflow.pid)

    def watch(self) -> None:
        """Bring back what ends, and say so, until this process is interrupted.

        Raises:
            ServerError: the server or the runner ends again and again.
        """
        while True:
            time.sleep(_LOOK_S)
            if self.private and not alive(self.home):
                self._revive_server()
            if (code := self._ended()) is not None:
                self._revive_runner(code)
            if self._mlflow is not None and self._mlflow.poll() is not None:
                complain(f"The MLflow UI ended. See {self.home / 'mlflow-ui.log'}; all else goes on.")
                self._mlflow = None
                forget(self.root, MLFLOW)
            self._children = [child for child in self._children if child.poll() is None or _has_group(child.pid)]

    def close(self) -> None:
        """End all of it: the runner cancels its flow runs first; whatever is left then is told to end, then killed."""
        if not self._children:
            return
        self.server = known(self.home)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave half of it behind
        forget(self.root, MLFLOW)
        for child in self._children:
            with suppress(ProcessLookupError):
                child.terminate()
        _await_end(self._children, _STOP_S)
        for number in (signal.SIGTERM, signal.SIGKILL):
            for child in self._children:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, number)
            _await_end(self._children, _END_S)
        self._children = []

    def _start(self, words: Sequence[str], log: str, settings: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.home / log).open("ab") as output:
            child = subprocess.Popen(
                [sys.executable, "-P", *words],
                stdin=subprocess.PIPE,  # its end tells a child that we are gone, whatever ended us
                stdout=output,
                stderr=output,
                env={**os.environ, **settings, "PYTHONSAFEPATH": "1"},  # flow runs import nothing from here either
                start_new_session=True,  # Ctrl-C reaches us alone
            )
        self._children.append(child)
        return child

    def _announced(self) -> dict[str, str] | None:
        """The deployments of the runner that lives, once it serves them."""
        told = announced(self.root, RUNNER)
        if told is None or self._runner is None or told["pid"] != self._runner.pid:
            return None
        names, ids = told["deployments"], told["ids"]
        return dict(zip(names, ids, strict=True)) if isinstance(names, list) and isinstance(ids, list) else None

    def _ended(self) -> int | None:
        return None if self._runner is None else self._runner.poll()

    def _revive_server(self) -> None:
        say(f"{_now()} The Prefect server ended. It is started again at the same address.")
        began = time.monotonic()
        for attempt in range(1, _TRIES + 1):
            try:
                find_or_start(self.home, urlsplit(self._api).port)
                break
            except ServerError as error:
                if attempt == _TRIES:
                    raise
                complain(f"{error} Trying again.")
                time.sleep(attempt)
        say(f"{_now()} The server is back after {seconds(time.monotonic() - began)}. Flow runs go on.")
        self.start_runner(self._api)  # the one before sees the new server, and leaves with the last of its flow runs

    def _revive_runner(self, code: int) -> None:
        self._short_lives = self._short_lives + 1 if time.monotonic() - self._began < _SHORT_S else 0
        if self._short_lives >= _TRIES:
            raise ServerError(f"The process that runs flows ended {_TRIES} times in a row. {self._state()}")
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        say(
            f"{_now()} The process that runs flows {how}. It is started again; flow runs that it had started go on, "
            "but cannot be cancelled from the UI."
        )
        self.start_runner(self._api)

    def _state(self) -> str:
        again = layout.command("up", root=self.root)
        return f"What is sealed stays as it is. Read {self.home / 'runner.log'}, then: {again}"


def _await_end(children: Sequence[subprocess.Popen[bytes]], patience: float) -> None:
    """Wait until the children and all of their groups are gone."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if all(child.poll() is not None and not _has_group(child.pid) for child in children):
            return
        if all(child.poll() is not None for child in children) and patience > _END_S:
            return  # what the children left behind is told to end now
        time.sleep(0.05)


def _has_group(group: int) -> bool:
    """Whether a process of this group lives."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _now() -> str:
    return time.strftime("%H:%M:%S")
