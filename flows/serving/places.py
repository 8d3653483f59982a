"""What `azr up` leaves below a root for other processes to find. Nothing heavy is imported here."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from flows.server import home_of
from storage.lock import process_mark

Fact: TypeAlias = "str | int | list[str] | None"
Facts: TypeAlias = Mapping[str, Fact]

UP, RUNNER, MLFLOW = "up.json", "runner.json", "mlflow-ui.json"
"""Files of the supervisor, the runner and the MLflow UI: what each says of itself while it lives."""


def announce(root: Path, file: str, facts: Facts, *, pid: int | None = None) -> None:
    """Write what a process (this one, unless another is named) says of itself; it holds while that process lives."""
    pid = os.getpid() if pid is None else pid
    home = home_of(root)
    fresh = home / f"{file}.{os.getpid()}.new"
    fresh.write_text(json.dumps({**facts, "pid": pid, "mark": process_mark(pid)}), encoding="utf-8")
    fresh.replace(home / file)


def announced(root: Path, file: str) -> dict[str, Fact] | None:
    """What a process said of itself that still lives; None when there is none."""
    try:
        told = json.loads((home_of(root) / file).read_text(encoding="utf-8"))
        lives = process_mark(int(told["pid"])) == told["mark"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return dict(told) if lives else None


def forget(root: Path, file: str) -> None:
    """Remove what was announced."""
    (home_of(root) / file).unlink(missing_ok=True)


def mlflow_ui(root: Path) -> str | None:
    """The address of the MLflow UI that `azr up --mlflow` serves for a root; None when it serves none."""
    told = announced(root, MLFLOW)
    return None if told is None else str(told["url"])
