import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import ids
from storage.database import ask, connect, left_out_messages, query, query_all
from storage.errors import ConfigError, LedgerError
from storage.gate import one_select
from storage.ids import Mode, Place, Position, Stage
from storage.layout import partition_of
from storage.ledger import Ledger
from storage.seals import Parent
from storage.views import VIEWS

NOT_HERE = ("family", "dropped", "rescored", "rescored_totals")  # nothing of the kind was done to these runs


def values(root, sql):
    return [row[0] for row in query(root, sql).rows]


@pytest.fixture(scope="module")
def connection(tmp_path_factory, samples):
    root = tmp_path_factory.mktemp("runs")
    Ledger.create(root, samples.facts(), disk=samples.quick).close()
    with connect(root) as connection:
        yield connection


places = st.builds(
    Place,
    iteration=st.integers(1, 2**23 - 1),
    round=st.just(0),
    mode=st.sampled_from(Mode),
    slot=st.integers(0, 2**17 - 1),
    sample=st.none() | st.integers(0, 2**11 - 2),
) | st.builds(Place, st.just(0), st.integers(0, 255), st.sampled_from(Mode), st.integers(0, 2000), st.just(None))


@settings(max_examples=50)
@given(packed=st.lists(places.map(ids.pack), min_size=1, max_size=50))
def test_sql_writes_ids_as_python_does(connection, packed):
    sql = f"SELECT id_text(packed) FROM (SELECT unnest({packed}::BIGINT[]) AS packed)"  # noqa: S608
    assert [row[0] for row in ask(connection, one_select(sql)).rows] == [ids.text(number) for number in packed]
    assert ask(connection, one_select("SELECT id_text(NULL::BIGINT)")).rows == ((None,),)
    texts = [ids.text(number) for number in packed]
    sql = f"SELECT id_number(written) FROM (SELECT unnest({texts}) AS written)"  # noqa: S608
    assert [row[0] for row in ask(connection, one_select(sql)).rows] == packed


def test_every_view_answers_on_an_empty_and_on_a_real_run(root, samples):
    Ledger.create(root, samples.facts("empty"), disk=samples.quick).close()
    questions = {view: f"SELECT * FROM {view}" for view in VIEWS}  # noqa: S608
    both, empty = query_all(root, questions), query_all(root, questions, run="empty")
    for view in VIEWS:
        assert both[view].columns[0] == "run"
        assert "nano" in {row[0] for row in both[view].rows} or view in NOT_HERE
        assert empty[view].columns == both[view].columns
        assert len(empty[view].rows) == (view in ("runs", "run_totals"))


def test_every_id_stands_beside_its_text(root):
    assert values(root, "SELECT id FROM tasks ORDER BY task_id") == ["1-ded-000", "1-ded-001"]
    assert query(root, "SELECT id, task, format, validity FROM rollouts ORDER BY rollout_id").rows == (
        ("1-ded-000", "1-ded-000", "ok", "valid"),
        ("1-ded-000:0", "1-ded-000", "ok", "correct"),
        ("1-ded-000:1", "1-ded-000", "ok", "wrong"),
        ("1-ded-001", "1-ded-001", "ok", "error"),
    )
    assert query(root, "SELECT id, parent, parent_iteration FROM task_parents").rows == (
        ("1-ded-000", "0.2-ded-004", 0),
    )
    assert query(root, "SELECT id, input, output FROM tasks WHERE verdict = 'valid'").rows == (("1-ded-000", "1", "2"),)
    assert values(root, "SELECT logprobs FROM tokens WHERE id = '1-ded-000'") == [[-0.5, -1.5]]


