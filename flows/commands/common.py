"""What every command takes, and where commands are registered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import App, Group, Parameter

from flows.version import code_version

app = App(
    name="azr",
    help="Absolute Zero Reasoner: a model teaches itself to reason; every task and reward is kept and can be asked.",
    help_on_error=False,
    version=code_version,
)
show = App(name="show", help="Print one thing of a run, whole.")
config_app = App(name="config", help="Look at configs.")
nano_app = App(name="nano", help="The small base model that comes with the package.")
automations_app = App(name="automations", help="What the Prefect server does by itself when a run crashes or fails.")
for section in (show, config_app, nano_app, automations_app):
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
