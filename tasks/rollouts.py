"""What a stage asks of the engine, and the rows that its completions become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.engines.base import Completion, FinishReason, Request
from models.policy import PolicyRef, policy_hash
from storage.errors import EngineError
from storage.ids import Place, Position, Role, Source, pack
from storage.records import Checkpoint, Rollout, Tokens
from storage.retention import explanation
from storage.seeds import seed_of
from tasks.needs import previous_update
from tasks.reasoning.checks import rollout_key
from tasks.workshop import Workshop


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One completion wanted: who speaks, about which task, at which place, after which prompt."""

    place: Place
    role: Role
    task_id: int
    source: Source
    prompt: str


def sample(work: Workshop, at: Position, asks: Sequence[Ask]) -> tuple[list[Rollout], list[Tokens]]:
    """All completions of a stage in one engine wave, as rows; each draws from a seed of its own place."""
    policy = policy_before(work, at)
    requests = [_request(work, at, ask) for ask in asks]
    completions = work.engine_at(policy).generate(requests, work.reporter.progress)
    made = list(zip(asks, requests, completions, strict=True))
    rollouts = [_rollout(at, ask, request, completion, policy) for ask, request, completion in made]
    return rollouts, [_tokens(at, ask, completion) for ask, _, completion in made]


def policy_before(work: Workshop, at: Position) -> PolicyRef:
    """The policy that the update before this iteration published, its files being those that were sealed.

    Raises:
        EngineError: the files are missing, dropped, or others than the run began with or published.
    """
    row = work.ledger.read(Checkpoint, previous_update(at))[0]
    directory = work.directory_of(row)
    found = policy_hash(directory) if directory.is_dir() else "nothing"
    if found != row.policy:
        gone = None if row.directory is None else explanation(directory.parents[1], directory, row.policy)
        raise EngineError(
            gone
            or f"Policy {row.policy[:12]} of iteration {row.iteration} should lie in {directory}, which holds "
            f"{found[:12]}. Nothing was written. Put the old files back, or begin a new run: "
            "azr train --run NAME --config FILE"
        )
    return PolicyRef(row.policy, directory, row.iteration)


def finished(rollout: Rollout) -> bool:
    """Whether the model ended the completion by itself."""
    return rollout.finish_reason == FinishReason.STOP


def _request(work: Workshop, at: Position, ask: Ask) -> Request:
    sampling, place = work.config.sampling, ask.place
    limits = {Role.PROPOSER: sampling.proposer_tokens, Role.SOLVER: sampling.solver_tokens}
    draw = (at.iteration, at.round, at.stage.value, place.mode.value, place.slot, place.sample or 0)
    return Request(
        prompt=ask.prompt,
        seed=seed_of(work.config.seed, *draw),
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=limits[ask.role],
    )


def _rollout(at: Position, ask: Ask, request: Request, completion: Completion, policy: PolicyRef) -> Rollout:
    return Rollout(
        iteration=at.iteration,
        round=at.round,
        rollout_id=pack(ask.place),
        content_key=rollout_key(request.prompt, completion.text),
        role=ask.role,
        mode=ask.place.mode,
        task_id=ask.task_id,
        source=ask.source,
        slot=ask.place.slot,
        sample=ask.place.sample or 0,
        policy=completion.policy,
        policy_iteration=policy.iteration,
        seed=request.seed,
        temperature=request.temperature,
        top_p=request.top_p,
        max_tokens=request.max_tokens,
        prompt=request.prompt,
        completion=completion.text,
        finish_reason=completion.finish_reason.value,
        prompt_tokens=len(completion.prompt_ids),
        completion_tokens=len(completion.completion_ids),
    )


def _tokens(at: Position, ask: Ask, completion: Completion) -> Tokens:
    return Tokens(
        iteration=at.iteration,
        round=at.round,
        rollout_id=pack(ask.place),
        prompt_ids=completion.prompt_ids,
        completion_ids=completion.completion_ids,
        logprobs=completion.logprobs,
    )
