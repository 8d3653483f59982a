"""Sealed stages done again aside: equal where nothing changed, told apart where something did, the run untouched."""

import dataclasses
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.engines.scripted import ScriptedEngine
from models.manifest import OPTIMIZER, list_checkpoints
from storage.buffers import tasks_of
from storage.errors import EngineError, LedgerError
from storage.ids import Position, Stage
from storage.ledger import Ledger
from storage.records import Reward, Rollout, Task
from storage.seals import Provenance
from tasks.again import again, changed_facts
from tasks.stage import Outcome, stage
from tasks.workshop import Workshop

PROPOSED, SOLVED, UPDATED = (Position(1, word) for word in (Stage.PROPOSE, Stage.SOLVE, Stage.UPDATE))
TASK = "<|program|>def f(a):\n    return a + {}<|input|>1"
LINES = {
    "1-ded-000": TASK.format(1),
    "1-ded-000:0": "<|output|>2",
    "1-ded-000:1": "<|output|>3",
    "2-ded-000": TASK.format(2),
    "2-ded-001": TASK.format(3),
    "2-ded-000:0": "<|output|>3",
    "2-ded-001:1": "<|output|>4",
    "1-ded-002:0": "<|output|>'pqr'",
}


def picture(directory: Path) -> dict[str, str]:
    """Every file of a run with a hash of its bytes."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def config(loop):
    return loop.config(curriculum={"modes": ["deduction"]})


@pytest.fixture(scope="module")
def root(loop, config, tmp_path_factory) -> Path:
    """A run of two iterations."""
    root = tmp_path_factory.mktemp("runs")
    with loop.open(root, config, loop.play(config, LINES, otherwise="no")) as work:
        loop.bootstrap(work)
        loop.iterate(work, 1)
        loop.iterate(work, 2)
    return root


@pytest.fixture
def work(loop, config, root, tmp_path) -> Iterator[Workshop]:
    """A workshop that reads the run, and publishes aside."""
    yield from _aside(loop, config, root, tmp_path)


def _aside(loop, config, root, tmp_path) -> Iterator[Workshop]:
    (tmp_path / "aside").mkdir()
    with Workshop(
        ledger=Ledger.open(root, loop.run),
        config=config,
        code_version="tests",
        engine=ScriptedEngine(loop.play(config, LINES, otherwise="no")),
        aside=tmp_path / "aside",
    ) as work:
        yield work


@pytest.fixture
def stages(loop):
    return {one.stage: one for one in loop.stages}


def test_every_stage_comes_out_equal_and_the_run_is_untouched(loop, work, root, stages):
    before = picture(root)
    done = [again(work, stages[seal.stage], seal.position) for seal in work.ledger.sealed()]
    assert [one.at for one in done] == [seal.position for seal in work.ledger.sealed()]
    assert {str(one.at): one.differences for one in done if not one.equal} == {}
    assert {one.facts for one in done} == {()}
    assert all(one.rows == sum(o.rows for o in work.ledger.require(one.at).outputs.values()) for one in done)
    assert picture(root) == before


def test_a_stage_sees_only_what_was_sealed_before_it(work):
    seen = []

    @stage(Stage.PROPOSE)
    def curious(work: Workshop, at: Position) -> Outcome:
        seen.extend(seal.position for seal in work.ledger.sealed())
        with pytest.raises(LedgerError, match="not sealed"):
            tasks_of(work.ledger, [asked])
        return Outcome(tables={}, note="")

    asked = work.ledger.read(Task, Position(1, Stage.VALIDATE))[0].task_id
    tasks_of(work.ledger, [asked])  # read before, and remembered
    whole = work.ledger
    again(work, curious, PROPOSED)
    assert seen == [seal.position for seal in whole.sealed() if seal.iteration == 0]
    assert work.ledger is whole


def test_another_completion_is_named_and_later_stages_still_start_from_the_sealed_ones(loop, work, config, stages):
    lines = LINES | {"1-ded-000:1": "<|output|>2"}
    work.engine = ScriptedEngine(loop.play(config, lines, otherwise="no"))
    found = again(work, stages[Stage.SOLVE], SOLVED)
    rollouts = next(one for one in found.differences if one.table == Rollout.table)
    assert not found.equal
    assert rollouts.changed == 1
    assert rollouts.columns["completion"] == 1
    assert rollouts.examples[0].row == "1-ded-000:1"
    assert again(work, stages[Stage.VERIFY], SOLVED._replace(stage=Stage.VERIFY)).equal


def test_another_rule_pays_other_rewards(work, config, stages):
    ladder = config.rewards.model_copy(update={"wrong": -0.25})
    work.config = config.model_copy(update={"rewards": ladder})
    found = again(work, stages[Stage.VERIFY], Position(1, Stage.VERIFY))
    assert [one.table for one in found.differences] == [Reward.table]
    assert {"total", "rule"} <= set(found.differences[0].columns)
    assert found.differences[0].examples[0].column == "content_key"


def test_another_policy_is_told_by_its_hash_and_is_not_built_upon(work, config, stages):
    work.config = config.model_copy(update={"update": config.update.model_copy(update={"learning_rate": 1e-2})})
    found = again(work, stages[Stage.UPDATE], UPDATED)
    assert {"artifacts", "checkpoints"} <= {one.table for one in found.differences}
    artifacts = next(one for one in found.differences if one.table == "artifacts")
    assert set(artifacts.columns) == {"policy"}, "the first moments know no learning rate"
    assert list_checkpoints(work.aside) == []
    work.config = config
    assert again(work, stages[Stage.UPDATE], Position(2, Stage.UPDATE)).equal


def test_an_optimizer_state_that_was_dropped_is_made_again_from_the_update_before(loop, config, root, tmp_path, stages):
    kept = tmp_path / "kept"
    shutil.copytree(root, kept)
    first = list_checkpoints(kept / loop.run)[0]
    shutil.rmtree(first / OPTIMIZER)
    second = Position(2, Stage.UPDATE)
    for work in _aside(loop, config, kept, tmp_path):
        with pytest.raises(EngineError, match="no optimizer state"):
            again(work, stages[Stage.UPDATE], second)
        assert again(work, stages[Stage.UPDATE], UPDATED).equal
        assert [path.name for path in list_checkpoints(work.aside)] == [first.name]
        assert again(work, stages[Stage.UPDATE], second).equal
        assert len(list_checkpoints(work.aside)) == 1, "only the last one is kept"
    assert not (first / OPTIMIZER).exists()


def test_what_is_not_sealed_cannot_be_done_again(work, stages):
    with pytest.raises(LedgerError, match=r"is not sealed.*azr rerun 3 propose"):
        again(work, stages[Stage.PROPOSE], Position(3, Stage.PROPOSE))


def test_nothing_is_done_without_a_place_aside(work, stages):
    work.aside = None
    with pytest.raises(ValueError, match="aside"):
        again(work, stages[Stage.VALIDATE], Position(1, Stage.VALIDATE))


def test_what_of_code_and_host_is_another_is_listed(work):
    seal = work.ledger.require(PROPOSED)
    assert changed_facts(seal, Provenance(code_version="tests", host=dict(seal.host))) == ()
    host = {name: value for name, value in seal.host.items() if name != "threads"} | {"torch": "0.1", "gpu": "H"}
    facts = {
        fact.name: (fact.sealed, fact.here) for fact in changed_facts(seal, Provenance(code_version="b", host=host))
    }
    assert facts == {
        "code": ("tests", "b"),
        "torch": (seal.host["torch"], "0.1"),
        "threads": (seal.host["threads"], None),
        "gpu": (None, "H"),
    }


def test_a_damaged_input_is_named(loop, config, root, tmp_path, stages):
    hurt = tmp_path / "hurt"
    shutil.copytree(root, hurt)
    path = hurt / loop.run / "ledger" / "000001" / "solve" / "rollouts.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    for work in _aside(loop, config, hurt, tmp_path):
        with pytest.raises(LedgerError, match=r"rollouts\.parquet is not what was sealed"):
            again(work, stages[Stage.VERIFY], Position(1, Stage.VERIFY))
        assert again(work, stages[Stage.SOLVE], SOLVED).equal, "the rows that the seal names, made again"


def test_a_row_that_was_never_proposed_is_missing(work, stages):
    @stage(Stage.VALIDATE)
    def careless(work: Workshop, at: Position) -> Outcome:
        outcome = stages[Stage.VALIDATE].rule(work, at)
        tasks = [task for task in outcome.tables[Task] if task is not outcome.tables[Task][0]]
        return dataclasses.replace(outcome, tables={Task: tasks})

    found = again(work, careless, Position(1, Stage.VALIDATE))
    assert [(one.table, one.missing, one.changed) for one in found.differences] == [("tasks", 1, 0)]
