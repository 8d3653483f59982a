"""Solve: the policy tries each new valid task several times, and some earlier ones again."""

from __future__ import annotations

from collections.abc import Iterator

from storage.buffers import tasks_of, valid_ids
from storage.ids import Place, Position, Role, Source, Stage, unpack
from storage.records import VALID, Rollout, Task, Tokens
from storage.seeds import rng
from tasks.fitting import task_prompt
from tasks.reasoning.curriculum import draw_buffer_tasks
from tasks.rollouts import Ask, sample
from tasks.stage import Outcome, stage
from tasks.workshop import Workshop


@stage(Stage.SOLVE)
def solve(work: Workshop, at: Position) -> Outcome:
    """Sample `probes` answers to every task of this iteration, and answers to tasks drawn from the buffer.

    A probe's slot is its task's own slot; tasks from the buffer take the slots after those of the proposals.
    """
    asks = [*_probes(work, at), *_again(work, at)]
    rollouts, tokens = sample(work, at, asks)
    return Outcome(
        tables={Rollout: rollouts, Tokens: tokens},
        note=f"{len(rollouts)} answers, {sum(rollout.completion_tokens for rollout in rollouts)} tokens",
    )


def _probes(work: Workshop, at: Position) -> Iterator[Ask]:
    for task in work.ledger.read(Task, at._replace(stage=Stage.VALIDATE)):
        if task.verdict == VALID:
            yield from _asks(
                work, at, task, Source.NEW, slot=unpack(task.task_id).slot, samples=work.config.curriculum.probes
            )


def _again(work: Workshop, at: Position) -> Iterator[Ask]:
    curriculum = work.config.curriculum
    buffers = valid_ids(work.ledger, at._replace(stage=Stage.PROPOSE))
    for mode in curriculum.modes:
        draw = rng(work.config.seed, at.iteration, "buffer", mode.value)
        drawn = draw_buffer_tasks(buffers.get(mode, ()), curriculum.buffer_tasks, draw)
        tasks = tasks_of(work.ledger, drawn)
        for slot, task in enumerate((tasks[one] for one in drawn), start=curriculum.proposals):
            yield from _asks(work, at, task, Source.BUFFER, slot=slot, samples=curriculum.buffer_samples)


def _asks(work: Workshop, at: Position, task: Task, source: Source, *, slot: int, samples: int) -> Iterator[Ask]:
    prompt = task_prompt(work, task)
    for number in range(samples):
        place = Place(at.iteration, at.round, task.mode, slot, number)
        yield Ask(place=place, role=Role.SOLVER, task_id=task.task_id, source=source, prompt=prompt)
