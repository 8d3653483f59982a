"""Limits of a run, looked at before each iteration: free disk, sampled tokens, hours. At one of them the run waits.

The sums are kept while the run goes on, and made anew from the ledger when it is continued; a look costs the same at
the thousandth iteration as at the first.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from typing import Annotated, cast

from prefect.events import emit_event
from prefect.input import RunInput
from prefect.runtime import deployment
from pydantic import Field

from flows.config import LimitsConfig, RunConfig
from flows.suspension import answers, suspend
from storage import layout
from storage.errors import LimitReached
from storage.ids import Position, Stage
from storage.ledger import Ledger
from storage.spending import sampled_tokens, seconds
from tasks.needs import stages_of

LOW_DISK = "azr.disk.low"
"""The Prefect event of a run that stops for lack of free disk; its payload names the run, its root and the free GB."""
_GB = 1e9
_log = logging.getLogger("azr")


class Budget:
    """What a run has used of its limits so far; of a fork, what it used itself."""

    def __init__(self, ledger: Ledger, limits: LimitsConfig) -> None:
        self.limits = limits
        self.tokens, self.seconds = 0, 0.0
        self._ledger = ledger
        if limits.max_tokens or limits.max_hours:
            self._add(ledger.made())

    def count(self, iteration: int) -> None:
        """Add what an iteration that was just done has used."""
        self._add(stages_of(iteration))

    def reached(self) -> str | None:
        """Which limit is reached, in words; None while the run may go on."""
        limits, free = self.limits, self.free_gb()
        if free < limits.min_free_gb:
            where = self._ledger.directory
            return f"{free:.2f} GB are free where {where} lies; limits.min_free_gb is {limits.min_free_gb:g}"
        if limits.max_tokens and self.tokens >= limits.max_tokens:
            return f"{self.tokens:,} tokens are sampled; limits.max_tokens is {limits.max_tokens:,}"
        if limits.max_hours and self.seconds >= limits.max_hours * 3600:
            return f"its stages took {self.seconds / 3600:.2f} hours; limits.max_hours is {limits.max_hours:g}"
        return None

    def low_on_disk(self) -> bool:
        """Whether it is the disk that is short."""
        return self.free_gb() < self.limits.min_free_gb

    def free_gb(self) -> float:
        """Free disk where the run lies, in GB, for a user without privileges."""
        return shutil.disk_usage(self._ledger.directory).free / _GB

    def _add(self, positions: Iterable[Position]) -> None:
        for seal in map(self._ledger.seal_of, positions):
            if seal is None:
                continue
            self.seconds += seconds(seal)
            if self.limits.max_tokens and seal.stage in (Stage.PROPOSE, Stage.SOLVE):
                self.tokens += sampled_tokens(self._ledger, seal)


def stop_at_limit(ledger: Ledger, budget: Budget) -> None:
    """Do nothing while no limit is reached; else suspend the deployed flow run, or end any other.

    Raises:
        LimitReached: in a run that was not deployed; the message says how to go on.
        prefect.exceptions.Pause: in a deployed one, whose process ends now; Resume starts another.
    """
    reason = budget.reached()
    if reason is None:
        return
    if budget.low_on_disk():
        _tell_low_disk(ledger, budget.free_gb())
    last = ledger.last()
    state = (
        f"Run {ledger.run} waits: {reason}. {'Nothing' if last is None else f'All up to {last.position}'} is sealed."
    )
    if deployment.get_id():
        suspend(f"{state} {_way_on(budget, deployed=True)}", _form(budget.limits))
    again = layout.command("train", root=ledger.root, run=ledger.run)
    raise LimitReached(f"{state} {_way_on(budget, deployed=False)}: {again}")


def limits_of(config: RunConfig) -> LimitsConfig:
    """The limits that hold now: the config's, unless others were entered when this flow run was resumed."""
    if not deployment.get_id():
        return config.limits
    values = config.limits.model_dump()
    for entered in answers():
        values |= entered
    return LimitsConfig.model_validate(values)


def _form(limits: LimitsConfig) -> type[RunInput]:
    """What Resume asks for: every limit, filled in as it is, with the bounds that the config has."""
    kinds: dict[str, object] = {}
    fields: dict[str, object] = {"__module__": __name__, "__annotations__": kinds}
    for name, field in LimitsConfig.model_fields.items():
        kinds[name] = Annotated[(field.annotation, *field.metadata)]
        fields[name] = Field(getattr(limits, name), description=field.description)
    return cast("type[RunInput]", type("Limits", (RunInput,), fields))


def _way_on(budget: Budget, *, deployed: bool) -> str:
    if budget.low_on_disk():
        return "Free some space, then press Resume." if deployed else "Free some space, or run azr gc, then"
    if deployed:
        return "Press Resume with a larger limit."
    return "Raise the limit with --set limits.NAME=VALUE, then"


def _tell_low_disk(ledger: Ledger, free_gb: float) -> None:
    emit_event(
        event=LOW_DISK,
        resource={"prefect.resource.id": f"azr.run.{ledger.run}", "prefect.resource.name": ledger.run},
        payload={"run": ledger.run, "root": str(ledger.root.resolve()), "free_gb": round(free_gb, 3)},
    )
