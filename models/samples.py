"""What an update is given, and the numbers it gives back. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from models.policy import PolicyRef
from storage.ids import Mode, Role

ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One rollout to learn from. `completion_ids` and `logprobs` have the same length, at least 1."""

    prompt_ids: Sequence[int]  # at least 1
    completion_ids: Sequence[int]
    logprobs: Sequence[float]  # by the engine, at the sampling temperature
    advantage: float
    weight: float  # in the loss; those of an update sum to 1
    role: Role
    mode: Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateInputs:
    """What an update starts from."""

    policy: PolicyRef
    optimizer: Path | None  # the checkpoint that keeps the optimizer's state; None starts a new one from the base
    samples: Sequence[Sample]
    temperature: float  # at which the samples were drawn


class Metric(NamedTuple):
    """One number about one optimizer step, of one (role, mode) or of `all`."""

    step: int
    name: str
    role: str
    mode: str
    value: float
