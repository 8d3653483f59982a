"""The config of a run: every file loads, every fault is named with the near miss, identity is told from operational."""

import contextlib
import itertools
import json

import pytest
from azr_process import NANO, REPOSITORY

from flows.config import changed_identity, config_hash, identity, leaves, resolve, validated
from storage.config import Key
from storage.errors import ConfigError

FILES = sorted((REPOSITORY / "configs").glob("*.toml"))


def refused(*settings, file=None):
    with pytest.raises(ConfigError) as error:
        resolve(file, settings)
    return str(error.value)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_config_file_loads_and_says_where_its_values_come_from(file):
    resolved = resolve(file)
    said = [path for path, source in resolved.sources.items() if source == str(file)]
    assert said
    assert list(resolved.sources) == [leaf.path for leaf in leaves(resolved.config)]
    assert validated(resolved.config.model_dump(mode="json")) == resolved.config


def test_every_key_is_described_and_marked():
    found = list(leaves(resolve(None).config))
    assert len(found) > 50
    for leaf in found:
        assert leaf.description, leaf.path
        assert isinstance(leaf.key, Key), leaf.path
    assert {leaf.path for leaf in found} >= {"seed", "name", "iterations", "model.path", "update.learning_rate"}


def test_a_config_survives_json():
    config = resolve(NANO, ["update.betas=[0.5, 0.25]", "curriculum.modes=['deduction']"]).config
    assert config.update.betas == (0.5, 0.25)
    again = validated(json.loads(json.dumps(config.model_dump(mode="json"))))
    assert again == config
    assert config_hash(again) == config_hash(config)


def test_later_sources_win_and_are_named(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text("seed = 3\n[update]\nlearning_rate = 0.5\nsteps = 2\n")
    base = resolve(None, ["seed=2", "curriculum.probes=5"]).config
    config, sources = resolve(file, ["update.steps=4"], base=base)
    assert (config.seed, config.update.learning_rate, config.update.steps) == (3, 0.5, 4)
    assert config.curriculum.probes == 5
    assert sources["seed"] == str(file)
    assert sources["update.steps"] == "--set update.steps=4"
    assert sources["curriculum.probes"] == "the run"
    assert resolve(file).sources["curriculum.probes"] == "default"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("name=plain", "plain"),
        ('name="quoted"', "quoted"),
        ("name=with-dash_9", "with-dash_9"),
        ("model.path=./a dir/x=y", "./a dir/x=y"),
        ("update.learning_rate=1e-4", 1e-4),
        ("sandbox.allow_unsafe=true", True),
        ("curriculum.modes=['abduction', 'induction']", ["abduction", "induction"]),
    ],
)
def test_settings_are_toml_values_or_plain_words(setting, value):
    path = setting.partition("=")[0]
    config = resolve(None, [setting]).config
    assert next(leaf.value for leaf in leaves(config) if leaf.path == path) == value


@pytest.mark.parametrize("setting", ["seed", "=3", "", "seed 3"])
def test_a_setting_without_key_and_value_is_refused(setting):
    message = refused(setting)
    assert repr(setting) in message
    assert "key=value" in message


@pytest.mark.parametrize(
    ("setting", "meant"),
    [
        ("sede=3", "seed"),
        ("itterations=3", "iterations"),
        ("update.learnin_rate=1e-3", "update.learning_rate"),
        ("curriculum.probe=3", "curriculum.probes"),
        ("learning_rate=1e-3", "update.learning_rate"),  # a key of another section
        ("update.temperature=1", "sampling.temperature"),
        ("sampling.probes=3", "curriculum.probes"),
    ],
)
def test_an_unknown_key_is_answered_with_what_was_meant(setting, meant):
    message = refused(setting)
    assert setting.partition("=")[0] in message
    assert "unknown key" in message
    assert f"--set {setting}" in message
    assert f"Did you mean {meant}?" in message


def test_an_unknown_section_is_answered_too():
    assert "updtae: unknown key" in refused("updtae.learning_rate=1e-3")
    assert "Did you mean update?" in refused("updtae.learning_rate=1e-3")


def test_an_unknown_key_without_a_near_one_lists_what_is_known():
    message = refused("update.zzz=1")
    assert "Known here:" in message
    assert "learning_rate" in message


def test_keys_of_a_file_are_answered_too(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text("[sandbox]\nmemory_bm = 300\n")
    message = refused(file=file)
    assert f"sandbox.memory_bm: unknown key (from {file}). Did you mean sandbox.memory_mb?" in message


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("iterations=-1", ["iterations", "greater than or equal to 0", "-1"]),
        ("seed=-1", ["seed", "greater than or equal to 0"]),
        ("seed=1.5", ["seed", "integer", "1.5"]),
        ("seed=abc", ["seed", "integer", "'abc'"]),
        ("update.learning_rate=fast", ["update.learning_rate", "number", "'fast'"]),
        ("update.learning_rate=0", ["update.learning_rate", "greater than 0"]),
        ("update.clip=1", ["update.clip", "less than 1"]),
        ("curriculum.modes=[]", ["curriculum.modes", "at least 1"]),
        ("curriculum.modes=['deducktion']", ["curriculum.modes", "deduction", "'deducktion'"]),
        ("curriculum.visible=6", ["visible (6)", "inputs (6)"]),
        ("curriculum=3", ["curriculum", "3"]),
        ("engine.device=gpu", ["engine.device", "'auto'", "'gpu'"]),
        ("name=../x", ["name", "'../x'"]),
        ("bootstrap.identity_input=open('x')", ["bootstrap.identity_input", "literal"]),
        ("sandbox.validate_cpu_s=9", ["validate_cpu_s (9.0)", "verify_cpu_s (4.0)"]),
        ("rewards.wrong=0.5", ["wrong (0.5)"]),
    ],
)
def test_a_wrong_value_is_named_with_its_bound_and_source(setting, words):
    message = refused(setting)
    assert "Nothing was started" in message
    for word in words:
        assert word in message, message


