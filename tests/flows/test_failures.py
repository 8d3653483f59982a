"""Commands that write beside the stages, on a disk that is full: what is told, and that the same command completes."""

import resource

import pytest
from azr_process import Person, picture
from lineage import make_run

from storage.ledger import Ledger
from storage.retention import dropped

GC = ("gc", "--run", "hand", "--set", "retention.tokens_last=1")


def limited(size):
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.fixture
def root(tmp_path):
    make_run(tmp_path / "runs", "hand", 4)
    return tmp_path / "runs"


def test_what_retention_lets_go_on_a_full_disk_is_listed_as_far_as_it_went(azr, root, tmp_path):
    before = Ledger.open(root, "hand").ledger_hash()
    done = Person(tmp_path / "person").azr(*GC, "--root", root, limits=limited(600))
    assert done.code == 1
    assert "What retention lets go of run hand was not all deleted: only " in done.err
    assert f"What went is listed in {root / 'hand' / 'dropped.jsonl'}; nothing else was touched" in done.err
    assert f"gc --set {GC[-1]} --root {root} --run hand" in done.err
    gone = dropped(root / "hand")
    assert len(gone) == 2
    ledger = Ledger.open(root, "hand")
    ledger.require_files()
    assert (ledger.ledger_hash(), ledger.verify()) == (before, [])
    assert azr(*GC, "--root", root).code == 0
    ledger = Ledger.open(root, "hand")
    assert (ledger.ledger_hash(), ledger.verify()) == (before, [])
    assert set(gone) < set(dropped(root / "hand"))


def test_a_fork_that_cannot_be_written_is_none_and_its_parent_is_as_it_was(azr, root, tmp_path):
    before = picture(root / "hand", leave_out=("dropped.jsonl",))
    words = ("fork", "--root", root, "--run", "hand", "--at", "3", "--name", "child")
    done = Person(tmp_path / "person").azr(*words, limits=limited(300))
    assert done.code == 1
    assert f"Run child cannot be written below {root}: [Errno 27] File too large. Nothing was written" in done.err
    assert "Free space or make it writable, then run the same command again" in done.err
    assert picture(root / "hand", leave_out=("dropped.jsonl",)) == before
    assert azr("status", "--root", root, "--run", "child").code == 1
    assert azr(*words).code == 0
    assert len(Ledger.open(root, "child").sealed()) == len(Ledger.open(root, "hand").sealed()) - 10
