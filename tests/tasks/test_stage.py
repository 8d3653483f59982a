"""The contract of a stage: sealed ones do not run, others need sealed ones, and a failure seals nothing."""

import pytest
from prefect.cache_policies import NO_CACHE
from prefect.states import Failed

from storage.attempts import Outcome as End
from storage.errors import ConfigError, EngineError, LedgerError, SandboxError, SandboxLost
from storage.ids import Position, Stage
from storage.ledger import Ledger
from storage.records import Checkpoint, Rollout, Task
from tasks.propose import propose
from tasks.solve import solve
from tasks.stage import Outcome, StageTask, page_name, stage
from tasks.update import update
from tasks.validate import validate
from tasks.verify import verify
from tasks.workshop import Workshop

STAGES = {one.stage: one for one in (propose, validate, solve, verify, update)}
VALIDATED = Position(1, Stage.VALIDATE)


class Listener:
    """A reporter that remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def begin(self, at: Position) -> None:
        self.said.append(f"begin {at}")

    def progress(self, done: int, total: int) -> None:
        self.said.append(f"{done}/{total}")

    def end(self, at: Position, note: str) -> None:
        self.said.append(f"end {at}: {note}")

    def skip(self, at: Position) -> None:
        self.said.append(f"skip {at}")


@pytest.fixture
def work(loop, tmp_path):
    config = loop.config(curriculum={"modes": ["deduction"]})
    with loop.open(tmp_path, config, loop.play(config, {}, otherwise="no")) as work:
        work.reporter = Listener()
        yield work


@pytest.fixture
def begun(loop, work) -> Workshop:
    """The bootstrap is over, and nothing of iteration 1 is there."""
    loop.bootstrap(work)
    work.reporter.said.clear()
    return work


def attempts(work: Workshop, at: Position) -> list[tuple[int, End, str | None]]:
    return [(one.attempt, one.outcome, one.error) for one in work.ledger.attempts() if one.position == at]


def broken(word: Stage, error: BaseException) -> StageTask:
    """The stage of this word, with a rule that raises."""

    @stage(word)
    def rule(work: Workshop, at: Position) -> Outcome:
        raise error

    return rule


@pytest.mark.parametrize("word", Stage)
def test_prefect_neither_keeps_nor_repeats_nor_caches_a_stage(word):
    task = STAGES[word].task
    assert (task.name, task.persist_result) == (word.value, False)
    assert task.cache_policy is NO_CACHE
    assert task.description == STAGES[word].rule.__doc__


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (SandboxLost("shot"), True),
        (SandboxError("no seccomp"), False),
        (EngineError("no such model"), False),
        (LedgerError("the disk is full"), False),
        (MemoryError(), False),
        (ZeroDivisionError(), False),
    ],
)
def test_only_a_fault_that_can_pass_is_tried_again_by_itself(error, again):
    task = STAGES[Stage.VALIDATE].task
    assert (task.retries, task.retry_delay_seconds) == (2, [5.0, 30.0])
    state = Failed(data=error, message="as the engine of Prefect gives it")
    assert task.retry_condition_fn(task, None, state) is again


def test_a_stage_that_is_tried_again_after_a_passing_fault_is_a_second_attempt(begun):
    propose(begun, 1)
    with pytest.raises(SandboxLost):
        broken(Stage.VALIDATE, SandboxLost("shot"))(begun, 1)
    assert validate(begun, 1) is True
    assert attempts(begun, VALIDATED) == [(1, End.FAILED, "SandboxLost: shot"), (2, End.SEALED, None)]


@pytest.mark.parametrize(
    ("at", "name"),
    [
        (Position(12, Stage.SOLVE), "nano · iteration 12 · solve"),
        (Position(0, Stage.PROPOSE, 2), "nano · bootstrap 2 · propose"),
        (Position(0, Stage.UPDATE), "nano · bootstrap · update"),
    ],
)
def test_a_stage_is_called_by_run_iteration_and_word(at, name):
    assert page_name("nano", at) == name


def test_a_stage_runs_is_recorded_and_sealed(begun):
    assert propose(begun, 1) is True
    seal = begun.ledger.seal_of(Position(1, Stage.PROPOSE))
    assert (seal.attempt, seal.code_version, dict(seal.seeds)) == (1, "tests", {"run": begun.config.seed})
    assert list(seal.inputs) == ["0.0/update", "0.0/validate"]
    assert {"python", "system", "torch"} <= set(seal.host)
    assert seal.flow_run_id is None
    assert attempts(begun, seal.position) == [(1, End.SEALED, None)]
    assert begun.reporter.said == ["begin 1/propose", "1/2", "2/2", "end 1/propose: 2 proposals, 6 tokens"]


def test_the_flow_run_and_the_host_that_matters_are_kept(begun):
    propose(begun, 1, flow_run_id="flow-7")
    validate(begun, 1, flow_run_id="flow-7")
    first, second = begun.ledger.sealed()[-2:]
    assert first.flow_run_id == second.flow_run_id == "flow-7"
    assert set(second.host) == {"python", "system"}, "no model took part"


def test_a_sealed_stage_does_not_run(begun):
    propose(begun, 1)
    before = begun.ledger.ledger_hash()
    begun.reporter.said.clear()
    again = broken(Stage.PROPOSE, AssertionError("a sealed stage was run"))
    assert again(begun, 1) is False
    assert propose(begun, 1) is False
    assert begun.reporter.said == ["skip 1/propose"] * 2
    assert attempts(begun, Position(1, Stage.PROPOSE)) == [(1, End.SEALED, None)]
    assert begun.ledger.ledger_hash() == before


def test_a_sealed_stage_needs_nothing(loop, begun, tmp_path):
    loop.iterate(begun, 1)
    with Ledger.open(tmp_path, loop.run) as reader:
        work = Workshop(ledger=reader, config=begun.config, code_version="other")
        assert [one(work, 1) for one in loop.stages] == [False] * 5


@pytest.mark.parametrize(
    ("word", "missing"),
    [(Stage.VALIDATE, Stage.PROPOSE), (Stage.SOLVE, Stage.VALIDATE), (Stage.VERIFY, Stage.PROPOSE)],
)
def test_out_of_order_a_stage_names_what_it_needs_and_the_command_that_makes_it(begun, tmp_path, word, missing):
    with pytest.raises(LedgerError) as error:
        STAGES[word](begun, 1)
    assert str(error.value) == (
        f"Stage {word} of iteration 1 needs 1/{missing}, which is not sealed in run played. Nothing was written. "
        f"Run: azr rerun 1 {missing} --root {tmp_path} --run played"
    )
    assert attempts(begun, Position(1, word)) == []
    assert begun.reporter.said == []


def test_an_iteration_needs_the_one_before(loop, begun):
    loop.iterate(begun, 1, until=Stage.VERIFY)
    with pytest.raises(LedgerError, match=r"Stage propose of iteration 2 needs 1/update, .* azr rerun 1 update --root"):
        propose(begun, 2)


def test_a_bootstrap_round_needs_the_one_before(work):
    update(work, 0)
    validate(work, 0)
    with pytest.raises(LedgerError, match=r"Stage propose of iteration 0\.2 needs 0\.1/validate, .*rerun 0\.1 valid"):
        propose(work, 0, 2)


def test_the_first_iteration_needs_a_finished_bootstrap(loop, tmp_path):
    """Else it would be made from buffers without seeds, and the bootstrap could never be gone on with."""
    config = loop.config(bootstrap={"wanted": 2})
    with loop.open(tmp_path, config, loop.play(config, {}, otherwise="no")) as work:
        update(work, 0)
        validate(work, 0)
        with pytest.raises(LedgerError, match="bootstrap"):
            propose(work, 1)
        assert work.ledger.seal_of(Position(1, Stage.PROPOSE)) is None


@pytest.mark.parametrize(
    ("word", "at", "known"),
    [
        (Stage.SOLVE, (0, 1), "propose, validate"),
        (Stage.UPDATE, (0, 2), "propose, validate"),
        (Stage.PROPOSE, (0, 0), "update, validate"),
        (Stage.VERIFY, (1, 3), "propose, validate, solve, verify, update"),
    ],
)
def test_a_stage_that_is_not_there_is_refused(begun, word, at, known):
    with pytest.raises(ConfigError, match=f"There is no stage .*/{word}: here the stages are {known}. Nothing was"):
        STAGES[word](begun, *at)
    assert begun.reporter.said == []


def test_a_failure_seals_nothing_and_is_remembered_and_the_stage_can_run_again(loop, begun):
    loop.iterate(begun, 1, until=Stage.VALIDATE)
    before = begun.ledger.ledger_hash()
    at = Position(1, Stage.SOLVE)
    with pytest.raises(ZeroDivisionError):
        broken(Stage.SOLVE, ZeroDivisionError("a bug"))(begun, 1)
    assert attempts(begun, at) == [(1, End.FAILED, "ZeroDivisionError: a bug")]
    assert begun.ledger.seal_of(at) is None
    assert begun.ledger.ledger_hash() == before
    assert begun.ledger.seal_of(VALIDATED) is not None
    assert solve(begun, 1) is True
    assert begun.ledger.seal_of(at).attempt == 2
    assert attempts(begun, at) == [(1, End.FAILED, "ZeroDivisionError: a bug"), (2, End.SEALED, None)]
    assert begun.ledger.verify() == []


def test_an_interrupt_is_a_failed_attempt_too(begun):
    with pytest.raises(KeyboardInterrupt):
        broken(Stage.PROPOSE, KeyboardInterrupt())(begun, 1)
    assert attempts(begun, Position(1, Stage.PROPOSE)) == [(1, End.FAILED, "KeyboardInterrupt: ")]


def test_a_failed_attempt_leaves_no_mark_on_the_content(loop, begun, tmp_path):
    """Attempts stand outside the hash: a run that failed once computes the same as one that never did."""
    with pytest.raises(ZeroDivisionError):
        broken(Stage.PROPOSE, ZeroDivisionError())(begun, 1)
    loop.iterate(begun, 1)
    with loop.open(tmp_path / "other", begun.config, loop.play(begun.config, {}, otherwise="no")) as other:
        loop.bootstrap(other)
        loop.iterate(other, 1)
        assert other.ledger.ledger_hash() == begun.ledger.ledger_hash()
        assert other.ledger.last().integrity != begun.ledger.last().integrity


def test_rows_that_cannot_be_stored_seal_nothing(begun):
    @stage(Stage.PROPOSE)
    def astray(work: Workshop, at: Position) -> Outcome:
        rows = work.ledger.read(Checkpoint, Position(0, Stage.UPDATE))
        return Outcome(tables={Checkpoint: rows}, note="")

    with pytest.raises(LedgerError, match="Table checkpoints of 1/propose was given a row of iteration 0"):
        astray(begun, 1)
    assert begun.ledger.seal_of(Position(1, Stage.PROPOSE)) is None
    assert attempts(begun, Position(1, Stage.PROPOSE))[0][1] is End.FAILED


def test_a_stage_that_reads_what_it_did_not_need_finds_no_table(begun):
    propose(begun, 1)
    at = Position(1, Stage.PROPOSE)
    assert len(begun.ledger.read(Rollout, at)) == 2
    with pytest.raises(LedgerError):
        begun.ledger.read(Task, at)


def test_leaving_the_workshop_gives_the_lock_back_even_when_the_engine_breaks(loop, tmp_path):
    class Stuck:
        def close(self) -> None:
            raise RuntimeError("stuck")

    config = loop.config()
    with pytest.raises(RuntimeError, match="stuck"), loop.open(tmp_path, config, engine=Stuck()):
        pass
    with loop.open(tmp_path, config) as work:
        assert work.ledger.sealed() == []
