"""`azr config show`: every config value, what it means, and where it came from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flows.config import Leaf, RunConfig, leaves, resolve
from flows.console import Table, as_table, say


def print_config(root: Path, *, file: Path | None, run: str | None, settings: Sequence[str]) -> int:
    """Print the config that a command with these arguments would use."""
    base = None if run is None else _stored(root, run)
    resolved = resolve(file, settings, base=base)
    rows = [_row(leaf, resolved.sources[leaf.path]) for leaf in leaves(resolved.config)]
    say(as_table(Table(("key", "value", "from", "kind", "meaning"), rows)))
    return 0


def _stored(root: Path, run: str) -> RunConfig:
    from flows.launch import pick_run  # the ledger is needed only here
    from flows.session import stored_config

    return stored_config(root, pick_run(root, run))


def _row(leaf: Leaf, source: str) -> tuple[str, str, str, str, str]:
    value = leaf.value if isinstance(leaf.value, str) else str(leaf.value)
    return leaf.path, value, source, leaf.key.value, leaf.description
