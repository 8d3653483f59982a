"""Which page of the UI an iteration has: its own, also when a flow run is retried and begins with a later iteration."""

from __future__ import annotations

from typing import ParamSpec, TypeVar

from prefect import Flow, Task
from prefect.context import FlowRunContext

P = ParamSpec("P")
R = TypeVar("R")


def own_page(subflow: Flow[P, R], number: int) -> None:
    """Tell Prefect that the next call of a subflow is its `number`-th, whatever this process has called before.

    Prefect knows the subflows of a flow run by the order in which they are called. A retried training does not enter
    the iterations that are sealed; its first call would be taken for iteration 1 done again, and that page be lost.
    """
    context = FlowRunContext.get()
    if context is not None:
        key = Task(subflow.fn, name=subflow.name).task_key
        context.task_run_dynamic_keys[key] = number - 1  # Prefect counts on from here
