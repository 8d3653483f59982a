"""The buffers of a run in a few bytes per task: which tasks are valid, by mode, and which contents are known.

A stage draws from a million earlier tasks and wants a handful of them. So a ledger keeps only ids and content keys, in
memory, of the partitions that it has seen so far, and reads whole rows for the ids that were drawn. Ids sort by
position: what was valid before a position is the front of a mode's ids.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import compress
from typing import TYPE_CHECKING
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from storage.ids import Mode, Position, Stage, first_of_step, unpack
from storage.layout import order
from storage.records import VALID, Task
from storage.schemas import to_rows, uuid_bytes

if TYPE_CHECKING:
    from storage.ledger import Ledger

_ROWS_KEPT = 20_000  # tasks kept whole, latest used last: some 30 MB


class Buffers:
    """What a ledger knows of its tasks; shared with its readers of earlier positions."""

    def __init__(self) -> None:
        self.valid: dict[Mode, array[int]] = defaultdict(lambda: array("q"))
        self.first: dict[bytes, int] = {}
        self.rows: OrderedDict[int, Task] = OrderedDict()
        self._seen: set[Position] = set()

    def take(self, ledger: Ledger) -> None:
        """Read what is sealed and was not read yet: three columns, of files whose bytes are as sealed."""
        for seal in ledger.sealed():
            if seal.position not in self._seen and Task.table in seal.outputs:
                self._add(ledger.table(Task, seal.position, columns=("task_id", "mode", "verdict", "content_key")))
                self._seen.add(seal.position)

    def _add(self, table: pa.Table) -> None:
        there = pc.equal(table.column("verdict"), VALID).to_pylist()
        ids, modes = table.column("task_id").to_pylist(), table.column("mode").to_pylist()
        keys = uuid_bytes(table.column("content_key")).to_pylist()
        for task_id, mode, key in compress(zip(ids, modes, keys, strict=True), there):
            self.valid[Mode(mode)].append(task_id)
            if key is not None:
                self.first.setdefault(key, task_id)


def valid_ids(ledger: Ledger, before: Position) -> dict[Mode, Sequence[int]]:
    """The buffers: by mode, the ids of every valid task sealed before a position, ascending."""
    limit = _limit(before)
    return {mode: ids[: bisect_left(ids, limit)] for mode, ids in ledger.buffers().valid.items()}


def first_with(ledger: Ledger, keys: Collection[UUID], before: Position) -> dict[UUID, int]:
    """Those of the content keys that a valid task sealed before a position has, each with the first such task's id.

    A rejected proposal is no task, so proposing it again is no duplicate: it is judged again.
    """
    first, limit = ledger.buffers().first, _limit(before)
    found = {key: first.get(key.bytes) for key in keys}
    return {key: task_id for key, task_id in found.items() if task_id is not None and task_id < limit}


def tasks_of(ledger: Ledger, ids: Iterable[int]) -> Mapping[int, Task]:
    """Whole tasks by their ids, each partition read at most once.

    Raises:
        LedgerError: a task's partition is not sealed, or its file is not what was sealed.
        KeyError: a partition has no task with that id.
    """
    wanted, rows = dict.fromkeys(ids), ledger.buffers().rows
    for position, some in _by_partition(wanted).items():
        ledger.require(position)  # a reader of an earlier position shares rows that it may not see
        if missing := [task_id for task_id in some if task_id not in rows]:
            rows.update((row.task_id, row) for row in _picked(ledger.table(Task, position), missing))
    found = {task_id: rows[task_id] for task_id in wanted}
    for task_id in wanted:
        rows.move_to_end(task_id)
    while len(rows) > _ROWS_KEPT:
        rows.popitem(last=False)
    return found


def _limit(before: Position) -> int:
    """Ids of tasks sealed before a position are below this."""
    validated = before._replace(stage=Stage.VALIDATE)
    return first_of_step(before.iteration, before.round, after=order(before) > order(validated))


def _by_partition(ids: Iterable[int]) -> Mapping[Position, list[int]]:
    found: dict[Position, list[int]] = defaultdict(list)
    for task_id in ids:
        place = unpack(task_id)
        found[Position(place.iteration, Stage.VALIDATE, place.round)].append(task_id)
    return found


def _picked(table: pa.Table, ids: Sequence[int]) -> list[Task]:
    """The rows of these ids; rows lie in the order of their ids."""
    held = table.column("task_id").to_numpy()
    parts = [table.slice(int(at), 1) for at in held.searchsorted(ids) if at < len(held)]
    return to_rows(Task, pa.concat_tables(parts)) if parts else []
