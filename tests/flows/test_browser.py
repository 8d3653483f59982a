"""The whole of it in the Prefect UI, with a browser: a form, a refusal, a run, its pages, a failure, Retry, Cancel.

Screenshots go to AZR_SCREENS, or to a temporary directory. Run: pytest -n 0 -m server tests/flows/test_browser.py
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from azr_process import Person, begun, gone, sealed, until
from browser import desk, why_none
from served import served

from storage.database import query
from storage.ids import Position, Stage
from storage.ledger import Ledger

pytestmark = [
    pytest.mark.server,
    pytest.mark.timeout(900),
    pytest.mark.skipif(why_none() is not None, reason=str(why_none())),
]
SMALL = {
    ("run",): "nano",
    ("config", "Iterations"): 2,
    ("config", "Engine", "Threads"): 1,
    ("config", "Curriculum", "Proposals"): 4,
    ("config", "Curriculum", "Probes"): 2,
    ("config", "Curriculum", "Buffer Tasks"): 2,
    ("config", "Bootstrap", "Wanted"): 4,
    ("config", "Bootstrap", "Proposals"): 8,
    ("config", "Update", "Learning Rate"): 2e-4,
}
OF_ITERATION_3 = "SELECT stage, attempt, outcome FROM attempts WHERE run = 'nano' AND iteration = 3 ORDER BY started"


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    base = tmp_path_factory.mktemp("browser")
    with served(base / "runs", Person(base / "person")) as running:
        yield running


@pytest.fixture(scope="module")
def at(up, tmp_path_factory):
    screens = Path(os.environ.get("AZR_SCREENS") or tmp_path_factory.mktemp("screens"))
    print(f"screenshots: {screens}")
    with desk(f"http://127.0.0.1:{up.port}", screens) as sitting:
        yield sitting


@pytest.fixture(scope="module")
def nano(at):
    """A run of two iterations that was started from the form, after a value that was refused; its flow run."""
    at.open_deployments()
    at.shoot("deployments")
    at.open_form("train")
    at.shoot("the-form-of-train")
    for path, value in SMALL.items():
        at.fill(value, *path)
    at.flip("config", "Tracking", "Mlflow")
    at.fill(20, "config", "Sampling", "Temperature")
    at.submit_in_vain("20 is greater than the maximum of 10")
    at.shoot("a-refused-value")
    at.fill(1, "config", "Sampling", "Temperature")
    flow_run = at.submit()
    at.watch(flow_run)
    at.page.get_by_text("run nano: iteration 1 of 2 is sealed").wait_for()
    at.shoot("running")
    at.await_state("Completed")
    at.shoot("completed")
    return flow_run


def at_work(up, flow_run):
    """The process of a flow run, with its mark; empty when it has none."""
    found = {}
    for pid, mark in up.processes().items():
        with suppress(OSError):
            if f"PREFECT__FLOW_RUN_ID={flow_run}" in Path(f"/proc/{pid}/environ").read_text(errors="replace"):
                found[pid] = mark
    return found


def test_a_run_started_from_the_form_is_sealed_and_shown(up, at, nano):
    assert Position(2, Stage.UPDATE) in sealed(up.root, "nano")
    at.watch(nano)
    at.open_artifact("nano-training")
    image = at.page.locator(".markdown-renderer img")
    assert image.evaluate("shown => shown.decode().then(() => shown.naturalWidth)") > 400
    assert at.page.locator(".markdown-renderer td").first.inner_text() == "2"
    at.shoot("the-curves-of-a-training")


def test_each_stage_of_an_iteration_has_a_page_that_fits(at, nano):
    at.watch(nano)
    at.open_subflow("nano · iteration 2")
    wider = "some => some.filter(one => one.scrollWidth > one.clientWidth + 1).length"
    for stage in Stage:
        at.open_artifact(f"nano-{stage}")
        at.page.get_by_role("heading", name=f"nano · iteration 2 · {stage}").wait_for()
        assert at.page.locator(".markdown-renderer table").count() >= 1
        at.shoot(f"the-page-of-{stage}", height=1500)
        assert at.page.locator(".markdown-renderer :has(> table)").evaluate_all(wider) == 0
        at.page.go_back()


def test_retry_runs_again_only_the_stage_that_failed(up, at, nano, tmp_path):
    at.open_form("rerun-stage")
    at.fill("nano", "run")
    at.fill(3, "iteration")
    at.choose("propose", "stage")
    at.shoot("the-form-of-rerun-stage")
    at.watch(at.submit())
    at.await_state("Completed")
    assert "Stage 3/propose of run nano is sealed now." in at.message()

    checkpoint = max((up.root / "nano" / "checkpoints").iterdir())
    shutil.move(checkpoint, tmp_path / "away")
    at.watch(nano)
    at.open_copy()
    assert at.value("config", "Iterations") == "2"
    at.fill(3, "config", "Iterations")
    flow_run = at.submit()
    at.watch(flow_run)
    at.await_state("Failed")
    at.shoot("failed")
    said = at.message()
    at.shoot("why-it-failed", height=1150)
    assert "Stage solve of iteration 3 of run nano failed and sealed nothing" in said
    assert "the last one 3/validate" in said
    assert "press Retry on the flow run" in said

    shutil.move(tmp_path / "away", checkpoint)
    assert until(lambda: not at_work(up, flow_run), 60)
    at.page.wait_for_timeout(2000)  # the runner has seen that the process ended: it would overwrite a state before that
    at.watch(flow_run)
    at.press("Retry", "Retry")
    at.await_state("Completed")
    at.watch(flow_run)
    at.shoot("completed-after-retry")
    at.open_subflow("nano · iteration 3")
    assert at.stages() == [
        ("propose", "Sealed"),
        ("validate", "Sealed"),
        ("solve", "Completed"),
        ("verify", "Completed"),
        ("update", "Completed"),
    ]
    at.shoot("only-what-was-missing", height=1150)
    assert query(up.root, OF_ITERATION_3).rows == (
        ("propose", 1, "sealed"),
        ("validate", 1, "sealed"),
        ("solve", 1, "failed"),
        ("solve", 2, "sealed"),
        ("verify", 1, "sealed"),
        ("update", 1, "sealed"),
    )
    assert Ledger.open(up.root, "nano").verify() == []


def test_a_sealed_stage_is_left_as_it_is(up, at, nano):
    before = begun(up.root, "nano")
    at.open_form("rerun-stage")
    at.fill("nano", "run")
    at.fill(1, "iteration")
    at.choose("validate", "stage")
    at.watch(at.submit())
    at.await_state("Sealed")
    said = at.message()
    assert "is sealed, and what is sealed is never replaced" in said
    assert begun(up.root, "nano") == before


def test_a_quick_run_audits_the_latest_run(at, nano):
    at.watch(at.quick_run("audit"))
    at.await_state("Completed")
    assert "Nothing is wrong with run nano" in at.message()
    at.open_artifact("nano-audit")
    at.page.get_by_text("both hash chains").first.wait_for()
    at.shoot("an-audit", height=1300)


def test_cancel_ends_a_training_and_all_its_processes(up, at, nano):
    """Last of this file: from here on another run is the latest one."""
    at.watch(nano)
    at.open_copy()
    at.fill("long", "run")
    at.fill(64, "config", "Curriculum", "Probes")
    at.fill(40, "config", "Curriculum", "Buffer Tasks")
    flow_run = at.submit()
    at.watch(flow_run)
    assert until(lambda: (up.root / "long").exists() and (Position(1, Stage.SOLVE), 1) in begun(up.root, "long"))
    processes = at_work(up, flow_run)
    assert processes
    at.watch(flow_run)
    at.shoot("before-cancel")
    at.press("Cancel", "Confirm")
    at.await_state("Cancelled")
    at.shoot("cancelled")
    assert until(lambda: gone(processes), 30)
    assert not at_work(up, flow_run)
    assert Position(1, Stage.SOLVE) not in sealed(up.root, "long")
    assert Ledger.open(up.root, "long").verify() == []
