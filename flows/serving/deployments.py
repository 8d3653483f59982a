"""The deployments of prefect.yaml, read for a runner of our own: one source, whoever serves them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import cast

import yaml
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Cron, Schedule
from prefect.types.entrypoint import EntrypointType
from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError

import flows
from flows.version import code_version
from storage.errors import ConfigError

FILE = Path(flows.__file__).parents[1] / "prefect.yaml"


class _Schedule(BaseModel):
    model_config = ConfigDict(extra="forbid")
    cron: str
    timezone: str = "UTC"
    active: bool = True


class Entry(BaseModel):
    """One deployment of prefect.yaml: what is known of it here; a key that is not is an error."""

    model_config = ConfigDict(extra="forbid")
    name: str
    entrypoint: str
    description: str
    tags: list[str]
    parameters: dict[str, JsonValue] = {}
    schedules: list[_Schedule] = []
    concurrency_limit: int | None = None
    work_pool: dict[str, JsonValue] = {}


def entries(file: Path = FILE) -> list[Entry]:
    """What prefect.yaml lists; raises ConfigError when it is not there or not as expected."""
    try:
        listed = yaml.safe_load(file.read_text(encoding="utf-8"))
        return TypeAdapter(list[Entry]).validate_python(listed["deployments"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValidationError) as error:
        raise ConfigError(
            f"{file}, which lists what is served, cannot be used: {error}. Nothing was served. Install azr from its "
            "repository (pip install -e .), where the file lies, or put it back."
        ) from error


def deployments(root: Path) -> Iterator[RunnerDeployment]:
    """Every deployment as a runner takes it, with this root in its form.

    Schedules are given when a deployment is new; later they are the user's, who switches them in the UI.
    """
    for entry in entries():
        flow = flow_of(entry.entrypoint)
        made = flow.to_deployment(
            entry.name,
            description=entry.description,
            tags=entry.tags,
            parameters={**entry.parameters, "root": str(root)},
            schedules=None if _is_there(flow, entry) else [_schedule(one) for one in entry.schedules],
            concurrency_limit=entry.concurrency_limit,
            version=code_version(),
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        assert isinstance(made, RunnerDeployment)  # noqa: S101 - not a coroutine: no event loop runs here
        yield made


def flow_of(entrypoint: str) -> Flow[..., object]:
    """The flow behind ``package.module:name``; raises ConfigError when there is none."""
    module, _, name = entrypoint.partition(":")
    found = getattr(import_module(module), name, None)
    if not isinstance(found, Flow):
        raise ConfigError(f"{FILE} names {entrypoint}, which is no flow. Nothing was served. Mend that line.")
    return cast("Flow[..., object]", found)


def _is_there(flow: Flow[..., object], entry: Entry) -> bool:
    with get_client(sync_client=True) as client:
        try:
            client.read_deployment_by_name(f"{flow.name}/{entry.name}")
        except ObjectNotFound:
            return False
    return True


def _schedule(one: _Schedule) -> Schedule:
    return Cron(one.cron, timezone=one.timezone, active=one.active)
