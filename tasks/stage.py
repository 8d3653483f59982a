"""The contract of a stage, once: skip when sealed, need sealed partitions, record the attempt, seal the outcome.

A stage file holds one function from (workshop, position) to an `Outcome`, decorated with the stage's word. The result
is a `StageTask`: call it plainly, or call its `task`, the same thing as a Prefect task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from storage.ids import Position, Stage
from storage.records import Row
from tasks.needs import needs, require_stage
from tasks.sandbox.jobs import Statistics
from tasks.workshop import Workshop

SEALED = "Sealed"  # name of the Prefect state of a stage that had nothing to do


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


def stage(word: Stage) -> Callable[[Rule], StageTask]:
    """Make a rule a stage.

    The Prefect task neither persists its result nor has a cache policy: with either, Prefect answers one stage from
    another's cache, since all of them are made here and take equal parameters. Only the seal says what is done.
    """

    def decorate(rule: Rule) -> StageTask:
        def run(work: Workshop, iteration: int, round: int) -> State | None:
            if made(work, iteration, round, flow_run_id=flow_run.get_id()):
                return None
            return Completed(name=SEALED, message=f"{word} of {iteration} was sealed before; nothing ran")

        prefect_task = Task(
            run,
            name=word.value,
            description=rule.__doc__,
            task_run_name=f"{word}-{{iteration}}",
            persist_result=False,
            cache_policy=NO_CACHE,
            retries=0,
        )
        made = StageTask(word, rule, prefect_task)
        return made

    return decorate
