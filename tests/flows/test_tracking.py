"""MLflow beside a run. The process is the real one; its store is a local file."""

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from flows.config import TrackingConfig
from flows.tracker import LOG, tracked
from storage.database import query
from storage.layout import MLFLOW_LINK, tracking_uri

FIXTURE = Path(__file__).parents[1] / "storage" / "data" / "first_light"


def followed(root, run="first_light"):
    """Let MLflow be told of a run by a process whose standard input has ended."""
    words = [str(root), run, tracking_uri(root, ""), "azr"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "storage.tracking", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        cwd=root,
    )
    assert done.returncode == 0, done.stderr


def metrics(root):
    with sqlite3.connect(root / "mlflow.db") as store:
        return store.execute("SELECT key, step, value FROM metrics ORDER BY key, step").fetchall()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("tracked")
    shutil.copytree(FIXTURE, root / "first_light")
    followed(root)
    return root


def test_every_iteration_is_logged(root):
    found = metrics(root)
    assert [(key, step) for key, step, _ in found if key == "iteration"] == [("iteration", 1), ("iteration", 2)]
    assert len({(key, step) for key, step, _ in found}) == len(found)


@pytest.mark.server
def test_iterations_are_logged_once_however_often_it_is_told(root):
    first = metrics(root)
    followed(root)
    assert metrics(root) == first
    with sqlite3.connect(root / "mlflow.db") as store:
        assert store.execute("SELECT count(*) FROM runs").fetchone() == (1,)


def test_curves_are_the_answers_of_named_sql(root):
    logged = {(key, step): value for key, step, value in metrics(root)}
    rows = query(root, "SELECT iteration, role, mode, mean FROM reward_curves WHERE iteration > 0").rows
    assert len(rows) == 12
    for iteration, role, mode, mean in rows:
        assert logged[f"reward_curves/{role}/{mode}/mean", iteration] == pytest.approx(mean)


def test_tags_lead_to_the_ledger_and_a_file_leads_back(root):
    link = json.loads((root / "first_light" / MLFLOW_LINK).read_text())
    with sqlite3.connect(root / "mlflow.db") as store:
        tags = dict(store.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (link["run_id"],)).fetchall())
        (place,) = store.execute("SELECT artifact_uri FROM runs").fetchone()
    (hash_,) = query(root, "SELECT ledger_hash FROM runs").rows[0]
    assert tags["azr.run"] == "first_light"
    assert tags["azr.ledger_hash"] == hash_
    assert len(tags["prefect.flow_run_id"]) == 36
    checkpoints = json.loads((Path(place.removeprefix("file://")) / "checkpoints.json").read_text())
    assert checkpoints["2"]["directory"].startswith("checkpoints/000002-")
    assert sorted(path.name for path in root.iterdir()) == ["first_light", "mlflow-artifacts", "mlflow.db"]


@pytest.mark.server
def test_a_tracker_that_fails_is_a_line_and_no_more(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "run.json").write_text("{}")
    with tracked(tmp_path, "mine", TrackingConfig(uri="no-such-scheme://x")):
        pass
    assert "MLflow could not be told of run mine; the run itself is whole." in capsys.readouterr().err
    assert (tmp_path / "mine" / LOG).read_text()


@pytest.mark.server
def test_who_stops_a_run_does_not_wait_for_the_tracker(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(KeyboardInterrupt), tracked(tmp_path, "mine", TrackingConfig()):
        raise KeyboardInterrupt


def test_one_switch_turns_it_off(tmp_path):
    with tracked(tmp_path, "mine", TrackingConfig(mlflow=False)):
        pass
    assert list(tmp_path.iterdir()) == []
