"""The system call filter of a program's process: what a pure function needs, and nothing else.

Runs inside the zygote and imports nothing of ours. A call is allowed, refused softly (an errno, so that ordinary code
gets its ordinary exception), or kills the process with SIGSYS, which the executor reports as `rejected`. Whatever is
not named gets EPERM. Numbers: linux/arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

# name, number on x86_64, number on aarch64 ("-" where there is none)
_NUMBERS = """
read 0 63, write 1 64, close 3 57, fstat 5 80, lseek 8 62, mmap 9 222, mprotect 10 226, munmap 11 215, brk 12 214,
rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, ioctl 16 29, sched_yield 24 124, mremap 25 216,
madvise 28 233, getpid 39 172, exit 60 93, getcwd 79 17, gettimeofday 96 169, getrusage 98 165, times 100 153,
getuid 102 174, getgid 104 176, geteuid 107 175, getegid 108 177, sigaltstack 131 132, gettid 186 178, time 201 -,
futex 202 98, set_tid_address 218 96, clock_gettime 228 113, clock_getres 229 114, exit_group 231 94,
set_robust_list 273 99, prlimit64 302 261, getrandom 318 278, rseq 334 293,
open 2 -, openat 257 56, openat2 437 437, stat 4 -, lstat 6 -, newfstatat 262 79, statx 332 291, access 21 -,
faccessat 269 48, faccessat2 439 439, readlink 89 -, readlinkat 267 78, getdents64 217 61, statfs 137 43,
socket 41 198, connect 42 203, accept 43 202, accept4 288 242, sendto 44 206, recvfrom 45 207, sendmsg 46 211,
recvmsg 47 212, bind 49 200, listen 50 201, socketpair 53 199, clone 56 220, clone3 435 435, fork 57 -, vfork 58 -,
execve 59 221, execveat 322 281, kill 62 129, tkill 200 130, tgkill 234 131, ptrace 101 117,
process_vm_readv 310 270, process_vm_writev 311 271, mount 165 40, umount2 166 39, pivot_root 155 41, chroot 161 51,
unshare 272 97, setns 308 268, bpf 321 280, userfaultfd 323 282, io_uring_setup 425 425, io_uring_enter 426 426,
io_uring_register 427 427, pidfd_send_signal 424 424, pidfd_open 434 434, pidfd_getfd 438 438, memfd_create 319 279,
perf_event_open 298 241, keyctl 250 219, add_key 248 217, request_key 249 218, truncate 76 45, ftruncate 77 46,
rename 82 -, renameat 264 38, renameat2 316 276, mkdir 83 -, mkdirat 258 34, rmdir 84 -, unlink 87 -, unlinkat 263 35,
creat 85 -, link 86 -, linkat 265 37, symlink 88 -, symlinkat 266 36, mknod 133 -, mknodat 259 33, chmod 90 -,
fchmod 91 52, fchmodat 268 53, chown 92 -, fchownat 260 54, setuid 105 146, setgid 106 144, setsid 112 157,
prctl 157 167, seccomp 317 277, rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240, pipe 22 -, pipe2 293 59,
sendfile 40 71, shmget 29 194, init_module 175 105, finit_module 313 273, reboot 169 142
"""
_ARCHITECTURES = {"x86_64": (1, 0xC000003E), "aarch64": (2, 0xC00000B7)}  # column above, AUDIT_ARCH
MACHINES = tuple(_ARCHITECTURES)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ALLOWED = _words(
    """
    write close munmap brk rt_sigaction rt_sigprocmask rt_sigreturn mremap madvise futex sched_yield getuid geteuid
    getgid getegid exit exit_group clock_gettime clock_getres gettimeofday time getrusage times getrandom sigaltstack
    set_robust_list rseq set_tid_address getcwd fstat lseek
    """
)
_DENIED = _words(
    """
    stat lstat newfstatat statx statfs access faccessat faccessat2 readlink readlinkat getdents64
    """
)
_KILLED = _words(
    """
    socket connect accept accept4 sendto sendmsg recvmsg recvfrom bind listen socketpair clone clone3 fork vfork execve
    execveat kill tkill ptrace process_vm_readv process_vm_writev mount umount2 pivot_root chroot unshare setns bpf
    userfaultfd io_uring_setup io_uring_enter io_uring_register pidfd_send_signal pidfd_open pidfd_getfd memfd_create
    perf_event_open keyctl add_key request_key truncate ftruncate rename renameat renameat2 mkdir mkdirat rmdir unlink
    unlinkat creat link linkat symlink symlinkat mknod mknodat chmod fchmod fchmodat chown fchownat setuid setgid
    setsid prctl seccomp rt_sigqueueinfo rt_tgsigqueueinfo pipe pipe2 sendfile shmget init_module finit_module reboot
    openat2
    """
)

# Classic BPF opcodes and seccomp's return values: linux/bpf_common.h, linux/seccomp.h
_LOAD, _JUMP, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x05, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_SET_MODE_FILTER = 1
_PROT_EXEC = 4
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | 0o20000000  # O_TMPFILE's own bit
_SIGABRT = 6

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand
Code = list[Instruction]


def _finish(value: int) -> Code:
    return [(_RETURN, 0, 0, value)]


def _argument(index: int, *, high: int = 0) -> Instruction:
    return (_LOAD, 0, 0, 16 + 8 * index + 4 * high)


def _unless_bits(index: int, bits: int, otherwise: int, result: int) -> Code:
    """`otherwise` when the argument has none of the bits, else `result`."""
    return [_argument(index), (_IF_ANY_BIT, 0, 1, bits), *_finish(result), *_finish(otherwise)]


def _numbers(machine: str) -> dict[str, int]:
    column, _ = _ARCHITECTURES[machine]
    rows = [row.split() for row in _NUMBERS.split(",")]
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}


def _policy(machine: str) -> dict[int, Code]:
    """For each number the instructions that decide."""
    rules: dict[str, Code] = {name: _finish(_ALLOW) for name in _ALLOWED}
    rules |= {name: _finish(_ERRNO | errno.EACCES) for name in _DENIED}
    rules |= {name: _finish(_KILL) for name in _KILLED}
    # A constant 0: two interpreters must not differ in what has nothing to do with the program.
    rules |= {"getpid": _finish(_ERRNO), "gettid": _finish(_ERRNO), "ioctl": _finish(_ERRNO | errno.ENOTTY)}
    # Nothing is ever made executable: no shellcode, no dlopen.
    rules |= dict.fromkeys(("mmap", "mprotect"), _unless_bits(2, _PROT_EXEC, _ALLOW, _ERRNO | errno.EPERM))
    # Reading a file fails as if it were protected, writing one is an attack.
    denied = _ERRNO | errno.EACCES
    rules |= {"open": _unless_bits(1, _WRITING, denied, _KILL), "openat": _unless_bits(2, _WRITING, denied, _KILL)}
    # Reading limits (a null pointer for the new one), not setting them.
    reading = [_argument(2), (_IF_EQUAL, 0, 3, 0), _argument(2, high=1), (_IF_EQUAL, 0, 1, 0)]
    rules["prlimit64"] = [*reading, *_finish(_ALLOW), *_finish(_ERRNO | errno.EPERM)]
    # abort() signals itself before it gives up; any other signal is an attack.
    rules["tgkill"] = [_argument(2), (_IF_EQUAL, 0, 1, _SIGABRT), *_finish(_ERRNO | errno.EPERM), *_finish(_KILL)]
    numbers = _numbers(machine)
    return {numbers[name]: code for name, code in rules.items() if name in numbers}


def _tree(ranges: list[tuple[int, Code]]) -> Code:
    """A balanced search: when a filter is installed the kernel runs it once per number, so a list would cost 2x."""
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    left, right = _tree(ranges[:middle]), _tree(ranges[middle:])
    first = ranges[middle][0]
    if len(left) < 256:
        return [(_IF_AT_LEAST, len(left), 0, first), *left, *right]
    return [(_IF_AT_LEAST, 0, 1, first), (_JUMP, 0, 0, len(left)), *left, *right]


def program(machine: str) -> Code:
    """The whole filter; raises KeyError for a machine without a table of numbers."""
    policy = _policy(machine)
    default = _finish(_ERRNO | errno.EPERM)
    ranges: list[tuple[int, Code]] = []
    for number in range(max(policy) + 2):
        code = policy.get(number, default)
        if not ranges or ranges[-1][1] != code:
            ranges.append((number, code))
    _, architecture = _ARCHITECTURES[machine]
    head: Code = [(_LOAD, 0, 0, 4), (_IF_EQUAL, 1, 0, architecture), *_finish(_KILL), (_LOAD, 0, 0, 0)]
    if machine == "x86_64":
        head += [(_IF_AT_LEAST, 0, 1, 0x40000000), *_finish(_KILL)]  # the x32 ABI has numbers of its own
    return head + _tree(ranges)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


class Filter:
    """The filter in memory, built once by the zygote and installed by each child."""

    def __init__(self) -> None:
        machine = os.uname().machine
        code = program(machine)
        self.length = len(code)
        self._bytes = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in code))
        self._program = _Program(len(code), ctypes.addressof(self._bytes))
        self._pointer = ctypes.byref(self._program)
        self._number = _numbers(machine)["seccomp"]
        self._syscall = ctypes.CDLL(None, use_errno=True).syscall

    def install(self) -> None:
        """Confines this process for good; raises OSError when the kernel refuses."""
        if self._syscall(self._number, _SET_MODE_FILTER, 0, self._pointer) != 0:
            raise OSError(ctypes.get_errno(), "seccomp")
