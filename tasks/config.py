"""The config sections of this floor: what is proposed and solved, the bootstrap, rewards, and the sandbox's limits.

Defaults fit the nano model; the paper's own numbers are a preset (`configs/`). Names of template sets are checked when
the set is loaded.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from storage.config import Key, Section
from storage.ids import Mode
from tasks.sandbox.values import Refused, canonical, parse_value

MODES = (Mode.DEDUCTION, Mode.ABDUCTION, Mode.INDUCTION)  # those with rules in tasks.reasoning.modes
_PROGRAM_GIVERS = frozenset({Mode.DEDUCTION, Mode.ABDUCTION})


class Curve(StrEnum):
    """How the share of probes that solve a task becomes its learnability; see tasks.reasoning.rewards."""

    ONE_MINUS = "one_minus"
    INVERSE = "inverse"
    VARIANCE = "variance"


class InductionAccuracy(StrEnum):
    """What an induction answer earns for its hidden pairs."""

    BINARY = "binary"
    SHARE = "share"


class Imports(StrEnum):
    """A rule for what programs may import; the lists are in tasks.reasoning.imports."""

    PURE = "pure"
    PAPER = "paper"


class CurriculumConfig(Section):
    """What an iteration proposes and solves."""

    modes: Annotated[
        tuple[Mode, ...], Key.IDENTITY, Field(min_length=1, description="kinds of task, among " + ", ".join(MODES))
    ] = MODES
    templates: Annotated[
        str, Key.IDENTITY, Field(min_length=1, description="prompt template set: nano (compact markers) or paper (R1)")
    ] = "nano"
    proposals: Annotated[
        int, Key.IDENTITY, Field(ge=1, le=65536, description="proposals per mode and iteration (paper: 64)")
    ] = 16
    references_min: Annotated[
        int, Key.IDENTITY, Field(ge=0, le=64, description="fewest earlier tasks shown to a proposer (paper: 6)")
    ] = 1
    references_max: Annotated[
        int, Key.IDENTITY, Field(ge=0, le=64, description="most earlier tasks shown to a proposer (paper: 6)")
    ] = 2
    inputs: Annotated[int, Key.IDENTITY, Field(ge=2, le=64, description="inputs of an induction task (paper: 10)")] = 6
    visible: Annotated[
        int, Key.IDENTITY, Field(ge=1, le=63, description="pairs that an induction solver is shown (paper: 5)")
    ] = 3
    probes: Annotated[
        int, Key.IDENTITY, Field(ge=2, le=1024, description="solver rollouts per new valid task (paper: 8)")
    ] = 8
    buffer_tasks: Annotated[
        int,
        Key.IDENTITY,
        Field(ge=0, le=65536, description="earlier tasks solved again per mode and iteration (paper: 64)"),
    ] = 16
    buffer_samples: Annotated[
        int, Key.IDENTITY, Field(ge=1, le=1024, description="solver rollouts per earlier task (paper: 1)")
    ] = 1
    allow_constant: Annotated[
        bool, Key.IDENTITY, Field(description="accept induction tasks whose outputs are all equal (paper: true)")
    ] = True
    allow_leak: Annotated[
        bool, Key.IDENTITY, Field(description="accept induction messages that contain the program (paper: true)")
    ] = False

    @field_validator("modes")
    @classmethod
    def _usable_modes(cls, modes: tuple[Mode, ...]) -> tuple[Mode, ...]:
        unknown = [mode.value for mode in modes if mode not in MODES]
        if unknown:
            raise ValueError(f"mode {unknown[0]} has no rules; choose among {', '.join(MODES)}")
        if len(set(modes)) < len(modes):
            raise ValueError(f"each mode once, please: {', '.join(modes)}")
        if _PROGRAM_GIVERS.isdisjoint(modes):
            raise ValueError(f"induction needs the programs of deduction or abduction; modes is {', '.join(modes)}")
        return tuple(mode for mode in MODES if mode in modes)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.references_min > self.references_max:
            raise ValueError(
                f"references_min ({self.references_min}) must not exceed references_max ({self.references_max})"
            )
        if self.visible >= self.inputs:
            raise ValueError(
                f"visible ({self.visible}) must be below inputs ({self.inputs}): the hidden pairs decide an answer"
            )
        return self


class BootstrapConfig(Section):
    """Iteration 0: how the buffers are seeded from the identity triplet."""

    wanted: Annotated[
        int, Key.IDENTITY, Field(ge=1, le=65536, description="seed tasks wanted per mode (paper: 256)")
    ] = 16
    proposals: Annotated[
        int, Key.IDENTITY, Field(ge=1, le=65536, description="proposals per mode and round (paper: 64)")
    ] = 32
    max_rounds: Annotated[
        int, Key.IDENTITY, Field(ge=1, le=255, description="rounds after which the run stops for lack of seeds")
    ] = 12
    identity_input: Annotated[
        str,
        Key.IDENTITY,
        Field(
            min_length=1,
            max_length=200,
            description="input and output of the first task, the identity function: one literal (paper: 'Hello world')",
        ),
    ] = "'pqr'"

    @field_validator("identity_input")
    @classmethod
    def _literal(cls, text: str) -> str:
        try:
            return canonical(parse_value(text))
        except Refused as error:
            raise ValueError(f"must be one Python literal such as \"'pqr'\" with its quotes: {error}") from None


class RewardConfig(Section):
    """The ladder of rewards (arXiv 2505.03335, equations 4 to 6)."""

    format: Annotated[float, Key.IDENTITY, Field(ge=-10, le=10, description="either role: broken format")] = -1.0
    invalid: Annotated[float, Key.IDENTITY, Field(ge=-10, le=10, description="proposer: rejected task")] = -1.0
    duplicate: Annotated[
        float, Key.IDENTITY, Field(ge=-10, le=10, description="proposer: exact duplicate of an earlier task")
    ] = -1.0
    unlearnable: Annotated[
        float, Key.IDENTITY, Field(ge=-10, le=10, description="proposer: valid task with learnability 0")
    ] = -0.5
    learnability: Annotated[
        Curve,
        Key.IDENTITY,
        Field(description="proposer, by the solve rate r: one_minus (1-r, 0 at r=0), inverse (1-r) or variance r(1-r)"),
    ] = Curve.ONE_MINUS
    wrong: Annotated[float, Key.IDENTITY, Field(ge=-10, le=10, description="solver: well-formed, wrong answer")] = -0.5
    induction: Annotated[
        InductionAccuracy,
        Key.IDENTITY,
        Field(description="solver: binary (1 when all hidden pairs are right) or share of the pairs right"),
    ] = InductionAccuracy.BINARY

    @model_validator(mode="after")
    def _ladder(self) -> Self:
        if not self.format <= self.wrong <= 0:
            raise ValueError(f"format ({self.format}) <= wrong ({self.wrong}) <= 0 must hold")
        if not max(self.format, self.invalid, self.duplicate) <= self.unlearnable <= 0:
            raise ValueError(
                f"format ({self.format}), invalid ({self.invalid}) and duplicate ({self.duplicate}) must not exceed "
                f"unlearnable ({self.unlearnable}), and that must not exceed 0"
            )
        return self


class SandboxConfig(Section):
    """Limits on what a model writes, and how programs are run."""

    validate_cpu_s: Annotated[
        float, Key.IDENTITY, Field(gt=0, le=600, description="CPU seconds a proposed program may take, all its inputs")
    ] = 1.0
    verify_cpu_s: Annotated[
        float, Key.IDENTITY, Field(gt=0, le=600, description="CPU seconds a program may take while answers are judged")
    ] = 4.0
    memory_mb: Annotated[int, Key.IDENTITY, Field(ge=64, le=65536, description="MiB of memory of one program")] = 256
    output_bytes: Annotated[
        int, Key.IDENTITY, Field(ge=64, le=65536, description="bytes that all the results of a program may take")
    ] = 65536
    max_program_chars: Annotated[int, Key.IDENTITY, Field(ge=16, description="longest program proposed")] = 4000
    max_value_chars: Annotated[
        int, Key.IDENTITY, Field(ge=8, description="longest input or output of a task, as literal text")
    ] = 1000
    max_message_chars: Annotated[int, Key.IDENTITY, Field(ge=8, description="longest induction message")] = 1000
    imports: Annotated[
        Imports,
        Key.IDENTITY,
        Field(
            description="modules that programs may import: pure (those that always compute the same) or paper (all but "
            "those that the paper bans)"
        ),
    ] = Imports.PURE
    allow_imports: Annotated[
        tuple[str, ...], Key.IDENTITY, Field(description="modules allowed besides, such as datetime or urllib.request")
    ] = ()
    workers: Annotated[
        int, Key.OPERATIONAL, Field(ge=0, le=1024, description="programs run at a time; 0: one per core")
    ] = 0
    allow_unsafe: Annotated[
        bool,
        Key.OPERATIONAL,
        Field(
            description="run programs although this machine has no seccomp filter; anything they do is then possible"
        ),
    ] = False

    @model_validator(mode="after")
    def _slower_than_accepted(self) -> Self:
        if self.validate_cpu_s > self.verify_cpu_s:
            raise ValueError(
                f"validate_cpu_s ({self.validate_cpu_s}) must not exceed verify_cpu_s ({self.verify_cpu_s}): "
                "a task near the limit would be accepted and then time out on its own answer"
            )
        return self
