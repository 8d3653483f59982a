"""Which code is running: recorded in seals and attempts, never a reason to skip or repeat a stage."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

PACKAGE = "absolute-zero-flow"


@cache
def code_version() -> str:
    """The package's version, with the commit when it runs from a git checkout (``-dirty`` when files differ)."""
    commit = _git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    return f"{version(PACKAGE)}+{commit}" if commit else version(PACKAGE)


def _git(*words: str) -> str:
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists():
        return ""
    try:
        done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10, check=False)  # noqa: S607 - the user's own git
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
