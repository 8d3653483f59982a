import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.advantages import Rewarded, advantages, loss_weights, shuffled
from models.config import Whitening
from storage.ids import Mode, Role


def rewarded(rewards, *, role=Role.SOLVER, mode=Mode.DEDUCTION, lengths=None, start=0, task=None, weight=1.0):
    lengths = lengths or [1] * len(rewards)
    return [
        Rewarded(
            rollout_id=start + number,
            task_id=start + number if task is None else task,
            role=role,
            mode=mode,
            reward=reward,
            length=length,
            weight=weight,
        )
        for number, (reward, length) in enumerate(zip(rewards, lengths, strict=True))
    ]


def test_sample_whitening_by_hand():
    rows = advantages(rewarded([1.0, 0.0, 0.0, -1.0]))  # mean 0, variance (1 + 0 + 0 + 1) / 4 = 1/2
    assert [row.advantage for row in rows] == pytest.approx([math.sqrt(2), 0, 0, -math.sqrt(2)])
    assert {row.baseline for row in rows} == {0.0}
    assert rows[0].scale == pytest.approx(math.sqrt(0.5))


def test_sample_weights_count_as_repeated_samples():
    heavy = rewarded([1.0], weight=3.0) + rewarded([-1.0], start=5)
    repeated = advantages(rewarded([1.0, 1.0, 1.0, -1.0]))  # mean 1/2, variance 3/4
    assert [row.advantage for row in advantages(heavy)] == pytest.approx([repeated[0].advantage, repeated[3].advantage])
    assert repeated[0].advantage == pytest.approx(0.5 / math.sqrt(0.75))


def test_token_whitening_by_hand():
    rows = advantages(rewarded([1.0, 0.0], lengths=[3, 1]), whiten=Whitening.TOKEN)
    scale = math.sqrt((3 * 0.25**2 + 0.75**2) / 3 + 1e-8)  # mean 3/4; four draws, Bessel: divided by three
    assert [row.baseline for row in rows] == [0.75, 0.75]
    assert [row.advantage for row in rows] == pytest.approx([0.25 / scale, -0.75 / scale], rel=1e-12)


def test_groups_are_whitened_apart():
    one = rewarded([1.0, 0.0])
    other = rewarded([5.0, 3.0], mode=Mode.ABDUCTION, start=10)
    third = rewarded([0.2, 0.4], role=Role.PROPOSER, start=20)
    rows = advantages([one[0], other[0], third[0], one[1], other[1], third[1]])
    assert [row.rollout_id for row in rows] == [0, 10, 20, 1, 11, 21]
    assert [row.advantage for row in rows] == pytest.approx([1, 1, -1, -1, -1, 1])
    assert [row.baseline for row in rows[:3]] == pytest.approx([0.5, 4.0, 0.3])


@pytest.mark.parametrize("whiten", list(Whitening))
@pytest.mark.parametrize("rewards", [[0.1], [0.1, 0.1, 0.1], [-1.0] * 7])
def test_no_variance_no_advantage(rewards, whiten):
    rows = advantages(rewarded(rewards, lengths=[5] * len(rewards)), whiten=whiten)
    assert {(row.advantage, row.baseline, row.scale) for row in rows} == {(0.0, rewards[0], 0.0)}


def test_nothing_gives_nothing():
    assert advantages([]) == []
    assert loss_weights([], role_weights={Role.SOLVER: 1.0, Role.PROPOSER: 1.0}) == []


grid = st.lists(st.integers(-8, 8).map(lambda number: number / 8), min_size=1, max_size=12)


@settings(derandomize=True, deadline=None)
@given(grid, st.sampled_from([-16.0, 0.5, 1024.0]), st.sampled_from(Whitening))
def test_a_shift_of_rewards_changes_nothing(rewards, shift, whiten):
    lengths = [1 + number % 3 for number in range(len(rewards))]
    plain = advantages(rewarded(rewards, lengths=lengths), whiten=whiten)
    moved = advantages(rewarded([reward + shift for reward in rewards], lengths=lengths), whiten=whiten)
    assert [row.advantage for row in moved] == pytest.approx([row.advantage for row in plain], abs=1e-9)


@settings(derandomize=True, deadline=None)
@given(grid, st.integers(0, 1000), st.sampled_from(Whitening))
def test_order_changes_nothing_to_the_last_bit(rewards, seed, whiten):
    rows = rewarded(rewards, lengths=[1 + number % 3 for number in range(len(rewards))])
    mixed = rows.copy()
    random.Random(seed).shuffle(mixed)
    plain = {row.rollout_id: row for row in advantages(rows, whiten=whiten)}
    assert all(row == plain[row.rollout_id] for row in advantages(mixed, whiten=whiten))


@settings(derandomize=True, deadline=None)
@given(grid)
def test_one_group_has_mean_0_and_deviation_1(rewards):
    values = [row.advantage for row in advantages(rewarded(rewards))]
    assert math.fsum(values) == pytest.approx(0, abs=1e-9)
    if len(set(rewards)) > 1:
        assert math.fsum(value**2 for value in values) / len(values) == pytest.approx(1)


def test_loss_weights_of_the_worked_example():
    proposals = rewarded([0.0, 0.0], role=Role.PROPOSER)
    probes = rewarded([0.0] * 4, task=100, start=10)
    buffer = rewarded([0.0], task=200, start=20, mode=Mode.INDUCTION)
    weights = loss_weights([*proposals, *probes, *buffer], role_weights={Role.PROPOSER: 1.0, Role.SOLVER: 1.0})
    assert weights == [1 / 4, 1 / 4, 1 / 16, 1 / 16, 1 / 16, 1 / 16, 1 / 4]


def test_loss_weights_follow_the_roles_weights():
    rows = rewarded([0.0], role=Role.PROPOSER) + rewarded([0.0, 0.0], start=5)
    assert loss_weights(rows, role_weights={Role.PROPOSER: 1.0, Role.SOLVER: 3.0}) == [0.25, 0.375, 0.375]
    assert loss_weights(rows, role_weights={Role.PROPOSER: 0.0, Role.SOLVER: 3.0}) == [0.0, 0.5, 0.5]
    assert loss_weights(rows[:1], role_weights={Role.PROPOSER: 2.0, Role.SOLVER: 3.0}) == [1.0]
    assert loss_weights(rows[:1], role_weights={Role.PROPOSER: 0.0, Role.SOLVER: 3.0}) == [0.0]


@settings(derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(Role), st.integers(0, 4)), min_size=1, max_size=30))
def test_loss_weights_sum_to_1(places):
    rows = [
        Rewarded(rollout_id=number, task_id=task, role=role, mode=Mode.DEDUCTION, reward=0.0, length=1)
        for number, (role, task) in enumerate(places)
    ]
    assert math.fsum(loss_weights(rows, role_weights={Role.PROPOSER: 1.0, Role.SOLVER: 2.0})) == pytest.approx(1)


def test_shuffled_rewards_are_the_same_rewards_within_each_group():
    rows = [
        *rewarded([float(at) for at in range(20)]),
        *rewarded([float(100 + at) for at in range(20)], role=Role.PROPOSER, start=50),
    ]
    dealt = shuffled(rows, random.Random(3))
    assert [row.rollout_id for row in dealt] == [row.rollout_id for row in rows]
    for half in (slice(0, 20), slice(20, 40)):
        assert sorted(row.reward for row in dealt[half]) == [row.reward for row in rows[half]]
        assert [row.reward for row in dealt[half]] != [row.reward for row in rows[half]]
    assert dealt == shuffled(rows, random.Random(3))
