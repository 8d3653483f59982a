import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from storage.attempts import Outcome
from storage.errors import ConfigError, LedgerError
from storage.ids import Position, Stage
from storage.layout import now_us, partition_of, run_names
from storage.ledger import Ledger
from storage.records import Reward, Rollout, Task, Tokens

VALIDATE, SOLVE, UPDATE = (Position(1, stage) for stage in (Stage.VALIDATE, Stage.SOLVE, Stage.UPDATE))
NEXT = Position(2, Stage.PROPOSE)


def writer(root, samples):
    return Ledger.open(root, "nano", write=True, disk=samples.quick)


def files_below(directory):
    return sorted(path.relative_to(directory) for path in directory.rglob("*"))


def test_what_was_sealed_can_be_read(root, samples):
    ledger = Ledger.open(root, "nano")
    assert [seal.position for seal in ledger.sealed()] == [Position(1, stage) for stage in Stage]
    assert ledger.read(Task, VALIDATE) == samples.iteration()[VALIDATE][Task]
    assert ledger.read(Tokens, SOLVE) == []
    assert ledger.seal_of(NEXT) is None
    assert ledger.facts == ledger.facts.__class__(**{**_fields(samples.facts()), "created_us": ledger.facts.created_us})
    assert ledger.verify() == []
    assert sorted(path.name for path in partition_of(root / "nano", VALIDATE).iterdir()) == [
        "seal.json",
        "tasks.parquet",
    ]


def _fields(facts):
    return {name: getattr(facts, name) for name in facts.__dataclass_fields__}


def test_two_runs_that_compute_the_same_have_one_hash(root, samples):
    with Ledger.create(root, samples.facts("other"), disk=samples.quick) as other:
        stages = samples.iteration()
        stages[VALIDATE][Task] = [samples.task(1, 1, verdict="error", reason="ValueError: no", outputs=(), cpu_us=999),
                                  samples.task(1, 0, memory_kb=999)]  # fmt: skip
        samples.seal(other, stages)
        assert other.ledger_hash() == Ledger.open(root, "nano").ledger_hash()
        samples.seal(other, {NEXT: {Rollout: []}})
        assert other.ledger_hash() != Ledger.open(root, "nano").ledger_hash()


def test_reading_creates_nothing_and_sees_what_is_sealed_since(root, samples):
    before = files_below(root)
    reader = Ledger.open(root, "nano")
    reader.read(Task, VALIDATE), reader.attempts(), reader.verify(), reader.owner()
    with pytest.raises(LedgerError, match="not open for writing"):
        reader.begin(NEXT, provenance=samples.code)
    assert files_below(root) == before
    with writer(root, samples) as ledger:
        samples.seal(ledger, {NEXT: {Rollout: []}})
    assert reader.seal_of(NEXT) is None
    reader.refresh()
    assert reader.require(NEXT).inputs == {"1/update": reader.require(UPDATE).content}


def test_whoever_comes_second_discards_its_attempt(root, samples):
    with writer(root, samples) as ledger:
        before = ledger.require(VALIDATE), ledger.ledger_hash()
        with ledger.begin(VALIDATE, provenance=samples.code) as attempt:
            assert attempt.number == 2
            assert attempt.seal({Task: []}) == before[0]
        assert (ledger.require(VALIDATE), ledger.ledger_hash()) == before
        assert [record.outcome for record in ledger.attempts()][1:3] == [Outcome.SEALED, Outcome.DISCARDED]
        assert not any((root / "nano" / "scratch").iterdir())
        assert ledger.verify() == []


def test_a_stage_whose_input_is_not_sealed_names_the_command_that_makes_it(root, samples):
    with writer(root, samples) as ledger, pytest.raises(LedgerError) as caught:
        ledger.begin(Position(2, Stage.SOLVE), inputs=[Position(2, Stage.VALIDATE)], provenance=samples.code)
    assert "Stage solve of iteration 2 needs 2/validate, which is not sealed in run nano" in str(caught.value)
    assert f"azr rerun 2 validate --root {root} --run nano" in str(caught.value)
    assert len(Ledger.open(root, "nano").attempts()) == 5


def test_a_failed_attempt_is_recorded_and_leaves_nothing(root, samples):
    with writer(root, samples) as ledger:
        with pytest.raises(ZeroDivisionError), ledger.begin(NEXT, provenance=samples.code):
            _ = 1 / 0
        with ledger.begin(NEXT, provenance=samples.code) as attempt:
            assert attempt.number == 2
        with ledger.begin(NEXT, provenance=samples.code) as attempt:
            attempt.seal({Rollout: []})
        outcomes = [(record.outcome, record.error) for record in ledger.attempts()][-3:]
    assert outcomes == [
        (Outcome.FAILED, "ZeroDivisionError: division by zero"),
        (Outcome.FAILED, "it ended without a seal"),
        (Outcome.SEALED, None),
    ]


