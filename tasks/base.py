"""The base model of a run: found by the config, and fit for the run's templates."""

from __future__ import annotations

import json
from pathlib import Path

from models.policy import PolicyRef, context_length, count_parameters, policy_hash, resolve_base
from storage.errors import ConfigError
from tasks.loop import LoopConfig
from tasks.reasoning.prompts import TemplateSet

CARD = "azr_base.json"  # beside the weights: which template set they were trained with


def find_base(config: LoopConfig, templates: TemplateSet) -> PolicyRef:
    """The base as policy 0.

    Raises:
        ConfigError: no such model, files missing, a tokenizer without the templates' tokens, or weights that were
            trained with other templates.
        EngineError: weights that cannot be read.
    """
    directory = resolve_base(config.model.path)
    count_parameters(directory)  # raises when the weights are torn
    _require_templates(directory, templates)
    _require_tokens(directory, templates)
    _require_room(directory, config)
    return PolicyRef(policy_hash(directory), directory, 0)


def _card(path: Path) -> dict[str, str]:
    """What a base says about itself; empty when it says nothing."""
    if not path.is_file():
        return {}
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        return {key: str(read[key]) for key in ("template_set", "template_hash")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is no card of a base model: {type(error).__name__}: {error}. Nothing was written. Restore it, or "
            "remove it if the model was not trained with our templates."
        ) from error


def _require_templates(directory: Path, templates: TemplateSet) -> None:
    trained = _card(directory / CARD)
    known = trained.get("template_hash")
    if known == templates.hash or (known is None and not templates.markup.base_must_know):
        return
    theirs = f"with {trained['template_set']!r} (hash {known[:12]})" if known else f"with no known set ({CARD} lacks)"
    raise ConfigError(
        f"The model in {directory} was trained {theirs}, but curriculum.templates is {templates.name!r} "
        f"(hash {templates.hash[:12]}). Nothing was written. Choose the set that the model knows with "
        "--set curriculum.templates=NAME, or another model with --set model.path=DIR."
    )


def _require_room(directory: Path, config: LoopConfig) -> None:
    positions = context_length(directory)
    sampling = config.sampling
    limits = {"proposer_tokens": sampling.proposer_tokens, "solver_tokens": sampling.solver_tokens}
    for key, tokens in limits.items():
        if positions is not None and tokens >= positions:
            raise ConfigError(
                f"sampling.{key} is {tokens}, but the model in {directory} has {positions} positions, prompt included. "
                f"Nothing was written. Choose fewer with --set sampling.{key}=N."
            )


def _require_tokens(directory: Path, templates: TemplateSet) -> None:
    from models.tokens import load_tokenizer

    load_tokenizer(directory).require_single_tokens(templates.markup.single_tokens)
