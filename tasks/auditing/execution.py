"""The deep part of an audit: completions parsed, programs run and answers judged again, token ids turned to text.

Programs near a limit of time or memory may end otherwise on another machine; those are noted, and are no findings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from storage.examination import id_text
from storage.findings import Result, result
from storage.ids import Position, Stage, unpack
from storage.records import Answer, Rollout, Task, TaskParent, Tokens
from tasks.auditing.history import Check, History, Rules, RulesAt, Step, showable
from tasks.auditing.rollouts import drawn_references
from tasks.fitting import reference_prompt
from tasks.reasoning.checks import Rejection, check_facts
from tasks.reasoning.modes import MODES, Block, inputs_wanted
from tasks.reasoning.parsing import Format, Refusal, parse_answer, parse_proposal
from tasks.rollouts import finished
from tasks.sandbox.analyser import Analyser
from tasks.sandbox.executor import Executor
from tasks.sandbox.jobs import Execution, Job, Limits, Progress, Status
from tasks.sandbox.judge import Question, Verdict, judge

_STATUSES = {word.value for word in Status}
_UNRUN = {Rejection.BANNED: Verdict.REJECTED}  # the judge's word for an answer that is banned
_LIMITED = {Status.TIMEOUT.value, Status.MEMORY.value}


class Texts(Protocol):
    """A tokenizer."""

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of a prompt."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of a completion's ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruments:
    """What a deep audit needs; `positions` of the model, prompt and completion together, None when it has no limit."""

    executor: Executor
    analyser: Analyser
    texts: Texts
    positions: int | None
    progress: Progress | None = None


class _Ending(NamedTuple):
    """How one program ended: the word for it, and what was computed."""

    word: str
    values: tuple[object, ...]


def audit_again(rules: RulesAt, instruments: Instruments, history: History, step: Step) -> Iterator[Result]:
    """Whatever of a step can be computed a second time without a model."""
    yield _proposals(rules(step.at(Stage.VALIDATE)), history, step)
    yield _programs(rules(step.at(Stage.VALIDATE)), instruments, step)
    yield from _judgements(rules(step.at(Stage.VERIFY)), instruments, history, step)
    for stage in (Stage.PROPOSE, Stage.SOLVE):
        yield from _texts(instruments, step, stage)
    yield from _left_out(rules(step.at(Stage.PROPOSE)), instruments, history, step)


def _proposals(rules: Rules, history: History, step: Step) -> Result:
    """Every proposal, parsed from its completion: its format, and the program that became a task."""
    at, curriculum = step.at(Stage.VALIDATE), rules.config.curriculum
    tasks = {task.task_id: task for task in step.rows(Stage.VALIDATE, Task) or ()}
    first = {row.task_id: row.parent_id for row in step.rows(Stage.PROPOSE, TaskParent) or () if row.position == 0}
    wrong, count = [], 0
    for row in step.rows(Stage.PROPOSE, Rollout) or ():
        task, shown = tasks.get(row.rollout_id), history.valid.get(first.get(row.rollout_id, -1))
        if task is None or (shown is None and Block.PROGRAM not in MODES[row.mode].proposal):
            continue  # found elsewhere
        count += 1
        parsed = parse_proposal(
            rules.templates, row.mode, row.completion, finished=finished(row),
            wanted=inputs_wanted(row.mode, curriculum.inputs), shown=None if shown is None else shown.program,
        )  # fmt: skip
        read = (parsed.format, None) if isinstance(parsed, Refusal) else (Format.OK, parsed.program)
        if read != (task.format, task.program):
            wrong.append(f"{task.table} {id_text(task.task_id)}: its format or program is not what its proposal gives")
    return result(Check.COMPLETIONS, str(at), count, wrong)


def _programs(rules: Rules, instruments: Instruments, step: Step) -> Result:
    """Every proposal that was run, in two interpreters again: how it ended, and its outputs."""
    at, sandbox = step.at(Stage.VALIDATE), rules.config.sandbox
    limits = Limits(cpu_s=sandbox.validate_cpu_s, memory_mb=sandbox.memory_mb, output_bytes=sandbox.output_bytes)
    ran = {
        task.task_id: (task, Job(program=task.program, inputs=task.inputs, limits=limits, interpreters=2))
        for task in step.rows(Stage.VALIDATE, Task) or ()
        if task.program is not None and task.inputs and (task.outputs or task.verdict in _STATUSES)
    }
    executions = instruments.executor.run([job for _, job in ran.values()], instruments.progress)
    pairs = [
        (f"{task.table} {id_text(task.task_id)}", _sealed_program(task), _ended(execution))
        for (task, _), execution in zip(ran.values(), executions, strict=True)
    ]
    return _compared(Check.PROGRAMS, at, pairs)


def _sealed_program(task: Task) -> _Ending:
    return _Ending(Status.OK, task.outputs) if task.outputs else _Ending(task.verdict, ())


def _ended(execution: Execution) -> _Ending:
    done = execution.status is Status.OK
    return _Ending(execution.status, tuple(output.text for output in execution.outputs) if done else ())


def _judgements(rules: Rules, instruments: Instruments, history: History, step: Step) -> Iterator[Result]:
    """Every answer, parsed from its completion and judged again."""
    at = step.at(Stage.VERIFY)
    answers, rollouts = step.rows(Stage.VERIFY, Answer), step.rows(Stage.SOLVE, Rollout)
    if answers is None or rollouts is None:
        return
    sealed = {answer.rollout_id: answer for answer in answers}
    parsed = {row.rollout_id: _parsed(rules, row) for row in rollouts if row.rollout_id in sealed}
    yield _read_again(at, sealed, parsed)
    tasks = history.known(step)
    questions = {
        one: _question(task, text)
        for one, (_, text) in parsed.items()
        if text is not None and (task := tasks.get(sealed[one].task_id)) is not None and _is_judgeable(task)
    }
    pairs = [
        (f"{Answer.table} {id_text(one)}", _Ending(sealed[one].verdict, (sealed[one].passed, sealed[one].checks)), now)
        for one, now in _judged(rules, instruments, questions).items()
    ]
    yield _compared(Check.JUDGEMENTS, at, pairs)


def _judged(rules: Rules, instruments: Instruments, questions: Mapping[int, Question]) -> dict[int, _Ending]:
    """What the judge says now; programs that are banned, or none, are not run."""
    sandbox = rules.config.sandbox
    programs = {one: question.answer or "" for one, question in questions.items() if _asks_program(question)}
    readings = instruments.analyser.facts(list(programs.values())) if programs else []
    judged = {
        one: _Ending(_UNRUN.get(why.verdict, why.verdict), (0, len(questions[one].outputs) - questions[one].visible))
        for one, reading in zip(programs, readings, strict=True)
        if (why := check_facts(reading, sandbox)) is not None
    }
    asked = {one: question for one, question in questions.items() if one not in judged}
    limits = Limits(cpu_s=sandbox.verify_cpu_s, memory_mb=sandbox.memory_mb, output_bytes=sandbox.output_bytes)
    judgements = judge(instruments.executor, list(asked.values()), instruments.progress, limits=limits)
    ended = (_Ending(one.verdict, (one.passed, one.checks)) for one in judgements)
    return judged | dict(zip(asked, ended, strict=True))


def _asks_program(question: Question) -> bool:
    return MODES[question.mode].answer is Block.PROGRAM


def _parsed(rules: Rules, row: Rollout) -> tuple[str, str | None]:
    parsed = parse_answer(rules.templates, row.mode, row.completion, finished=finished(row))
    return (parsed.format, None) if isinstance(parsed, Refusal) else (Format.OK, parsed.text)


def _read_again(at: Position, sealed: dict[int, Answer], parsed: dict[int, tuple[str, str | None]]) -> Result:
    wrong = [
        f"{Answer.table} {id_text(one)}: format {sealed[one].format}, answer {sealed[one].answer!r:.60}; "
        f"its completion gives {word}, {text!r:.60}"
        for one, (word, text) in parsed.items()
        if (word, text) != (sealed[one].format, sealed[one].answer)
    ]
    return result(Check.COMPLETIONS, str(at), len(parsed), wrong)


def _is_judgeable(task: Task) -> bool:
    return showable(task) and task.program is not None


def _question(task: Task, answer: str) -> Question:
    return Question(
        mode=task.mode, program=task.program, inputs=task.inputs, outputs=task.outputs, visible=task.visible,
        answer=answer,
    )  # fmt: skip


def _compared(check: Check, at: Position, pairs: Sequence[tuple[str, _Ending, _Ending]]) -> Result:
    wrong, near = [], 0
    for name, sealed, found in pairs:
        if sealed == found:
            continue
        if {sealed.word, found.word} & _LIMITED:
            near += 1
        else:
            wrong.append(f"{name}: {_told(sealed)} is sealed, now it is {_told(found)}")
    notes = [f"{near} programs of {at} met a limit of time or memory only once"] if near else []
    return result(check, str(at), len(pairs), wrong, notes)


def _told(ending: _Ending) -> str:
    values = ", ".join(map(str, ending.values))
    return f"{ending.word} ({values[:120]})" if values else ending.word


def _texts(instruments: Instruments, step: Step, stage: Stage) -> Iterator[Result]:
    """Token ids against the text beside them, of prompts and completions."""
    rollouts, tokens = step.rows(stage, Rollout), step.rows(stage, Tokens)
    if rollouts is None or tokens is None:
        return
    beside = {row.rollout_id: row for row in tokens}
    wrong = [
        f"{Tokens.table} {id_text(row.rollout_id)}: its {what} ids do not give the {what}"
        for row in rollouts
        if row.rollout_id in beside
        for what, same in _same_texts(instruments.texts, row, beside[row.rollout_id])
        if not same
    ]
    yield result(Check.TEXTS, str(step.at(stage)), len(tokens), wrong)


def _same_texts(texts: Texts, row: Rollout, tokens: Tokens) -> Iterator[tuple[str, bool]]:
    yield "prompt", texts.encode(row.prompt) == tokens.prompt_ids
    yield "completion", texts.decode(tokens.completion_ids) == row.completion


def _left_out(rules: Rules, instruments: Instruments, history: History, step: Step) -> Iterator[Result]:
    """References that were drawn and not shown would not have fitted the model beside the others."""
    at, parents = step.at(Stage.PROPOSE), step.rows(Stage.PROPOSE, TaskParent)
    if parents is None or history.gap is not None or instruments.positions is None:
        return
    limit = instruments.positions - rules.config.sampling.proposer_tokens
    shown: dict[int, int] = {}
    for row in parents:
        shown[row.task_id] = shown.get(row.task_id, 0) + 1
    wrong, count = [], 0
    for proposal, number in shown.items():
        place = unpack(proposal)
        if place.mode not in MODES:
            continue  # found elsewhere
        drawn = drawn_references(rules, history, place)[: number + 1]
        if len(drawn) > number and all(map(showable, drawn)):
            count += 1
            if len(instruments.texts.encode(reference_prompt(rules, place.mode, drawn))) <= limit:
                wrong.append(
                    f"{TaskParent.table} {id_text(proposal)} was shown {number} references, one more had fitted"
                )
    yield result(Check.DRAWS, str(at), count, wrong)
