"""Confinement of a whole zygote: Landlock, namespaces, an empty root, no privileges. Works for an ordinary user.

Runs inside the zygote and imports nothing of ours. Each layer answers with text that starts with "on" or "off", the
latter with the kernel's reason, so that the executor can report what is really there.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_NOBODY = 65534
_MACHINE_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

# linux/prctl.h
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_SIGKILL = 9
# linux/sched.h: mount, cgroup, uts, ipc, user, pid and network namespaces
_NEW_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
# linux/mount.h
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT, _MS_REC, _MS_PRIVATE = 1, 2, 4, 8, 32, 16384, 1 << 18
_MNT_DETACH = 2
# linux/landlock.h; the numbers of its calls are the same on every architecture
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT, _LANDLOCK_VERSION = 444, 446, 1
_CAPABILITY_VERSION = 0x20080522


def _reason() -> str:
    return errno.errorcode.get(ctypes.get_errno(), "unknown error")


def set_limits() -> None:
    """Limits that every child shares; those that a job chooses are set in the child."""
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_STACK, 8 << 20),
    ):
        lower_limit(limit, value)


def lower_limit(limit: int, value: int) -> None:
    """Sets one limit for good, no higher than it was."""
    _, hard = resource.getrlimit(limit)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (value, value))


def die_with_parent(parent: int) -> bool:
    """Asks for SIGKILL when the parent ends; False when it already has."""
    _libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    return os.getppid() == parent


def no_new_privileges() -> None:
    """No exec gains privileges, no other process of this user may look inside."""
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def become_nobody() -> str:
    """For real root without namespaces."""
    try:
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
    except OSError as error:
        return f"off ({error.strerror})"
    return "on (nobody)"


# ---- Landlock


def landlock() -> str:
    """Denies every file system right, TCP, and signals and abstract sockets to processes outside."""
    version = _libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), _LANDLOCK_VERSION)
    if version < 1:
        return f"off ({_reason()})"
    # The rights that each version of the interface knows; it refuses those that it does not.
    files = (1 << 13) - 1 | (version >= 2) << 13 | (version >= 3) << 14 | (version >= 5) << 15
    rules = struct.pack("=QQQ", files, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = _libc.syscall(_LANDLOCK_CREATE, ctypes.create_string_buffer(rules, 24), ctypes.c_size_t(size), 0)
    if ruleset < 0:
        return f"off ({_reason()})"
    failed = _libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0)
    reason = _reason()
    os.close(ruleset)
    return f"off ({reason})" if failed else f"on (version {version})"


# ---- namespaces


def _unshare(uid: int, gid: int) -> str:
    if _libc.unshare(_NEW_NAMESPACES) != 0:
        return f"off ({_reason()})"
    maps = (("setgroups", "deny"), ("uid_map", f"{_NOBODY} {uid} 1"), ("gid_map", f"{_NOBODY} {gid} 1"))
    try:
        for name, text in maps:
            _write(f"/proc/self/{name}", text)
    except OSError as error:
        return f"off (map: {error.strerror})"
    return "on"


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def namespaces() -> str:
    """Moves this process into namespaces of its own, and its next child into a process namespace.

    Tried in a throw-away child first: some systems let unshare() succeed and refuse the user map, and a process
    namespace whose first process is gone refuses every fork, so a half-made one must never hold the zygote.
    """
    uid, gid = os.getuid(), os.getgid()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, _unshare(uid, gid).encode())
        os._exit(0)
    os.close(writer)
    answer = os.read(reader, 200).decode() or "off (killed)"
    os.close(reader)
    os.waitpid(child, 0)
    return _unshare(uid, gid) if answer == "on" else answer


def empty_root() -> str:
    """An empty read-only file system as the root; needs `namespaces`. What is wanted is in memory by now."""
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    if _libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None):
        return f"off (private: {_reason()})"
    if _libc.mount(b"none", b"/tmp", b"tmpfs", flags, b"size=4k,nr_inodes=8"):
        return f"off (tmpfs: {_reason()})"
    os.chdir("/tmp")  # noqa: S108
    if _libc.syscall(_MACHINE_PIVOT_ROOT.get(os.uname().machine, -1), b".", b"."):
        return f"off (pivot_root: {_reason()})"
    if _libc.umount2(b".", _MNT_DETACH):
        return f"off (umount: {_reason()})"
    os.chdir("/")
    _libc.mount(b"none", b"/", None, _MS_REMOUNT | _MS_RDONLY | flags, None)
    return "on"


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Capabilities(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def drop_capabilities() -> str:
    """Gives up what a user namespace grants inside itself."""
    for capability in range(64):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    none = (_Capabilities * 2)()
    if _libc.capset(ctypes.byref(_CapabilityHeader(_CAPABILITY_VERSION)), ctypes.byref(none)):
        return f"off ({_reason()})"
    return "on"
