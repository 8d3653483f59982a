"""From rewards to advantages, weights and a checkpoint, against values worked out by hand."""

from collections.abc import Iterator
from math import sqrt

import pytest

from models.manifest import read_manifest
from models.policy import count_parameters, policy_hash, resolve_base
from storage import ids
from storage.errors import EngineError
from storage.ids import Position, Role, Stage
from storage.ledger import Ledger
from storage.records import Advantage, Checkpoint, Reward, Rollout, UpdateMetric
from tasks.propose import propose

FIRST, SECOND = (Position(number, Stage.UPDATE) for number in (1, 2))
PLUS = "def f(a):\n    return a + 1"
TASK = f"<|program|>{PLUS}<|input|>1"
MODES = {"modes": ["deduction", "abduction"]}

LINES = {
    # deduction: one task that half of the probes solve (0.5), one that breaks the format (-1)
    "1-ded-000": TASK,
    "1-ded-001": "no",
    "1-ded-000:0": "<|output|>2",
    "1-ded-000:1": "<|output|>3",
    "1-ded-002:0": "<|output|>'pqr'",
    # abduction: one task that all the probes solve (-0.5), one that breaks the format (-1)
    "1-abd-000": TASK,
    "1-abd-001": "no",
    "1-abd-000:0": "<|input|>1",
    "1-abd-000:1": "<|input|>a=1",
    "1-abd-002:0": "<|input|>'pqr'",
    # the next iteration has a task that no probe solves (-0.5) beside one that is none (-1)
    "2-ded-000": "<|program|>def f(a):\n    return a * 2<|input|>1",
}
HALF = sqrt(0.5)

# id: reward, advantage, baseline, scale, weight. Each role has 1/2: four proposals share one half, and so do the four
# tasks solved, of which the two new ones split theirs between two probes.
BY_HAND = {
    "1-ded-000": (0.5, 1.0, -0.25, 0.75, 1 / 8),
    "1-ded-001": (-1.0, -1.0, -0.25, 0.75, 1 / 8),
    "1-abd-000": (-0.5, 1.0, -0.75, 0.25, 1 / 8),
    "1-abd-001": (-1.0, -1.0, -0.75, 0.25, 1 / 8),
    "1-ded-000:0": (1.0, HALF, 0.5, HALF, 1 / 16),
    "1-ded-000:1": (-0.5, -2 * HALF, 0.5, HALF, 1 / 16),
    "1-ded-002:0": (1.0, HALF, 0.5, HALF, 1 / 8),
    "1-abd-000:0": (1.0, 0.0, 1.0, 0.0, 1 / 16),
    "1-abd-000:1": (1.0, 0.0, 1.0, 0.0, 1 / 16),
    "1-abd-002:0": (1.0, 0.0, 1.0, 0.0, 1 / 8),
}


@pytest.fixture(scope="module")
def ledger(loop, tmp_path_factory) -> Iterator[Ledger]:
    config = loop.config(curriculum=MODES)
    with loop.open(tmp_path_factory.mktemp("runs"), config, loop.play(config, LINES, otherwise="no")) as work:
        loop.bootstrap(work)
        loop.iterate(work, 1)
        loop.iterate(work, 2)
        yield work.ledger


def test_the_rewards_are_those_of_the_table(ledger):
    rewards = ledger.read(Reward, FIRST._replace(stage=Stage.VERIFY))
    assert {ids.text(row.rollout_id): row.total for row in rewards} == {name: row[0] for name, row in BY_HAND.items()}


@pytest.mark.parametrize("name", BY_HAND)
def test_advantages_and_weights(loop, ledger, name):
    row = loop.named(ledger.read(Advantage, FIRST), name)
    found = (row.advantage, row.baseline, row.scale, row.weight)
    assert found == pytest.approx(BY_HAND[name][1:], abs=1e-12)
    assert row.role is (Role.SOLVER if ":" in name else Role.PROPOSER)


def test_probes_of_a_new_task_count_together_as_an_earlier_task_does(ledger):
    rollouts = ledger.read(Rollout, FIRST._replace(stage=Stage.SOLVE))
    weights = {row.rollout_id: row.weight for row in ledger.read(Advantage, FIRST)}
    shares: dict[tuple[str, int], float] = {}
    for row in rollouts:
        key = (row.source, row.task_id)
        shares[key] = shares.get(key, 0.0) + weights[row.rollout_id]
    assert sorted(source for source, _ in shares) == ["buffer", "buffer", "new", "new"]
    assert set(shares.values()) == {1 / 8}
    assert sum(weights.values()) == pytest.approx(1)


