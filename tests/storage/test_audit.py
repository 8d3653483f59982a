"""What the audit of a ledger finds without knowing what its rows mean."""

import json
import shutil
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.audit import anchor, attempts, audit, examined, read_all_seals
from storage.errors import ConfigError, LedgerError
from storage.findings import SHOWN, Check, result, summed
from storage.hashes import bytes_hash
from storage.ids import Position, Stage, parse
from storage.layout import ATTEMPTS_FILE, partition_of
from storage.ledger import Ledger
from storage.partitions import read_rows
from storage.records import Answer, Reward, Rollout, Task, TaskParent
from storage.schemas import from_parquet, to_parquet, to_table
from storage.seals import ledger_hash

AT = {stage: Position(1, stage) for stage in Stage}


def file_of(root, stage, row_type):
    return partition_of(root / "nano", AT[stage]) / f"{row_type.table}.parquet"


def put(root, stage, row_type, rows):
    """Other rows in the place of a sealed table, whose seal stays as it is."""
    file_of(root, stage, row_type).write_bytes(to_parquet(row_type, to_table(row_type, rows)))


def rows_of(root, stage, row_type):
    return read_rows(root / "nano", Ledger.open(root, "nano").require(AT[stage]), row_type)


def told(root, check=None):
    """What an audit finds, as (check, where), and the sentences."""
    found = [finding for finding in audit(root, "nano") if check in (None, finding.check)]
    return [(finding.check, finding.where) for finding in found], " | ".join(finding.what for finding in found)


def test_a_sound_ledger_has_no_findings_and_everything_is_counted(root):
    seals, results = read_all_seals(root / "nano")
    report = summed([*results, *(one for part in examined(root / "nano", seals) for one in part.results)])
    assert report.findings == ()
    counts = {line.check: line.things for line in report.lines}
    assert counts[Check.SEALS] == 5
    files = list((root / "nano" / "ledger").rglob("*.parquet"))
    assert counts[Check.FILES] == counts[Check.CONTENTS] == len(files) == 11
    rows = sum(output.rows for seal in seals.values() for output in seal.outputs.values())
    assert counts[Check.ROWS] == counts[Check.IDS] == rows


