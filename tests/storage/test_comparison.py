"""A sealed partition beside rows made again: what counts as a difference, and how it is told."""

import dataclasses
import math

import pyarrow.parquet as pq
import pytest

from storage import hashes, partitions
from storage.comparison import EXAMPLES, compare
from storage.errors import LedgerError
from storage.ids import Position, Stage
from storage.ledger import Ledger
from storage.records import Advantage, Answer, Reward, Rollout, Task, TaskParent, Tokens, UpdateMetric

PROPOSED, VALIDATED, VERIFIED, UPDATED = (
    Position(1, stage) for stage in (Stage.PROPOSE, Stage.VALIDATE, Stage.VERIFY, Stage.UPDATE)
)


@pytest.fixture
def ledger(root):
    return Ledger.open(root, "nano")


def made(ledger, at, *kinds):
    """The sealed rows of these tables, to be changed."""
    return {kind: ledger.read(kind, at) for kind in kinds}


def compared(ledger, at, tables, artifacts=None):
    return {one.table: one for one in compare(ledger, at, tables, artifacts or {})}


@pytest.mark.parametrize(
    ("at", "kinds"),
    [(PROPOSED, (Rollout, Tokens, TaskParent)), (VALIDATED, (Task,)), (VERIFIED, (Answer, Reward))],
)
def test_the_same_rows_in_any_order_are_equal(ledger, at, kinds):
    tables = {kind: rows[::-1] for kind, rows in made(ledger, at, *kinds).items()}
    assert compare(ledger, at, tables, {}) == []


def test_nothing_is_read_where_nothing_differs(ledger, monkeypatch):
    tables = made(ledger, VALIDATED, Task)
    monkeypatch.setattr(partitions, "read_bytes", None)
    assert compare(ledger, VALIDATED, tables, {}) == []


def test_measured_columns_do_not_count(ledger):
    tasks = [dataclasses.replace(task, cpu_us=99, memory_kb=99, reason="other words") for task in made(
        ledger, VALIDATED, Task)[Task]]  # fmt: skip
    assert compare(ledger, VALIDATED, {Task: tasks}, {}) == []


def test_a_changed_value_is_named_by_row_and_column(ledger):
    tasks = made(ledger, VALIDATED, Task)[Task]
    changed = [dataclasses.replace(tasks[0], verdict="error", outputs=(), cpu_us=99), tasks[1]]
    difference = compared(ledger, VALIDATED, {Task: changed})["tasks"]
    assert (difference.sealed, difference.made, difference.missing, difference.added) == (2, 2, 0, 0)
    assert (difference.changed, difference.columns) == (1, {"verdict": 1, "outputs": 1})
    assert difference.examples == (("1-ded-000", "verdict", "valid", "error"),)


def test_rows_too_many_and_too_few_are_named(ledger, samples):
    tasks = [made(ledger, VALIDATED, Task)[Task][1], samples.task(1, 7)]
    difference = compared(ledger, VALIDATED, {Task: tasks})["tasks"]
    assert (difference.missing, difference.added, difference.changed) == (1, 1, 0)
    assert difference.examples == (("1-ded-000", "", "a row", "none"), ("1-ded-007", "", "none", "a row"))


def test_only_the_first_examples_are_told(ledger):
    rewards = made(ledger, VERIFIED, Answer, Reward)
    rewards[Reward] = [dataclasses.replace(reward, total=reward.total + 1) for reward in rewards[Reward]]
    difference = compared(ledger, VERIFIED, rewards)["rewards"]
    assert difference.columns == {"total": 4}
    assert len(difference.examples) == EXAMPLES


@pytest.mark.parametrize(("value", "differs"), [(math.nan, True), (-0.0, True), (0.125, False)])
def test_floats_differ_as_in_the_hash(ledger, value, differs):
    rows = made(ledger, UPDATED, Advantage, UpdateMetric)
    rows[UpdateMetric] = [dataclasses.replace(rows[UpdateMetric][0], value=value)]
    found = compared(ledger, UPDATED, rows)
    assert ("update_metrics" in found) is differs
    if differs:
        assert found["update_metrics"].examples == (("0 loss all all", "value", "0.125", str(value)),)