def test_runs_and_stages_tell_where_a_run_is(root, samples):
    ledger = Ledger.open(root, "nano")
    assert query(root, "SELECT run, seed, name, iterations, state, config_hash, ledger_hash FROM runs").rows == (
        ("nano", 42, "nano", 1, "idle", "c0ffee", ledger.ledger_hash()),
    )
    with Ledger.open(root, "nano", write=True, disk=samples.quick) as writer:
        with pytest.raises(ZeroDivisionError), writer.begin(Position(2, Stage.PROPOSE), provenance=samples.code):
            _ = 1 / 0
        with writer.begin(Position(2, Stage.PROPOSE), provenance=samples.code):
            assert values(root, "SELECT state FROM runs") == ["running"]
            found = query(
                root, "SELECT attempt, outcome, error FROM attempts WHERE iteration = 2 ORDER BY attempt"
            ).rows
    assert found == ((1, "failed", "ZeroDivisionError: division by zero"), (2, "running", None))
    logged = tuple((one.attempt, one.outcome.value, one.error) for one in Ledger.open(root, "nano").attempts())
    assert query(root, "SELECT attempt, outcome, error FROM attempts").rows == logged
    assert logged[0] == (1, "sealed", None)
    start = json.loads((root / "nano" / "attempts.jsonl").read_text().splitlines()[0])
    with (root / "nano" / "attempts.jsonl").open("a") as log:  # a kill leaves a start without an end, and torn lines
        log.write(json.dumps(start | {"iteration": 3, "pid": 2**22, "process": "gone"}) + '\n{"event": "sta')
    assert query(root, "SELECT outcome, ended FROM attempts WHERE iteration = 3").rows == (("killed", None),)
    assert values(root, "SELECT sum(rows) FROM stages WHERE stage = 'verify'") == [6]


def test_all_runs_answer_together(root, samples):
    with Ledger.create(root, samples.facts("other"), disk=samples.quick) as other:
        samples.seal(other, samples.iteration(1) | samples.iteration(2))
    assert query(root, "SELECT run, count(*) FROM tasks GROUP BY ALL ORDER BY run").rows == (("nano", 2), ("other", 4))
    assert query(root, "SELECT run, count(*) FROM tasks GROUP BY ALL", run="other").rows == (("other", 4),)


def test_a_fork_has_its_own_rows_among_all_runs_and_its_whole_history_when_asked_alone(root, samples):
    point = Ledger.open(root, "nano").sealed()[-1]
    with Ledger.open(root, "nano", write=True, disk=samples.quick) as parent:
        samples.seal(parent, samples.iteration(2))
    grown = Parent(run="nano", at="2/propose", before={str(point.position): point.integrity})
    with Ledger.create(root, replace(samples.facts("child"), parent=grown), disk=samples.quick) as child:
        samples.seal(child, samples.iteration(2) | samples.iteration(3))
        hashed = child.ledger_hash()
    each = "SELECT run, iteration, count(*) FROM {} GROUP BY ALL ORDER BY ALL"
    for view, rows in (("tasks", 2), ("stages", 5), ("attempts", 5), ("costs", 5)):
        both = (("child", 2, rows), ("child", 3, rows), ("nano", 1, rows), ("nano", 2, rows))
        assert query(root, each.format(view)).rows == both, view
        alone = tuple(("child", iteration, rows) for iteration in (1, 2, 3))
        assert query(root, each.format(view), run="child").rows == alone, view
        assert query(root, each.format(view), run="nano").rows == both[2:], view
    facts = "SELECT iterations, ledger_hash, parent, forked_at FROM runs WHERE run = 'child'"
    assert query(root, facts).rows == query(root, facts, run="child").rows == ((3, hashed, "nano", "2/propose"),)
    assert query(root, "FROM family").rows == (("child", "nano", "2/propose", 1),)
    shutil.rmtree(root / "nano")
    with pytest.raises(LedgerError, match="Put the run nano back"):
        query(root, "FROM runs")


def test_a_root_with_any_name_can_be_asked(tmp_path, samples):
    for name in ("it's [odd]*?", "ü {x}"):
        with Ledger.create(tmp_path / name, samples.facts(), disk=samples.quick) as ledger:
            samples.seal(ledger, samples.iteration())
        assert values(tmp_path / name, "SELECT count(*) FROM rollouts") == [4]
    (tmp_path / "link").symlink_to(tmp_path / name, target_is_directory=True)
    assert values(tmp_path / "link", "SELECT count(*) FROM rollouts") == [4]


def test_only_what_a_seal_names_is_read(root):
    stray = partition_of(root / "nano", Position(2, Stage.VALIDATE))
    source = partition_of(root / "nano", Position(1, Stage.VALIDATE)) / "tasks.parquet"
    (root / "nano" / "scratch" / "x").mkdir(parents=True)
    (root / "nano" / "scratch" / "x" / "tasks.parquet").write_bytes(source.read_bytes())
    (source.parent / "more.parquet").write_bytes(source.read_bytes())
    assert not stray.exists()
    assert values(root, "SELECT count(*) FROM tasks") == [2]


def truncate(path):
    path.write_bytes(path.read_bytes()[:100])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


def empty_footer(path):
    path.write_bytes(path.read_bytes()[:-40] + bytes(40))


