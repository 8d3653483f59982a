"""MLflow beside a run: a process of its own that follows the ledger and logs each sealed iteration once.

The ledger is the only source: metrics are the answers of named SQL (`storage/sql`), so a curve in MLflow and one asked
by SQL cannot differ. Which iterations MLflow has is asked of MLflow itself, so what it missed while it was away, or
before it was switched on, is caught up. Nothing here can fail a run: the trainer only starts this process and lets go
of its standard input at the end.

    python -m storage.tracking ROOT RUN URI EXPERIMENT
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from storage import layout
from storage.config import flat
from storage.database import query, query_all
from storage.ids import Stage
from storage.ledger import Ledger
from storage.partitions import read_facts

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

_LOOK_S = 5.0
_MARK = "iteration"
"""The metric that is there for every iteration that was logged; it is sent last, in the same request."""
_BATCH = 900  # metrics in one request; the server takes a thousand


class _Curve(NamedTuple):
    """A named SQL view: the columns that name a metric, and those that are its values."""

    view: str
    keys: tuple[str, ...]
    values: tuple[str, ...]


_CURVES = (
    _Curve("reward_curves", ("role", "mode"), ("mean", "deviation", "count")),
    _Curve("iterations", (), ("proposals", "valid", "answers", "solver_accuracy", "seconds")),
    _Curve("diversity", ("mode",), ("programs", "new_programs", "novelty", "characters")),
    _Curve("costs", ("stage",), ("seconds", "cpu_seconds", "prompt_tokens", "completion_tokens", "bytes", "attempts")),
    _Curve("update_curves", ("name", "role", "mode"), ("value",)),
)


def follow(root: Path, run: str, uri: str, experiment: str) -> None:
    """Log what is sealed, again and again, until standard input ends; then once more."""
    client, ended = connect(uri), False
    told: list[int] | None = None
    while not ended:
        ended = bool(select.select([sys.stdin], [], [], _LOOK_S)[0])
        sealed = _sealed(root, run)
        begun = (layout.run_directory(root, run) / layout.RUN_FILE).is_file()
        if begun and (ended or sealed != told):  # MLflow itself is asked only when there may be something to tell
            sync(client, root, run, uri=uri, experiment=experiment, ended=ended)
            told = sealed


def sync(client: MlflowClient, root: Path, run: str, *, uri: str, experiment: str, ended: bool = True) -> int:
    """Log the sealed iterations that MLflow lacks; how many they were."""
    mlflow_run = _find_or_create(client, root, run, experiment)
    logged = {metric.step for metric in client.get_metric_history(mlflow_run, _MARK)}
    missing = [number for number in _sealed(root, run) if number not in logged]
    metrics = _metrics(root, run, missing) if missing else {}
    for number in missing:
        _log(client, mlflow_run, number, metrics[number])
    if missing or ended:
        _tag(client, mlflow_run, root, run)
        _link(client, layout.run_directory(root, run), uri, mlflow_run)
    if ended:
        client.set_terminated(mlflow_run, "FINISHED")
    return len(missing)


def connect(uri: str) -> MlflowClient:
    """A client that gives up within a minute on a server that is away."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _find_or_create(client: MlflowClient, root: Path, run: str, experiment: str) -> str:
    """The id of the MLflow run of this ledger, known by the time it was begun as well as by its name."""
    found = client.get_experiment_by_name(experiment)
    where = found.experiment_id if found else _new_experiment(client, root, experiment)
    facts = read_facts(layout.run_directory(root, run))
    mark = f"{run}@{facts.created_us}"
    same = client.search_runs([where], filter_string=f"tags.`azr.mark` = '{mark}'", max_results=1)
    if same:
        return str(same[0].info.run_id)
    tags = {
        "azr.mark": mark,
        "azr.run": run,
        "azr.root": str(root.resolve()),
        "azr.config_hash": facts.config_hash,
        "azr.code_version": facts.code_version,
    }
    made = client.create_run(where, run_name=run, tags=tags)
    for path, value in flat(facts.config):
        client.log_param(made.info.run_id, path, str(value)[:500])
    return str(made.info.run_id)


def _new_experiment(client: MlflowClient, root: Path, experiment: str) -> str:
    """An experiment; in a local store its files lie below the root too, not in the current directory."""
    local = str(client.tracking_uri).startswith("sqlite:")
    location = (root / layout.MLFLOW_FILES).resolve().as_uri() if local else None
    return str(client.create_experiment(experiment, artifact_location=location))


def _sealed(root: Path, run: str) -> list[int]:
    """The iterations with a sealed update; a look at names is cheap enough to be repeated for days."""
    seals = (layout.run_directory(root, run) / layout.LEDGER).glob(f"*/{Stage.UPDATE}/{layout.SEAL_FILE}")
    return sorted(int(seal.parent.parent.name) for seal in seals if "." not in seal.parent.parent.name)


def _metrics(root: Path, run: str, iterations: Sequence[int]) -> dict[int, dict[str, float]]:
    """What the named SQL says of each of these iterations: metric name to value."""
    found: dict[int, dict[str, float]] = {number: {} for number in iterations}
    answers = query_all(root, {curve.view: _question(curve, min(iterations)) for curve in _CURVES}, run)
    for curve in _CURVES:
        for number, *row in answers[curve.view].rows:
            keys, values = row[: len(curve.keys)], row[len(curve.keys) :]
            of_iteration = found.get(int(str(number)), {})
            for name, value in zip(curve.values, values, strict=True):
                if isinstance(value, int | float):
                    of_iteration["/".join((curve.view, *map(str, keys), name))] = float(value)
    return found


def _question(curve: _Curve, first: int) -> str:
    columns = ", ".join(("iteration", *curve.keys, *curve.values))
    return f"SELECT {columns} FROM {curve.view} WHERE iteration >= {first}"  # noqa: S608 - all words are of this file


def _log(client: MlflowClient, mlflow_run: str, step: int, metrics: Mapping[str, float]) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    marked = {**metrics, _MARK: float(step)}
    rows: list[Metric] = [Metric(name, value, now, step) for name, value in marked.items()]
    for start in range(0, len(rows), _BATCH):
        client.log_batch(mlflow_run, metrics=rows[start : start + _BATCH])


def _tag(client: MlflowClient, mlflow_run: str, root: Path, run: str) -> None:
    """Lead from MLflow to the ledger as it stands, to Prefect and to the checkpoints, which stay where they are."""
    ledger = Ledger.open(root, run)
    last = ledger.last()
    client.set_tag(mlflow_run, "azr.ledger_hash", ledger.ledger_hash())
    if last is not None and last.flow_run_id is not None:
        client.set_tag(mlflow_run, "prefect.flow_run_id", last.flow_run_id)
    rows = query(root, "SELECT iteration, policy, directory FROM checkpoints", run).rows
    places = {str(number): {"policy": policy, "directory": directory} for number, policy, directory in rows}
    client.log_dict(mlflow_run, places, "checkpoints.json")


def _link(client: MlflowClient, directory: Path, uri: str, mlflow_run: str) -> None:
    """Lead from the run to MLflow."""
    experiment = client.get_run(mlflow_run).info.experiment_id
    link = {"tracking_uri": uri, "experiment_id": str(experiment), "run_id": mlflow_run}
    fresh = directory / f"{layout.MLFLOW_LINK}.new"
    fresh.write_text(json.dumps(link, indent=1) + "\n", encoding="utf-8")
    fresh.replace(directory / layout.MLFLOW_LINK)


if __name__ == "__main__":
    follow(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4])
