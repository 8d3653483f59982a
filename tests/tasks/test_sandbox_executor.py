"""The executor: results in order, limits, determinism, isolation, and what it leaves behind."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.errors import ConfigError, SandboxError
from tasks.sandbox.executor import Execution, Executor, Job, Layer, Limits, Output, Status

ADD = "def f(x, k=1):\n    return x + k"
SPIN = "def f(x):\n    while True: pass"
QUICK = Limits(cpu_s=0.2)


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor(workers=2) as executor:
        yield executor


def run(executor: Executor, program: str, *inputs: str, interpreters: int = 1, limits: Limits = QUICK) -> Execution:
    return executor.run([Job(program=program, inputs=inputs, interpreters=interpreters, limits=limits)])[0]


def processes_of(trainer: int) -> list[int]:
    """Zygotes and children that this process started: they all carry its number in their command line."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            words = (directory / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(trainer).encode() in words and any(word.endswith(b"zygote.py") for word in words):
            found.append(int(directory.name))
    return found


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def gone(trainer: int, seconds: float = 5.0) -> bool:
    until = time.monotonic() + seconds
    while processes_of(trainer) and time.monotonic() < until:
        time.sleep(0.02)
    return not processes_of(trainer)


def test_outputs_come_in_the_order_of_jobs_and_inputs(executor: Executor) -> None:
    jobs = [Job(program=ADD, inputs=(f"{n}", f"{n}, k=10", "'a', 'b'")) for n in range(20)]
    seen: list[tuple[int, int]] = []
    found = executor.run(jobs, lambda done, total: seen.append((done, total)))
    assert seen == [(n + 1, 20) for n in range(20)]
    for n, execution in enumerate(found):
        assert execution.status is Status.OK
        assert execution.outputs == (Output(str(n + 1)), Output(str(n + 10)), Output("'ab'"))
        assert execution.cpu_us > 0
        assert execution.memory_kb > 1000


def test_no_jobs_no_executions(executor: Executor) -> None:
    assert executor.run([]) == []


def test_one_failed_input_does_not_hide_the_others(executor: Executor) -> None:
    found = run(executor, "def f(x):\n    return 1 / x", "1", "0", "2", interpreters=2)
    assert (found.status, found.reason) == (Status.ERROR, "input 2: ZeroDivisionError: division by zero")
    failed = Output(None, "ZeroDivisionError: division by zero", raised="ZeroDivisionError")
    assert found.outputs == (Output("1.0"), failed, Output("0.5"))


@pytest.mark.parametrize(
    ("program", "status", "reason"),
    [
        ("def f(x:", Status.ERROR, "SyntaxError: '(' was never closed (<program>, line 1)"),
        ("def g(x): return x", Status.ERROR, "NameError: the program does not define f"),
        ("f = 1", Status.ERROR, "TypeError: 'int' object is not callable"),
        ("import os\ndef f(x): os._exit(3)", Status.ERROR, "it ended itself with exit code 3 and no answer"),
        ("import sys\ndef f(x): sys.exit('bye')", Status.ERROR, "SystemExit: bye"),
        ("import numpy", Status.ERROR, "ModuleNotFoundError: No module named 'numpy'"),
        ("import os\ndef f(x): os.fork()", Status.REJECTED, "a forbidden system call"),
        ("def f(x): return {1, object}", Status.REJECTED, "not a literal: builtins.set {1, <class 'object'>}"),
        ("def f(x): return f.__code__", Status.REJECTED, None),
        ("def f(x): return 10 ** 5000", Status.REJECTED, "an int of 16620 bits, 14284 are the limit"),
        ("def f(x): return 'a' * 65537", Status.REJECTED, "outputs of 65559 bytes, the limit is lower"),
        ("def f(x): return '\\0' * 20000", Status.REJECTED, "outputs of 80002 bytes of text, 65536 are the limit"),
        (SPIN, Status.TIMEOUT, "over its CPU time of 0.2 s"),
        ("while True: pass", Status.TIMEOUT, "over its CPU time of 0.2 s"),
        ("import threading\ndef f(x): threading.Lock().acquire() and 1", Status.OK, None),
        ("def f(x): return bytes(10 ** 12)", Status.MEMORY, "MemoryError"),
        (
            "import os\ndef f(x): os.write(3, b'12345678'); os._exit(0)",
            Status.PROTOCOL,
            "8 bytes that are not one frame",
        ),
        ("import os\ndef f(x):\n  while True: os.write(3, b'1' * 99999)", Status.ERROR, None),
        ("import ctypes\ndef f(x): ctypes.string_at(0)", Status.CRASH, "killed by SIGSEGV"),
        ("import os\ndef f(x): os.abort()", Status.CRASH, "killed by SIGSEGV"),
        ("\ud800", Status.ERROR, None),
    ],
)
def test_how_a_program_can_end(executor: Executor, program: str, status: Status, reason: str | None) -> None:
    found = run(executor, program, "1")
    assert found.status is status
    assert reason is None or found.reason == reason


