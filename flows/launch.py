"""What `azr train` and `azr rerun` do: make a Prefect server reachable, run the flow, say what came of it."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flows.config import RunConfig, resolve
from flows.console import TrainingConsole, say
from flows.logs import log_file
from flows.server import prefect_server
from flows.session import require_same, stored_config, workshop
from storage import layout
from storage.errors import AzrError, ConfigError, LedgerError
from storage.ids import Position, Stage
from storage.ledger import Ledger
from tasks.needs import needs, require_stage

TAG = "azr"
"""Marks our flow runs, as prefect.yaml does: the automations look at no others."""


def launch(*, root: Path, file: Path | None, settings: Sequence[str], run: str | None) -> int:
    """Train a run up to its iterations, as the flow `train` on a Prefect server; returns the exit code."""
    config, name = _choose(root, file, settings, run)
    if _finished(root, name, config):
        return 0
    _check_base(config)
    last = config.iterations
    say(f"Run {name} below {root}: {last} iterations, seed {config.seed}, model {config.model.path}.")
    with workshop(root, name, config=config) as work, _logged(root, name), _warm_up(), prefect_server(root) as api:
        from prefect import tags  # prefect is imported once its settings stand

        from flows.train import next_iteration, train

        say(f"Prefect: {api.removesuffix('/api')}")
        work.reporter = TrainingConsole(first=next_iteration(work.ledger, config), last=last)
        with tags(TAG):
            train(config, name, root)
    from flows.summary import summarise

    say(summarise(root, name, config))
    return 0


def relaunch(*, root: Path, run: str | None, iteration: str, stage: str) -> int:
    """Run one unsealed stage; on a sealed one nothing changes, and what can be done instead is said."""
    name = pick_run(root, run)
    at = position_of(iteration, stage)
    require_stage(at)
    ledger = Ledger.open(root, name)
    seal = ledger.seal_of(at)
    if seal is not None:
        say(
            f"Stage {at} of run {name} is sealed (attempt {seal.attempt}), and what is sealed is never replaced. "
            f"Nothing was run.\n  go on:        {layout.command('train', root=root, run=name)}\n"
            f"  do it again:  {layout.rerun_command(root, name, at)} --compare\n"
            f"  differently:  {layout.command('fork', '--at', f'{iteration}.{stage}', root=root, run=name)}\n"
            f"  another run:  {layout.command('train', root=root, run='NAME')} --config FILE"
        )
        return 0
    for needed in needs(ledger, at):  # refuse before a server is started
        ledger.require(needed, needed_by=at)
    last = max(at.iteration, stored_config(root, name).iterations)
    console = TrainingConsole(first=at.iteration, last=last)
    with workshop(root, name, reporter=console), _logged(root, name), prefect_server(root):
        from prefect import tags

        from flows.rerun import rerun_stage

        with tags(TAG):
            rerun_stage(name, at.iteration, at.stage, at.round, root)
    say(f"Next: {layout.command('train', root=root, run=name)}")
    return 0


def pick_run(root: Path, run: str | None) -> str:
    """The run meant: the one named, else the only or the latest one below the root.

    Raises:
        LedgerError: there is no such run, or no run at all.
    """
    names = layout.require_runs(root)
    if run is None:
        return max(names, key=lambda name: (root / name / layout.RUN_FILE).stat().st_mtime)
    if run not in names:
        raise LedgerError(
            f"There is no run {run} below {root}. Runs there: {', '.join(names)}. Nothing was written. "
            f"Begin it: {layout.command('train', root=root, run=run)} --config FILE"
        )
    return run


def _choose(root: Path, file: Path | None, settings: Sequence[str], run: str | None) -> tuple[RunConfig, str]:
    """The config and the name of the run to train."""
    if file is not None:
        config = resolve(file, settings).config
        layout.run_directory(root, run or config.name)  # raises for a name that no directory can have
        return config, run or config.name
    if not layout.run_names(root):
        raise ConfigError(
            f"There is no run below {root} to continue, and no config to begin one. Nothing was written. "
            "Begin: azr train --config configs/nano.toml"
        )
    name = pick_run(root, run)
    begun = max((attempt.position.iteration for attempt in Ledger.open(root, name).attempts()), default=0)
    stored = stored_config(root, name)
    stored = stored.model_copy(update={"iterations": max(stored.iterations, begun)})  # finish what was begun
    return resolve(None, settings, base=stored).config, name


def _finished(root: Path, name: str, config: RunConfig) -> bool:
    """Say so when the run has its iterations."""
    if name not in layout.run_names(root):
        return False
    require_same(root, name, config)
    ledger = Ledger.open(root, name)
    done = max((seal.iteration for seal in ledger.sealed() if seal.stage is Stage.UPDATE), default=-1)
    if done < config.iterations or (done == 0 and config.iterations == 0):
        return False
    go_on = layout.command("train", root=root, run=name)
    say(
        f"Run {name} has its iterations: {done}, wanted {config.iterations}. Nothing was run.\n"
        f"  go on:        {go_on} --iterations {done + 2}\n"
        f"  another run:  {layout.command('train', root=root, run='NAME')} --config FILE\n"
        f"  look at it:   {layout.command('status', root=root, run=name)}"
    )
    return True


def _check_base(config: RunConfig) -> None:
    """Find faults of model, tokenizer and templates before anything is written."""
    from tasks.base import find_base
    from tasks.reasoning.prompts import load_templates

    find_base(config, load_templates(config.curriculum.templates))


def stage_of(word: str) -> Stage:
    """The stage of a word; raises ConfigError when there is none."""
    words = [stage.value for stage in Stage]
    if word not in words:
        raise ConfigError(f"There is no stage {word!r}. Stages: {', '.join(words)}. Nothing was run.")
    return Stage(word)


def position_of(iteration: str, stage: str) -> Position:
    """The position of an iteration or bootstrap round, as people write it, and a stage; raises ConfigError."""
    word = stage_of(stage)
    try:
        at = layout.parse_position(f"{iteration}/{word}")
    except ValueError:
        raise ConfigError(f"{iteration!r} is no iteration. Say 12, or 0.2 for a bootstrap round.") from None
    if at.iteration and at.round:
        raise ConfigError(f"{iteration!r} is no iteration: only the bootstrap, 0, has rounds. Say {at.iteration}.")
    return at


@contextmanager
def _warm_up() -> Iterator[None]:
    """Import torch beside what follows: it takes seconds, and so does the start of a server."""
    beside = threading.Thread(target=importlib.import_module, args=("models.updater",), daemon=True)
    beside.start()
    yield
    beside.join()


@contextmanager
def _logged(root: Path, name: str) -> Iterator[None]:
    """Log to the run's file; an error leaves its traceback there."""
    with log_file(layout.run_directory(root, name)) as path:
        try:
            yield
        except BaseException as error:
            logging.getLogger("azr").exception("run %s stopped", name)
            if isinstance(error, AzrError) or not isinstance(error, Exception):
                raise
            raise _explained(error, path, root, name) from error


def _explained(error: Exception, log: Path, root: Path, name: str) -> AzrError:
    again = layout.command("train", root=root, run=name)
    return AzrError(
        f"{type(error).__name__}: {error}\nWhat was sealed before stays as it is; the stage that failed left nothing. "
        f"The traceback is in {log}. When the cause is mended, run: {again}"
    )
