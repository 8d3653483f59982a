"""A ledger that the first release wrote: it must read for ever, whatever columns and views came later."""

from pathlib import Path

from storage.database import query
from storage.ids import Stage
from storage.ledger import Ledger
from storage.records import VALID, Task

DATA = Path(__file__).parent / "data"
RUN = "first_light"
LEDGER_HASH = "b9fef556ab90317f0a7744d0f82288a776945ad9017065ca503df792f5351fdb"


def test_its_seals_hold_and_its_hash_is_the_one_it_had():
    ledger = Ledger.open(DATA, RUN)
    assert ledger.verify() == []
    assert ledger.ledger_hash() == LEDGER_HASH
    assert len(ledger.sealed()) == 16


def test_its_rows_read_as_records():
    ledger = Ledger.open(DATA, RUN)
    validated = [seal.position for seal in ledger.sealed() if seal.stage is Stage.VALIDATE]
    tasks = [task for position in validated for task in ledger.read(Task, position)]
    assert len(tasks) == 44
    assert sum(task.verdict == VALID for task in tasks) == 37


def test_its_views_answer():
    sql = "SELECT iteration, proposals, valid, answers FROM iterations WHERE iteration > 0 ORDER BY iteration"
    rows = query(DATA, sql).rows
    assert rows == ((1, 9, 7, 24), (2, 9, 8, 27))
