"""Run one stage that is not sealed, and nothing else."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows.iteration import STAGES, RootPath, RunName
from flows.session import workshop
from storage.ids import Stage


@flow(flow_run_name="{run} · iteration {iteration} · {stage}", persist_result=False, retries=0)
def rerun_stage(run: RunName, iteration: int, stage: Stage, round: int = 0, root: RootPath = Path("runs")) -> None:
    """Do one missing stage from sealed ones; a sealed stage is left as it is."""
    with workshop(root, run) as work:
        next(one for one in STAGES if one.stage is stage).task(work, iteration, round)
