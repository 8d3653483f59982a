"""What a new user gets wrong, and what breaks: one clear message, no traceback, and nothing lost or made."""

import contextlib
import json
import os
import resource
import shutil
from pathlib import Path

import pytest
from azr_process import NANO, REPOSITORY, TINY, Person, end_of, picture, sealed, tiny

from storage.ids import Position, Stage
from storage.ledger import Ledger

pytestmark = pytest.mark.timeout(600)
BASE = REPOSITORY / "models" / "nano"
LOOKS = (["runs"], ["status"], ["sql", "FROM runs"], ["show", "task", "1-ded-001"], ["rerun", "1", "solve"])


def complaint(done, *words, code=1):
    """The one message of a command that failed, which must hold these words."""
    assert done.code == code, done
    assert "Traceback" not in done.err + done.out
    assert done.err.count("azr: ") == 1, done.err
    for word in words:
        assert str(word) in done.err, f"{word!r} is not in: {done.err}"
    return done.err


# ---- what is said before anything begins -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--config", "nope.toml"], ["There is no config file nope.toml"]),
        (["--config", NANO, "--iterations", "-1"], ["iterations", "greater than or equal to 0", "-1"]),
        (["--config", NANO, "--set", "update.learnin_rate=1"], ["Did you mean update.learning_rate?"]),
        (["--config", NANO, "--set", "update.learning_rate=fast"], ["number", "'fast'", "--set"]),
        (["--config", NANO, "--set", "curriculum.probes"], ["key=value"]),
        (["--config", NANO, "--run", "../up"], ["'../up'", "Nothing was read or written"]),
        (["--config", NANO, "--run", ".prefect"], ["'.prefect'", "Nothing was read or written"]),
        (
            ["--config", NANO, "--set", "model.path=./nowhere"],
            ["'./nowhere'", "no such directory", "Nothing was written", "model.path=nano"],
        ),
        (["--config", NANO, "--set", "curriculum.templates=papre"], ["'papre'", "nano, paper", "Did you mean paper?"]),
        (["--config", NANO, "--set", "curriculum.templates=paper"], ["'paper'", "'nano'", "Nothing was written"]),
        ([], ["no run", "no config", "azr train --config configs/nano.toml"]),
    ],
    ids=lambda words: " ".join(map(str, words))[-40:] if isinstance(words, list) else None,
)
def test_training_is_refused_before_anything_is_made(azr, words, said):
    complaint(azr("train", *words, "--root", "made"), *said)
    assert not Path("made").exists()


def test_torn_toml_is_refused(azr, tmp_path):
    torn = tmp_path / "torn.toml"
    torn.write_text(NANO.read_text()[:100] + "\n[upd")
    complaint(azr("train", "--config", torn), torn, "is not valid TOML", "Nothing was started")
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
@pytest.mark.parametrize("kind", ["missing", "empty", "file", "strangers"])
def test_a_root_without_a_ledger(azr, words, kind):
    root = Path("there")
    if kind == "file":
        root.write_text("a file")
    elif kind != "missing":
        root.mkdir()
    if kind == "strangers":
        (root / "photos").mkdir()
    before = picture(Path.cwd())
    complaint(azr(*words, "--root", root), "There is no ledger here", "there", "azr train")
    assert picture(Path.cwd()) == before


def model_like_nano(directory, *, card=None, tokens=(), left_out=()):
    """A copy of the nano base with some of its files edited or left out."""
    shutil.copytree(BASE, directory, ignore=shutil.ignore_patterns("*.npy", "*.md", *left_out))
    if card is not None:
        known = json.loads((directory / "azr_base.json").read_text())
        (directory / "azr_base.json").write_text(json.dumps({**known, **card}))
    for token in tokens:
        for file in (directory / "tokenizer.json", directory / "tokenizer_config.json"):
            file.write_text(file.read_text().replace(json.dumps(token), json.dumps(token.replace("<|", "<|no-"))))
    return directory


def test_a_tokenizer_without_the_needed_tokens(azr, tmp_path):
    model = model_like_nano(tmp_path / "m", tokens=["<|think|>", "<|solve-induction|>"])
    done = azr("train", "--config", NANO, "--root", "made", "--set", f"model.path={model}")
    complaint(done, "2 of the templates' markers", "<|think|>", "<|solve-induction|>", "Nothing was written")
    assert not Path("made").exists()


