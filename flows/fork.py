"""`azr fork`: a new run whose history before a point is another run's, by reference; from there on it is its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import NamedTuple

from flows.config import RunConfig, changed_identity, resolve
from flows.console import say
from flows.launch import pick_run, position_of
from flows.session import facts_of, stored_config
from models.retention import trainable
from storage import layout
from storage.buffers import valid_ids
from storage.commit import Disk
from storage.errors import ConfigError, LedgerError
from storage.ids import Position, Stage
from storage.ledger import Ledger
from storage.records import Checkpoint, Tokens
from storage.retention import dropped, explains, guarded, told
from storage.seals import Parent
from tasks.base import find_base
from tasks.needs import BASE, FIRST_ROUND, previous_update, previous_validation, require_stage, stages_of
from tasks.reasoning.prompts import load_templates
from tasks.seeding import lacking


def fork_run(
    root: Path, run: str | None, *, at: str, name: str | None, file: Path | None, settings: Sequence[str]
) -> int:
    """Begin a fork of a run and say what it shares; raises what `begin_fork` raises."""
    parent = pick_run(root, run)
    begun = begin_fork(root, parent, at=at, name=name, file=file, settings=settings)
    say(begun.page)
    say(begun.next)
    return 0


class Begun(NamedTuple):
    """A fork that was begun: its name, what it shares, and the command that trains it."""

    name: str
    page: str
    next: str


def begin_fork(
    root: Path, parent: str, *, at: str, name: str | None, file: Path | None, settings: Sequence[str]
) -> Begun:
    """Begin a fork of a run.

    Raises:
        ConfigError: a point that no run has, a name that cannot be, another base model, a config that cannot be used.
        LedgerError: a point that is not sealed or cannot be trained from, or a name that is taken.
    """
    point = _point(at, root, parent)
    ledger = Ledger.open(root, parent)
    stored = stored_config(root, parent)
    config = resolve(file, settings, base=stored).config
    child = _free_name(root, parent) if name is None else _unused(root, name)
    _require_base(ledger, config)
    _require_seeds(ledger, point, config)
    with ExitStack() as stack:  # nothing that the fork stands on may be dropped until it is there
        for directory in sorted(member.directory for member in ledger.family.members):
            stack.enter_context(guarded(directory))
        _require_point(ledger, point)
        last = ledger.before(point).last()
        before = {} if last is None else {str(last.position): last.integrity}
        facts = facts_of(child, config, Parent(run=parent, at=str(point), before=before))
        Ledger.create(root, facts, disk=Disk(durable=config.ledger.durable)).close()
    page = _page(ledger, point, child, changed_identity(stored, config))
    return Begun(name=child, page=page, next=_next(root, point, child, config))


def _point(written: str, root: Path, parent: str) -> Position:
    """The first position of the fork's own: ``12``, ``12.solve``, ``0.2`` or ``0.2.validate``."""
    step, dot, word = written.rpartition(".")
    point = position_of(step, word) if dot and word.isalpha() else position_of(written, Stage.PROPOSE.value)
    if point in FIRST_ROUND or (point.iteration, point.round) == (0, 0):
        again = layout.command("config", "show", root=root, run=parent)
        raise ConfigError(
            f"Nothing comes before {written}, so there is nothing to share. Nothing was written. Begin another run "
            f"instead; the config of run {parent}: {again}"
        )
    return require_stage(point)


def _free_name(root: Path, parent: str) -> str:
    return next(name for number in count(2) if not (root / (name := f"{parent}-{number}")).exists())


def _unused(root: Path, name: str) -> str:
    if (layout.run_directory(root, name) / layout.RUN_FILE).exists():
        raise LedgerError(
            f"There is already a run {name} below {root}. Nothing was written. "
            "Choose another name, or leave --name out to be given one."
        )
    return name


def _require_base(ledger: Ledger, config: RunConfig) -> None:
    """The base is checkpoint 0 of the shared history: its tokenizer reads everything in it."""
    began = ledger.read(Checkpoint, BASE)[0].policy
    base = find_base(config, load_templates(config.curriculum.templates))
    if base.hash != began:
        raise ConfigError(
            f"model.path {config.model.path} is model {base.hash[:12]}, but run {ledger.run} began with {began[:12]}, "
            "and a fork shares that beginning. Nothing was written. Leave model.path as it was, or begin another run."
        )


