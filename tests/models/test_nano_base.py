"""The weights that come with the package."""

import json

import pytest
import torch

from models.checkpoints import load_model
from models.config import EngineConfig
from models.engines.base import FinishReason, Request
from models.engines.hf import HfEngine
from models.policy import PolicyRef, policy_hash, resolve_base
from models.tokens import load_tokenizer
from models.vocabulary import END_ID, tokenizer
from tasks.nano.documents import block
from tasks.nano.language import IDENTITY
from tasks.nano.memory import read_memory, seen
from tasks.reasoning.prompts import load_templates


@pytest.fixture(scope="module")
def directory():
    return resolve_base("nano")


def test_the_base_knows_the_templates_as_they_are(directory):
    facts = json.loads((directory / "azr_base.json").read_text())
    templates = load_templates(facts["template_set"])
    assert facts["template_hash"] == templates.hash
    load_tokenizer(directory).require_single_tokens(templates.markup.single_tokens)


def test_the_tokenizer_is_the_one_of_the_code(directory):
    shipped, text = load_tokenizer(directory), "<|solve-deduction|><|program|>def f(a):\n    return a + 17"
    assert shipped.encode(text) == tuple(tokenizer().encode(text, add_special_tokens=False))
    assert shipped.ends == {END_ID}


def test_weights_are_small_finite_and_of_the_code_size(directory):
    model = load_model(directory)
    assert (directory / "model.safetensors").stat().st_size < 16 << 20
    assert model.config.vocab_size == len(tokenizer())
    logits = model(torch.tensor([[3, 9, 20, 14]])).logits
    assert logits.dtype is torch.float32
    assert bool(torch.isfinite(logits).all())


def test_the_base_ends_its_completions_in_the_loops_format(directory):
    engine = HfEngine(EngineConfig(threads=1))
    engine.load(PolicyRef(policy_hash(directory), directory, 0))
    bootstrap = f"<|propose-deduction|><|program|>{IDENTITY}<|input|>'pqr'<|output|>'pqr'<|answer|>"
    requests = [Request(prompt=bootstrap, seed=at, temperature=1.0, top_p=1.0, max_tokens=192) for at in range(24)]
    done = engine.generate(requests)
    assert sum(one.finish_reason is FinishReason.STOP for one in done) >= 22
    assert sum(one.text.startswith("<|program|>def ") and "<|input|>" in one.text for one in done) >= 18


def test_the_programs_seen_are_known(directory):
    memory = read_memory(directory)
    document = next(iter(block(json.loads((directory / "azr_base.json").read_text())["seed"], 1)))
    assert seen(memory, document.program)
    assert not seen(memory, "def f(a):\n    return a + 123456789")
    assert len(memory) == json.loads((directory / "azr_base.json").read_text())["programs"]
