"""The whole loop on the nano model, as a person runs it, and everything that can be asked of the run afterwards."""

import csv
import io
import json
import re
import shlex
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from azr_process import AZR, end_of, picture, sealed, tiny, until
from conftest import STRANGERS

from storage.ids import Mode, Position, Stage
from storage.ledger import Ledger
from storage.records import Checkpoint, Task
from storage.views import VIEWS
from tasks.needs import stages_of

pytestmark = pytest.mark.timeout(600)


def ask(azr, root, sql, form="json"):
    """The rows that a query answers; OURS in it stands for the trained run."""
    done = azr("sql", sql.replace("OURS", "'base'"), "--root", root, "--format", form)
    assert done.code == 0, done.err
    return json.loads(done.out) if form == "json" else done.out


def named(text, word):
    """The value of one of the facts that a training ends with."""
    return next(line.split(maxsplit=1)[1] for line in text.splitlines() if line.strip().startswith(f"{word} "))


# ---- what a training says and leaves ---------------------------------------------------------------------------------


def test_every_stage_is_shown_as_it_ends_and_nothing_else_is_said(trained):
    assert trained.done.err == ""
    for stage in Stage:
        for number in (1, 2):
            assert re.search(rf"^iteration {number}/2 +{stage} .* s\b", trained.done.out, re.MULTILINE), stage
    assert re.search(r"^bootstrap 0\.0 +update", trained.done.out, re.MULTILINE)
    assert re.search(r"^bootstrap 0\.1 +propose", trained.done.out, re.MULTILINE)
    assert re.search(r"iteration 1/2 +update.* left$", trained.done.out, re.MULTILINE)


def test_it_ends_with_what_was_proposed_accepted_solved_and_learned(trained, azr):
    header = next(line for line in trained.done.out.splitlines() if line.startswith("mode "))
    assert {"proposed", "accepted", "answers", "correct", "learnable", "proposer_reward", "solver_reward"} <= set(
        header.split()
    )
    counted = ask(
        azr,
        trained.root,
        "SELECT mode, count(*) AS proposed, count(*) FILTER (verdict = 'valid') AS accepted FROM tasks "
        "WHERE run = OURS AND (iteration > 0 OR round > 0) GROUP BY mode",
    )
    assert {row["mode"] for row in counted} == {"deduction", "abduction", "induction"}
    for row in counted:
        shown = next(line for line in trained.done.out.splitlines() if line.startswith(row["mode"])).split()
        assert [int(word) for word in shown[1:3]] == [row["proposed"], row["accepted"]]
        assert row["accepted"] >= 4
    assert re.search(r"learned +2 optimizer steps", trained.done.out)


def test_it_names_ledger_log_and_model_and_they_are_there(trained):
    home = trained.root / trained.run
    assert named(trained.done.out, "ledger") == str(home / "ledger")
    assert named(trained.done.out, "log") == str(home / "azr.log")
    assert (home / "ledger").is_dir()
    assert (home / "azr.log").is_file()
    assert named(trained.done.out, "model").startswith(str(home / "checkpoints" / "000002-"))


def test_the_three_next_commands_work_as_printed(trained):
    printed = trained.done.out.partition("Next:\n")[2].splitlines()
    commands = [shlex.split(line) for line in printed if line.strip()]
    assert [command[1] for command in commands] == ["show", "sql", "train"]
    assert {Path(command[0]).name for command in commands} == {"azr"}
    for command in commands[:2]:
        done = trained.person.azr(*command[1:])
        assert done.code == 0, done.err
        assert done.out.strip()
    assert commands[2][-2:] == ["--iterations", "4"]


def test_transformers_loads_the_model_folder(trained):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = named(trained.done.out, "model").partition("   (")[0]
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert sum(weight.numel() for weight in model.parameters()) > 100_000
    prompt = tokenizer("<|propose-deduction|>", return_tensors="pt", add_special_tokens=False)
    with torch.no_grad():
        written = model.generate(**prompt, max_new_tokens=3, do_sample=False)
    assert written.shape[1] > prompt["input_ids"].shape[1]
    base = AutoModelForCausalLM.from_pretrained(AZR.parents[2] / "models" / "nano")
    moved = [not torch.equal(ours, theirs) for ours, theirs in zip(model.parameters(), base.parameters(), strict=True)]
    assert any(moved)


def test_nothing_outside_the_root_changes(trained):
    person = trained.person
    assert picture(person.home) == {}
    assert picture(person.desk) == {}
    assert not [name for name in picture(person.temporary) if not name.startswith("torchinductor_")]  # torch's own
    below = {path.name for path in trained.root.iterdir()}
    assert below >= {".prefect", trained.run}


