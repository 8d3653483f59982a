"""What was found before: settled executions by the content of their job, in memory, bounded.

Settled is what two interpreters agree about, outputs or exceptions. What ended by a limit or a signal is never kept: it
may have been the machine's fault.
"""

from __future__ import annotations

import hashlib
import sys
from collections import OrderedDict
from dataclasses import replace

from tasks.sandbox.jobs import Execution, Job, Lane, Status
from tasks.sandbox.zygotes import SEEDS

_SETTLED = frozenset({Status.OK, Status.ERROR})
_ENTRY_BYTES = 1_000  # what an entry costs beside its texts, about
_IDENTITY = f"{sys.implementation.cache_tag} {sys.version} {SEEDS}"


def key(job: Job) -> bytes:
    """The hash of all that decides what becomes of a job: program, entry, inputs, limits, interpreters and which."""
    limits = job.limits
    parts = (
        *(job.program, job.entry, *job.inputs),
        f"{limits.cpu_s!r} {limits.memory_mb} {limits.output_bytes} {job.interpreters} {_IDENTITY}",
    )
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        found.update(len(data).to_bytes(8, "little") + data)
    return found.digest()


def settled(job: Job, execution: Execution) -> bool:
    """Whether the same job would end the same way again, as far as two interpreters can tell."""
    confirmed = job.interpreters == 2 or execution.lane is Lane.FAST
    return confirmed and execution.status in _SETTLED


class Cache:
    """Executions by key, the least recently used ones dropped when texts outgrow `limit` bytes; 0 keeps none."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._found: OrderedDict[bytes, Execution] = OrderedDict()

    def __len__(self) -> int:
        return len(self._found)

    def get(self, key: bytes) -> Execution | None:
        """The execution, marked as cached."""
        found = self._found.get(key)
        if found is not None:
            self._found.move_to_end(key)
        return found

    def put(self, key: bytes, execution: Execution) -> None:
        """Keeps an execution, which must be settled."""
        if key in self._found:
            return
        self._found[key] = replace(execution, cached=True)
        self._size += _size(execution)
        while self._size > self._limit:
            _, dropped = self._found.popitem(last=False)
            self._size -= _size(dropped)


def _size(execution: Execution) -> int:
    texts = (text for output in execution.outputs for text in (output.text, output.error) if text is not None)
    return _ENTRY_BYTES + sum(map(len, texts))
