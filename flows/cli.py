"""The command line. Parsing and dispatch only: every command imports what it needs when it is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Group, Parameter

from flows.version import code_version
from storage.errors import AzrError

app = App(
    name="azr",
    help="Absolute Zero Reasoner: a model teaches itself to reason; every task and reward is kept and can be asked.",
    help_on_error=False,
    version=code_version,
)
show = App(name="show", help="Print one thing of a run, whole.")
config_app = App(name="config", help="Look at configs.")
nano_app = App(name="nano", help="The small base model that comes with the package.")
for section in (show, config_app, nano_app):
    app.command(section)

EVERYWHERE = Group("Everywhere", sort_key=99)
Settings = Annotated[tuple[str, ...], Parameter(name="--set", negative="", show_default=False)]


@Parameter(name="*", group=EVERYWHERE)
@dataclass(frozen=True)
class Common:
    """What every command takes."""

    root: Path = Path("runs")
    """Directory that holds the runs; other files in it are ignored."""
    debug: Annotated[bool, Parameter(negative="")] = False
    """Show the traceback of an error."""


HERE = Common()


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
def rerun(iteration: str, stage: str, /, *, run: str | None = None, common: Common = HERE) -> int:
    """Run one stage that is not sealed, and nothing else. A sealed stage is left as it is.

    Args:
        iteration: The iteration, such as 12; a bootstrap round as 0.2.
        stage: propose, validate, solve, verify or update.
        run: Name of the run (default: the only or latest one).
    """
    from flows.launch import relaunch

    return relaunch(root=common.root, run=run, iteration=iteration, stage=stage)


@app.command
def runs(*, json: Annotated[bool, Parameter(negative="")] = False, common: Common = HERE) -> int:
    """List the runs below the root.

    Args:
        json: Print JSON.
    """
    from flows.look import list_runs

    return list_runs(common.root, as_json=json)


@app.command
def status(
    *, run: str | None = None, json: Annotated[bool, Parameter(negative="")] = False, common: Common = HERE
) -> int:
    """Show iterations and stages of a run: counts, timings, attempts, failures.

    Args:
        run: Name of the run (default: the only or latest one).
        json: Print JSON, with the ledger hash.
    """
    from flows.look import show_status

    return show_status(common.root, run, as_json=json)


@show.command(name="task")
def show_task(
    id: str,  # noqa: A002 - the word on the command line
    /,
    *,
    run: str | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    common: Common = HERE,
) -> int:
    """Print one task: prompt, proposer's text, program, parents, verdict, its answers and their rewards.

    Args:
        id: The task's id, such as 12-ded-031 or, in bootstrap, 0.2-ded-031.
        run: Name of the run (default: the only or latest one).
        json: Print JSON.
    """
    from flows.show import show_one_task

    return show_one_task(common.root, run, id, as_json=json)


@app.command
def sql(
    query: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,  # SQL may begin with a comment
    /,
    *,
    format: Literal["table", "csv", "json"] = "table",  # noqa: A002 - the word on the command line
    common: Common = HERE,
) -> int:
    """Answer one SELECT over all runs below the root, also while one is going. Nothing can be written.

    Args:
        query: The SELECT; without it, it is read from standard input.
        format: How to print the rows.
    """
    from flows.look import answer_sql

    return answer_sql(common.root, sys.stdin.read() if query is None else query, form=format)


@config_app.command(name="show")
def show_config(
    *, config: Path | None = None, run: str | None = None, settings: Settings = (), common: Common = HERE
) -> int:
    """Print every config value, what it means, and where it came from.

    Args:
        config: TOML file.
        run: Show the stored config of this run instead.
        settings: One config value, as key=value; may be repeated.
    """
    from flows.provenance import print_config

    return print_config(common.root, file=config, run=run, settings=settings)


@app.command
def doctor(*, json: Annotated[bool, Parameter(negative="")] = False, common: Common = HERE) -> int:
    """Say what this machine can do: versions, sandbox layers, engines, disk.

    Args:
        json: Print JSON.
    """
    from flows.doctor import examine

    return examine(common.root, as_json=json)


@nano_app.command
def pretrain(
    *,
    minutes: float = 30.0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    out: Path = Path("nano"),
    common: Common = HERE,
) -> int:
    """Train the nano base from scratch on generated programs; the same command again continues.

    Args:
        minutes: Time to train, in all.
        device: Where to train.
        out: Directory for the weights and the state to continue from.
    """
    from flows.nano import pretrain as run_pretraining

    return run_pretraining(minutes=minutes, device=device, out=out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `azr`: run one command; an error of ours is one clear message and exit code 1."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(words, result_action="return_value")
    except AzrError as error:
        if "--debug" in words:
            raise
        from flows.console import complain

        complain(str(error))
        code = 1
    except KeyboardInterrupt:
        sys.stderr.write("azr: stopped. What is sealed stays; the same command again continues.\n")
        code = 130
    except BrokenPipeError:  # the reader of our output went away, as in `azr sql ... | head`
        sys.stderr.close()
        code = 0
    sys.exit(code if isinstance(code, int) else 0)
