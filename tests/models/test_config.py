import pytest
from pydantic import ValidationError

from models.config import EngineConfig, ModelConfig, SamplingConfig, UpdateConfig
from storage.config import Key

SECTIONS = [ModelConfig, EngineConfig, SamplingConfig, UpdateConfig]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_described_marked_and_has_a_default(section):
    section()
    for name, field in section.model_fields.items():
        assert field.description, name
        assert sum(isinstance(mark, Key) for mark in field.metadata) == 1, name


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        (UpdateConfig, "learning_rate", -1e-6),
        (UpdateConfig, "betas", (0.9, 1.0)),
        (UpdateConfig, "steps", 0),
        (UpdateConfig, "whiten", "tokens"),
        (SamplingConfig, "temperature", 0),
        (SamplingConfig, "top_p", 1.5),
        (SamplingConfig, "solver_tokens", 0),
        (EngineConfig, "kind", "vllm2"),
        (EngineConfig, "row", 1),
        (ModelConfig, "path", ""),
    ],
)
def test_what_cannot_be_is_refused(section, key, value):
    with pytest.raises(ValidationError, match=key):
        section(**{key: value})
