"""A deployed `train` with real processes: a private server, a runner, and a process per flow run; asked by its API.

Smaller than `azr up`: nothing here starts a server again or watches over the runner, so that tests can kill both.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from azr_process import PATIENCE, Person, begun, family, gone, until

from flows.server import home_of
from flows.settings import environment
from storage.ids import Position
from storage.ledger import Ledger

CONFIG: dict[str, Any] = {
    "engine": {"threads": 1},
    "sampling": {"proposer_tokens": 160, "solver_tokens": 192},
    "curriculum": {"proposals": 4, "probes": 2, "buffer_tasks": 2},
    "bootstrap": {"wanted": 4, "proposals": 8},
    "update": {"learning_rate": 2e-4, "micro_tokens": 2048},
    "tracking": {"mlflow": False},
}
LONG = {"proposals": 8, "probes": 64, "buffer_tasks": 40}  # a curriculum whose solve and update take many seconds
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

_RUNNER = """
from prefect import serve
from prefect.flows import EntrypointType
from flows.train import train
serve(
    train.to_deployment("azr", tags=["azr"], entrypoint_type=EntrypointType.MODULE_PATH),
    pause_on_shutdown=False, print_starting_message=False, limit=4,
)
"""


class Deployed:
    """A root with a server, and a runner that serves `train`."""

    def __init__(self, root: Path, person: Person, api: str) -> None:
        self.root, self.person, self.api = root, person, api
        self.runner = self._start_runner()
        assert until(self._served, 120), (root / "runner.log").read_text()

    def _start_runner(self) -> subprocess.Popen[bytes]:
        settings = {**environment(home_of(self.root), self.api), "PREFECT_RUNNER_POLL_FREQUENCY": "2"}
        with (self.root / "runner.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-c", _RUNNER],
                env={**self.person.environment, **settings},
                cwd=self.person.desk,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _served(self) -> bool:
        with suppress(OSError):
            return bool(self.ask("GET", "/deployments/name/train/azr"))
        return False

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One request to the server; raises OSError when it is away or refuses."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - loopback
            f"{self.api}{path}", data, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            text = answer.read()
        return json.loads(text) if text else None

    def begin(self, run: str, iterations: int = 2, **changes: dict[str, Any]) -> str:
        """Start a deployed training; returns the id of the flow run."""
        config = {**CONFIG, "model": {"path": "nano"}, "iterations": iterations}
        for section, values in changes.items():
            config[section] = {**config.get(section, {}), **values}
        deployment = self.ask("GET", "/deployments/name/train/azr")["id"]
        parameters = {"config": config, "run": run, "root": str(self.root)}
        return str(self.ask("POST", f"/deployments/{deployment}/create_flow_run", {"parameters": parameters})["id"])

    # ---- buttons

    def retry(self, flow_run: str) -> None:
        """Press Retry, once no process is left: the runner would overwrite the state of an earlier Retry."""
        until(lambda: self.process_of(flow_run) is None, 60)
        time.sleep(2.0)
        self._set(flow_run, {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry"})

    def cancel(self, flow_run: str) -> None:
        """Press Cancel."""
        self._set(flow_run, {"type": "CANCELLING", "name": "Cancelling"})

    def suspend(self, flow_run: str) -> None:
        """Press Suspend."""
        self._set(flow_run, {"type": "PAUSED", "name": "Suspended", "state_details": {"pause_reschedule": True}})

    def resume(self, flow_run: str, **values: float) -> str:
        """Press Resume, with what is entered in its form; returns whether that was taken."""
        until(lambda: self.process_of(flow_run) is None, 60)
        return str(self.ask("POST", f"/flow_runs/{flow_run}/resume", {"run_input": values} if values else {})["status"])

    def _set(self, flow_run: str, state: dict[str, Any]) -> None:
        answer = self.ask("POST", f"/flow_runs/{flow_run}/set_state", {"state": state})
        assert answer["status"] == "ACCEPT", answer

    # ---- what is seen

    def flow(self, flow_run: str) -> dict[str, Any]:
        """A flow run."""
        return dict(self.ask("GET", f"/flow_runs/{flow_run}"))

    def message(self, flow_run: str) -> str:
        """What its state says."""
        return str(self.flow(flow_run)["state"]["message"])

    def wait(self, flow_run: str, *states: str, patience: float = PATIENCE) -> str:
        """Wait until a flow run has one of these states, or any final one; returns the state it has then."""
        deadline = time.monotonic() + patience
        while True:
            with suppress(OSError):
                found = self.flow(flow_run)
                if found["state_name"] in states or (not states and found["state_type"] in FINAL):
                    return str(found["state_name"])
            if time.monotonic() > deadline:
                return str(self.flow(flow_run)["state_name"])
            time.sleep(0.2)

    def again(self, flow_run: str) -> str:
        """Wait for the end of a flow run that was just retried or resumed."""
        self.wait(flow_run, "Running", patience=60)
        return self.wait(flow_run)

    def stages(self, flow_run: str) -> list[tuple[str, str]]:
        """The task runs of stages, by name and state, in their order."""
        ids = [one["id"] for one in self.subflows(flow_run)]
        found = self.ask("POST", "/task_runs/filter", {"task_runs": {"flow_run_id": {"any_": ids}}})
        return [(one["name"], one["state_name"]) for one in sorted(found, key=lambda one: one["start_time"] or "")]

    def subflows(self, flow_run: str) -> list[dict[str, Any]]:
        """The subflows of a flow run, in their order."""
        wanted = {"flow_runs": {"parent_flow_run_id": {"any_": [flow_run]}}}
        return sorted(self.ask("POST", "/flow_runs/filter", wanted), key=lambda one: one["start_time"] or "")

    def lines(self, flow_run: str) -> list[str]:
        """What the log shows of a flow run and its subflows."""
        ids = [flow_run, *(one["id"] for one in self.subflows(flow_run))]
        found = self.ask("POST", "/logs/filter", {"logs": {"flow_run_id": {"any_": ids}}, "sort": "TIMESTAMP_ASC"})
        return [f"{one['name']}: {one['message']}" for one in found]

    # ---- processes

    def process_of(self, flow_run: str) -> int | None:
        """The process of a flow run."""
        for pid in family(self.runner.pid):
            with suppress(OSError):
                if f"PREFECT__FLOW_RUN_ID={flow_run}" in Path(f"/proc/{pid}/environ").read_text(errors="replace"):
                    return pid
        return None

    def reach(self, flow_run: str, run: str, at: Position) -> int:
        """Wait until a stage has begun; returns the process that does it."""
        assert until(lambda: (self.root / run).exists() and any(one == at for one, _ in begun(self.root, run)))
        found = self.process_of(flow_run)
        assert found is not None
        return found

    def attempts(self, run: str) -> list[str]:
        """Every attempt of a run that was not its stage's first and last one, in order."""
        records = Ledger.open(self.root, run).attempts()
        told = [(one.attempt, one.outcome.value, one.position) for one in records]
        return [f"{at} {number} {outcome}" for number, outcome, at in told if (number, outcome) != (1, "sealed")]

    def close(self) -> None:
        """End the runner and all below it."""
        left = family(self.runner.pid)
        self.runner.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.runner.wait(20)
        if not until(lambda: gone(left), 10):
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.runner.kill()
        self.runner.wait()


@contextmanager
def deployed(base: Path) -> Iterator[Deployed]:
    """A root with its server and runner, until the end of the block."""
    root, person = base / "root", Person(base / "person")
    root.mkdir(parents=True)
    with Person(base / "holder").server(root) as (api,):
        serving = Deployed(root, person, api)
        try:
            yield serving
        finally:
            serving.close()
