"""Validate: every proposal becomes a valid task, or a rejection with its reason; both are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from storage import ids
from storage.ids import Mode, Place, Position, Stage
from storage.metrics import known_content_keys
from storage.records import Rollout, Task, TaskParent
from tasks.needs import IDENTITY
from tasks.reasoning.checks import (
    VALID,
    Rejected,
    Rejection,
    check_novel,
    check_outputs,
    check_proposal,
    program_key,
    task_key,
)
from tasks.reasoning.curriculum import IDENTITY_PROGRAM
from tasks.reasoning.modes import MODES, Block, Pairs, inputs_wanted, pairs_visible
from tasks.reasoning.parsing import Format, Proposal, Refusal, parse_proposal
from tasks.rollouts import finished
from tasks.sandbox.jobs import Execution, Job, Limits, Status
from tasks.sandbox.judge import Question, Verdict, judge
from tasks.stage import Outcome, stage
from tasks.workshop import Workshop


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A proposal on its way to a verdict; `rejected` is set by the first rule that it breaks."""

    task_id: int
    mode: Mode
    format: Format = Format.OK
    proposal: Proposal | None = None
    rejected: Rejected | None = None
    outputs: tuple[str, ...] = ()
    cpu_us: int = 0
    memory_kb: int = 0

    @property
    def standing(self) -> bool:
        """Whether no rule has rejected it yet."""
        return self.rejected is None

    @property
    def key(self) -> UUID | None:
        """The content key, by which duplicates are known; None when there is nothing to compare."""
        if (proposal := self.proposal) is None:
            return None
        return task_key(self.mode, proposal.program, proposal.inputs, proposal.message)


@stage(Stage.VALIDATE)
def validate(work: Workshop, at: Position) -> Outcome:
    """Parse, check, run in two interpreters, and judge each proposal's own gold answer; duplicates are no tasks."""
    candidates = _identity(work) if at == IDENTITY else [_read(work, *pair) for pair in _proposals(work, at)]
    first, again = _firsts(candidates, known_content_keys(work.ledger, at))
    judged = _judged(work, _executed(work, first))
    tasks = [_task(work, at, candidate) for candidate in [*judged, *_copies(again, judged)]]
    valid = sum(task.verdict == VALID for task in tasks)
    return Outcome(tables={Task: tasks}, note=f"{valid} of {len(tasks)} valid")


def _identity(work: Workshop) -> list[Candidate]:
    """The identity triplet once per mode whose proposals bring a program: all that a run is given."""
    given = Proposal(program=IDENTITY_PROGRAM, inputs=(work.config.bootstrap.identity_input,), message=None)
    modes = [mode for mode in work.config.curriculum.modes if mode in MODES[mode].sources]
    return [
        Candidate(task_id=ids.pack(Place(0, 0, mode, 0)), mode=mode, proposal=given)
        for mode in modes
        if MODES[mode].pairs is Pairs.ONE
    ]


def _proposals(work: Workshop, at: Position) -> Iterable[tuple[Rollout, str | None]]:
    """Each proposal with the program that its proposer was shown first."""
    proposed = at._replace(stage=Stage.PROPOSE)
    first = {row.task_id: row.parent_id for row in work.ledger.read(TaskParent, proposed) if row.position == 0}
    for rollout in work.ledger.read(Rollout, proposed):
        parent = first.get(rollout.task_id)
        yield rollout, None if parent is None else work.task(parent).program


def _read(work: Workshop, rollout: Rollout, shown: str | None) -> Candidate:
    """Parse a completion and apply the checks that need no execution."""
    wanted = inputs_wanted(rollout.mode, work.config.curriculum.inputs)
    parsed = parse_proposal(
        work.templates, rollout.mode, rollout.completion, finished=finished(rollout), wanted=wanted, shown=shown
    )
    candidate = Candidate(task_id=rollout.task_id, mode=rollout.mode)
    if isinstance(parsed, Refusal):
        return replace(candidate, format=parsed.format, rejected=Rejected(Rejection.MALFORMED, parsed.reason))
    checked = check_proposal(work.templates, parsed, work.config.curriculum, work.config.sandbox)
    if isinstance(checked, Rejected):
        return replace(candidate, proposal=parsed, rejected=checked)
    return replace(candidate, proposal=checked)


