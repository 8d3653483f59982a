import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from models import checkpoints
from models.checkpoints import OptimizerState, load_model, load_optimizer, publish
from models.manifest import list_checkpoints, published, read_manifest, verify
from models.policy import policy_hash
from storage.commit import Disk
from storage.errors import EngineError
from storage.retention import Dropped, What, drop


def state(steps=1, fill=0.5):
    moments = {"model.norm.weight": torch.full((32,), fill)}
    return OptimizerState(steps=steps, exp_avg=moments, exp_avg_sq={"model.norm.weight": torch.ones(32)}, master={})


def changed(policy, by=0.0):
    model = load_model(policy.directory)
    with torch.no_grad():
        model.get_parameter("model.norm.weight").add_(by)
    return model


def publish_one(run, policy, *, iteration=1, by=0.25, optimizer=None):
    model = changed(policy, by)
    return publish(
        run_directory=run, iteration=iteration, parent=policy, model=model, optimizer=optimizer or state(iteration)
    )


def test_transformers_loads_what_is_published(any_policy, tmp_path):
    model = load_model(any_policy.directory)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    found = publish(run_directory=tmp_path, iteration=12, parent=any_policy, model=model, optimizer=state())
    directory = found.policy.directory
    assert directory == tmp_path / "checkpoints" / f"000012-{found.policy.hash[:12]}"
    assert list((tmp_path / "checkpoints").iterdir()) == [directory]
    assert found.policy.hash == policy_hash(directory) != any_policy.hash
    loaded = AutoModelForCausalLM.from_pretrained(directory)
    for (name, wanted), (other, got) in zip(model.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(wanted, got)
    assert AutoTokenizer.from_pretrained(directory).encode("<|answer|>a") == [3, 69]
    assert found.parameters == loaded.num_parameters()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (directory / name).read_bytes() == (any_policy.directory / name).read_bytes()
    assert sorted(path.suffix for path in directory.rglob("*") if path.is_file()).count(".safetensors") == 2
    assert {path.suffix for path in directory.rglob("*") if path.is_file()} <= {".json", ".safetensors", ".jinja"}


def test_the_manifest_says_what_lies_there(policy, tmp_path):
    found = publish_one(tmp_path, policy)
    manifest = verify(found.policy.directory)
    assert (manifest.policy, manifest.parent, manifest.iteration) == (found.policy.hash, policy.hash, 1)
    assert (manifest.optimizer, manifest.optimizer_steps) == (found.optimizer_hash, 1)
    assert manifest.bytes == sum(
        (found.policy.directory / name).stat().st_size
        for name in (
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
        )
    )
    assert published(found.policy.directory) == found
    (found.policy.directory / "tokenizer.json").write_text("{}")
    with pytest.raises(EngineError, match=r"does not match its manifest: tokenizer\.json changed or missing"):
        verify(found.policy.directory)
    (found.policy.directory / "manifest.json").write_text("{")
    with pytest.raises(EngineError, match="no readable manifest"):
        read_manifest(found.policy.directory)


def test_equal_weights_give_equal_bytes(policy, tmp_path):
    first, second = (publish_one(tmp_path / name, policy) for name in "ab")
    files = [path.relative_to(first.policy.directory) for path in first.policy.directory.rglob("*") if path.is_file()]
    assert len(files) >= 6
    for name in files:
        assert (first.policy.directory / name).read_bytes() == (second.policy.directory / name).read_bytes()


def test_the_optimizer_state_comes_back(policy, tmp_path):
    wanted = OptimizerState(
        steps=7,
        exp_avg={"a.b": torch.randn(3, 2)},
        exp_avg_sq={"a.b": torch.rand(3, 2)},
        master={"a.b": torch.randn(3, 2), "c": torch.randn(1)},
    )
    found = load_optimizer(publish_one(tmp_path, policy, optimizer=wanted).policy.directory)
    assert found.steps == 7
    for kind in ("exp_avg", "exp_avg_sq", "master"):
        mine, theirs = getattr(wanted, kind), getattr(found, kind)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_an_optimizer_state_that_changed_is_refused(policy, tmp_path):
    directory = publish_one(tmp_path, policy).policy.directory
    path = directory / "optimizer" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(EngineError, match=r"optimizer/state\.safetensors changed"):
        verify(directory)
    with pytest.raises(EngineError, match="does not match its manifest"):
        load_optimizer(directory)


def test_an_equal_checkpoint_of_an_earlier_attempt_is_kept(policy, tmp_path):
    first = publish_one(tmp_path, policy)
    before = (first.policy.directory / "manifest.json").stat().st_ino
    assert publish_one(tmp_path, policy) == first
    assert (first.policy.directory / "manifest.json").stat().st_ino == before
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [first.policy.directory.name]


def test_a_damaged_checkpoint_of_an_earlier_attempt_is_not_replaced(policy, tmp_path):
    first = publish_one(tmp_path, policy)
    (first.policy.directory / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(EngineError, match=r"model\.safetensors changed or missing"):
        publish_one(tmp_path, policy)
    assert (first.policy.directory / "model.safetensors").read_bytes() == b"torn"


def test_a_place_taken_by_another_parent_is_not_replaced(policy, tmp_path):
    first = publish_one(tmp_path, policy)
    manifest = first.policy.directory / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"parent": "f" * 64}))
    with pytest.raises(EngineError, match=r"made from ffffffffffff, not .* It was not replaced"):
        publish_one(tmp_path, policy)


