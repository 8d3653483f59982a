"""Every question of docs/sql.md is asked of a small ledger, and answers in the columns that the page shows."""

import re
from pathlib import Path

import pytest

from storage.database import ask, connect
from storage.gate import one_select
from storage.ledger import Ledger

PAGE = Path(__file__).parents[2] / "docs" / "sql.md"
BLOCKS = re.findall(r"### (\d+)\. (.+?)\n.*?```sql\n(.*?)```\n\n```\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


@pytest.fixture(scope="module")
def history(tmp_path_factory, samples):
    root = tmp_path_factory.mktemp("cookbook")
    for run in ("cook", "cook-warm"):
        with Ledger.create(root, samples.facts(run), disk=samples.quick) as ledger:
            samples.seal(ledger, samples.iteration(1) | samples.iteration(6))
    with connect(root) as connection:
        yield connection


def test_there_are_twenty_questions():
    assert [number for number, *_ in BLOCKS] == [str(number) for number in range(1, 21)]


@pytest.mark.parametrize(("sql", "shown"), [block[2:] for block in BLOCKS], ids=[block[1] for block in BLOCKS])
def test_the_answer_has_the_columns_shown(history, sql, shown):
    header, ruler, *rows = shown.splitlines()
    assert ask(history, one_select(sql)).columns == tuple(header.split())
    assert len(ruler.split()) == len(header.split())
    assert rows
