import json
import shutil
import subprocess
import sys

import pytest

from models.policy import context_length, policy_files, policy_hash, resolve_base
from storage.errors import ConfigError, EngineError


def test_a_local_directory_is_found(policy):
    assert resolve_base(str(policy.directory)) == policy.directory.resolve()


def test_what_is_missing_is_named(policy, tmp_path):
    directory = shutil.copytree(policy.directory, tmp_path / "model")
    (directory / "model.safetensors").unlink()
    (directory / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"lacks model\.safetensors, a tokenizer \(tokenizer\.json\) \(it holds conf"):
        resolve_base(str(directory))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"lacks config\.json, .* \(it holds nothing\)"):
        resolve_base(str(tmp_path / "empty"))


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"no such directory, and not a hub name.*model\.path=nano"):
        resolve_base(str(tmp_path / "nowhere"))


def test_a_hub_that_cannot_be_reached(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        ConfigError, match=r"no such directory here, and the hub did not give it .*hf download nobody/no"
    ):
        resolve_base("nobody/nothing@main")


def test_the_hash_is_of_what_decides(policy, tmp_path):
    directory = shutil.copytree(policy.directory, tmp_path / "elsewhere")
    assert policy_hash(directory) == policy.hash
    (directory / "README.md").write_text("words")
    assert policy_hash(directory) == policy.hash
    for name in (
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
    ):
        before = (directory / name).read_bytes()
        (directory / name).write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        assert policy_hash(directory) != policy.hash
        (directory / name).write_bytes(before)
    assert policy_hash(directory) == policy.hash


def test_shards_are_found_by_their_index(policy, tmp_path):
    directory = shutil.copytree(policy.directory, tmp_path / "sharded")
    (directory / "model.safetensors").rename(directory / "model-00001-of-00001.safetensors")
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}}))
    assert {"model-00001-of-00001.safetensors", index.name} < set(policy_files(directory))
    assert resolve_base(str(directory)) == directory.resolve()
    assert policy_hash(directory) != policy.hash
    (directory / "model-00001-of-00001.safetensors").unlink()
    with pytest.raises(EngineError, match="could not be read"):
        policy_hash(directory)
    index.write_text("[]")
    with pytest.raises(EngineError, match="holds no JSON object"):
        policy_hash(directory)


def test_context_length_under_either_name(policy, gpt2_policy, tmp_path):
    assert context_length(policy.directory) == 256
    assert context_length(gpt2_policy.directory) == 64
    (tmp_path / "config.json").write_text("{}")
    assert context_length(tmp_path) is None
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(EngineError, match="could not be read"):
        context_length(tmp_path)


def test_light_modules_import_nothing_heavy():
    light = "models.config, models.policy, models.advantages, models.samples, models.manifest, models.engines.base"
    heavy = {"torch", "transformers", "numpy", "huggingface_hub", "safetensors", "models.engines.hf"}
    code = f"import sys, {light}, models.engines.scripted; print(sorted({heavy!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
