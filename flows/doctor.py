"""`azr doctor`: what this machine can do, looked at and not guessed."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from flows.console import say, say_json, summary
from flows.server import alive, home_of, known
from flows.serving.places import UP, announced, mlflow_ui
from flows.settings import KEEP_EVENTS_DAYS, KEEP_RUNS_DAYS
from flows.version import code_version
from storage import layout
from storage.errors import AzrError

PACKAGES = ("torch", "transformers", "vllm", "prefect", "duckdb", "pyarrow", "mlflow")
Facts = dict[str, str]


def examine(root: Path, *, as_json: bool) -> int:
    """Print what was found; returns 1 when programs cannot be confined, 0 otherwise."""
    found = {title: look(root) for title, look in SECTIONS.items()}
    if as_json:
        say_json(found)
    else:
        for title, facts in found.items():
            say(f"{title}\n{summary(facts)}\n")
        say("Next: azr train --config configs/nano.toml")
    return 1 if "refused" in found["sandbox"] else 0


def _machine(root: Path) -> Facts:
    disk = shutil.disk_usage(next(place for place in (root.resolve(), *root.resolve().parents) if place.exists()))
    return {
        "azr": code_version(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "free disk": f"{disk.free / 1e9:.1f} GB at {root}",
        "runs": ", ".join(layout.run_names(root)) or f"none below {root}",
    }


def _packages(root: Path) -> Facts:
    return {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _sandbox(root: Path) -> Facts:
    from tasks.sandbox.executor import Executor

    try:
        with Executor(workers=1) as executor:
            return dict(executor.report())
    except AzrError as error:
        return {"refused": str(error)}


def _engines(root: Path) -> Facts:
    from models import runtime
    from models.config import DeviceKind
    from models.policy import NANO, policy_hash, resolve_base

    facts = runtime.host_facts(runtime.resolve_device(DeviceKind.AUTO))
    return {**facts, "engine": "hf (transformers, in this process)", "nano base": policy_hash(resolve_base(NANO))[:12]}


def _serving(root: Path) -> Facts:
    """Who serves below this root now; nothing is started to find out."""
    server, home = known(home_of(root)), home_of(root)
    up, ui = announced(root, UP), mlflow_ui(root)
    private = "" if server is None or not alive(home) else server.api.removesuffix("/api")
    return {
        "server": os.environ.get("PREFECT_API_URL") or private or "none is running; azr train and azr up start one",
        "azr up": "not running" if up is None else f"{up['ui']} (process {up['pid']})",
        "mlflow ui": ui or "not served; azr up --mlflow serves it",
        "kept": f"ended flow runs {KEEP_RUNS_DAYS} days, events {KEEP_EVENTS_DAYS} days, in {home}",
    }


SECTIONS: dict[str, Callable[[Path], Facts]] = {
    "machine": _machine,
    "packages": _packages,
    "prefect": _serving,
    "sandbox": _sandbox,
    "engines": _engines,
}
