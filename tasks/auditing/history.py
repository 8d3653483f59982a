"""What an audit reads: one step of a run at a time, and what it must remember of the steps before."""

from __future__ import annotations

from collections import ChainMap, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import TypeVar, cast
from uuid import UUID

from storage.examination import Examined, id_text
from storage.ids import Mode, Position, Stage
from storage.records import VALID, Advantage, Answer, Checkpoint, Reward, Rollout, Row, Task
from storage.seals import Seal
from tasks.loop import LoopConfig
from tasks.needs import previous_update
from tasks.reasoning.modes import MODES, Shown
from tasks.reasoning.prompts import TemplateSet

R = TypeVar("R", bound=Row)
Values = tuple[object, ...]


class Check(StrEnum):
    """What the rows of a ledger can be asked."""

    STEPS = "steps"  # every stage in its order, from what it should read, under the run's config and seed
    DRAWS = "draws"  # proposals, references, probes and buffer tasks are those that config and seeds give
    SAMPLING = "sampling"  # seeds, limits, policies and content keys of rollouts; their token counts
    PROMPTS = "prompts"  # rendered again from the tasks that they show
    TASKS = "tasks"  # one per proposal; verdicts, pairs and novelty agree
    ANSWERS = "answers"  # one per solver rollout, of the task it was given; verdicts and counts agree
    REWARDS = "rewards"  # computed again from answers and tasks
    ADVANTAGES = "advantages"  # computed again from rewards
    UPDATES = "updates"  # metrics and checkpoint rows
    CHECKPOINTS = "checkpoint files"
    COMPLETIONS = "completions parsed again"
    PROGRAMS = "programs run again"
    JUDGEMENTS = "answers judged again"
    TEXTS = "token ids decoded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What decides what a run computes, and its directory.

    `listed`: all that it ever dropped is listed; runs of First light lost optimizer states without that.
    """

    config: LoopConfig
    config_hash: str
    templates: TemplateSet
    directory: Path
    listed: bool


RulesAt = Callable[[Position], Rules]  # of the run that made a position: before a fork's point, its parent's


class Step:
    """One iteration or bootstrap round: its partitions, and their rows once they were asked for."""

    def __init__(self, iteration: int, round: int, partitions: Iterable[Examined]) -> None:
        self.iteration, self.round = iteration, round
        self.partitions = {one.seal.stage: one for one in partitions}
        self._rows: dict[tuple[Stage, type[Row]], object] = {}

    def at(self, stage: Stage) -> Position:
        """The position of one of its stages."""
        return Position(self.iteration, stage, self.round)

    def rows(self, stage: Stage, row_type: type[R]) -> list[R] | None:
        """The rows of one table; None when the stage is not sealed or the table could not be read.

        A row of a mode that has no rules was put there by hand: left out, it is missed wherever it should be.
        """
        key = (stage, row_type)
        if key not in self._rows:
            partition = self.partitions.get(stage)
            rows = None if partition is None else partition.rows(row_type)
            self._rows[key] = None if rows is None else _with_rules(row_type, rows)
        return cast("list[R] | None", self._rows[key])


def _with_rules(row_type: type[R], rows: list[R]) -> list[R]:
    if not issubclass(row_type, Rollout | Task | Answer | Reward | Advantage):
        return rows
    modes = [row.mode for row in rows if isinstance(row, Rollout | Task | Answer | Reward | Advantage)]
    return rows if MODES.keys() >= set(modes) else [row for row, mode in zip(rows, modes, strict=True) if mode in MODES]


def steps(partitions: Iterable[Examined]) -> Iterator[Step]:
    """Partitions in the order of positions, step by step."""
    for (iteration, round), group in groupby(partitions, key=lambda one: (one.seal.iteration, one.seal.round)):
        yield Step(iteration, round, group)


@dataclass(kw_only=True)
class History:
    """What the steps so far left behind: grows with the valid tasks, not with the answers.

    `gap` is the first partition of tasks that could not be read as sealed: what was drawn after it cannot be told.
    """

    valid: dict[int, Task] = field(default_factory=dict)
    buffers: dict[Mode, list[Task]] = field(default_factory=lambda: defaultdict(list))
    keys: dict[UUID, int] = field(default_factory=dict)
    policies: dict[Position, str] = field(default_factory=dict)
    seals: list[Seal] = field(default_factory=list)
    gap: Position | None = None

    def sealed(self) -> list[Seal]:
        """Every seal so far, in the order of positions."""
        return self.seals

    def policy_before(self, at: Position) -> str | None:
        """The policy that a stage samples from or trains on, as far as it is known."""
        return self.policies.get(previous_update(at))

    def known(self, step: Step) -> Mapping[int, Task]:
        """The valid tasks so far, those of a step included, by id."""
        new = {task.task_id: task for task in step.rows(Stage.VALIDATE, Task) or () if task.verdict == VALID}
        return ChainMap(new, self.valid)

    def begin(self, step: Step) -> None:
        """Take note of a step's seals."""
        self.seals += [partition.seal for partition in step.partitions.values()]

    def absorb(self, step: Step) -> None:
        """Take note of a step's tasks and checkpoint, when all of it is audited."""
        self._absorb_tasks(step)
        for row in step.rows(Stage.UPDATE, Checkpoint) or ():
            self.policies[step.at(Stage.UPDATE)] = row.policy

    def _absorb_tasks(self, step: Step) -> None:
        validated = step.partitions.get(Stage.VALIDATE)
        if self.gap is None and (validated is None or not validated.intact(Task)):
            self.gap = step.at(Stage.VALIDATE)
        for task in step.rows(Stage.VALIDATE, Task) or ():
            if task.verdict == VALID:
                self.valid[task.task_id] = task
                self.buffers[task.mode].append(task)
                if task.content_key is not None:
                    self.keys.setdefault(task.content_key, task.task_id)


def showable(task: Task) -> bool:
    """Whether a prompt can be made of a valid task: an edited one may lack what its mode shows."""
    hinted = task.message is not None or Shown.MESSAGE not in MODES[task.mode].solver_sees
    return hinted and 0 <= task.visible < len(task.inputs) == len(task.outputs)


def differences(
    table: str, names: Sequence[str], expected: Mapping[int, Values], found: Mapping[int, Values]
) -> list[str]:
    """A sentence for each row that is missing, one too many, or other than computed; rows by id, values by name."""
    if expected == found:
        return []
    told = [f"{table} {id_text(row)} is missing" for row in sorted(expected.keys() - found.keys())]
    told += [f"{table} {id_text(row)} should not be there" for row in sorted(found.keys() - expected.keys())]
    for row, values in expected.items():
        if (stated := found.get(row, values)) != values:
            what = (
                f"{name} is {_shown(name, one)}, computed again {_shown(name, other)}"
                for name, one, other in zip(names, stated, values, strict=True)
                if one != other
            )
            told.append(f"{table} {id_text(row)}: {'; '.join(what)}")
    return told


def _shown(name: str, value: object) -> str:
    if name.endswith("_id"):
        return id_text(value)
    text = str(value) if isinstance(value, StrEnum | UUID) else repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