@pytest.mark.parametrize("broken", ["save_file", "_copy_companions", "_sync", "file_hash"])
def test_a_full_disk_leaves_no_checkpoint(policy, tmp_path, monkeypatch, broken):
    earlier = publish_one(tmp_path, policy)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, broken, full)
        with pytest.raises(EngineError, match=r"Checkpoint 2 could not be written.*No space left.*azr rerun 2 update"):
            publish_one(tmp_path, policy, iteration=2, by=0.5)
    assert list((tmp_path / "checkpoints").iterdir()) == [earlier.policy.directory]
    publish_one(tmp_path, policy, iteration=2, by=0.5)
    assert len(list_checkpoints(tmp_path)) == 2


KILLED = """
import os, sys, pathlib
from models import checkpoints, policy
def die(*_):
    print("there", flush=True)
    sys.stdin.read()
checkpoints.{victim} = die
base = policy.PolicyRef(policy.policy_hash(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[1]), 0)
model = checkpoints.load_model(base.directory)
optimizer = checkpoints.OptimizerState(steps=1, exp_avg={{}}, exp_avg_sq={{}}, master={{}})
checkpoints.publish(run_directory=pathlib.Path(sys.argv[2]), iteration=3, parent=base, model=model, optimizer=optimizer)
"""


@pytest.mark.parametrize("victim", ["_copy_companions", "_sync"])
def test_a_kill_leaves_all_or_nothing_and_the_next_attempt_cleans_up(policy, tmp_path, victim):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED.format(victim=victim), policy.directory, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout.readline() == b"there\n"
        os.kill(process.pid, signal.SIGKILL)
    left = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert left == [".000003.partial"]
    assert list_checkpoints(tmp_path) == []
    found = publish_one(tmp_path, policy, iteration=3)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [found.policy.directory.name]
    verify(found.policy.directory)


def test_an_optimizer_state_that_went_is_told_from_one_that_is_missing(policy, tmp_path):
    first, second = (publish_one(tmp_path, policy, iteration=number, by=number / 8) for number in (1, 2))
    assert list_checkpoints(tmp_path) == [first.policy.directory, second.policy.directory]
    state = first.policy.directory / "optimizer"
    thing = Dropped(
        what=What.OPTIMIZER, position="1/update", path=str(state.relative_to(tmp_path)), hash=first.optimizer_hash,
        bytes=1, policy="retention.optimizer_last = 1",
    )  # fmt: skip
    drop(tmp_path, [thing], Disk(durable=False))
    verify(first.policy.directory)
    with pytest.raises(
        EngineError, match=r"optimizer state of 1/update\) was dropped .*optimizer_last = 1.*fork --at 1 "
    ):
        load_optimizer(first.policy.directory)
    shutil.rmtree(second.policy.directory / "optimizer")
    with pytest.raises(EngineError, match="was not dropped by retention"):
        load_optimizer(second.policy.directory)


def test_there_may_be_no_checkpoints(tmp_path):
    assert list_checkpoints(tmp_path) == []


def test_shards_of_the_base_become_one_file(policy, tmp_path):
    sharded = tmp_path / "sharded"
    shutil.copytree(policy.directory, sharded)
    (sharded / "model.safetensors").unlink()
    load_model(policy.directory).save_pretrained(sharded, max_shard_size="20KB")
    assert len(list(sharded.glob("model-*.safetensors"))) > 1
    found = publish_one(tmp_path, type(policy)(policy_hash(sharded), sharded, 0))
    assert [path.name for path in found.policy.directory.glob("*.safetensors*")] == ["model.safetensors"]
    assert torch.equal(
        load_model(found.policy.directory).get_parameter("model.norm.weight"),
        changed(policy, 0.25).get_parameter("model.norm.weight"),
    )


def test_anybody_may_read_a_checkpoint(policy, tmp_path):
    directory = publish_one(tmp_path, policy).policy.directory
    assert {oct(path.stat().st_mode & 0o777) for path in directory.rglob("*") if path.is_file()} == {"0o644"}
