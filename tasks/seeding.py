"""How many proposals a stage asks for: a fixed number per mode, and in bootstrap what the buffers still lack."""

from __future__ import annotations

from collections.abc import Mapping, Sized

from storage.errors import LedgerError
from storage.ids import Mode, Position
from storage.layout import command
from tasks.loop import LoopConfig
from tasks.reasoning.modes import MODES
from tasks.workshop import Workshop


def proposals_wanted(config: LoopConfig, at: Position, buffers: Mapping[Mode, Sized]) -> dict[Mode, int]:
    """Proposals per mode, in the order of the modes."""
    if at.iteration > 0:
        return dict.fromkeys(config.curriculum.modes, config.curriculum.proposals)
    return dict.fromkeys(lacking(config, buffers), config.bootstrap.proposals)


def require_turn(work: Workshop, at: Position, buffers: Mapping[Mode, Sized]) -> None:
    """Raise LedgerError for a first iteration before the bootstrap is finished, and for a round after it."""
    missing = lacking(work.config, buffers)
    if at.iteration == 0 and (not missing or at.round > work.config.bootstrap.max_rounds):
        why = "every mode has its seeds" if not missing else f"max_rounds is {work.config.bootstrap.max_rounds}"
        raise LedgerError(
            f"The bootstrap has no round {at.round}: {why}. Nothing was written. "
            f"Run: {command('train', root=work.ledger.root, run=work.ledger.run)}"
        )
    if at.iteration == 1 and missing:
        wanted = work.config.bootstrap.wanted
        held = ", ".join(f"{mode} has {len(buffers.get(mode, ()))} of {wanted} seeds" for mode in missing)
        raise LedgerError(
            f"Stage {at} needs a finished bootstrap: {held}. Nothing was written. "
            f"Run: {command('train', root=work.ledger.root, run=work.ledger.run)}"
        )


def lacking(config: LoopConfig, buffers: Mapping[Mode, Sized]) -> tuple[Mode, ...]:
    """The modes that the next bootstrap round proposes for; empty when every buffer holds its seeds.

    Modes that are shown other modes' programs wait until those have their seeds.
    """
    short = [mode for mode in config.curriculum.modes if len(buffers.get(mode, ())) < config.bootstrap.wanted]
    givers = [mode for mode in short if mode in MODES[mode].sources]
    return tuple(givers or short)
