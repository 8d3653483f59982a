"""An audit in several processes, each of which checks its share of the steps and follows all of them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

from flows.session import stored_config
from storage import layout
from storage.audit import examined, known_family
from storage.errors import AzrError
from storage.family import Member
from storage.findings import Result
from storage.ids import Position
from storage.seals import Seal
from tasks.auditing.audit import REMEMBERED, audit_meaning
from tasks.auditing.history import Rules, RulesAt
from tasks.reasoning.prompts import load_templates

Seals = Mapping[Position, Seal]


def rules_of(root: Path, name: str) -> RulesAt:
    """What decides each position of a run's history; raises AzrError when a config or its templates cannot be read."""
    family = known_family(layout.run_directory(root, name))
    rules = {member.directory: _rules(root, member) for member in family.members}
    return lambda at: rules[family.home(at)]


def in_processes(root: Path, name: str, seals: Seals, count: int) -> Iterator[list[Result]]:
    """The results of every step in their order: step i is checked by process i modulo `count`.

    Raises AzrError when a process ends before its work.
    """
    context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
    steps = len({(at.iteration, at.round) for at in seals})
    with ExitStack() as closing:
        ends = []
        for number in range(count):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(root, name, seals, number, count, theirs), daemon=True)
            process.start()
            theirs.close()
            closing.callback(process.join)
            closing.callback(process.terminate)
            closing.callback(ours.close)
            ends.append(ours)
        yield from (_received(ends[number % count], name) for number in range(steps))


def _received(end: Connection, name: str) -> list[Result]:
    try:
        results: list[Result] = end.recv()
    except EOFError:
        raise AzrError(
            f"A process of the audit of run {name} ended before its work, perhaps for lack of memory. Nothing was "
            "changed. Run the same command again."
        ) from None
    return results


def _work(root: Path, name: str, seals: Seals, number: int, count: int, end: Connection) -> None:
    """One process: send the results of each step of its share."""
    steps = {at: step for step, at in enumerate(dict.fromkeys((at.iteration, at.round) for at in seals))}

    def only(at: Position) -> tuple[str, ...] | None:
        return None if steps[at.iteration, at.round] % count == number else REMEMBERED

    partitions = examined(layout.run_directory(root, name), seals, only)
    for results in audit_meaning(rules_of(root, name), partitions, ours=lambda step: step % count == number):
        end.send(results)


def _rules(root: Path, member: Member) -> Rules:
    config = stored_config(root, member.directory.name)
    return Rules(
        config=config,
        config_hash=member.facts.config_hash,
        templates=load_templates(config.curriculum.templates),
        directory=member.directory,
        listed="retention" in member.facts.config,
    )
