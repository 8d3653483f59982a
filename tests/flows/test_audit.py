"""`azr audit` as a person meets it: a sound run, and runs that someone had a hand in."""

import json
import os
import shutil
from pathlib import Path

import pytest

from flows import audit as auditing
from flows import shares
from flows.config import RunConfig, validated
from flows.session import facts_of
from models.engines.base import Request
from models.engines.scripted import ScriptedEngine
from storage.commit import Disk
from storage.ids import Position, Stage
from storage.layout import partition_of
from storage.ledger import Ledger
from storage.seals import Parent
from storage.seeds import rng
from tasks.propose import propose
from tasks.update import update
from tasks.validate import validate
from tasks.workshop import Workshop

QUICK = Disk(durable=False)
OLD = Path(__file__).parents[1] / "storage" / "data"


def writer(request: Request) -> str:
    draw = rng(request.seed).randrange(100)
    if "induction" in request.prompt:
        return "".join(f"<|input|>'{draw}{letter}'" for letter in "abcdef") + f"<|message|>hint {draw}"
    return f"<|program|>def f(a):\n    return [a, {draw}]<|input|>{draw % 3}"


def config_of(**sections: dict[str, object]) -> RunConfig:
    small = {"bootstrap": {"wanted": 9, "proposals": 3}, "sandbox": {"workers": 1}, "engine": {"threads": 1}}
    return validated({"name": "small", "seed": 4, **small, **sections})


def rounds(ledger: Ledger, config: RunConfig, *numbers: int) -> None:
    with Workshop(ledger=ledger, config=config, code_version="tests", engine=ScriptedEngine(writer)) as work:
        for number in numbers:
            if number == 0:
                update(work, 0)
                validate(work, 0)
            else:
                propose(work, 0, number)
                validate(work, 0, number)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A root with two bootstrap rounds of one run, and a fork of it with other sampling; to be read only."""
    root, config = tmp_path_factory.mktemp("made"), config_of()
    rounds(Ledger.create(root, facts_of("small", config), disk=QUICK), config, 0, 1, 2)
    ledger = Ledger.open(root, "small")
    point = Position(0, Stage.PROPOSE, 2)
    last = ledger.require(Position(0, Stage.VALIDATE, 1))
    other = config_of(sampling={"temperature": 0.5}, curriculum={"references_max": 5})
    parent = Parent(run="small", at=str(point), before={str(last.position): last.integrity})
    rounds(Ledger.create(root, facts_of("fork", other, parent), disk=QUICK), other, 2, 3)
    return root


@pytest.fixture
def root(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "runs"))


@pytest.mark.parametrize("run", ["small", "fork"])
def test_a_sound_run_exits_with_0_and_says_in_numbers_what_was_checked(azr, made, run):
    done = azr("audit", "--root", made, "--run", run)
    assert (done.code, done.err) == (0, "")
    for line in ("both hash chains", "config", "draws", "sampling", "tasks"):
        assert line in done.out
    hash_ = Ledger.open(made, run).ledger_hash()
    assert f"azr audit --root {made} --run {run} --expect {hash_}" in done.out
    assert azr("audit", "--root", made, "--run", run, "--expect", hash_).code == 0


def test_a_fork_is_audited_with_its_parents_history(azr, root):
    path = partition_of(root / "small", Position(0, Stage.VALIDATE, 1)) / "tasks.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    done = azr("audit", "--root", root, "--run", "fork", "--json")
    assert done.code == 1
    found = json.loads(done.out)["findings"]
    assert ("files", "0.1/validate") in [(one["check"], one["where"]) for one in found]
    assert str(path) in found[0]["what"]


def test_json_carries_the_whole_report(azr, made):
    done = azr("audit", "--root", made, "--run", "small", "--json")
    report = json.loads(done.out)
    assert report["ledger_hash"] == Ledger.open(made, "small").ledger_hash()
    assert report["integrity"] == Ledger.open(made, "small").last().integrity
    assert report["findings"] == []
    assert {"check": "seals", "things": 6, "findings": 0} in report["checks"]


def test_a_hash_that_was_written_down_elsewhere_must_be_that_of_the_run(azr, made):
    earlier = json.loads(azr("audit", "--root", made, "--run", "small", "--json").out)["ledger_hash"]
    other = azr("audit", "--root", made, "--run", "fork", "--expect", earlier)
    assert other.code == 1
    assert f"no state of this ledger had the hash {earlier[:12]}" in other.out
    wrong = azr("audit", "--root", made, "--run", "fork", "--expect", "abc")
    assert wrong.code == 1
    assert "'abc' is no ledger hash" in wrong.err


def test_findings_are_named_and_the_exit_code_is_1(azr, root):
    path = partition_of(root / "small", Position(0, Stage.PROPOSE, 1)) / "rollouts.parquet"
    path.unlink()
    (path.parent / "mine.txt").touch()
    done = azr("audit", "--root", root, "--run", "small")
    assert done.code == 1
    assert f"{path} cannot be read: [Errno 2]" in done.out
    assert f"{path.parent / 'mine.txt'} is not named by the seal" in done.out
    assert "Nothing was changed. Restore what is named from a backup" in done.out


def test_an_edited_run_json_is_found(azr, root):
    path = root / "small" / "run.json"
    facts = json.loads(path.read_text())
    facts["config"]["rewards"]["wrong"] = -0.25
    path.write_text(json.dumps(facts))
    done = azr("audit", "--root", root, "--run", "small")
    assert done.code == 1
    assert f"{path} was changed: its config hashes to" in done.out
    path.write_text("{")
    torn = azr("audit", "--root", root, "--run", "small")
    assert torn.code == 1
    assert f"{path} is damaged" in torn.out
    assert "what the rows mean was not audited" in torn.out
    assert "both hash chains" in torn.out


def test_a_deep_audit_reads_with_the_tokens_of_the_base(azr, root):
    shutil.copytree(OLD / "first_light", root / "old")
    report = json.loads(azr("audit", "--root", root, "--run", "old", "--deep", "--json").out)
    counts = {line["check"]: (line["things"], line["findings"]) for line in report["checks"]}
    for check in ("programs run again", "answers judged again", "completions parsed again"):
        assert counts[check][0] > 10
        assert counts[check][1] == 0


def test_a_run_that_is_not_there_is_one_clear_message(azr, made):
    done = azr("audit", "--root", made, "--run", "other")
    assert done.code == 1
    assert done.err.startswith("azr: There is no run other below")


@pytest.mark.parametrize("run", ["small", "fork"])
def test_several_processes_find_what_one_finds_in_the_same_order(azr, root, run, monkeypatch):
    for step, table in (("000000.01/propose", "rollouts"), ("000000.02/validate", "tasks")):
        path = root / "small" / "ledger" / step / f"{table}.parquet"
        path.write_bytes(path.read_bytes()[:-1])
    alone = azr("audit", "--root", root, "--run", run)
    monkeypatch.setattr(auditing, "ROWS_OF_A_PROCESS", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    together = azr("audit", "--root", root, "--run", run)
    assert alone.code == together.code == 1
    assert "findings (" in alone.out
    assert together.out == alone.out


def test_a_process_of_an_audit_that_dies_is_said(azr, root, monkeypatch):
    monkeypatch.setattr(auditing, "ROWS_OF_A_PROCESS", 1)
    monkeypatch.setattr(shares, "_work", _gone)
    done = azr("audit", "--root", root, "--run", "small")
    assert done.code == 1
    assert "A process of the audit of run small ended before its work" in done.err


def _gone(*given: object) -> None:
    os._exit(9)