def test_a_byte_that_flips_anywhere_is_found_where_it_is(root):
    sealed = sorted(path for path in (root / "nano" / "ledger").rglob("*") if path.is_file())
    for path in sealed:
        whole = path.read_bytes()
        for at in range(0, len(whole), len(whole) // 3):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
            found = audit(root, "nano")
            assert f"1/{path.parent.name}" in {finding.where for finding in found}
            assert any(path.name in finding.what for finding in found)
        path.write_bytes(whole)
    assert audit(root, "nano") == []


def test_a_missing_row_is_counted(root):
    put(root, Stage.VERIFY, Answer, rows_of(root, Stage.VERIFY, Answer)[:1])
    where, what = told(root)
    assert where == [(Check.FILES, "1/verify"), (Check.ROWS, "1/verify")]
    assert "answers has 1 rows, its seal says 2" in what


def test_a_row_that_stands_there_twice_is_named(root):
    path = file_of(root, Stage.VERIFY, Answer)
    table = from_parquet(path.read_bytes())
    path.write_bytes(to_parquet(Answer, pa.concat_tables([table, table.slice(1)])))
    where, what = told(root, Check.ROWS)
    assert where == [(Check.ROWS, "1/verify")] * 2
    assert "answers 1-ded-000:1 stands there twice" in what
    assert "answers has 3 rows, its seal says 2" in what


def test_rows_out_of_order_are_named(root):
    path = file_of(root, Stage.VERIFY, Answer)
    table = from_parquet(path.read_bytes())
    path.write_bytes(to_parquet(Answer, pa.concat_tables([table.slice(1), table.slice(0, 1)])))
    assert "answers 1-ded-000:0 stands after 1-ded-000:1" in told(root, Check.ROWS)[1]


def test_rows_of_another_iteration_are_named(root, samples):
    with Ledger.open(root, "nano", write=True, disk=samples.quick) as ledger:
        samples.seal(ledger, samples.iteration(2))
    first, second = (partition_of(root / "nano", Position(i, Stage.SOLVE)) / "rollouts.parquet" for i in (1, 2))
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    found, what = told(root)
    assert {where for check, where in found if check == Check.FILES} == {"1/solve", "2/solve"}
    assert "rollouts 2-ded-000:0 is of iteration 2, not 1" in what
    assert "rollouts 1-ded-000:0 has the id of another place: rollout_id 1-ded-000:0" in what


@pytest.mark.parametrize(
    ("stage", "row_type", "change", "sentence"),
    [
        (Stage.PROPOSE, TaskParent, {"parent_id": parse("3-ded-000"), "parent_iteration": 3},
         "task_parents 1-ded-000 has a parent that is not earlier: parent_id 3-ded-000"),
        (Stage.PROPOSE, TaskParent, {"parent_id": parse("1-ded-001"), "parent_iteration": 1},
         "task_parents 1-ded-000 has a parent that is not earlier: parent_id 1-ded-001"),
        (Stage.PROPOSE, TaskParent, {"parent_iteration": 7},
         "task_parents 1-ded-000 has another parent_iteration than its id"),
        (Stage.VERIFY, Reward, {"task_id": parse("2-ded-000")},
         "rewards 1-ded-000 names what came later: task_id 2-ded-000"),
        (Stage.SOLVE, Rollout, {"slot": 5}, "rollouts 1-ded-000:0 has another slot than its id"),
        (Stage.SOLVE, Rollout, {"sample": 5}, "rollouts 1-ded-000:0 has another sample than its id"),
        (Stage.VALIDATE, Task, {"task_id": 7 << 28}, f"tasks.task_id {7 << 28} is no id"),
        (Stage.VALIDATE, Task, {"round": 3}, "tasks 1-ded-000 is of round 3, not 0"),
    ],
)  # fmt: skip
def test_an_id_that_cannot_be_is_named(root, stage, row_type, change, sentence):
    first, *rest = rows_of(root, stage, row_type)
    put(root, stage, row_type, [replace(first, **change), *rest])
    assert sentence in told(root, Check.IDS)[1]


def test_a_table_that_was_never_declared_so_is_named(root):
    path = file_of(root, Stage.VALIDATE, Task)
    table = from_parquet(path.read_bytes())
    mode = table.column_names.index("mode")
    for changed, sentence in (
        (table.append_column("more", pa.array([1, 2])), "tasks has a column more, which was never declared"),
        (table.drop_columns(["verdict"]), "tasks has no column verdict"),
        (
            table.set_column(mode, "mode", pa.array(["deduction", "dance"])),
            "tasks.mode holds 'dance', which is none of",
        ),
        (table.set_column(mode, "mode", pa.array(["deduction", None])), "tasks.mode is null in 1 rows"),
        (table.set_column(mode, "mode", pa.array([1, 1])), "tasks.mode holds int64, declared is string"),
    ):
        pq.write_table(changed, path)
        assert sentence in told(root, Check.ROWS)[1]


def test_values_that_do_not_give_their_content_hash_are_found_though_the_file_is_as_its_seal_says(root):
    first, second = rows_of(root, Stage.VERIFY, Reward)[:2], rows_of(root, Stage.VERIFY, Reward)[2:]
    put(root, Stage.VERIFY, Reward, [*first, replace(second[0], total=0.25), *second[1:]])
    path = partition_of(root / "nano", AT[Stage.VERIFY]) / "seal.json"
    data, seal = file_of(root, Stage.VERIFY, Reward).read_bytes(), json.loads(path.read_text())
    seal["outputs"]["rewards"] |= {"bytes": len(data), "file_hash": bytes_hash(data)}
    path.write_text(json.dumps(seal))
    found, what = told(root)
    assert found == [(Check.SEALS, "1/verify"), (Check.CONTENTS, "1/verify")]
    assert "seal.json was changed after it was written: its integrity" in what
    assert "table rewards holds content" in what


def test_damage_does_not_stop_the_other_checks(root):
    (partition_of(root / "nano", AT[Stage.PROPOSE]) / "seal.json").write_text("{")
    file_of(root, Stage.SOLVE, Rollout).unlink()
    file_of(root, Stage.VERIFY, Answer).write_bytes(b"PAR1")
    found, what = told(root)
    assert {(Check.SEALS, "1/propose"), (Check.FILES, "1/solve"), (Check.FILES, "1/verify")} < set(found)
    assert (Check.CHAINS, "ledger") in found
    assert "The seal of 1/propose of run nano is missing, but 1/validate was made after it" in what


def test_what_lies_in_the_ledger_and_is_no_partition_is_named(root):
    ledger = root / "nano" / "ledger"
    (ledger / "000001" / "solve.bak").mkdir()
    (ledger / "notes.txt").touch()
    shutil.copytree(ledger / "000001" / "solve", ledger / "1" / "solve")
    what = told(root, Check.SEALS)[1]
    assert all(f"{ledger / name} is no partition" in what for name in ("000001/solve.bak", "notes.txt", "1"))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"outcome": "sealed"', '"outcome": "discarded"', "is sealed, but the log says discarded"),
        ('"attempt": 1', '"attempt": 2', "is sealed, but the log has no start of it"),
        ('"attempt": 1', '"attempt": 3', "is logged, but not attempt 2"),
        ('"code_version": "abc123"', '"code_version": "x"', "has code_version x in the log, abc123 in its seal"),
        ('"stage": "solve"', '"stage": "dance"', "of attempts.jsonl cannot be read"),
    ],
)
def test_an_edited_line_of_the_log_is_found(root, old, new, sentence):
    path = root / "nano" / ATTEMPTS_FILE
    lines = path.read_text().splitlines(keepends=True)
    solve = [line.replace(old, new) if '"stage": "solve"' in line else line for line in lines]
    path.write_text("".join(solve))
    found, what = told(root)
    assert set(found) == {(Check.ATTEMPTS, ATTEMPTS_FILE)}
    assert sentence in what


