"""Which sealed partitions a stage reads: the order of an iteration, said once.

Bootstrap (iteration 0): round 0 validates the identity triplets and publishes the base as checkpoint 0; each later
round proposes and validates. An iteration from 1 on has all five stages.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile
from typing import Protocol

from storage.errors import ConfigError
from storage.ids import Position, Stage
from storage.seals import Seal

BASE = Position(0, Stage.UPDATE)
IDENTITY = Position(0, Stage.VALIDATE)
FIRST_ROUND = (BASE, IDENTITY)


class Sealed(Protocol):
    """Whatever knows the seals of a run, in the order of positions: its ledger."""

    def sealed(self) -> list[Seal]:
        """Every seal, in the order of positions."""


def stages_of(iteration: int, round: int = 0) -> tuple[Position, ...]:
    """The stages of an iteration, or of a bootstrap round, in the order in which they run."""
    if iteration > 0:
        return tuple(Position(iteration, stage) for stage in Stage)
    return FIRST_ROUND if round == 0 else tuple(Position(0, stage, round) for stage in (Stage.PROPOSE, Stage.VALIDATE))


def require_stage(at: Position) -> Position:
    """The position itself; raises ConfigError when its iteration or round has no such stage."""
    known = stages_of(at.iteration, at.round)
    if at not in known:
        words = ", ".join(position.stage for position in known)
        raise ConfigError(f"There is no stage {at}: here the stages are {words}. Nothing was written.")
    return at


def previous_update(at: Position) -> Position:
    """The partition with the checkpoint that a stage samples from or trains on."""
    return Position(max(at.iteration - 1, 0), Stage.UPDATE)


def previous_validation(ledger: Sealed, at: Position) -> Position:
    """The last partition of tasks before this iteration or round."""
    if at.iteration > 1:
        return Position(at.iteration - 1, Stage.VALIDATE)
    return Position(0, Stage.VALIDATE, at.round - 1 if at.iteration == 0 else last_round(ledger))


def last_round(ledger: Sealed) -> int:
    """The last bootstrap round that is validated; 0 when there is none."""
    rounds = takewhile(lambda seal: seal.iteration == 0, ledger.sealed())
    return max((seal.round for seal in rounds if seal.stage is Stage.VALIDATE), default=0)


def _here(stage: Stage) -> Callable[[Sealed, Position], Position]:
    return lambda ledger, at: at._replace(stage=stage)


def _policy(ledger: Sealed, at: Position) -> Position:
    return previous_update(at)


NEEDS: dict[Stage, tuple[Callable[[Sealed, Position], Position], ...]] = {
    Stage.PROPOSE: (_policy, previous_validation),
    Stage.VALIDATE: (_here(Stage.PROPOSE),),
    Stage.SOLVE: (_policy, _here(Stage.VALIDATE)),
    Stage.VERIFY: (_here(Stage.PROPOSE), _here(Stage.VALIDATE), _here(Stage.SOLVE)),
    Stage.UPDATE: (_policy, _here(Stage.PROPOSE), _here(Stage.SOLVE), _here(Stage.VERIFY)),
}


def needs(ledger: Sealed, at: Position) -> list[Position]:
    """The partitions that a stage reads; earlier ones that it also reads are reached through these."""
    return [] if at in FIRST_ROUND else [need(ledger, at) for need in NEEDS[at.stage]]
