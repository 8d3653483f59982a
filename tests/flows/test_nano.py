import json

import pytest

from flows import nano
from models.pretraining import saved_schedule
from models.tokens import load_tokenizer
from storage.errors import ConfigError
from tasks.nano.memory import read_memory


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few documents, so that a whole training takes seconds."""
    monkeypatch.setattr("tasks.nano.documents.BLOCK", 12)


def test_pretraining_publishes_a_model_and_goes_on_where_it_was(tmp_path, small_blocks, capsys):
    assert nano.pretrain(minutes=1, device="cpu", out=tmp_path, tokens=1500) == 0
    said = capsys.readouterr().out
    assert "million tokens" in said
    assert f"--set model.path={tmp_path}" in said
    facts = json.loads((tmp_path / nano.BASE).read_text())
    assert facts["tokens"] >= 1500
    assert len(read_memory(tmp_path)) == facts["programs"] > 10
    assert load_tokenizer(tmp_path).size == 397
    assert saved_schedule(tmp_path / nano.STATE).tokens == 1500

    weights = (tmp_path / "model.safetensors").read_bytes()
    assert nano.pretrain(minutes=1, device="cpu", out=tmp_path) == 0
    assert "Going on at" in capsys.readouterr().out
    assert (tmp_path / "model.safetensors").read_bytes() == weights


def test_minutes_become_tokens_by_measured_speed(tmp_path, small_blocks):
    assert nano.pretrain(minutes=0.02, device="cpu", out=tmp_path) == 0
    assert 0 < saved_schedule(tmp_path / nano.STATE).tokens < 1_000_000


def test_minutes_must_be_positive(tmp_path):
    with pytest.raises(ConfigError, match="must be positive"):
        nano.pretrain(minutes=0, device="cpu", out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_evaluation_prints_every_cell_and_the_proposals(capsys):
    assert nano.evaluate("nano", count=2, proposals=6, temperatures=(0.0,)) == 0
    said = capsys.readouterr().out
    cells = [line.split()[:4] for line in said.splitlines() if line.startswith(("program ", "structure "))]
    assert len(cells) == len({tuple(cell) for cell in cells}) == 20  # 9 cells and their sum, by both rules
    assert ["program", "0", "all", "all"] in cells
    assert said.count("n 18)") == 2
    for mode in ("deduction", "abduction", "induction"):
        assert f"{mode} proposals" in said
    assert "rejected: " in said


def test_more_problems_than_there_are_is_an_error():
    with pytest.raises(ConfigError, match="501 problems"):
        nano.evaluate("nano", count=501, proposals=0, temperatures=(0.0,))
