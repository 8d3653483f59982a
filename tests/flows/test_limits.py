"""Limits on disk, tokens and hours: what counts, when a run stops, and how it goes on."""

import logging
import os
import threading
import time

import pytest
from azr_process import tiny

from flows import limits, running
from flows.config import LimitsConfig, resolve
from flows.limits import Budget, stop_at_limit
from flows.slots import limit_of
from flows.steps import failure
from models.config import DeviceKind, EngineConfig
from storage.database import query
from storage.errors import AzrError, ConfigError, EngineError, LedgerError, LimitReached, RunTaken
from storage.ids import Position, Stage
from storage.ledger import Ledger

ALL = LimitsConfig(max_tokens=1, max_hours=1e-9)


@pytest.fixture
def ledger(trained):
    return Ledger.open(trained.root, trained.run)


def test_tokens_and_seconds_are_those_of_the_sealed_stages(trained, ledger):
    budget = Budget(ledger, ALL)
    asked = dict(query(trained.root, "SELECT run, sum(completion_tokens) FROM rollouts GROUP BY run").rows)
    assert budget.tokens == asked[trained.run] > 0
    spans = [seal.timings.finished_us - seal.timings.started_us for seal in ledger.sealed()]
    assert budget.seconds == pytest.approx(sum(spans) / 1e6)


def test_counting_iteration_by_iteration_comes_to_the_same(ledger):
    early = Budget(ledger.before(Position(1, Stage.PROPOSE)), ALL)
    begun = early.tokens
    early._ledger = ledger  # as the ledger of a training goes on
    early.count(1)
    assert early.tokens > begun
    early.count(2)
    assert (early.tokens, early.seconds) == (Budget(ledger, ALL).tokens, pytest.approx(Budget(ledger, ALL).seconds))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"max_tokens": 10}, r"tokens are sampled; limits.max_tokens is 10\. All up to 2/update is sealed"),
        ({"max_hours": 1e-6}, r"its stages took .* hours; limits.max_hours is 1e-06\. All up to 2/update is sealed"),
    ],
)
def test_a_budget_that_is_used_up_ends_a_plain_run_and_says_how_to_go_on(trained, ledger, values, said):
    with pytest.raises(LimitReached, match=said) as reached:
        stop_at_limit(ledger, Budget(ledger, LimitsConfig(**values)))
    assert "--set limits.NAME=VALUE, then: " in str(reached.value)
    assert str(reached.value).endswith(f" --run {trained.run}")


def test_while_no_limit_is_reached_nothing_happens(ledger):
    stop_at_limit(ledger, Budget(ledger, LimitsConfig(max_tokens=10**9, max_hours=1000)))
    stop_at_limit(ledger, Budget(ledger, LimitsConfig(min_free_gb=0)))


def test_without_limits_no_file_of_the_ledger_is_read(ledger, monkeypatch):
    monkeypatch.setattr(limits, "sampled_tokens", lambda *words: pytest.fail("it was read"))
    assert Budget(ledger, LimitsConfig()).tokens == 0
    assert Budget(ledger, LimitsConfig(max_hours=1)).seconds > 0


def test_low_disk_ends_azr_train_before_any_stage(place):
    done = place.person.azr(*tiny(place.root, "short", 1), "--set", "limits.min_free_gb=1000000")
    assert done.code == 1
    assert "Run short waits:" in done.err
    assert "limits.min_free_gb is 1e+06. Nothing is sealed. Free some space, or run azr gc, then: " in done.err
    assert "Traceback" not in done.err
    assert Ledger.open(place.root, "short").attempts() == []


@pytest.mark.parametrize(
    "setting", ["limits.min_free_gb=-1", "limits.max_tokens=-1", "limits.max_hours=x", "limits.x=1"]
)
def test_impossible_limits_are_refused(setting):
    with pytest.raises(ConfigError, match=r"limits\."):
        resolve(None, [setting])


# ---- slots


def test_stages_wait_for_one_another_on_a_gpu_or_where_a_slot_is_named():
    assert limit_of(EngineConfig(device=DeviceKind.CPU)) is None
    assert limit_of(EngineConfig(device=DeviceKind.CPU, slot="shared")) == "shared"


# ---- what a failed stage says


@pytest.mark.parametrize("error", [LedgerError("the disk is full."), EngineError("no such checkpoint.")])
def test_a_failure_keeps_its_type_and_says_stage_state_and_next_command(trained, ledger, error):
    told = failure(error, ledger, Position(3, Stage.SOLVE))
    assert type(told) is type(error)
    count = len(ledger.sealed())
    assert str(told).startswith(
        f"Stage solve of iteration 3 of run {trained.run} failed and sealed nothing; sealed so far: {count} stages, "
        f"the last one 2/update. The cause: {error}\nWhen that is mended, run: "
    )
    assert f"--run {trained.run}" in str(told)


def test_what_is_none_of_our_errors_is_named_with_its_type_and_the_log(ledger):
    told = failure(OSError(28, "No space left on device"), ledger, Position(3, Stage.SOLVE))
    assert type(told) is AzrError
    assert "The cause: OSError: [Errno 28] No space left on device\nThe traceback is in " in str(told)
    assert str(ledger.directory / "azr.log") in str(told)


# ---- another writer


def test_a_flow_waits_for_another_writer_and_then_goes_on(copied, monkeypatch, caplog):
    monkeypatch.setattr(running, "_LOOK_S", 0.05)
    monkeypatch.setattr(logging.getLogger("azr"), "propagate", True)
    other = Ledger.open(copied.root, copied.run, write=True)
    leaving = threading.Timer(0.5, other.close)
    leaving.start()
    began = time.monotonic()
    with running.running(copied.root, copied.run) as work:
        assert time.monotonic() - began > 0.3
        assert work.ledger.run == copied.run
    leaving.join()
    assert caplog.text.count("Waiting up to 30 s for another writer") == 1
    assert f"is being written by process {os.getpid()}" in caplog.text


def test_a_writer_that_stays_is_named_after_the_wait(copied, monkeypatch):
    monkeypatch.setattr(running, "_LOOK_S", 0.05)
    monkeypatch.setattr(running, "WAIT_S", 0.2)
    with (
        Ledger.open(copied.root, copied.run, write=True),
        pytest.raises(RunTaken, match=f"is being written by process {os.getpid()} on"),
        running.running(copied.root, copied.run),
    ):
        pytest.fail("two writers")


def test_what_ends_a_run_is_in_its_log_once(copied):
    with pytest.raises(ZeroDivisionError), running.running(copied.root, copied.run):
        raise ZeroDivisionError("a bug")
    log = (copied.root / copied.run / "azr.log").read_text()
    assert log.count("run twin stopped") == 1
    assert log.count("ZeroDivisionError: a bug") == 1
