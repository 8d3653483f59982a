"""`azr rerun --compare`, `azr replay` and `azr rescore` on a small run of the nano model, as a person types them."""

import json
import re
import shutil
from pathlib import Path

import pytest
from azr_process import NANO, TINY, picture

from flows.bootstrap import missing_seeds
from flows.config import resolve
from flows.iteration import STAGES
from flows.session import workshop
from storage.ids import Stage
from storage.ledger import Ledger
from tasks.config import Curve
from tasks.needs import BASE, IDENTITY
from tasks.propose import propose
from tasks.update import update
from tasks.validate import validate

pytestmark = pytest.mark.timeout(600)

RUN = "tiny"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Two iterations, without a Prefect server."""
    root = tmp_path_factory.mktemp("runs")
    config = resolve(NANO, [*TINY[1::2], "iterations=2"]).config
    with workshop(root, RUN, config=config) as work:
        update(work, BASE.iteration)
        validate(work, IDENTITY.iteration)
        for round in range(1, config.bootstrap.max_rounds + 1):
            if missing_seeds(config, work.ledger, round):
                propose(work, 0, round)
                validate(work, 0, round)
        for iteration in (1, 2):
            for stage in STAGES:
                stage(work, iteration)
    return root


def changed(root: Path, tmp_path: Path, file: str, old: str, new: str) -> Path:
    """A copy of the run in whose file one text is another."""
    shutil.copytree(root, tmp_path / "changed")
    path = tmp_path / "changed" / RUN / file
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    return tmp_path / "changed"


def test_every_stage_done_again_comes_out_equal_and_nothing_is_written(azr, root):
    before = picture(root)
    done = azr("replay", "--root", root)
    assert done.code == 0, done.out + done.err
    assert re.search(r"^All came out equal\. Nothing was written into run tiny\.$", done.out, re.MULTILINE)
    sealed = Ledger.open(root, RUN).sealed()
    lines = {line.split()[0]: [int(word) for word in line.split()[1:]] for line in done.out.splitlines()[2:7]}
    for stage in Stage:
        partitions = [seal for seal in sealed if seal.stage is stage]
        rows = sum(output.rows for seal in partitions for output in seal.outputs.values())
        assert lines[stage] == [len(partitions), rows, len(partitions), 0, 0]
    assert picture(root) == before


def test_a_range_and_stages_can_be_chosen_and_read_as_json(azr, root):
    done = azr("replay", "--root", root, "--from", "1", "--to", "1", "--stages", "validate,verify", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["run"], told["equal"]) == (RUN, True)
    assert [one["stage"] for one in told["stages"]] == ["1/validate", "1/verify"]
    assert all(one["rows"] > 0 and one["differences"] == [] for one in told["stages"])


def test_what_differs_is_shown_with_what_may_have_changed_it(azr, root, tmp_path):
    """The config in run.json is edited, which an audit would find: a stand-in for code that pays otherwise."""
    other = changed(root, tmp_path, "run.json", '"wrong": -0.5', '"wrong": -0.125')
    path = other / RUN / "ledger" / "000001" / "verify" / "seal.json"
    before = path.read_bytes()
    done = azr("rerun", "1", "verify", "--compare", "--root", other)
    assert done.code == 1
    assert "Stage 1/verify of run tiny was done again aside: it differs. Nothing was written." in done.out
    assert re.search(r"^rewards +\d+ +\d+ +0 +0 +\d+ +.*total \d+", done.out, re.MULTILINE)
    assert "is sealed, now" in done.out
    assert "Code and host are those of the seal." in done.out or "what may have changed it" in done.out
    assert path.read_bytes() == before
    done = azr("replay", "--root", other, "--stages", "verify,validate")
    assert done.code == 1
    assert re.search(r"^verify +2 +\d+ +0 +2 +0$", done.out, re.MULTILINE)
    assert "stages came out equal" in done.out


def test_a_stage_that_cannot_be_done_again_does_not_stop_the_others(azr, root, tmp_path):
    other = tmp_path / "hurt"
    shutil.copytree(root, other)
    path = other / RUN / "ledger" / "000001" / "solve" / "rollouts.parquet"
    path.write_bytes(path.read_bytes()[::-1])
    done = azr("replay", "--root", other, "--stages", "verify")
    assert done.code == 1
    assert "1/verify could not be done again" in done.out
    assert "rollouts.parquet is not what was sealed" in done.out
    assert re.search(r"^verify +2 +\d+ +1 +0 +1$", done.out, re.MULTILINE)


def test_one_sealed_stage_is_compared_and_rerun_says_so(azr, root):
    done = azr("rerun", "0.1", "validate", "--compare", "--root", root)
    assert done.code == 0, done.out
    assert re.search(r"^Stage 0\.1/validate of run tiny was done again aside: equal, \d+ rows\. Nothing", done.out)
    left = azr("rerun", "1", "verify", "--root", root)
    assert re.search(r"do it again: +azr rerun 1 verify --root .* --compare$", left.out, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("rerun", "7", "verify", "--compare"), r"Stage verify of iteration 7 of run tiny is not sealed.*azr rerun 7"),
        (("rerun", "1", "judge", "--compare"), r"There is no stage 'judge'"),
        (("replay", "--stages", "verify,judge"), r"There is no stage 'judge'\. Stages: propose, validate"),
        (("replay", "--from", "5"), r"Run tiny has no sealed .* of iterations 5 to 2.*azr status"),
        (("rescore",), r"takes one of --curve, --reward and --verifier"),
        (("rescore", "--curve", "variance", "--verifier", "current"), r"takes one of --curve, --reward and"),
        (("rescore", "--curve", "variance", "--from", "9"), r"has no verified iteration from 9 to its last"),
        (("rescore", "--curve", "variance", "--name", "a/b"), r"'a/b' cannot name a rule"),
        (("rescore", "--reward", "missing.toml"), r"There is no config file missing\.toml"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_way_out(azr, root, words, message):
    done = azr(*words, "--root", root)
    assert done.code == 1
    assert re.search(message, done.err, re.DOTALL)
    assert not (root / RUN / "rescored").exists()


def asked(azr, root, sql):
    done = azr("sql", sql, "--root", root, "--format", "json")
    assert done.code == 0, done.err
    return json.loads(done.out)


@pytest.fixture
def copy(root, tmp_path) -> Path:
    shutil.copytree(root, tmp_path / "copy")
    return tmp_path / "copy"


def test_every_curve_can_be_chosen(azr):
    helped = azr("rescore", "--help").out
    assert all(curve in helped for curve in Curve)


def test_another_curve_stands_beside_what_was_paid(azr, copy):
    before = picture(copy / RUN)
    done = azr("rescore", "--curve", "variance", "--root", copy)
    assert done.code == 0, done.err
    assert "Run tiny, iterations 1 to 2, rescored as variance." in done.out
    rows = asked(azr, copy, "SELECT * FROM rescored ORDER BY rollout_id")
    assert len(rows) == asked(azr, copy, "SELECT count(*) AS n FROM rewards")[0]["n"]
    for row in rows:
        assert row["verdict"] == row["paid_verdict"]
        if row["role"] == "solver" or row["solve_rate"] is None:
            assert row["would_be"] == row["paid"]
        else:
            rate = row["solve_rate"]
            assert row["would_be"] == (rate * (1 - rate) or -0.5)
            assert row["paid"] == (1 - rate if 0 < rate < 1 else -0.5)
    assert {path: held for path, held in picture(copy / RUN).items() if not path.startswith("rescored")} == before


def test_a_reward_section_pays_by_its_own_ladder_and_the_rest_by_the_runs(azr, copy, tmp_path):
    file = tmp_path / "stern.toml"
    file.write_text("[rewards]\nwrong = -0.75\n")
    done = azr("rescore", "--reward", file, "--root", copy, "--from", "2", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["rule"], told["iterations"]) == ("stern", "2 to 2")
    rows = asked(azr, copy, "SELECT * FROM rescored WHERE rule = 'stern'")
    assert {row["iteration"] for row in rows} == {2}
    assert {(row["paid"], row["would_be"]) for row in rows if row["rung"] == "wrong"} == {(-0.5, -0.75)}
    assert all(row["paid"] == row["would_be"] for row in rows if row["rung"] != "wrong")
    assert all("wrong=-0.75" in row["ladder"] for row in rows)
    changed = sum(one["changed"] for one in told["totals"])
    assert changed == sum(row["rung"] == "wrong" for row in rows)


def test_a_file_without_rewards_is_refused(azr, copy, tmp_path):
    file = tmp_path / "other.toml"
    file.write_text("seed = 3\n")
    done = azr("rescore", "--reward", file, "--root", copy)
    assert done.code == 1
    assert "says nothing about rewards" in done.err


def test_answers_are_judged_again_by_the_judge_of_today(azr, copy, monkeypatch):
    done = azr("rescore", "--verifier", "current", "--root", copy)
    assert done.code == 0, done.err
    totals = asked(azr, copy, "SELECT rule, sum(changed) AS changed, sum(verdicts_changed) AS verdicts "
                              "FROM rescored_totals GROUP BY rule")  # fmt: skip
    assert totals == [{"rule": "verifier-current", "changed": 0, "verdicts": 0}]

    import tasks.verify

    honest = tasks.verify.judged

    def lenient(work, at):
        import dataclasses

        answers = honest(work, at)
        return [
            dataclasses.replace(one, verdict="correct", passed=one.checks) if one.checks else one for one in answers
        ]

    monkeypatch.setattr(tasks.verify, "judged", lenient)
    done = azr("rescore", "--verifier", "current", "--name", "lenient", "--root", copy)
    assert "first changed verdicts" in done.out
    rows = asked(azr, copy, "SELECT paid_verdict, verdict, would_be FROM rescored WHERE rule = 'lenient' "
                            "AND verdict <> paid_verdict")  # fmt: skip
    assert rows
    assert {(row["verdict"], row["would_be"]) for row in rows} == {("correct", 1.0)}


def test_of_a_fork_what_it_made_itself_is_replayed_and_its_whole_history_rescored(azr, copy):
    done = azr("fork", "--at", "2.verify", "--name", "twin", "--set", "rewards.wrong=-0.25", "--root", copy)
    assert done.code == 0, done.err
    with workshop(copy, "twin") as work:
        for stage in STAGES[3:]:
            stage(work, 2)
    done = azr("replay", "--run", "twin", "--root", copy, "--json")
    assert done.code == 0, done.out
    assert [one["stage"] for one in json.loads(done.out)["stages"]] == ["2/verify", "2/update"]
    done = azr("rerun", "1", "verify", "--compare", "--run", "twin", "--root", copy)
    assert "Stage 1/verify of run tiny was done again aside: equal" in done.out
    done = azr("rescore", "--curve", "variance", "--run", "twin", "--root", copy)
    assert "Run twin, iterations 1 to 2, rescored as variance." in done.out
    counted = asked(azr, copy, "SELECT DISTINCT run, iteration FROM rescored")
    assert counted == [{"run": "twin", "iteration": 2}], "over all runs, inherited rows are the parent's"


def test_a_fork_that_made_nothing_yet_is_rescored_by_what_it_inherited(azr, copy):
    assert azr("fork", "--root", copy, "--run", RUN, "--at", "2.solve", "--name", "child").code == 0
    told = []
    for run in (RUN, "child"):
        done = azr("rescore", "--curve", "variance", "--to", "1", "--json", "--root", copy, "--run", run)
        assert done.code == 0, done.err
        told.append([row | {"run": RUN} for row in json.loads(done.out)["totals"]])
    assert told[0] == told[1] != []
