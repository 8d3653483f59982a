"""A small run made by hand: sealed stages, tokens and checkpoint directories, and no model that wrote any of it."""

from __future__ import annotations

from pathlib import Path

from flows.config import RunConfig, validated
from flows.session import facts_of
from models.manifest import checkpoint_name
from storage.commit import Disk
from storage.ids import Mode, Place, Position, Stage, pack
from storage.ledger import Ledger
from storage.records import Checkpoint, Row, Task, Tokens
from storage.seals import Provenance
from tasks.base import find_base
from tasks.needs import needs, stages_of
from tasks.reasoning.prompts import load_templates

QUICK = Disk(durable=False)
STATE = 5_000  # bytes of an optimizer state
WEIGHTS = 3_000


def small_config(**sections: dict[str, object]) -> RunConfig:
    """One mode, whose only seed is the identity."""
    small = {"curriculum": {"modes": ["deduction"], "templates": "nano"}, "bootstrap": {"wanted": 1}}
    return validated({"name": "hand", "seed": 4, "ledger": {"durable": False}, **small, **sections})


def make_run(root: Path, name: str, iterations: int) -> None:
    """A run of so many iterations."""
    config = small_config()
    with Ledger.create(root, facts_of(name, config), disk=QUICK) as ledger:
        for number in range(iterations + 1):
            extend(ledger, config, number)


def extend(ledger: Ledger, config: RunConfig, iteration: int) -> None:
    """The stages of an iteration that are not sealed; of the bootstrap, 0, its first round."""
    for at in stages_of(iteration):
        if ledger.seal_of(at) is None:
            seal(ledger, config, at)


def seal(ledger: Ledger, config: RunConfig, at: Position) -> None:
    """One stage with a row or two of each table that a fork reads."""
    here = {"iteration": at.iteration, "round": at.round}
    own = pack(Place(at.iteration, at.round, Mode.DEDUCTION, 0))
    tables: dict[type[Row], list[Row]] = {}
    artifacts: dict[str, str] = {}
    if at.stage in (Stage.PROPOSE, Stage.SOLVE):
        tables = {Tokens: [Tokens(**here, rollout_id=own, prompt_ids=(1,), completion_ids=(2,), logprobs=(-0.5,))]}
    if at.stage is Stage.VALIDATE:
        tables = {Task: [_task(own, at)]}
    if at.stage is Stage.UPDATE:
        base = find_base(config, load_templates(config.curriculum.templates)).hash
        policy = base if at.iteration == 0 else f"{at.iteration:x}".rjust(2, "0") * 32
        directory = None if at.iteration == 0 else f"checkpoints/{checkpoint_name(at.iteration, policy)}"
        if directory is not None:
            publish(ledger.directory / directory)
        artifacts = {"policy": policy} | ({"optimizer": "0" * 64} if at.iteration else {})
        row = Checkpoint(
            **here, policy=policy, parent=None, optimizer=artifacts.get("optimizer"), directory=directory,
            optimizer_steps=at.iteration, parameters=1, bytes=WEIGHTS,
        )  # fmt: skip
        tables = {Checkpoint: [row]}
    with ledger.begin(at, inputs=needs(ledger, at), provenance=Provenance(code_version="tests")) as attempt:
        attempt.seal(tables, artifacts=artifacts, seeds={"run": config.seed})


def publish(directory: Path) -> None:
    """A checkpoint's directory, of the right size."""
    (directory / "optimizer").mkdir(parents=True)
    (directory / "model.safetensors").write_bytes(bytes(WEIGHTS))
    (directory / "optimizer" / "state.safetensors").write_bytes(bytes(STATE))


def _task(task_id: int, at: Position) -> Task:
    return Task(
        iteration=at.iteration, round=at.round, task_id=task_id, content_key=None, program_key=None,
        mode=Mode.DEDUCTION, format="ok", verdict="valid", reason=None, program="def f(a):\n    return a",
        inputs=("1",), outputs=("1",), visible=0, message=None, cpu_us=1, memory_kb=1,
    )  # fmt: skip
