"""The automations that `azr up` installs: what each does on a real server, and to whom it does nothing."""

import os
import signal
import time

import pytest
from azr_process import Person, until
from served import SMALL, served

from storage.lock import process_mark

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]
OURS = {"azr: crashed", "azr: failed", "azr: low disk"}


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    base = tmp_path_factory.mktemp("automations")
    with served(base / "runs", Person(base / "person")) as running:
        yield running


def names(up):
    return {one["name"] for one in up.http.post("/automations/filter", json={}).raise_for_status().json()}


def soon(up, form, run):
    """The flow run that an automation starts of a deployment for a ledger run."""
    found = lambda: [one for one in up.flow_runs(form) if one["parameters"].get("run") == run]  # noqa: E731 - said once
    assert until(lambda: found() != [], 60), up.flow_runs(form)
    return found()[0]


def test_a_failed_training_is_audited(up):
    began = time.monotonic()
    done = up.do("train/train", config={**SMALL, "model": {"path": "nowhere"}}, run="broken")
    assert done["state"]["type"] == "FAILED"
    audit = soon(up, "audit/audit", "broken")
    print(f"the audit was asked for {time.monotonic() - began:.1f} s after the form was sent")
    assert audit["parameters"]["root"] == str(up.root)
    assert up.end(audit["id"])["name"] == "broken · audit"
    names = {one["name"] for form in ("audit/audit", "gc/gc") for one in up.flow_runs(form)}
    assert names == {"broken · audit"}  # one or, when the server is short of breath, two: nothing comes of an audit


def test_low_disk_collects_garbage(up):
    up.emit("azr.disk.low", "azr.run.full", run="full", root=str(up.root), free_gb=0.5)
    gc = soon(up, "gc/gc", "full")
    assert gc["parameters"]["root"] == str(up.root)
    assert "There is no run full" in up.end(gc["id"])["state"]["message"]


def test_what_was_killed_is_shown_as_crashed_and_strangers_are_left_alone(up):
    """The runner and the process of a flow run are killed; a flow run of someone else falls silent as well."""
    flow = up.http.post("/flows/", json={"name": "theirs"}).raise_for_status().json()["id"]
    body = {"flow_id": flow, "name": "theirs", "state": {"type": "RUNNING"}}
    theirs = up.http.post("/flow_runs/", json=body).raise_for_status().json()["id"]
    up.emit("prefect.flow-run.heartbeat", f"prefect.flow-run.{theirs}")
    known = up.begin("train/train", config={**SMALL, "iterations": 1000}, run="killed")
    assert until(lambda: (up.root / "killed" / "ledger" / "000001" / "update").exists())
    runner = up.told("runner.json")["pid"]
    doomed = {pid: mark for pid, mark in up.processes().items() if os.getpgid(pid) == runner}
    assert len(doomed) >= 2
    for pid in doomed:
        os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    assert until(lambda: all(process_mark(pid) != mark for pid, mark in doomed.items()))
    assert until(lambda: up.flow_run(known)["state"]["type"] == "CRASHED", 300), up.flow_run(known)["state"]
    print(f"a killed flow run was shown as Crashed after {time.monotonic() - began:.1f} s")
    assert up.flow_run(known)["state"]["message"] == "No heartbeat for 120 s. Press Retry."
    assert soon(up, "audit/audit", "killed")
    assert up.flow_run(theirs)["state"]["type"] == "RUNNING"
    before = (up.root / "killed" / "attempts.jsonl").stat().st_size
    up.retry(known)
    assert until(lambda: (up.root / "killed" / "attempts.jsonl").stat().st_size > before)
    state = {"state": {"type": "CANCELLING"}}
    up.http.post(f"/flow_runs/{known}/set_state", json=state).raise_for_status()
    began = time.monotonic()
    assert up.end(known)["state"]["type"] == "CANCELLED"
    print(f"cancelled after {time.monotonic() - began:.1f} s")


def test_they_are_removed_and_come_back_and_others_stay(up):
    other = {
        "name": "mine",
        "trigger": {"type": "event", "posture": "Reactive", "expect": ["a.b"], "threshold": 1, "within": 0},
        "actions": [{"type": "do-nothing"}],
    }
    up.http.post("/automations/", json=other).raise_for_status()
    assert names(up) == OURS | {"mine"}
    listed = up.person.azr("automations", "list", "--root", up.root)
    assert all(name in listed.out for name in OURS)
    assert "mine" not in listed.out
    assert up.person.azr("automations", "remove", "--root", up.root).code == 0
    assert names(up) == {"mine"}
    for _ in range(2):
        assert up.person.azr("automations", "install", "--root", up.root).code == 0
        assert names(up) == OURS | {"mine"}