def test_weights_that_were_trained_with_another_template_set(azr, tmp_path):
    model = model_like_nano(tmp_path / "m", card={"template_set": "older", "template_hash": "0123456789abcdef"})
    done = azr("train", "--config", NANO, "--root", "made", "--set", f"model.path={model}")
    complaint(done, model, "'older'", "0123456789ab", "'nano'", "Nothing was written")
    assert not Path("made").exists()


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_model_directory_that_lacks_files(azr, tmp_path, missing):
    model = model_like_nano(tmp_path / "m", left_out=[missing])
    done = azr("train", "--config", NANO, "--root", "made", "--set", f"model.path={model}")
    complaint(done, model, missing, "Nothing was written")
    assert not Path("made").exists()


def test_weights_that_are_no_safetensors(place, tmp_path):
    model = model_like_nano(tmp_path / "m")
    (model / "model.safetensors").write_bytes(b"half a download")
    before = picture(tmp_path / "m")
    person = Person(tmp_path / "person", PREFECT_API_URL=place.apis[0])
    done = person.azr("train", "--config", NANO, "--root", tmp_path / "r", "--set", f"model.path={model}")
    complaint(done, model)
    assert picture(tmp_path / "m") == before


@pytest.mark.parametrize("root", ["a-file", "a-file/below", "/proc/nothing-can-be-made-here"])
def test_a_root_that_cannot_be_written(azr, root):
    Path("a-file").write_text("in the way")
    done = azr("train", "--config", NANO, "--root", root)
    complaint(done, root, "cannot be written", "Nothing was written", "--root")
    assert picture(Path.cwd()).keys() == {"a-file"}


def test_a_directory_that_is_not_a_run_is_not_made_one(tmp_path):
    photos = tmp_path / "runs" / "photos"
    photos.mkdir(parents=True)
    (photos / "cat.jpg").write_text("a cat")
    before = picture(tmp_path / "runs")
    done = Person(tmp_path / "person").azr("train", "--config", NANO, "--root", tmp_path / "runs", "--run", "photos")
    complaint(done, photos, "is not a run", "Nothing was written", "--run NAME")
    assert picture(tmp_path / "runs") == before


# ---- asking a run for what it has not --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["status", "--run", "nope"], ["There is no run nope", "Runs there:", "base", "Nothing was written"]),
        (["rerun", "1", "solve", "--run", "nope"], ["There is no run nope", "base"]),
        (["show", "task", "1-ded-001", "--run", "nope"], ["There is no run nope", "base"]),
        (["config", "show", "--run", "nope"], ["There is no run nope", "base"]),
        (["show", "task", "77-ded-001", "--run", "base"], ["Run base has no task 77-ded-001", "azr sql"]),
        (["show", "task", "1-ded-999", "--run", "base"], ["Run base has no task 1-ded-999"]),
        (["show", "task", "task one", "--run", "base"], ["'task one' is not an id", "12-ded-031"]),
        (["show", "task", "1-xyz-001", "--run", "base"], ["'1-xyz-001' is not an id"]),
        (["rerun", "1", "slove", "--run", "base"], ["'slove'", "propose, validate, solve, verify, update"]),
        (["rerun", "one", "solve", "--run", "base"], ["'one' is no iteration", "0.2"]),
        (["rerun", "0", "solve", "--run", "base"], ["0.0/solve", "update, validate"]),
        (["rerun", "0.1", "update", "--run", "base"], ["0.1/update", "propose, validate"]),
        (["rerun", "1.1", "solve", "--run", "base"], ["only the bootstrap", "Say 1"]),
        (["rerun", "9", "solve", "--run", "base"], ["8/update", "not sealed", "azr rerun 8 update"]),
        (["rerun", "0.99", "propose", "--run", "base"], ["0.98/validate", "not sealed", "Nothing was written"]),
    ],
    ids=lambda words: " ".join(words)[:40],
)  # fmt: skip
def test_what_a_run_has_not(azr, trained, words, said):
    before = picture(trained.root / trained.run)
    complaint(azr(*words, "--root", trained.root), *said)
    assert picture(trained.root / trained.run) == before


