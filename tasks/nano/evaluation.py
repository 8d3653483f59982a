"""How good a base is, measured with the loop's own prompts, parser, checks, executor and judge.

Held-out problems are the committed ones of `exams`. Proposals are asked for with references from the language, checked
like the loop's, and probed by the same model.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from models.engines.base import Completion, Engine, FinishReason, Request
from storage.ids import Mode
from storage.records import VALID
from storage.seeds import rng, seed_of
from tasks.config import CurriculumConfig, SandboxConfig
from tasks.nano.documents import INPUTS, TEMPLATES, VISIBLE
from tasks.nano.exams import Problem
from tasks.nano.holdout import program_hash
from tasks.nano.memory import Memory, seen
from tasks.nano.samples import Sample
from tasks.reasoning.checks import check_outputs, check_proposal
from tasks.reasoning.modes import MODES, Pairs, inputs_wanted
from tasks.reasoning.parsing import Answer, Proposal, Refusal, parse_answer, parse_proposal
from tasks.reasoning.prompts import Reference, load_templates, proposal_prompt, solver_prompt
from tasks.sandbox.executor import Execution, Executor, Job, Limits, Status
from tasks.sandbox.judge import Question, Verdict, judge

TOKENS = 192  # of a completion


class Solution(NamedTuple):
    """A completion, and whether the judge found it right."""

    completion: str
    right: bool


class Share(NamedTuple):
    """So many of so many."""

    hits: int
    of: int

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.hits / max(self.of, 1):.1%} ({low:.1%} to {high:.1%}, n {self.of})"

    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share."""
        z, n, p = 1.96, max(self.of, 1), self.hits / max(self.of, 1)
        middle, scale = p + z * z / (2 * n), 1 + z * z / n
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return (middle - half) / scale, (middle + half) / scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """What a base's proposals of one mode are worth; the shares after `novel` are over the valid and novel ones."""

    valid: Share
    novel: Share
    unseen: Share
    solved: Share
    learnable: Share
    rejections: Mapping[str, int]


def solve(
    engine: Engine, executor: Executor, asked: Sequence[Problem], *, temperature: float, seed: int
) -> list[Solution]:
    """One solution per problem; temperature 0 is greedy."""
    completions = engine.generate(_requests([_solver_prompt(one) for one in asked], temperature, seed))
    questions = [_question(one, done) for one, done in zip(asked, completions, strict=True)]
    judgements = judge(executor, questions)
    return [
        Solution(done.text, judgement.verdict is Verdict.CORRECT)
        for done, judgement in zip(completions, judgements, strict=True)
    ]


def _solver_prompt(problem: Problem) -> str:
    return solver_prompt(
        load_templates(TEMPLATES),
        problem.mode,
        program=problem.program,
        inputs=problem.inputs,
        outputs=problem.outputs,
        visible=problem.visible,
        message=problem.message,
    )


def _question(problem: Problem, done: Completion) -> Question:
    finished = done.finish_reason is FinishReason.STOP
    answer = parse_answer(load_templates(TEMPLATES), problem.mode, done.text, finished=finished)
    return Question(
        mode=problem.mode,
        program=problem.program,
        inputs=problem.inputs,
        outputs=problem.outputs,
        visible=problem.visible,
        answer=answer.text if isinstance(answer, Answer) else None,
    )


def _requests(prompts: Sequence[str], temperature: float, seed: int) -> list[Request]:
    return [
        Request(
            prompt=prompt,
            seed=seed_of(seed, "nano evaluation", at),
            temperature=temperature,
            top_p=1.0,
            max_tokens=TOKENS,
        )
        for at, prompt in enumerate(prompts)
    ]


class Candidate(NamedTuple):
    """A proposal's prompt, its completion, and the task it became or why it did not."""

    prompt: str
    completion: str
    problem: Problem | None
    verdict: str