def test_all_faults_are_named_at_once():
    message = refused("seed=-1", "update.clip=7", "sede=1")
    assert all(path in message for path in ("seed:", "update.clip:", "sede:"))


@pytest.mark.parametrize(
    "text", ["seed = ", "[update\nsteps = 1", "seed = 1\nseed = 2", "a = 'x", "[update]\n[update]\n"]
)
def test_torn_toml_is_named_with_its_place(tmp_path, text):
    file = tmp_path / "torn.toml"
    file.write_text(text)
    message = refused(file=file)
    assert f"{file} is not valid TOML" in message
    assert "(at line " in message or "(at end of document)" in message


def test_a_file_that_is_no_text_or_no_file(tmp_path):
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    assert "is not valid TOML" in refused(file=tmp_path / "b.toml")
    (tmp_path / "d.toml").mkdir()
    assert "cannot be read" in refused(file=tmp_path / "d.toml")


def test_a_missing_file_names_those_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.toml").touch()
    message = refused(file=tmp_path / "nope.toml")
    assert str(tmp_path / "nope.toml") in message
    assert "configs/mine.toml" in message


def others(leaf):
    """Other values for a key whose type is enough to find some; one of them is allowed."""
    if isinstance(leaf.value, bool):
        return [str(not leaf.value).lower()]
    if isinstance(leaf.value, int):
        return [str(leaf.value + 1), str(leaf.value - 1)]
    return [str(leaf.value * 0.999), str(leaf.value * 1.001)] if isinstance(leaf.value, float) and leaf.value else []


def with_another(leaf):
    for other in others(leaf):
        with contextlib.suppress(ConfigError):
            return resolve(NANO, [f"{leaf.path}={other}"]).config
    return None


def test_the_hash_changes_with_every_identity_key_and_with_no_other():
    config = resolve(NANO).config
    tried = {Key.IDENTITY: 0, Key.OPERATIONAL: 0}
    for leaf in leaves(config):
        changed = with_another(leaf)
        if changed is not None:
            assert (config_hash(changed) != config_hash(config)) == (leaf.key is Key.IDENTITY), leaf.path
            assert bool(changed_identity(config, changed)) == (leaf.key is Key.IDENTITY), leaf.path
            tried[leaf.key] += 1
    assert tried[Key.IDENTITY] > 30
    assert tried[Key.OPERATIONAL] > 5


def test_what_is_identity_and_what_is_operational():
    decided = identity(resolve(NANO).config)
    assert {"seed", "model.path", "curriculum.templates", "update.learning_rate", "sandbox.verify_cpu_s"} <= set(
        decided
    )
    for free in ("name", "iterations", "engine.rows", "engine.threads", "sandbox.workers", "ledger.durable"):
        assert free not in decided


def test_changed_identity_lists_old_and_new():
    lines = changed_identity(resolve(None).config, resolve(None, ["seed=9", "update.steps=3", "iterations=8"]).config)
    assert len(lines) == 2
    assert "seed" in lines[0] and "1" in lines[0] and "9" in lines[0]  # noqa: PT018 - one line's words
    assert "update.steps" in lines[1]


def test_config_show_prints_value_source_kind_and_meaning(azr):
    done = azr("config", "show", "--config", NANO, "--set", "update.steps=3", "--set", "name=mine")
    assert done.code == 0
    lines = {line.split()[0]: line for line in done.out.splitlines() if line.strip()}
    assert str(NANO) in lines["update.learning_rate"]
    assert "0.0002" in lines["update.learning_rate"]
    assert "--set update.steps=3" in lines["update.steps"]
    assert "identity" in lines["update.steps"]
    assert "mine" in lines["name"]
    assert "operational" in lines["name"]
    assert "default" in lines["update.weight_decay"]
    assert "decoupled decay" in lines["update.weight_decay"]
    everywhere = {leaf.path for leaf in leaves(resolve(None).config)}
    assert everywhere <= set(lines)


def test_config_show_of_a_run_shows_what_it_began_with(azr, trained):
    done = azr("config", "show", "--root", trained.root, "--run", trained.run)
    assert done.code == 0
    probes = next(line for line in done.out.splitlines() if line.startswith("curriculum.probes "))
    assert probes.split()[1] == "2"
    assert "the run" in probes


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--config", "nope.toml"], "There is no config file nope.toml"),
        (["--set", "sede=1"], "Did you mean seed?"),
        (["--run", "x"], "There is no ledger here"),
    ],
)
def test_config_show_refuses_as_train_does(azr, words, said):
    done = azr("config", "show", *words)
    assert done.code == 1
    assert said in done.err


def test_reasons_of_all_config_faults_are_one_message(azr):
    done = azr("train", "--config", NANO, *itertools.chain(*(("--set", one) for one in ("sede=1", "seed=x"))))
    assert done.code == 1
    assert done.err.count("azr: ") == 1
    assert "sede" in done.err
    assert "seed:" in done.err
