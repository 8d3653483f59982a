"""One open workshop per run and process: flows find the one that is open, or open it for themselves."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.config import RunConfig, changed_identity, config_hash, known_keys, validated
from flows.tracker import tracked
from flows.version import code_version
from storage import layout
from storage.commit import Disk
from storage.errors import ConfigError, LedgerError
from storage.ledger import Ledger
from storage.partitions import read_facts
from storage.seals import Parent, RunFacts
from tasks.workshop import Reporter, Silent, Workshop

_open: dict[tuple[Path, str], Workshop] = {}


@contextmanager
def workshop(
    root: Path, run: str, *, config: RunConfig | None = None, reporter: Reporter | None = None
) -> Iterator[Workshop]:
    """The run's workshop: the one that this process has open, or a new one, closed at the end.

    Args:
        root: directory of the runs.
        run: name of the run.
        config: begins the run if there is none, and otherwise must agree in all identity keys; None takes the stored.
        reporter: who is told what the stages do.

    Raises:
        LedgerError: no such run and no config, or another process writes it.
        ConfigError: an identity key differs, or the run began under another Python minor version.
    """
    key = (root.resolve(), run)
    if key in _open:
        yield _open[key]
        return
    config = _settled(root, run, config)
    with _opened(root, run, config, reporter) as work, tracked(root, run, config.tracking):
        _open[key] = work
        try:
            yield work
        finally:
            del _open[key]


def opened(root: Path, run: str) -> Workshop | None:
    """The run's workshop if this process has it open."""
    return _open.get((root.resolve(), run))


def stored_config(root: Path, run: str) -> RunConfig:
    """The config that a run began with; keys that this version no longer has are left out."""
    stored = dict(read_facts(layout.run_directory(root, run)).config)
    return validated(known_keys(RunConfig, stored))


def _exists(root: Path, run: str) -> bool:
    return (layout.run_directory(root, run) / layout.RUN_FILE).exists()


def _settled(root: Path, run: str, config: RunConfig | None) -> RunConfig:
    """The config given, else the stored one; raises LedgerError when there is neither."""
    if config is not None:
        return config
    if _exists(root, run):
        return stored_config(root, run)
    known = ", ".join(layout.run_names(root)) or "none"
    raise LedgerError(f"There is no run {run} below {root} (runs there: {known}). Nothing was read or written.")


def _opened(root: Path, run: str, config: RunConfig, reporter: Reporter | None) -> Workshop:
    disk = Disk(durable=config.ledger.durable)
    if _exists(root, run):
        require_same(root, run, config)
        ledger = Ledger.open(root, run, write=True, disk=disk)
        ledger.require_files()  # raises, before any work
    else:
        ledger = Ledger.create(root, facts_of(run, config), disk=disk)
    return Workshop(ledger=ledger, config=config, code_version=code_version(), reporter=reporter or Silent())


def facts_of(run: str, config: RunConfig, parent: Parent | None = None) -> RunFacts:
    """What is written into run.json when a run begins here and now."""
    return RunFacts(
        run=run,
        seed=config.seed,
        config=config.model_dump(mode="json"),
        config_hash=config_hash(config),
        code_version=code_version(),
        python=_python(),
        parent=parent,
    )


def require_same(root: Path, run: str, config: RunConfig) -> None:
    """Raise ConfigError when a run began with other identity values, or under another Python minor version."""
    facts = read_facts(layout.run_directory(root, run))
    changed = changed_identity(stored_config(root, run), config)
    if changed:
        raise ConfigError(
            f"Run {run} began with other values of keys that decide what it computes:\n" + "\n".join(changed) + "\n"
            "Nothing was written. Put them back to continue it, or begin another: azr train --run NAME --config FILE"
        )
    if facts.python != _python():
        raise ConfigError(
            f"Run {run} began under Python {facts.python}; this is Python {_python()}, whose programs may behave "
            f"differently. Nothing was written. Continue it with Python {facts.python}, or begin another run: "
            "azr train --run NAME --config FILE"
        )


def _python() -> str:
    return ".".join(platform.python_version_tuple()[:2])
