"""What a run shows on Prefect's pages while it runs: a reporter that makes artifacts, and says one line per stage.

An artifact per stage, with the task run that made it; two pages of curves after each iteration, one with the iteration,
one with the training around it, always the latest; and a progress bar for a stage that takes its time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from flows.artifacts import stage_page
from flows.console import seconds
from flows.curves import Curves
from flows.markdown import slug
from flows.post import Letter, Post
from flows.story import iteration_page, training_page
from storage.ids import Position, Stage
from storage.ledger import Ledger
from tasks.stage import page_name
from tasks.workshop import Reporter, Workshop

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

PATIENCE_S, HURRY_S = 15.0, 2.0
"""How long the end of a flow waits for what is not delivered: when all went well, and when it was ended or failed."""
_SLOW_S, _OFTEN_S = 1.5, 1.0  # after that a stage has a progress bar; so often it moves
_log = logging.getLogger("azr")


class Together:
    """Several reporters as one."""

    def __init__(self, *reporters: Reporter) -> None:
        self._reporters = reporters

    def begin(self, at: Position) -> None:
        """A stage starts to run."""
        for reporter in self._reporters:
            reporter.begin(at)

    def progress(self, done: int, total: int) -> None:
        """Part of the running stage is done."""
        for reporter in self._reporters:
            reporter.progress(done, total)

    def end(self, at: Position, note: str) -> None:
        """A stage is sealed."""
        for reporter in self._reporters:
            reporter.end(at, note)

    def skip(self, at: Position) -> None:
        """A stage was sealed before."""
        for reporter in self._reporters:
            reporter.skip(at)


@contextmanager
def shown(work: Workshop) -> Iterator[None]:
    """Show on Prefect's pages what the stages of a workshop do, beside the reporter that it has; within a flow run.

    The end waits until everything is delivered, but not for a server that is away. Within another `shown` of the same
    workshop nothing is added.
    """
    before = work.reporter
    if isinstance(before, Together):
        yield
        return
    post, patience = Post(), HURRY_S
    work.reporter = Together(Shown(work.ledger, post), before)
    try:
        yield
        patience = PATIENCE_S
    finally:
        work.reporter = before
        post.close(patience)


class Runs(NamedTuple):
    """Where something happens: a task run, its flow run, and the task run that stands for that one in a larger one."""

    task: UUID | None
    flow: UUID
    parent_task: UUID | None


@dataclass(slots=True)
class Artifact:
    """One artifact that is made once, and then changed in place."""

    key: str
    type: str
    flow: UUID
    task: UUID | None = None
    made: str | None = None

    def put(self, client: SyncPrefectClient, data: str | float, description: str) -> None:
        """Make it, or change it. No event is sent: that of a change would carry the whole page once more."""
        said = {"data": data, "description": description}
        if self.made is not None:
            client.request("PATCH", "/artifacts/{id}", path_params={"id": self.made}, json=said).raise_for_status()
            return
        place = {"key": self.key, "type": self.type, "flow_run_id": str(self.flow)}
        if self.task is not None:
            place["task_run_id"] = str(self.task)
        answer = client.request("POST", "/artifacts/", json={**place, **said})
        answer.raise_for_status()
        self.made = str(answer.json()["id"])


@dataclass(slots=True)
class Shown:
    """The reporter that makes artifacts; outside a Prefect run it makes none."""

    ledger: Ledger
    post: Post
    _curves: Curves = field(init=False)
    _at: Position | None = None
    _began: float = 0.0
    _moved: float = 0.0
    _bar: Artifact | None = None
    _boards: dict[UUID, Artifact] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._curves = Curves(self.ledger)

    def begin(self, at: Position) -> None:
        """A stage starts to run."""
        self._at, self._bar = at, None
        self._began = self._moved = time.monotonic()

    def progress(self, done: int, total: int) -> None:
        """Part of the running stage is done; shown once it has run for a while, and then once a second."""
        now = time.monotonic()
        if now - self._began < _SLOW_S or now - self._moved < _OFTEN_S or self._at is None:
            return
        runs, self._moved = _runs(), now
        if self._bar is None and runs is not None:
            self._bar = Artifact(slug(self.ledger.run, "progress"), "progress", runs.flow, runs.task)
        if self._bar is not None:
            words = f"{page_name(self.ledger.run, self._at)}: {done:,} of {total:,}"
            self.post.put_latest(_moving(self._bar, done / max(total, 1), words))

    def end(self, at: Position, note: str) -> None:
        """A stage is sealed."""
        name, spent = page_name(self.ledger.run, at), seconds(time.monotonic() - self._began)
        _log.info("%s: %s (%s)", name, note, spent)
        runs = _runs()
        if runs is None:
            return
        if self._bar is not None:
            self.post.put(_moving(self._bar, 1.0, f"{name}: done in {spent}"))
        self.post.put(self._stage(runs, at, note))
        if at.stage is Stage.UPDATE and at.iteration > 0:
            self.post.put(self._iteration(runs, at.iteration))
            if runs.parent_task is not None:
                self.post.put(self._training(runs.parent_task, at.iteration))

    def skip(self, at: Position) -> None:
        """A stage was sealed before."""
        _log.info("%s: sealed before, not run again", page_name(self.ledger.run, at))

    def _stage(self, runs: Runs, at: Position, note: str) -> Letter:
        artifact = Artifact(slug(self.ledger.run, at.stage), "markdown", runs.flow, runs.task)
        return lambda client: artifact.put(client, stage_page(self.ledger, at), note)

    def _iteration(self, runs: Runs, number: int) -> Letter:
        artifact = Artifact(slug(self.ledger.run, "curves"), "markdown", runs.flow)

        def send(client: SyncPrefectClient) -> None:
            points = self._curves.until(number)
            artifact.put(client, iteration_page(self.ledger, number, points), f"iteration {number}: curves and costs")

        return send

    def _training(self, parent_task: UUID, number: int) -> Letter:
        """The one page of the training that an iteration is part of."""

        def send(client: SyncPrefectClient) -> None:
            flow = self._flow_of(client, parent_task)
            board = self._boards.get(flow) or self._boards.setdefault(flow, self._board(client, flow))
            page = training_page(self.ledger, self._curves.until(number))
            board.put(client, page, f"the training after iteration {number}")

        return send

    def _board(self, client: SyncPrefectClient, flow: UUID) -> Artifact:
        """The page of a training, which a flow run that is retried has already."""
        key = slug(self.ledger.run, "training")
        wanted = {"key": {"any_": [key]}, "flow_run_id": {"any_": [str(flow)]}}
        answer = client.request("POST", "/artifacts/filter", json={"artifacts": wanted, "limit": 1})
        answer.raise_for_status()
        made = [str(one["id"]) for one in answer.json()]
        return Artifact(key, "markdown", flow, made=made[0] if made else None)

    def _flow_of(self, client: SyncPrefectClient, task: UUID) -> UUID:
        """The flow run of a task run."""
        answer = client.request("GET", "/task_runs/{id}", path_params={"id": task})
        answer.raise_for_status()
        return UUID(answer.json()["flow_run_id"])


def _moving(bar: Artifact, share: float, words: str) -> Letter:
    return lambda client: bar.put(client, round(100 * min(share, 1.0), 1), words)


def _runs() -> Runs | None:
    """The Prefect runs that this is called in; None outside of any."""
    from prefect.context import FlowRunContext, TaskRunContext

    flow, task = FlowRunContext.get(), TaskRunContext.get()
    if flow is None or flow.flow_run is None:
        return None
    return Runs(None if task is None else task.task_run.id, flow.flow_run.id, flow.flow_run.parent_task_run_id)
