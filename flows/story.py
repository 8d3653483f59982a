"""What an iteration and a whole training show on Prefect's pages: the curves so far, results, costs and links."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from flows.curves import Point, Values, seconds
from flows.markdown import code, plain, table
from flows.pictures import picture
from flows.serving.places import mlflow_ui
from storage import layout
from storage.ids import Mode, Position, Stage
from storage.ledger import Ledger
from storage.records import Rollout

_LAST = 10  # iterations in the table of a training


def iteration_page(ledger: Ledger, iteration: int, points: Sequence[Point]) -> str:
    """The page of an iteration whose update is sealed: curves, what came of it by mode, what each stage cost.

    Raises:
        LedgerError: a stage of it is not sealed, or not what was sealed.
    """
    head = f"### {plain(f'{ledger.run} · iteration {iteration}')}"
    return "\n\n".join(
        [head, picture(points), result_table(points[-1]), cost_table(ledger, iteration), *_links(ledger)]
    )


def training_page(ledger: Ledger, points: Sequence[Point]) -> str:
    """The page of a training that goes on: how far it is, curves, its latest iterations, where to look further."""
    head = f"### {plain(ledger.run)} after iteration {points[-1].iteration}"
    status = layout.command("status", root=ledger.root, run=ledger.run)
    look = f"All stages and attempts: {code(status)}"
    return "\n\n".join([head, picture(points), point_table(points[-_LAST:]), look, *_links(ledger)])


def result_table(point: Point) -> str:
    """What came of one iteration, by mode: shares and mean rewards."""
    modes = [mode for mode in Mode if mode in point.valid]
    columns: Mapping[str, Values] = {
        "proposals valid": point.valid,
        "answers correct": point.solved,
        "proposer's reward": point.proposer,
        "solver's reward": point.solver,
    }
    return table(("mode", *columns), [(mode, *(_rounded(of.get(mode)) for of in columns.values())) for mode in modes])


def cost_table(ledger: Ledger, iteration: int) -> str:
    """Time, tokens and bytes of each stage of an iteration."""
    return table(
        ("stage", "seconds", "CPU seconds", "tokens sampled", "rows", "bytes"),
        [_costs(ledger, Position(iteration, stage)) for stage in Stage],
    )


def point_table(points: Sequence[Point]) -> str:
    """Some iterations, the latest first; means over the modes."""
    return table(
        ("iteration", "proposals valid", "answers correct", "proposer's reward", "solver's reward", "seconds"),
        [
            (point.iteration, *map(_mean, (point.valid, point.solved, point.proposer, point.solver)), point.seconds)
            for point in reversed(points)
        ],
    )


def mlflow_page(ledger: Ledger, ui: str | None) -> str | None:
    """The address of the run in MLflow's UI: of the tracking server, else below `ui`; None where nothing shows it."""
    try:
        link = json.loads((ledger.directory / layout.MLFLOW_LINK).read_text(encoding="utf-8"))
        server, experiment, run = str(link["tracking_uri"]), str(link["experiment_id"]), str(link["run_id"])
    except (OSError, ValueError, KeyError):  # MLflow is off, was not told yet, or by an earlier version
        return None
    base = server if server.startswith(("http://", "https://")) else ui
    return None if base is None else f"{base.rstrip('/')}/#/experiments/{experiment}/runs/{run}"


def _links(ledger: Ledger) -> list[str]:
    page = mlflow_page(ledger, mlflow_ui(ledger.root))
    return [] if page is None else [f"In MLflow: <{page}>"]


def _costs(ledger: Ledger, at: Position) -> tuple[object, ...]:
    seal = ledger.require(at)
    outputs = seal.outputs.values()
    tokens = sum(row.completion_tokens for row in ledger.read(Rollout, at)) if Rollout.table in seal.outputs else None
    size = sum(output.bytes for output in outputs)
    return at.stage, seconds(ledger, at), seal.timings.cpu_us / 1e6, tokens, sum(one.rows for one in outputs), size


def _mean(values: Values) -> float | None:
    return _rounded(sum(values.values()) / len(values)) if values else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
