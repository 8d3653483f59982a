"""Which checkpoints may go: every k-th and the last stay, forks are owners, and room is left unused by nobody."""

import pytest

from models.manifest import checkpoint_name
from models.retention import kept, spare_checkpoints, trainable
from storage.config import RetentionConfig
from storage.ids import Stage
from storage.retention import What
from storage.seals import Seal, Timings

WEIGHTS, STATE = 100, 300  # bytes


def policy(number):
    return f"{number:064x}"[::-1]


def update(number):
    return Seal(
        run="r", iteration=number, round=0, stage=Stage.UPDATE, attempt=1, code_version="", config_hash="", seeds={},
        inputs={}, outputs={}, artifacts={"policy": policy(number), "optimizer": f"o{number}"}, host={},
        timings=Timings(started_us=0, finished_us=0, cpu_us=0), flow_run_id=None, before={},
    )  # fmt: skip


def publish(run, name, *, state=True):
    place = run / "checkpoints" / name
    (place / "optimizer").mkdir(parents=True)
    (place / "model.safetensors").write_bytes(bytes(WEIGHTS))
    if state:
        (place / "optimizer" / "state.safetensors").write_bytes(bytes(STATE))
    else:
        (place / "optimizer").rmdir()


@pytest.fixture
def run(tmp_path):
    for number in range(1, 8):
        publish(tmp_path, checkpoint_name(number, policy(number)))
    return tmp_path


UPDATES = {number: update(number) for number in range(1, 8)}
NO_ROOM = {"room_gb": 0, "checkpoints_last": 2, "checkpoints_every": 3, "optimizer_last": 1, "optimizer_every": 6}


def spare(run, held=(), updates=UPDATES, **config):
    found = spare_checkpoints(run, updates, RetentionConfig(**(NO_ROOM | config)), held)
    return [(thing.what, thing.at.iteration, thing.bytes) for thing in found]


def test_states_go_first_then_checkpoints_oldest_first(run):
    states = [(What.OPTIMIZER, number, STATE) for number in (1, 2, 3, 4, 5)]
    assert spare(run) == states + [(What.CHECKPOINT, number, WEIGHTS) for number in (1, 2, 4, 5)]


def test_hashes_and_paths_are_those_of_the_seals(run):
    first, *_, last = spare_checkpoints(run, UPDATES, RetentionConfig(**NO_ROOM), ())
    assert (first.hash, last.hash) == ("o1", policy(5))
    assert first.path == f"checkpoints/{checkpoint_name(1, policy(1))}/optimizer"
    assert last.path == f"checkpoints/{checkpoint_name(5, policy(5))}"
    assert "checkpoints_every = 3" in last.policy


def test_what_a_fork_starts_from_is_kept_whole(run):
    assert {number for _, number, _ in spare(run, held={2, 4})} == {1, 3, 5}


@pytest.mark.parametrize(("room", "number"), [(7 * 400, 0), (7 * 400 - 1, 1), (5 * 400, 3), (0, 9)])
def test_no_more_goes_than_the_room_asks_for(run, room, number):
    assert len(spare(run, room_gb=room / 1e9)) == number


def test_what_a_killed_attempt_published_goes_unless_it_may_still_be_sealed(run):
    publish(run, "000003-ffffffffffff")
    publish(run, "000008-ffffffffffff")
    (run / "checkpoints" / "000001-mine").mkdir()
    assert spare(run, room_gb=9) == [(What.UNSEALED, 3, WEIGHTS + STATE)]


def test_a_parents_checkpoints_count_but_lie_elsewhere(tmp_path):
    for number in (6, 7):
        publish(tmp_path, checkpoint_name(number, policy(number)))
    assert spare(tmp_path) == []
    assert spare(tmp_path, updates=UPDATES | {8: update(8), 9: update(9)}) == [
        (What.OPTIMIZER, 7, STATE),
        (What.CHECKPOINT, 7, WEIGHTS),
    ]


def test_training_starts_from_a_checkpoint_that_has_its_state_and_is_not_listed(run):
    path = f"checkpoints/{checkpoint_name(3, policy(3))}"
    gone = {thing.path: thing for thing in spare_checkpoints(run, UPDATES, RetentionConfig(**NO_ROOM), ())}
    assert trainable(run, UPDATES[3], {})
    assert not trainable(run, UPDATES[3], {f"{path}/optimizer": gone[f"{path}/optimizer"]})
    assert not trainable(run, update(9), {})


@pytest.mark.parametrize(
    ("iterations", "last", "every", "wanted"),
    [((), 2, 3, set()), (range(1, 8), 2, 0, {6, 7}), (range(1, 8), 1, 3, {3, 6, 7}), ((4, 9), 5, 2, {4, 9})],
)
def test_the_last_and_every_kth_are_kept(iterations, last, every, wanted):
    assert kept(iterations, last, every) == wanted
