"""The part of a run's config that decides what the stages compute: the sections of models and tasks composed."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from models.config import EngineConfig, ModelConfig, SamplingConfig, UpdateConfig
from storage.config import Key, Section
from tasks.config import BootstrapConfig, CurriculumConfig, RewardConfig, SandboxConfig


class LoopConfig(Section):
    """All that the stages read of a run's config."""

    seed: Annotated[int, Key.IDENTITY, Field(ge=0, lt=2**31, description="seed of every draw of the run")] = 1
    model: ModelConfig = ModelConfig()
    engine: EngineConfig = EngineConfig()
    sampling: SamplingConfig = SamplingConfig()
    curriculum: CurriculumConfig = CurriculumConfig()
    bootstrap: BootstrapConfig = BootstrapConfig()
    rewards: RewardConfig = RewardConfig()
    update: UpdateConfig = UpdateConfig()
    sandbox: SandboxConfig = SandboxConfig()
