"""The engine protocol: prompts with seeds in; completions with token ids, log-probs and the policy's hash out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from models.policy import PolicyRef

Progress = Callable[[int, int], None]  # (done, total); done never falls


class FinishReason(StrEnum):
    """Why a completion ended."""

    STOP = "stop"  # the model wrote an end token
    LENGTH = "length"  # cut at max_tokens, or at the last position that the model has


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One completion wanted."""

    prompt: str
    seed: int  # decides every draw of this completion, whatever else is sampled beside it
    temperature: float  # 0 takes the most likely token
    top_p: float  # nucleus mass in (0, 1]
    max_tokens: int  # at least 1; the end token counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One completion sampled. `completion_ids` and `logprobs` have the same length, at least 1."""

    text: str  # without the end token; other special tokens stay visible
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]  # the end token included
    logprobs: tuple[float, ...]  # nats, of each sampled token, at the sampling temperature
    finish_reason: FinishReason
    policy: str  # hash of the weights that sampled it


class Engine(Protocol):
    """Samples from one policy at a time.

    The same requests in the same batch give the same tokens. `load` is idempotent by the policy's hash. All methods
    raise EngineError: `load` when the weights cannot be loaded, `generate` before a `load`, for a prompt without
    tokens or too long for the model, and for weights that give no finite probabilities.
    """

    def load(self, policy: PolicyRef) -> None:
        """Make this policy the one that `generate` samples from."""

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Completion]:
        """One completion per request, in their order; `progress` is called with completions done and wanted."""

    def close(self) -> None:
        """Give memory back; the engine can `load` again."""
