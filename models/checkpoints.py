"""Checkpoints: one directory per policy, published by one rename, that transformers loads and training resumes from.

``<run>/checkpoints/000012-<first 12 of the policy's hash>/`` holds model.safetensors, config, tokenizer, generation
defaults, manifest.json (a hash of every file) and ``optimizer/state.safetensors`` (AdamW's moments and step, and the
fp32 master weights where the weights themselves are not fp32). Nothing is pickled.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from models.manifest import (
    MANIFEST,
    OPTIMIZER,
    STATE,
    Manifest,
    Published,
    checkpoint_name,
    published,
    read_manifest,
    verify,
)
from models.policy import INDEX, PolicyRef, combine, file_hash, policy_files
from storage.errors import EngineError
from storage.layout import CHECKPOINTS, command
from storage.retention import explanation

_PARTIAL = ".partial"
_COMPANIONS = (".json", ".jinja", ".txt", ".model")  # what a model directory holds beside its weights
_KINDS = ("master", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerState:
    """What AdamW needs to go on, by parameter name."""

    steps: int  # optimizer steps since the base
    exp_avg: dict[str, Tensor]  # fp32; empty before the first step
    exp_avg_sq: dict[str, Tensor]
    master: dict[str, Tensor]  # fp32 weights; empty where the published weights are fp32 themselves


def load_model(directory: Path) -> PreTrainedModel:
    """The model of a directory, on the CPU, in the dtype of its weights; only safetensors are read.

    Raises EngineError when it cannot be loaded.
    """
    try:
        model = AutoModelForCausalLM.from_pretrained(
            directory, dtype="auto", local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise EngineError(f"The model in {directory} could not be loaded: {error}. Nothing was written.") from error
    if not isinstance(model, PreTrainedModel):
        raise EngineError(f"The model in {directory} is a {type(model).__name__}, not a causal language model.")
    return model


def publish(
    *, run_directory: Path, iteration: int, parent: PolicyRef, model: PreTrainedModel, optimizer: OptimizerState
) -> Published:
    """Write a checkpoint beside its place, make it durable, and move it there by one rename.

    `model` must be in the dtype to publish. Config, tokenizer and the like are the parent's, byte for byte. When the
    place is taken by an earlier attempt at the same update, that one is verified and kept. The caller is the run's
    only writer: what killed attempts left half-written is removed. Raises EngineError; then no checkpoint is left.
    """
    root = run_directory / CHECKPOINTS
    scratch = root / f".{iteration:06d}{_PARTIAL}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        for left_over in root.glob(f".*{_PARTIAL}"):
            shutil.rmtree(left_over)
        manifest = _write(scratch, iteration=iteration, parent=parent, model=model, optimizer=optimizer)
        return _settle(scratch, root / checkpoint_name(iteration, manifest.policy), manifest)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise EngineError(
            f"Checkpoint {iteration} could not be written to {root}: {error}. Earlier checkpoints are untouched. "
            "Make room or mend the disk, then run: "
            + command("rerun", iteration, "update", root=run_directory.parent, run=run_directory.name)
        ) from error


def load_optimizer(directory: Path) -> OptimizerState:
    """The optimizer state of a checkpoint, on the CPU.

    Raises EngineError when it was dropped, or does not match the manifest.
    """
    manifest = read_manifest(directory)
    path = directory / OPTIMIZER / STATE
    if not path.is_file():
        gone = explanation(directory.parents[1], path.parent, manifest.optimizer)
        raise EngineError(
            gone
            or f"Checkpoint {directory} has no optimizer state, and it was not dropped by retention, so no update "
            "can start from it. Nothing was written. Restore it from a copy, or fork the run before this iteration."
        )
    if file_hash(path) != manifest.optimizer:
        raise EngineError(
            f"The optimizer state of checkpoint {directory} does not match its manifest. Nothing was written. "
            "Restore it from a copy, or fork the run before this iteration."
        )
    tensors: dict[str, Tensor] = load_file(path)
    parts: dict[str, dict[str, Tensor]] = {kind: {} for kind in _KINDS}
    steps = int(tensors.pop("step").item())
    for key, tensor in tensors.items():
        kind, _, name = key.partition(":")
        parts[kind][name] = tensor
    return OptimizerState(steps=steps, exp_avg=parts["exp_avg"], exp_avg_sq=parts["exp_avg_sq"], master=parts["master"])


def _write(
    scratch: Path, *, iteration: int, parent: PolicyRef, model: PreTrainedModel, optimizer: OptimizerState
) -> Manifest:
    (scratch / OPTIMIZER).mkdir(parents=True)
    state = scratch / OPTIMIZER / STATE
    save_file(dict(_state_tensors(optimizer)), state)
    model.generation_config = GenerationConfig.from_dict(
        {}
    )  # the parent's file is copied below; saving checks this one strictly
    model.save_pretrained(scratch, max_shard_size="100TB")
    _copy_companions(parent.directory, scratch)
    files = {path.name: file_hash(path) for path in sorted(scratch.iterdir()) if path.is_file()}
    loaded = policy_files(scratch)
    manifest = Manifest(
        policy=combine({name: files[name] for name in loaded}),
        parent=parent.hash,
        iteration=iteration,
        optimizer=file_hash(state),
        optimizer_steps=optimizer.steps,
        parameters=model.num_parameters(),
        bytes=sum((scratch / name).stat().st_size for name in loaded),
        files=files,
    )
    (scratch / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return manifest


def _state_tensors(optimizer: OptimizerState) -> Iterator[tuple[str, Tensor]]:
    yield "step", torch.tensor(optimizer.steps)
    for kind, tensors in zip(_KINDS, (optimizer.master, optimizer.exp_avg, optimizer.exp_avg_sq), strict=True):
        for name, tensor in tensors.items():
            yield f"{kind}:{name}", tensor.contiguous()


def _copy_companions(source: Path, target: Path) -> None:
    """The parent's files beside its weights replace what saving wrote, so that only the weights change."""
    for written in target.glob("*.json"):
        written.unlink()
    for path in source.iterdir():
        licence = path.name.startswith(("LICENSE", "NOTICE"))
        if path.is_file() and (path.suffix in _COMPANIONS or licence) and path.name not in (MANIFEST, INDEX):
            shutil.copyfile(path, target / path.name)


def _settle(scratch: Path, place: Path, manifest: Manifest) -> Published:
    if place.exists():
        kept = verify(place)
        if (kept.policy, kept.parent) != (manifest.policy, manifest.parent):
            raise EngineError(
                f"{place} holds policy {kept.policy[:12]} made from {kept.parent[:12]}, not {manifest.policy[:12]} "
                f"made from {manifest.parent[:12]}. It was not replaced. Move it away, or start a run of another name."
            )
        shutil.rmtree(scratch)
        return published(place)
    for path in [*scratch.rglob("*"), scratch]:
        path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors writes files that only their owner may read
        _sync(path)
    scratch.rename(place)
    _sync(place.parent)
    return published(place)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