def test_what_else_lies_below_the_root_is_ignored_and_stays(trained, azr):
    for name, text in STRANGERS.items():
        assert (trained.root / name).read_text() == text
    rows = json.loads(azr("runs", "--root", trained.root, "--json").out)
    assert not {"pictures", "empty.d", "notes.txt", ".prefect"} & {row["run"] for row in rows}
    assert trained.run in {row["run"] for row in rows}


# ---- what the ledger holds -------------------------------------------------------------------------------------------


def test_all_stages_are_sealed_at_their_first_attempt_and_the_audit_finds_nothing(trained):
    attempts = sealed(trained.root, trained.run)
    for number in (1, 2):
        assert {Position(number, stage) for stage in Stage} <= set(attempts)
    assert set(stages_of(0, 0)) <= set(attempts)
    assert set(attempts.values()) == {1}
    assert Ledger.open(trained.root, trained.run).verify() == []


def test_checkpoints_follow_each_other_and_lie_where_they_say(trained):
    ledger = Ledger.open(trained.root, trained.run)
    base, first, second = (ledger.read(Checkpoint, Position(number, Stage.UPDATE))[0] for number in range(3))
    assert base.directory is None
    assert base.parent is None
    assert (first.parent, second.parent) == (base.policy, first.policy)
    assert len({base.policy, first.policy, second.policy}) == 3
    for row in (first, second):
        assert (ledger.directory / row.directory / "model.safetensors").is_file()
        assert row.policy[:12] in row.directory


def test_tasks_of_every_mode_are_accepted_and_answered(trained, azr):
    valid = ask(azr, trained.root, "SELECT DISTINCT mode FROM tasks WHERE verdict = 'valid' AND run = OURS")
    assert {row["mode"] for row in valid} == {"deduction", "abduction", "induction"}
    answered = ask(azr, trained.root, "SELECT mode, count(*) AS n FROM answers WHERE run = OURS GROUP BY ALL")
    assert {row["mode"] for row in answered} == {"deduction", "abduction", "induction"}


@pytest.mark.parametrize("view", sorted({*VIEWS} - {"family", "dropped", "rescored", "rescored_totals"}))
def test_every_view_answers(trained, azr, view):
    assert ask(azr, trained.root, f"FROM {view} LIMIT 2")


def test_a_number_of_the_learning_curve_leads_to_program_prompt_tokens_and_seed(trained, azr):
    row = ask(
        azr,
        trained.root,
        """SELECT w.id, w.total, a.verdict, t.program, r.prompt, r.completion, r.seed, k.completion_ids
        FROM rewards w JOIN answers a USING (run, rollout_id) JOIN rollouts r USING (run, rollout_id)
        JOIN tokens k USING (run, rollout_id) JOIN tasks t ON t.run = w.run AND t.task_id = w.task_id
        WHERE w.run = OURS AND w.role = 'solver' AND w.iteration = 2 ORDER BY w.rollout_id LIMIT 1""",
    )[0]
    assert row["program"].startswith("def f")
    assert row["prompt"].startswith("<|solve-")
    assert row["completion_ids"]
    assert isinstance(row["seed"], int)


# ---- the commands that look ------------------------------------------------------------------------------------------


def test_runs_lists_the_run(trained, azr):
    done = azr("runs", "--root", trained.root)
    assert done.code == 0
    line = next(line for line in done.out.splitlines() if line.startswith(trained.run))
    assert end_of(trained.root, trained.run).ledger_hash in line
    row = next(
        row for row in json.loads(azr("runs", "--root", trained.root, "--json").out) if row["run"] == trained.run
    )
    assert (row["iterations"], row["seed"], row["state"]) == (2, 1, "idle")


def test_status_shows_iterations_stages_and_the_ledger_hash(trained, azr):
    words = ("status", "--root", trained.root, "--run", trained.run)
    found = json.loads(azr(*words, "--json").out)
    assert found["run"] == trained.run
    assert found["ledger_hash"] == end_of(trained.root, trained.run).ledger_hash
    assert [row["iteration"] for row in found["iterations"]] == [0, 1, 2]
    assert {(row["iteration"], row["stage"]) for row in found["stages"]} >= {(2, stage.value) for stage in Stage}
    for row in found["stages"]:
        assert (row["attempts"], row["failed"], row["killed"], row["last"]) == (1, 0, 0, "sealed")
        assert row["seconds"] > 0
    assert found["failures"] == []
    plain = azr(*words).out
    assert found["ledger_hash"] in plain
    assert "cpu_seconds" in plain


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id, mode, verdict, program FROM tasks ORDER BY run, task_id",
        "SELECT 1 AS a, NULL AS b, 'x,\"y\"' AS c, 'two\nlines' AS d, 0.1::DOUBLE AS e",
        "SELECT id FROM tasks WHERE false",
        "DESCRIBE rewards",
    ],
)
def test_formats_parse_back_to_the_same_rows(trained, azr, query):
    rows = ask(azr, trained.root, query)
    read = list(csv.DictReader(io.StringIO(ask(azr, trained.root, query, "csv").removesuffix("\n"), newline="")))
    assert [list(row.values()) for row in read] == [
        ["" if value is None else str(value) for value in row.values()] for row in rows
    ]
    lines = ask(azr, trained.root, query, "table").splitlines()
    assert len(lines) == 2 + len(rows)
    if rows:
        assert lines[0].split() == list(rows[0])


