"""One writer per run: an `flock` on writer.lock, whose text names the owner for those who find it held.

The kernel drops the lock when its holder dies, also by kill -9. A forked child would keep it alive, so children close
the descriptor at once (`os.register_at_fork`), and programs started by exec never see it (O_CLOEXEC).
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from storage.errors import LedgerError, RunTaken
from storage.layout import LOCK_FILE, command, now_us

_held: set[int] = set()  # descriptors of the locks of this process
_called: list[str] = []  # what this process is called; see `call_process`


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The process that holds a lock, as it wrote itself down."""

    pid: int
    process: str  # tells the process from a later one with the same pid
    host: str
    command: str
    since_us: int

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"process {self.pid} on {self.host} ({self.command}, since {since})"


class WriterLock:
    """The right to write a run, from construction to `release`; raises RunTaken naming the owner when taken."""

    def __init__(self, run_directory: Path) -> None:
        path = run_directory / LOCK_FILE
        self._pid = os.getpid()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise RunTaken(_taken(run_directory)) from None
        except OSError as error:
            os.close(self._descriptor)
            raise LedgerError(
                f"{path} cannot be locked: {error}. Nothing was written. "
                "Choose a root on a file system with locks: azr train --root DIR"
            ) from error
        _held.add(self._descriptor)
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps(asdict(_myself())).encode(), 0)
        except OSError:  # a full disk; else this process would keep the lock of a run that it could not open
            self.release()
            raise

    @property
    def held(self) -> bool:
        """Whether this very process holds the lock (a forked child never does)."""
        return self._descriptor in _held and self._pid == os.getpid()

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self.held:
            os.ftruncate(self._descriptor, 0)
            _held.discard(self._descriptor)
            os.close(self._descriptor)


def call_process(name: str) -> None:
    """What later locks call this process, such as a flow run with its address; its command line says nothing then."""
    _called[:] = [name]


def owner_of(run_directory: Path) -> Owner | None:
    """The living writer of a run, or None; takes no lock and creates nothing."""
    owner = _written(run_directory)
    return owner if owner is not None and is_alive(owner.pid, owner.process) else None


def process_mark(pid: int) -> str | None:
    """A text that no other process with this pid has (boot and start time); None when it is dead or unknown."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return None if state in ("Z", "X") else f"{boot}/{fields[18]}"


def is_alive(pid: int, process: str) -> bool:
    """Whether the process that had this mark still runs on this machine."""
    return process_mark(pid) == process


def _myself() -> Owner:
    # Only the first word of the arguments: later ones may hold what is nobody's business.
    words = [Path(sys.argv[0]).name, *sys.argv[1:2]]
    pid = os.getpid()
    return Owner(
        pid=pid,
        process=process_mark(pid) or "",
        host=socket.gethostname(),
        command=" ".join(_called or words),
        since_us=now_us(),
    )


def _written(run_directory: Path) -> Owner | None:
    try:
        return Owner(**json.loads((run_directory / LOCK_FILE).read_text()))
    except (OSError, ValueError, TypeError):  # none, empty, or half written
        return None


def _taken(run_directory: Path) -> str:
    owner = _written(run_directory)
    status = command("status", root=run_directory.parent, run=run_directory.name)
    return (
        f"Run {run_directory.name} is being written by {owner or 'another process'}. Nothing was written. "
        f"Wait for it, or look at it: {status}"
    )


def _drop_in_child() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_drop_in_child)
