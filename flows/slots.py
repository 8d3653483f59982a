"""GPU stages of different runs wait for one another: a global concurrency limit of Prefect is taken around each.

A process that is killed keeps its slot until its lease ends, at most LEASE_S and the few seconds after which the server
looks for such leases; the server takes no shorter one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from models.config import DeviceKind, EngineConfig
from storage.ids import Position
from tasks.workshop import WITH_MODEL, Workshop

GPU = "azr-gpu"
"""The limit that stages on a CUDA device take; one slot unless it is given more in the Prefect UI."""
LEASE_S = 60.0
_log = logging.getLogger("azr")


@contextmanager
def slot(work: Workshop, at: Position) -> Iterator[None]:
    """Hold the slot that a stage needs while it runs; waits until there is one, and says so."""
    name = limit_of(work.config.engine) if at.stage in WITH_MODEL else None
    if name is None or work.ledger.seal_of(at) is not None:
        yield
        return
    from prefect.concurrency.sync import concurrency

    if _taken(name):
        _log.info("%s waits for a slot of %s, which other runs hold", at, name)
    # A server that is away for longer than the lease does not end a stage; another run may then join it on the GPU.
    with concurrency(name, occupy=1, lease_duration=LEASE_S, raise_on_lease_renewal_failure=False):
        yield


def limit_of(engine: EngineConfig) -> str | None:
    """The name of the limit for stages with the model; None when they need not wait."""
    if engine.slot:
        return engine.slot
    return GPU if _on_cuda(engine.device) else None


@cache
def _on_cuda(device: DeviceKind) -> bool:
    if device is DeviceKind.CPU:
        return False
    from models import runtime

    return runtime.resolve_device(device).type == "cuda"


def _taken(name: str) -> bool:
    """Whether no slot is free just now; a limit that is not there yet is made, with one slot."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            limit = client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            with suppress(ObjectAlreadyExists):  # another run was first
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
            return False
    return limit.active_slots >= limit.limit
