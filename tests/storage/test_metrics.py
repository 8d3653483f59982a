import pytest

from storage.database import query
from storage.errors import ConfigError
from storage.ids import Mode, Position, Stage, parse
from storage.ledger import Ledger
from storage.metrics import known_content_keys, named_sql, sql_names, valid_tasks
from storage.records import Task


@pytest.fixture
def history(tmp_path, samples):
    """Two bootstrap rounds and one iteration of validated tasks."""
    first, copy = samples.task(0, 0), samples.task(0, 0, round=1, content_key=samples.task(0, 0).content_key)
    stages = {
        Position(0, Stage.VALIDATE, 0): {Task: [first, samples.task(0, 1, verdict="error")]},
        Position(0, Stage.VALIDATE, 1): {Task: [copy, samples.task(0, 2, round=1, mode=Mode.INDUCTION)]},
        Position(1, Stage.VALIDATE): {Task: [samples.task(1, 0), samples.task(1, 1, content_key=None)]},
        Position(1, Stage.UPDATE): {},
    }
    with Ledger.create(tmp_path, samples.facts(), disk=samples.quick) as ledger:
        samples.seal(ledger, stages)
    return Ledger.open(tmp_path, "nano")


def ids(tasks):
    return [task.task_id for task in tasks]


def written(*texts):
    return [parse(text) for text in texts]


def test_the_buffer_is_every_valid_task_before_a_position(history):
    assert valid_tasks(history, Position(0, Stage.PROPOSE, 0)) == []
    assert ids(valid_tasks(history, Position(0, Stage.PROPOSE, 1))) == written("0.0-ded-000")
    assert ids(valid_tasks(history, Position(1, Stage.PROPOSE))) == written("0.0-ded-000", "0.1-ded-000", "0.1-ind-002")
    assert ids(valid_tasks(history, Position(1, Stage.VALIDATE))) == ids(
        valid_tasks(history, Position(1, Stage.PROPOSE))
    )
    assert ids(valid_tasks(history, Position(2, Stage.PROPOSE), [Mode.INDUCTION])) == written("0.1-ind-002")
    assert ids(valid_tasks(history, Position(2, Stage.PROPOSE)))[-2:] == written("1-ded-000", "1-ded-001")


def test_content_keys_name_the_first_task_that_has_them(history, samples):
    keys = known_content_keys(history, Position(1, Stage.VALIDATE))
    assert keys[samples.task(0, 0).content_key] == parse("0.0-ded-000")
    assert samples.task(0, 1).content_key not in keys  # rejected: no task
    assert len(keys) == 2
    assert len(known_content_keys(history, Position(2, Stage.PROPOSE))) == 3


def test_tasks_are_read_once(history):
    before = valid_tasks(history, Position(2, Stage.PROPOSE))
    for path in history.directory.rglob("*.parquet"):
        path.unlink()
    assert valid_tasks(history, Position(2, Stage.PROPOSE)) == before


def test_every_named_sql_says_what_it_answers_and_runs(root, samples):
    Ledger.create(root, samples.facts("empty"), disk=samples.quick).close()
    assert {"reward_curves", "rejections", "stage_timings", "learnability", "iteration_summary"} <= set(sql_names())
    for name in sql_names():
        assert named_sql(name).startswith("-- "), name
        assert query(root, named_sql(name)).columns[:2] == ("run", "iteration"), name
        assert query(root, named_sql(name), run="empty").rows == (), name
    with pytest.raises(ConfigError, match=r"There is no metric 'nope'.*reward_curves"):
        named_sql("nope")


def rows(root, name):
    result = query(root, named_sql(name))
    return [dict(zip(result.columns, row, strict=True)) for row in result.rows]


def test_the_numbers_are_those_computed_by_hand(root):
    curves = {(row["role"], row["mode"]): row for row in rows(root, "reward_curves")}
    assert curves["proposer", "deduction"] | {"run": "nano"} == {
        "run": "nano", "iteration": 1, "role": "proposer", "mode": "deduction",
        "mean": 0.0, "count": 2, "deviation": 0.5,
    }  # fmt: skip
    assert curves["solver", "deduction"]["mean"] == 0.25
    (rejection,) = rows(root, "rejections")
    assert (rejection["verdict"], rejection["count"], rejection["share"]) == ("error", 1, 0.5)
    assert (rejection["example"], rejection["example_reason"]) == ("1-ded-001", "ValueError: no")
    (summary,) = rows(root, "iteration_summary")
    assert summary["seconds"] > 0
    assert {name: summary[name] for name in summary if name != "seconds"} == {
        "run": "nano", "iteration": 1, "stages_sealed": 5, "proposals": 2, "valid": 1, "answers": 2,
        "solver_accuracy": 0.5, "proposer_reward": 0.0, "solver_reward": 0.25, "policy": "p1",
    }  # fmt: skip
    (learned,) = rows(root, "learnability")
    assert (learned["solve_rate"], learned["tasks"], learned["probes"], learned["learnability"]) == (0.5, 1, 2, 0.5)
    timings = rows(root, "stage_timings")
    assert [row["stage"] for row in timings] == [stage.value for stage in Stage]
    assert [(row["attempts"], row["lost"]) for row in timings] == [(1, 0)] * 5
