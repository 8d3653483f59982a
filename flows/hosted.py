"""A flow that can be called as a function: where no Prefect server is chosen, the private one of its root is used.

Left alone, Prefect would start a temporary server, keep its data in the home directory, and lose most of the history.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import ParamSpec, TypeVar

from prefect import Flow
from prefect.settings import PREFECT_API_URL

from flows.server import prefect_server

P = ParamSpec("P")
R = TypeVar("R")


class Hosted(Flow[P, R]):
    """A flow with a parameter `root`, whose plain call finds or starts a server, and keeps it while it runs."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:  # type: ignore[override] # Prefect's has overloads
        """Run the flow; raises ServerError when a private server is needed and does not start."""
        given = inspect.signature(self.fn).bind(*args, **kwargs)
        given.apply_defaults()
        chosen = PREFECT_API_URL.value() is not None
        with nullcontext() if chosen else prefect_server(Path(given.arguments["root"])):
            return super().__call__(*args, **kwargs)


def hosted(flow_run_name: Callable[[], str], *, name: str | None = None) -> Callable[[Callable[P, R]], Hosted[P, R]]:
    """Make a function a hosted flow, by its own name or another; each flow run is called what `flow_run_name` says."""

    def decorate(function: Callable[P, R]) -> Hosted[P, R]:
        return Hosted(function, name=name, flow_run_name=flow_run_name, persist_result=False, retries=0)

    return decorate
