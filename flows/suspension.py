"""Suspending the flow run of this process: it ends, and Resume in the UI starts another that goes on.

Resume shows a form, whose answers the process that goes on can read.
"""

from __future__ import annotations

import json
from typing import NoReturn
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import Pause
from prefect.input import RunInput, keyset_from_paused_state
from prefect.states import Suspended
from prefect.utilities.engine import propose_state_sync
from pydantic import JsonValue

_KEY = "limit-"


def suspend(reason: str, form: type[RunInput]) -> NoReturn:
    """Suspend the flow run of this process with a reason, and leave it; the caller's `finally` blocks run.

    Raises:
        prefect.exceptions.Pause: always; Prefect ends the process in good order.
    """
    flow_run, earlier = _this()
    state: State[None] = Suspended(message=reason, pause_key=f"{_KEY}{earlier + 1}")
    keyset = keyset_from_paused_state(state)
    state.state_details.run_input_keyset = {str(use): key for use, key in keyset.items()}
    form.save(keyset, flow_run)
    with get_client(sync_client=True) as client:
        accepted = propose_state_sync(client, state, flow_run_id=flow_run)
    raise Pause(state=accepted)


def answers() -> list[dict[str, JsonValue]]:
    """What was entered at each Resume of this flow run so far, first to last."""
    flow_run, earlier = _this()
    if not earlier:
        return []
    prefix = f"suspended-{_KEY}"
    with get_client(sync_client=True) as client:
        found = client.filter_flow_run_input(flow_run, key_prefix=prefix, limit=200, exclude_keys=set())
    given = {
        int(one.key.removeprefix(prefix).removesuffix("-response")): json.loads(one.value)
        for one in found
        if one.key.endswith("-response")
    }
    return [given[number] for number in sorted(given)]


def _this() -> tuple[UUID, int]:
    """The flow run of this process, and how often it was suspended here before."""
    context = FlowRunContext.get()
    assert context is not None  # noqa: S101 - only flows call this
    assert context.flow_run is not None  # noqa: S101
    keys = context.flow_run.empirical_policy.pause_keys or ()
    return context.flow_run.id, sum(key.startswith(_KEY) for key in keys)
