"""`azr gc`, and what every iteration ends with: what the retention policy lets go is listed, then deleted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from flows.config import RunConfig, resolve
from flows.console import Table, as_table, say, say_json
from flows.launch import pick_run
from flows.session import stored_config
from models.retention import spare_checkpoints
from storage import layout
from storage.commit import Disk
from storage.config import RetentionConfig
from storage.errors import LedgerError
from storage.family import fork_points
from storage.ids import Stage
from storage.ledger import Ledger
from storage.retention import Dropped, What, drop, guarded, spare_tokens

_UNITS = ("B", "kB", "MB", "GB", "TB")


def collect_garbage(root: Path, run: str | None, *, settings: Sequence[str], dry_run: bool, as_json: bool) -> int:
    """Drop what the policy of a run lets go, or only say what would go.

    Raises LedgerError when the run is being written, or a run below the root that may be its fork cannot be read.
    """
    name = pick_run(root, run)
    things = collected(root, name, settings, dry_run=dry_run)
    if as_json:
        say_json({"run": name, "dry_run": dry_run, "bytes": total_bytes(things), "things": _plain(things)})
    else:
        say(page(root, name, things, settings, dry_run=dry_run))
    return 0


def collected(root: Path, name: str, settings: Sequence[str], *, dry_run: bool) -> list[Dropped]:
    """What the policy of a run let go, or would let go.

    Raises LedgerError when the run is being written, or a run below the root that may be its fork cannot be read.
    """
    config = resolve(None, settings, base=stored_config(root, name)).config
    if dry_run:
        return plan(Ledger.open(root, name), config.retention)
    return _collected(root, name, config, settings)


def collect(ledger: Ledger, config: RetentionConfig) -> list[Dropped]:
    """List and delete what the policy lets go of a run that is open for writing; returns what went.

    Raises OSError (a LedgerError where a possible fork cannot be read); what went so far is listed.
    """
    with guarded(ledger.directory):
        return drop(ledger.directory, plan(ledger, config), ledger.disk)


def plan(ledger: Ledger, config: RetentionConfig) -> list[Dropped]:
    """What the policy lets go of a run now, in the order in which it goes; forks are owners of what they stand on."""
    points = fork_points(ledger.directory).values()
    made = ledger.made().values()
    updates = {seal.iteration: seal for seal in ledger.sealed() if seal.stage is Stage.UPDATE and seal.iteration > 0}
    checkpoints = spare_checkpoints(ledger.directory, updates, config, held={point.iteration - 1 for point in points})
    tokens = spare_tokens(
        ledger.directory, made, config, updated=max(updates, default=0), held={point.iteration for point in points}
    )
    return [*checkpoints, *tokens]


def _collected(root: Path, name: str, config: RunConfig, settings: Sequence[str]) -> list[Dropped]:
    with Ledger.open(root, name, write=True, disk=Disk(durable=config.ledger.durable)) as ledger:
        try:
            return collect(ledger, config.retention)
        except LedgerError:
            raise
        except OSError as error:
            again = _again(root, name, settings)
            raise LedgerError(
                f"What retention lets go of run {name} was not all deleted: {error}. What went is listed in "
                f"{ledger.directory / layout.DROPPED_FILE}; nothing else was touched. Mend the disk, then: {again}"
            ) from error


def page(root: Path, name: str, things: Sequence[Dropped], settings: Sequence[str], *, dry_run: bool) -> str:
    """What went or would go, for people."""
    if not things:
        show = layout.command("config", "show", root=root, run=name)
        return f"Nothing of run {name} may go under its retention policy. What the policy is: {show}"
    rows = [_line(what, [one for one in things if one.what is what]) for what in What]
    table = as_table(Table(["what", "number", "size", "first", "last", "by"], [row for row in rows if row]))
    freed = size(total_bytes(things))
    if dry_run:
        return f"{table}\n\n{freed} of run {name} would go. Drop it: {_again(root, name, settings)}"
    return f"{table}\n\n{freed} of run {name} went. It stays listed in {root / name / layout.DROPPED_FILE}."


def _again(root: Path, name: str, settings: Sequence[str]) -> str:
    same = (word for setting in settings for word in ("--set", setting))
    return layout.command("gc", *same, root=root, run=name)


def _line(what: What, things: Sequence[Dropped]) -> tuple[str, ...]:
    if not things:
        return ()
    first, last = things[0].position, things[-1].position
    return what.value, str(len(things)), size(total_bytes(things)), first, last, things[0].policy


def _plain(things: Sequence[Dropped]) -> list[dict[str, object]]:
    return [dataclasses.asdict(thing) for thing in things]


def total_bytes(things: Sequence[Dropped]) -> int:
    """The size of things on the disk."""
    return sum(thing.bytes for thing in things)


def size(count: int) -> str:
    """Bytes as people say them: ``4.2 MB``."""
    value, unit = float(count), _UNITS[0]
    for larger in _UNITS[1:]:
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"
