"""One iteration as one Prefect flow of five tasks. Whatever is sealed answers at once; the rest is done."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.collect import collect
from flows.running import running
from flows.steps import step
from tasks.propose import propose
from tasks.solve import solve
from tasks.stage import StageTask
from tasks.update import update
from tasks.validate import validate
from tasks.verify import verify
from tasks.workshop import Workshop

STAGES: tuple[StageTask, ...] = (propose, validate, solve, verify, update)

RunName = Annotated[str, Field(description="Name of the run.")]
RootPath = Annotated[Path, Field(description="Directory that holds the runs.")]


@flow(flow_run_name="{run} · iteration {iteration}", persist_result=False, retries=0, validate_parameters=True)
def iteration(run: RunName, iteration: Annotated[int, Field(ge=1)], root: RootPath = Path("runs")) -> None:
    """Propose, validate, solve, verify and update, once each; sealed stages are not run again.

    Args:
        run: Name of the run.
        iteration: Number of the iteration, 1 or more.
        root: Directory that holds the runs.
    """
    with running(root, run) as work:
        for stage in STAGES:
            step(work, stage, iteration)
        _let_go(work)


def _let_go(work: Workshop) -> None:
    """Drop what the retention policy lets go; that it cannot be dropped now is no reason to stop a run."""
    try:
        collect(work.ledger, work.config.retention)
    except OSError as error:  # a LedgerError, or the disk's
        logging.getLogger("azr").warning("what retention lets go was not dropped: %s", error)