def test_a_torn_line_of_the_log_is_a_note(root):
    with (root / "nano" / ATTEMPTS_FILE).open("a") as file:
        file.write('{"event": "start", "itera')
    seals, _ = read_all_seals(root / "nano")
    (found,) = attempts(root / "nano", seals)
    assert found.findings == ()
    assert "line 11 of attempts.jsonl cannot be read" in found.notes[0]


def test_the_anchor_knows_this_ledger_and_every_state_before(root):
    seals, _ = read_all_seals(root / "nano")
    assert anchor(seals, ledger_hash(seals.values())) == (Check.ANCHOR, 5, (), ())
    earlier = [seals[AT[stage]] for stage in (Stage.PROPOSE, Stage.VALIDATE)]
    for hash_ in (ledger_hash(earlier), earlier[-1].integrity):
        found = anchor(seals, hash_)
        assert (found.things, found.findings) == (2, ())
        assert found.notes == ("the expected hash is that of 1/validate; 3 stages were sealed since",)
    other = anchor(seals, "0" * 64)
    assert "no state of this ledger had the hash 000000000000" in other.findings[0].what
    with pytest.raises(ConfigError, match="is no ledger hash: 64 hexadecimal digits"):
        anchor(seals, "b9fef556ab90")


def test_a_run_that_is_not_there_is_an_error(root):
    with pytest.raises(LedgerError, match="There is no run other"):
        audit(root, "other")


def test_of_many_like_findings_the_first_are_told():
    found = result(Check.ROWS, "1/solve", 100, [f"row {number}" for number in range(SHOWN + 5)])
    assert [finding.what for finding in found.findings] == [
        *(f"row {n}" for n in range(SHOWN)),
        "and 5 more like these",
    ]