def test_sql_is_read_from_standard_input_too(trained, azr, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("SELECT 41 + 1 AS answer;\n"))
    done = azr("sql", "--root", trained.root, "--format", "csv")
    assert done.out.split() == ["answer", "42"]


def test_show_task_prints_a_valid_task_whole(trained, azr):
    row = ask(
        azr,
        trained.root,
        """SELECT t.id, t.program, t.input, t.output, any_value(p.parent) AS parent, r.prompt, r.completion,
        count(DISTINCT a.id) AS answers
        FROM tasks t JOIN rollouts r ON r.run = t.run AND r.rollout_id = t.task_id AND r.role = 'proposer'
        JOIN task_parents p ON p.run = t.run AND p.task_id = t.task_id
        JOIN answers a ON a.run = t.run AND a.task_id = t.task_id
        WHERE t.run = OURS AND t.iteration = 1 AND t.verdict = 'valid' AND t.mode = 'deduction'
        GROUP BY ALL ORDER BY t.id LIMIT 1""",
    )[0]
    done = azr("show", "task", row["id"], "--root", trained.root, "--run", trained.run)
    assert done.code == 0
    flat = re.sub(r"\s+", " ", done.out)
    for word in ("program", "input", "output", "parent", "prompt", "completion"):
        assert re.sub(r"\s+", " ", str(row[word])) in flat, word
    assert "deduction, valid" in done.out
    assert f"answers ({row['answers']})" in done.out
    assert "reward" in done.out
    found = json.loads(azr("show", "task", row["id"], "--root", trained.root, "--run", trained.run, "--json").out)
    assert found["id"] == row["id"]
    assert len(found["answers"]) == row["answers"]
    assert found["task"][0]["program"] == row["program"]
    assert all({"reward", "rung", "accuracy", "advantage"} <= set(answer) for answer in found["answers"])


def test_show_task_prints_every_kind_of_task(trained, azr):
    kinds = ask(
        azr,
        trained.root,
        "SELECT min(id) AS id, mode, verdict, any_value(reason) AS reason FROM tasks WHERE run = OURS "
        "GROUP BY mode, verdict",
    )
    assert len(kinds) >= 4
    for kind in kinds:
        done = azr("show", "task", kind["id"], "--root", trained.root, "--run", trained.run)
        assert done.code == 0
        assert f"{kind['mode']}, {kind['verdict']}" in done.out
    seed = azr("show", "task", "0.0-ded-000", "--root", trained.root, "--run", trained.run)
    assert "def f" in seed.out


def test_a_rejected_task_is_shown_with_its_reason(trained, azr):
    row = ask(
        azr,
        trained.root,
        "SELECT id, verdict, reason FROM tasks WHERE run = OURS AND verdict <> 'valid' "
        "AND reason IS NOT NULL ORDER BY task_id LIMIT 1",
    )[0]
    done = azr("show", "task", row["id"], "--root", trained.root, "--run", trained.run)
    assert f"{row['verdict']}: {row['reason']}" in done.out


def test_the_latest_run_is_meant_when_none_is_named(trained, azr, tmp_path):
    import os
    import shutil

    for name, age in (("old", 100), ("new", 10), ("older", 500)):
        shutil.copytree(trained.root / trained.run, tmp_path / "two" / name)
        facts = tmp_path / "two" / name / "run.json"
        os.utime(facts, (facts.stat().st_mtime - age,) * 2)
    assert json.loads(azr("status", "--root", tmp_path / "two", "--json").out)["run"] == "new"
    assert json.loads(azr("status", "--root", tmp_path / "two", "--run", "older", "--json").out)["run"] == "older"


# ---- once more, and further ------------------------------------------------------------------------------------------


def test_the_same_command_again_says_that_the_run_has_its_iterations(trained, azr):
    before = picture(trained.root / trained.run)
    done = azr(*tiny(trained.root, trained.run))
    assert done.code == 0
    assert f"Run {trained.run} has its iterations: 2, wanted 2." in done.out
    assert "--iterations 4" in done.out
    assert "--run NAME" in done.out
    assert picture(trained.root / trained.run) == before


