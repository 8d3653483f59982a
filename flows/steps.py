"""One stage inside a flow: in its turn on the GPU, and with its failure put into words for whoever has to mend it."""

from __future__ import annotations

from prefect.context import TagsContext
from prefect.runtime import deployment

from flows.slots import slot
from storage import layout
from storage.attempt import stage_text
from storage.errors import AzrError
from storage.ids import Position
from storage.ledger import Ledger
from tasks.stage import StageTask
from tasks.workshop import Workshop


def step(work: Workshop, stage: StageTask, iteration: int, round: int = 0) -> None:
    """Do a stage as a Prefect task; when it is sealed, nothing runs.

    Raises:
        AzrError: it failed; of the type of the error that it met where that is one of ours. The message says which
            stage, what is sealed and how to go on; the error itself is the cause.
    """
    at = Position(iteration, stage.stage, round)
    try:
        with slot(work, at), TagsContext():  # for each tag of a task run Prefect would ask its server for a slot
            stage.task(work, iteration, round)
    except Exception as error:
        raise failure(error, work.ledger, at) from error


def failure(error: Exception, ledger: Ledger, at: Position) -> AzrError:
    """The error that a flow ends with when a stage of it failed."""
    again = layout.command("train", root=ledger.root, run=ledger.run)
    retry = "press Retry on the flow run, or run" if deployment.get_id() else "run"
    ours = isinstance(error, AzrError)
    where = "" if ours else f"\nThe traceback is in {ledger.directory / layout.LOG_FILE}."
    kind = type(error) if isinstance(error, AzrError) else AzrError
    what = str(error) if ours else f"{type(error).__name__}: {error}"
    return kind(
        f"{stage_text(at)} of run {ledger.run} failed and sealed nothing; sealed so far: {_so_far(ledger)}. The cause: "
        f"{what}{where}\nWhen that is mended, {retry}: {again}"
    )


def _so_far(ledger: Ledger) -> str:
    count, last = len(ledger.sealed()), ledger.last()
    stages = f"{count} stage" if count == 1 else f"{count} stages"
    return f"{stages}, the last one {last.position}" if last is not None else stages
