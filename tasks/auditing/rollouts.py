"""The audit of rollouts, of either role: drawn as the seeds say, asked as the tasks say, sampled as the config says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from models.engines.base import FinishReason
from storage.examination import id_text
from storage.findings import Result, result
from storage.ids import Place, Position, Role, Source, Stage, pack, unpack
from storage.records import VALID, Rollout, Task, TaskParent, Tokens
from storage.seeds import rng, seed_of
from tasks.auditing.history import Check, History, Rules, Step, Values, differences, showable
from tasks.fitting import reference_prompt, task_prompt
from tasks.reasoning.checks import rollout_key
from tasks.reasoning.curriculum import draw_buffer_tasks, draw_references
from tasks.seeding import proposals_wanted

_ASKED = ("role", "source", "task_id")
_SAMPLED = ("seed", "temperature", "top_p", "max_tokens", "policy", "policy_iteration", "content_key")
_ENDS = {reason.value for reason in FinishReason}


def audit_proposals(rules: Rules, history: History, step: Step) -> Iterator[Result]:
    """Every proposal that should have been asked for, and what it was shown."""
    at = step.at(Stage.PROPOSE)
    rollouts, parents = step.rows(Stage.PROPOSE, Rollout), step.rows(Stage.PROPOSE, TaskParent)
    if rollouts is None:
        return
    yield from _sampling(rules, history, step, at, rollouts)
    if history.gap is not None:
        yield _unknown(at, history)
        return
    places = [
        Place(at.iteration, at.round, mode, slot)
        for mode, count in proposals_wanted(rules.config, at, history.buffers).items()
        for slot in range(count)
    ]
    expected: dict[int, Values] = {pack(one): (Role.PROPOSER, Source.PROPOSAL, pack(one)) for one in places}
    wrong = differences(Rollout.table, _ASKED, expected, _asked(rollouts))
    if parents is None:
        yield result(Check.DRAWS, str(at), len(rollouts), wrong)
        return
    shown = _by_proposal(parents)
    wrong += [f"{TaskParent.table} {id_text(one)} has positions {at}" for one, at in _misnumbered(parents).items()]
    wrong += [line for place in places for line in _misdrawn(rules, history, place, shown.get(pack(place), []))]
    yield result(Check.DRAWS, str(at), len(rollouts) + len(parents), wrong)
    yield _proposal_prompts(rules, history, at, rollouts, shown)


def audit_probes(rules: Rules, history: History, step: Step) -> Iterator[Result]:
    """Every answer that should have been asked for: probes of the new tasks, and tasks from the buffer."""
    at = step.at(Stage.SOLVE)
    rollouts, tasks = step.rows(Stage.SOLVE, Rollout), step.rows(Stage.VALIDATE, Task)
    if rollouts is None:
        return
    yield from _sampling(rules, history, step, at, rollouts)
    if history.gap is not None or tasks is None or not step.partitions[Stage.VALIDATE].intact(Task):
        yield _unknown(at, history)
        return
    expected = {**_probes(rules, at, tasks), **_again(rules, history, at)}
    wrong = differences(Rollout.table, _ASKED, expected, _asked(rollouts))
    yield result(Check.DRAWS, str(at), len(rollouts), wrong)
    yield _answer_prompts(rules, at, rollouts, history.known(step))


def drawn_references(rules: Rules, history: History, place: Place) -> list[Task]:
    """The earlier tasks that a proposer's place draws, before any is left out for want of room."""
    curriculum = rules.config.curriculum
    draw = rng(rules.config.seed, place.iteration, place.round, "references", place.mode.value, place.slot)
    least, most = curriculum.references_min, curriculum.references_max
    return draw_references(history.buffers, place.mode, least=least, most=most, rng=draw)


def _unknown(at: Position, history: History) -> Result:
    gap = history.gap or at._replace(stage=Stage.VALIDATE)
    return result(Check.DRAWS, str(at), 0, [], [f"draws from {at} on cannot be told: {gap} has no tasks as sealed"])


def _asked(rollouts: Sequence[Rollout]) -> dict[int, Values]:
    return {row.rollout_id: (row.role, row.source, row.task_id) for row in rollouts}


def _by_proposal(parents: Sequence[TaskParent]) -> dict[int, list[int]]:
    shown: dict[int, list[int]] = {}
    for row in sorted(parents, key=lambda row: (row.task_id, row.position)):
        shown.setdefault(row.task_id, []).append(row.parent_id)
    return shown


def _misnumbered(parents: Sequence[TaskParent]) -> dict[int, list[int]]:
    """The positions of each proposal's references, where they do not count from 0."""
    positions: dict[int, list[int]] = {}
    for row in parents:
        positions.setdefault(row.task_id, []).append(row.position)
    return {one: sorted(at) for one, at in positions.items() if sorted(at) != list(range(len(at)))}


def _misdrawn(rules: Rules, history: History, place: Place, shown: Sequence[int]) -> Iterator[str]:
    """References that the seed does not give; a prompt may hold fewer than drawn, in their order, but the first."""
    drawn = [task.task_id for task in drawn_references(rules, history, place)]
    if list(shown) != drawn[: max(len(shown), min(1, len(drawn)))]:
        told = (", ".join(map(id_text, ids)) or "none" for ids in (shown, drawn))
        yield "{} {} was shown {}; its seed draws {}".format(TaskParent.table, id_text(pack(place)), *told)


