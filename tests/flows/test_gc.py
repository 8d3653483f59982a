"""`azr gc` as a person meets it."""

import json
import shutil
from pathlib import Path

import pytest
from lineage import QUICK, STATE, WEIGHTS, make_run, small_config

from flows.collect import collect
from storage.errors import LedgerError
from storage.ids import Position, Stage
from storage.ledger import Ledger
from storage.records import Tokens
from storage.retention import dropped

POLICY = ("room_gb=0", "checkpoints_last=1", "checkpoints_every=4", "optimizer_last=1", "optimizer_every=0")


def words(*policy: str) -> list[str]:
    return [word for one in policy for word in ("--set", f"retention.{one}")]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A root with one run of six iterations; to be read only."""
    root = tmp_path_factory.mktemp("made") / "runs"
    make_run(root, "hand", 6)
    return root


@pytest.fixture
def root(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "runs"))


def checkpoints(root: Path, run: str = "hand") -> dict[int, bool]:
    """Iterations whose checkpoint is there, and whether it has its optimizer state."""
    return {
        int(path.name[:6]): (path / "optimizer").is_dir() for path in sorted((root / run / "checkpoints").iterdir())
    }


def test_by_default_nothing_small_goes(azr, root):
    done = azr("gc", "--root", root)
    assert done.code == 0
    assert "Nothing of run hand may go" in done.out
    assert checkpoints(root) == dict.fromkeys(range(1, 7), True)


def test_a_dry_run_says_what_would_go_and_touches_nothing(azr, root):
    done = azr("gc", "--root", root, "--dry-run", *words(*POLICY))
    assert "of run hand would go" in done.out
    assert f"azr gc {' '.join(words(*POLICY))} --root {root} --run hand" in done.out
    assert "retention.checkpoints_last = 1, checkpoints_every = 4" in done.out
    assert checkpoints(root) == dict.fromkeys(range(1, 7), True)
    assert dropped(root / "hand") == {}


def test_what_goes_is_said_in_bytes_and_numbers_and_stays_listed(azr, root):
    told = json.loads(azr("gc", "--root", root, "--json", *words(*POLICY, "tokens_last=4")).out)
    assert checkpoints(root) == {4: False, 6: True}
    listed = dropped(root / "hand")
    tokens = sum(one.bytes for one in listed.values() if one.what == "tokens")
    assert told["bytes"] == 5 * STATE + 4 * WEIGHTS + tokens
    assert [one["path"] for one in told["things"]] == list(listed)
    assert {one.position for one in listed.values() if one.what == "tokens"} == {
        f"{number}/{stage}" for number in (1, 2) for stage in ("propose", "solve")
    }
    rows = json.loads(azr("sql", "SELECT path, bytes FROM dropped", "--root", root, "--format", "json").out)
    assert {row["path"]: row["bytes"] for row in rows} == {one.path: one.bytes for one in listed.values()}
    assert "Nothing of run hand may go" in azr("gc", "--root", root, *words(*POLICY, "tokens_last=4")).out


def test_what_went_is_no_damage_and_readers_are_told(azr, root):
    known = Ledger.open(root, "hand").verify()
    azr("gc", "--root", root, *words(*POLICY, "tokens_last=4"))
    ledger = Ledger.open(root, "hand")
    assert ledger.verify() == known
    ledger.require_files()
    with pytest.raises(LedgerError, match=r"tokens of 2/solve\) was dropped on .* by retention\.tokens_last = 4"):
        ledger.read(Tokens, Position(2, Stage.SOLVE))
    count = "SELECT count(DISTINCT iteration) AS n FROM tokens"
    assert json.loads(azr("sql", count, "--root", root, "--format", "json").out) == [{"n": 4}]
    assert azr("status", "--root", root).code == 0


def test_what_a_fork_stands_on_is_kept_until_the_fork_is_gone(azr, root):
    azr("fork", "--root", root, "--at", "3.solve", "--name", "child")
    azr("fork", "--root", root, "--run", "child", "--at", "2", "--name", "grandchild")
    azr("gc", "--root", root, "--run", "hand", *words(*POLICY, "tokens_last=1"))
    assert checkpoints(root) == {1: True, 2: True, 4: False, 6: True}
    held = Ledger.open(root, "hand")
    assert held.read(Tokens, Position(3, Stage.PROPOSE))
    assert held.read(Tokens, Position(2, Stage.PROPOSE))
    shutil.rmtree(root / "grandchild")
    azr("gc", "--root", root, "--run", "hand", *words(*POLICY, "tokens_last=1"))
    assert checkpoints(root) == {2: True, 4: False, 6: True}


def test_nothing_goes_while_a_run_that_may_be_a_fork_cannot_be_read(azr, root):
    (root / "other").mkdir()
    (root / "other" / "run.json").write_text("{")
    done = azr("gc", "--root", root, "--run", "hand", *words(*POLICY))
    assert done.code == 1
    assert "other/run.json is damaged" in done.err
    assert checkpoints(root) == dict.fromkeys(range(1, 7), True)


def test_a_run_that_is_being_written_is_left_alone(azr, root):
    with Ledger.open(root, "hand", write=True, disk=QUICK):
        done = azr("gc", "--root", root, *words(*POLICY))
    assert done.code == 1
    assert "Run hand is being written by process" in done.err
    assert checkpoints(root) == dict.fromkeys(range(1, 7), True)


def test_a_training_drops_by_the_same_rule(root):
    with Ledger.open(root, "hand", write=True, disk=QUICK) as ledger:
        assert collect(ledger, small_config().retention) == []
        policy = small_config(retention={"room_gb": (5 * (WEIGHTS + STATE)) / 1e9}).retention
        gone = collect(ledger, policy)
    assert [(one.what, one.position) for one in gone] == [
        ("optimizer state", "1/update"),
        ("optimizer state", "2/update"),
    ]
    assert checkpoints(root) == {1: False, 2: False, 3: True, 4: True, 5: True, 6: True}