def test_the_checkpoint_is_the_base_one_step_on(ledger):
    row = ledger.read(Checkpoint, FIRST)[0]
    directory = ledger.directory / row.directory
    manifest = read_manifest(directory)
    base = resolve_base("nano")
    assert row.policy == manifest.policy == policy_hash(directory) != policy_hash(base)
    assert (row.parent, row.optimizer) == (policy_hash(base), manifest.optimizer)
    assert (row.optimizer_steps, row.parameters) == (1, count_parameters(base))
    assert row.directory == f"checkpoints/000001-{row.policy[:12]}"
    assert dict(ledger.seal_of(FIRST).artifacts) == {"policy": row.policy, "optimizer": row.optimizer}


def test_the_next_update_goes_on_from_it(ledger):
    first, second = (ledger.read(Checkpoint, at)[0] for at in (FIRST, SECOND))
    assert (second.parent, second.optimizer_steps) == (first.policy, 2)
    rollouts = ledger.read(Rollout, SECOND._replace(stage=Stage.SOLVE))
    assert {(row.policy, row.policy_iteration) for row in rollouts} == {(first.policy, 1)}


def test_the_metrics_of_the_whole_update_are_there(ledger):
    found = {row.name: row.value for row in ledger.read(UpdateMetric, FIRST) if row.role == row.mode == "all"}
    assert (found["samples"], found["optimizer_step"]) == (10, 1)
    assert found["grad_norm"] > 0
    rows = [row for row in ledger.read(UpdateMetric, FIRST) if row.name == "weight"]
    assert {(row.role, row.mode): row.value for row in rows} == {
        ("all", "all"): 1.0,
        ("proposer", "deduction"): 0.25,
        ("proposer", "abduction"): 0.25,
        ("solver", "deduction"): 0.25,
        ("solver", "abduction"): 0.25,
    }


def test_roles_split_the_loss_as_the_config_says(loop, tmp_path):
    config = loop.config(curriculum=MODES, update={"proposer_weight": 3.0, "solver_weight": 1.0})
    with loop.open(tmp_path, config, loop.play(config, LINES)) as work:
        loop.bootstrap(work)
        loop.iterate(work, 1)
        rows = work.ledger.read(Advantage, FIRST)
    found = {ids.text(row.rollout_id): row.weight for row in rows}
    by_hand = {name: row[4] * (1.5 if ":" not in name else 0.5) for name, row in BY_HAND.items()}
    assert found == pytest.approx(by_hand)


def test_tokens_count_instead_of_samples_where_the_config_says_so(loop, tmp_path):
    """The completions have 48 and 3 tokens, the end token included, and rewards 0.5 and -1."""
    assert (len(TASK.encode()) + 1, len(b"no") + 1) == (48, 3)
    config = loop.config(curriculum=MODES, update={"whiten": "token"})
    with loop.open(tmp_path, config, loop.play(config, LINES)) as work:
        loop.bootstrap(work)
        loop.iterate(work, 1)
        row = loop.named(work.ledger.read(Advantage, FIRST), "1-ded-000")
    mean = (48 * 0.5 - 3) / 51
    variance = (48 * (0.5 - mean) ** 2 + 3 * (1 + mean) ** 2) / 50
    assert row.baseline == pytest.approx(mean)
    assert row.advantage == pytest.approx((0.5 - mean) / sqrt(variance + 1e-8))


def test_an_iteration_in_which_nothing_can_be_learned_publishes_the_same_weights(loop, tmp_path):
    config = loop.config(curriculum=MODES | {"buffer_tasks": 0})
    with loop.open(tmp_path, config, loop.play(config, {}, otherwise="no")) as work:
        loop.bootstrap(work)
        for number in (1, 2):
            loop.iterate(work, number)
        rows = [work.ledger.read(Checkpoint, at)[0] for at in (FIRST, SECOND)]
        assert work.ledger.read(Rollout, FIRST._replace(stage=Stage.SOLVE)) == []
        advantages = work.ledger.read(Advantage, FIRST)
        assert work.ledger.verify() == []
    assert [(row.advantage, row.weight) for row in advantages] == [(0.0, 1 / 4)] * 4
    assert {row.policy for row in rows} == {policy_hash(resolve_base("nano"))}
    assert [row.optimizer_steps for row in rows] == [0, 0]
    assert rows[0].directory != rows[1].directory


def test_a_checkpoint_whose_weights_were_changed_is_not_sampled_from(loop, tmp_path):
    config = loop.config(curriculum=MODES)
    with loop.open(tmp_path, config, loop.play(config, LINES, otherwise="")) as work:
        loop.bootstrap(work)
        loop.iterate(work, 1)
        row = work.ledger.read(Checkpoint, FIRST)[0]
        weights = work.ledger.directory / row.directory / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
        with pytest.raises(EngineError, match=f"Policy {row.policy[:12]} of iteration 1 should lie in"):
            propose(work, 2)
        assert work.ledger.seal_of(Position(2, Stage.PROPOSE)) is None
