"""Tiny models of three architectures, made on the spot with random weights and a byte-level tokenizer."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from models import runtime
from models.policy import PolicyRef, policy_hash

END = 0
MARKERS = ["<|answer|>", "<|program|>"]
VOCABULARY = 264
IDS = {"bos_token_id": None, "eos_token_id": END, "pad_token_id": 1}


def tokenizer(*, end: str | None = "<|end|>") -> PreTrainedTokenizerFast:
    pieces = ["<|end|>", "<|pad|>", "<|unk|>", *MARKERS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    inner = Tokenizer(models.BPE(vocab={piece: number for number, piece in enumerate(pieces)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        additional_special_tokens=MARKERS,
        **{"eos_token": end, "pad_token": "<|pad|>", "unk_token": "<|unk|>"},
    )


def qwen3() -> Qwen3ForCausalLM:
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            **IDS,
        )
    )


def llama() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=256,
            tie_word_embeddings=False,
            **IDS,
        )
    )


def gpt2() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64, **IDS))


MAKERS = {"qwen3": qwen3, "llama": llama, "gpt2": gpt2}


def save(directory: Path, architecture: str, dtype: torch.dtype = torch.float32) -> PolicyRef:
    """Weights drawn ten times wider than usual, so that distributions are far from uniform."""
    torch.manual_seed(7)
    model = MAKERS[architecture]()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(10)
    model.to(dtype).save_pretrained(directory)
    tokenizer().save_pretrained(directory)
    return PolicyRef(policy_hash(directory), directory, 0)


@pytest.fixture(scope="session", autouse=True)
def reproducible():
    runtime.configure(threads=1)


@pytest.fixture(scope="session", params=list(MAKERS))
def any_policy(request, tmp_path_factory) -> PolicyRef:
    return save(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="session")
def policy(tmp_path_factory) -> PolicyRef:
    return save(tmp_path_factory.mktemp("qwen3"), "qwen3")


@pytest.fixture(scope="session")
def bf16_policy(tmp_path_factory) -> PolicyRef:
    return save(tmp_path_factory.mktemp("bf16"), "qwen3", torch.bfloat16)


@pytest.fixture(scope="session")
def gpt2_policy(tmp_path_factory) -> PolicyRef:
    return save(tmp_path_factory.mktemp("gpt2"), "gpt2")


@pytest.fixture
def make_tokenizer():
    return tokenizer
