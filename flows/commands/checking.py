"""The commands that do history again: audit, replay, rescore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from flows.commands.common import HERE, Common, app


@app.command
def audit(
    *,
    run: str | None = None,
    deep: Annotated[bool, Parameter(negative="")] = False,
    expect: str | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    common: Common = HERE,
) -> int:
    """Check a run: every byte as sealed, every draw, reward and advantage computed again. Exit code 1 on findings.

    Args:
        run: Name of the run (default: the only or latest one).
        deep: Also run every program again, judge every answer again and decode the token ids.
        expect: A ledger hash that was written down before: the run must be that one, or have grown from it.
        json: Print JSON.
    """
    from flows.audit import audit_run

    return audit_run(common.root, run, deep=deep, expect=expect, as_json=json)


@app.command
def replay(
    *,
    run: str | None = None,
    first: Annotated[int, Parameter(name="--from")] = 0,
    last: Annotated[int | None, Parameter(name="--to")] = None,
    stages: str | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    common: Common = HERE,
) -> int:
    """Do sealed stages again aside, and say what differs; exit code 1 when something does. Nothing is written.

    Args:
        run: Name of the run (default: the only or latest one).
        first: First iteration; 0 is the bootstrap.
        last: Last iteration (default: the last one sealed).
        stages: Only these, as validate,verify, which need no model.
        json: Print JSON.
    """
    from flows.replay import replay as replay_stages

    return replay_stages(common.root, run, first=first, last=last, stages=stages, as_json=json)


@app.command
def rescore(
    *,
    run: str | None = None,
    first: Annotated[int, Parameter(name="--from")] = 1,
    last: Annotated[int | None, Parameter(name="--to")] = None,
    curve: Literal["one_minus", "inverse", "variance"] | None = None,
    reward: Path | None = None,
    verifier: Literal["current"] | None = None,
    name: str | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    common: Common = HERE,
) -> int:
    """Say what would have been paid by another reward rule, or by the executor and judge of today. Needs no model.

    The rewards go into a side table, for the view `rescored` of azr sql; what is sealed stays as it is.

    Args:
        run: Name of the run (default: the only or latest one).
        first: First iteration.
        last: Last iteration (default: the last one verified).
        curve: Pay proposers by this curve of the solve rate.
        reward: Pay by the section rewards of this TOML file.
        verifier: Judge the stored answers again.
        name: Of the rule, and of its table, which is replaced (default: the curve, the file or the verifier).
        json: Print JSON.
    """
    from flows.rescore import rescore_run

    return rescore_run(
        common.root,
        run,
        first=first,
        last=last,
        curve=curve,
        reward=reward,
        verifier=verifier,
        name=name,
        as_json=json,
    )
