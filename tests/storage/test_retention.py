"""What retention lets go: listed before it is deleted, explained to readers, told from damage; kills included."""

import dataclasses
import json
import os
import signal
from functools import partial

import pytest

from storage.audit import audit
from storage.commit import Disk
from storage.config import RetentionConfig
from storage.errors import LedgerError
from storage.ids import Position, Stage
from storage.ledger import Ledger
from storage.records import Rollout, Tokens
from storage.retention import POINTS, Dropped, What, drop, dropped, guarded, spare_tokens

PROPOSE = Position(1, Stage.PROPOSE)
TOKENS = "ledger/000001/propose/tokens.parquet"


def spare(ledger, last=1, updated=4, held=()):
    config = RetentionConfig(tokens_last=last)
    return spare_tokens(ledger.directory, ledger.made().values(), config, updated=updated, held=held)


def checkpoint(directory, name="000001-0123456789ab"):
    place = directory / "checkpoints" / name
    (place / "optimizer").mkdir(parents=True)
    (place / "model.safetensors").write_bytes(b"weights")
    (place / "optimizer" / "state.safetensors").write_bytes(b"moments")
    path = f"checkpoints/{name}"
    return Dropped(what=What.CHECKPOINT, position="1/update", path=path, hash="f" * 64, bytes=14, policy="a test")


def test_dropped_tokens_are_listed_explained_and_no_damage(root, samples):
    before = Ledger.open(root, "nano")
    found, known = audit(root, "nano"), before.ledger_hash()
    gone = drop(before.directory, spare(before), samples.quick)
    assert [one.path for one in gone] == [TOKENS, "ledger/000001/solve/tokens.parquet"]
    assert dropped(before.directory) == {one.path: one for one in gone}
    assert gone[0].hash == before.require(PROPOSE).outputs["tokens"].file_hash
    assert gone[0].bytes > 0
    assert gone[0].dropped_us > 0
    after = Ledger.open(root, "nano")
    after.require_files()
    assert after.verify() == found
    assert after.ledger_hash() == known
    assert after.read(Rollout, PROPOSE)
    with pytest.raises(LedgerError) as said:
        after.read(Tokens, PROPOSE)
    assert "tokens.parquet (tokens of 1/propose) was dropped on 20" in str(said.value)
    assert "retention.tokens_last = 1" in str(said.value)
    assert "azr fork --at 1 " in str(said.value)


def test_a_file_that_is_missing_without_a_line_or_with_another_hash_is_damage(root, samples):
    ledger = Ledger.open(root, "nano")
    known = audit(root, "nano")
    (ledger.directory / TOKENS).unlink()
    assert len(audit(root, "nano")) == len(known) + 1
    wrong = dataclasses.replace(spare(ledger, updated=9)[0], path=TOKENS, hash="0" * 64, dropped_us=1)
    (ledger.directory / "dropped.jsonl").write_text(json.dumps(dataclasses.asdict(wrong)) + "\n")
    assert len(audit(root, "nano")) == len(known) + 1
    with pytest.raises(LedgerError, match="is not what was sealed"):
        ledger.require_files()


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_leaves_each_thing_there_or_listed_and_the_next_call_finishes(root, samples, point):
    ledger = Ledger.open(root, "nano")
    things = [checkpoint(ledger.directory), *spare(ledger)]
    for after in range(1, len(things) + 1):
        killed(partial(drop, ledger.directory, tuple(things)), point, after)
        listed = dropped(ledger.directory)
        for thing in things:
            whole = (ledger.directory / thing.path).exists()
            assert whole or thing.path in listed
        things = [thing for thing in things if thing.path not in listed]
    drop(ledger.directory, things, samples.quick)
    assert len(dropped(ledger.directory)) == 3
    assert not any((ledger.directory / path).exists() for path in dropped(ledger.directory))
    with Ledger.open(root, "nano", write=True, disk=samples.quick) as again:  # sweeps what a kill left half deleted
        again.require_files()
    assert not list((ledger.directory / "checkpoints").iterdir())
    assert not (ledger.directory / "scratch").exists()


def test_what_was_restored_from_a_backup_stays(root, samples):
    ledger = Ledger.open(root, "nano")
    whole = (ledger.directory / TOKENS).read_bytes()
    drop(ledger.directory, spare(ledger), samples.quick)
    (ledger.directory / TOKENS).write_bytes(whole)
    drop(ledger.directory, [], samples.quick)
    assert Ledger.open(root, "nano").read(Tokens, PROPOSE)


def killed(act, point, after):
    """Do something in a process that kills itself the `after`-th time it passes a point, if it does."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    left = after

    def pause(name):
        nonlocal left
        left -= name == point
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        act(Disk(durable=False, pause=pause))
    finally:
        os._exit(0)


FOREIGN = (
    "../other/run.json", "run.json", "checkpoints", "checkpoints/../run.json", "ledger/000001/propose/seal.json",
    "/etc/passwd", "checkpoints/a/b/c",
)  # fmt: skip


@pytest.mark.parametrize("path", FOREIGN)
def test_a_line_that_was_put_there_deletes_nothing_else(root, samples, path):
    directory = root / "nano"
    (root / "other").mkdir()
    (root / "other" / "run.json").write_text("theirs")
    line = {**dataclasses.asdict(checkpoint(directory)), "path": path, "dropped_us": 1}
    (directory / "dropped.jsonl").write_text(json.dumps(line) + "\n{\n")
    drop(directory, [], samples.quick)
    assert dropped(directory) == {}
    assert (root / "other" / "run.json").exists()
    Ledger.open(root, "nano").require_files()
    assert (directory / "checkpoints" / "000001-0123456789ab" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("last", "updated", "held", "number"), [(0, 9, (), 0), (1, 1, (), 0), (1, 2, (), 2), (1, 2, (1,), 0), (3, 4, (), 2)]
)
def test_which_tokens_may_go(root, last, updated, held, number):
    assert len(spare(Ledger.open(root, "nano"), last, updated, held)) == number


def test_a_fork_that_begins_keeps_others_from_dropping(root, samples):
    with guarded(root / "nano"):
        pid = os.fork()
        if pid == 0:
            with guarded(root / "nano"):
                os._exit(7)
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
