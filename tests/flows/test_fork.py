"""`azr fork` as a person meets it."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from lineage import QUICK, extend, make_run, small_config

from flows.session import stored_config
from storage.ids import Position, Stage
from storage.ledger import Ledger


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A root with one run of four iterations; to be read only."""
    root = tmp_path_factory.mktemp("made") / "runs"
    make_run(root, "hand", 4)
    (root / "pictures").mkdir()
    (root / "pictures" / "cat.jpg").write_text("a cat")
    return root


@pytest.fixture
def root(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "runs"))


def picture(run: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "dropped.jsonl"}


def test_a_fork_shares_what_was_before_and_says_so(azr, root):
    before = picture(root / "hand")
    done = azr("fork", "--root", root, "--at", "3.solve", "--set", "update.learning_rate=3e-4")
    assert (done.code, done.err) == (0, "")
    assert "Run hand-2 is a fork of hand at 3/solve: the 14 stages before are hand's" in done.out
    assert "update.learning_rate: the run has" in done.out
    fork, parent = Ledger.open(root, "hand-2"), Ledger.open(root, "hand")
    assert fork.sealed() == parent.sealed()[:14]
    assert fork.facts.parent.before == {"3/validate": parent.require(Position(3, Stage.VALIDATE)).integrity}
    assert stored_config(root, "hand-2").update.learning_rate == 3e-4
    assert fork.facts.config_hash != parent.facts.config_hash
    assert picture(root / "hand") == before
    assert {path.name for path in (root / "hand-2").iterdir()} <= {"run.json", "writer.lock", "index.jsonl"}


def test_a_fork_goes_on_and_a_fork_of_it_too(azr, root):
    azr("fork", "--root", root, "--at", "3", "--name", "child")
    with Ledger.open(root, "child", write=True, disk=QUICK) as ledger:
        extend(ledger, small_config(), 3)
        extend(ledger, small_config(), 4)
    assert Ledger.open(root, "child").ledger_hash() == Ledger.open(root, "hand").ledger_hash()
    assert azr("fork", "--root", root, "--run", "child", "--at", "4.verify").code == 0
    assert azr("fork", "--root", root, "--run", "child", "--at", "2").code == 0
    assert {seal.run for seal in Ledger.open(root, "child-2").sealed()} == {"hand", "child"}
    assert {seal.run for seal in Ledger.open(root, "child-3").sealed()} == {"hand"}
    family = json.loads(azr("sql", "SELECT * FROM family", "--root", root, "--format", "json").out)
    told = [(row["run"], row["ancestor"], row["at"], row["depth"]) for row in family]
    assert told == [
        ("child", "hand", "3/propose", 1),
        ("child-2", "child", "4/verify", 1),
        ("child-2", "hand", "3/propose", 2),
        ("child-3", "child", "2/propose", 1),
        ("child-3", "hand", "3/propose", 2),
    ]


def test_sql_counts_a_shared_row_once(azr, root):
    count = "SELECT count(*) AS n FROM tasks"
    before = json.loads(azr("sql", count, "--root", root, "--format", "json").out)
    azr("fork", "--root", root, "--at", "3")
    assert json.loads(azr("sql", count, "--root", root, "--format", "json").out) == before
    status = json.loads(azr("status", "--root", root, "--run", "hand-2", "--json").out)
    assert [row["iteration"] for row in status["iterations"]] == [0, 1, 2]
    assert status["ledger_hash"] == Ledger.open(root, "hand-2").ledger_hash()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--at", "6"], "5/update is not sealed. Nothing was written. Iterations at which it can be: 1 to 5."),
        (["--at", "0"], "Nothing comes before 0"),
        (["--at", "0.0.validate"], "Nothing comes before"),
        (["--at", "0.2"], "0.1/validate is not sealed"),
        (["--at", "0.1.solve"], "There is no stage 0.1/solve"),
        (["--at", "3.dance"], "There is no stage 'dance'"),
        (["--at", "three"], "'three' is no iteration"),
        (["--at", "2", "--name", "hand"], "already a run hand"),
        (["--at", "2", "--name", "a/b"], "cannot name a run"),
        (["--at", "2", "--name", "pictures"], "pictures exists and is not a run"),
        (["--at", "2", "--run", "other"], "There is no run other"),
        (["--at", "2", "--set", "update.learning_rat=1"], "Did you mean update.learning_rate"),
        (["--at", "1", "--set", "bootstrap.wanted=7"], "its bootstrap lacks seeds of deduction"),
    ],
)
def test_what_cannot_be_forked_is_refused_and_leaves_nothing(azr, made, words, said):
    runs = {path.name for path in made.iterdir()}
    done = azr("fork", "--root", made, *words)
    assert done.code == 1
    assert said in done.err
    assert {path.name for path in made.iterdir()} == runs


def test_another_base_model_is_refused(azr, root, tmp_path):
    from models.policy import resolve_base

    other = Path(shutil.copytree(resolve_base("nano"), tmp_path / "model"))
    (other / "generation_config.json").write_text('{"temperature": 0.5}\n')
    done = azr("fork", "--root", root, "--at", "2", "--set", f"model.path={other}")
    assert done.code == 1
    assert "a fork shares that beginning" in done.err


def test_a_point_whose_optimizer_state_or_tokens_went_is_refused_naming_those_that_are_left(azr, root):
    azr("gc", "--root", root, "--run", "hand", *settings(room_gb=0, tokens_last=1, optimizer_last=2))
    done = azr("fork", "--root", root, "--run", "hand", "--at", "2")
    assert "The checkpoint of 1/update has no optimizer state any more" in done.err
    assert "Iterations at which it can be: 1, 4 to 5." in done.err
    done = azr("fork", "--root", root, "--run", "hand", "--at", "1.update")
    assert "(tokens of 1/propose) was dropped on 20" in done.err
    assert azr("fork", "--root", root, "--run", "hand", "--at", "4.update").code == 0


def settings(**values: float) -> list[str]:
    return [word for name, value in values.items() for word in ("--set", f"retention.{name}={value}")]


def test_a_parent_that_is_gone_or_changed_is_named(azr, root):
    azr("fork", "--root", root, "--at", "3", "--name", "child")
    edited = root / "hand" / "ledger" / "000002" / "update" / "seal.json"
    whole = edited.read_text()
    edited.write_text(whole.replace('"tests"', '"forged"'))
    assert "000002/update/seal.json was changed" in azr("status", "--root", root, "--run", "child").err
    assert azr("audit", "--root", root, "--run", "child").code == 1
    edited.write_text(whole)
    shutil.move(root / "hand", root / "away")
    assert "Put the run hand back" in azr("status", "--root", root, "--run", "child").err


def test_the_next_command_is_one_that_can_be_typed(azr, root):
    done = azr("fork", "--root", root, "--at", "5")
    words = shlex.split(re.search(r"^Next: (.*)$", done.out, re.MULTILINE)[1])
    assert words[1:] == ["train", "--root", str(root), "--run", "hand-2", "--iterations", "5"]