def _probes(rules: Rules, at: Position, tasks: Sequence[Task]) -> dict[int, Values]:
    return {
        pack(unpack(task.task_id)._replace(sample=sample)): (Role.SOLVER, Source.NEW, task.task_id)
        for task in tasks
        if task.verdict == VALID
        for sample in range(rules.config.curriculum.probes)
    }


def _again(rules: Rules, history: History, at: Position) -> dict[int, Values]:
    curriculum = rules.config.curriculum
    expected: dict[int, Values] = {}
    for mode in curriculum.modes:
        draw = rng(rules.config.seed, at.iteration, "buffer", mode.value)
        drawn = draw_buffer_tasks(history.buffers.get(mode, []), curriculum.buffer_tasks, draw)
        for slot, task in enumerate(drawn, start=curriculum.proposals):
            for sample in range(curriculum.buffer_samples):
                place = Place(at.iteration, at.round, mode, slot, sample)
                expected[pack(place)] = (Role.SOLVER, Source.BUFFER, task.task_id)
    return expected


def _proposal_prompts(
    rules: Rules, history: History, at: Position, rollouts: Sequence[Rollout], shown: Mapping[int, Sequence[int]]
) -> Result:
    wrong, count = [], 0
    for row in rollouts:
        tasks = [history.valid[one] for one in shown.get(row.rollout_id, ()) if one in history.valid]
        if not tasks or not all(map(showable, tasks)):
            continue  # found elsewhere
        count += 1
        if row.prompt != reference_prompt(rules, row.mode, tasks):
            wrong.append(_other_prompt(row))
    return result(Check.PROMPTS, str(at), count, wrong)


def _answer_prompts(rules: Rules, at: Position, rollouts: Sequence[Rollout], tasks: Mapping[int, Task]) -> Result:
    asked = {row.task_id: tasks[row.task_id] for row in rollouts if row.task_id in tasks}
    prompts = {task_id: task_prompt(rules, task) for task_id, task in asked.items() if showable(task)}
    known = [row for row in rollouts if row.task_id in prompts]
    wrong = [_other_prompt(row) for row in known if row.prompt != prompts[row.task_id]]
    return result(Check.PROMPTS, str(at), len(known), wrong)


def _other_prompt(row: Rollout) -> str:
    return f"{row.table} {id_text(row.rollout_id)}: its prompt is not the one that its tasks and templates give"


def _sampling(
    rules: Rules, history: History, step: Step, at: Position, rollouts: Sequence[Rollout]
) -> Iterator[Result]:
    policy = history.policy_before(at)
    expected = {row.rollout_id: _sampled(rules, at, row, policy) for row in rollouts}
    found: dict[int, Values] = {
        row.rollout_id: (
            row.seed, row.temperature, row.top_p, row.max_tokens, row.policy, row.policy_iteration, row.content_key
        )
        for row in rollouts
    }  # fmt: skip
    wrong = differences(Rollout.table, _SAMPLED, expected, found)
    wrong += [line for row in rollouts for line in _unended(row)]
    yield result(Check.SAMPLING, str(at), len(rollouts), wrong)
    yield _token_counts(step, at, rollouts)


def _sampled(rules: Rules, at: Position, row: Rollout, policy: str | None) -> Values:
    """What decides a completion."""
    sampling = rules.config.sampling
    draw = (at.iteration, at.round, at.stage.value, row.mode.value, row.slot, row.sample)
    limit = sampling.proposer_tokens if at.stage is Stage.PROPOSE else sampling.solver_tokens
    before = max(at.iteration - 1, 0)
    key = rollout_key(row.prompt, row.completion)
    seed = seed_of(rules.config.seed, *draw)
    return (seed, sampling.temperature, sampling.top_p, limit, policy or row.policy, before, key)


def _unended(row: Rollout) -> Iterator[str]:
    if row.finish_reason not in _ENDS:
        ends = ", ".join(sorted(_ENDS))
        yield f"{row.table} {id_text(row.rollout_id)}: finish_reason {row.finish_reason!r} is none of {ends}"
    if not 0 <= row.completion_tokens <= row.max_tokens:
        what = f"{row.completion_tokens} completion tokens, at most {row.max_tokens} were allowed"
        yield f"{row.table} {id_text(row.rollout_id)}: {what}"


def _token_counts(step: Step, at: Position, rollouts: Sequence[Rollout]) -> Result:
    """Every rollout has its token ids and log-probabilities, as many as it says."""
    partition = step.partitions[at.stage]
    ids = partition.integers(Tokens, "rollout_id")
    columns = [partition.lengths(Tokens, name) for name in ("prompt_ids", "completion_ids", "logprobs")]
    if ids is None or any(column is None for column in columns):
        return result(Check.SAMPLING, str(at), 0, [])
    counts = zip(*(column for column in columns if column is not None), strict=True)
    found: dict[int, Values] = dict(zip(ids, counts, strict=True))
    expected: dict[int, Values] = {
        row.rollout_id: (row.prompt_tokens, row.completion_tokens, row.completion_tokens) for row in rollouts
    }
    names = ("number of prompt_ids", "number of completion_ids", "number of logprobs")
    return result(Check.SAMPLING, str(at), len(ids), differences(Tokens.table, names, expected, found))
