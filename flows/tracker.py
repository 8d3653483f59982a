"""The trainer's side of MLflow: `storage.tracking` as a process beside the run, which it can never stop or fail."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.config import TrackingConfig
from flows.console import complain, say
from storage import layout

LOG = "mlflow.log"
_PATIENCE_S = 90.0
"""How long the end of a run waits for MLflow; the process goes on by itself after that."""


@contextmanager
def tracked(root: Path, run: str, config: TrackingConfig) -> Iterator[None]:
    """Let MLflow follow the run while this lasts; its end waits until the last iteration is logged."""
    if not config.mlflow:
        yield
        return
    process = _start(root, run, config)
    try:
        yield
    except BaseException:
        _let_go(process)  # whoever stopped the run is not kept waiting; what was sealed is logged all the same
        threading.Thread(target=process.wait, daemon=True).start()
        raise
    _let_go(process)
    _wait(process, root, run)


def _start(root: Path, run: str, config: TrackingConfig) -> subprocess.Popen[bytes]:
    """Its standard input ends with this process, whatever ends it; signals from the keyboard do not reach it."""
    words = [str(root.resolve()), run, layout.tracking_uri(root, config.uri), config.experiment]
    with (layout.run_directory(root, run) / LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "storage.tracking", *words],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _let_go(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None  # noqa: S101 - it was asked for above
    process.stdin.close()


def _wait(process: subprocess.Popen[bytes], root: Path, run: str) -> None:
    log = layout.run_directory(root, run) / LOG
    try:
        code = process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        say(f"MLflow is slow; it is told of the last iterations beside ({log}).")
        return
    if code != 0:
        again = layout.command("track", root=root, run=run)
        complain(f"MLflow could not be told of run {run}; the run itself is whole. See {log}, then: {again}")