def test_fewer_iterations_than_there_are_is_no_error(trained, azr):
    done = azr("train", "--root", trained.root, "--run", trained.run, "--iterations", "1")
    assert done.code == 0
    assert "has its iterations: 2, wanted 1." in done.out


@pytest.mark.parametrize("place_", [("1", "solve"), ("2", "update"), ("0", "validate"), ("0.1", "propose")])
def test_rerun_of_a_sealed_stage_changes_nothing_and_says_what_can_be_done(trained, azr, place_):
    before = picture(trained.root / trained.run)
    done = azr("rerun", *place_, "--root", trained.root, "--run", trained.run)
    assert done.code == 0
    assert "is sealed" in done.out
    assert "Nothing was run" in done.out
    assert "azr train" in done.out
    assert picture(trained.root / trained.run) == before


def test_rerun_makes_one_missing_stage_and_train_the_rest(copied):
    root, run, person = copied.root, copied.run, copied.person
    before = sealed(root, run)
    early = person.azr("rerun", "3", "solve", "--root", root)
    assert early.code == 1
    assert "3/validate" in early.err
    assert "azr rerun 3 validate" in early.err
    assert "Traceback" not in early.err
    assert sealed(root, run) == before

    one = person.azr("rerun", "3", "propose", "--root", root)
    assert one.code == 0, one.err
    assert set(sealed(root, run)) - set(before) == {Position(3, Stage.PROPOSE)}

    rest = person.azr("train", "--root", root, "--iterations", "3")
    assert rest.code == 0, rest.err
    assert re.search(r"iteration 3/3 +propose +sealed before", rest.out)
    assert "iteration 2/3" not in rest.out
    assert "Run twin has its iterations: 3." in rest.out
    after = sealed(root, run)
    assert set(after) - set(before) == {Position(3, stage) for stage in Stage}
    assert set(after.values()) == {1}
    ledger = Ledger.open(root, run)
    assert ledger.verify() == []
    assert len(ledger.read(Task, Position(3, Stage.VALIDATE))) == 12
    assert not (root / ".prefect").exists()  # a server that the user has set is used


# ---- what Prefect shows ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(trained):
    """Flow runs as (flow, name, state, id) and task runs as (name, state, flow run), from the private database."""
    database = trained.root / ".prefect" / "prefect.db"

    def read(sql):
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return connection.execute(sql).fetchall()

    flows = "SELECT f.name, r.name, r.state_type, r.id FROM flow_run r JOIN flow f ON f.id = r.flow_id"
    tasks = "SELECT name, state_type, flow_run_id FROM task_run"
    ours = [row for row in read(flows) if row[1].partition(" ")[0] == trained.run]
    ids = {row[3] for row in ours}
    wanted = len(sealed(trained.root, trained.run))
    # Task runs are written behind the events that tell of them.
    until(lambda: sum(row[2] in ids and row[1] == "COMPLETED" and "-" in row[0] for row in read(tasks)) >= wanted, 60)
    return ours, [row for row in read(tasks) if row[2] in ids]


def test_prefect_holds_one_flow_run_for_training_bootstrap_and_each_iteration(recorded):
    flows, _ = recorded
    assert sorted((flow, name, state) for flow, name, state, _ in flows) == [
        ("bootstrap", "base · bootstrap", "COMPLETED"),
        ("iteration", "base · iteration 1", "COMPLETED"),
        ("iteration", "base · iteration 2", "COMPLETED"),
        ("train", "base", "COMPLETED"),
    ]


def test_prefect_holds_five_task_runs_for_each_iteration(recorded):
    flows, tasks = recorded
    for number in (1, 2):
        flow = next(id_ for _, name, _, id_ in flows if name.endswith(f"iteration {number}"))
        ran = sorted((name, state) for name, state, flow_run in tasks if flow_run == flow)
        assert ran == sorted((f"base · iteration {number} · {stage}", "COMPLETED") for stage in Stage)


def test_a_seal_names_the_flow_run_that_made_it(recorded, trained):
    flows, _ = recorded
    seals = Ledger.open(trained.root, trained.run).sealed()
    theirs = {str(id_).replace("-", ""): name for _, name, _, id_ in flows}
    for seal in seals:
        assert seal.flow_run_id is not None
        flow = "bootstrap" if seal.iteration == 0 else f"iteration {seal.iteration}"
        assert theirs[seal.flow_run_id.replace("-", "")] == f"base · {flow}"


def test_every_mode_has_its_own_ids(trained):
    ledger = Ledger.open(trained.root, trained.run)
    tasks = ledger.read(Task, Position(1, Stage.VALIDATE))
    assert [mode for mode in Mode if any(task.mode is mode for task in tasks)] == [
        Mode.DEDUCTION, Mode.ABDUCTION, Mode.INDUCTION,
    ]  # fmt: skip
    assert len({task.task_id for task in tasks}) == len(tasks) == 12