def test_continuing_a_run_that_is_not_there(copied):
    done = copied.person.azr("train", "--root", copied.root, "--run", "nope")
    complaint(done, "There is no run nope", "Runs there: twin", "Nothing was written")
    assert not (copied.root / "nope").exists()


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("DROP VIEW tasks", ["read-only", "DROP"]),
        ("DELETE FROM runs", ["read-only", "DELETE"]),
        ("INSERT INTO tasks VALUES (1)", ["read-only", "INSERT"]),
        ("UPDATE runs SET seed = 3", ["read-only", "UPDATE"]),
        ("CREATE TABLE t (a INT)", ["read-only", "CREATE"]),
        ("COPY (SELECT 1) TO 'made.csv'", ["read-only", "COPY"]),
        ("COPY tasks TO 'made.parquet'", ["read-only", "COPY"]),
        ("ATTACH 'made.db'", ["read-only", "ATTACH"]),
        ("EXPORT DATABASE 'made'", ["read-only"]),
        ("SET memory_limit = '1GB'", ["read-only", "SET"]),
        ("PRAGMA database_list", ["read-only"]),
        ("INSTALL httpfs", ["read-only"]),
        ("SELECT 1; DROP VIEW tasks", ["read-only", "SELECT, DROP"]),
        ("", ["read-only", "nothing"]),
        ("SELECT * FROM read_text('/etc/passwd')", ["read-only", "read_text()"]),
        ("SELECT * FROM '/etc/passwd'", ["refuses"]),
        ("SELECT wrod FROM tasks", ["wrod", "Views: runs, ", "Nothing was run or changed"]),
        ("SELECT * FROM taskz", ["taskz", "Views: runs"]),
        ("SELECT getenv('HOME')", ["refuses"]),
        ("FROM query('DROP VIEW tasks')", ["read-only", "query()"]),
    ],
)
def test_sql_that_writes_reads_elsewhere_or_is_wrong(azr, trained, query, said):
    before = picture(trained.root / trained.run)
    complaint(azr("sql", query, "--root", trained.root), *said)
    assert picture(trained.root / trained.run) == before
    assert not list(Path.cwd().iterdir())


def test_identity_values_that_changed_are_listed_with_both_values(azr, trained):
    before = picture(trained.root / trained.run)
    more = ("--set", "seed=5", "--set", "update.steps=2", "--set", "engine.rows=8")
    done = azr(*tiny(trained.root, trained.run, 4), *more)
    message = complaint(done, "Run base began with other values", "Nothing was written", "azr train --run NAME")
    assert "seed: the run has 1, you ask for 5" in message
    assert "update.steps: the run has 1, you ask for 2" in message
    assert message.count("the run has") == 2
    assert picture(trained.root / trained.run) == before


def test_a_run_begun_under_another_python_is_not_continued(azr, copied):
    facts = copied.root / copied.run / "run.json"
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "python": "3.9"}))
    done = azr("train", "--root", copied.root, "--iterations", "3")
    complaint(done, "Python 3.9", "Nothing was written", "azr train --run NAME")


# ---- a ledger that was damaged ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def unchanged(directory):
    outside = ("azr.log", "attempts.jsonl", "index.jsonl", "writer.lock", "scratch")
    before = picture(directory, leave_out=outside)
    yield
    assert picture(directory, leave_out=outside) == before


def test_a_truncated_parquet_file_is_named_with_both_sizes(azr, copied):
    home = copied.root / copied.run
    file = home / "ledger" / "000002" / "validate" / "tasks.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[:-40])
    sizes = (f"it has {len(whole) - 40} bytes", f"its seal says {len(whole)}")
    with unchanged(home):
        for words in (["status"], ["sql", "FROM tasks"], ["show", "task", "2-ded-000"]):
            complaint(azr(*words, "--root", copied.root), file, *sizes, "Nothing was written", "backup")
        done = copied.person.azr("train", "--root", copied.root, "--iterations", "3")
        complaint(done, file, *sizes, "Nothing was written", "backup")
    file.write_bytes(whole)
    assert azr("status", "--root", copied.root).code == 0


def test_a_parquet_file_with_a_flipped_byte_is_found_when_it_is_read(azr, copied):
    file = copied.root / copied.run / "ledger" / "000002" / "validate" / "tasks.parquet"
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 255
    file.write_bytes(whole)
    assert [finding.where for finding in Ledger.open(copied.root, copied.run).verify()] == ["2/validate"]


