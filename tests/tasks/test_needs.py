"""The order of an iteration: which stages there are, and which partitions each reads."""

from typing import NamedTuple

import pytest

from storage.errors import ConfigError, LedgerError
from storage.ids import Position, Stage
from storage.layout import order, parse_position
from tasks.needs import BASE, IDENTITY, last_round, needs, previous_update, require_stage, stages_of


class Seal(NamedTuple):
    """As much of a seal as is asked here."""

    iteration: int
    stage: Stage
    round: int


class Sealed:
    """As much of a ledger as is asked here: which positions have a seal, in order."""

    def __init__(self, *names: str) -> None:
        self._positions = sorted(map(parse_position, names), key=order)

    def sealed(self) -> list[Position]:
        return self._positions


BOOTSTRAPPED = Sealed("0.0/validate", "0.0/update", "0.1/propose", "0.1/validate", "0.2/propose", "0.2/validate")


def named(positions) -> list[str]:
    return [str(position) for position in positions]


@pytest.mark.parametrize(
    ("iteration", "round", "stages"),
    [
        (0, 0, ["0.0/update", "0.0/validate"]),
        (0, 1, ["0.1/propose", "0.1/validate"]),
        (0, 12, ["0.12/propose", "0.12/validate"]),
        (1, 0, ["1/propose", "1/validate", "1/solve", "1/verify", "1/update"]),
        (7, 0, ["7/propose", "7/validate", "7/solve", "7/verify", "7/update"]),
    ],
)
def test_the_stages_of_a_step_in_the_order_in_which_they_run(iteration, round, stages):
    assert named(stages_of(iteration, round)) == stages
    assert [require_stage(position) for position in stages_of(iteration, round)] == list(stages_of(iteration, round))


@pytest.mark.parametrize(
    ("at", "known"),
    [
        (Position(0, Stage.PROPOSE), "update, validate"),
        (Position(0, Stage.SOLVE, 3), "propose, validate"),
        (Position(0, Stage.UPDATE, 1), "propose, validate"),
        (Position(2, Stage.SOLVE, 1), "propose, validate, solve, verify, update"),
        (Position(-1, Stage.UPDATE), "update, validate"),
    ],
)
def test_a_stage_that_a_step_does_not_have_is_refused(at, known):
    with pytest.raises(ConfigError) as error:
        require_stage(at)
    assert str(error.value) == f"There is no stage {at}: here the stages are {known}. Nothing was written."


@pytest.mark.parametrize(
    ("at", "read"),
    [
        ("0.0/update", []),
        ("0.0/validate", []),
        ("0.1/propose", ["0.0/update", "0.0/validate"]),
        ("0.1/validate", ["0.1/propose"]),
        ("0.3/propose", ["0.0/update", "0.2/validate"]),
        ("1/propose", ["0.0/update", "0.2/validate"]),
        ("1/validate", ["1/propose"]),
        ("1/solve", ["0.0/update", "1/validate"]),
        ("1/verify", ["1/propose", "1/validate", "1/solve"]),
        ("1/update", ["0.0/update", "1/propose", "1/solve", "1/verify"]),
        ("2/propose", ["1/update", "1/validate"]),
        ("9/update", ["8/update", "9/propose", "9/solve", "9/verify"]),
    ],
)
def test_what_a_stage_reads(at, read):
    assert named(needs(BOOTSTRAPPED, parse_position(at))) == read


@pytest.mark.parametrize("iteration", [1, 2, 5])
def test_whatever_is_read_is_earlier_and_every_stage_is_reached_from_the_update(iteration):
    open_, reached = [Position(iteration, Stage.UPDATE)], set()
    while open_:
        at = open_.pop()
        for need in needs(BOOTSTRAPPED, at):
            assert order(need) < order(at)
            open_ += [need] if need not in reached else []
            reached.add(need)
    every = [at for number in range(1, iteration + 1) for at in stages_of(number)][:-1]
    assert reached == {*BOOTSTRAPPED.sealed(), *every}


def test_the_last_round_is_the_last_one_validated(loop, tmp_path):
    config = loop.config(bootstrap={"wanted": 9, "max_rounds": 2})
    with loop.open(tmp_path, config, loop.play(config, {}, otherwise="")) as work:
        assert last_round(work.ledger) == 0
        loop.bootstrap(work)
        assert last_round(work.ledger) == 2
        with pytest.raises(LedgerError, match=r"has no round 3: max_rounds is 2"):
            loop.stages[0](work, 0, 3)


def test_the_rounds_of_the_bootstrap_are_not_those_of_an_iteration(loop, tmp_path):
    config = loop.config(curriculum={"modes": ["deduction"]})
    with loop.open(tmp_path, config, loop.play(config, {}, otherwise="")) as work:
        assert loop.bootstrap(work) == 0
        loop.iterate(work, 1, until=Stage.VALIDATE)
        assert last_round(work.ledger) == 0


def test_the_checkpoint_before():
    assert previous_update(Position(0, Stage.PROPOSE, 4)) == previous_update(Position(1, Stage.SOLVE)) == BASE
    assert previous_update(Position(5, Stage.UPDATE)) == Position(4, Stage.UPDATE)
    assert Position(0, Stage.VALIDATE) == IDENTITY
