"""From how a child ended and what it wrote to the execution of its job: all verdicts about programs are taken here."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

from tasks.sandbox import wire
from tasks.sandbox.jobs import Execution, Job, Lane, Output, Status
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
REPEATED = frozenset({Status.OK, Status.ERROR})
"""What the second interpreter has to confirm."""
_NOT_SHARED = frozenset(
    ("RecursionError", "SystemExit", "KeyboardInterrupt", "GeneratorExit", "ImportError", "ModuleNotFoundError")
)
"""Exceptions that may have come from sharing a process, and so are heard only from a program alone."""
_SHOWN = 300  # characters of each of two outputs that differ


def refused(job: Job, reason: str) -> Execution:
    """The execution of a job that was never run."""
    return _without_outputs(job, Status.REJECTED, reason)


def lost(job: Job, times: int) -> Execution:
    """The execution of a job whose interpreter went away each time."""
    return _without_outputs(job, Status.CRASH, f"its interpreter was lost {times} times")


def execution(job: Job, interpreter: int, end: End) -> Execution:
    """What became of one run of a job; the second interpreter got the first input last."""
    found = _ended_badly(job, end) or _answered(job, interpreter, end.data)
    return replace(found, cpu_us=end.cpu_us, memory_kb=end.memory_kb)


def shared(job: Job, interpreter: int, frame: wire.SharedFrame, share_us: int, memory_kb: int) -> Execution | None:
    """What became of one program among several: outputs and plain exceptions; None when it must be run alone.

    `share_us` is its part of what belongs to no program.
    """
    if not frame.data:
        return None
    found = _answered(job, interpreter, wire.LENGTH.pack(len(frame.data)) + frame.data)
    if found.status not in REPEATED or any(output.raised in _NOT_SHARED for output in found.outputs):
        return None
    return replace(found, cpu_us=frame.cpu_us + share_us, memory_kb=memory_kb, lane=Lane.FAST)


def combined(first: Execution, second: Execution) -> Execution:
    """One execution of two runs: every call must have given the same text, or raised the same class."""
    total = replace(first, cpu_us=first.cpu_us + second.cpu_us, memory_kb=max(first.memory_kb, second.memory_kb))
    if second.status in REPEATED:
        pairs = zip(first.outputs, second.outputs, strict=True)
        differing = [at for at, (a, b) in enumerate(pairs) if (a.text, a.raised) != (b.text, b.raised)]
        return total if not differing else _nondeterministic(total, second, differing[0])
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
        answers.insert(0, answers.pop())
    outputs = tuple(answer.output for answer in answers)
    for number, answer in enumerate(answers, 1):
        if answer.output.error is not None:
            return Execution(status=_status(answer), reason=_place(job, number, answer), outputs=outputs)
    return Execution(status=Status.OK, reason=None, outputs=outputs)


def _status(answer: wire.Answer) -> Status:
    if not answer.literal:
        return Status.REJECTED
    return Status.MEMORY if answer.output.raised == "MemoryError" else Status.ERROR


def _place(job: Job, number: int, answer: wire.Answer) -> str:
    return f"{answer.output.error}" if len(job.inputs) == 1 else f"input {number}: {answer.output.error}"
