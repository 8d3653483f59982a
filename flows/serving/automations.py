"""Prefect automations kept as files below ``rules``: installed under names that begin with ``azr:``, and removable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.schemas.automations import Automation, AutomationCore
from prefect.exceptions import ObjectNotFound
from pydantic import JsonValue

from storage.errors import ConfigError

RULES = Path(__file__).parent / "rules"
PREFIX = "azr: "


def install() -> list[str]:
    """Make what the files say so on the server; what is there already keeps its id and its switch. Returns the names.

    Raises:
        ConfigError: a deployment that an automation runs is not on the server.
    """
    with get_client(sync_client=True) as client:
        there = {one.name: one for one in _ours(client)}
        wanted = list(_wanted(client))
        for automation in wanted:
            if (known := there.get(automation.name)) is None:
                client.create_automation(automation)
            elif _meaning(known) != _meaning(automation):  # an update forgets whose heartbeats it was waiting for
                client.update_automation(known.id, automation.model_copy(update={"enabled": known.enabled}))
        for name in there.keys() - {automation.name for automation in wanted}:  # of an earlier version
            client.delete_automation(there[name].id)
        return [automation.name for automation in wanted]


def remove() -> list[str]:
    """Take ours from the server; all others stay. Returns the names."""
    with get_client(sync_client=True) as client:
        gone = list(_ours(client))
        for automation in gone:
            client.delete_automation(automation.id)
        return [automation.name for automation in gone]


def installed() -> list[Automation]:
    """Ours on the server."""
    with get_client(sync_client=True) as client:
        return list(_ours(client))


def _meaning(automation: AutomationCore) -> dict[str, object]:
    """What an automation does, without what the server adds."""
    meant = automation.model_dump(include={"description", "trigger", "actions"})
    meant["trigger"].pop("id", None)
    return meant


def _ours(client: SyncPrefectClient) -> Iterator[Automation]:
    return (one for one in client.read_automations() if one.name.startswith(PREFIX))


def _wanted(client: SyncPrefectClient) -> Iterator[AutomationCore]:
    for file in sorted(RULES.glob("*.yaml")):
        rule = cast("dict[str, JsonValue]", yaml.safe_load(file.read_text(encoding="utf-8")))
        for action in cast("list[dict[str, JsonValue]]", rule["actions"]):
            if (deployment := action.pop("deployment", None)) is not None:
                action["deployment_id"] = _id_of(client, str(deployment))
        yield AutomationCore.model_validate(rule)


def _id_of(client: SyncPrefectClient, deployment: str) -> str:
    """A file names a deployment; the server knows it by its id."""
    try:
        return str(client.read_deployment_by_name(deployment).id)
    except ObjectNotFound as error:
        raise ConfigError(
            f"The deployment {deployment} is not on the server, so no automation can run it. Nothing was installed. "
            "Put it there: azr up, or prefect deploy --all"
        ) from error