def _firsts(candidates: Sequence[Candidate], known: Mapping[UUID, int]) -> tuple[list[Candidate], list[Candidate]]:
    """Duplicates of earlier tasks rejected; and, apart, those that repeat a proposal of this very stage."""
    first: dict[UUID, Candidate] = {}
    rest: list[Candidate] = []
    again: list[Candidate] = []
    for candidate in candidates:
        key = candidate.key
        if key is None or not candidate.standing:
            rest.append(candidate)
        elif key in first:
            again.append(candidate)
        else:
            first[key] = replace(candidate, rejected=check_novel(key, known))
    return [*first.values(), *rest], again


def _copies(again: Iterable[Candidate], judged: Iterable[Candidate]) -> list[Candidate]:
    """A repeated proposal is a duplicate when the first was valid; else it fails for the same reason."""
    first = {candidate.key: candidate for candidate in judged if candidate.key is not None}
    copies = []
    for key, candidate in ((candidate.key, candidate) for candidate in again):
        if key is not None:
            original = first[key]
            rejected = original.rejected or check_novel(key, {key: original.task_id})
            copies.append(replace(candidate, outputs=original.outputs, rejected=rejected))
    return copies


def _executed(work: Workshop, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Run what still stands in two interpreters with different hash seeds; outputs become the gold."""
    sandbox = work.config.sandbox
    limits = Limits(cpu_s=sandbox.validate_cpu_s, memory_mb=sandbox.memory_mb, output_bytes=sandbox.output_bytes)
    jobs = {
        candidate.task_id: Job(
            program=candidate.proposal.program, inputs=candidate.proposal.inputs, limits=limits, interpreters=2
        )
        for candidate in candidates
        if candidate.standing and candidate.proposal is not None
    }
    executions = work.executor().run(list(jobs.values()), work.reporter.progress)
    done = dict(zip(jobs, executions, strict=True))
    return [_with_outputs(work, candidate, done.get(candidate.task_id)) for candidate in candidates]


def _with_outputs(work: Workshop, candidate: Candidate, execution: Execution | None) -> Candidate:
    if execution is None:
        return candidate
    candidate = replace(candidate, cpu_us=execution.cpu_us, memory_kb=execution.memory_kb)
    if execution.status is not Status.OK:
        return replace(candidate, rejected=Rejected(Rejection(execution.status.value), execution.reason or ""))
    outputs = tuple(output.text or "" for output in execution.outputs)
    refused = check_outputs(work.templates, candidate.mode, outputs, work.config.curriculum, work.config.sandbox)
    return replace(candidate, outputs=outputs, rejected=refused)


def _judged(work: Workshop, candidates: Sequence[Candidate]) -> list[Candidate]:
    """A task whose own gold answer the judge does not accept could never be solved: it is rejected here."""
    questions = {
        candidate.task_id: _gold_question(work, candidate, candidate.proposal)
        for candidate in candidates
        if candidate.standing and candidate.proposal is not None
    }
    judgements = judge(
        work.executor(), list(questions.values()), limits=work.judging_limits, progress=work.reporter.progress
    )
    refused = {
        task_id: Rejected(Rejection.GOLD_REFUSED, f"its own gold answer is {judgement.verdict}: {judgement.reason}")
        for task_id, judgement in zip(questions, judgements, strict=True)
        if judgement.verdict is not Verdict.CORRECT
    }
    return [replace(one, rejected=one.rejected or refused.get(one.task_id)) for one in candidates]


def _gold_question(work: Workshop, candidate: Candidate, proposal: Proposal) -> Question:
    gold = {Block.OUTPUT: candidate.outputs[0], Block.INPUT: proposal.inputs[0], Block.PROGRAM: proposal.program}
    return Question(
        mode=candidate.mode,
        program=proposal.program,
        inputs=proposal.inputs,
        outputs=candidate.outputs,
        visible=pairs_visible(candidate.mode, work.config.curriculum.visible),
        answer=gold[MODES[candidate.mode].answer],
    )


def _task(work: Workshop, at: Position, candidate: Candidate) -> Task:
    proposal, rejected = candidate.proposal, candidate.rejected
    program, message = (None, None) if proposal is None else (proposal.program, proposal.message)
    return Task(
        iteration=at.iteration,
        round=at.round,
        task_id=candidate.task_id,
        content_key=candidate.key,
        program_key=None if program is None else program_key(program),
        mode=candidate.mode,
        format=candidate.format.value,
        verdict=VALID if rejected is None else rejected.verdict.value,
        reason=None if rejected is None else rejected.reason,
        program=program,
        inputs=proposal.inputs if proposal else (),
        outputs=candidate.outputs,
        visible=pairs_visible(candidate.mode, work.config.curriculum.visible),
        message=message,
        cpu_us=candidate.cpu_us,
        memory_kb=candidate.memory_kb,
    )
