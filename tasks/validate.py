"""Validate: every proposal becomes a valid task, or a rejection with its reason; both are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from models.policy import local_base
from storage import ids
from storage.buffers import first_with, tasks_of
from storage.ids import Place, Position, Stage
from storage.records import VALID, Rollout, Task, TaskParent
from tasks.candidates import Candidate, set_apart_repeats, settle_repeats, standing, to_task
from tasks.fitting import check_fits
from tasks.nano.memory import known_of, seen
from tasks.needs import IDENTITY
from tasks.reasoning.checks import Rejected, Rejection, check_facts, check_outputs, check_proposal
from tasks.reasoning.curriculum import IDENTITY_PROGRAM
from tasks.reasoning.modes import MODES, Block, Pairs, inputs_wanted, pairs_visible
from tasks.reasoning.parsing import Proposal, Refusal, parse_proposal
from tasks.rollouts import finished
from tasks.sandbox.facts import Facts, NoFacts
from tasks.sandbox.jobs import Execution, Job, Limits, Status
from tasks.sandbox.judge import Question, Verdict, judge
from tasks.stage import Outcome, stage
from tasks.workshop import Workshop


@stage(Stage.VALIDATE)
def validate(work: Workshop, at: Position) -> Outcome:
    """Parse, check, look, run in two interpreters, judge each proposal's own gold answer; duplicates are no tasks."""
    proposed = _analysed(work, _identity(work) if at == IDENTITY else _proposed(work, at))
    tasks = [_row(work, at, candidate) for candidate in _settled(work, at, proposed)]
    return Outcome(tables={Task: tasks}, note=_note(work, tasks))


def _note(work: Workshop, tasks: Sequence[Task]) -> str:
    """How many are valid; where the base says what it was trained on, how many programs it has never seen."""
    valid = [task for task in tasks if task.verdict == VALID]
    note = f"{len(valid)} of {len(tasks)} valid"
    memory = known_of(local_base(work.config.model.path))
    programs = [task.program for task in valid if task.program and MODES[task.mode].pairs is Pairs.ONE]
    if memory is None or not programs:
        return note
    unseen = sum(not seen(memory, program) for program in programs)
    return f"{note}, {unseen / len(programs):.0%} of {len(programs)} programs never seen in pre-training"


def _settled(work: Workshop, at: Position, proposed: Sequence[Candidate]) -> Iterator[Candidate]:
    """Every candidate with its verdict; one that repeats a failure in other words has its own turn."""
    known = first_with(work.ledger, {one.key for one in proposed if one.key is not None}, at)
    while proposed:
        candidates, repeats = set_apart_repeats(proposed, known)
        judged = _judged(work, _executed(work, at, candidates))
        copies, proposed = settle_repeats(repeats, judged)
        yield from [*judged, *copies]


def _analysed(work: Workshop, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The static facts of what still stands; what uses banned modules, or is no program, is not executed."""
    programs = {task_id: proposal.program for task_id, (_, proposal) in standing(candidates).items()}
    if not programs:
        return list(candidates)
    readings = dict(zip(programs, work.analyser().facts(list(programs.values())), strict=True))
    return [_with_reading(work, one, readings[one.task_id]) if one.task_id in readings else one for one in candidates]


def _with_reading(work: Workshop, candidate: Candidate, reading: Facts | NoFacts) -> Candidate:
    facts = reading if isinstance(reading, Facts) else None
    return replace(candidate, facts=facts, rejected=check_facts(reading, work.config.sandbox))


def _row(work: Workshop, at: Position, candidate: Candidate) -> Task:
    return to_task(at, candidate, visible=work.config.curriculum.visible)


def _identity(work: Workshop) -> list[Candidate]:
    """The identity triplet, once per mode of one pair: all that a run is given."""
    given = Proposal(program=IDENTITY_PROGRAM, inputs=(work.config.bootstrap.identity_input,), message=None)
    modes = [mode for mode in work.config.curriculum.modes if MODES[mode].pairs is Pairs.ONE]
    return [Candidate(task_id=ids.pack(Place(0, 0, mode, 0)), mode=mode, proposal=given) for mode in modes]


def _proposed(work: Workshop, at: Position) -> list[Candidate]:
    return [_read(work, rollout, shown) for rollout, shown in _proposals(work, at._replace(stage=Stage.PROPOSE))]


def _proposals(work: Workshop, proposed: Position) -> Iterator[tuple[Rollout, str | None]]:
    """Each proposal with the program that its proposer was shown first."""
    first = {row.task_id: row.parent_id for row in work.ledger.read(TaskParent, proposed) if row.position == 0}
    tasks = tasks_of(work.ledger, first.values())
    for rollout in work.ledger.read(Rollout, proposed):
        parent = first.get(rollout.task_id)
        yield rollout, None if parent is None else tasks[parent].program


def _read(work: Workshop, rollout: Rollout, shown: str | None) -> Candidate:
    """Parse a completion and apply the checks that need nothing but its text."""
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


def _executed(work: Workshop, at: Position, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Run what still stands in two interpreters with different hash seeds; the outputs become the gold."""
    sandbox = work.config.sandbox
    limits = Limits(cpu_s=sandbox.validate_cpu_s, memory_mb=sandbox.memory_mb, output_bytes=sandbox.output_bytes)
    jobs = {
        task_id: Job(program=proposal.program, inputs=proposal.inputs, limits=limits, interpreters=2)
        for task_id, (_, proposal) in standing(candidates).items()
    }
    executions = work.executor().run(list(jobs.values()), work.reporter.progress)
    done = dict(zip(jobs, executions, strict=True))
    return [_with_gold(work, at, one, done[one.task_id]) if one.task_id in done else one for one in candidates]


def _with_gold(work: Workshop, at: Position, candidate: Candidate, execution: Execution) -> Candidate:
    candidate = replace(candidate, cpu_us=execution.cpu_us, memory_kb=execution.memory_kb)
    if execution.status is not Status.OK:
        return replace(candidate, rejected=Rejected(Rejection(execution.status.value), execution.reason or ""))
    outputs = tuple(output.text or "" for output in execution.outputs)
    candidate = replace(candidate, outputs=outputs)
    refused = check_outputs(work.templates, candidate.mode, outputs, work.config.curriculum, work.config.sandbox)
    return replace(candidate, rejected=refused or check_fits(work, _row(work, at, candidate)))


def _judged(work: Workshop, candidates: Sequence[Candidate]) -> list[Candidate]:
    """A task whose own gold answer the judge does not accept could never be solved: it is rejected here."""
    questions = {task_id: _gold(work, *pair) for task_id, pair in standing(candidates).items()}
    judgements = judge(
        work.executor(), list(questions.values()), limits=work.judging_limits, progress=work.reporter.progress
    )
    refused = {
        task_id: Rejected(Rejection.GOLD_REFUSED, f"its own gold answer is {judgement.verdict}: {judgement.reason}")
        for task_id, judgement in zip(questions, judgements, strict=True)
        if judgement.verdict is not Verdict.CORRECT
    }
    return [replace(one, rejected=one.rejected or refused.get(one.task_id)) for one in candidates]


def _gold(work: Workshop, candidate: Candidate, proposal: Proposal) -> Question:
    gold = {Block.OUTPUT: candidate.outputs[0], Block.INPUT: proposal.inputs[0], Block.PROGRAM: proposal.program}
    return Question(
        mode=candidate.mode,
        program=proposal.program,
        inputs=proposal.inputs,
        outputs=candidate.outputs,
        visible=pairs_visible(candidate.mode, work.config.curriculum.visible),
        answer=gold[MODES[candidate.mode].answer],
    )
