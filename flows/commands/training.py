"""The commands that make a run go on: train it, run one stage, fork it, tidy it up, show it to MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.commands.common import HERE, Common, Settings, app


@app.command
def train(
    *,
    config: Path | None = None,
    run: str | None = None,
    iterations: int | None = None,
    settings: Settings = (),
    common: Common = HERE,
) -> int:
    """Train a run up to a number of iterations. The same command again continues where it stopped.

    Args:
        config: TOML file; without it the stored config of the run is used.
        run: Name of the run (default: the config's name; without a config the only or latest run).
        iterations: Iterations wanted in all (short for --set iterations=N).
        settings: One config value, as key=value; may be repeated.
    """
    from flows.launch import launch

    more = settings if iterations is None else (*settings, f"iterations={iterations}")
    return launch(root=common.root, file=config, settings=more, run=run)


@app.command
def rerun(
    iteration: str,
    stage: str,
    /,
    *,
    run: str | None = None,
    compare: Annotated[bool, Parameter(negative="")] = False,
    common: Common = HERE,
) -> int:
    """Run one stage that is not sealed, and nothing else. A sealed stage is left as it is.

    Args:
        iteration: The iteration, such as 12; a bootstrap round as 0.2.
        stage: propose, validate, solve, verify or update.
        run: Name of the run (default: the only or latest one).
        compare: Do a sealed stage again aside, and say what differs; exit code 1 when something does.
    """
    if compare:
        from flows.replay import compare_stage

        return compare_stage(common.root, run, iteration=iteration, stage=stage)
    from flows.launch import relaunch

    return relaunch(root=common.root, run=run, iteration=iteration, stage=stage)


@app.command
def fork(
    *,
    at: str,
    run: str | None = None,
    name: str | None = None,
    config: Path | None = None,
    settings: Settings = (),
    common: Common = HERE,
) -> int:
    """Begin a run whose history before a point is another run's, by reference. From there on any config may differ.

    Args:
        at: The first iteration of its own, such as 12; with a stage, 12.solve; a bootstrap round, 0.2.
        run: Name of the run to fork (default: the only or latest one).
        name: Name of the fork (default: the run's with a number).
        config: TOML file whose values replace the run's.
        settings: One config value, as key=value; may be repeated.
    """
    from flows.fork import fork_run

    return fork_run(common.root, run, at=at, name=name, file=config, settings=settings)


@app.command
def gc(
    *,
    run: str | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    settings: Settings = (),
    json: Annotated[bool, Parameter(negative="")] = False,
    common: Common = HERE,
) -> int:
    """Drop what the retention policy of a run lets go: old checkpoints, optimizer states, token columns.

    What goes stays listed with its hash and the reason. What a fork stands on is kept.

    Args:
        run: Name of the run (default: the only or latest one).
        dry_run: Only say what would go.
        settings: One value of the policy, as retention.tokens_last=20; may be repeated.
        json: Print JSON.
    """
    from flows.collect import collect_garbage

    return collect_garbage(common.root, run, settings=settings, dry_run=dry_run, as_json=json)


@app.command
def track(*, run: str | None = None, common: Common = HERE) -> int:
    """Tell MLflow of every sealed iteration that it lacks; a training does so by itself.

    Args:
        run: Name of the run (default: the only or latest one).
    """
    from flows.track import catch_up

    return catch_up(common.root, run)
