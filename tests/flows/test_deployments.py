"""`prefect deploy` takes prefect.yaml, and a worker runs what it deployed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.server import prefect_server
from storage.database import query

HERE = Path(__file__).parent.parent.parent
PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]
CONFIG = {
    "iterations": 1,
    "engine": {"threads": 1},
    "curriculum": {"proposals": 4, "probes": 2, "buffer_tasks": 1},
    "bootstrap": {"wanted": 4, "proposals": 12},
}


def prefect(*words: str) -> str:
    done = subprocess.run(
        [*PREFECT, *words], cwd=HERE, env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.server
@pytest.mark.timeout(300)
def test_a_worker_runs_the_deployed_training(tmp_path):
    with prefect_server(tmp_path):
        prefect("work-pool", "create", "azr", "--type", "process")
        prefect("deploy", "--all")
        assert {"train/train", "iteration/iteration"} <= set(prefect("deployment", "ls").replace("│", " ").split())
        worker = subprocess.Popen([*PREFECT, "worker", "start", "--pool", "azr"], cwd=HERE, env=dict(os.environ))
        try:
            values = {"config": CONFIG, "root": str(tmp_path), "run": "deployed"}
            words = [word for key, value in values.items() for word in ("--param", f"{key}={json.dumps(value)}")]
            prefect("deployment", "run", "train/train", *words, "--watch")
        finally:
            worker.terminate()
            worker.wait(30)
    assert query(tmp_path, "SELECT run, iterations FROM runs").rows == (("deployed", 1),)
