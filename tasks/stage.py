"""The contract of a stage, once: skip when sealed, need sealed partitions, record the attempt, seal the outcome.

A stage file holds one function from (workshop, position) to an `Outcome`, decorated with the stage's word. The result
is a `StageTask`: call it plainly, or call its `task`, the same thing as a Prefect task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run, task_run
from prefect.states import Completed

from storage.errors import Passing
from storage.ids import Position, Stage, step_text
from storage.records import Row
from tasks.needs import needs, require_stage
from tasks.sandbox.jobs import Statistics
from tasks.workshop import Workshop

SEALED = "Sealed"  # name of the Prefect state of a stage that had nothing to do

RETRY_AFTER_S = (5.0, 30.0)
"""How long a stage waits before it is tried again after a fault that can pass; then it is failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a stage made: its tables, its artifacts by hash, and a few words about it."""

    tables: Mapping[type[Row], Sequence[Row]]
    note: str
    artifacts: Mapping[str, str] = field(default_factory=dict)


Rule = Callable[[Workshop, Position], Outcome]


@dataclass(frozen=True, slots=True)
class StageTask:
    """One stage: `rule` computes its outcome from sealed partitions alone; `task` is the Prefect task."""

    stage: Stage
    rule: Rule
    task: Task[[Workshop, int, int], State | None]

    def __call__(self, work: Workshop, iteration: int, round: int = 0, *, flow_run_id: str | None = None) -> bool:
        """Seal this stage of an iteration (or bootstrap round); False when it was sealed before and nothing ran.

        Raises:
            LedgerError: a partition that it needs is not sealed, or the disk refuses; nothing was sealed.
        """
        at = require_stage(Position(iteration, self.stage, round))
        if work.ledger.seal_of(at) is not None:
            work.reporter.skip(at)
            return False
        provenance = work.provenance(self.stage, flow_run_id)
        before = work.statistics()
        with work.ledger.begin(at, inputs=needs(work.ledger, at), provenance=provenance) as attempt:
            work.reporter.begin(at)
            outcome = self.outcome(work, at)
            attempt.seal(outcome.tables, artifacts=outcome.artifacts, seeds={"run": work.config.seed})
        work.reporter.end(at, outcome.note + _ran(before, work.statistics()))
        return True

    def outcome(self, work: Workshop, at: Position) -> Outcome:
        """What the rule makes of the partitions before a position, which are all that it sees; nothing is sealed."""
        with work.as_before(at):
            return self.rule(work, at)


def _ran(before: Statistics, after: Statistics) -> str:
    """How the executor found what a stage asked: from its cache, many programs in a process, or one alone."""
    ways = {"cached": after.cached - before.cached, "fast": after.fast - before.fast, "slow": after.slow - before.slow}
    counts = ", ".join(f"{count} {way}" for way, count in ways.items() if count)
    return f"; ran {after.jobs - before.jobs}: {counts}" if counts else ""


def can_pass(task: Task[..., object], run: TaskRun, state: State) -> bool:
    """Whether a stage that failed is tried again by itself: what fails the same way each time is not."""
    return isinstance(state.data, Passing)


def page_name(run: str, at: Position) -> str:
    """What a stage is called in Prefect: ``nano · iteration 12 · solve``, or ``nano · bootstrap 2 · propose``."""
    bootstrap = f"bootstrap {at.round}" if at.round else "bootstrap"
    return f"{run} · {f'iteration {at.iteration}' if at.iteration else bootstrap} · {at.stage}"


def stage(word: Stage) -> Callable[[Rule], StageTask]:
    """Make a rule a stage.

    The Prefect task neither persists its result nor has a cache policy: with either, Prefect answers one stage from
    another's cache, since all of them are made here and take equal parameters. Only the seal says what is done.
    """

    def decorate(rule: Rule) -> StageTask:
        def run(work: Workshop, iteration: int, round: int) -> State | None:
            if made(work, iteration, round, flow_run_id=flow_run.get_id()):
                return None
            step = step_text(iteration, round)
            return Completed(name=SEALED, message=f"{word} of iteration {step} was sealed before; nothing ran")

        def name() -> str:
            given = task_run.get_parameters()
            return page_name(given["work"].ledger.run, Position(given["iteration"], word, given["round"]))

        prefect_task = Task(
            run,
            name=word.value,
            description=rule.__doc__,
            task_run_name=name,
            persist_result=False,
            cache_policy=NO_CACHE,
            retries=len(RETRY_AFTER_S),
            retry_delay_seconds=list(RETRY_AFTER_S),
            retry_condition_fn=can_pass,
        )
        made = StageTask(word, rule, prefect_task)
        return made

    return decorate
