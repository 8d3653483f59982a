"""The nano base's architecture: a small Qwen3, which transformers and vLLM load as it is."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen3Config

from models import runtime
from models.config import DeviceKind
from models.policy import WEIGHTS
from models.vocabulary import CONTEXT, END_ID, PAD_ID, tokenizer, vocabulary

HEAD = 32  # width of an attention head


def new_model(*, vocabulary: int, end: int, pad: int, seed: int, hidden: int = 128, layers: int = 4) -> PreTrainedModel:
    """A model with tied embeddings and a feed-forward width of 3.5 x `hidden`, its weights drawn from the seed."""
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=7 * hidden // 2,
        num_hidden_layers=layers,
        num_attention_heads=hidden // HEAD,
        num_key_value_heads=hidden // HEAD,
        head_dim=HEAD,
        max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
        dtype=torch.float32,
    )
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    _initialise(model, layers, seed)
    return model


def new_base(seed: int, device: DeviceKind) -> PreTrainedModel:
    """An untrained nano base on a device; raises EngineError for a device that is not there."""
    model = new_model(vocabulary=len(vocabulary()), end=END_ID, pad=PAD_ID, seed=seed)
    nn.Module.to(model, runtime.resolve_device(device))
    return model


def write_base(model: PreTrainedModel, directory: Path) -> None:
    """Save weights, config and tokenizer, in the layout that transformers loads."""
    model.save_pretrained(directory)
    (directory / WEIGHTS).chmod(0o644)  # safetensors writes for the owner alone
    tokenizer().save_pretrained(directory)


@torch.no_grad()
def _initialise(model: nn.Module, layers: int, seed: int) -> None:
    """Linear layers at half the usual scale of 1/sqrt(inputs), those that write to the residual stream lower still."""
    generator = torch.Generator().manual_seed(seed)
    for name, weights in model.named_parameters():
        if weights.ndim != 2:
            continue
        scale = 0.02 if "embed" in name else 0.5 / math.sqrt(weights.shape[1])
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            scale /= math.sqrt(2 * layers)
        weights.copy_(torch.randn(weights.shape, generator=generator) * scale)
