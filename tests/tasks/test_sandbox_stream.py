"""`Executor.stream`: as completed, no further ahead than needed, ended at once by closing it or by another thread."""

import threading
import time
from collections.abc import Iterator

import pytest

from storage.errors import SandboxError
from tasks.sandbox.executor import Cancelled, Executor, Job, Limits, Status

SPIN = Job(program="def f(x):\n    while True: pass", inputs=("1",), limits=Limits(cpu_s=60.0))


def jobs(count: int) -> list[Job]:
    return [Job(program=f"def f(x):\n    return x + {n}", inputs=("1",), interpreters=2) for n in range(count)]


@pytest.fixture
def executor() -> Iterator[Executor]:
    with Executor(workers=2) as executor:
        yield executor


def test_every_job_is_answered_once_under_its_own_number(executor: Executor) -> None:
    found = dict(executor.stream(iter(jobs(120))))
    assert {number: execution.outputs[0].text for number, execution in found.items()} == {
        n: str(n + 1) for n in range(120)
    }


def test_jobs_are_taken_only_as_there_is_room(executor: Executor) -> None:
    taken = 0

    def endless() -> Iterator[Job]:
        nonlocal taken
        while True:
            taken += 1
            yield Job(program=f"def f(x):\n    return x + {taken}", inputs=("1",))

    stream = executor.stream(endless())
    for _ in range(3):
        next(stream)
    time.sleep(0.2)
    assert taken <= 400
    stream.close()
    assert executor.run(jobs(1))[0].status is Status.OK


def test_a_quick_job_does_not_wait_for_a_slow_one(executor: Executor) -> None:
    stream = executor.stream([SPIN, *jobs(2)])
    assert {next(stream)[0], next(stream)[0]} == {1, 2}
    stream.close()


def test_closing_ends_what_is_running(executor: Executor) -> None:
    executor.run(jobs(2))
    stream = executor.stream([*jobs(30), SPIN])
    next(stream)
    stream.close()
    assert len(executor._fleet) == 0
    assert executor.run(jobs(40))[39].outputs[0].text == "40"


def test_another_thread_can_cancel(executor: Executor) -> None:
    going = threading.Event()

    def endless() -> Iterator[Job]:
        yield SPIN
        going.set()

    def cancel() -> None:
        going.wait()
        executor.cancel()

    other = threading.Thread(target=cancel)
    other.start()
    with pytest.raises(Cancelled, match="1 programs were not finished"):
        list(executor.stream(endless()))
    other.join()
    assert executor.run(jobs(1))[0].status is Status.OK


def test_cancelling_nothing_does_nothing(executor: Executor) -> None:
    executor.cancel()
    assert executor.run(jobs(1))[0].status is Status.OK


def test_a_second_stream_in_the_same_thread_is_an_error_and_not_a_standstill(executor: Executor) -> None:
    stream = executor.stream(jobs(3))
    next(stream)
    with pytest.raises(SandboxError, match="still open"):
        executor.run(jobs(1))
    stream.close()
    assert executor.run(jobs(1))[0].status is Status.OK


def test_a_failing_iterable_leaves_a_working_executor(executor: Executor) -> None:
    def failing() -> Iterator[Job]:
        yield SPIN
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(executor.stream(failing()))
    assert executor.run(jobs(1))[0].status is Status.OK


def test_threads_take_turns(executor: Executor) -> None:
    found: dict[int, list[str | None]] = {}

    def work(thread: int) -> None:
        found[thread] = [execution.outputs[0].text for execution in executor.run(jobs(20))]

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(found.values()) == [[str(n + 1) for n in range(20)]] * 4
