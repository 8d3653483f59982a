"""Questions asked again and again: named SQL files, and the two that stages ask of their own run's history."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from importlib.resources import files
from uuid import UUID

from storage.errors import ConfigError
from storage.ids import Mode, Position
from storage.layout import order
from storage.ledger import Ledger
from storage.records import VALID, Task


def sql_names() -> list[str]:
    """Names of the SQL files that can be asked, sorted."""
    names = [file.name for file in files("storage").joinpath("sql").iterdir() if file.name.endswith(".sql")]
    return sorted(name.removesuffix(".sql") for name in names if name != "views.sql")


def named_sql(name: str) -> str:
    """The text of a named SQL file, such as ``reward_curves``; its first line says what it answers.

    Raises ConfigError when there is none by that name.
    """
    if name not in sql_names():
        raise ConfigError(f"There is no metric {name!r}. Nothing was run. There are: {', '.join(sql_names())}.")
    return files("storage").joinpath("sql", f"{name}.sql").read_text()


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
