"""Propose: the policy invents tasks, each prompt showing some of the valid tasks so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

from storage import ids
from storage.buffers import tasks_of, valid_ids
from storage.ids import Mode, Place, Position, Role, Source, Stage
from storage.records import Rollout, Task, TaskParent, Tokens
from storage.seeds import rng
from tasks.fitting import fitting, reference_prompt
from tasks.reasoning.curriculum import draw_references
from tasks.rollouts import Ask, sample
from tasks.seeding import proposals_wanted, require_turn
from tasks.stage import Outcome, stage
from tasks.workshop import Workshop

Buffers = Mapping[Mode, Sequence[int]]


@stage(Stage.PROPOSE)
def propose(work: Workshop, at: Position) -> Outcome:
    """Ask for a task per slot of each mode, after references drawn from the valid tasks before this iteration."""
    buffers = valid_ids(work.ledger, at)
    require_turn(work, at, buffers)
    places = [
        Place(at.iteration, at.round, mode, slot)
        for mode, count in proposals_wanted(work.config, at, buffers).items()
        for slot in range(count)
    ]
    drawn = {place: _references(work, at, buffers, place) for place in places}
    tasks = tasks_of(work.ledger, chain.from_iterable(drawn.values()))
    shown = {place: fitting(work, place.mode, [tasks[one] for one in drawn[place]]) for place in places}
    rollouts, tokens = sample(work, at, [_ask(work, place, shown[place]) for place in places])
    parents = [parent for place in places for parent in _parents(at, place, shown[place])]
    return Outcome(
        tables={Rollout: rollouts, Tokens: tokens, TaskParent: parents},
        note=f"{len(rollouts)} proposals, {sum(rollout.completion_tokens for rollout in rollouts)} tokens",
    )


def _references(work: Workshop, at: Position, buffers: Buffers, place: Place) -> list[int]:
    curriculum = work.config.curriculum
    draw = rng(work.config.seed, at.iteration, at.round, "references", place.mode.value, place.slot)
    return draw_references(
        buffers, place.mode, least=curriculum.references_min, most=curriculum.references_max, rng=draw
    )


def _ask(work: Workshop, place: Place, shown: Sequence[Task]) -> Ask:
    return Ask(
        place=place,
        role=Role.PROPOSER,
        task_id=ids.pack(place),
        source=Source.PROPOSAL,
        prompt=reference_prompt(work, place.mode, shown),
    )


def _parents(at: Position, place: Place, shown: Sequence[Task]) -> list[TaskParent]:
    return [
        TaskParent(
            iteration=at.iteration,
            round=at.round,
            task_id=ids.pack(place),
            position=position,
            parent_id=task.task_id,
            parent_iteration=task.iteration,
        )
        for position, task in enumerate(shown)
    ]
