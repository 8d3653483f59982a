"""A policy: weights, config and tokenizer in one directory of Hugging Face layout, named by a hash of their content."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from storage.errors import ConfigError, EngineError

NANO = "nano"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"
# What decides text and where it ends; a tokenizer needs at least one of the vocabularies.
VOCABULARIES = (TOKENIZER, "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
TOKENIZER_FILES = (
    *VOCABULARIES,
    "added_tokens.json",
    "generation_config.json",
    "chat_template.jinja",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer_config.json",
)
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?")
_HUB_FILES = [CONFIG, WEIGHTS, INDEX, "model-*.safetensors", "LICENSE*", *TOKENIZER_FILES]
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class PolicyRef:
    """A policy by its hash. `directory` is where it lies now; `iteration`, whose update made it, is for reading."""

    hash: str
    directory: Path
    iteration: int


def resolve_base(path: str) -> Path:
    """The directory of the base model named by the config: `nano`, a local directory, or a hub name.

    Raises ConfigError when it is none of these, when the directory lacks files, or when the hub cannot be reached.
    """
    local = local_base(path)
    if local is not None:
        directory = local
    elif _HUB_NAME.fullmatch(path):
        directory = _download(path)
    else:
        raise ConfigError(
            f"model.path is {path!r}: no such directory, and not a hub name like Qwen/Qwen3-0.6B. Nothing was "
            f"written. Run: azr train --set model.path={NANO}, or name a directory that holds {CONFIG}."
        )
    require_files(directory)
    return directory


def local_base(path: str) -> Path | None:
    """The directory of the base model where no hub is needed to know it: `nano`, or a local directory."""
    if path == NANO:
        return Path(__file__).parent / NANO
    try:
        found = Path(path).expanduser()
        return found.resolve() if found.is_dir() else None
    except (OSError, RuntimeError):  # a name too long for the file system, or the home of nobody
        return None


def require_files(directory: Path) -> None:
    """Raise ConfigError unless the directory holds a config, safetensors weights and a tokenizer."""
    missing = list(_missing(directory))
    if missing:
        held = ", ".join(sorted(entry.name for entry in directory.iterdir())[:8]) if directory.is_dir() else "nothing"
        raise ConfigError(
            f"{directory} is not a model: it lacks {', '.join(missing)} (it holds {held or 'nothing'}). Nothing was "
            "written. Save one there with save_pretrained of model and tokenizer, or set model.path to another."
        )


def policy_files(directory: Path) -> list[str]:
    """Names of the files that decide what the policy writes: config, tokenizer and weights, sorted.

    Raises EngineError when the list of shards cannot be read.
    """
    weights = [WEIGHTS] if (directory / WEIGHTS).is_file() else _shards(directory)
    present = [name for name in (CONFIG, *TOKENIZER_FILES) if (directory / name).is_file()]
    return sorted(present + weights)


def policy_hash(directory: Path) -> str:
    """The policy's name: sha256 (hex) over names and contents of `policy_files`.

    Licences and READMEs do not count. Raises EngineError when a file cannot be read.
    """
    try:
        return combine({name: file_hash(directory / name) for name in policy_files(directory)})
    except OSError as error:
        raise EngineError(f"The model in {directory} could not be read: {error}. Nothing was written.") from error


def combine(hashes: dict[str, str]) -> str:
    """One sha256 over file hashes by name, whatever their order."""
    written = "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))
    return hashlib.sha256(written.encode()).hexdigest()


def file_hash(path: Path) -> str:
    """Sha256 (hex) of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def count_parameters(directory: Path) -> int:
    """Number of weights in the policy's safetensors files, read from their headers.

    Raises EngineError when a file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    count = 0
    try:
        for name in (name for name in policy_files(directory) if name.endswith(".safetensors")):
            with safe_open(directory / name, framework="np") as tensors:
                count += sum(math.prod(tensors.get_slice(key).get_shape()) for key in tensors.keys())  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise EngineError(f"The model in {directory} could not be read: {error}. Nothing was written.") from error
    return count


def context_length(directory: Path) -> int | None:
    """How many positions the model has, prompt and completion together; None when its config does not say.

    Raises EngineError when the config cannot be read.
    """
    config = _read_json(directory / CONFIG)
    found = config.get("max_position_embeddings", config.get("n_positions"))
    return found if isinstance(found, int) else None


def _missing(directory: Path) -> Iterable[str]:
    if not (directory / CONFIG).is_file():
        yield CONFIG
    if not (directory / WEIGHTS).is_file() and not (directory / INDEX).is_file():
        yield WEIGHTS
    if not any((directory / name).is_file() for name in VOCABULARIES):
        yield f"a tokenizer ({TOKENIZER})"


def _shards(directory: Path) -> list[str]:
    if not (directory / INDEX).is_file():
        raise EngineError(f"{directory} holds neither {WEIGHTS} nor {INDEX}. Nothing was written.")
    shards = _read_json(directory / INDEX).get("weight_map")
    if not isinstance(shards, dict):
        raise EngineError(f"{directory / INDEX} names no shards (no weight_map). Nothing was written.")
    return [INDEX, *sorted({Path(str(name)).name for name in shards.values()})]


def _read_json(path: Path) -> dict[str, object]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError(f"{path} could not be read: {error}. Nothing was written.") from error
    if not isinstance(read, dict):
        raise EngineError(f"{path} holds no JSON object. Nothing was written.")
    return read


def _download(path: str) -> Path:
    """A snapshot of a hub repository, from the local cache when the hub cannot be reached; safetensors only."""
    name, _, revision = path.partition("@")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=_HUB_FILES))
    except (OSError, HFValidationError) as error:  # the hub's network and cache errors are OSErrors
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"model.path is {path!r}: no such directory here, and the hub did not give it ({reason}). Nothing was "
            f"written. Where there is a network run: hf download {name}; or set model.path to a local directory."
        ) from error
