"""The ladder of rewards, for both roles (arXiv 2505.03335, section 3.1, equations 4 to 6).

Proposer: broken format, then rejected, then valid but nothing to learn (all or none of the probes solve it), then
learnability. Solver: broken format, then wrong, then accuracy. Every number comes from the config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from storage.ids import Mode
from tasks.config import Curve, InductionAccuracy, RewardConfig
from tasks.reasoning.checks import Rejection
from tasks.reasoning.modes import MODES, Pairs
from tasks.reasoning.parsing import Format


class Rung(StrEnum):
    """Which rung of the ladder decided a reward."""

    FORMAT = "format"
    INVALID = "invalid"
    UNLEARNABLE = "unlearnable"
    LEARNABLE = "learnable"
    WRONG = "wrong"
    CORRECT = "correct"


@dataclass(frozen=True, slots=True, kw_only=True)
class Earned:
    """A reward and the parts it was computed from; parts that do not apply are None."""

    total: float
    rung: Rung
    accuracy: float | None = None
    solve_rate: float | None = None
    probes: int | None = None
    learnability: float | None = None


def _one_minus(rate: float) -> float:
    return 1 - rate if rate > 0 else 0.0


def _inverse(rate: float) -> float:
    return 1 - rate


def _variance(rate: float) -> float:
    return rate * (1 - rate)


CURVES: dict[Curve, Callable[[float], float]] = {
    Curve.ONE_MINUS: _one_minus,
    Curve.INVERSE: _inverse,
    Curve.VARIANCE: _variance,
}


def rule_name(config: RewardConfig) -> str:
    """The reward rule in words, every value that decides a reward included."""
    rungs = " ".join(
        f"{name}={str(value).removesuffix('.0')}"
        for name, value in (
            ("format", config.format),
            ("invalid", config.invalid),
            ("duplicate", config.duplicate),
            ("unlearnable", config.unlearnable),
            ("wrong", config.wrong),
        )
    )
    return f"ladder {rungs} learnability={config.learnability} induction={config.induction}"


def solver_reward(config: RewardConfig, mode: Mode, parsed: Format, *, passed: int, checks: int) -> Earned:
    """The reward of one answer.

    Args:
        config: the ladder.
        mode: the task's mode; only modes with several pairs can be partly right.
        parsed: how the completion parsed.
        passed: checks passed.
        checks: checks made; an answer that could not be checked at all (0) is wrong.
    """
    if parsed is not Format.OK:
        return Earned(total=config.format, rung=Rung.FORMAT, accuracy=0.0)
    share = passed / checks if checks else 0.0
    partial = config.induction is InductionAccuracy.SHARE and MODES[mode].pairs is Pairs.SEVERAL
    accuracy = share if partial else float(share == 1)
    if accuracy == 0:
        return Earned(total=config.wrong, rung=Rung.WRONG, accuracy=0.0)
    return Earned(total=accuracy, rung=Rung.CORRECT, accuracy=accuracy)


def rejected_reward(config: RewardConfig, rejection: Rejection) -> Earned:
    """The reward of a proposal that is no valid task."""
    if rejection is Rejection.MALFORMED:
        return Earned(total=config.format, rung=Rung.FORMAT)
    return Earned(
        total=config.duplicate if rejection is Rejection.DUPLICATE else config.invalid,
        rung=Rung.INVALID,
    )


def accepted_reward(config: RewardConfig, *, solved: int, probes: int) -> Earned:
    """The reward of a valid task.

    Args:
        config: the ladder.
        solved: probes whose answer was judged correct.
        probes: probes made.

    Raises:
        ValueError: no probes, or more solved than made.
    """
    if not 0 <= solved <= probes or probes < 1:
        raise ValueError(f"{solved} of {probes} probes solved")
    rate = solved / probes
    learnability = CURVES[config.learnability](rate)
    learnable = learnability > 0
    return Earned(
        total=learnability if learnable else config.unlearnable,
        rung=Rung.LEARNABLE if learnable else Rung.UNLEARNABLE,
        solve_rate=rate,
        probes=probes,
        learnability=learnability,
    )
