"""One iteration as one Prefect flow of five tasks. Whatever is sealed answers at once; the rest is done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.session import workshop
from models.manifest import prune_optimizers
from storage.ids import Position, Stage
from storage.records import Checkpoint
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
    """Propose, validate, solve, verify and update, once each; sealed stages are not run again."""
    with workshop(root, run) as work:
        for stage in STAGES:
            stage.task(work, iteration, 0)
        prune_optimizers(work.ledger.directory, keep=_kept(work, iteration))


def _kept(work: Workshop, iteration: int) -> set[str]:
    """Directory names of the last sealed checkpoints, as many as the config keeps."""
    first = max(1, iteration + 1 - work.config.update.keep_optimizer)
    rows = (work.ledger.read(Checkpoint, Position(number, Stage.UPDATE))[0] for number in range(first, iteration + 1))
    return {Path(row.directory).name for row in rows if row.directory is not None}
