"""A warm interpreter that forks one confined child per program; started by `zygotes`, never imported.

    python -P -s -S -B zygote.py CONTROL PARENT LAYERS WORK MODULES PATHS

It imports the standard library and its neighbours `kernel`, `seccomp` and the one called WORK, whose
`serve(channel, confinement)` is what every child does, then takes every privilege from itself. A job reaches it as a
number, a CPU limit and one end of a socket pair, which it passes on to a child: its heap, which every child inherits,
never holds a program, an input or an answer. It measures the children's CPU time from outside, kills what is over its
limit or blocked, and reports how each ended. It ends, and all its children with it, when the control socket closes or
the trainer is gone, whatever killed it.
"""

from __future__ import annotations

import array
import codecs
import gc
import os
import select
import signal
import socket
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tasks.sandbox import child, kernel, seccomp
else:
    sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120 - pathlib is not worth its memory here
    sys.path += filter(None, sys.argv[6].split(os.pathsep))  # PATHS, behind the standard library
    import kernel
    import seccomp

    child = __import__(sys.argv[4])
    del sys.path[0]

CONTROL = 3
ORDER = struct.Struct("=Qd")  # job, CPU seconds
REPORT = struct.Struct("=QiIQQ")  # job, wait status, why it was killed, CPU microseconds, KiB of memory
OVER_CPU, BLOCKED, OVER_WALL = 1, 2, 3

_LOOK_S = 0.25
"""How often a long child is looked at."""
_BLOCKED_S = 2.0
"""Without CPU progress for so long, as counted by looks: a loaded machine delays the looks too."""
_PROGRESS_S = 0.001
_CODECS = "ascii latin_1 utf_8 utf_16 utf_32 unicode_escape raw_unicode_escape hex_codec rot_13 base64_codec cp1252"


class _Child:
    """A running program as seen from outside."""

    __slots__ = ("cpu_s", "deadline", "idle_s", "job", "killed", "look_at", "looked_after", "pid", "used_s")

    def __init__(self, job: int, pid: int, cpu_s: float, now: float) -> None:
        self.job, self.pid, self.cpu_s = job, pid, cpu_s
        self.used_s, self.idle_s, self.killed = 0.0, 0.0, 0
        self.deadline = now + 30.0 + 10.0 * cpu_s
        self.looked_after = min(cpu_s, _LOOK_S)
        self.look_at = now + self.looked_after

    def look(self, now: float) -> None:
        """Kills the child when it is over a limit, else says when to look again."""
        used = _cpu_s(self.pid)
        progress = used - self.used_s > _PROGRESS_S
        self.idle_s = 0.0 if progress else self.idle_s + self.looked_after
        self.used_s = used if progress else self.used_s
        self.killed = self._verdict(used, now)
        if self.killed:
            os.kill(self.pid, signal.SIGKILL)
        self.looked_after = min(_LOOK_S, max(0.002, self.cpu_s - used))
        self.look_at = now + self.looked_after

    def _verdict(self, used: float, now: float) -> int:
        if used >= self.cpu_s:
            return OVER_CPU
        if self.idle_s >= _BLOCKED_S:
            return BLOCKED
        return OVER_WALL if now >= self.deadline else 0


def _cpu_s(pid: int) -> float:
    """CPU seconds of another process: include/linux/posix-timers_types.h, CPUCLOCK_SCHED of a whole process."""
    try:
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:  # it has ended, and its descriptor will say so
        return 0.0


class _Server:
    """The loop: orders in, children out, reports back."""

    def __init__(self, control: socket.socket, trainer: int, confinement: seccomp.Filter | None) -> None:
        self._control = control
        self._trainer = trainer
        self._confinement = confinement
        self._pid = os.getpid()
        self._children: dict[int, _Child] = {}  # by process descriptor
        self._poll = select.poll()
        self._poll.register(CONTROL, select.POLLIN)
        self._poll.register(trainer, select.POLLIN)

    def serve(self) -> None:
        """Runs until the trainer is gone."""
        while True:
            for descriptor, _ in self._poll.poll(self._timeout_ms()):
                if descriptor == self._trainer:
                    return
                if descriptor != CONTROL:
                    self._reap(descriptor)
                elif not self._accept():
                    return
            now = time.monotonic()
            for running in self._children.values():
                if not running.killed and now >= running.look_at:
                    running.look(now)

    def _timeout_ms(self) -> float | None:
        looks = [running.look_at for running in self._children.values() if not running.killed]
        return max(0.0, min(looks) - time.monotonic()) * 1000 + 1 if looks else None

    def _accept(self) -> bool:
        """Starts a child for one order; False at the end of the control socket."""
        order, ancillary, _, _ = self._control.recvmsg(ORDER.size, socket.CMSG_LEN(4))
        if not order:
            return False
        job, cpu_s = ORDER.unpack(order)
        channel = array.array("i", ancillary[0][2])[0]
        pid = os.fork()
        if pid == 0:
            self._become_child(channel)
        os.close(channel)
        descriptor = os.pidfd_open(pid)
        self._children[descriptor] = _Child(job, pid, cpu_s, time.monotonic())
        self._poll.register(descriptor, select.POLLIN)
        return True

    def _become_child(self, channel: int) -> None:
        try:
            if kernel.die_with_parent(self._pid):
                child.serve(channel, self._confinement)
        finally:
            os._exit(71)

    def _reap(self, descriptor: int) -> None:
        ended = self._children.pop(descriptor)
        self._poll.unregister(descriptor)
        os.close(descriptor)
        _, status, usage = os.wait4(ended.pid, 0)
        cpu_us = round((usage.ru_utime + usage.ru_stime) * 1e6)
        self._control.send(REPORT.pack(ended.job, status, ended.killed, cpu_us, usage.ru_maxrss))

    def stop(self) -> None:
        """Kills every child."""
        for running in self._children.values():
            os.kill(running.pid, signal.SIGKILL)


