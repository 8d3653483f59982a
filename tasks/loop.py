"""The part of a run's config that an iteration reads: the sections of storage, models and tasks composed."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from models.config import EngineConfig, ModelConfig, SamplingConfig, UpdateConfig
from storage.config import Key, RetentionConfig, Section
from tasks.config import BootstrapConfig, CurriculumConfig, RewardConfig, SandboxConfig


class LoopConfig(Section):
    """All that an iteration reads of a run's config."""

    seed: Annotated[int, Key.IDENTITY, Field(ge=0, lt=2**31, description="seed of every draw of the run")] = 1
    model: ModelConfig = ModelConfig()
    engine: EngineConfig = EngineConfig()
    sampling: SamplingConfig = SamplingConfig()
    curriculum: CurriculumConfig = CurriculumConfig()
    bootstrap: BootstrapConfig = BootstrapConfig()
    rewards: RewardConfig = RewardConfig()
    update: UpdateConfig = UpdateConfig()
    sandbox: SandboxConfig = SandboxConfig()
    retention: RetentionConfig = RetentionConfig()
