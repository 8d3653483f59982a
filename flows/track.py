"""`azr track`: tell MLflow, here and now, what it lacks of a run."""

from __future__ import annotations

from pathlib import Path

from flows.console import say
from flows.launch import pick_run
from flows.session import stored_config
from storage.layout import tracking_uri
from storage.tracking import connect, sync


def catch_up(root: Path, run: str | None) -> int:
    """Log every sealed iteration that MLflow lacks, and say how to look at it; returns the exit code."""
    name = pick_run(root, run)
    config = stored_config(root, name).tracking
    uri = tracking_uri(root, config.uri)
    count = sync(connect(uri), root, name, uri=uri, experiment=config.experiment)
    say(f"{count} iterations of run {name} were logged to {uri}.\nLook: mlflow ui --backend-store-uri {uri}")
    return 0
