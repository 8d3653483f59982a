"""The commands over history as flows with forms: audit, replay, rescore, fork, gc. Each calls what its command calls.

A flow leaves its report as an artifact. It ends as Failed, in one line, where the command would exit with code 1.
What a form says of a parameter is what Prefect finds in the section Args of the flow's docstring, and nowhere else.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import Field

from flows import audit as auditing
from flows import collect, replay, rescore
from flows.fork import begin_fork
from flows.iteration import RootPath
from flows.launch import pick_run
from flows.paper import Progress, leave
from flows.running import WAIT_S
from flows.session import stored_config
from storage.errors import AzrError, RunTaken
from storage.ids import Stage, step_text
from storage.ledger import Ledger
from storage.retention import Dropped
from tasks.config import Curve, RewardConfig
from tasks.rescoring import Rule, stored_answers

Number = Annotated[int, Field(ge=0)]
Changes = dict[str, str | int | float | bool]


def _named(what: str) -> Callable[[], str]:
    """How flow runs of a kind are called: by the run, also where the latest one is meant."""

    def name() -> str:
        given = flow_run.get_parameters()
        try:
            run = pick_run(Path(given["root"]), given["run"] or None)
        except AzrError:
            run = given["run"] or "no run"
        return f"{run} · {what}"

    return name


@flow(flow_run_name=_named("audit"), persist_result=False, retries=0)
def audit(run: str = "", deep: bool = False, expect: str = "", root: RootPath = Path("runs")) -> State:
    """Check a run: every byte as sealed, every draw, reward and advantage computed again. Failed on findings.

    Args:
        run: Name of the run; empty is the only or latest one.
        deep: Also run every program again, judge every answer again and decode the token ids.
        expect: A ledger hash that was written down before: the run must be that one, or have grown from it.
        root: Directory that holds the runs.

    Raises:
        LedgerError: there is no such run.
        ConfigError: the expected hash is none.
    """
    name = pick_run(root, run or None)
    gauge = Progress(f"audit of {name}: steps")
    found = auditing.audited(root, name, deep=deep, expect=expect or None, gauge=gauge)
    leave("audit", name, auditing.page(root, name, found))
    if wrong := found.report.findings:
        first = f"{wrong[0].where}: {wrong[0].what}"
        return Failed(message=f"{len(wrong)} findings in run {name}, first {first}. See the artifact.")
    things = sum(line.things for line in found.report.lines)
    return Completed(message=f"Nothing is wrong with run {name}: {things} things checked.")


@flow(name="replay", flow_run_name=_named("replay"), persist_result=False, retries=0)
def replay_stages(
    run: str = "",
    first: Number = 0,
    last: Number | None = None,
    stages: Annotated[list[Stage], Field(min_length=1)] = list(Stage),  # noqa: B006 - nobody changes it
    root: RootPath = Path("runs"),
) -> State:
    """Do sealed stages again aside, and compare. Nothing is written. Failed when something differs.

    Args:
        run: Name of the run; empty is the only or latest one.
        first: First iteration, 0 or more; 0 is the bootstrap.
        last: Last iteration, 0 or more; None is the last one sealed.
        stages: The stages to do, at least one; validate and verify need no model.
        root: Directory that holds the runs.

    Raises:
        LedgerError: there is no such run, or nothing of the range is sealed.
    """
    name = pick_run(root, run or None)
    wanted = replay.sealed_stages(Ledger.open(root, name), first, last, stages)
    told: list[str] = []
    done = replay.replayed(root, name, wanted, gauge=Progress(f"replay of {name}: stages"), tell=told.append)
    leave("replay", name, "\n".join([*told, replay.page(root, name, first, done)]))
    unequal = [one for one in done if not replay.is_equal(one)]
    if unequal:
        what = f"{len(unequal)} of {len(done)} stages of run {name} did not come out equal"
        return Failed(message=f"{what}, first {unequal[0].at}. See the artifact.")
    return Completed(message=f"All {len(done)} stages of run {name} came out equal. Nothing was written.")


class By(StrEnum):
    """By what rewards are paid again."""

    ONE_MINUS = "one_minus"
    INVERSE = "inverse"
    VARIANCE = "variance"
    REWARDS = "rewards"
    VERIFIER = "verifier"


_REWARDS = RewardConfig()
_NO_CHANGES: Changes = {}


@flow(name="rescore", flow_run_name=_named("rescore"), persist_result=False, retries=0)
def rescore_run(
    run: str = "",
    by: By = By.VARIANCE,
    rewards: RewardConfig = _REWARDS,
    first: Annotated[int, Field(ge=1)] = 1,
    last: Number | None = None,
    name: str = "",
    root: RootPath = Path("runs"),
) -> State:
    """Say what would have been paid by another rule, in a side table; needs no model, and what is sealed stays.

    Args:
        run: Name of the run; empty is the only or latest one.
        by: A curve of the solve rate that pays proposers (one_minus, inverse, variance); rewards, those below; or
            verifier, the answers judged again by the executor and judge of today.
        rewards: The ladder of rewards, used when the rule above is rewards.
        first: First iteration, 1 or more.
        last: Last iteration; None is the last one verified.
        name: Of the rule and of its table, which is replaced; empty is the rule's own word.
        root: Directory that holds the runs.

    Raises:
        LedgerError: there is no such run, or nothing of the range is verified.
        ConfigError: the name cannot be one.
    """
    ran = pick_run(root, run or None)
    rule = _rule(root, ran, by, rewards, name)
    gauge = Progress(f"rescoring {ran} as {rule.name}: iterations")
    done = rescore.rescored(root, ran, rule, first=first, last=last, gauge=gauge)
    leave("rescore", ran, rescore.page(root, done))
    return Completed(message=f"Run {ran} is rescored as {rule.name}, iterations {done.facts['iterations']}.")


def _rule(root: Path, run: str, by: By, rewards: RewardConfig, name: str) -> Rule:
    config = stored_config(root, run)
    if by is By.REWARDS:
        return Rule(name=name or by.value, rewards=rewards, answers=stored_answers)
    curve, verifier = (None, "current") if by is By.VERIFIER else (Curve(by.value).value, None)
    return rescore.rule_of(config, curve, None, verifier, name or None)


@flow(name="fork", flow_run_name=_named("fork"), persist_result=False, retries=0)
def fork_run(
    *,
    run: str = "",
    iteration: Number,
    stage: Stage = Stage.PROPOSE,
    round: Number = 0,
    name: str = "",
    changes: Changes = _NO_CHANGES,
    root: RootPath = Path("runs"),
) -> State:
    """Begin a run whose history before a point is another run's, by reference; from there on any config may differ.

    Args:
        run: Name of the run to fork; empty is the only or latest one.
        iteration: The first iteration of the fork's own, 0 or more; 0 is the bootstrap.
        stage: The first stage of its own in that iteration.
        round: The bootstrap round, 0 or more, when the iteration is 0; else 0.
        name: Name of the fork; empty is the run's with a number.
        changes: Config values by dotted key, as {"rewards.learnability": "variance"}; all others stay.
        root: Directory that holds the runs.

    Raises:
        ConfigError: a point that no run has, a name that cannot be, a config that cannot be used.
        LedgerError: a point that is not sealed or cannot be trained from, or a name that is taken.
    """
    parent = pick_run(root, run or None)
    at = f"{step_text(iteration, round)}.{stage}"
    begun = begin_fork(root, parent, at=at, name=name or None, file=None, settings=settings(changes))
    leave("fork", begun.name, f"{begun.page}\n\n{begun.next}")
    return Completed(message=f"Run {begun.name} is a fork of {parent} at {at}. {begun.next}")


@flow(flow_run_name=_named("gc"), persist_result=False, retries=0)
def gc(run: str = "", dry_run: bool = False, changes: Changes = _NO_CHANGES, root: RootPath = Path("runs")) -> State:
    """Drop what the retention policy of a run lets go: old checkpoints, optimizer states, token columns.

    Args:
        run: Name of the run; empty is the only or latest one.
        dry_run: Only say what would go.
        changes: Values of the policy by dotted key, as {"retention.tokens_last": 20}, for this once.
        root: Directory that holds the runs.

    Raises:
        RunTaken: the run is being written, and still was after a while.
        LedgerError: there is no such run, or one that may be its fork cannot be read.
        ConfigError: a change that the config cannot take.
    """
    name = pick_run(root, run or None)
    wanted = settings(changes)
    things = _when_free(lambda: collect.collected(root, name, wanted, dry_run=dry_run))
    leave("gc", name, collect.page(root, name, things, wanted, dry_run=dry_run))
    went = f"{len(things)} things, {collect.size(collect.total_bytes(things))}"
    return Completed(message=f"{went} of run {name} {'would go' if dry_run else 'went'}.")


def _when_free(job: Callable[[], Sequence[Dropped]]) -> Sequence[Dropped]:
    """Do a job that writes; a flow run that was just suspended or cancelled may need some seconds to let go."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return job()
        except RunTaken as taken:
            if time.monotonic() > deadline:
                raise
            get_run_logger().info("Waiting: %s", taken)
            time.sleep(2.0)


def settings(changes: Mapping[str, str | int | float | bool]) -> list[str]:
    """Changes as ``--set`` takes them."""
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in changes.items()]
