"""kill -9 of whole trainings: the same command goes on where it stopped and comes to the very same end."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from azr_process import await_stage, begun, end_of, sealed, tiny
from drive_kills import attempts_by_stage, finish, kill_now, only_the_killed_was_done_again, watching

from storage.ids import Position, Stage
from storage.ledger import Ledger

pytestmark = pytest.mark.timeout(900)
RUN = "killed"
CUTS = (Position(0, Stage.PROPOSE, 1), Position(1, Stage.SOLVE), Position(2, Stage.UPDATE))


@pytest.fixture(scope="module")
def story(place):
    """A run killed in the bootstrap, in a solve and in an update: what was seen at each kill, at the end and beside."""
    root, person = place.root, place.person
    seen = []
    with watching(root.parent, root.name, 0.5) as onlooker:
        for cut in CUTS:
            process = person.start(*tiny(root, RUN))
            assert await_stage(process, root, RUN, cut), process.communicate()
            process.send_signal(signal.SIGSTOP)
            beside = besides(place, process.pid) if cut is CUTS[0] else None
            seen.append((kill_now(process, root, RUN), sealed(root, RUN), beside))
        end, said = finish(person, root, RUN)
    return seen, end, said, onlooker


def besides(place, owner):
    """What others are told while a training is going: it stands still, so it is."""
    second = place.person.azr(*tiny(place.root, RUN))
    words = ("--root", place.root)
    status = place.person.azr("status", *words, "--run", RUN)
    state = place.person.azr("sql", f"FROM runs WHERE run = '{RUN}'", *words, "--format", "json")
    return owner, second, status, state


def test_each_kill_cut_off_the_stage_that_was_running(story):
    seen = story[0]
    assert [killed.running for killed, _, _ in seen] == list(CUTS)
    assert all(killed.children > 0 for killed, _, _ in seen[1:])  # those of the sandbox, all gone by now


def test_what_was_sealed_stays_and_is_not_run_again(story, place):
    seen = story[0]
    last = sealed(place.root, RUN)
    for _, held, _ in seen:
        assert held.items() <= last.items()
    only_the_killed_was_done_again(place.root, RUN, CUTS)
    assert {at for at, records in attempts_by_stage(place.root, RUN).items() if len(records) > 1} == set(CUTS)
    assert len(begun(place.root, RUN)) == len(last) + len(CUTS)


def test_the_end_is_that_of_an_uninterrupted_run(story, trained, place):
    end = story[1]
    assert end == end_of(trained.root, trained.run)
    ours, theirs = (Ledger.open(place.root, run).sealed() for run in (RUN, trained.run))
    assert [(seal.position, seal.content) for seal in ours] == [(seal.position, seal.content) for seal in theirs]


def test_earlier_iterations_are_not_entered_again(story):
    said = story[2]
    assert "bootstrap" not in said.partition("Next:")[0]
    assert "iteration 1/2" not in said
    assert re.search(r"iteration 2/2 +verify +sealed before", said)
    assert re.search(r"iteration 2/2 +update +\d+ rollouts", said)


def test_a_reader_beside_it_never_failed_and_saw_what_was_sealed(story):
    onlooker = story[3]
    assert onlooker.failures == []
    assert onlooker.reads["queries"] > 0
    assert onlooker.reads["audits"] > 0


def test_status_counts_the_kills(story, place, azr):
    done = azr("status", "--root", place.root, "--run", RUN, "--json")
    found = json.loads(done.out)
    killed = {(row["iteration"], row["round"], row["stage"]): row["killed"] for row in found["stages"] if row["killed"]}
    assert killed == {(cut.iteration, cut.round, cut.stage.value): 1 for cut in CUTS}
    assert [row["outcome"] for row in found["failures"]] == ["killed"] * 3
    assert found["ledger_hash"] == story[1].ledger_hash


def test_a_second_training_of_the_same_run_is_told_who_has_it(story):
    owner, second, _, _ = story[0][0][2]
    assert second.code == 1
    assert "Traceback" not in second.err
    assert f"process {owner} on" in second.err
    assert "azr train" in second.err
    assert f"Run {RUN} is being written by" in second.err
    assert "Nothing was written" in second.err


def test_a_running_training_can_be_looked_at(story):
    owner, _, status, state = story[0][0][2]
    assert status.code == 0
    assert f"process {owner} on" in status.out
    assert "running" in status.out
    row = json.loads(state.out)[0]
    assert (row["state"], row["iterations"], row["stages_sealed"]) == ("running", 0, 2)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_kills_at_many_moments(tmp_path):
    driver = Path(__file__).with_name("drive_kills.py")
    words = [sys.executable, str(driver), str(tmp_path), "1", "2", "3"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"as uninterrupted$", done.stdout, re.MULTILINE)) == 6
    assert done.stdout.count(": cut off ") >= 50
    assert set(Stage) <= set(re.findall(r"cut off [\d.]+/(\w+)", done.stdout))
