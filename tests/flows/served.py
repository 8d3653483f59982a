"""`azr up` as a person starts it, and its server asked over HTTP as the UI asks it; nothing of Prefect is in here."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
from azr_process import PATIENCE, Person, family, gone, until

SMALL = {
    "iterations": 1,
    "engine": {"threads": 1},
    "curriculum": {"proposals": 4, "probes": 2, "buffer_tasks": 1},
    "bootstrap": {"wanted": 4, "proposals": 12},
    "tracking": {"mlflow": False},
}
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Served:
    """A running `azr up`."""

    def __init__(self, root: Path, person: Person, port: int, process: subprocess.Popen, log: Path) -> None:
        self.root, self.person, self.port, self.process, self.log = root, person, port, process, log
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}/api", timeout=60)

    def said(self) -> str:
        return self.log.read_text()

    def ready(self) -> bool:
        until(lambda: "Ready" in self.said() or self.process.poll() is not None)
        return "Ready" in self.said()

    def deployment(self, name: str) -> dict:
        return self.http.get(f"/deployments/name/{name}").raise_for_status().json()

    def ask(self, form: str, /, **parameters) -> httpx.Response:
        """Send a form, as the UI does; the answer may be a refusal."""
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        where = f"/deployments/{self.deployment(form)['id']}/create_flow_run"
        answers: list[httpx.Response] = []
        until(lambda: answers.append(self.http.post(where, json=body)) or answers[-1].status_code != 503)  # busy
        return answers[-1]

    def begin(self, form: str, /, **parameters) -> str:
        """Send a form that is taken; the id of the flow run."""
        return self.ask(form, **parameters).raise_for_status().json()["id"]

    def flow_run(self, known: str) -> dict:
        return self.http.get(f"/flow_runs/{known}").raise_for_status().json()

    def end(self, known: str, *states: str) -> dict:
        """Wait until a flow run has ended, or is in one of these states."""
        wanted = set(states) or ENDED
        until(lambda: self.flow_run(known)["state"]["type"] in wanted)
        return self.flow_run(known)

    def do(self, form: str, /, **parameters) -> dict:
        return self.end(self.begin(form, **parameters))

    def retry(self, known: str) -> None:
        """What the button Retry does."""
        state = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}}
        done = self.http.post(f"/flow_runs/{known}/set_state", json=state).raise_for_status().json()
        assert done["status"] == "ACCEPT", done

    def artifacts(self, known: str) -> list[dict]:
        body = {"artifacts": {"flow_run_id": {"any_": [known]}}}
        return self.http.post("/artifacts/filter", json=body).raise_for_status().json()

    def flow_runs(self, deployment: str) -> list[dict]:
        body = {"flow_runs": {"deployment_id": {"any_": [self.deployment(deployment)["id"]]}}, "sort": "START_TIME_ASC"}
        return self.http.post("/flow_runs/filter", json=body).raise_for_status().json()

    def emit(self, event: str, resource: str, *, tags: tuple[str, ...] = (), **payload) -> None:
        """An event, as a client of Prefect sends it."""
        related = [{"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"} for tag in tags]
        one = {
            "id": str(uuid4()),
            "occurred": datetime.now(UTC).isoformat(),
            "event": event,
            "resource": {"prefect.resource.id": resource},
            "related": related,
            "payload": payload,
        }
        self.http.post("/events", json=[one]).raise_for_status()

    def told(self, file: str) -> dict:
        return json.loads((self.root / ".prefect" / file).read_text())

    def processes(self) -> dict[int, str]:
        return family(self.process.pid)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, float, bool]:
        """Tell it to stop; its exit code, the seconds it took, and whether no process is left."""
        all_of_it = self.processes()
        began = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        took = time.monotonic() - began
        return code, took, until(lambda: gone(all_of_it), 5)


@contextmanager
def served(root: Path, person: Person, *words: str, port: int | None = None) -> Iterator[Served]:
    """`azr up` on a port of its own, ready."""
    port = port or free_port()
    log = person.temporary / f"up-{port}.log"
    process = person.start("up", "--root", str(root), "--port", str(port), *words, to=log)
    up = Served(root, person, port, process, log)
    try:
        assert up.ready(), up.said()
        yield up
    finally:
        if process.poll() is None:
            up.stop()
        up.http.close()
