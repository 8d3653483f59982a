"""The deployments of prefect.yaml: served by `azr up` and asked for as the UI does, or deployed to a worker."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from azr_process import Person, begun, sealed
from served import SMALL, served

from flows.server import prefect_server
from storage.database import query
from storage.ids import Position, Stage
from storage.layout import RUN_FILE
from tasks.stage import SEALED

HERE = Path(__file__).parent.parent.parent
PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]
FORMS = {
    "train/train",
    "iteration/iteration",
    "rerun-stage/rerun-stage",
    "replay/replay",
    "audit/audit",
    "rescore/rescore",
    "fork/fork",
    "continue/continue",
    "gc/gc",
}
pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    base = tmp_path_factory.mktemp("deployments")
    with served(base / "runs of mine", Person(base / "person")) as running:
        yield running


@pytest.fixture(scope="module")
def nano(up):
    """A run that was trained from the form; the id of its flow run."""
    known = up.begin("train/train", config=SMALL, run="nano")
    done = up.end(known)
    assert done["state"]["type"] == "COMPLETED", done["state"]
    assert done["name"] == "nano"
    return known


def texts(up, known):
    return "\n".join(str(one["data"]) for one in up.artifacts(known) if one["type"] == "markdown")


def test_every_form_has_its_words_its_root_and_its_version(up):
    found = up.http.post("/deployments/filter", json={}).raise_for_status().json()
    assert {one["name"] for one in found} == {name.partition("/")[2] for name in FORMS}
    for one in found:
        assert one["parameters"]["root"] == str(up.root)
        assert one["version"]
        assert one["tags"] == ["azr"]
        assert one["enforce_parameter_schema"]
        properties = one["parameter_openapi_schema"]["properties"]
        assert all(shown.get("description") for shown in properties.values()), (one["name"], properties)


def test_the_nightly_audit_is_there_to_be_switched_on(up):
    assert [schedule["active"] for schedule in up.deployment("audit/audit")["schedules"]] == [False]


@pytest.mark.parametrize(
    ("form", "values", "said"),
    [
        ("train/train", {"config": {"iterations": -1}}, "minimum of 0"),
        ("train/train", {"config": {"iteration": 1}}, "iteration"),
        ("train/train", {"config": {"rewards": {"learnability": "cubic"}}}, "cubic"),
        ("replay/replay", {"stages": ["prove"]}, "prove"),
        ("replay/replay", {"first": -1}, "minimum of 0"),
        ("rescore/rescore", {"by": "chance"}, "chance"),
        ("fork/fork", {"iteration": "soon"}, "soon"),
        ("fork/fork", {}, "iteration"),
        ("rerun-stage/rerun-stage", {"run": "nano", "iteration": 1, "stage": "dream"}, "dream"),
        ("gc/gc", {"dry_run": "perhaps"}, "perhaps"),
    ],
)
def test_the_form_refuses(up, form, values, said):
    refused = up.ask(form, **values)
    assert refused.status_code == 409, refused.text
    assert said in refused.json()["detail"]


@pytest.mark.parametrize(
    ("form", "values", "said"),
    [
        ("audit/audit", {"run": "nobody"}, "There is no run nobody"),
        ("rerun-stage/rerun-stage", {"run": "nano", "iteration": 9, "stage": "solve"}, "not sealed"),
        ("replay/replay", {"run": "nano", "first": 7}, "no sealed"),
        ("fork/fork", {"run": "nano", "iteration": 9}, "cannot be forked"),
        ("fork/fork", {"run": "nano", "iteration": 1, "changes": {"update.learning_rat": 1.0}}, "update.learning_rate"),
        ("gc/gc", {"run": "nano", "changes": {"retention.tokens_last": "few"}}, "retention.tokens_last"),
        ("rescore/rescore", {"run": "nano", "first": 5}, "no verified iteration"),
    ],
)
def test_what_no_form_can_know_fails_at_once_in_our_words(up, nano, form, values, said):
    done = up.do(form, **values)
    assert done["state"]["type"] == "FAILED"
    assert said in done["state"]["message"]
    assert sorted(path.name for path in up.root.iterdir() if (path / RUN_FILE).exists()) == ["nano"]


def test_audit(up, nano):
    done = up.do("audit/audit")
    assert (done["name"], done["state"]["type"]) == ("nano · audit", "COMPLETED"), done["state"]
    assert "Nothing is wrong with run nano" in done["state"]["message"]
    assert [one["key"] for one in up.artifacts(done["id"]) if one["type"] == "markdown"] == ["nano-audit"]
    assert "both hash chains" in texts(up, done["id"])


def test_replay(up, nano):
    done = up.do("replay/replay", run="nano", stages=["validate", "verify"])
    assert (done["name"], done["state"]["type"]) == ("nano · replay", "COMPLETED"), done["state"]
    assert "All came out equal" in texts(up, done["id"])


def test_rescore(up, nano):
    done = up.do("rescore/rescore", by="inverse")
    assert (done["name"], done["state"]["type"]) == ("nano · rescore", "COMPLETED"), done["state"]
    assert query(up.root, "SELECT DISTINCT rule FROM rescored").rows == (("inverse",),)
    own = up.do("rescore/rescore", by="rewards", rewards={"wrong": -1.0}, name="harsh")
    assert own["state"]["type"] == "COMPLETED", own["state"]
    assert query(up.root, "SELECT DISTINCT rule FROM rescored ORDER BY rule").rows == (("harsh",), ("inverse",))


def test_gc(up, nano):
    done = up.do("gc/gc", dry_run=True)
    assert (done["name"], done["state"]["type"]) == ("nano · gc", "COMPLETED"), done["state"]


def test_rerun_leaves_what_is_sealed_and_compares_it_when_asked(up, nano):
    before = begun(up.root, "nano")
    values = {"run": "nano", "iteration": 1, "stage": "validate"}
    done = up.do("rerun-stage/rerun-stage", **values)
    assert done["name"] == "nano · iteration 1 · validate"
    assert done["state"]["name"] == SEALED
    assert "never replaced" in done["state"]["message"]
    again = up.do("rerun-stage/rerun-stage", **values, compare=True)
    assert (again["name"], again["state"]["type"]) == ("nano · iteration 1 · validate again", "COMPLETED")
    assert "equal" in texts(up, again["id"])
    assert begun(up.root, "nano") == before


def test_iteration_and_rerun_do_what_is_missing(up, nano):
    done = up.do("rerun-stage/rerun-stage", run="nano", iteration=2, stage="propose")
    assert done["state"]["type"] == "COMPLETED", done["state"]
    assert max(sealed(up.root, "nano"), key=lambda at: at.iteration) == Position(2, Stage.PROPOSE)
    done = up.do("iteration/iteration", run="nano", iteration=2)
    assert (done["name"], done["state"]["type"]) == ("nano · iteration 2", "COMPLETED"), done["state"]
    assert Position(2, Stage.UPDATE) in sealed(up.root, "nano")


def test_fork(up, nano):
    changes = {"rewards.learnability": "variance", "rewards.wrong": -0.25}
    done = up.do("fork/fork", run="nano", iteration=1, stage="verify", name="fork", changes=changes)
    assert (done["name"], done["state"]["type"]) == ("nano · fork", "COMPLETED"), done["state"]
    assert "rewards.learnability" in texts(up, done["id"])
    facts = json.loads((up.root / "fork" / RUN_FILE).read_text())
    assert (facts["parent"]["run"], facts["parent"]["at"]) == ("nano", "1/verify")
    assert facts["config"]["rewards"]["wrong"] == -0.25
    went_on = up.do("continue/continue", run="fork")
    assert went_on["state"]["type"] == "COMPLETED", went_on["state"]


def test_an_altered_byte_fails_the_audit_and_the_comparison(up, nano):
    table = next((up.root / "nano" / "ledger" / "000001" / "verify").glob("*.parquet"))
    whole = table.read_bytes()
    table.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        done = up.do("audit/audit", run="nano")
        assert done["state"]["type"] == "FAILED"
        assert "findings in run nano" in done["state"]["message"]
        assert table.name in texts(up, done["id"])
    finally:
        table.write_bytes(whole)


# ---- a worker -------------------------------------------------------------------------------------------------------


def prefect(*words: str) -> str:
    done = subprocess.run(
        [*PREFECT, *words], cwd=HERE, env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_worker_runs_the_deployed_training(tmp_path):
    with prefect_server(tmp_path):
        prefect("work-pool", "create", "azr", "--type", "process")
        prefect("deploy", "--all")
        assert set(prefect("deployment", "ls").replace("│", " ").split()) >= FORMS
        worker = subprocess.Popen([*PREFECT, "worker", "start", "--pool", "azr"], cwd=HERE, env=dict(os.environ))
        try:
            values = {"config": SMALL, "root": str(tmp_path), "run": "deployed"}
            words = [word for key, value in values.items() for word in ("--param", f"{key}={json.dumps(value)}")]
            prefect("deployment", "run", "train/train", *words, "--watch")
        finally:
            worker.terminate()
            worker.wait(30)
    assert query(tmp_path, "SELECT run, iterations FROM runs").rows == (("deployed", 1),)
