import pytest

from storage.database import query
from storage.ids import Position, Stage
from storage.ledger import Ledger
from storage.records import Task, TaskParent


def rows(root, view):
    result = query(root, f"FROM {view}")
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
    (summary,) = rows(root, "iterations")
    assert summary["seconds"] > 0
    assert {name: summary[name] for name in summary if name != "seconds"} == {
        "run": "nano", "iteration": 1, "stages_sealed": 5, "proposals": 2, "valid": 1, "answers": 2,
        "solver_accuracy": 0.5, "proposer_reward": 0.0, "solver_reward": 0.25, "policy": "p1",
    }  # fmt: skip
    (learned,) = rows(root, "learnability")
    assert (learned["solve_rate"], learned["tasks"], learned["probes"], learned["learnability"]) == (0.5, 1, 2, 0.5)
    costs = rows(root, "costs")
    assert [row["stage"] for row in costs] == [stage.value for stage in Stage]
    assert [(row["attempts"], row["failed"], row["killed"], row["last"]) for row in costs] == [(1, 0, 0, "sealed")] * 5
    assert [(row["prompt_tokens"], row["completion_tokens"]) for row in costs[:3]] == [(6, 8), (None, None), (6, 8)]
    assert costs[4]["checkpoint_bytes"] == 40


def test_the_other_metrics_too(root):
    (mode,) = rows(root, "mode_totals")
    assert mode | {"run": 0} == {
        "run": 0, "mode": "deduction", "proposed": 2, "accepted": 1, "answers": 2, "correct": 1, "accuracy": 0.5,
        "learnable": 1, "proposer_reward": 0.0, "solver_reward": 0.25,
    }  # fmt: skip
    (total,) = rows(root, "run_totals")
    assert (total["iterations"], total["proposals"], total["valid_share"], total["accuracy"]) == (1, 2, 0.5, 0.5)
    assert (total["tokens"], total["lost"], total["proposer_reward"]) == (16, 0, 0.0)
    (program,) = rows(root, "program_history")
    assert (program["example"], program["answers"], program["correct"], program["solve_rate"]) == (
        "1-ded-000",
        2,
        1,
        0.5,
    )
    (found,) = rows(root, "diversity")
    assert (found["proposals"], found["parsed"], found["programs"], found["new_programs"]) == (2, 2, 1, 1)
    assert (found["novelty"], found["tasks"], found["characters"]) == (0.5, 1, 26.0)
    (update,) = rows(root, "update_curves")
    assert (update["name"], update["value"]) == ("loss", 0.125)
    (same,) = rows(root, "compare_runs('nano', 'nano') WHERE role = 'solver'")
    assert (same["mean_a"], same["mean_b"], same["difference"]) == (0.25, 0.25, 0.0)


@pytest.fixture
def family(tmp_path, samples):
    """Tasks 0 to 5: 1 and 2 come of 0, 3 of 1 and 2, 4 of 3; 5 of 1, and it was refused. 6 was given."""
    shown = {1: [0], 2: [0], 3: [1, 2], 4: [3], 5: [1]}
    tasks = [samples.task(1, slot, verdict="error" if slot == 5 else "valid") for slot in range(7)]
    parents = [
        TaskParent(
            iteration=1, round=0, task_id=tasks[child].task_id, position=position,
            parent_id=tasks[parent].task_id, parent_iteration=1,
        )
        for child, references in shown.items()
        for position, parent in enumerate(references)
    ]  # fmt: skip
    with Ledger.create(tmp_path, samples.facts(), disk=samples.quick) as ledger:
        samples.seal(ledger, {Position(1, Stage.PROPOSE): {TaskParent: parents}})
        samples.seal(ledger, {Position(1, Stage.VALIDATE): {Task: tasks}})
    return tmp_path


def test_lineage_follows_first_references(family):
    found = {row["id"][-1]: row for row in rows(family, "lineage")}
    assert {slot: row["depth"] for slot, row in found.items()} == dict(
        zip("0123456", (0, 1, 1, 2, 3, 2, 0), strict=True)
    )
    assert {row["founder"] for row in found.values()} == {"1-ded-000", "1-ded-006"}
    assert found["3"]["parent"] == "1-ded-001"
    assert found["0"]["parent"] is None
    assert {slot: row["descendants"] for slot, row in found.items()} == dict(
        zip("0123456", (4, 2, 0, 1, 0, 0, 0), strict=True)  # 5 was refused, so it is no task
    )
    assert (found["0"]["children"], found["1"]["children"]) == (2, 1)


def test_ancestors_and_descendants_follow_all_references(family):
    def steps(call):
        return [(row["id"][-1], row["steps"]) for row in rows(family, call)]

    assert steps("ancestors('1-ded-004')") == [("3", 1), ("1", 2), ("2", 2), ("0", 3)]
    assert steps("descendants('1-ded-001')") == [("3", 1), ("5", 1), ("4", 2)]
    assert steps("ancestors('1-ded-000')") == steps("descendants('1-ded-006')") == []
    assert steps("ancestors('nonsense')") == []