def propose(
    engine: Engine, executor: Executor, mode: Mode, pool: Sequence[Sample], *, count: int, seed: int
) -> list[Candidate]:
    """Proposals at temperature 1 with references drawn from `pool`, checked as the loop does, novelty apart."""
    templates, draw = load_templates(TEMPLATES), rng(seed, "nano references", mode)
    wanted = inputs_wanted(mode, INPUTS)
    shown = [_references(mode, draw.sample(pool, draw.choice((1, 2)))) for _ in range(count)]
    prompts = [proposal_prompt(templates, mode, references, wanted=wanted) for references in shown]
    completions = engine.generate(_requests(prompts, 1.0, seed_of(seed, mode)))
    parsed = [
        _checked(mode, done, references[0].program, wanted) for done, references in zip(completions, shown, strict=True)
    ]
    jobs = [_job(one) for one in parsed if isinstance(one, Proposal)]
    executions = iter(executor.run(jobs))
    found = [_became(mode, next(executions), one) if isinstance(one, Proposal) else (None, one) for one in parsed]
    return [
        Candidate(prompt, done.text, problem, verdict)
        for prompt, done, (problem, verdict) in zip(prompts, completions, found, strict=True)
    ]


def _references(mode: Mode, samples: Sequence[Sample]) -> list[Reference]:
    several = MODES[mode].pairs is Pairs.SEVERAL
    return [Reference(sample.program, *sample.pairs[0]) for sample in samples[: 1 if several else None]]


def _checked(mode: Mode, done: Completion, program: str, wanted: int) -> Proposal | str:
    """A proposal fit to be executed, or the word for why not."""
    templates = load_templates(TEMPLATES)
    finished = done.finish_reason is FinishReason.STOP
    parsed = parse_proposal(templates, mode, done.text, finished=finished, wanted=wanted, shown=program)
    if isinstance(parsed, Refusal):
        return parsed.format.value
    checked = check_proposal(templates, parsed, CurriculumConfig(), SandboxConfig())
    return checked if isinstance(checked, Proposal) else checked.verdict.value


def _job(proposal: Proposal) -> Job:
    return Job(program=proposal.program, inputs=proposal.inputs, limits=Limits(cpu_s=1.0), interpreters=2)


def _became(mode: Mode, execution: Execution, proposal: Proposal) -> tuple[Problem | None, str]:
    outputs = tuple(output.text for output in execution.outputs if output.text is not None)
    if execution.status is not Status.OK:
        return None, execution.status.value
    rejected = check_outputs(load_templates(TEMPLATES), mode, outputs, CurriculumConfig(), SandboxConfig())
    if rejected is not None:
        return None, rejected.verdict.value
    visible = VISIBLE if MODES[mode].pairs is Pairs.SEVERAL else 0
    return Problem(mode, proposal.program, proposal.inputs, outputs, visible, proposal.message), VALID


def novel(candidates: Sequence[Candidate], pool: Sequence[Sample]) -> list[Candidate]:
    """The valid ones that are new: their program, for tasks on a given program the whole task, was not there before."""
    known: set[object] = {program_hash(sample.program) for sample in pool}
    fresh = []
    for candidate in candidates:
        problem = candidate.problem
        if problem is None:
            continue
        given = MODES[problem.mode].pairs is Pairs.SEVERAL
        key = problem[1:] if given else program_hash(problem.program)
        if key not in known:
            known.add(key)
            fresh.append(candidate)
    return fresh


def judge_proposals(
    engine: Engine,
    executor: Executor,
    candidates: Sequence[Candidate],
    fresh: Sequence[Candidate],
    memory: Memory,
    *,
    probes: int = 8,
) -> Proposed:
    """Figures over the proposals of one mode, its valid and novel ones probed at temperature 1."""
    asked = [candidate.problem for candidate in fresh if candidate.problem is not None]
    solved = solve(engine, executor, [one for one in asked for _ in range(probes)], temperature=1.0, seed=7)
    rights = [sum(one.right for one in solved[at : at + probes]) for at in range(0, len(solved), probes)]
    return Proposed(
        valid=Share(sum(one.problem is not None for one in candidates), len(candidates)),
        novel=Share(len(fresh), len(candidates)),
        unseen=Share(sum(not seen(memory, one.program) for one in asked), len(asked)),
        solved=Share(sum(rights), len(solved)),
        learnable=Share(sum(0 < right < probes for right in rights), len(rights)),
        rejections=Counter(one.verdict for one in candidates if one.problem is None),
    )
