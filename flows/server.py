"""The private Prefect server below a root: started when needed, shared by processes, gone with its last user.

Every user holds a shared `flock` on ``users.lock``. The server tries the exclusive lock; it gets it when no user is
left, whatever ended them, and then exits. So a kill -9 of a training leaves no process behind, two trainings below one
root share one server, and one that is still there is found and used again. All of Prefect's files stay below the root.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import AzrError

START_SECONDS = 90.0  # a first start migrates a new database; 10 s alone, several times that on a busy machine

DELIVER_SECONDS = 30.0

_started: list[subprocess.Popen[bytes]] = []  # kept, for a server may outlive our use of it


class ServerError(AzrError, ConnectionError):
    """The Prefect server could not be started or reached."""


def home_of(root: Path) -> Path:
    """Where the private server of a root keeps everything."""
    return root.resolve() / ".prefect"


def environment(home: Path, api: str) -> dict[str, str]:
    """Prefect's settings for a server or client below `home`; they must be set before prefect is imported.

    `PREFECT_HOME` alone is not enough in 3.7.7: results, memo store and logging config would stay in ``~/.prefect``.
    """
    return {
        "PREFECT_HOME": str(home),
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
        "PREFECT_LOCAL_STORAGE_PATH": str(home / "storage"),
        "PREFECT_MEMO_STORE_PATH": str(home / "memo_store.toml"),
        "PREFECT_LOGGING_SETTINGS_PATH": str(home / "logging.yml"),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home}/prefect.db",
        "PREFECT_API_URL": api,
        "PREFECT_UI_API_URL": api,
        "PREFECT_SERVER_UI_V2_ENABLED": "false",  # the v2 form of 3.7.7 cannot resubmit after a refused value
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_CLIENT_MAX_RETRIES": "10",
        **quiet(),
    }


def quiet() -> dict[str, str]:
    """Settings that hold with any server: no telemetry, never a cached or stored result, and the console is ours."""
    return {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
        "PREFECT_TASKS_DEFAULT_NO_CACHE": "true",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # what Prefect says goes to the run's log file
    }


@contextmanager
def prefect_server(root: Path) -> Iterator[str]:
    """Make a Prefect API reachable and yield its URL: the user's own when PREFECT_API_URL is set, else the private one.

    Raises:
        ServerError: the private server did not start; the message names its log.
    """
    os.environ.update({name: value for name, value in quiet().items() if name not in os.environ})
    if chosen := os.environ.get("PREFECT_API_URL"):
        if not _healthy(chosen):
            raise ServerError(
                f"PREFECT_API_URL is {chosen}, and no Prefect server answers there. No stage was run. "
                "Start that server, or take the private one: unset PREFECT_API_URL"
            )
        yield chosen
        return
    home = home_of(root)
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServerError(f"{home} cannot be made: {error}. Nothing was written. Choose another --root.") from error
    with _shared_use(home):
        api = _find_or_start(home)
        ours = environment(home, api)
        before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)
        try:
            yield api
        finally:
            _deliver()
            _restore(before)


def _deliver() -> None:
    """Send what Prefect still holds back while the server is there; at interpreter exit it would wait in vain."""
    if "prefect" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (EventsWorker, APILogWorker):
        worker.drain_all(timeout=DELIVER_SECONDS)


@contextmanager
def _shared_use(home: Path) -> Iterator[None]:
    descriptor = os.open(home / "users.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # blocks only while a server without users is exiting
        yield
    finally:
        os.close(descriptor)


def _restore(before: dict[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _find_or_start(home: Path) -> str:
    descriptor = os.open(home / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # two trainings that begin together start one server
        api = _running(home)
        return api if api is not None else _start(home)
    finally:
        os.close(descriptor)


def _running(home: Path) -> str | None:
    """The URL of the server that already serves this home, when it answers."""
    try:
        api = str(json.loads((home / "server.json").read_text())["api"])
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return api if _healthy(api) else None


def _start(home: Path) -> str:
    port = _free_port()
    api = f"http://127.0.0.1:{port}/api"
    log = home / "server.log"
    with log.open("ab") as output:
        server = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "flows.server",
                str(home),
                str(port),
            ],  # -P: no module from the current directory
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment(home, api)},
            start_new_session=True,  # Ctrl-C reaches the training first
        )
    _started.append(server)
    _wait_until(lambda: _healthy(api), server, log)
    (home / "server.json").write_text(json.dumps({"api": api, "pid": server.pid}))
    return api


def _wait_until(ready: Callable[[], bool], server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if server.poll() is not None or time.monotonic() > deadline:
            ended = f"ended with code {server.returncode}" if server.returncode is not None else "did not answer"
            server.kill()
            raise ServerError(
                f"The private Prefect server {ended} within {START_SECONDS:.0f} s. Nothing was changed in the ledger. "
                f"Read {log}, then run the same command again."
            )
        time.sleep(0.05)


def _healthy(api: str) -> bool:
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=2) as answer:  # noqa: S310 - always http on loopback
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ---- the server process itself --------------------------------------------------------------------------------------


def _serve(home: Path, port: int) -> None:
    """Run the server in this process until no user is left."""
    import threading

    threading.Thread(target=_leave_with_last_user, args=(home,), daemon=True).start()
    import prefect
    import uvicorn
    from prefect.server.api.server import create_app

    app_dir = str(prefect.__module_path__.parent)
    uvicorn.run(create_app(final=True), app_dir=app_dir, host="127.0.0.1", port=port, log_level="warning")


def _leave_with_last_user(home: Path) -> None:
    descriptor = os.open(home / "users.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # granted when the last user is gone, and held until this process ends
    (home / "server.json").unlink(missing_ok=True)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)
    os._exit(0)  # a server that does not stop when asked


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), int(sys.argv[2]))