def test_rows_of_another_place_are_refused(root, samples):
    with writer(root, samples) as ledger:
        attempt = ledger.begin(NEXT, provenance=samples.code)
        with pytest.raises(LedgerError, match="of 2/propose was given a row of iteration 1, round 0"), attempt:
            attempt.seal({Rollout: [samples.rollout(1)]})
        assert ledger.seal_of(NEXT) is None


def test_a_table_that_a_partition_does_not_have(root):
    with pytest.raises(LedgerError, match="1/validate of run nano has no table rewards; it has: tasks"):
        Ledger.open(root, "nano").read(Reward, VALIDATE)


@pytest.mark.parametrize("what", ["seal.json", ""], ids=["seal", "directory"])
def test_a_missing_seal_that_a_later_one_names_is_an_error(root, samples, what):
    partition = partition_of(root / "nano", VALIDATE)
    if what:
        (partition / what).unlink()
    else:
        shutil.rmtree(partition)
    for write in (False, True):
        with pytest.raises(LedgerError, match="1/validate") as caught:
            Ledger.open(root, "nano", write=write)
        assert "Restore" in str(caught.value)
    if not what:
        assert "The seal of 1/validate of run nano is missing, but 1/update" in str(caught.value) or (
            "1/solve was made after it and names it" in str(caught.value)
        )
    assert not (partition / "seal.json").exists()


def test_the_last_stage_taken_away_is_just_made_again_and_the_log_tells(root, samples):
    before = Ledger.open(root, "nano").ledger_hash()
    shutil.rmtree(partition_of(root / "nano", UPDATE))
    ledger = Ledger.open(root, "nano")
    assert [finding.where for finding in ledger.verify()] == ["attempts.jsonl"]
    with writer(root, samples) as ledger:
        samples.seal(ledger, {UPDATE: samples.iteration()[UPDATE]})
        assert ledger.ledger_hash() == before
        assert ledger.require(UPDATE).attempt == 2


def test_an_edited_seal_is_an_error(root):
    path = partition_of(root / "nano", VALIDATE) / "seal.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"code_version": "innocent"}))
    with pytest.raises(LedgerError, match=r"validate/seal.json was changed after it was written"):
        Ledger.open(root, "nano")


def test_a_partition_from_another_run_does_not_fit(root, samples):
    with Ledger.create(root, samples.facts("other"), disk=samples.quick) as other:
        stages = samples.iteration()
        stages[VALIDATE][Task] = stages[VALIDATE][Task][:1]
        samples.seal(other, stages)
    target = partition_of(root / "nano", VALIDATE)
    shutil.rmtree(target)
    shutil.copytree(partition_of(root / "other", VALIDATE), target)
    with pytest.raises(LedgerError, match="1/validate of run nano is not the partition that 1/"):
        Ledger.open(root, "nano")


def test_a_partition_put_at_another_place_does_not_count(root):
    shutil.copytree(partition_of(root / "nano", UPDATE), partition_of(root / "nano", Position(2, Stage.UPDATE)))
    with pytest.raises(LedgerError, match="is the seal of 1/update"):
        Ledger.open(root, "nano")


def test_a_truncated_file_is_an_error_and_not_a_reason_to_run_again(root, samples):
    path = partition_of(root / "nano", VALIDATE) / "tasks.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with writer(root, samples) as ledger:
        with pytest.raises(LedgerError, match=r"tasks.parquet is not what was sealed: it has \d+ bytes") as caught:
            ledger.read(Task, VALIDATE)
        assert "Restore the file from a backup" in str(caught.value)
        assert ledger.seal_of(VALIDATE) is not None
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(LedgerError, match="its bytes hash to"):
            ledger.read(Task, VALIDATE)
        assert [(finding.where, "hash to" in finding.what) for finding in ledger.verify()] == [("1/validate", True)]
        path.unlink()
        with pytest.raises(LedgerError, match="No such file"):
            ledger.read(Task, VALIDATE)
        path.write_bytes(whole)
        (path.parent / "extra").touch()
        assert "extra is not named by the seal" in ledger.verify()[0].what


def test_a_root_without_a_ledger(tmp_path, root):
    for empty in (tmp_path / "none", tmp_path / "file", tmp_path / "empty"):
        if empty.name == "file":
            empty.touch()
        elif empty.name == "empty":
            (empty / "notes").mkdir(parents=True)
        before = files_below(tmp_path)
        with pytest.raises(LedgerError, match="There is no ledger here") as caught:
            Ledger.open(empty, "nano", write=True)
        assert f"azr train --root {empty}" in str(caught.value)
        assert files_below(tmp_path) == before
    with pytest.raises(LedgerError, match=r"There is no run nono under .*; there are: nano"):
        Ledger.open(root, "nono")
    with pytest.raises(ConfigError, match="cannot name a run"):
        Ledger.open(root, "../nano")


def test_other_files_below_a_root_are_ignored(root, samples):
    (root / "notes.txt").touch()
    (root / "data").mkdir()
    (root / "data" / "notes.txt").touch()
    (root / "nano" / "notes.txt").touch()
    (root / "nano" / "ledger" / ".DS_Store").touch()
    (root / "nano" / "ledger" / "000001" / "notes").mkdir()
    assert run_names(root) == ["nano"]
    assert len(Ledger.open(root, "nano").sealed()) == 5
    with pytest.raises(LedgerError, match="exists and is not a run"):
        Ledger.create(root, samples.facts("data"))
    with pytest.raises(LedgerError, match=r"Run nano exists under .* Continue it: azr train"):
        Ledger.create(root, samples.facts())


