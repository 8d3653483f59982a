"""Whether a model fits a run: refused before anything is written, with what to do instead."""

import json
import shutil
from pathlib import Path

import pytest

from models.policy import policy_hash
from storage.errors import ConfigError, EngineError
from storage.ids import Position, Stage
from storage.records import Checkpoint
from tasks.base import CARD, find_base
from tasks.needs import BASE
from tasks.propose import propose
from tasks.reasoning.prompts import load_templates
from tasks.update import update
from tasks.validate import validate

NANO, PAPER = load_templates("nano"), load_templates("paper")


@pytest.fixture
def base(loop, tmp_path) -> Path:
    return loop.base_without_card(tmp_path / "base")


def write_card(base: Path, **values: object) -> None:
    (base / CARD).write_text(json.dumps(values), encoding="utf-8")


def without_marker(base: Path, marker: str, **changes: object) -> None:
    """Take one marker out of the tokenizer: its vocabulary and its special tokens; change other keys of it."""
    inner, outer = base / "tokenizer.json", base / "tokenizer_config.json"
    made, config = json.loads(inner.read_text()) | changes, json.loads(outer.read_text())
    made["added_tokens"] = [token for token in made["added_tokens"] if token["content"] != marker]
    vocabulary = made["model"]["vocab"]
    made["model"]["vocab"] = {"other" if piece == marker else piece: number for piece, number in vocabulary.items()}
    config["extra_special_tokens"].remove(marker)
    inner.write_text(json.dumps(made))
    outer.write_text(json.dumps(config))


def test_the_nano_model_fits_the_nano_templates(loop):
    found = find_base(loop.config(), NANO)
    assert (found.hash, found.iteration) == (policy_hash(found.directory), 0)
    assert json.loads((found.directory / CARD).read_text())["template_hash"] == NANO.hash


def test_any_model_fits_templates_that_no_model_must_know(loop, base):
    assert find_base(loop.config(model={"path": str(base)}), PAPER).directory == base


@pytest.mark.parametrize(
    ("card", "templates", "words"),
    [
        (None, NANO, f"was trained with no known set ({CARD} lacks), but curriculum.templates is 'nano' (hash "),
        ({"template_set": "nano", "template_hash": "0" * 32}, NANO, "was trained with 'nano' (hash 000000000000), but"),
        (
            {"template_set": "nano", "template_hash": NANO.hash},
            PAPER,
            f"was trained with 'nano' (hash {NANO.hash[:12]}",
        ),
    ],
)
def test_weights_that_were_trained_with_other_templates_are_refused(loop, base, card, templates, words):
    if card is not None:
        write_card(base, **card)
    with pytest.raises(ConfigError) as error:
        find_base(loop.config(model={"path": str(base)}), templates)
    said = str(error.value)
    assert said.startswith(f"The model in {base} ")
    assert words in said
    assert said.endswith(
        f"(hash {templates.hash[:12]}). Nothing was written. Choose the set that the model knows with "
        "--set curriculum.templates=NAME, or another model with --set model.path=DIR."
    )


def test_a_tokenizer_without_a_marker_is_refused(loop, base):
    write_card(base, template_set="nano", template_hash=NANO.hash)
    without_marker(base, "<|message|>")
    with pytest.raises(ConfigError) as error:
        find_base(loop.config(model={"path": str(base)}), NANO)
    assert str(error.value) == (
        "The tokenizer has no own token for 1 of the templates' markers: <|message|>. Nothing was written. "
        "Choose another template set, or a model whose tokenizer has them."
    )


def test_a_marker_that_is_read_as_the_unknown_token_is_refused(loop, base):
    """One id stands for it, but it stands for every other unknown word too."""
    write_card(base, template_set="nano", template_hash=NANO.hash)
    without_marker(base, "<|message|>", pre_tokenizer=None)
    with pytest.raises(ConfigError, match=r"<\|message\|>\. Nothing was written"):
        find_base(loop.config(model={"path": str(base)}), NANO)


def test_no_model_there(loop, tmp_path):
    with pytest.raises(ConfigError, match=r"model\.path is '.*/nowhere': no such directory, and not a hub name"):
        find_base(loop.config(model={"path": str(tmp_path / "nowhere")}), NANO)
    (tmp_path / "empty").mkdir()
    lacks = r"lacks config\.json, model\.safetensors, a tokenizer \(tokenizer\.json\) \(it holds nothing\)"
    with pytest.raises(ConfigError, match=lacks):
        find_base(loop.config(model={"path": str(tmp_path / "empty")}), NANO)


def test_a_base_that_does_not_fit_leaves_no_seal_and_can_be_mended(loop, base, tmp_path):
    config = loop.config(model={"path": str(base)})
    with loop.open(tmp_path / "runs", config, loop.play(config, {})) as work:
        with pytest.raises(ConfigError):
            update(work, 0)
        assert work.ledger.sealed() == []
        write_card(base, template_set="nano", template_hash=NANO.hash)
        assert update(work, 0)
        row = work.ledger.read(Checkpoint, BASE)[0]
        seal = work.ledger.seal_of(BASE)
    weights = sum(
        (base / name).stat().st_size
        for name in ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json")
    )
    assert (row.policy, row.parent, row.optimizer, row.directory) == (policy_hash(base), None, None, None)
    assert (row.optimizer_steps, seal.attempt, dict(seal.artifacts)) == (0, 2, {"policy": row.policy})
    assert row.bytes == weights + (base / "tokenizer_config.json").stat().st_size
    assert row.parameters > 10_000


def test_a_base_that_changes_after_the_run_began_is_refused_until_it_is_put_back(loop, base, tmp_path):
    write_card(base, template_set="nano", template_hash=NANO.hash)
    shutil.copytree(base, tmp_path / "kept")
    config = loop.config(model={"path": str(base)})
    began = policy_hash(base)
    with loop.open(tmp_path / "runs", config, loop.play(config, {}, otherwise="")) as work:
        update(work, 0)
        validate(work, 0)
        changed = (base / "config.json").read_text(encoding="utf-8") + "\n"
        (base / "config.json").write_text(changed, encoding="utf-8")
        with pytest.raises(EngineError) as error:
            propose(work, 0, 1)
        assert str(error.value) == (
            f"Policy {began[:12]} of iteration 0 should lie in {base}, which holds {policy_hash(base)[:12]}. "
            "Nothing was written. Put the old files back, or begin a new run: azr train --run NAME --config FILE"
        )
        assert work.ledger.seal_of(Position(0, Stage.PROPOSE, 1)) is None
        shutil.copy(tmp_path / "kept" / "config.json", base)
        assert propose(work, 0, 1)
