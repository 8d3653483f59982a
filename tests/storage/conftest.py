"""What the tests of the ledger share: rows of every table, drawn by hypothesis or made by hand, and small ledgers."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from storage.commit import Disk
from storage.ids import Mode, Place, Position, Role, Source, Stage, pack
from storage.ledger import Ledger
from storage.records import (
    Advantage,
    Answer,
    Checkpoint,
    Kind,
    Reward,
    Rollout,
    Row,
    Task,
    TaskParent,
    Tokens,
    UpdateMetric,
)
from storage.schemas import Field, fields_of
from storage.seals import Provenance, RunFacts

settings.register_profile("storage", derandomize=True, deadline=None)
settings.load_profile("storage")

CODE = Provenance(code_version="abc123", host={"python": "3.12"})

_INT32 = st.integers(-(2**31), 2**31 - 1)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_STRATEGIES: dict[Kind, st.SearchStrategy[object]] = {
    Kind.INT32: _INT32,
    Kind.INT64: st.integers(-(2**63), 2**63 - 1),
    Kind.DOUBLE: st.floats(allow_nan=False),
    Kind.TEXT: _TEXT,
    Kind.UUID: st.uuids(),
    Kind.TEXTS: st.lists(_TEXT, max_size=3).map(tuple),
    Kind.INTS: st.lists(_INT32, max_size=4).map(tuple),
    Kind.FLOATS: st.lists(st.floats(width=32, allow_nan=False), max_size=4).map(tuple),
}


def _values(field: Field) -> st.SearchStrategy[object]:
    values = st.sampled_from(field.python) if issubclass(field.python, Enum) else _STRATEGIES[field.column.kind]
    return st.none() | values if field.nullable else values


def _rows(row_type: type[Row]) -> st.SearchStrategy[list[Row]]:
    row = st.builds(row_type, **{field.name: _values(field) for field in fields_of(row_type)})
    return st.lists(row, max_size=6, unique_by=lambda row: tuple(getattr(row, name) for name in row_type.key))


@pytest.fixture(scope="session")
def rows_of() -> Callable[[type[Row]], st.SearchStrategy[list[Row]]]:
    """Lists of rows of one table with different keys."""
    return _rows


def make_task(iteration: int = 1, slot: int = 0, *, round: int = 0, mode: Mode = Mode.DEDUCTION, **changes) -> Task:
    values = {
        "iteration": iteration,
        "round": round,
        "task_id": pack(Place(iteration, round, mode, slot)),
        "content_key": UUID(int=iteration * 1000 + slot),
        "program_key": UUID(int=7),
        "mode": mode,
        "format": "ok",
        "verdict": "valid",
        "reason": None,
        "program": "def f(x):\n    return x + 1",
        "inputs": ("1",),
        "outputs": ("2",),
        "visible": 0,
        "message": None,
        "cpu_us": 5,
        "memory_kb": 6,
    }
    return Task(**(values | changes))


def make_rollout(
    iteration: int = 1, slot: int = 0, *, sample: int | None = None, mode: Mode = Mode.DEDUCTION, **changes
) -> Rollout:
    values = {
        "iteration": iteration,
        "round": 0,
        "rollout_id": pack(Place(iteration, 0, mode, slot, sample)),
        "content_key": UUID(int=3),
        "role": Role.PROPOSER if sample is None else Role.SOLVER,
        "mode": mode,
        "task_id": pack(Place(iteration, 0, mode, slot)),
        "source": Source.PROPOSAL if sample is None else Source.NEW,
        "slot": slot,
        "sample": sample or 0,
        "policy": "p0",
        "policy_iteration": iteration - 1,
        "seed": 11,
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": 64,
        "prompt": "write a program",
        "completion": "def f(x): return x + 1",
        "finish_reason": "stop",
        "prompt_tokens": 3,
        "completion_tokens": 4,
    }
    return Rollout(**(values | changes))


def make_reward(rollout: Rollout, total: float, **changes) -> Reward:
    values = {
        "iteration": rollout.iteration,
        "round": 0,
        "rollout_id": rollout.rollout_id,
        "content_key": UUID(int=9),
        "role": rollout.role,
        "mode": rollout.mode,
        "task_id": rollout.task_id,
        "rule": "azr",
        "total": total,
        "rung": "correct",
        "accuracy": None,
        "solve_rate": None,
        "probes": None,
        "learnability": None,
    }
    return Reward(**(values | changes))


def make_answer(rollout: Rollout, verdict: str, **changes) -> Answer:
    values = {
        "iteration": rollout.iteration,
        "round": 0,
        "rollout_id": rollout.rollout_id,
        "content_key": None,
        "task_id": rollout.task_id,
        "mode": rollout.mode,
        "format": "ok",
        "answer": "2",
        "verdict": verdict,
        "reason": None,
        "passed": int(verdict == "correct"),
        "checks": 1,
        "cpu_us": 1,
    }
    return Answer(**(values | changes))


def make_facts(run: str = "nano") -> RunFacts:
    return RunFacts(
        run=run, seed=42, config={"name": run, "seed": 42}, config_hash="c0ffee", code_version="abc123", python="3.12"
    )


def seal_stages(ledger: Ledger, stages: dict[Position, dict[type[Row], list[Row]]]) -> None:
    """Seal these partitions, each made from the one before."""
    inputs = [ledger.sealed()[-1].position] if ledger.sealed() else []
    for position, tables in stages.items():
        with ledger.begin(position, inputs=inputs, provenance=CODE) as attempt:
            attempt.seal(tables, seeds={"run": 42})
        inputs = [position]


def iteration_stages(iteration: int = 1) -> dict[Position, dict[type[Row], list[Row]]]:
    """One whole iteration: two proposals (one refused), two answers to the valid one (one correct)."""
    good, bad = make_rollout(iteration, 0), make_rollout(iteration, 1)
    right, wrong = make_rollout(iteration, 0, sample=0), make_rollout(iteration, 0, sample=1)
    rewards = [
        make_reward(good, 0.5, rung="learnable", solve_rate=0.5, probes=2, learnability=0.5),
        make_reward(bad, -0.5, rung="invalid"),
        make_reward(right, 1.0, accuracy=1.0),
        make_reward(wrong, -0.5, accuracy=0.0, rung="wrong"),
    ]
    at = {"iteration": iteration, "round": 0}
    parent = pack(Place(0, 2, Mode.DEDUCTION, 4))
    refused = make_task(iteration, 1, verdict="error", reason="ValueError: no", outputs=())
    tokens = [
        Tokens(**at, rollout_id=row.rollout_id, prompt_ids=(1, 2, 3), completion_ids=(4, 5), logprobs=(-0.5, -1.5))
        for row in (good, bad)
    ]
    advantage = Advantage(
        **at, rollout_id=right.rollout_id, role=Role.SOLVER, mode=Mode.DEDUCTION,
        advantage=1.0, baseline=0.25, scale=0.75, weight=0.5,
    )  # fmt: skip
    checkpoint = Checkpoint(
        **at, policy=f"p{iteration}", parent="p0", optimizer="o", directory=f"checkpoints/{iteration}",
        optimizer_steps=iteration, parameters=10, bytes=40,
    )  # fmt: skip
    shown = TaskParent(**at, task_id=good.rollout_id, position=0, parent_id=parent, parent_iteration=0)
    return {
        Position(iteration, Stage.PROPOSE): {Rollout: [good, bad], Tokens: tokens, TaskParent: [shown]},
        Position(iteration, Stage.VALIDATE): {Task: [make_task(iteration, 0), refused]},
        Position(iteration, Stage.SOLVE): {Rollout: [right, wrong], Tokens: []},
        Position(iteration, Stage.VERIFY): {
            Answer: [make_answer(right, "correct"), make_answer(wrong, "wrong", answer="3")],
            Reward: rewards,
        },
        Position(iteration, Stage.UPDATE): {
            Advantage: [advantage],
            UpdateMetric: [UpdateMetric(**at, step=0, name="loss", role="all", mode="all", value=0.125)],
            Checkpoint: [checkpoint],
        },
    }


class Samples:
    """The makers above, for tests (files under tests/ do not import each other)."""

    task = staticmethod(make_task)
    rollout = staticmethod(make_rollout)
    reward = staticmethod(make_reward)
    answer = staticmethod(make_answer)
    facts = staticmethod(make_facts)
    seal = staticmethod(seal_stages)
    iteration = staticmethod(iteration_stages)
    code = CODE
    quick = Disk(durable=False)


@pytest.fixture(scope="session")
def samples() -> type[Samples]:
    return Samples


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with one run, `nano`, whose iteration 1 is sealed."""
    with Ledger.create(tmp_path / "runs", make_facts(), disk=Samples.quick) as ledger:
        seal_stages(ledger, iteration_stages())
    return tmp_path / "runs"