def _require_seeds(ledger: Ledger, point: Position, config: RunConfig) -> None:
    """A first iteration needs what its config calls a finished bootstrap, and the bootstrap is shared."""
    if point.iteration != 1:
        return
    missing = lacking(config, valid_ids(ledger.before(point), point))
    if missing:
        rounds = previous_validation(ledger, point).round
        raise LedgerError(
            f"Run {ledger.run} cannot be forked at 1: its bootstrap lacks seeds of {', '.join(missing)}, with "
            f"bootstrap.wanted = {config.bootstrap.wanted}. Nothing was written. Go on with it: --at 0.{rounds + 1}"
        )


def _require_point(ledger: Ledger, point: Position) -> None:
    """What the fork will stand on is sealed and kept; raises LedgerError naming the points that can be forked."""
    why = next(_lacking(ledger, point), None)
    if why is not None:
        points = _ranges([step for step in _steps(ledger) if next(_lacking(ledger, step), None) is None])
        raise LedgerError(
            f"Run {ledger.run} cannot be forked at {point}. {why} Nothing was written. "
            f"Iterations at which it can be: {points or 'none'}."
        )


def _lacking(ledger: Ledger, point: Position) -> Iterator[str]:
    """What a fork at a point would lack: sealed stages, the checkpoint to train on, tokens to train with."""
    before = _before(ledger, point)
    if ledger.seal_of(before) is None:
        yield f"Stage {before} is not sealed."
        return
    update = ledger.require(previous_update(point))
    home = ledger.home(update.position)
    if update.iteration > 0 and not trainable(home, update, dropped(home)):
        yield f"The checkpoint of {update.position} has no optimizer state any more, so no update can start from it."
    for at in stages_of(point.iteration, point.round):
        if layout.order(at) < layout.order(point) and point.iteration > 0:
            yield from _lost_tokens(ledger, at)


def _lost_tokens(ledger: Ledger, at: Position) -> Iterator[str]:
    home = ledger.home(at)
    if (output := ledger.require(at).outputs.get(Tokens.table)) is None:
        return
    path = (layout.partition_of(home, at) / output.file).relative_to(home)
    gone = dropped(home)
    if explains(gone, path, output.file_hash):
        yield told(gone[path.as_posix()])
    elif not (home / path).exists():
        yield f"{home / path} is missing: restore it from a backup."


def _before(ledger: Ledger, point: Position) -> Position:
    """The stage right before a point."""
    stages = stages_of(point.iteration, point.round)
    number = stages.index(point)
    if number:
        return stages[number - 1]
    return Position(point.iteration - 1, Stage.UPDATE) if point.iteration > 1 else previous_validation(ledger, point)


def _steps(ledger: Ledger) -> list[Position]:
    last = max((seal.iteration for seal in ledger.sealed()), default=0)
    return [Position(iteration, Stage.PROPOSE) for iteration in range(1, last + 2)]


def _ranges(points: Sequence[Position]) -> str:
    """Iterations as people write them: ``1, 5 to 9``."""
    runs: list[list[int]] = []
    for number in (point.iteration for point in points):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(one[0]) if len(one) == 1 else f"{one[0]} to {one[-1]}" for one in runs)


def _page(ledger: Ledger, point: Position, child: str, changed: Sequence[str]) -> str:
    parent, shared = ledger.run, len(ledger.before(point).sealed())
    same = "No key that decides what it computes differs: it will compute the same again."
    differs = "\n".join(["From there on these keys differ:", *changed]) if changed else same
    return (
        f"Run {child} is a fork of {parent} at {point}: the {shared} stages before are {parent}'s, by reference, and "
        f"{point} is the first of its own.\n{differs}"
    )


def _next(root: Path, point: Position, child: str, config: RunConfig) -> str:
    train, wanted = layout.command("train", root=root, run=child), max(point.iteration, 1)
    return f"Next: {train}" if config.iterations >= wanted else f"Next: {train} --iterations {wanted}"
