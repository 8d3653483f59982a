"""What the executor remembers: settled answers to the very same job, counted, bounded; and nothing else."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tasks.sandbox.cache import Cache, key
from tasks.sandbox.executor import Execution, Executor, Job, Lane, Limits, Output, Status

JOB = Job(program="def f(x):\n    return x", inputs=("1", "2"), interpreters=2)


@pytest.fixture
def executor() -> Iterator[Executor]:
    with Executor(workers=2) as executor:
        yield executor


@pytest.mark.parametrize(
    "other",
    [
        replace(JOB, program=JOB.program + " "),
        replace(JOB, inputs=("1",)),
        replace(JOB, inputs=("2", "1")),
        replace(JOB, inputs=("12",)),
        replace(JOB, entry="g"),
        replace(JOB, interpreters=1),
        replace(JOB, limits=Limits(cpu_s=1.0)),
        replace(JOB, limits=Limits(memory_mb=128)),
        replace(JOB, limits=Limits(output_bytes=100)),
        replace(JOB, program="\ud800"),
    ],
)
def test_whatever_a_job_says_is_in_its_key(other: Job) -> None:
    assert key(other) != key(JOB)
    assert key(replace(JOB)) == key(JOB)


def test_the_same_job_is_run_once_within_a_call_and_across_calls(executor: Executor) -> None:
    found = executor.run([JOB] * 5)
    again = executor.run([JOB])[0]
    assert [execution.cached for execution in found].count(False) == 1
    assert {replace(execution, cached=False) for execution in [*found, again]} == {replace(again, cached=False)}
    assert again.cached
    counts = executor.statistics()
    assert (counts.jobs, counts.cached, counts.fast + counts.slow) == (6, 5, 1)


UNSETTLED = {
    "def f(x):\n    while True: pass": Status.TIMEOUT,
    "def f(x): return bytes(10 ** 12)": Status.MEMORY,
    "import ctypes\ndef f(x): ctypes.string_at(0)": Status.CRASH,
    "import random\ndef f(x): return random.random()": Status.NONDETERMINISTIC,
    "import os\ndef f(x): os.fork()": Status.REJECTED,
}


@pytest.mark.parametrize("program", UNSETTLED)
def test_what_is_not_settled_is_run_again(executor: Executor, program: str) -> None:
    job = Job(program=program, inputs=("1",), interpreters=2, limits=Limits(cpu_s=0.1))
    for execution in executor.run([job, job]) + executor.run([job]):
        assert execution.status is UNSETTLED[program]
        assert not execution.cached


def test_one_interpreter_alone_settles_nothing(executor: Executor) -> None:
    job = Job(program="import random\ndef f(x): return random.random()", inputs=("1",))
    found = executor.run([job] * 3)
    assert len({execution.outputs[0].text for execution in found}) == 3
    assert executor.statistics().cached == 0


def test_an_exception_is_settled_when_two_interpreters_agree(executor: Executor) -> None:
    job = Job(program="def f(x): return 1 / 0", inputs=("1",), interpreters=2)
    executor.run([job])
    assert executor.run([job])[0].cached


def test_it_is_bounded_and_drops_what_was_not_asked_for_longest() -> None:
    cache = Cache(10_000)
    execution = Execution(status=Status.OK, reason=None, outputs=(Output("x" * 2000),), lane=Lane.FAST)
    for name in (b"a", b"b", b"c", b"a", b"d"):
        if cache.get(name) is None:
            cache.put(name, execution)
    assert len(cache) == 3
    assert cache.get(b"b") is None
    assert cache.get(b"a") == replace(execution, cached=True)
    cache.put(b"e", replace(execution, outputs=(Output("x" * 20_000),)))
    assert len(cache) == 0


def test_without_a_cache_nothing_is_kept() -> None:
    with Executor(workers=1, cache_bytes=0) as executor:
        assert [executor.run([JOB])[0].cached for _ in range(2)] == [False, False]
