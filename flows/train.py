"""Training: the bootstrap, then iterations, from the first one with an unsealed stage on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.bootstrap import bootstrap, missing_seeds
from flows.config import RunConfig
from flows.iteration import RootPath, iteration
from flows.session import workshop
from storage.ids import Position, Stage
from storage.ledger import Ledger
from tasks.loop import LoopConfig
from tasks.needs import IDENTITY, last_round


@flow(flow_run_name="{run}", persist_result=False, retries=0)
def train(
    config: Annotated[RunConfig, Field(description="What to train and how; unknown keys are refused.")],
    run: Annotated[str, Field(description="Name of the run; the config's name when empty.")] = "",
    root: RootPath = Path("runs"),
) -> None:
    """Train a run up to `config.iterations`; what is sealed is not run again, so Retry and a second call continue."""
    name = run or config.name
    with workshop(root, name, config=config) as work:
        first = next_iteration(work.ledger, config)
        if first == 0:
            bootstrap(name, root)
        for number in range(max(first, 1), config.iterations + 1):
            iteration(name, number, root)


def next_iteration(ledger: Ledger, config: LoopConfig) -> int:
    """The first iteration with an unsealed stage."""
    updated = [seal.iteration for seal in ledger.sealed() if seal.stage is Stage.UPDATE]
    last = max(updated, default=0)
    if last > 0 or ledger.seal_of(Position(1, Stage.PROPOSE)) is not None:
        return last + 1
    if ledger.seal_of(IDENTITY) is None or not updated:
        return 0
    return 0 if missing_seeds(config, ledger, last_round(ledger) + 1) else 1
