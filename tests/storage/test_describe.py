"""The page of the ledger says every column that the views have, in their order."""

from storage.database import connect
from storage.describe import columns_of, page
from storage.ledger import Ledger
from storage.records import ROWS
from storage.schemas import fields_of
from storage.views import FUNCTIONS, METRICS, TABLES, VIEWS, view


def test_every_column_of_every_view_is_documented(tmp_path, samples):
    Ledger.create(tmp_path, samples.facts(), disk=samples.quick).close()
    stored = {row_type.table: [field.name for field in fields_of(row_type)] for row_type in ROWS}
    assert list(TABLES) == sorted(stored, key=TABLES.index)
    with connect(tmp_path) as connection:
        for name in (*VIEWS, *FUNCTIONS):
            documented, there = list(view(name).columns), list(columns_of(connection, name))
            if name in stored:
                assert sorted(there) == sorted([*stored[name], *documented]), name
            else:
                assert there == documented, name
        assert {row[0] for row in connection.sql("SHOW TABLES").fetchall()} == set(VIEWS)


def test_every_view_says_what_it_answers():
    for name in (*VIEWS, *FUNCTIONS):
        found = view(name)
        assert found.question.endswith((".", "?")), name
        assert all(found.columns.values()), name
        assert found.sql.startswith("-- "), name
    assert set(METRICS) >= {"reward_curves", "rejections", "learnability", "diversity", "costs", "lineage"}
    assert all(f"### {name}" in page() for name in METRICS)
