"""What every floor's config section is made of, and the ledger's own section.

A key is *identity* (it decides what a run computes: changing it on resume is refused) or *operational* (where and how
it runs). Mark each field with one of the two: ``seed: Annotated[int, Key.IDENTITY, Field(description="...")] = 0``.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Key(Enum):
    """What changing a config key means for a run that has begun."""

    IDENTITY = "identity"
    OPERATIONAL = "operational"


class Section(BaseModel):
    """A part of the config: frozen, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LedgerConfig(Section):
    """How the ledger writes."""

    durable: Annotated[
        bool,
        Key.OPERATIONAL,
        Field(description="fsync every partition: survives power loss too; kill -9 is survived either way"),
    ] = True
