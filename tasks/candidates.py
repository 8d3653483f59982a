"""A proposal on its way to a verdict, and how repeated proposals of one stage share one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from storage.ids import Mode, Position
from storage.records import VALID, Task
from tasks.reasoning.checks import Rejected, check_novel, normalised_key, program_key, task_key
from tasks.reasoning.imports import facilities, paper_words
from tasks.reasoning.modes import pairs_visible
from tasks.reasoning.novelty import bound
from tasks.reasoning.parsing import Format, Proposal
from tasks.sandbox.facts import Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A proposal and what is known of it so far; `rejected` is set by the first rule that it breaks."""

    task_id: int
    mode: Mode
    format: Format = Format.OK
    proposal: Proposal | None = None
    facts: Facts | None = None
    rejected: Rejected | None = None
    outputs: tuple[str, ...] = ()
    cpu_us: int = 0
    memory_kb: int = 0

    @property
    def key(self) -> UUID | None:
        """The content key, by which duplicates are known; None when nothing was read."""
        if (proposal := self.proposal) is None:
            return None
        if (facts := self.facts) is None:
            return task_key(self.mode, proposal.program, proposal.inputs, proposal.message)
        calls = [bound(facts.parameters, text) for text in proposal.inputs]
        return task_key(self.mode, facts.normalised, calls, proposal.message)


def standing(candidates: Iterable[Candidate]) -> dict[int, tuple[Candidate, Proposal]]:
    """Those that no rule has rejected yet, with what they propose, by task id."""
    return {
        candidate.task_id: (candidate, candidate.proposal)
        for candidate in candidates
        if candidate.rejected is None and candidate.proposal is not None
    }


def set_apart_repeats(
    candidates: Sequence[Candidate], known: Mapping[UUID, int]
) -> tuple[list[Candidate], list[Candidate]]:
    """Duplicates of earlier tasks (`known`) rejected; and, second, those that repeat a proposal of this very stage."""
    first: dict[UUID, Candidate] = {}
    rest: list[Candidate] = []
    repeats: list[Candidate] = []
    for candidate in candidates:
        key = candidate.key
        if key is None or candidate.rejected is not None:
            rest.append(candidate)
        elif key in first:
            repeats.append(candidate)
        else:
            first[key] = replace(candidate, rejected=check_novel(key, known))
    return [*first.values(), *rest], repeats


def settle_repeats(
    repeats: Iterable[Candidate], settled: Iterable[Candidate]
) -> tuple[list[Candidate], list[Candidate]]:
    """A repeat is a duplicate when the first of its kind became a task; else a copy of it fails for the same reason.

    Second come those that must be judged themselves: the first of their kind failed, and they are not its very text
    (an annotation that names nothing fails one of two programs with the same normal form).
    """
    first = {candidate.key: candidate for candidate in settled if candidate.key is not None}
    done, left = [], []
    for key, candidate in ((candidate.key, candidate) for candidate in repeats):
        if key is None:
            continue
        original = first[key]
        if original.rejected is not None and original.proposal != candidate.proposal:
            left.append(candidate)
        else:
            rejected = original.rejected or check_novel(key, {key: original.task_id})
            done.append(replace(candidate, outputs=original.outputs, rejected=rejected))
    return done, left


def to_task(at: Position, candidate: Candidate, *, visible: int) -> Task:
    """The candidate as a row; `visible` is the configured number of pairs that an induction solver is shown."""
    proposal, rejected = candidate.proposal, candidate.rejected
    program, message = (None, None) if proposal is None else (proposal.program, proposal.message)
    row = Task(
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
        visible=pairs_visible(candidate.mode, visible),
        message=message,
        cpu_us=candidate.cpu_us,
        memory_kb=candidate.memory_kb,
    )
    return row if candidate.facts is None else _with_facts(row, candidate.facts)


def _with_facts(row: Task, facts: Facts) -> Task:
    """The row with the columns that its program's static facts fill."""
    program = row.program or ""
    return replace(
        row,
        normalised_key=normalised_key(facts),
        imports=facts.imports,
        facilities=facilities(facts),
        paper_words=paper_words(program),
        source_lines=sum(not line.isspace() for line in program.splitlines() if line),
        ast_nodes=facts.nodes,
        ast_depth=facts.depth,
        cyclomatic=facts.cyclomatic,
        cognitive=facts.cognitive,
        distinct_operators=facts.halstead.distinct_operators,
        distinct_operands=facts.halstead.distinct_operands,
        total_operators=facts.halstead.operators,
        total_operands=facts.halstead.operands,
    )
