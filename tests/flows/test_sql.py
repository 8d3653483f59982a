"""`azr sql`: where a question comes from, where the answer goes, and what damage does to it."""

import csv
import io
import json
import sys
from uuid import UUID

import duckdb
import pyarrow.parquet as pq
import pytest

from storage import connect
from storage.commit import Disk
from storage.errors import LedgerError
from storage.ids import Mode, Place, Position, Role, Stage, pack
from storage.ledger import Ledger
from storage.records import Reward
from storage.seals import Provenance, RunFacts


def begin(root, run, iterations=2):
    """A run that is nothing but rewards."""
    facts = RunFacts(run=run, seed=1, config={}, config_hash="c", code_version="v", python="3")
    with Ledger.create(root, facts, disk=Disk(durable=False)) as ledger:
        for number in range(1, iterations + 1):
            with ledger.begin(Position(number, Stage.VERIFY), provenance=Provenance(code_version="v")) as attempt:
                attempt.seal({Reward: [reward(number, slot) for slot in range(3)]})


def reward(iteration, slot):
    place = pack(Place(iteration, 0, Mode.DEDUCTION, slot))
    return Reward(
        iteration=iteration, round=0, rollout_id=place, content_key=UUID(int=slot), role=Role.PROPOSER,
        mode=Mode.DEDUCTION, task_id=place, rule="azr", total=slot / 2, rung="learnable", accuracy=None,
        solve_rate=slot / 2, probes=2, learnability=None,
    )  # fmt: skip


@pytest.fixture
def root(tmp_path):
    begin(tmp_path / "my runs", "one")
    begin(tmp_path / "my runs", "two")
    return tmp_path / "my runs"


COUNTS = """
SELECT run, count(*) AS rewards, any_value(content_key) AS key, list(total ORDER BY id) AS totals
FROM rewards GROUP BY run ORDER BY run"""


def test_a_question_comes_as_text_in_a_file_or_by_standard_input(root, azr, tmp_path, monkeypatch):
    file = tmp_path / "question.sql"
    file.write_text("-- how many?\nSELECT run, count(*) AS rewards\nFROM rewards GROUP BY ALL ORDER BY run;\n")
    told = azr("sql", file.read_text(), "--root", root, "--format", "csv")
    assert told.out == "run,rewards\none,6\ntwo,6\n"
    assert azr("sql", "-f", file, "--root", root, "--format", "csv").out == told.out
    monkeypatch.setattr(sys, "stdin", io.StringIO(file.read_text()))
    assert azr("sql", "--root", root, "--format", "csv").out == told.out
    for words, complaint in (
        (["SELECT 1", "-f", file], "two questions"),
        (["-f", tmp_path / "none.sql"], "none.sql cannot be read"),
        (["-f", tmp_path], "cannot be read"),
    ):
        done = azr("sql", *words, "--root", root)
        assert done.code == 1
        assert complaint in done.err


def test_every_format_goes_to_standard_output_or_a_file(root, azr, tmp_path):
    expected = [("one", 6), ("two", 6)]
    told = {form: azr("sql", COUNTS, "--root", root, "--format", form).out for form in ("table", "csv", "json")}
    for form, text in told.items():
        assert azr("sql", COUNTS, "--root", root, "--format", form, "--out", tmp_path / form).out == ""
        assert (tmp_path / form).read_text() == text
    assert [(row["run"], row["rewards"]) for row in json.loads(told["json"])] == expected
    assert [(row["run"], int(row["rewards"])) for row in csv.DictReader(io.StringIO(told["csv"]))] == expected
    assert azr("sql", COUNTS, "--root", root, "--format", "parquet", "--out", tmp_path / "p").code == 0
    table = pq.read_table(tmp_path / "p")
    assert list(zip(table["run"].to_pylist(), table["rewards"].to_pylist(), strict=True)) == expected
    assert table["totals"].to_pylist()[0] == [0.0, 0.5, 1.0] * 2
    done = azr("sql", COUNTS, "--root", root, "--out", tmp_path / "no" / "where")
    assert done.code == 1
    assert "cannot be written" in done.err


