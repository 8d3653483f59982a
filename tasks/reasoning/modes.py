"""The kinds of reasoning task as one table of values; whatever differs between modes is read from `MODES`.

A task is built on a triplet (program, input, output). Each mode hides another part of it from the solver
(arXiv 2505.03335, section 3.2): deduction the output, abduction the input, induction the program.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from storage.ids import Mode


class Block(StrEnum):
    """A marked piece of a completion."""

    THINK = "think"
    PROGRAM = "program"
    INPUT = "input"
    OUTPUT = "output"
    MESSAGE = "message"


class Shown(StrEnum):
    """What a prompt may show; the value is the placeholder's name in a template."""

    REFERENCES = "references"
    PROGRAM = "program"
    INPUT = "input"
    OUTPUT = "output"
    PAIRS = "pairs"
    MESSAGE = "message"
    WANTED = "wanted"  # how many inputs a proposal must hold; a template may leave it out


class Pairs(StrEnum):
    """How many (input, output) pairs a task of a mode has."""

    ONE = "one"
    SEVERAL = "several"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeRules:
    """Everything that tells one mode from another."""

    sources: tuple[Mode, ...]  # modes whose valid tasks a proposer of this mode is shown
    proposer_sees: tuple[Shown, ...]
    proposal: tuple[Block, ...]  # blocks of a proposal, in order; INPUT stands for all its inputs
    pairs: Pairs
    solver_sees: tuple[Shown, ...]
    answer: Block


MODES: dict[Mode, ModeRules] = {
    Mode.DEDUCTION: ModeRules(
        sources=(Mode.DEDUCTION,),
        proposer_sees=(Shown.REFERENCES,),
        proposal=(Block.PROGRAM, Block.INPUT),
        pairs=Pairs.ONE,
        solver_sees=(Shown.PROGRAM, Shown.INPUT),
        answer=Block.OUTPUT,
    ),
    Mode.ABDUCTION: ModeRules(
        sources=(Mode.ABDUCTION,),
        proposer_sees=(Shown.REFERENCES,),
        proposal=(Block.PROGRAM, Block.INPUT),
        pairs=Pairs.ONE,
        solver_sees=(Shown.PROGRAM, Shown.OUTPUT),
        answer=Block.INPUT,
    ),
    Mode.INDUCTION: ModeRules(
        sources=(Mode.DEDUCTION, Mode.ABDUCTION),
        proposer_sees=(Shown.PROGRAM, Shown.WANTED),
        proposal=(Block.INPUT, Block.MESSAGE),
        pairs=Pairs.SEVERAL,
        solver_sees=(Shown.PAIRS, Shown.MESSAGE),
        answer=Block.PROGRAM,
    ),
}


def inputs_wanted(mode: Mode, several: int) -> int:
    """How many inputs a proposal of `mode` holds, where `several` is the configured number for modes with several."""
    return several if MODES[mode].pairs is Pairs.SEVERAL else 1


def pairs_visible(mode: Mode, several: int) -> int:
    """How many pairs a solver of `mode` is shown whole: `several` (configured), or none where there is one pair."""
    return several if MODES[mode].pairs is Pairs.SEVERAL else 0


def proposal_blocks(mode: Mode, wanted: int) -> tuple[Block, ...]:
    """The exact run of blocks of a proposal with `wanted` inputs."""
    return tuple(block for block in MODES[mode].proposal for _ in range(wanted if block is Block.INPUT else 1))