def test_a_root_that_cannot_be_written(tmp_path, samples):
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match=r"cannot be written below .*file: .*Nothing was written"):
        Ledger.create(tmp_path / "file", samples.facts())
    with pytest.raises(LedgerError, match="cannot be written below /proc/nowhere"):
        Ledger.create(Path("/proc/nowhere"), samples.facts())


SCRIPT = """
import os, resource, sys
from pathlib import Path
from storage.commit import Disk
from storage.errors import LedgerError
from storage.ids import Mode, Place, Position, Stage, pack
from storage.ledger import Ledger
from storage.records import Tokens
from storage.seals import Provenance
root, what = Path(sys.argv[1]), sys.argv[2]
if what == "nobody":
    os.setuid(65534)
try:
    with Ledger.open(root, "nano", write=True, disk=Disk(durable=False)) as ledger:
        with ledger.begin(Position(2, Stage.PROPOSE), provenance=Provenance(code_version="v")) as attempt:
            if what == "full":
                resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
            ids = [pack(Place(2, 0, Mode.DEDUCTION, slot)) for slot in range(400)]
            rows = [Tokens(iteration=2, round=0, rollout_id=i, prompt_ids=(), completion_ids=(),
                           logprobs=tuple((i * k % 10007) / 7 for k in range(100))) for i in ids]
            attempt.seal({Tokens: rows})
except LedgerError as error:
    print(error)
"""


def run_script(root, what):
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(root), what], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout


def test_a_full_disk_loses_nothing_and_the_stage_can_be_made_again(root, samples):
    before = Ledger.open(root, "nano").ledger_hash()
    said = run_script(root, "full")
    assert "Stage propose of iteration 2 of run nano could not be sealed: [Errno 27] File too large" in said
    assert "Nothing was sealed; what was sealed earlier stays as it is." in said
    assert f"azr rerun 2 propose --root {root} --run nano" in said
    ledger = Ledger.open(root, "nano")
    assert (ledger.ledger_hash(), ledger.verify()) == (before, [])
    assert not any((root / "nano" / "scratch").iterdir())
    assert ledger.attempts()[-1].outcome is Outcome.FAILED
    assert "File too large" in ledger.attempts()[-1].error
    assert run_script(root, "again") == ""
    assert Ledger.open(root, "nano").require(NEXT).attempt == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_a_run_that_belongs_to_another_user(root):
    for directory in (root, *root.parents):
        if directory.stat().st_uid == 0 and directory.is_relative_to("/tmp/pytest-of-root"):
            directory.chmod(0o755)
    said = run_script(root, "nobody")
    assert "Run nano cannot be written below" in said
    assert "Permission denied" in said


def test_leftovers_of_dead_attempts_are_swept(root, samples):
    left = root / "nano" / "scratch" / "000002.00.propose.attempt-1.4711"
    left.mkdir(parents=True)
    (left / "rollouts.parquet").write_bytes(b"half")
    Ledger.open(root, "nano")
    assert left.exists()
    writer(root, samples).close()
    assert not left.exists()


def test_a_run_killed_while_it_began_begins_again(tmp_path, samples):
    (tmp_path / "nano").mkdir()
    (tmp_path / "nano" / "run.json.partial").write_text("{")
    (tmp_path / "nano" / "writer.lock").touch()
    assert run_names(tmp_path) == []
    with Ledger.create(tmp_path, samples.facts(), disk=samples.quick) as ledger:
        assert ledger.sealed() == []
        assert ledger.facts.created_us <= now_us()


def test_bootstrap_rounds_come_in_order(tmp_path, samples):
    with Ledger.create(tmp_path, samples.facts()) as ledger:
        stages = {Position(0, stage, round): {} for round in range(3) for stage in (Stage.PROPOSE, Stage.VALIDATE)}
        samples.seal(ledger, stages)
        assert [str(seal.position) for seal in ledger.sealed()][:3] == ["0.0/propose", "0.0/validate", "0.1/propose"]
    assert (tmp_path / "nano" / "ledger" / "000000.02" / "validate" / "seal.json").exists()
    assert [seal.position for seal in Ledger.open(tmp_path, "nano").sealed()] == list(stages)


def test_artifacts_and_seeds_are_sealed(root, samples):
    with writer(root, samples) as ledger, ledger.begin(NEXT, inputs=[UPDATE], provenance=samples.code) as attempt:
        seal = attempt.seal({}, artifacts={"checkpoint": "beef"}, seeds={"sampler": 3})
    assert Ledger.open(root, "nano").require(NEXT) == seal
    assert (seal.artifacts, seal.seeds, seal.host) == ({"checkpoint": "beef"}, {"sampler": 3}, {"python": "3.12"})
    assert seal.timings.finished_us >= seal.timings.started_us
