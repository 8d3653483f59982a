"""A synthetic history: the rows of whole iterations, as a training of so many proposals and probes would make them."""

from __future__ import annotations

import platform
from random import Random
from uuid import UUID

from storage import ids
from storage.ids import Mode, Place, Role, Source, Stage
from storage.records import (
    Advantage,
    Answer,
    Checkpoint,
    Reward,
    Rollout,
    Row,
    Task,
    TaskParent,
    Tokens,
    UpdateMetric,
)
from storage.seals import Provenance
from storage.seeds import rng

MODES = (Mode.DEDUCTION, Mode.ABDUCTION, Mode.INDUCTION)
PROVENANCE = Provenance(
    code_version="benchmark", host={"cpu": platform.processor(), "python": platform.python_version()}
)
Tables = dict[type[Row], list[Row]]
Valid = list[tuple[int, int]]  # id and iteration of every valid task so far


def stages(iteration: int, proposals: int, probes: int, valid: Valid) -> dict[Stage, Tables]:
    """The tables of one iteration, by stage; adds its valid tasks to `valid`."""
    draw = rng(1, "history", iteration)
    places = [Place(iteration, 0, MODES[slot % 3], slot // 3) for slot in range(proposals)]
    tasks = [task(place, draw) for place in places]
    parents = [row for place in places for row in references(place, valid, draw)]
    new = [row for row in tasks if row.verdict == "valid"]
    asked = [place._replace(sample=sample) for place in places for sample in range(probes)]
    known = {row.task_id for row in new}
    asked = [place for place in asked if ids.pack(place._replace(sample=None)) in known]
    proposed, solved = [rollout(place, draw) for place in places], [rollout(place, draw) for place in asked]
    answers = [answer(place, draw) for place in asked]
    rewards = [reward(row, draw) for row in [*proposed, *solved]]
    valid += [(row.task_id, iteration) for row in new]
    return {
        Stage.PROPOSE: {Rollout: proposed, Tokens: [tokens(row, draw) for row in proposed], TaskParent: parents},
        Stage.VALIDATE: {Task: tasks},
        Stage.SOLVE: {Rollout: solved, Tokens: [tokens(row, draw) for row in solved]},
        Stage.VERIFY: {Answer: answers, Reward: rewards},
        Stage.UPDATE: {Advantage: [advantage(row) for row in rewards], **update(iteration)},
    }


def task(place: Place, draw: Random) -> Task:
    """A proposal after validation, three in four valid."""
    number = draw.getrandbits(60)
    program = f"def f(x):\n    y = x * {number % 97} + {number}\n    return [y, y % {1 + number % 13}]"
    good = draw.random() < 0.75
    return Task(
        iteration=place.iteration,
        round=0,
        task_id=ids.pack(place),
        content_key=UUID(int=number),
        program_key=UUID(int=number % 2**20),
        mode=place.mode,
        format="ok",
        verdict="valid" if good else "error",
        reason=None if good else "TypeError: 'int' object is not subscriptable",
        program=program,
        inputs=(str(number % 1000),),
        outputs=(f"[{number}, 3]",) if good else (),
        visible=0,
        message=None,
        cpu_us=900,
        memory_kb=9000,
    )


def references(place: Place, valid: Valid, draw: Random) -> list[TaskParent]:
    """Two earlier valid tasks, drawn evenly."""
    shown = draw.sample(valid, min(2, len(valid)))
    return [
        TaskParent(
            iteration=place.iteration,
            round=0,
            task_id=ids.pack(place),
            position=position,
            parent_id=parent,
            parent_iteration=iteration,
        )
        for position, (parent, iteration) in enumerate(shown)
    ]


def rollout(place: Place, draw: Random) -> Rollout:
    """One prompt and completion of some 60 words."""
    solver = place.sample is not None
    return Rollout(
        iteration=place.iteration,
        round=0,
        rollout_id=ids.pack(place),
        content_key=UUID(int=draw.getrandbits(100)),
        role=Role.SOLVER if solver else Role.PROPOSER,
        mode=place.mode,
        task_id=ids.pack(place._replace(sample=None)),
        source=Source.NEW if solver else Source.PROPOSAL,
        slot=place.slot,
        sample=place.sample or 0,
        policy=f"{place.iteration - 1:064x}",
        policy_iteration=place.iteration - 1,
        seed=draw.getrandbits(62),
        temperature=1.0,
        top_p=1.0,
        max_tokens=192,
        prompt="Here are some programs. " * 8 + str(draw.getrandbits(60)),
        completion=f"def f(x):\n    return x + {draw.getrandbits(60)}",
        finish_reason="stop",
        prompt_tokens=12,
        completion_tokens=8,
    )


def tokens(row: Rollout, draw: Random) -> Tokens:
    """Token ids and log-probabilities of a rollout."""
    return Tokens(
        iteration=row.iteration,
        round=0,
        rollout_id=row.rollout_id,
        prompt_ids=tuple(draw.choices(range(512), k=row.prompt_tokens)),
        completion_ids=tuple(draw.choices(range(512), k=row.completion_tokens)),
        logprobs=tuple(-draw.random() for _ in range(row.completion_tokens)),
    )


def answer(place: Place, draw: Random) -> Answer:
    """A solver's answer, half of them correct."""
    right = draw.random() < 0.5
    return Answer(
        iteration=place.iteration,
        round=0,
        rollout_id=ids.pack(place),
        content_key=UUID(int=draw.getrandbits(100)),
        task_id=ids.pack(place._replace(sample=None)),
        mode=place.mode,
        format="ok",
        answer=str(draw.getrandbits(30)),
        verdict="correct" if right else "wrong",
        reason=None,
        passed=int(right),
        checks=1,
        cpu_us=100,
    )


def reward(row: Rollout, draw: Random) -> Reward:
    """The reward of a rollout; a proposer's has a solve rate."""
    proposer = row.role is Role.PROPOSER
    rate = draw.randrange(9) / 8
    return Reward(
        iteration=row.iteration,
        round=0,
        rollout_id=row.rollout_id,
        content_key=UUID(int=draw.getrandbits(100)),
        role=row.role,
        mode=row.mode,
        task_id=row.task_id,
        rule="azr",
        total=1 - rate if proposer else float(draw.random() < 0.5),
        rung="learnable" if proposer else "correct",
        accuracy=None if proposer else 1.0,
        solve_rate=rate if proposer else None,
        probes=8 if proposer else None,
        learnability=1 - rate if proposer else None,
    )


def advantage(row: Reward) -> Advantage:
    """What an update might make of a reward."""
    return Advantage(
        iteration=row.iteration,
        round=0,
        rollout_id=row.rollout_id,
        role=row.role,
        mode=row.mode,
        advantage=row.total - 0.5,
        baseline=0.5,
        scale=1.0,
        weight=0.001,
    )


def update(iteration: int) -> Tables:
    """Metrics and checkpoint of an update."""
    at = {"iteration": iteration, "round": 0}
    names = ("loss", "grad_norm", "entropy", "kl_engine")
    checkpoint = Checkpoint(
        **at,
        policy=f"{iteration:064x}",
        parent=f"{iteration - 1:064x}",
        optimizer="0",
        directory=f"checkpoints/{iteration:06d}",
        optimizer_steps=iteration,
        parameters=900_000,
        bytes=3_600_000,
    )
    return {
        UpdateMetric: [UpdateMetric(**at, step=0, name=name, role="all", mode="all", value=0.1) for name in names],
        Checkpoint: [checkpoint],
    }