def test_a_blocked_program_uses_no_cpu_time_and_is_ended_all_the_same(executor: Executor) -> None:
    found = run(executor, "import threading\ndef f(x):\n    k = threading.Lock(); k.acquire(); k.acquire()", "1")
    assert (found.status, found.reason) == (Status.TIMEOUT, "blocked: no CPU time used for 2 s")


def test_inputs_that_are_not_literals_are_never_run(executor: Executor) -> None:
    found = run(executor, ADD, "1", "__import__('os')")
    assert found.status is Status.REJECTED
    assert found.reason == "input 2 is not a list of literals: __import__ is not a literal"
    assert found.cpu_us == 0
    assert len(found.outputs) == 2


def test_an_input_reaches_the_program_as_it_is_written(executor: Executor) -> None:
    found = run(
        executor,
        "def f(*a, **k):\n    return a, k",
        "1, -0.0, 'é\\ud800', b'\\0', {(1,): {2}}, k=[None, 1j]",
    )
    assert found.outputs[0].text == "((1, -0.0, 'é\\ud800', b'\\x00', {(1,): {2}}), {'k': [None, 1j]})"


@pytest.mark.parametrize(
    "program",
    [
        "def f(x): return list(set(x))",
        "def f(x): return hash(x[0])",
        "import random\ndef f(x): return random.random()",
        "import time\ndef f(x): return time.time_ns()",
        "def f(x): return id(x)",
        "def f(x): return {k: 1 for k in set(x)}",
        "seen = []\ndef f(x):\n    seen.append(x)\n    return len(seen)",
    ],
)
def test_a_program_that_differs_is_nondeterministic_and_both_outputs_are_told(executor: Executor, program: str) -> None:
    names = "['apple', 'banana', 'orange', 'pear', 'plum', 'fig']"
    found = run(executor, program, names, "['b']", interpreters=2)
    assert found.status is Status.NONDETERMINISTIC
    assert found.reason is not None
    assert " gives " in found.reason
    assert " or " in found.reason
    assert run(executor, program, names, "['b']").status is Status.OK


@pytest.mark.parametrize("made", ["object()", "[1]", "{}", "x + 1.5", "lambda: 1"])
def test_the_low_bits_of_addresses_differ_too(executor: Executor, made: str) -> None:
    found = run(executor, f"def f(x): return id({made}) % 4096", "1", interpreters=2)
    assert found.status is Status.NONDETERMINISTIC


@pytest.mark.parametrize(
    "program",
    [
        "import os\ndef f(x): return os.getpid()",
        "def f(x): return set(x)",
        "import random\nrandom.seed(1)\ndef f(x): return random.random()",
    ],
)
def test_what_is_the_same_everywhere_is_deterministic(executor: Executor, program: str) -> None:
    assert run(executor, program, "['apple', 'banana', 'orange', 'pear']", interpreters=2).status is Status.OK


LOOK = """
import os, sys, resource
def f():
    open_ones = []
    for number in range(256):
        try:
            os.write(number, b"")
            open_ones.append(number)
        except OSError:
            pass
    limits = [resource.getrlimit(k) for k in (resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)]
    ours = [name for name in sys.modules if name in ("kernel", "child", "seccomp", "tasks", "storage")]
    return [dict(os.environ), sys.argv, sys.path, open_ones, limits, ours, os.getuid(), os.getcwd()]
"""


@pytest.mark.parametrize("layers", [frozenset(Layer), frozenset({Layer.SECCOMP})])
def test_a_program_finds_nothing_of_this_machine(layers: frozenset[Layer]) -> None:
    with Executor(workers=1, layers=layers) as executor:
        text = run(executor, LOOK, "").outputs[0].text
    assert text == "[{}, [''], [], [0, 1, 2, 3], [(0, 0), (0, 0), (4, 4)], [], 65534, '/']"


def test_programs_do_not_see_each_other(executor: Executor) -> None:
    plant = "import math, builtins\nmath.x = builtins.x = 1\ndef f(a): return a"
    look = "import math, builtins\ndef f(a): return hasattr(math, 'x') or hasattr(builtins, 'x')"
    found = executor.run([Job(program=plant, inputs=("1",)), Job(program=look, inputs=("1",))] * 5)
    assert [execution.outputs[0].text for execution in found] == ["1", "False"] * 5


