"""Whether prompts fit the model: a task whose prompts leave no room for a completion could never be solved or shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from storage.ids import Mode, Role
from storage.records import Task
from tasks.loop import LoopConfig
from tasks.reasoning.checks import Rejected, Rejection
from tasks.reasoning.modes import MODES, inputs_wanted
from tasks.reasoning.prompts import Reference, TemplateSet, proposal_prompt, solver_prompt
from tasks.workshop import Workshop


class Prompting(Protocol):
    """What decides a prompt, besides the tasks that it shows."""

    @property
    def config(self) -> LoopConfig:
        """The run's config."""

    @property
    def templates(self) -> TemplateSet:
        """The prompt templates that it names."""


def check_fits(work: Workshop, task: Task) -> Rejected | None:
    """A rejection when the task's own prompt, or one that shows it alone as a reference, does not fit the model.

    It is too long, or the task's text would read as one of the tokenizer's special tokens.
    """
    texts = [task.program or "", task.message or "", *task.inputs, *task.outputs]
    hidden = next((token for token in work.tokenizer.special if any(token in text for text in texts)), None)
    if hidden is not None:
        return Rejected(Rejection.MARKUP, f"it contains {hidden}, a special token of the model")
    for role, prompt in _prompts(work, task):
        tokens, limit = work.tokenizer.count(prompt), work.prompt_limit(role)
        if tokens > limit:
            return Rejected(Rejection.TOO_LARGE, f"a {role}'s prompt with it has {tokens} tokens, {limit} fit")
    return None


def fitting(work: Workshop, mode: Mode, references: Sequence[Task]) -> list[Task]:
    """As many of the references, from the first, as one proposer's prompt can hold; at least the first."""
    shown = list(references)
    while len(shown) > 1 and work.tokenizer.count(reference_prompt(work, mode, shown)) > work.prompt_limit(
        Role.PROPOSER
    ):
        shown.pop()
    return shown


def reference_prompt(rules: Prompting, mode: Mode, shown: Sequence[Task]) -> str:
    """What a proposer of a mode is asked after these earlier tasks."""
    references = [Reference(task.program or "", task.inputs[0], task.outputs[0]) for task in shown]
    wanted = inputs_wanted(mode, rules.config.curriculum.inputs)
    return proposal_prompt(rules.templates, mode, references, wanted=wanted)


def task_prompt(rules: Prompting, task: Task) -> str:
    """What a solver of a valid task is asked."""
    return solver_prompt(
        rules.templates,
        task.mode,
        program=task.program or "",
        inputs=task.inputs,
        outputs=task.outputs,
        visible=task.visible,
        message=task.message,
    )


def _prompts(work: Workshop, task: Task) -> Iterator[tuple[Role, str]]:
    yield Role.SOLVER, task_prompt(work, task)
    for mode in work.config.curriculum.modes:
        if task.mode in MODES[mode].sources:
            yield Role.PROPOSER, reference_prompt(work, mode, [task])
