"""From how a child ended and what it wrote to the execution of its job: all verdicts about programs are taken here."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

from tasks.sandbox import wire
from tasks.sandbox.jobs import Execution, Job, Output, Status
from tasks.sandbox.values import Refused
from tasks.sandbox.zygotes import End

_KILLED = {
    1: "over its CPU time of {cpu_s} s",
    2: "blocked: no CPU time used for 2 s",
    3: "over the wall time that {cpu_s} s of CPU time may take",
}
_SIGNALS = {
    signal.SIGSYS: (Status.REJECTED, "a forbidden system call"),
    signal.SIGXCPU: (Status.TIMEOUT, "over its CPU time"),
}
_SHOWN = 300  # characters of each of two outputs that differ


def refused(job: Job, reason: str) -> Execution:
    """The execution of a job that was never run."""
    return _without_outputs(job, Status.REJECTED, reason)


def lost(job: Job, times: int) -> Execution:
    """The execution of a job whose interpreter went away each time."""
    return _without_outputs(job, Status.CRASH, f"its interpreter was lost {times} times")


def execution(job: Job, interpreter: int, end: End) -> Execution:
    """What became of one run of a job; the second interpreter got the inputs in reverse order."""
    found = _ended_badly(job, end) or _answered(job, interpreter, end.data)
    return replace(found, cpu_us=end.cpu_us, memory_kb=end.memory_kb)


def combined(first: Execution, second: Execution) -> Execution:
    """One execution of two runs: both must be ok and the same, text for text."""
    total = replace(first, cpu_us=first.cpu_us + second.cpu_us, memory_kb=max(first.memory_kb, second.memory_kb))
    if second.status is Status.OK:
        differing = [
            at for at, pair in enumerate(zip(first.outputs, second.outputs, strict=True)) if pair[0] != pair[1]
        ]
        return total if not differing else _nondeterministic(total, second, differing[0])
    if second.status is Status.ERROR:
        failed = [at for at, output in enumerate(second.outputs) if output.error is not None]
        return _nondeterministic(total, second, failed[0])
    return replace(total, status=second.status, reason=f"in the second interpreter: {second.reason}")


def _nondeterministic(first: Execution, second: Execution, at: int) -> Execution:
    texts = [output.text or output.error or "" for output in (first.outputs[at], second.outputs[at])]
    shown = " or ".join(text if len(text) <= _SHOWN else text[:_SHOWN] + "..." for text in texts)
    return replace(first, status=Status.NONDETERMINISTIC, reason=f"input {at + 1} gives {shown}")


def _without_outputs(job: Job, status: Status, reason: str) -> Execution:
    outputs = (Output(None, f"{status}: {reason}"),) * len(job.inputs)
    return Execution(status=status, reason=reason, outputs=outputs)


def _ended_badly(job: Job, end: End) -> Execution | None:
    """The execution when the child did not end by itself, in order; else None."""
    if end.killed:
        return _without_outputs(job, Status.TIMEOUT, _KILLED[end.killed].format(cpu_s=job.limits.cpu_s))
    if os.WIFSIGNALED(end.status):
        status, reason = _signal(job, end)
        return _without_outputs(job, status, reason)
    code = os.WEXITSTATUS(end.status)
    if code != 0 or not end.data:
        return _without_outputs(job, Status.ERROR, f"it ended itself with exit code {code} and no answer")
    return None


def _signal(job: Job, end: End) -> tuple[Status, str]:
    number = os.WTERMSIG(end.status)
    if number in _SIGNALS:
        return _SIGNALS[signal.Signals(number)]
    if number == signal.SIGKILL:
        over = end.cpu_us >= job.limits.cpu_s * 1e6
        return (
            (Status.TIMEOUT, "over its CPU time") if over else (Status.MEMORY, "killed by the machine, out of memory")
        )
    return Status.CRASH, f"killed by {signal.Signals(number).name}"


def _answered(job: Job, interpreter: int, data: bytes) -> Execution:
    try:
        answers = wire.answers(data, len(job.inputs), job.limits)
    except wire.Malformed as error:
        return _without_outputs(job, Status.PROTOCOL, str(error))
    except Refused as error:
        return _without_outputs(job, Status.REJECTED, str(error))
    if interpreter == 1:
        answers.reverse()
    outputs = tuple(answer.output for answer in answers)
    for number, answer in enumerate(answers, 1):
        if answer.output.error is not None:
            return Execution(status=_status(answer), reason=_place(job, number, answer), outputs=outputs)
    return Execution(status=Status.OK, reason=None, outputs=outputs)


def _status(answer: wire.Answer) -> Status:
    if not answer.literal:
        return Status.REJECTED
    return Status.MEMORY if answer.raised == "MemoryError" else Status.ERROR


def _place(job: Job, number: int, answer: wire.Answer) -> str:
    return f"{answer.output.error}" if len(job.inputs) == 1 else f"input {number}: {answer.output.error}"