def test_the_report_names_every_layer(executor: Executor) -> None:
    report = executor.report()
    assert report["seccomp"].startswith("on")
    assert report["rlimits"] == "on"
    assert report["python"] == sys.version.split()[0]
    assert report["hash seeds"] == "1, 2"
    assert {"landlock", "namespaces", "workers"} <= set(report)


def test_without_seccomp_it_does_not_start() -> None:
    before = processes_of(os.getpid())
    with pytest.raises(SandboxError, match=r"none was run.*sandbox\.allow_unsafe"):
        Executor(layers=frozenset())
    assert processes_of(os.getpid()) == before


def test_without_seccomp_it_starts_when_told_so_by_name_and_says_so_aloud(caplog: pytest.LogCaptureFixture) -> None:
    with Executor(workers=1, allow_unsafe=True, layers=frozenset()) as executor:
        assert "UNSAFE" in caplog.text
        assert executor.report()["seccomp"] == "off (not wanted)"
        assert run(executor, ADD, "1").outputs == (Output("2"),)


def test_a_zygote_killed_in_mid_batch_loses_nothing() -> None:
    with Executor(workers=3) as executor:
        killed: list[int] = []

        def kill(done: int, _total: int) -> None:
            if done in (3, 60, 130):
                killed.extend(processes_of(os.getpid()))
                for pid in processes_of(os.getpid()):
                    with contextlib.suppress(ProcessLookupError):  # it ended with another one
                        os.kill(pid, signal.SIGKILL)

        jobs = [Job(program=ADD, inputs=(str(n),), interpreters=2) for n in range(160)]
        found = executor.run(jobs, kill)
        assert executor.statistics().lost_zygotes >= 2
    assert [execution.outputs[0].text for execution in found] == [str(n + 1) for n in range(160)]
    assert len(killed) >= 2


def test_an_interrupted_batch_leaves_a_working_executor() -> None:
    def interrupt(done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with Executor(workers=2) as executor:
        with pytest.raises(KeyboardInterrupt):
            executor.run([Job(program=ADD, inputs=("1",))] + [Job(program=SPIN, inputs=("1",))] * 3, interrupt)
        assert run(executor, ADD, "1").outputs == (Output("2"),)


def test_files_of_this_process_are_not_open_in_the_sandbox(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.set_inheritable(lock.fileno(), True)
        with Executor(workers=1) as executor:
            run(executor, ADD, "1")
            opened = [
                link.readlink() for pid in processes_of(os.getpid()) for link in Path(f"/proc/{pid}/fd").iterdir()
            ]
            assert opened
            assert not [name for name in opened if name.is_relative_to(tmp_path)]


def test_many_programs_leave_nothing_behind() -> None:
    before = descriptors()
    with Executor(workers=2) as executor:
        executor.run([Job(program=ADD, inputs=(f"{n}",)) for n in range(50)])
        opened, running = descriptors(), len(processes_of(os.getpid()))
        executor.run([Job(program=ADD, inputs=(f"{n}",)) for n in range(50, 1000)])
        assert descriptors() == opened
        assert len(processes_of(os.getpid())) == running
    assert descriptors() == before


TRAINER = """
import sys
from tasks.sandbox.executor import *
layers = frozenset(map(Layer, sys.argv[1].split(",")))
executor = Executor(workers=3, layers=layers, lanes=frozenset({Lane.SLOW}))
limits = Limits(cpu_s=60.0)
executor.run([Job(program="def f(x):\\n    while x: pass", inputs=(f"{n}",), limits=limits) for n in range(1, 5)])
"""


@pytest.mark.parametrize("layers", ["seccomp,landlock,namespaces", "seccomp"])
def test_kill_9_of_the_trainer_leaves_no_process(layers: str) -> None:
    with subprocess.Popen([sys.executable, "-c", TRAINER, layers]) as trainer:
        try:
            until = time.monotonic() + 60
            while len(processes_of(trainer.pid)) < 4 and time.monotonic() < until:
                time.sleep(0.05)
            assert len(processes_of(trainer.pid)) >= 4
        finally:
            trainer.kill()
    assert gone(trainer.pid)


@pytest.mark.parametrize("wrong", [{"output_bytes": 65_537}, {"output_bytes": 0}, {"cpu_s": 0.0}, {"memory_mb": 1}])
def test_limits_that_cannot_be_kept_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        Limits(**wrong)


@pytest.mark.parametrize("wrong", [{"inputs": ()}, {"inputs": ("1",), "interpreters": 3}])
def test_jobs_that_say_nothing_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="a job needs inputs"):
        Job(program=ADD, **wrong)
