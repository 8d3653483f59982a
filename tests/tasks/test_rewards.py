import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.ids import Mode
from tasks.config import Curve, InductionAccuracy, RewardConfig
from tasks.reasoning.checks import Rejection
from tasks.reasoning.modes import MODES
from tasks.reasoning.parsing import Format
from tasks.reasoning.rewards import (
    CURVES,
    Earned,
    Rung,
    accepted_reward,
    rejected_reward,
    rule_name,
    solver_reward,
)

PAPER = RewardConfig()
OTHER = RewardConfig(
    format=-4, invalid=-3, duplicate=-2, unlearnable=-0.25, wrong=-0.75, induction=InductionAccuracy.SHARE,
    learnability=Curve.VARIANCE,
)  # fmt: skip


@pytest.mark.parametrize(
    ("config", "mode", "parsed", "passed", "checks", "expected"),
    [
        (PAPER, Mode.DEDUCTION, Format.OK, 1, 1, Earned(total=1.0, rung=Rung.CORRECT, accuracy=1.0)),
        (PAPER, Mode.DEDUCTION, Format.OK, 0, 1, Earned(total=-0.5, rung=Rung.WRONG, accuracy=0.0)),
        (PAPER, Mode.ABDUCTION, Format.OK, 0, 0, Earned(total=-0.5, rung=Rung.WRONG, accuracy=0.0)),
        (PAPER, Mode.ABDUCTION, Format.TRUNCATED, 0, 0, Earned(total=-1.0, rung=Rung.FORMAT, accuracy=0.0)),
        (PAPER, Mode.INDUCTION, Format.OK, 5, 5, Earned(total=1.0, rung=Rung.CORRECT, accuracy=1.0)),
        (PAPER, Mode.INDUCTION, Format.OK, 4, 5, Earned(total=-0.5, rung=Rung.WRONG, accuracy=0.0)),
        (OTHER, Mode.INDUCTION, Format.OK, 3, 4, Earned(total=0.75, rung=Rung.CORRECT, accuracy=0.75)),
        (OTHER, Mode.INDUCTION, Format.OK, 0, 4, Earned(total=-0.75, rung=Rung.WRONG, accuracy=0.0)),
        (OTHER, Mode.INDUCTION, Format.OK, 4, 4, Earned(total=1.0, rung=Rung.CORRECT, accuracy=1.0)),
        (OTHER, Mode.DEDUCTION, Format.OK, 1, 1, Earned(total=1.0, rung=Rung.CORRECT, accuracy=1.0)),
        (OTHER, Mode.DEDUCTION, Format.EMPTY, 0, 0, Earned(total=-4.0, rung=Rung.FORMAT, accuracy=0.0)),
    ],
)
def test_solver(config, mode, parsed, passed, checks, expected):
    assert solver_reward(config, mode, parsed, passed=passed, checks=checks) == expected


@pytest.mark.parametrize("rejection", list(Rejection))
def test_rejected_proposals(rejection):
    rung = Rung.FORMAT if rejection is Rejection.MALFORMED else Rung.INVALID
    special = {Rejection.MALFORMED: -4.0, Rejection.DUPLICATE: -2.0}
    assert rejected_reward(PAPER, rejection) == Earned(total=-1.0, rung=rung)
    assert rejected_reward(OTHER, rejection) == Earned(total=special.get(rejection, -3.0), rung=rung)


@pytest.mark.parametrize(
    ("curve", "solved", "probes", "total", "rung", "learnability"),
    [
        (Curve.ONE_MINUS, 0, 8, -0.5, Rung.UNLEARNABLE, 0.0),
        (Curve.ONE_MINUS, 1, 8, 0.875, Rung.LEARNABLE, 0.875),
        (Curve.ONE_MINUS, 6, 8, 0.25, Rung.LEARNABLE, 0.25),
        (Curve.ONE_MINUS, 8, 8, -0.5, Rung.UNLEARNABLE, 0.0),
        (Curve.INVERSE, 0, 4, 1.0, Rung.LEARNABLE, 1.0),
        (Curve.INVERSE, 3, 4, 0.25, Rung.LEARNABLE, 0.25),
        (Curve.INVERSE, 4, 4, -0.5, Rung.UNLEARNABLE, 0.0),
        (Curve.VARIANCE, 0, 4, -0.5, Rung.UNLEARNABLE, 0.0),
        (Curve.VARIANCE, 1, 4, 0.1875, Rung.LEARNABLE, 0.1875),
        (Curve.VARIANCE, 2, 4, 0.25, Rung.LEARNABLE, 0.25),
        (Curve.VARIANCE, 4, 4, -0.5, Rung.UNLEARNABLE, 0.0),
    ],
)
def test_valid_proposals(curve, solved, probes, total, rung, learnability):
    expected = Earned(total=total, rung=rung, solve_rate=solved / probes, probes=probes, learnability=learnability)
    assert accepted_reward(RewardConfig(learnability=curve), solved=solved, probes=probes) == expected


def test_the_configured_rung_is_used():
    assert accepted_reward(OTHER, solved=4, probes=4).total == -0.25


@pytest.mark.parametrize(("solved", "probes"), [(0, 0), (3, 2), (-1, 2)])
def test_impossible_counts_are_a_fault_of_the_caller(solved, probes):
    with pytest.raises(ValueError, match=f"{solved} of {probes} probes"):
        accepted_reward(PAPER, solved=solved, probes=probes)


def test_every_curve_has_its_function():
    assert set(CURVES) == set(Curve)


def test_the_rule_says_all_that_decides():
    assert rule_name(PAPER) == (
        "ladder format=-1 invalid=-1 duplicate=-1 unlearnable=-0.5 wrong=-0.5 learnability=one_minus induction=binary"
    )
    assert rule_name(OTHER) == (
        "ladder format=-4 invalid=-3 duplicate=-2 unlearnable=-0.25 wrong=-0.75 learnability=variance induction=share"
    )


@settings(derandomize=True, max_examples=200)
@given(curve=st.sampled_from(Curve), probes=st.integers(1, 64), data=st.data())
def test_the_ladder_is_a_ladder(curve, probes, data):
    solved = data.draw(st.integers(0, probes))
    earned = accepted_reward(RewardConfig(learnability=curve), solved=solved, probes=probes)
    assert earned.total == -0.5 or 0 < earned.total <= 1
    assert (earned.total > 0) is (earned.rung is Rung.LEARNABLE)
    for mode in MODES:
        answered = solver_reward(PAPER, mode, Format.OK, passed=solved, checks=probes)
        assert answered.total == (1.0 if solved == probes else -0.5)
