"""What a checkpoint directory says about itself, and what can be done with checkpoints without loading them.

Nothing here imports torch.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from models.policy import PolicyRef, file_hash
from storage.errors import EngineError
from storage.layout import CHECKPOINTS

MANIFEST = "manifest.json"
OPTIMIZER = "optimizer"
STATE = "state.safetensors"
_NAME = re.compile(r"\d{6,}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a published directory says about itself."""

    policy: str
    parent: str  # hash of the policy that the update started from
    iteration: int
    optimizer: str  # hash of the optimizer state
    optimizer_steps: int
    parameters: int
    bytes: int  # of the files that transformers loads
    files: dict[str, str]  # name to sha256, the optimizer's state not among them


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A checkpoint that is in its place."""

    policy: PolicyRef
    optimizer_hash: str
    optimizer_steps: int
    bytes: int
    parameters: int


def verify(directory: Path) -> Manifest:
    """Read every file of a checkpoint and compare it with the manifest; raises EngineError naming what differs.

    The optimizer's state is checked where it is still kept.
    """
    manifest = read_manifest(directory)
    wrong = [name for name, digest in manifest.files.items() if _hash_or_none(directory / name) != digest]
    state = directory / OPTIMIZER / STATE
    if state.is_file() and file_hash(state) != manifest.optimizer:
        wrong.append(f"{OPTIMIZER}/{STATE}")
    if wrong:
        raise EngineError(
            f"Checkpoint {directory} does not match its manifest: {', '.join(wrong)} changed or missing. Nothing was "
            "written. Restore the files from a copy, or fork the run before this iteration."
        )
    return manifest


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a checkpoint, believed as it stands; raises EngineError when there is none."""
    try:
        return Manifest(**json.loads((directory / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise EngineError(
            f"{directory} has no readable {MANIFEST}: {error}. Nothing was written. Restore the file from a copy, "
            "or fork the run before this iteration."
        ) from error


def published(directory: Path) -> Published:
    """A checkpoint as it stands in its place, by its manifest; raises EngineError when there is none."""
    manifest = read_manifest(directory)
    return Published(
        policy=PolicyRef(manifest.policy, directory, manifest.iteration),
        optimizer_hash=manifest.optimizer,
        optimizer_steps=manifest.optimizer_steps,
        bytes=manifest.bytes,
        parameters=manifest.parameters,
    )


def list_checkpoints(run_directory: Path) -> list[Path]:
    """Directories of all published checkpoints, oldest first."""
    found = (run_directory / CHECKPOINTS).glob("[0-9]*-*")
    return sorted(path for path in found if _NAME.fullmatch(path.name))


def checkpoint_name(iteration: int, policy: str) -> str:
    """Name of the directory of a checkpoint: its iteration, and the beginning of the policy's hash."""
    return f"{iteration:06d}-{policy[:12]}"


def _hash_or_none(path: Path) -> str | None:
    return file_hash(path) if path.is_file() else None
