"""Training: the bootstrap, then iterations, from the first one with an unsealed stage on."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from prefect import tags
from prefect.runtime import flow_run

from flows.bootstrap import bootstrap, missing_seeds
from flows.config import RunConfig
from flows.hosted import hosted
from flows.iteration import RootPath, iteration
from flows.limits import Budget, limits_of, stop_at_limit
from flows.pages import own_page
from flows.running import running
from storage.ids import Position, Stage
from storage.ledger import Ledger
from tasks.loop import LoopConfig
from tasks.needs import IDENTITY, last_round


def _named() -> str:
    """The name of the flow run: the run's."""
    given = flow_run.get_parameters()
    return str(given["run"] or given["config"].name)


@hosted(flow_run_name=_named)
def train(
    config: RunConfig,
    run: str = "",
    root: RootPath = Path("runs"),
) -> None:
    """Train a run up to `config.iterations`; what is sealed is not run again, so Retry and a second call continue.

    Args:
        config: What to train and how; unknown keys are refused.
        run: Name of the run; the config's name when empty.
        root: Directory that holds the runs.

    Raises:
        RunTaken: another process writes the run.
        ConfigError: the run began with other values of keys that decide what it computes.
        LimitReached: a limit of `config.limits` is reached; a deployed flow run is suspended instead.
        AzrError: a stage failed, as `flows.steps.step` says.
    """
    name = run or config.name
    with running(root, name, config=config) as work, tags(*flow_run.get_tags()):  # iterations are found by them too
        limits = limits_of(config)
        budget = Budget(work.ledger, limits)
        first = next_iteration(work.ledger, config)
        stop_at_limit(work.ledger, budget)
        if first == 0:
            bootstrap(name, root)
            budget = Budget(work.ledger, limits)
        for number in range(max(first, 1), config.iterations + 1):
            stop_at_limit(work.ledger, budget)
            _iterate(name, number, root, config.iterations)
            budget.count(number)


def _iterate(name: str, number: int, root: Path, last: int) -> None:
    began = time.monotonic()
    own_page(iteration, number)
    iteration(name, number, root)
    spent = time.monotonic() - began
    logging.getLogger("azr").info("run %s: iteration %d of %d is sealed (%.1f s)", name, number, last, spent)


def next_iteration(ledger: Ledger, config: LoopConfig) -> int:
    """The first iteration with an unsealed stage."""
    updated = [seal.iteration for seal in ledger.sealed() if seal.stage is Stage.UPDATE]
    last = max(updated, default=0)
    if last > 0 or ledger.seal_of(Position(1, Stage.PROPOSE)) is not None:
        return last + 1
    if ledger.seal_of(IDENTITY) is None or not updated:
        return 0
    return 0 if missing_seeds(config, ledger, last_round(ledger) + 1) else 1