def _preload(modules: str) -> None:
    """Imports what programs may import: the file system is out of reach afterwards."""
    for name in filter(None, modules.split(",")):
        __import__(name)
    for name in _CODECS.split():
        codecs.lookup(name)


def _keep_descriptors(control: int, trainer: int) -> tuple[socket.socket, int]:
    """The control socket as descriptor 3, the trainer's as 4, 0 to 2 empty, nothing else open."""
    for standard in range(3):
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, standard)
        os.close(nothing)
    moved = os.dup(trainer), os.dup(control)
    os.dup2(moved[1], CONTROL)
    os.dup2(moved[0], CONTROL + 1)
    os.closerange(CONTROL + 2, 64)  # the trainer's own were closed when this interpreter started
    return socket.socket(fileno=CONTROL), CONTROL + 1


def _split(report: dict[str, str], wanted: set[str]) -> None:
    """Enters the namespaces: the process splits in two, the outer half only waits for the inner one."""
    report["namespaces"] = kernel.namespaces() if "namespaces" in wanted else "off (not wanted)"
    if report["namespaces"] != "on":
        return
    inner = os.fork()
    if inner:
        os.closerange(CONTROL, CONTROL + 2)
        _, status = os.waitpid(inner, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    report["root"] = kernel.empty_root()


def _confine(wanted: set[str]) -> tuple[dict[str, str], seccomp.Filter | None]:
    """Takes every privilege from this process; what of it worked, and the filter for the children."""
    report = {"python": sys.version.split()[0]}
    kernel.set_limits()
    report["rlimits"] = "on"
    _split(report, wanted)
    if report["namespaces"] == "on":
        report["capabilities"] = kernel.drop_capabilities()
        kernel.die_with_parent(0)  # the outer half, which has no number in here
    elif os.getuid() == 0:
        report["user"] = kernel.become_nobody()
    kernel.no_new_privileges()
    report["landlock"] = kernel.landlock() if "landlock" in wanted else "off (not wanted)"
    confinement = None
    report["seccomp"] = "off (not wanted)"
    if "seccomp" in wanted:
        confinement, report["seccomp"] = _filter()
    return report, confinement


def _filter() -> tuple[seccomp.Filter | None, str]:
    """The filter, after a throw-away child has tried it."""
    if os.uname().machine not in seccomp.MACHINES:
        return None, f"off (no table for {os.uname().machine})"
    confinement = seccomp.Filter()
    pid = os.fork()
    if pid == 0:
        try:
            confinement.install()
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return (confinement, f"on ({confinement.length} instructions)") if code == 0 else (None, f"off (error {code})")


def _forget() -> None:
    """Leaves nothing of this machine where a program could read it, or read it differently in two interpreters."""
    os.environ.clear()
    sys.argv[:] = sys.orig_argv[:] = [""]
    sys.path.clear()
    sys.path_importer_cache.clear()
    ours = os.path.dirname(__file__)  # noqa: PTH120
    for name, module in list(sys.modules.items()):
        if name != "__main__" and (getattr(module, "__file__", None) or "").startswith(ours):
            del sys.modules[name]


def main() -> None:
    """See the top of the file."""
    control, parent = int(sys.argv[1]), int(sys.argv[2])
    trainer = os.pidfd_open(parent)
    if os.getppid() != parent:
        return
    _preload(sys.argv[5])
    sock, trainer = _keep_descriptors(control, trainer)
    report, confinement = _confine(set(sys.argv[3].split(",")))
    _forget()
    gc.collect()
    gc.freeze()
    gc.disable()
    sock.send("\n".join(f"{name}={text}" for name, text in report.items()).encode())
    server = _Server(sock, trainer, confinement)
    try:
        server.serve()
    finally:
        server.stop()


main()
