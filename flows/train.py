"""Training: the bootstrap, then iterations, from the first one with an unsealed stage on."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Annotated

from prefect import tags
from prefect.runtime import flow_run
from pydantic import Field

from flows.bootstrap import bootstrap, missing_seeds
from flows.config import RunConfig
from flows.hosted import hosted
from flows.iteration import RootPath, iteration
from flows.launch import pick_run
from flows.limits import Budget, limits_of, stop_at_limit
from flows.pages import own_page
from flows.running import running
from flows.session import stored_config
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
    _train(root, run or config.name, config)


def _chosen() -> str:
    """The name of the flow run: the run's, also where the latest one is meant."""
    given = flow_run.get_parameters()
    return pick_run(Path(given["root"]), given["run"] or None)


@hosted(flow_run_name=_chosen, name="continue")
def go_on(
    run: str = "",
    iterations: Annotated[int, Field(ge=0)] = 0,
    root: RootPath = Path("runs"),
) -> None:
    """Go on with a run that has begun, such as a fork, with the config that it has.

    Args:
        run: Name of the run; empty is the only or latest one.
        iterations: Iterations wanted in all, 0 or more; 0 is as many as its config says.
        root: Directory that holds the runs.

    Raises:
        LedgerError: there is no such run.
        AzrError: as `train`.
    """
    name = pick_run(root, run or None)
    stored = stored_config(root, name)
    _train(root, name, stored.model_copy(update={"iterations": iterations}) if iterations else stored)


def _train(root: Path, name: str, config: RunConfig) -> None:
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
