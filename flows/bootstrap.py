"""Iteration 0: from the identity triplet to buffers full of seeds, in bounded rounds with the frozen base."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from prefect import flow

from flows.iteration import RootPath, RunName
from flows.running import running
from flows.steps import step
from storage.buffers import valid_ids
from storage.errors import EngineError
from storage.ids import Mode, Position, Stage
from storage.ledger import Ledger
from storage.records import VALID, Task
from tasks.loop import LoopConfig
from tasks.propose import propose
from tasks.seeding import lacking
from tasks.update import update
from tasks.validate import validate
from tasks.workshop import Workshop


@flow(flow_run_name="{run} · bootstrap", persist_result=False, retries=0)
def bootstrap(run: RunName, root: RootPath = Path("runs")) -> None:
    """Name the base as checkpoint 0, validate the identity triplets, then propose until every mode has its seeds.

    Raises:
        EngineError: seeds are still lacking after `bootstrap.max_rounds`; the message counts the rejections.
    """
    with running(root, run) as work:
        step(work, update, 0)
        step(work, validate, 0)
        for round in range(1, work.config.bootstrap.max_rounds + 1):
            if not missing_seeds(work.config, work.ledger, round):
                return
            step(work, propose, 0, round)
            step(work, validate, 0, round)
        if missing := missing_seeds(work.config, work.ledger, work.config.bootstrap.max_rounds + 1):
            raise _starved(work, missing)


def missing_seeds(config: LoopConfig, ledger: Ledger, round: int) -> tuple[Mode, ...]:
    """The modes that lack seeds when a round is about to begin."""
    return lacking(config, _buffers(ledger, round))


def _buffers(ledger: Ledger, round: int) -> Mapping[Mode, Sequence[int]]:
    return valid_ids(ledger, Position(0, Stage.PROPOSE, round))


def _starved(work: Workshop, missing: Sequence[Mode]) -> EngineError:
    rounds, ledger = work.config.bootstrap.max_rounds, work.ledger
    held = {mode: len(tasks) for mode, tasks in _buffers(ledger, rounds + 1).items()}
    wanted = ", ".join(f"{mode} has {held.get(mode, 0)} of {work.config.bootstrap.wanted}" for mode in missing)
    tasks = (task for round in range(1, rounds + 1) for task in ledger.read(Task, Position(0, Stage.VALIDATE, round)))
    counts = Counter(task.verdict for task in tasks if task.verdict != VALID)
    reasons = ", ".join(f"{count} {word}" for word, count in counts.most_common()) or "none"
    return EngineError(
        f"The bootstrap of run {ledger.run} lacks seeds after {rounds} rounds: {wanted}. Rejections: {reasons}. "
        "All rounds are sealed and can be looked at with azr sql. Begin another run with a larger "
        "--set bootstrap.max_rounds, fewer --set bootstrap.wanted, or another --set model.path."
    )
