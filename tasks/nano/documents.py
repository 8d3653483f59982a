"""Training documents in the loop's own prompt format: both roles, every mode, with and without references.

Documents come in blocks. A block is a pure function of (seed, number), so a stream can begin at any block and nothing
is stored. Prompts are rendered from the `nano` template set by the loop's own functions; completions are what a good
rollout of the loop would be.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

from storage.ids import Mode, Role
from storage.seeds import rng
from tasks.nano.language import IDENTITY, Type, value
from tasks.nano.samples import EASY_LEVELS, TRAINING_LEVELS, Sample, draw_copying, draw_sample
from tasks.reasoning.modes import MODES, Block
from tasks.reasoning.prompts import Reference, load_templates, proposal_prompt, solver_prompt


class Document(NamedTuple):
    """A prompt and the completion to learn, both as text without the end token, and the program it is about."""

    role: Role
    mode: Mode
    prompt: str
    completion: str
    program: str


TEMPLATES = "nano"
BLOCK = 2048
INPUTS, VISIBLE = 6, 3
_SHARES = {
    (Role.SOLVER, Mode.DEDUCTION): 0.22,
    (Role.SOLVER, Mode.ABDUCTION): 0.22,
    (Role.SOLVER, Mode.INDUCTION): 0.30,
    (Role.PROPOSER, Mode.DEDUCTION): 0.08,
    (Role.PROPOSER, Mode.ABDUCTION): 0.08,
    (Role.PROPOSER, Mode.INDUCTION): 0.10,
}
_THINK = {Mode.DEDUCTION: 0.95, Mode.ABDUCTION: 0.95, Mode.INDUCTION: 0.0}  # traces do not help induction
_IDENTITY_SHARE = 0.12  # of the proposer prompts that show references: the bootstrap begins with the identity alone
_BARE_SHARE, _PARTIAL_SHARE = 0.4, 0.3  # of the messages: without constants; without some of the words
_POOL = 400
COPYING_BLOCKS, EASY_BLOCKS = 3, 12
_COPYING_EARLY, _COPYING_LATE = 0.7, 0.03


def documents(seed: int, first: int = 0) -> Iterator[list[Document]]:
    """Blocks of documents from block `first` on, without end."""
    number = first
    while True:
        yield block(seed, number)
        number += 1


def block(seed: int, number: int) -> list[Document]:
    """Block `number`: copying first, then easy programs, then all levels."""
    draw = rng(seed, "nano documents", number)
    copying = _COPYING_EARLY if number < COPYING_BLOCKS else _COPYING_LATE
    levels = EASY_LEVELS if number < EASY_BLOCKS else TRAINING_LEVELS
    pool: list[Sample] = []
    made = []
    for _ in range(BLOCK):
        if draw.random() < copying:
            made.append(solve_document(draw, Mode.DEDUCTION, draw_copying(draw)))
            continue
        role, mode = draw.choices(tuple(_SHARES), tuple(_SHARES.values()))[0]
        sample = draw_sample(draw, levels=levels, pairs=INPUTS if mode is Mode.INDUCTION else VISIBLE)
        if role is Role.SOLVER:
            made.append(solve_document(draw, mode, sample))
        else:
            made.append(propose_document(draw, mode, sample, pool))
        pool.append(sample)
        if len(pool) > _POOL:
            pool.pop(0)
    return made


def solve_document(draw: random.Random, mode: Mode, sample: Sample) -> Document:
    """A task and its answer, most often behind a worked trace."""
    trace = sample.backward if mode is Mode.ABDUCTION else sample.forward
    think = _written(Block.THINK, trace) if trace and draw.random() < _THINK[mode] else ""
    hint = message(draw, sample) if mode is Mode.INDUCTION else None
    text, output = sample.pairs[0]
    answers = {Block.OUTPUT: output, Block.INPUT: text, Block.PROGRAM: sample.program}
    wanted = MODES[mode].answer
    completion = think + _written(wanted, answers[wanted])
    return Document(Role.SOLVER, mode, task_prompt(mode, sample, hint), completion, sample.program)


def task_prompt(mode: Mode, sample: Sample, hint: str | None) -> str:
    """What a solver of the sample is shown."""
    inputs, outputs = zip(*sample.pairs, strict=True)
    visible = VISIBLE if mode is Mode.INDUCTION else 0
    templates = load_templates(TEMPLATES)
    return solver_prompt(
        templates, mode, program=sample.program, inputs=inputs, outputs=outputs, visible=visible, message=hint
    )


def propose_document(draw: random.Random, mode: Mode, sample: Sample, pool: list[Sample]) -> Document:
    """References and a new task; for induction a program, new inputs and a message."""
    templates = load_templates(TEMPLATES)
    if mode is Mode.INDUCTION:
        shown = Reference(sample.program, *sample.pairs[0])
        prompt = proposal_prompt(templates, mode, [shown], wanted=INPUTS)
        inputs = "".join(_written(Block.INPUT, text) for text, _ in sample.pairs)
        completion = inputs + _written(Block.MESSAGE, message(draw, sample))
    else:
        prompt = proposal_prompt(templates, mode, references(draw, pool))
        completion = _written(Block.PROGRAM, sample.program) + _written(Block.INPUT, sample.pairs[0][0])
    return Document(Role.PROPOSER, mode, prompt, completion, sample.program)


def _written(block: Block, text: str) -> str:
    return load_templates(TEMPLATES).markup.blocks[block].open + text


def references(draw: random.Random, pool: list[Sample]) -> list[Reference]:
    """One or two triplets of the pool, or the identity alone."""
    if len(pool) < 2 or draw.random() < _IDENTITY_SHARE:
        text = repr(value(draw, draw.choice((Type.INT, Type.TEXT, Type.LIST))))
        return [Reference(IDENTITY, text, text)]
    chosen = draw.sample(pool, draw.choice((1, 1, 2)))
    return [Reference(sample.program, *sample.pairs[0]) for sample in chosen]


def message(draw: random.Random, sample: Sample) -> str:
    """The hint of an induction task: a word per operation, with its constants or without, or some of these words."""
    words = sample.words
    if not words:
        return "same"
    if draw.random() < _BARE_SHARE:
        words = tuple(word.split()[0] for word in words)
    if draw.random() < _PARTIAL_SHARE:
        kept = sorted(draw.sample(range(len(words)), draw.randint(1, len(words))))
        words = tuple(words[index] for index in kept)
    return " ".join(words)
