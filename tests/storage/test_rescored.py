"""Side tables of another rule's rewards: whole or not at all, in SQL beside what was paid, and never in the ledger."""

import json
import os

import pytest

from storage.database import query
from storage.errors import ConfigError, LedgerError
from storage.ids import Position, Stage
from storage.ledger import Ledger
from storage.records import Answer, Reward
from storage.rescored import Rescored, replacing, table_of, tables
from storage.schemas import fields_of

VERIFIED = Position(1, Stage.VERIFY)
TOTALS = "SELECT rule, role, rewards, paid, would_be, changed, verdicts_changed FROM rescored_totals ORDER BY 1, 2"


@pytest.fixture
def home(root):
    return root / "nano"


@pytest.fixture
def rows(root):
    """What a rule named generous would have paid: one more for everything; and it takes the wrong answer for right."""
    ledger = Ledger.open(root, "nano")
    verdicts = {answer.rollout_id: "correct" for answer in ledger.read(Answer, VERIFIED)}
    return [_generous(reward, verdicts.get(reward.rollout_id)) for reward in ledger.read(Reward, VERIFIED)]


def _generous(reward, verdict):
    kept = {field.name: getattr(reward, field.name) for field in fields_of(Rescored) if hasattr(reward, field.name)}
    changed = {"rule": "generous", "ladder": "one more", "code_version": "abc123", "would_be": reward.total + 1}
    return Rescored(**(kept | changed), verdict=verdict)


def write(home, rows, rule="generous"):
    with replacing(home, rule) as writing:
        writing(rows)


def test_without_rescoring_the_views_are_empty(root):
    assert query(root, "SELECT * FROM rescored").rows == ()
    assert query(root, TOTALS).rows == ()


def test_what_would_have_been_paid_stands_beside_what_was(root, home, rows):
    write(home, rows)
    found = query(root, "SELECT run, rule, id, paid, would_be, paid_verdict, verdict FROM rescored ORDER BY rollout_id")
    assert found.rows == (
        ("nano", "generous", "1-ded-000", 0.5, 1.5, None, None),
        ("nano", "generous", "1-ded-000:0", 1.0, 2.0, "correct", "correct"),
        ("nano", "generous", "1-ded-000:1", -0.5, 0.5, "wrong", "correct"),
        ("nano", "generous", "1-ded-001", -0.5, 0.5, None, None),
    )
    assert query(root, TOTALS, "nano").rows == (
        ("generous", "proposer", 2, 0.0, 1.0, 2, 0),
        ("generous", "solver", 2, 0.25, 1.25, 2, 1),
    )


def test_each_rule_has_its_table_and_a_second_time_replaces_it_whole(root, home, rows):
    write(home, rows)
    write(home, rows[:1])
    write(home, rows, "other")
    assert [path.name for path in tables(home)] == ["generous.parquet", "other.parquet"]
    assert query(root, "SELECT count(*) FROM rescored").rows == ((5,),)


def test_an_error_leaves_the_table_that_was_there(root, home, rows):
    write(home, rows)
    with pytest.raises(LedgerError, match="two rows with rollout_id"):
        write(home, [rows[0], rows[0]])
    assert query(root, "SELECT count(*) FROM rescored").rows == ((4,),)
    assert [path.name for path in (home / "rescored").iterdir()] == ["generous.parquet"]


def test_what_killed_processes_left_is_removed_and_what_living_ones_write_is_not(home, rows):
    (home / "rescored").mkdir()
    dead, living = (home / "rescored" / f"other.parquet.{pid}.partial" for pid in (2**22 + 1, os.getppid()))
    dead.write_bytes(b"torn")
    living.write_bytes(b"going on")
    write(home, rows)
    assert not dead.exists()
    assert living.exists()


def test_the_ledger_is_as_it_was(root, home, rows):
    before = Ledger.open(root, "nano").ledger_hash()
    write(home, rows)
    ledger = Ledger.open(root, "nano")
    assert ledger.ledger_hash() == before
    assert ledger.verify() == []


@pytest.mark.parametrize("name", ["", "../up", ".hidden", "a/b", "a b", "x" * 65, "quote'"])
def test_a_name_that_no_file_can_have_is_refused(home, name):
    with pytest.raises(ConfigError, match="cannot name a rule"):
        table_of(home, name)
    assert not (home / "rescored").exists()


def test_a_disk_that_refuses_is_told_with_what_stays(home, rows):
    (home / "rescored").write_text("no directory")
    with pytest.raises(LedgerError, match=r"generous\.parquet cannot be written.*What was there before stays"):
        write(home, rows)


def test_it_can_be_read_as_json(root, home, rows):
    write(home, rows)
    found = query(root, "SELECT to_json(s) FROM rescored s ORDER BY rollout_id LIMIT 1").rows[0][0]
    assert json.loads(found)["would_be"] == 1.5
