"""The audit of a run's meaning: step by step, every row against the rows, seeds and config that it came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from storage.examination import Examined
from storage.findings import Result, result
from storage.ids import Position, Stage
from storage.records import Checkpoint, Task
from storage.seals import Seal
from tasks.auditing.execution import Instruments, audit_again
from tasks.auditing.history import Check, History, Rules, RulesAt, Step, steps
from tasks.auditing.rewards import audit_answers, audit_rewards
from tasks.auditing.rollouts import audit_probes, audit_proposals
from tasks.auditing.tasks import audit_tasks
from tasks.auditing.updates import audit_advantages, audit_update
from tasks.needs import needs, stages_of

REMEMBERED = (Task.table, Checkpoint.table)
"""The tables that later steps are checked against."""


def audit_meaning(
    rules: RulesAt,
    partitions: Iterable[Examined],
    instruments: Instruments | None = None,
    ours: Callable[[int], bool] = lambda _: True,
) -> Iterator[list[Result]]:
    """The results of every check, of the partitions themselves too, step by step; memory is that of one step.

    Args:
        rules: config, templates and directory of the run that made a position: before a fork's point, its parent's.
        partitions: in the order of positions.
        instruments: to run the programs again and to decode the token ids; None leaves that out.
        ours: which steps to check, by their number; of the others only what later ones follow from is taken.
    """
    history = History()
    before: Step | None = None
    for number, step in enumerate(steps(partitions)):
        history.begin(step)
        if ours(number):
            yield list(_results(rules, history, before, step, instruments))
        history.absorb(step)
        before = step


def _results(
    rules: RulesAt, history: History, before: Step | None, step: Step, instruments: Instruments | None
) -> Iterator[Result]:
    yield from (one for partition in step.partitions.values() for one in partition.results)
    yield from _order(rules, history, before, step)
    yield from _rows(rules, history, step)
    if instruments is not None:
        yield from audit_again(rules, instruments, history, step)


def _rows(rules: RulesAt, history: History, step: Step) -> Iterator[Result]:
    yield from audit_proposals(rules(step.at(Stage.PROPOSE)), history, step)
    yield from audit_tasks(rules(step.at(Stage.VALIDATE)), history, step)
    yield from audit_probes(rules(step.at(Stage.SOLVE)), history, step)
    yield from audit_answers(history, step)
    yield from audit_rewards(rules(step.at(Stage.VERIFY)), step)
    yield from audit_advantages(rules(step.at(Stage.UPDATE)), step)
    yield from audit_update(rules(step.at(Stage.UPDATE)), history, step)


def _order(rules: RulesAt, history: History, before: Step | None, step: Step) -> Iterator[Result]:
    """Whether each stage stands where it should, and was made from what it should."""
    wrong = list(_gaps(before, step))
    for partition in step.partitions.values():
        wrong += _foreign(rules(partition.seal.position), history, partition.seal)
    yield result(Check.STEPS, _name(step), len(step.partitions), wrong)


def _gaps(before: Step | None, step: Step) -> Iterator[str]:
    if before is not None:
        missing = [at for at in stages_of(before.iteration, before.round) if at.stage not in before.partitions]
        yield from (f"{at} is not there, but {_name(step)} was made after it" for at in missing)
        follows = {(before.iteration, before.round + 1), (before.iteration + 1, 0)}
        if (step.iteration, step.round) not in follows:
            yield f"{_name(step)} does not follow {_name(before)}: what was between them is not there"
    elif (step.iteration, step.round) != (0, 0):
        yield f"the ledger begins with {_name(step)}, not with the bootstrap"
    yield from _holes(step)


def _holes(step: Step) -> Iterator[str]:
    known = stages_of(step.iteration, step.round)
    there = [at.stage in step.partitions for at in known]
    for at, present in zip(known, there, strict=True):
        if not present and any(there[known.index(at) :]):
            yield f"{at} is not there, but a later stage is"
    for stage in step.partitions.keys() - {at.stage for at in known}:
        yield f"there is no stage {step.at(stage)}"


def _foreign(rules: Rules, history: History, seal: Seal) -> Iterator[str]:
    """What a seal says about its origin, where that is not this run's."""
    at = seal.position
    if seal.config_hash != rules.config_hash:
        yield f"{at} was made under config {seal.config_hash[:12]}, the run's is {rules.config_hash[:12]}"
    if seal.seeds.get("run") != rules.config.seed:
        yield f"{at} was made with seed {seal.seeds.get('run')}, the run's is {rules.config.seed}"
    read = set(seal.inputs)
    wanted = {str(need) for need in _needs(history, at)}
    if read != wanted:
        yield f"{at} says it was made from {', '.join(sorted(read)) or 'nothing'}, not {', '.join(sorted(wanted))}"


def _needs(history: History, at: Position) -> list[Position]:
    return needs(history, at) if at in stages_of(at.iteration, at.round) else []


def _name(step: Step) -> str:
    return f"{step.iteration}.{step.round}" if step.iteration == 0 else str(step.iteration)