def break_seal(path):
    path.with_name("seal.json").write_text("{")


def break_facts(path):
    (path.parents[3] / "run.json").write_text("{}")


@pytest.mark.parametrize("damage", [truncate, flip, empty_footer, Path.unlink, break_seal, break_facts])
def test_a_damaged_run_is_left_out_and_the_others_answer(root, samples, damage):
    with Ledger.create(root, samples.facts("other"), disk=samples.quick) as other:
        samples.seal(other, samples.iteration())
    damage(partition_of(root / "nano", Position(1, Stage.VALIDATE)) / "tasks.parquet")
    found = query(root, "SELECT run, count(program) + sum(length(reason)) FROM tasks GROUP BY ALL")
    assert [row[0] for row in found.rows] == ["other"]
    assert list(found.left_out) == ["nano"]
    (message,) = left_out_messages(root, found.left_out)
    assert re.search(r"nano/(ledger/000001/validate/(tasks\.parquet|seal\.json)|run\.json) ", message)
    assert message.endswith(f"azr audit --root {root} --run nano")
    with pytest.raises(LedgerError):
        query(root, "SELECT sum(length(reason)) FROM tasks", run="nano")
    shutil.rmtree(root / "other")
    with pytest.raises(LedgerError):
        query(root, "SELECT sum(length(reason)) FROM tasks")


def test_a_damaged_run_stays_in_the_list_of_runs(root, samples):
    with Ledger.create(root, samples.facts("other"), disk=samples.quick) as other:
        samples.seal(other, samples.iteration())
    break_facts(partition_of(root / "nano", Position(1, Stage.VALIDATE)) / "tasks.parquet")
    assert query(root, "SELECT run, state, iterations, problem LIKE '%run.json is damaged%' FROM runs").rows == (
        ("other", "idle", 1, None),
        ("nano", "damaged", None, True),
    )
    with pytest.warns(UserWarning, match="run nano is damaged and left out"), connect(root) as connection:
        assert connection.sql("SELECT count(*) FROM tasks").fetchall() == [(2,)]


def test_no_ledger_is_said_plainly(root, tmp_path):
    with pytest.raises(LedgerError, match="There is no ledger here"):
        query(tmp_path / "none", "SELECT 1")
    with pytest.raises(LedgerError, match="There is no run nope"):
        query(root, "SELECT 1", run="nope")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("sql", "complaint"),
    [
        ("SELECT nope FROM tasks", "(?s)nope.*Views: runs, family"),
        ("SELECT * FROM nope", "(?s)nope.*Views: runs, family"),
        ("SELEC 1", "syntax error"),
        ("", "takes exactly one SELECT from the views; this is nothing"),
        ("SELECT 1; SELECT 2", "this is SELECT, SELECT"),
        ("DROP VIEW tasks", "read-only .* this is DROP"),
        ("INSERT INTO runs SELECT * FROM runs", "this is INSERT"),
        ("SELECT 1 / 'x'", "Conversion Error"),
        ("SELECT error('x')", "Invalid Input Error: x"),
        ("WITH x AS (DELETE FROM runs RETURNING *) FROM x", "this is a SELECT with DELETE"),
        ("FROM read_csv('/etc/passwd')", r"this is a SELECT from read_csv\(\), which may leave the ledger"),
        ("SELECT * FROM root", "(?s)root.*Views"),  # a Python variable of the caller is no table
    ],
)
def test_a_query_that_cannot_be_answered_is_a_config_error(root, sql, complaint):
    with pytest.raises(ConfigError, match=complaint):
        query(root, sql)


