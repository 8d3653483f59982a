"""Positional ids: where in a run something was made, packed into one INT64 and readable by a person.

A proposal (and the task it becomes, and its rollout) is named by `iteration, round, mode, slot`: ``12-ded-031``, in
bootstrap with its round ``0.2-ded-031``. A solver rollout (and its answer) adds its sample: ``12-ded-031:4``. Packed
ids sort by position, so row groups prune, and an INT64 joins faster than any hash (docs/decisions/0003).
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from storage.errors import ConfigError


class Stage(StrEnum):
    """The five stages of an iteration, in order."""

    PROPOSE = "propose"
    VALIDATE = "validate"
    SOLVE = "solve"
    VERIFY = "verify"
    UPDATE = "update"


class Mode(StrEnum):
    """The kinds of reasoning task; `ERROR` is optional and off by default."""

    DEDUCTION = "deduction"
    ABDUCTION = "abduction"
    INDUCTION = "induction"
    ERROR = "error"


class Role(StrEnum):
    """Who a rollout speaks as."""

    PROPOSER = "proposer"
    SOLVER = "solver"


class Source(StrEnum):
    """What a rollout is about: a proposal, a new task that is probed, or an earlier task from the buffer."""

    PROPOSAL = "proposal"
    NEW = "new"
    BUFFER = "buffer"


class Position(NamedTuple):
    """One partition of a run: which stage of which iteration (and which bootstrap round)."""

    iteration: int
    stage: Stage
    round: int = 0

    def __str__(self) -> str:
        return f"{step_text(self.iteration, self.round)}/{self.stage}"


class Place(NamedTuple):
    """One row's position: a proposal when `sample` is None, else a solver rollout."""

    iteration: int
    round: int
    mode: Mode
    slot: int
    sample: int | None = None


SHORT = {Mode.DEDUCTION: "ded", Mode.ABDUCTION: "abd", Mode.INDUCTION: "ind", Mode.ERROR: "err"}
_MODES = list(Mode)
BITS = {"iteration": 23, "round": 8, "mode": 4, "slot": 17, "sample": 11}
_WIDTHS = tuple(BITS.values())
_MODE_NUMBER = {mode: number for number, mode in enumerate(_MODES)}
_TEXT = re.compile(r"(\d+)(?:\.(\d+))?-(ded|abd|ind|err)-(\d+)(?::(\d+))?")


def step_text(iteration: int, round: int) -> str:
    """An iteration as people write it: ``12``, or ``0.2`` for a bootstrap round."""
    return f"{iteration}.{round}" if iteration == 0 else str(iteration)


def pack(place: Place) -> int:
    """The INT64 of a place; raises OverflowError when a field does not fit its bits."""
    sample = 0 if place.sample is None else place.sample + 1
    fields = (place.iteration, place.round, _MODE_NUMBER[place.mode], place.slot, sample)
    packed = 0
    for bits, value in zip(_WIDTHS, fields, strict=True):
        if not 0 <= value < 1 << bits:
            raise _unfit(fields)
        packed = packed << bits | value
    return packed


def _unfit(fields: tuple[int, ...]) -> OverflowError:
    wide = zip(BITS.items(), fields, strict=True)
    name, bits, value = next((name, bits, value) for (name, bits), value in wide if not 0 <= value < 1 << bits)
    return OverflowError(f"{name} {value} does not fit an id (0 to {(1 << bits) - 1})")


def first_of_step(iteration: int, round: int, *, after: bool = False) -> int:
    """The lowest id of an iteration or bootstrap round; with `after`, the lowest above all of its ids."""
    low = pack(Place(iteration, round, _MODES[0], 0))
    return low + (1 << BITS["mode"] + BITS["slot"] + BITS["sample"]) if after else low


def unpack(packed: int) -> Place:
    """The place of an INT64 made by `pack`."""
    fields: list[int] = []
    for bits in reversed(BITS.values()):
        fields.append(packed & (1 << bits) - 1)
        packed >>= bits
    sample, slot, mode, round, iteration = fields
    return Place(iteration, round, _MODES[mode], slot, sample - 1 if sample else None)


def text(packed: int) -> str:
    """The readable form of an id: ``12-ded-031``, ``0.2-ind-004``, ``12-abd-007:3``."""
    place = unpack(packed)
    tail = "" if place.sample is None else f":{place.sample}"
    return f"{step_text(place.iteration, place.round)}-{SHORT[place.mode]}-{place.slot:03d}{tail}"


def parse(written: str) -> int:
    """The id behind its readable form; raises ConfigError with an example when it is none."""
    found = _TEXT.fullmatch(written.strip())
    if found is None:
        raise ConfigError(f"{written!r} is not an id. Ids look like 12-ded-031, 0.2-ind-004 or 12-abd-007:3.")
    iteration, round, short, slot, sample = found.groups()
    mode = next(mode for mode, name in SHORT.items() if name == short)
    place = Place(int(iteration), int(round or 0), mode, int(slot), None if sample is None else int(sample))
    try:
        return pack(place)
    except OverflowError as error:
        raise ConfigError(f"{written!r} is not an id: {error}.") from None
