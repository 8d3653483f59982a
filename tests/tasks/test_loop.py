"""The stages together: one seed makes one run, however often it is interrupted; another seed makes another one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.engines.base import Request
from models.policy import policy_hash
from storage.buffers import valid_ids
from storage.ids import Mode, Position, Stage
from storage.records import Answer, Checkpoint, Rollout, Task
from tasks.loop import LoopConfig
from tasks.needs import stages_of
from tasks.seeding import lacking
from tasks.workshop import Workshop

LAST = Position(2, Stage.UPDATE)


def run_of(work: Workshop) -> Iterator[Position]:
    """Every stage of a run with two iterations, in the order of the flows; ask for the next when one is sealed."""
    for round in range(work.config.bootstrap.max_rounds + 1):
        if round and not lacking(work.config, valid_ids(work.ledger, Position(0, Stage.PROPOSE, round))):
            break
        yield from stages_of(0, round)
    for iteration in (1, 2):
        yield from stages_of(iteration)


def whole(loop, root: Path, config: LoopConfig, script: Callable[[Request], str] | None) -> tuple[str, list[Position]]:
    """A run in one go: its ledger hash, and its stages in the order in which they were sealed."""
    stages = {one.stage: one for one in loop.stages}
    with loop.open(root, config, script) as work:
        done = [at for at in run_of(work) if stages[at.stage](work, at.iteration, at.round)]
        assert work.ledger.verify() == []
        return work.ledger.ledger_hash(), done


def piecewise(loop, root: Path, config: LoopConfig, script: Callable[[Request], str] | None) -> str:
    """The same, with everything closed after each stage; what is sealed is passed by, as a second start does."""
    stages = {one.stage: one for one in loop.stages}
    while True:
        with loop.open(root, config, script) as work:
            ran = (at for at in run_of(work) if stages[at.stage](work, at.iteration, at.round))
            if next(ran, None) is None:
                assert {one.attempt for one in work.ledger.attempts()} == {1}
                return work.ledger.ledger_hash()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def scripted(loop, root) -> tuple[str, list[Position]]:
    """A run of drawn completions, in one go, and of some variety."""
    made = whole(loop, root, loop.config(**loop.varied), loop.drawing(5))
    with loop.open(root, loop.config(**loop.varied), loop.drawing(5)) as work:
        answers = [row.verdict for at in (1, 2) for row in work.ledger.read(Answer, Position(at, Stage.VERIFY))]
        places = [seal.position for seal in work.ledger.sealed() if seal.stage is Stage.VALIDATE]
        tasks = [task for at in places for task in work.ledger.read(Task, at)]
    assert {"correct", "wrong", "unparsed"} <= {*answers}
    assert {"valid", "malformed", "duplicate"} <= {task.verdict for task in tasks}
    assert {task.mode for task in tasks if task.iteration and task.verdict == "valid"} == {*Mode} - {Mode.ERROR}
    return made


def test_a_run_is_a_bootstrap_and_then_five_stages_an_iteration(scripted):
    done = [str(at) for at in scripted[1]]
    assert done[:4] == ["0.0/update", "0.0/validate", "0.1/propose", "0.1/validate"]
    assert done[-10:] == [f"{number}/{stage}" for number in (1, 2) for stage in Stage]


def test_one_seed_makes_one_run(loop, scripted, tmp_path):
    assert whole(loop, tmp_path, loop.config(**loop.varied), loop.drawing(5)) == scripted


def test_a_run_that_is_interrupted_after_every_stage_is_the_same_run(loop, scripted, tmp_path):
    assert piecewise(loop, tmp_path, loop.config(**loop.varied), loop.drawing(5)) == scripted[0]


def test_another_seed_makes_another_run(loop, scripted, tmp_path):
    assert whole(loop, tmp_path, loop.config(seed=6, **loop.varied), loop.drawing(5))[0] != scripted[0]


def test_how_many_programs_run_at_a_time_changes_nothing(loop, scripted, tmp_path):
    config = loop.config(**loop.varied, sandbox={"workers": 1})
    assert whole(loop, tmp_path, config, loop.drawing(5)) == scripted


REAL = {
    "curriculum": {"proposals": 2, "inputs": 6, "visible": 3, "probes": 2, "buffer_tasks": 1},
    "bootstrap": {"wanted": 1, "proposals": 6, "max_rounds": 8},
    "sampling": {"proposer_tokens": 96, "solver_tokens": 96},
    "sandbox": {"validate_cpu_s": 1.0, "verify_cpu_s": 4.0},
}


def checkpoint(loop, root: Path, config: LoopConfig) -> Checkpoint:
    with loop.open(root, config) as work:
        row = work.ledger.read(Checkpoint, LAST)[0]
        assert policy_hash(work.ledger.directory / row.directory) == row.policy
    return row


def test_the_nano_model_in_one_go_and_interrupted_after_every_stage(loop, tmp_path):
    """Real weights, sampled and trained twice: rows, weights and optimizer state are equal bit for bit."""
    config = loop.config(**REAL)
    once, done = whole(loop, tmp_path / "once", config, None)
    assert piecewise(loop, tmp_path / "again", config, None) == once
    first, second = (checkpoint(loop, tmp_path / name, config) for name in ("once", "again"))
    assert first == second
    assert (first.optimizer_steps, first.parent != first.policy, str(done[-1])) == (2, True, "2/update")


def test_the_nano_model_from_another_seed(loop, tmp_path):
    hashes = []
    for seed in (5, 6):
        config = loop.config(seed=seed, **REAL)
        with loop.open(tmp_path / str(seed), config) as work:
            loop.stages[4](work, 0)
            loop.stages[1](work, 0)
            loop.stages[0](work, 0, 1)
            hashes.append(work.ledger.ledger_hash())
            assert len(work.ledger.read(Rollout, Position(0, Stage.PROPOSE, 1))) == 6
    assert hashes[0] != hashes[1]
