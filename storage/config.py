"""What every floor's config section is made of, and the ledger's own sections.

A key is *identity* (it decides what a run computes: changing it on resume is refused) or *operational* (where and how
it runs). Mark each field with one of the two: ``seed: Annotated[int, Key.IDENTITY, Field(description="...")] = 0``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue


class Key(Enum):
    """What changing a config key means for a run that has begun."""

    IDENTITY = "identity"
    OPERATIONAL = "operational"


def _say_bounds(schema: dict[str, JsonValue]) -> None:
    """Put the bounds of every key into its description: forms show that, and refuse by the bounds without a word."""
    properties = schema.get("properties")
    for shown in properties.values() if isinstance(properties, dict) else ():
        if isinstance(shown, dict) and (bounds := [f"{word} {shown[key]:,}" for key, word in _BOUNDS if key in shown]):
            shown["description"] = f"{shown.get('description', '')} ({', '.join(bounds)})".strip()


_BOUNDS = (
    ("minimum", "at least"),
    ("exclusiveMinimum", "above"),
    ("maximum", "at most"),
    ("exclusiveMaximum", "below"),
)


class Section(BaseModel):
    """A part of the config: frozen, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=_say_bounds)


def flat(values: Mapping[str, JsonValue], prefix: str = "") -> Iterator[tuple[str, JsonValue]]:
    """The values of a nested config as stored, each with its dotted path."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


class LedgerConfig(Section):
    """How the ledger writes."""

    durable: Annotated[
        bool,
        Key.OPERATIONAL,
        Field(description="fsync every partition: survives power loss too; kill -9 is survived either way"),
    ] = True


class RetentionConfig(Section):
    """What is kept of what a run makes. What goes is listed; what a fork stands on is always kept."""

    room_gb: Annotated[
        float,
        Key.OPERATIONAL,
        Field(ge=0, description="every checkpoint is kept while the run's checkpoints take less, in GB"),
    ] = 2.0
    checkpoints_last: Annotated[int, Key.OPERATIONAL, Field(ge=1, description="last checkpoints always kept")] = 2
    checkpoints_every: Annotated[
        int, Key.OPERATIONAL, Field(ge=0, description="checkpoints of every so many iterations are kept; 0: none more")
    ] = 10
    optimizer_last: Annotated[
        int, Key.OPERATIONAL, Field(ge=1, description="last checkpoints that keep masters and moments, to train on")
    ] = 2
    optimizer_every: Annotated[
        int,
        Key.OPERATIONAL,
        Field(ge=0, description="masters and moments of every so many iterations are kept; 0: none more"),
    ] = 50
    tokens_last: Annotated[
        int,
        Key.OPERATIONAL,
        Field(ge=0, description="iterations whose token ids and log-probabilities are kept; 0: all"),
    ] = 0
