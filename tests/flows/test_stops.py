"""Stopping a deployed training: cancelled, suspended, at a limit, waiting for a slot, its server away."""

import json
import os
import signal
import subprocess
import sys
import time
from urllib.parse import urlsplit

import pytest
from azr_process import begun, family, gone, sealed, until
from deployed import LONG, deployed

from flows.server import home_of
from flows.settings import environment
from storage.ids import Position, Stage
from storage.ledger import Ledger

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]
SOLVE = Position(1, Stage.SOLVE)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with deployed(tmp_path_factory.mktemp("stops")) as place:
        yield place


@pytest.mark.parametrize("at", [SOLVE, Position(1, Stage.UPDATE)], ids=str)
def test_cancel_ends_the_run_leaves_no_process_and_can_be_gone_on_with(place, at):
    run = f"cancelled-in-{at.stage}"
    flow_run = place.begin(run, 1, curriculum=LONG, tracking={"mlflow": at is SOLVE})
    process = place.reach(flow_run, run, at)
    time.sleep(0.5)
    children, began = family(process), time.monotonic()
    place.cancel(flow_run)
    assert until(lambda: place.process_of(flow_run) is None, 30)
    print(f"cancelled in {at.stage}: its process ended {time.monotonic() - began:.1f} s after the click")
    assert until(lambda: gone(children), 30)
    print(f"cancelled in {at.stage}: its {len(children)} children ended after {time.monotonic() - began:.1f} s")
    assert place.wait(flow_run) == "Cancelled"
    assert at not in sealed(place.root, run)
    assert Ledger.open(place.root, run).verify() == []
    place.retry(flow_run)
    assert place.again(flow_run) == "Completed"
    assert place.attempts(run) == [f"{at} 1 failed", f"{at} 2 sealed"]


def test_suspend_stops_at_the_end_of_the_stage_and_resume_goes_on_on_the_same_page(place):
    flow_run = place.begin("paused", 1)
    process = place.reach(flow_run, "paused", SOLVE)
    children = family(process)
    place.suspend(flow_run)
    assert until(lambda: place.process_of(flow_run) is None and gone(children), 60)
    assert place.flow(flow_run)["state_name"] == "Suspended"
    assert SOLVE in sealed(place.root, "paused")
    assert Position(1, Stage.VERIFY) not in sealed(place.root, "paused")
    assert Ledger.open(place.root, "paused").owner() is None
    assert place.resume(flow_run) == "ACCEPT"
    assert place.again(flow_run) == "Completed"
    assert place.attempts("paused") == []
    assert [one["name"] for one in place.subflows(flow_run)] == ["paused · bootstrap", "paused · iteration 1"]


def test_at_a_limit_a_run_suspends_with_the_reason_and_resume_asks_for_another_limit(place):
    flow_run = place.begin("spent", 1, limits={"max_tokens": 1})
    assert place.wait(flow_run, "Suspended", "Failed") == "Suspended"
    said = place.message(flow_run)
    assert "tokens are sampled; limits.max_tokens is 1. All up to 0." in said
    assert said.endswith("Press Resume with a larger limit.")
    assert place.resume(flow_run, max_tokens=-1) == "REJECT"
    assert place.resume(flow_run, max_tokens=2, min_free_gb=0.5, max_hours=0) == "ACCEPT"
    assert place.wait(flow_run, "Running") == "Running"
    assert place.wait(flow_run, "Suspended", "Failed") == "Suspended"
    assert "limits.max_tokens is 2." in place.message(flow_run)
    assert place.resume(flow_run, max_tokens=10**9) == "ACCEPT"
    assert place.again(flow_run) == "Completed"
    assert place.attempts("spent") == []


def test_low_disk_is_an_event_and_frees_the_run_for_gc(place):
    flow_run = place.begin("low", 1, limits={"min_free_gb": 1e6})
    assert place.wait(flow_run, "Suspended", "Failed") == "Suspended"
    assert until(lambda: place.process_of(flow_run) is None, 30)
    with Ledger.open(place.root, "low", write=True) as ledger:
        assert ledger.sealed() == []
    wanted = {"filter": {"event": {"name": ["azr.disk.low"]}}}
    assert until(lambda: place.ask("POST", "/events/filter", wanted)["events"], 30)
    (event,) = place.ask("POST", "/events/filter", wanted)["events"]
    assert event["resource"]["prefect.resource.id"] == "azr.run.low"
    assert event["payload"]["run"] == "low"
    assert event["payload"]["root"] == str(place.root)
    assert place.resume(flow_run, min_free_gb=0.1) == "ACCEPT"
    assert place.again(flow_run) == "Completed"


def test_runs_wait_for_a_slot_and_a_killed_holder_gives_it_back(place):
    shared = {"engine": {"slot": "shared"}, "curriculum": LONG}
    first = place.begin("holder", 1, **shared)
    holder = place.reach(first, "holder", SOLVE)
    second = place.begin("waiting", 1, **shared)
    assert until(lambda: any("waits for a slot of shared" in line for line in place.lines(second)), 90)
    assert begun(place.root, "waiting") == []
    os.kill(holder, signal.SIGKILL)
    killed = time.monotonic()
    assert until(lambda: begun(place.root, "waiting"), 120)
    print(f"a killed holder's slot was free after {time.monotonic() - killed:.0f} s")
    assert place.wait(second) == "Completed"
    limit = place.ask("GET", "/v2/concurrency_limits/shared")
    assert (limit["limit"], limit["active_slots"]) == (1, 0)


def test_the_run_goes_on_while_its_server_is_away(place):
    """Last of this file: the server that comes back is ours."""
    flow_run = place.begin("orphan", 2, curriculum=LONG | {"probes": 16})
    place.reach(flow_run, "orphan", SOLVE)
    known = json.loads((home_of(place.root) / "server.json").read_text())
    os.kill(known["pid"], signal.SIGKILL)
    away = time.monotonic()
    assert until(lambda: Position(1, Stage.UPDATE) in sealed(place.root, "orphan"), 120), (
        "the iteration is done all the same"
    )
    time.sleep(max(0.0, 60 - (time.monotonic() - away)))
    home, port = home_of(place.root), str(urlsplit(place.api).port)
    env = {**place.person.environment, **environment(home, place.api)}
    again = subprocess.Popen([sys.executable, "-P", "-m", "flows.server", str(home), port], env=env)
    try:
        assert place.wait(flow_run) == "Completed"
        print(f"the server was away for {time.monotonic() - away:.0f} s up to the end of the run")
        assert place.attempts("orphan") == []
    finally:
        again.kill()
        again.wait()
