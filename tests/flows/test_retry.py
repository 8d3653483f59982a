"""Retry on a deployed training: a stage fails by a real cause, and only that stage is done again."""

import os
import resource
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from azr_process import end_of, family, gone, until
from deployed import LONG, deployed

from storage.ids import Position, Stage
from storage.ledger import Ledger

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with deployed(tmp_path_factory.mktemp("retry")) as place:
        yield place


def test_retry_does_again_only_what_the_disk_refused(place):
    flow_run = place.begin("full", 3)
    process = place.reach(flow_run, "full", Position(2, Stage.SOLVE))
    resource.prlimit(process, resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))  # no room for a checkpoint
    assert place.wait(flow_run) == "Failed"
    said = place.message(flow_run)
    assert "Stage update of iteration 2 of run full failed and sealed nothing; sealed so far: 15 stages" in said
    assert "File too large" in said
    assert "the last one 2/verify. The cause: Checkpoint 2 could not be written" in said
    assert "When that is mended, press Retry on the flow run, or run: " in said
    assert said.endswith(f"azr train --root {place.root} --run full")
    held = {seal.position: seal.integrity for seal in Ledger.open(place.root, "full").sealed()}
    assert Position(2, Stage.VERIFY) in held

    place.retry(flow_run)
    assert place.again(flow_run) == "Completed"
    assert place.attempts("full") == ["2/update 1 failed", "2/update 2 sealed"]
    ledger = Ledger.open(place.root, "full")
    assert {
        at: seal.integrity for at, seal in ((seal.position, seal) for seal in ledger.sealed()) if at in held
    } == held
    assert ledger.verify() == []
    shown = [
        (name.removeprefix("full · iteration 2 · "), state)
        for name, state in place.stages(flow_run)
        if "iteration 2" in name
    ]
    words = [stage.value for stage in Stage]
    assert shown[:5] == [(word, "Completed") for word in words[:4]] + [("update", "Failed")]
    assert shown[5:] == [(word, "Sealed") for word in words[:4]] + [("update", "Completed")]
    assert sum("iteration 1 ·" in name for name, _ in place.stages(flow_run)) == 5, "iteration 1 is not entered again"
    pages = [(one["name"].removeprefix("full · "), one["state_name"]) for one in place.subflows(flow_run)]
    assert pages == [
        ("bootstrap", "Completed"),
        ("iteration 1", "Completed"),
        ("iteration 2", "Failed"),
        ("iteration 2", "Completed"),
        ("iteration 3", "Completed"),
    ]
    log = (place.root / "full" / "azr.log").read_text()
    assert "Traceback (most recent call last)" in log
    assert "File too large" in log


def test_a_checkpoint_that_is_away_fails_the_run_until_it_is_back(place, tmp_path):
    first = place.begin("away", 1)
    assert place.wait(first) == "Completed"
    (checkpoint,) = (place.root / "away" / "checkpoints").iterdir()
    shutil.move(checkpoint, tmp_path / "safe")
    flow_run = place.begin("away", 2)
    assert place.wait(flow_run) == "Failed"
    assert "Stage propose of iteration 2 of run away failed and sealed nothing" in place.message(flow_run)
    shutil.move(tmp_path / "safe", checkpoint)
    place.retry(flow_run)
    assert place.again(flow_run) == "Completed"
    assert place.attempts("away") == ["2/propose 1 failed", "2/propose 2 sealed"]


def test_killed_interpreters_of_the_sandbox_are_started_again_and_nothing_fails(place):
    flow_run = place.begin("shot", 1, curriculum=LONG)
    process = place.reach(flow_run, "shot", Position(1, Stage.SOLVE))
    shot = [pid for pid in family(process) if "zygote.py" in Path(f"/proc/{pid}/cmdline").read_text(errors="replace")]
    assert shot
    for pid in shot:
        os.kill(pid, signal.SIGKILL)
    assert place.wait(flow_run) == "Completed"
    assert place.attempts("shot") == []
    log = (place.root / "shot" / "azr.log").read_text()
    assert "An interpreter of the sandbox was lost" in log or "The interpreter that reads programs was lost" in log


def test_a_killed_process_shows_as_crashed_and_retry_goes_on_on_the_same_page(place):
    flow_run = place.begin("killed", 1, curriculum=LONG)
    process = place.reach(flow_run, "killed", Position(1, Stage.UPDATE))
    time.sleep(0.5)
    children, began = family(process), time.monotonic()
    os.kill(process, signal.SIGKILL)
    assert place.wait(flow_run) == "Crashed"
    print(f"a killed process was shown as Crashed after {time.monotonic() - began:.1f} s")
    assert "exited with status code: -9" in place.message(flow_run)
    assert until(lambda: gone(children), 30)
    place.retry(flow_run)
    assert place.again(flow_run) == "Completed"
    assert place.attempts("killed") == ["1/update 1 killed", "1/update 2 sealed"]
    pages = [(one["name"], one["state_name"], one["run_count"]) for one in place.subflows(flow_run)]
    assert pages[-1] == ("killed · iteration 1", "Completed", 2)
    assert len(pages) == 2
    assert [state for name, state in place.stages(flow_run) if name.endswith("1 · update")][-1] == "Completed"


def test_another_writer_is_waited_for_and_named(place):
    assert place.wait(place.begin("taken", 1)) == "Completed"
    with Ledger.open(place.root, "taken", write=True):
        flow_run = place.begin("taken", 2)
        assert until(lambda: any("Waiting up to 30 s for another writer" in line for line in place.lines(flow_run)), 60)
    assert place.wait(flow_run) == "Completed"
    waiting = next(line for line in place.lines(flow_run) if "Waiting up to" in line)
    assert f"Run taken is being written by process {os.getpid()} on" in waiting


def test_two_runs_below_one_root_at_once_complete_as_if_alone(place):
    one, two = place.begin("one", 1), place.begin("two", 1)
    assert (place.wait(one), place.wait(two)) == ("Completed", "Completed")
    assert end_of(place.root, "one") == end_of(place.root, "two")
    with Ledger.open(place.root, "one", write=True):  # and neither holds the other's lock
        assert Counter(place.attempts("one") + place.attempts("two")) == Counter()


def test_two_flow_runs_of_one_run_the_second_names_the_first(place):
    first = place.begin("same", 1, curriculum=LONG | {"probes": 200})
    place.reach(first, "same", Position(1, Stage.SOLVE))
    second = place.begin("same", 1, curriculum=LONG | {"probes": 200})
    assert place.wait(second) == "Failed"
    said = place.message(second)
    assert "RunTaken: Run same is being written by process" in said
    assert f"flow run same, {place.api.removesuffix('/api')}/runs/flow-run/{first}" in said
    place.cancel(first)
    assert place.wait(first) == "Cancelled"
