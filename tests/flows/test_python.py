"""`train` called as a function, as in a notebook: no server is chosen, and nothing of Prefect is set up."""

import json
import sqlite3
import subprocess
import sys

import pytest
from azr_process import PATIENCE, Person, until
from deployed import CONFIG

from storage.ids import Position, Stage
from storage.ledger import Ledger

_CALL = """
import json, sys
from flows.config import RunConfig
from flows.train import train
train(RunConfig.model_validate(json.loads(sys.argv[1])))
"""


@pytest.mark.server
@pytest.mark.timeout(600)
def test_a_plain_call_trains_below_the_working_directory_on_a_server_of_its_own(tmp_path):
    person = Person(tmp_path / "person")
    done = subprocess.run(
        [sys.executable, "-c", _CALL, json.dumps({**CONFIG, "name": "mine", "iterations": 1})],
        cwd=person.desk,
        env=person.environment,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    root = person.desk / "runs"
    assert Ledger.open(root, "mine").seal_of(Position(1, Stage.UPDATE)) is not None
    assert until(lambda: not (root / ".prefect" / "server.json").exists(), 60), "the server left with its last user"
    with sqlite3.connect(f"file:{root}/.prefect/prefect.db?mode=ro", uri=True) as database:
        names = [name for (name,) in database.execute("SELECT name FROM task_run WHERE state_type = 'COMPLETED'")]
    assert [name for name in names if name.startswith("mine · iteration 1 · ")] == [
        f"mine · iteration 1 · {stage}" for stage in Stage
    ]
    assert not (person.home / ".prefect" / "prefect.db").exists()