def test_parquet_is_refused_by_a_terminal_and_flows_through_a_pipe(root, azr, monkeypatch, tmp_path):
    class Terminal(io.TextIOWrapper):
        def isatty(self):
            return True

    bytes_out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_out))
    azr("sql", COUNTS, "--root", root, "--format", "parquet")
    assert pq.read_table(io.BytesIO(bytes_out.getvalue())).num_rows == 2
    monkeypatch.setattr(sys, "stdout", Terminal(io.BytesIO()))
    done = azr("sql", COUNTS, "--root", root, "--format", "parquet")
    assert done.code == 1
    assert "--out FILE" in done.err


def test_a_damaged_run_does_not_block_the_others(root, azr):
    (root / "one" / "ledger" / "000002" / "verify" / "seal.json").write_text("{")
    done = azr("sql", "SELECT DISTINCT run FROM rewards", "--root", root, "--format", "csv")
    assert (done.code, done.out) == (0, "run\ntwo\n")
    assert done.err.startswith("azr: run one is damaged and left out: ")
    assert "000002/verify/seal.json is damaged" in done.err
    assert f"audit --root '{root}' --run one" in done.err
    runs = azr("runs", "--root", root)
    assert runs.code == 0
    assert "damaged" in runs.out
    assert "--run two" in runs.out
    assert "run one is damaged" in runs.err
    assert azr("status", "--root", root, "--run", "two").code == 0
    broken = azr("status", "--root", root, "--run", "one")
    assert broken.code == 1
    assert "seal.json is damaged" in broken.err


def test_a_database_of_views_opens_by_itself(root, azr, tmp_path):
    file = tmp_path / "views.duckdb"
    assert azr("sql", "--duckdb", file, "--root", root).code == 0
    with duckdb.connect(str(file), read_only=True) as opened:
        assert opened.sql("SELECT run, count(*) FROM rewards GROUP BY run ORDER BY run").fetchall() == [
            ("one", 6),
            ("two", 6),
        ]
        assert opened.sql("SELECT run, iterations FROM runs ORDER BY run").fetchall() == [("one", 0), ("two", 0)]
        assert opened.sql("FROM ancestors('1-ded-000')").fetchall() == []
    assert "takes no question" in azr("sql", "FROM runs", "--duckdb", file, "--root", root).err
    begin(root, "three")
    assert azr("sql", "--duckdb", file, "--root", root).code == 0
    with duckdb.connect(str(file), read_only=True) as opened:
        assert opened.sql("SELECT count(*) FROM runs").fetchall() == [(3,)]
    for foreign in ("not a database", None):
        if foreign is None:
            file.unlink()
            duckdb.connect(str(file)).close()
        else:
            file.write_text(foreign)
        before = file.read_bytes()
        done = azr("sql", "--duckdb", file, "--root", root)
        assert done.code == 1
        assert "is no database of azr. Nothing was written" in done.err
        assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("views")) == ["views.duckdb"]


def test_the_same_in_python(root):
    with connect(str(root)) as history:
        curves = history.sql("FROM reward_curves")
        assert curves.df()["mean"].tolist() == [0.5] * 4
        assert curves.to_arrow_table().num_rows == 4
        with pytest.raises(duckdb.Error):
            history.sql("FROM read_csv('/etc/passwd')")
        with pytest.raises(duckdb.Error):
            history.sql(f"COPY (SELECT 1) TO '{root}/new.csv'")
    with connect(root, "two") as history:
        assert history.sql("SELECT DISTINCT run FROM rewards").fetchall() == [("two",)]
    with pytest.raises(LedgerError, match="There is no ledger here"):
        connect(root / "none")


def test_what_is_no_number_is_null_in_json(root, azr):
    question = (
        "SELECT 'nan'::DOUBLE AS nan, [1.5, '-inf'::DOUBLE] AS list, {'a': 'inf'::DOUBLE} AS struct, 2.5 AS plain"
    )
    told = azr("sql", question, "--root", root, "--format", "json")
    assert json.loads(told.out, parse_constant=pytest.fail) == [
        {"nan": None, "list": [1.5, None], "struct": {"a": None}, "plain": "2.5"}
    ]