GOOD = (
    "SELECT avg(total) FROM rewards",
    "FROM rewards LIMIT 1",
    "SUMMARIZE rewards",
    "DESCRIBE rewards",
    "WITH a AS (SELECT * FROM rewards) SELECT count(*) FROM a",
    "SHOW TABLES",
    "FROM (PIVOT rewards ON mode IN ('deduction', 'abduction') USING avg(total))",
    "SELECT 1;",
)
BAD = (
    "COPY (SELECT 1) TO '{sealed}'",
    "COPY (SELECT 1) TO '{sealed}' (use_tmp_file false)",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{sealed}' (use_tmp_file false)",
    "PREPARE q AS COPY (SELECT 1) TO '{sealed}' (use_tmp_file false)",
    "EXECUTE q",
    "SELECT 1; COPY (SELECT 1) TO '{sealed}' (use_tmp_file false)",
    "COPY (SELECT 1) TO '{folder}/new.parquet'",
    "ATTACH '{folder}/x.duckdb'",
    "ATTACH '{sealed}'",
    "EXPORT DATABASE '{folder}/x'",
    "SELECT * FROM read_parquet('{other}')",
    "SELECT * FROM '{other}'",
    "SELECT * FROM read_parquet('{folder}/*.parquet')",
    "SELECT * FROM read_parquet('{sealed_folder}/../solve/../../../../other.parquet')",
    "SELECT * FROM read_text('/etc/hostname')",
    "SELECT * FROM read_csv('/proc/self/environ')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM query('COPY (SELECT 1) TO ''{sealed}''')",
    "SET enable_external_access = true",
    "RESET enable_external_access",
    "SET allowed_paths = ['{other}']",
    "PRAGMA enable_logging",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SELECT * FROM enable_logging('QueryLog', storage='file', storage_path='{folder}/log')",
    "DROP VIEW rewards",
    "CREATE OR REPLACE VIEW rewards AS SELECT 1",
    "CREATE TABLE x AS SELECT 1",
    "DELETE FROM stages",
    "UPDATE stages SET rows = 0",
    "SELECT * FROM 'http://localhost:1/x.parquet'",
    "CHECKPOINT",
    "CALL pragma_version()",
    # What DuckDB 2 calls a SELECT although it writes, at any depth.
    "WITH x AS (COPY runs TO '{sealed}' (use_tmp_file false)) SELECT * FROM x",
    "WITH x AS MATERIALIZED (COPY runs TO '{sealed}' (format parquet, use_tmp_file false)) SELECT 1",
    "SELECT (WITH x AS (COPY runs TO '{sealed}' (use_tmp_file false)) SELECT count(*) FROM x)",
    "FROM (WITH x AS (COPY runs TO '{sealed}' (use_tmp_file false)) FROM x)",
    "WITH a AS (WITH x AS (COPY runs TO '{sealed}' (use_tmp_file false)) FROM x) FROM a",
    "WITH x AS (COPY runs TO '{folder}/new.parquet') SELECT * FROM x",
    "WITH x AS (COPY runs TO '{sealed_folder}/new.parquet') SELECT * FROM x",
    "WITH x AS (DELETE FROM raw.sealed RETURNING *) SELECT * FROM x",
    "WITH x AS (INSERT INTO raw.living VALUES (1, '') RETURNING *) SELECT * FROM x",
    "WITH x AS (UPDATE raw.runs SET seed = 1 RETURNING *) SELECT * FROM x",
    "SELECT * FROM query('WITH x AS (COPY runs TO ''{sealed}'' (use_tmp_file false)) FROM x')",
    "SELECT * FROM query_table('{other}')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT * FROM system.main.read_csv('/etc/passwd')",
    "SELECT * FROM \"READ_CSV\"('/etc/passwd')",
    "SELECT * FROM read_duckdb('{other}')",
    "SELECT * FROM parquet_metadata('{sealed}')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM '{other}' AT (VERSION => 1)",
    "DESCRIBE SELECT * FROM read_csv('/etc/passwd')",
    "SUMMARIZE '{other}'",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM which_secret('s3://x', 's3')",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM create_external_resource('a')",
    "SELECT getenv('HOME')",
    "FROM force_checkpoint()",
)


def state(folder):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def attacked(tmp_path_factory, samples):
    folder = tmp_path_factory.mktemp("attacked")
    with Ledger.create(folder / "runs", samples.facts(), disk=samples.quick) as ledger:
        samples.seal(ledger, samples.iteration())
    pq.write_table(pa.table({"secret": [1]}), folder / "other.parquet")
    return folder


@pytest.mark.parametrize("sql", GOOD)
def test_questions_are_answered(attacked, sql):
    assert query(attacked / "runs", sql).rows


@pytest.mark.parametrize("sql", BAD)
def test_attacks_are_stopped_and_change_nothing(attacked, sql):
    sealed = partition_of(attacked / "runs" / "nano", Position(1, Stage.VERIFY)) / "rewards.parquet"
    written = sql.format(sealed=sealed, sealed_folder=sealed.parent, folder=attacked, other=attacked / "other.parquet")
    before = state(attacked)
    with pytest.raises((ConfigError, LedgerError)):
        query(attacked / "runs", written)
    assert state(attacked) == before
