"""The config sections of this floor: which model, how it is sampled, how it is trained."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from storage.config import Key, Section


class DeviceKind(StrEnum):
    """Where tensors live."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Whitening(StrEnum):
    """What one draw is when the mean and deviation of a group's rewards are taken."""

    SAMPLE = "sample"
    TOKEN = "token"  # noqa: S105 - a unit of text, not a secret


class Averaging(StrEnum):
    """How the tokens of the samples are averaged in the loss."""

    SAMPLE = "sample"
    TOKEN = "token"  # noqa: S105 - a unit of text, not a secret


class Ablation(StrEnum):
    """What an update leaves out on purpose, to learn what it is good for."""

    NONE = "none"
    SHUFFLED_REWARDS = "shuffled_rewards"


Fraction = Annotated[float, Field(ge=0, lt=1)]


class ModelConfig(Section):
    """The base model: policy 0 of a run."""

    path: Annotated[
        str,
        Key.IDENTITY,
        Field(
            description="nano (the weights that come with the package), a directory in Hugging Face layout, or a hub "
            "name such as Qwen/Qwen3-0.6B, with @revision if wanted",
            min_length=1,
        ),
    ] = "nano"


class EngineConfig(Section):
    """Where and how wide completions are sampled; floating point rounding may depend on it, nothing else does."""

    device: Annotated[
        DeviceKind, Key.OPERATIONAL, Field(description="auto takes a CUDA device when there is one, else the CPU")
    ] = DeviceKind.AUTO
    rows: Annotated[int, Key.OPERATIONAL, Field(description="sequences decoded together", ge=1, le=8192)] = 256
    threads: Annotated[
        int, Key.OPERATIONAL, Field(description="torch threads on the CPU; 0 keeps torch's own choice", ge=0, le=1024)
    ] = 0
    slot: Annotated[
        str,
        Key.OPERATIONAL,
        Field(
            description="Prefect concurrency limit that stages with the model wait for; empty: azr-gpu on a CUDA "
            "device, none on the CPU",
            pattern=r"^[A-Za-z0-9_.-]{0,64}$",
        ),
    ] = ""


class SamplingConfig(Section):
    """How completions are drawn for training, by either role."""

    temperature: Annotated[
        float, Key.IDENTITY, Field(description="logits are divided by it; the update uses the same", gt=0, le=10)
    ] = 1.0
    top_p: Annotated[
        float,
        Key.IDENTITY,
        Field(description="nucleus mass; 1 is off. Below 1 the engine's log-probs leave the update's", gt=0, le=1),
    ] = 1.0
    proposer_tokens: Annotated[
        int, Key.IDENTITY, Field(description="limit on a proposer's completion tokens", ge=1, le=1 << 20)
    ] = 192
    solver_tokens: Annotated[
        int, Key.IDENTITY, Field(description="limit on a solver's completion tokens", ge=1, le=1 << 20)
    ] = 192


class UpdateConfig(Section):
    """How a policy is made from the one before. The defaults are the paper's Table 3 where it has the value."""

    learning_rate: Annotated[
        float, Key.IDENTITY, Field(description="AdamW, constant; small models want about 2e-4", gt=0, le=1)
    ] = 1e-6
    betas: Annotated[
        tuple[Fraction, Fraction], Key.IDENTITY, Field(description="AdamW's decay rates of the two moments")
    ] = (0.9, 0.999)
    epsilon: Annotated[float, Key.IDENTITY, Field(description="AdamW's epsilon", gt=0, le=1)] = 1e-8
    weight_decay: Annotated[float, Key.IDENTITY, Field(description="AdamW's decoupled decay", ge=0, le=1)] = 0.0
    gradient_clip: Annotated[
        float, Key.IDENTITY, Field(description="largest global L2 norm of the gradient", gt=0, le=1e6)
    ] = 1.0
    steps: Annotated[
        int, Key.IDENTITY, Field(description="optimizer steps of one update, each over all its samples", ge=1, le=64)
    ] = 1
    clip: Annotated[
        float,
        Key.IDENTITY,
        Field(description="PPO epsilon: the ratio counts within 1 +- clip; acts from the second step on", gt=0, lt=1),
    ] = 0.2
    importance_cap: Annotated[
        float,
        Key.IDENTITY,
        Field(
            description="cap on a token's weight p_old / p_engine, which mends engine-trainer mismatch", ge=1, le=100
        ),
    ] = 2.0
    whiten: Annotated[
        Whitening,
        Key.IDENTITY,
        Field(description="advantage statistics per sample (the paper's equation) or per token (its published code)"),
    ] = Whitening.SAMPLE
    average: Annotated[
        Averaging,
        Key.IDENTITY,
        Field(description="loss: mean over a sample's tokens first (sample), or every token alike (token)"),
    ] = Averaging.SAMPLE
    proposer_weight: Annotated[
        float,
        Key.IDENTITY,
        Field(description="share of the proposer's samples in the loss, before scaling", ge=0, le=1e6),
    ] = 1.0
    solver_weight: Annotated[
        float,
        Key.IDENTITY,
        Field(description="share of the solver's samples in the loss, before scaling", ge=0, le=1e6),
    ] = 1.0
    ablation: Annotated[
        Ablation,
        Key.IDENTITY,
        Field(
            description="shuffled_rewards: the control that learns from rewards dealt at random within each role and "
            "mode; what was earned is recorded all the same"
        ),
    ] = Ablation.NONE
    micro_tokens: Annotated[
        int,
        Key.OPERATIONAL,
        Field(
            description="tokens per forward pass, padding included; changes memory and rounding only", ge=1, le=1 << 24
        ),
    ] = 8192
