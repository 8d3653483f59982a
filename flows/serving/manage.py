"""`azr automations`: what is on the server, the user's own or the private one of the root."""

from __future__ import annotations

from pathlib import Path

from flows.console import Table, as_table, say
from flows.server import prefect_server
from storage import layout


def install_all(root: Path) -> int:
    """Install ours. Raises ConfigError when a deployment that they run is not on the server."""
    with prefect_server(root) as api:
        from flows.serving.automations import install  # prefect is imported once its settings stand

        say(f"On {api.removesuffix('/api')}: {', '.join(install())}.")
    say(f"Take them away: {layout.command('automations', 'remove', root=root)}")
    return 0


def remove_all(root: Path) -> int:
    """Remove ours, and nothing else."""
    with prefect_server(root) as api:
        from flows.serving.automations import remove

        gone = ", ".join(remove()) or "none was there"
    say(f"Removed from {api.removesuffix('/api')}: {gone}.")
    return 0


def list_all(root: Path) -> int:
    """List ours with their switches."""
    with prefect_server(root):
        from flows.serving.automations import installed

        rows = [(one.name, "on" if one.enabled else "off", one.description) for one in installed()]
    if rows:
        say(as_table(Table(("automation", "switch", "what it does"), rows)))
    else:
        say(f"None of ours is there. Install them: {layout.command('automations', 'install', root=root)}")
    return 0