def test_log_probabilities_are_compared_as_they_are_stored(ledger):
    tables = made(ledger, PROPOSED, Rollout, Tokens, TaskParent)
    tables[Tokens] = [dataclasses.replace(row, logprobs=(-0.5 + 1e-12, -1.5)) for row in tables[Tokens]]
    assert compare(ledger, PROPOSED, tables, {}) == [], "float32 holds both"


def test_long_values_are_shown_where_they_begin_to_differ(ledger):
    tasks = made(ledger, VALIDATED, Task)[Task]
    long = dataclasses.replace(tasks[0], program=tasks[0].program + "\n" + "#" * 500)
    _, _, sealed, now = compared(ledger, VALIDATED, {Task: [long, tasks[1]]})["tasks"].examples[0]
    assert sealed.endswith("return x + 1")
    assert now.startswith("...")
    assert now.endswith("...")
    assert len(now) < 80


def test_a_table_that_was_not_made_again_is_missing(ledger):
    difference = compared(ledger, VERIFIED, made(ledger, VERIFIED, Answer))["rewards"]
    assert (difference.sealed, difference.made, difference.missing) == (4, 0, 4)


def test_a_table_that_is_not_sealed_is_added(ledger, samples):
    tables = made(ledger, VALIDATED, Task) | {Rollout: [samples.rollout(1, 0)]}
    difference = compared(ledger, VALIDATED, tables)["rollouts"]
    assert (difference.sealed, difference.made, difference.added) == (0, 1, 1)


def test_artifacts_are_compared_by_hash(ledger, samples, tmp_path):
    at = Position(2, Stage.UPDATE)
    with Ledger.open(ledger.root, "nano", write=True, disk=samples.quick) as writer:
        with writer.begin(at, provenance=samples.code) as attempt:
            attempt.seal({}, artifacts={"policy": "aaaa", "optimizer": "bbbb"})
        assert compare(writer, at, {}, {"policy": "aaaa", "optimizer": "bbbb"}) == []
        difference = compared(writer, at, {}, {"policy": "aaaa", "optimizer": "cccc"})["artifacts"]
    assert (difference.changed, difference.missing, difference.added) == (1, 0, 0)
    assert difference.examples == (("2/update", "optimizer", "bbbb", "cccc"),)


def test_columns_added_since_do_not_count(ledger, monkeypatch):
    """An older partition lacks them, in its file and in its hash; the rest must still agree."""
    tasks = made(ledger, VALIDATED, Task)[Task]
    path = partitions.partition_of(ledger.directory, VALIDATED) / "tasks.parquet"
    older = pq.read_table(path).drop_columns(["message"])
    sealed = ledger.require(VALIDATED)
    output = dataclasses.replace(sealed.outputs["tasks"], content_hash=hashes.content_hash(Task, older))
    monkeypatch.setattr(ledger, "require", lambda at: dataclasses.replace(sealed, outputs={"tasks": output}))
    monkeypatch.setattr(ledger, "table", lambda kind, at: older)
    assert compare(ledger, VALIDATED, {Task: tasks}, {}) == []
    worded = [dataclasses.replace(task, message="new") for task in tasks]
    assert compare(ledger, VALIDATED, {Task: worded}, {}) == []
    other = [dataclasses.replace(task, program="pass", message="new") for task in tasks]
    assert compared(ledger, VALIDATED, {Task: other})["tasks"].columns == {"program": 2}


def test_rows_that_could_not_be_sealed_cannot_be_compared(ledger):
    tasks = made(ledger, VALIDATED, Task)[Task]
    with pytest.raises(LedgerError, match="two rows"):
        compare(ledger, VALIDATED, {Task: [tasks[0], tasks[0]]}, {})


def test_a_partition_that_is_not_sealed_has_no_comparison(ledger):
    with pytest.raises(LedgerError, match=r"not sealed.*azr rerun 2 validate"):
        compare(ledger, Position(2, Stage.VALIDATE), {}, {})