@pytest.mark.parametrize("what", ["seal.json", "."])
def test_a_deleted_seal_that_a_later_one_names(azr, copied, what):
    home = copied.root / copied.run
    gone = home / "ledger" / "000001" / "solve" / what
    shutil.rmtree(gone) if what == "." else gone.unlink()
    before = picture(home)
    for words in (["status"], ["sql", "FROM tasks"], ["runs"], ["rerun", "1", "solve"], ["train", "--iterations", "3"]):
        complaint(azr(*words, "--root", copied.root), "solve", "missing", "Nothing was written", "backup")
    assert picture(home) == before


def test_an_edited_seal_is_named(azr, copied):
    file = copied.root / copied.run / "ledger" / "000002" / "update" / "seal.json"
    seal = json.loads(file.read_text())
    seal["artifacts"]["policy"] = "0" * 64
    file.write_text(json.dumps(seal))
    complaint(azr("status", "--root", copied.root), file, "was changed after it was written", "Nothing was written")


@pytest.mark.parametrize("text", ["", "{", '{"run": 3}'])
def test_a_torn_run_file_is_named(azr, copied, text):
    file = copied.root / copied.run / "run.json"
    file.write_text(text)
    for words in (["status"], ["train", "--iterations", "3"]):
        complaint(azr(*words, "--root", copied.root), file, "is damaged", "Nothing was written")


@pytest.mark.parametrize("kept", [None, 100_000], ids=["deleted", "cut short"])
def test_a_checkpoint_that_was_damaged_is_named(copied, kept):
    home = copied.root / copied.run
    folder = next(home.glob("checkpoints/000002-*"))
    shutil.rmtree(folder) if kept is None else os.truncate(folder / "model.safetensors", kept)
    before = sealed(copied.root, copied.run)
    done = copied.person.azr("train", "--root", copied.root, "--iterations", "3")
    complaint(done, folder.name, "000002")
    assert sealed(copied.root, copied.run) == before


# ---- a stage that fails ----------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_earlier_stages_and_the_same_command_goes_on(trained, place):
    """Every file is limited to 300 kB: tables fit, the weights of a checkpoint do not."""
    root, run, person = place.root, "full", place.person
    command = tiny(root, run)
    done = person.azr(*command, limits=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)))
    complaint(done, "update", "File too large", "azr ")
    held = sealed(root, run)
    assert Position(1, Stage.VERIFY) in held
    assert Position(1, Stage.UPDATE) not in held
    assert not list((root / run).glob("checkpoints/0*"))
    status = json.loads(person.azr("status", "--root", root, "--run", run, "--json").out)
    assert [(row["stage"], row["outcome"]) for row in status["failures"]] == [("update", "failed")]
    assert "File too large" in status["failures"][0]["error"]

    again = person.azr(*command)
    assert again.code == 0, again.err
    assert {place: attempt for place, attempt in sealed(root, run).items() if place in held} == held
    assert sealed(root, run)[Position(1, Stage.UPDATE)] == 2
    assert end_of(root, run) == end_of(trained.root, trained.run)


def test_a_disk_that_has_no_room_for_tables_says_so(place, azr):
    root, run, person = place.root, "fuller", place.person
    limits = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, 4_000))  # noqa: E731 - of the child
    done = person.azr(*tiny(root, run), limits=limits)
    complaint(done, "File too large", "azr ")
    status = json.loads(azr("status", "--root", root, "--run", run, "--json").out)
    held = sealed(root, run)
    assert Position(0, Stage.UPDATE) in held
    assert Position(1, Stage.PROPOSE) not in held
    assert "failed" in {row["outcome"] for row in status["failures"]}
    assert Ledger.open(root, run).verify() == []


def test_a_bootstrap_that_finds_no_seeds_says_why_and_stays(place, azr):
    root, run, person = place.root, "starved", place.person
    few = ("--set", "bootstrap.max_rounds=1", "--set", "bootstrap.wanted=60", "--set", "bootstrap.proposals=4")
    done = person.azr("train", "--config", NANO, "--root", root, "--run", run, *TINY, *few)
    complaint(done, "lacks seeds after 1 rounds", "of 60", "bootstrap.max_rounds")
    assert Position(0, Stage.VALIDATE, 1) in sealed(root, run)
    assert azr("status", "--root", root, "--run", run).code == 0


def test_too_little_sandbox_is_refused_by_name(azr):
    done = azr("train", "--config", NANO, "--root", "made", "--set", "sandbox.memory_mb=1")
    complaint(done, "sandbox.memory_mb", "64")
    assert not Path("made").exists()
