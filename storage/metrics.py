"""The two questions that stages ask of their own run's history: which tasks are valid, and which are known."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from uuid import UUID

from storage.ids import Mode, Position
from storage.layout import order
from storage.ledger import Ledger
from storage.records import VALID, Task


def valid_tasks(ledger: Ledger, before: Position, modes: Collection[Mode] = tuple(Mode)) -> list[Task]:
    """The buffer: every valid task of these modes sealed before a position, in the order of their ids."""
    return [task for task in _tasks(ledger, before) if task.verdict == VALID and task.mode in modes]


def known_content_keys(ledger: Ledger, before: Position) -> dict[UUID, int]:
    """The content keys of all valid tasks sealed before a position, each with the id of the first task that has it.

    A rejected proposal is no task, so proposing it again is no duplicate: it is judged again.
    """
    first: dict[UUID, int] = {}
    for task in _tasks(ledger, before):
        if task.verdict == VALID and task.content_key is not None:
            first.setdefault(task.content_key, task.task_id)
    return first


def _tasks(ledger: Ledger, before: Position) -> Iterator[Task]:
    for seal in ledger.sealed():
        if order(seal.position) < order(before) and Task.table in seal.outputs:
            yield from ledger.tasks(seal.position)
