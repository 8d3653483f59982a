"""The trusted side of one zygote: starting it, giving it jobs, hearing how they ended, killing it."""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Set
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from storage.errors import SandboxError, SandboxLost

SEEDS = (1, 2)
"""The PYTHONHASHSEED of each interpreter."""
_SCRIPT = Path(__file__).with_name("zygote.py")
# As in zygote.py, which imports nothing of ours and so cannot share them.
_ORDER = struct.Struct("=Qd")
_REPORT = struct.Struct("=QiIQQ")
_START_S = 60.0


class Layer(StrEnum):
    """A confinement that the kernel may or may not offer; rlimits are always there."""

    SECCOMP = "seccomp"
    LANDLOCK = "landlock"
    NAMESPACES = "namespaces"


class Warmth(StrEnum):
    """What an interpreter has imported beforehand; a smaller one forks faster."""

    SLIM = "slim"
    FULL = "full"


# Everything else that programs import is not there: the file system is out of reach.
_SLIM = """
bisect collections collections.abc functools heapq itertools math operator re string typing unicodedata
"""
_FULL = """
abc array ast base64 binascii calendar cmath colorsys contextlib copy csv dataclasses datetime decimal difflib enum
fractions graphlib hashlib hmac html inspect io ipaddress json keyword numbers pprint queue random reprlib secrets
shlex socket statistics struct textwrap threading time timeit traceback types urllib.parse uuid warnings weakref zlib
zoneinfo
"""
MODULES = {Warmth.SLIM: tuple(_SLIM.split()), Warmth.FULL: tuple(_SLIM.split() + _FULL.split())}


def unconfined(report: Mapping[str, str], allow_unsafe: bool, *, spared: str) -> str | None:
    """What is missing where the kernel offers no seccomp filter, in words; None where there is one.

    Raises SandboxError, which says that what was `spared` did not happen, unless `allow_unsafe` says to go on.
    """
    if report["seccomp"].startswith("on"):
        return None
    state = f"no seccomp filter here: {report['seccomp']}"
    if not allow_unsafe:
        raise SandboxError(
            f"There is {state}. A program that a model wrote could harm this machine; none was {spared}. On a machine "
            "that may be thrown away, set the config key sandbox.allow_unsafe (--set sandbox.allow_unsafe=true)"
        )
    return state


class End(NamedTuple):
    """How one child ended, said by the zygote, and what the child wrote."""

    status: int
    """The wait status, as from os.wait4."""
    killed: int
    """0, or why the zygote killed it: OVER_CPU, BLOCKED, OVER_WALL."""
    cpu_us: int
    memory_kb: int
    data: bytes


class Lost(Exception):
    """The zygote is gone; its jobs must be run by another one."""


class Zygote:
    """One warm interpreter. Raises SandboxError when it does not start; SandboxLost when it may start another time."""

    def __init__(
        self,
        *,
        seed: int,
        modules: tuple[str, ...],
        layers: Set[Layer],
        work: str = "child",
        paths: tuple[str, ...] = (),
    ) -> None:
        self.busy: dict[int, socket.socket] = {}
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # -P -s -S is -I without ignoring PYTHONHASHSEED; the environment holds nothing else.
        command = [sys.executable, "-P", "-s", "-S", "-B", str(_SCRIPT)]
        with theirs:
            words = [str(theirs.fileno()), str(os.getpid()), ",".join(sorted(layers))]
            command += [*words, work, ",".join(modules), os.pathsep.join(paths)]
            self._process = _started(command, theirs.fileno(), seed)
        self._control = control
        try:
            self.report = self._hello()
        except BaseException:  # also an interrupt must not leave a process behind
            self.close()
            raise

    def _hello(self) -> dict[str, str]:
        """The zygote's first message: which layers are on."""
        self._control.settimeout(_START_S)
        try:
            message = self._control.recv(1 << 16).decode()
        except TimeoutError:
            message = ""
        if not message:
            said = self._complaint()
            kind = SandboxLost if self._process.returncode == -signal.SIGKILL else SandboxError  # killed, or too slow
            raise kind(
                f"The sandbox's interpreter {sys.executable} did not start: {said}. No program was run. Run: azr doctor"
            )
        self._control.setblocking(False)
        return dict(line.split("=", 1) for line in message.splitlines())

    def _complaint(self) -> str:
        self.kill()  # ends what is said
        assert self._process.stderr is not None  # noqa: S101 - it was asked for above
        return self._process.stderr.read().decode(errors="replace").strip()[-500:] or "it said nothing"

    def fileno(self) -> int:
        """The control socket, readable when `next_end` has something."""
        return self._control.fileno()

    def submit(self, job: int, cpu_s: float, request: bytes) -> None:
        """Starts a child for this request; raises Lost."""
        mine, theirs = socket.socketpair()
        self.busy[job] = mine
        with theirs:
            try:
                mine.setblocking(False)
                # The request fits into the socket's buffer; MAX_REQUEST sees to that.
                mine.sendall(request)
                socket.send_fds(self._control, [_ORDER.pack(job, cpu_s)], [theirs.fileno()])
            except OSError as error:
                raise Lost from error

    def next_end(self, limit: int) -> tuple[int, End] | None:
        """A job that has ended, with at most `limit` bytes of its answer; None when there is none yet; raises Lost."""
        try:
            message = self._control.recv(_REPORT.size)
        except BlockingIOError:
            return None
        except OSError as error:
            raise Lost from error
        if len(message) != _REPORT.size:
            raise Lost
        job, status, killed, cpu_us, memory_kb = _REPORT.unpack(message)
        with self.busy.pop(job) as channel:
            return job, End(status, killed, cpu_us, memory_kb, _drain(channel, limit))

    def kill(self) -> None:
        """Ends the zygote and all its children; nothing of it is left afterwards."""
        for channel in self.busy.values():
            channel.close()
        self.busy.clear()
        self._control.close()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """`kill`, and the pipe of its complaints."""
        self.kill()
        if self._process.stderr is not None:
            self._process.stderr.close()


def _started(command: list[str], descriptor: int, seed: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            pass_fds=[descriptor],
            env={"PYTHONHASHSEED": str(seed), "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE):
            raise
        raise SandboxLost(
            f"No process could be started for the sandbox: {error}. No program was run. "
            "Look for what else takes processes or memory here, then run the same again."
        ) from error


def _drain(channel: socket.socket, limit: int) -> bytes:
    """What a child that has ended left in its channel: all of it is there by now."""
    parts, size = [], 0
    while size <= limit:
        try:
            part = channel.recv(1 << 17)
        except (BlockingIOError, ConnectionResetError):
            break
        if not part:
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts)
