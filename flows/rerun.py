"""One stage picked by hand: what is not sealed is done, what is sealed is left, or done again aside and compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import Field

from flows.iteration import STAGES, RootPath
from flows.paper import Progress, leave
from flows.replay import compared, comparison
from flows.running import running
from flows.steps import step
from storage import layout
from storage.ids import Position, Stage, step_text
from storage.ledger import Ledger
from tasks.needs import require_stage
from tasks.stage import SEALED

Number = Annotated[int, Field(ge=0)]


def _named() -> str:
    given = flow_run.get_parameters()
    step = step_text(int(given["iteration"]), int(given["round"]))
    return f"{given['run']} · iteration {step} · {Stage(given['stage'])}{' again' if given['compare'] else ''}"


@flow(flow_run_name=_named, persist_result=False, retries=0)
def rerun_stage(
    run: str,
    iteration: Number,
    stage: Stage,
    round: Number = 0,
    root: RootPath = Path("runs"),
    compare: bool = False,
) -> State:
    """Do one stage that is missing, from sealed ones; a sealed stage is left as it is, or done again aside.

    Args:
        run: Name of the run.
        iteration: Number of the iteration, 0 or more; 0 is the bootstrap.
        stage: The stage to do.
        round: The bootstrap round, 0 or more, when the iteration is 0; else 0.
        root: Directory that holds the runs.
        compare: Do a sealed stage again aside, and say what differs. Nothing is written.

    Raises:
        LedgerError: there is no such run, a stage before this one is not sealed, or it is compared and not sealed.
        ConfigError: there is no such stage in that iteration.
    """
    at = require_stage(Position(iteration, stage, round))
    if compare:
        return _compared(root, run, at)
    if Ledger.open(root, run).seal_of(at) is not None:
        return Completed(name=SEALED, message=_sealed(root, run, at))
    with running(root, run) as work:
        step(work, next(one for one in STAGES if one.stage is stage), iteration, round)
    return Completed(message=f"Stage {at} of run {run} is sealed now.")


def _compared(root: Path, run: str, at: Position) -> State:
    maker, found = compared(root, run, at, gauge=Progress(f"{at} of {run} again"))
    page = comparison(maker, at, found)
    leave("comparison", run, page)
    said = page.partition("\n")[0]
    return Completed(message=said) if found.equal else Failed(message=said)


def _sealed(root: Path, run: str, at: Position) -> str:
    step = step_text(at.iteration, at.round)
    return (
        f"Stage {at} of run {run} is sealed, and what is sealed is never replaced; nothing was run. "
        f"Go on: deployment train, or {layout.command('train', root=root, run=run)}. "
        f"Do it again aside: this form with Compare. "
        f"Differently: deployment fork, or {layout.command('fork', '--at', f'{step}.{at.stage}', root=root, run=run)}"
    )
