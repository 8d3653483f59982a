"""What the executor is asked and what it answers: plain records, no behaviour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from storage.errors import ConfigError, SandboxError
from tasks.sandbox.values import MAX_TEXT

Progress = Callable[[int, int], None]  # done, total


class Status(StrEnum):
    """How one program ended; docs/sandbox.md says what each word means."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    REJECTED = "rejected"
    CRASH = "crash"
    NONDETERMINISTIC = "nondeterministic"
    PROTOCOL = "protocol"


class Lane(StrEnum):
    """How a program was run; it never changes what is found."""

    FAST = "fast"
    """In a child with other tame programs, confirmed by a second run in another interpreter with other neighbours."""
    SLOW = "slow"
    """In a child of its own."""


class Cancelled(SandboxError):
    """Another thread called `Executor.cancel`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one run of a program may use, over all its inputs.

    Raises ConfigError when `output_bytes` is more than the judge can read back: such gold could never be answered.
    """

    cpu_s: float = 4.0
    """Seconds of CPU time (user and system); the time that the machine gives to others does not count."""
    memory_mb: int = 256
    """MiB of address space, the interpreter's own 30 included."""
    output_bytes: int = MAX_TEXT
    """Bytes of all the outputs together, on the wire and as UTF-8 text."""

    def __post_init__(self) -> None:
        if not 0 < self.output_bytes <= MAX_TEXT:
            raise ConfigError(f"output_bytes must be 1 to {MAX_TEXT}, not {self.output_bytes}")
        if not (self.cpu_s > 0 and self.memory_mb >= 64):
            raise ConfigError(f"cpu_s must be positive and memory_mb at least 64, not {self.cpu_s}, {self.memory_mb}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One program and the calls to make: each input is the text between the parentheses of one call."""

    program: str
    inputs: tuple[str, ...]
    limits: Limits = Limits()
    entry: str = "f"
    interpreters: int = 1
    """2 runs it again where strings hash otherwise, the first input last; outputs and exceptions must agree."""

    def __post_init__(self) -> None:
        if not self.inputs or self.interpreters not in (1, 2):
            raise ValueError(f"a job needs inputs and 1 or 2 interpreters, not {len(self.inputs)}, {self.interpreters}")


@dataclass(frozen=True, slots=True)
class Output:
    """What one call gave: canonical literal text, or why there is none."""

    text: str | None
    error: str | None = None
    raised: str | None = None
    """Name of the exception's class as the program has it, when the call raised one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What became of one job; `outputs` has one entry per input, in the job's order, whatever the status."""

    status: Status
    reason: str | None
    outputs: tuple[Output, ...]
    cpu_us: int = 0
    """CPU time of the child processes, summed over interpreters."""
    memory_kb: int = 0
    """Largest resident set of a child, the shared interpreter included."""
    lane: Lane = Lane.SLOW
    cached: bool = False
    """Found before, for the very same job; times and memory are those of that time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What an executor has done since it was made, in counts of jobs but for the last."""

    jobs: int = 0
    cached: int = 0
    fast: int = 0
    slow: int = 0
    reruns: int = 0
    """Tried in the fast lane and run again alone."""
    lost_zygotes: int = 0
