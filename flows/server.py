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
from typing import NamedTuple

from flows.settings import environment, quiet
from storage.errors import AzrError
from storage.lock import process_mark

START_SECONDS = 90.0  # a first start migrates a new database; 10 s alone, several times that on a busy machine

DELIVER_SECONDS = 30.0

_started: list[subprocess.Popen[bytes]] = []  # kept, for a server may outlive our use of it


class ServerError(AzrError, ConnectionError):
    """The Prefect server could not be started or reached."""


def home_of(root: Path) -> Path:
    """Where the private server of a root keeps everything."""
    return root.resolve() / ".prefect"


def make_home(root: Path) -> Path:
    """The home of a root, made when it is not there; raises ServerError when it cannot be."""
    home = home_of(root)
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServerError(f"{home} cannot be made: {error}. Nothing was written. Choose another --root.") from error
    return home


@contextmanager
def prefect_server(
    root: Path, *, port: int | None = None, meanwhile: Callable[[str], None] = lambda api: None
) -> Iterator[str]:
    """Make a Prefect API reachable and yield its URL: the user's own when PREFECT_API_URL is set, else the private one.

    Args:
        root: directory of the runs.
        port: where a private server that has to be started shall listen; None takes a free one.
        meanwhile: called with the URL as soon as it is known; a server may still be starting there.

    Raises:
        ServerError: the private server did not start, or the port is taken; the message says what to do.
    """
    os.environ.update({name: value for name, value in quiet().items() if name not in os.environ})
    if chosen := os.environ.get("PREFECT_API_URL"):
        if not healthy(chosen):
            raise ServerError(
                f"PREFECT_API_URL is {chosen}, and no Prefect server answers there. No stage was run. "
                "Start that server, or take the private one: unset PREFECT_API_URL"
            )
        meanwhile(chosen)
        yield chosen
        return
    home = make_home(root)
    with shared_use(home):
        api = find_or_start(home, port, meanwhile)
        ours = environment(home, api)
        before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)
        try:
            with _noticed(), _delivered():
                yield api
        finally:
            _restore(before)


@contextmanager
def _noticed() -> Iterator[None]:
    """Let a Prefect that was imported before, as in a notebook, see the environment as it is now."""
    if "prefect" not in sys.modules:
        yield
        return
    from prefect.context import SettingsContext, get_settings_context
    from prefect.settings import Settings

    with SettingsContext(profile=get_settings_context().profile, settings=Settings()):
        yield


@contextmanager
def _delivered() -> Iterator[None]:
    """At the end send what Prefect holds back, while the server is there; at interpreter exit it would wait in vain."""
    try:
        yield
    finally:
        _deliver()


def _deliver() -> None:
    if "prefect" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (EventsWorker, APILogWorker):
        worker.drain_all(timeout=DELIVER_SECONDS)


@contextmanager
def shared_use(home: Path) -> Iterator[None]:
    """Keep the server of a home from leaving while this lasts."""
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


def find_or_start(home: Path, port: int | None = None, meanwhile: Callable[[str], None] = lambda api: None) -> str:
    """The URL of the server of a home, which is started when none answers; only for those who hold a shared use of it.

    Raises:
        ServerError: it did not start, or the port is taken.
    """
    descriptor = os.open(home / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # two trainings that begin together start one server
        if (api := _running(home)) is None:
            return _start(home, port, meanwhile)
        meanwhile(api)
        return api
    finally:
        os.close(descriptor)


class Known(NamedTuple):
    """The server that was started last for a home, dead or alive."""

    api: str
    pid: int
    mark: str
    """Tells its process from a later one with the same pid."""


def known(home: Path) -> Known | None:
    """What the last server of a home wrote of itself; None when there is none."""
    try:
        told = json.loads((home / "server.json").read_text())
        return Known(str(told["api"]), int(told["pid"]), str(told.get("mark", "")))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def alive(home: Path) -> bool:
    """Whether the server process of a home lives; that it answers is not asked, for it may be busy."""
    told = known(home)
    return told is not None and (process_mark(told.pid) or "") == told.mark


def _running(home: Path) -> str | None:
    """The URL of the server that already serves this home, when it answers."""
    told = known(home)
    return told.api if told is not None and healthy(told.api) else None


def _start(home: Path, port: int | None, meanwhile: Callable[[str], None]) -> str:
    port = _free_port() if port is None else _unused(port)
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
            ],  # -P: nothing from the current directory
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment(home, api)},
            start_new_session=True,  # Ctrl-C reaches the training first
        )
    _started.append(server)
    told = Known(api, server.pid, process_mark(server.pid) or "")
    (home / "server.json").write_text(json.dumps(told._asdict()))
    meanwhile(api)
    try:
        _wait_until(lambda: healthy(api), server, log)
    except ServerError:
        (home / "server.json").unlink(missing_ok=True)
        raise
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


def healthy(api: str) -> bool:
    """Whether a Prefect API answers."""
    try:
        with urllib.request.urlopen(f"{api}/health", timeout=2) as answer:  # noqa: S310 - always http on loopback
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_is_free(port: int) -> bool:
    """Whether a server could listen on a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what is left of closed connections does not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _unused(port: int) -> int:
    if port_is_free(port):
        return port
    raise ServerError(
        f"Port {port} of 127.0.0.1 is taken by another program. Nothing was started. Choose another port, as in: "
        f"azr up --port {port + 1}"
    )


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
