"""What breaks under a ledger: each failure is one clear message, nothing is lost, and the same work completes after."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from storage import database, layout
from storage.attempts import Outcome
from storage.config import RetentionConfig
from storage.database import query
from storage.errors import LedgerError
from storage.findings import Check
from storage.ids import Position, Stage
from storage.layout import partition_of
from storage.ledger import Ledger
from storage.partitions import missing_files
from storage.records import Task
from storage.retention import drop, spare_tokens

FILLER = Path(__file__).with_name("filler.py")
FULL = r"(\[[Ee]rrno 27\].*File too large|only \d+ of \d+ bytes could be appended to .*\.jsonl)"
SAID = {
    "begun": rf"Stage \w+ of iteration [\d.]+ of run \w+ could not be begun: {FULL}\. Nothing was sealed; what was "
    r"sealed earlier stays as it is\. Free space .* azr rerun [\d.]+ \w+ --root .* --run \w+$",
    "sealed": rf"Stage \w+ of iteration [\d.]+ of run \w+ could not be sealed: {FULL}\. Nothing was sealed; what was "
    r"sealed earlier stays as it is\. Free space .* azr rerun [\d.]+ \w+ --root .* --run \w+$",
    "opened": rf"Run \w+ cannot be written below .*: {FULL}\. Nothing was written\. Free space .*azr train --root DIR$",
    "rescored": rf"/rescored/generous\.parquet cannot be written: {FULL}\. What was there before stays, and the ledger "
    r"is as it was\. Free space .* run the same command again\.$",
    "dropped": rf"^OSError: {FULL}$",  # `azr gc` says the rest
}
NEXT = Position(2, Stage.PROPOSE)
NOBODY = 65534


def fill(directory, *words):
    done = subprocess.run(
        [sys.executable, str(FILLER), str(directory), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def in_a_child(act):
    """What an act says in a process of its own."""
    read, said = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(said, act().encode())
        except (AssertionError, OSError) as error:
            os.write(said, repr(error).encode())
        finally:
            os._exit(0)
    os.close(said)
    with os.fdopen(read) as pipe:
        message = pipe.read()
    os.waitpid(pid, 0)
    return message


def kinds(said):
    """Of each message, which of those known it is."""
    for message in (message for messages in said.values() for message in messages if message):
        found = [kind for kind, form in SAID.items() if re.search(form, message)]
        assert len(found) == 1, message
        yield found[0]


@pytest.mark.timeout(600)
def test_a_disk_that_is_full_at_any_write_is_told_and_loses_nothing(tmp_path):
    assert set(kinds(fill(tmp_path))) == set(SAID)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_disk_that_is_full_or_nearly_full_at_any_write(tmp_path):
    said = fill(tmp_path, "all")
    assert set(kinds(said)) == set(SAID)
    assert all(len(messages) >= 3 for messages in said.values())


def test_a_run_that_could_not_be_opened_for_want_of_room_is_not_kept_locked(root):
    def act():
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        try:
            Ledger.open(root, "nano", write=True)
        except LedgerError as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            Ledger.open(root, "nano", write=True).close()
            return str(error)
        return "nothing"

    assert re.fullmatch(SAID["opened"], in_a_child(act))


# ---- permission ------------------------------------------------------------------------------------------------------


@pytest.fixture
def theirs(samples):
    """A root with the run `nano` that belongs to whom permissions apply to: nobody, where root runs the tests."""
    root = Path(tempfile.mkdtemp())
    with Ledger.create(root, samples.facts(), disk=samples.quick) as ledger:
        samples.seal(ledger, samples.iteration())
    (root / "nano" / "ledger" / "000002").mkdir()
    (root / "nano" / "scratch").rmdir()
    if os.geteuid() == 0:
        for path in (root, *root.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    yield root
    shutil.rmtree(root)


def as_nobody(act):
    """What an act says in a child that has no rights of root."""

    def acts():
        if os.geteuid() == 0:
            os.setuid(NOBODY)
        return act()

    return in_a_child(acts)


def go_on(root, samples):
    with Ledger.open(root, "nano", write=True, disk=samples.quick) as ledger:
        stages = {at: rows for at, rows in samples.iteration(2).items() if ledger.seal_of(at) is None}
        samples.seal(ledger, stages)
        return ledger.ledger_hash()


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("writer.lock", "Run nano cannot be written below"),
        ("attempts.jsonl", "propose of iteration 2 of run nano could not be begun"),
        (".", "propose of iteration 2 of run nano could not be sealed"),
        ("ledger/000002", "propose of iteration 2 of run nano could not be sealed"),
    ],
)
def test_a_lost_permission_is_told_and_given_back_all_goes_on(root, theirs, samples, where, what):
    path = theirs / "nano" / where
    before, mode = Ledger.open(theirs, "nano").ledger_hash(), path.stat().st_mode

    def act():
        path.chmod(mode & ~0o222)
        try:
            go_on(theirs, samples)
        except LedgerError as error:
            path.chmod(mode)
            return str(error)
        return "nothing"

    said = as_nobody(act)
    assert what in said
    assert "Permission denied" in said
    assert re.search(r"Nothing was (written|sealed; what was sealed earlier stays as it is)\. ", said)
    assert re.search(r"azr (rerun 2 propose|train) --root", said)
    ledger = Ledger.open(theirs, "nano")
    assert (ledger.ledger_hash(), ledger.verify()) == (before, [])
    assert as_nobody(lambda: go_on(theirs, samples)) == go_on(root, samples)


# ---- files cut short, taken away, exchanged --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["run.json", "ledger/000001/validate/seal.json", "ledger/000001/update/seal.json"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_seal_or_run_file_cut_short_is_named_and_no_reason_to_run_again(root, samples, name, share):
    path, before = root / "nano" / name, Ledger.open(root, "nano").ledger_hash()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    for act in (lambda: Ledger.open(root, "nano"), lambda: go_on(root, samples), lambda: query(root, "FROM runs")):
        with pytest.raises(LedgerError, match=rf"{name} is damaged: .*Nothing was written. Restore the file"):
            act()
    path.write_bytes(whole)
    assert Ledger.open(root, "nano").ledger_hash() == before


def test_a_log_of_attempts_cut_short_anywhere_loses_only_what_it_said(root, samples):
    path, log = root / "nano" / "attempts.jsonl", (root / "nano" / "attempts.jsonl").read_bytes()
    before = Ledger.open(root, "nano").ledger_hash()
    for cut in range(0, len(log), 211):
        path.write_bytes(log[:cut])
        with Ledger.open(root, "nano", write=True, disk=samples.quick) as ledger:
            assert ledger.ledger_hash() == before
            assert {finding.check for finding in ledger.verify()} <= {Check.ATTEMPTS}
            assert all(record.outcome in (Outcome.SEALED, Outcome.KILLED) for record in ledger.attempts())
    path.write_bytes(log[:-30])  # the last line is torn
    go_on(root, samples)
    assert [finding.where for finding in Ledger.open(root, "nano").verify()] == []


def test_a_list_of_what_went_cut_short_makes_it_damage(root, samples):
    let_tokens_go(root, samples)
    ledger = Ledger.open(root, "nano")
    path = ledger.directory / "dropped.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(LedgerError, match=r"solve/tokens.parquet is not what was sealed: .*Restore the file"):
        ledger.require_files()
    path.write_bytes(whole)
    ledger.require_files()


def let_tokens_go(root, samples):
    ledger = Ledger.open(root, "nano")
    made, keep = ledger.made().values(), RetentionConfig(tokens_last=1)
    return drop(ledger.directory, spare_tokens(ledger.directory, made, keep, updated=2, held=()), samples.quick)


def test_whoever_reads_while_something_is_let_go_looks_again(root, samples, monkeypatch):
    add_rows = database.add_rows

    def late(*given, **named):
        add_rows(*given, **named)
        let_tokens_go(root, samples)

    monkeypatch.setattr(database, "add_rows", late)
    assert query(root, "SELECT (SELECT count(id) FROM tokens), (SELECT count(*) FROM dropped)").rows == ((0, 2),)


def test_files_let_go_while_they_are_looked_for_are_not_missing(root, samples):
    ledger = Ledger.open(root, "nano")

    def seals():
        assert len(let_tokens_go(root, samples)) == 2
        yield from ledger.sealed()

    missing_files(ledger.directory, seals())


def exchange(one, other, aside):
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def test_tables_exchanged_between_iterations_are_named_in_both(root, samples, tmp_path):
    go_on(root, samples)
    files = [root / "nano" / "ledger" / step / "validate" / "tasks.parquet" for step in ("000001", "000002")]
    exchange(*files, tmp_path / "aside")
    opened = Ledger.open(root, "nano")
    named = {finding.where for finding in opened.verify() if finding.check is Check.FILES}
    assert named == {"1/validate", "2/validate"}
    for number in (1, 2):
        with pytest.raises(LedgerError, match=r"is not what was sealed: its bytes hash to .*Restore the file"):
            opened.read(Task, Position(number, Stage.VALIDATE))
    exchange(*files, tmp_path / "aside")
    assert opened.verify() == []


def test_partitions_exchanged_between_iterations_are_no_partitions(root, samples, tmp_path):
    go_on(root, samples)
    before = Ledger.open(root, "nano").ledger_hash()
    places = [partition_of(root / "nano", Position(number, Stage.SOLVE)) for number in (1, 2)]
    exchange(*places, tmp_path / "aside")
    for write in (False, True):
        with pytest.raises(LedgerError, match=r"is the seal of [12]/solve\. Nothing was written\. Restore"):
            Ledger.open(root, "nano", write=write)
    exchange(*places, tmp_path / "aside")
    assert Ledger.open(root, "nano").ledger_hash() == before


# ---- the clock -------------------------------------------------------------------------------------------------------


def test_a_clock_that_goes_back_changes_no_order_and_no_time_is_negative(root, samples, tmp_path, monkeypatch):
    go_on(root, samples)
    hours = iter(range(10_000, 0, -1))
    monkeypatch.setattr(layout.time, "time_ns", lambda: next(hours) * 3_600_000_000_000)  # an hour back at each look
    monkeypatch.setattr(layout, "_latest", (0, 0))
    with Ledger.create(tmp_path / "back", samples.facts(), disk=samples.quick) as ledger:
        samples.seal(ledger, samples.iteration())
    monkeypatch.setattr(layout, "_latest", (0, 0))  # as in a process that begins later, and yet earlier
    go_on(tmp_path / "back", samples)
    ledger = Ledger.open(tmp_path / "back", "nano")
    assert ledger.require(NEXT).timings.started_us < ledger.require(Position(1, Stage.PROPOSE)).timings.started_us
    assert ledger.ledger_hash() == Ledger.open(root, "nano").ledger_hash()
    assert ledger.verify() == []
    assert ledger.last().position == Position(2, Stage.UPDATE)
    assert [record.attempt for record in ledger.attempts()] == [1] * 10
    for sql in ("SELECT min(seconds) FROM attempts", "SELECT min(seconds) FROM stages"):
        assert query(tmp_path / "back", sql).rows[0][0] >= 0
    order = "SELECT iteration, stage FROM stages"
    assert query(tmp_path / "back", order).rows == query(root, order).rows


# ---- two writers -----------------------------------------------------------------------------------------------------


def test_of_many_threads_that_make_one_partition_one_seals_it(root, samples):
    before = samples.iteration(2)[NEXT]
    with Ledger.open(root, "nano", write=True, disk=samples.quick) as ledger:
        inputs, together = [ledger.sealed()[-1].position], threading.Barrier(6)

        def make():
            with ledger.begin(NEXT, inputs=inputs, provenance=samples.code) as attempt:
                together.wait()
                attempt.seal(before, seeds={"run": 42})

        threads = [threading.Thread(target=make) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        mine = [record for record in ledger.attempts() if record.position == NEXT]
        assert sorted(record.outcome for record in mine) == [Outcome.DISCARDED] * 5 + [Outcome.SEALED]
        assert [record.attempt for record in mine] == [1, 2, 3, 4, 5, 6]
        assert ledger.verify() == []


def beginner(root, samples, start, said, end):
    """A process that begins a run when `start` is closed, tells by `said` what came of it, and ends with `end`."""
    pid = os.fork()
    if pid:
        return pid
    try:
        for pipe in (start, end):
            os.close(pipe[1])
        os.read(start[0], 1)
        with Ledger.create(root, samples.facts(), disk=samples.quick):
            os.write(said[1], b"mine\n")
            os.read(end[0], 1)
    except LedgerError as error:
        os.write(said[1], f"{error}\n".encode())
    finally:
        os._exit(0)


def test_of_many_processes_that_begin_one_run_one_has_it(tmp_path, samples):
    start, said, end = os.pipe(), os.pipe(), os.pipe()
    children = [beginner(tmp_path, samples, start, said, end) for _ in range(6)]
    os.close(start[1])
    with os.fdopen(said[0]) as lines:
        told = [lines.readline() for _ in children]
    os.close(end[1])
    for child in children:
        os.waitpid(child, 0)
    for left in (start[0], said[1], end[0]):
        os.close(left)
    assert told.count("mine\n") == 1
    refused = [line for line in told if line != "mine\n"]
    assert all("Run nano is being written by" in line and "Nothing was written" in line for line in refused), refused
    Ledger.open(tmp_path, "nano", write=True).close()
