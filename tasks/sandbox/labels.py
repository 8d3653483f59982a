"""Error mode: the label of a call is the class of the exception that it raises, or NoError.

A label is what an answer is compared with, so it must be the same every time: a program that two interpreters disagree
about, or that ended by a limit, a signal or a refusal, has none. A class is known by its name alone, as the program
has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tasks.sandbox.executor import Execution, Executor, Job, Progress, Status
from tasks.sandbox.judge import Judgement, Verdict

NO_ERROR = "NoError"
_LONGEST = 64  # characters of a name that an answer can be asked for


@dataclass(frozen=True, slots=True)
class Label:
    """The name of an exception's class, or `NO_ERROR`; None, with the reason, for a call that can have no label."""

    name: str | None
    reason: str | None = None


def labels(executor: Executor, jobs: Sequence[Job], progress: Progress | None = None) -> list[tuple[Label, ...]]:
    """For each job one label per input, both in order; every job runs in two interpreters, whatever it says itself.

    Raises SandboxError from the executor.
    """
    twice = [replace(job, interpreters=2) for job in jobs]
    return [
        tuple(label(execution, call) for call in range(len(job.inputs)))
        for job, execution in zip(jobs, executor.run(twice, progress), strict=True)
    ]


def label(execution: Execution, call: int = 0) -> Label:
    """The label of one call of an execution, which two interpreters must have confirmed.

    An exception while the program is loaded is raised by every call; one that ends the process without an answer
    (`os._exit`) is no exception.
    """
    if execution.status not in (Status.OK, Status.ERROR):
        return Label(None, f"{execution.status}: {execution.reason}")
    output = execution.outputs[call]
    if output.text is not None:
        return Label(NO_ERROR)
    if output.raised is None:
        return Label(None, output.error)
    if output.raised == NO_ERROR or not output.raised.isidentifier() or len(output.raised) > _LONGEST:
        return Label(None, f"an exception class may not be called {output.raised}")
    return Label(output.raised)


def judge_name(known: Label, answer: str | None) -> Judgement:
    """The judgement of an answer in error mode: right is the class's own name, letter by letter, around it only space.

    Neither a base class nor a qualified name (`json.JSONDecodeError`) is right. Without a label nothing can be.
    """
    if known.name is None:
        return Judgement(verdict=Verdict.REJECTED, reason=f"no label: {known.reason}")
    if answer is None:
        return Judgement(verdict=Verdict.UNPARSED, reason="no answer")
    name = answer.strip()
    if not name.isidentifier():
        return Judgement(verdict=Verdict.UNPARSED, reason="not the name of a class")
    if name != known.name:
        return Judgement(verdict=Verdict.WRONG, reason="another class")
    return Judgement(verdict=Verdict.CORRECT, passed=1)
