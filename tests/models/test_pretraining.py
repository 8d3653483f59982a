from itertools import islice

import pytest
import torch
from torch.nn.functional import cross_entropy

from models.architecture import new_model
from models.pretraining import (
    Example,
    Progress,
    Schedule,
    length,
    micro_batches,
    new_trainer,
    padded,
    resume,
    save,
    saved_schedule,
    train,
)
from storage.errors import EngineError
from storage.seeds import rng

VOCABULARY = 40
SCHEDULE = Schedule(tokens=12_000, micro_tokens=256, batches=((0, 256), (6000, 512)), warmup_steps=5)


def source(first):
    """Blocks of 60 examples: a prompt of random ids, and its copy to be learnt."""
    number = first
    while True:
        draw = rng("toy", number)
        prompts = [[draw.randrange(3, VOCABULARY) for _ in range(draw.randint(2, 9))] for _ in range(60)]
        yield [Example(prompt, [*prompt, 1], f"copy{len(prompt) % 2}") for prompt in prompts]
        number += 1


def model(seed=0, hidden=32):
    return new_model(vocabulary=VOCABULARY, end=1, pad=0, seed=seed, hidden=hidden, layers=1)


def test_schedule_of_batches_and_rates():
    schedule = Schedule(tokens=10_000_000)
    assert [schedule.batch_tokens(at) for at in (0, 2_999_999, 3_000_000, 9_000_000)] == [1024, 1024, 2048, 4096]
    assert schedule.pace(0, 0) == pytest.approx(0.01)
    assert schedule.pace(500, 6_000_000) == pytest.approx(1)
    assert schedule.pace(5000, 8_000_000) == pytest.approx(0.5)
    assert schedule.pace(9000, 10_000_000) == pytest.approx(0.02)


def test_micro_batches_hold_every_example_once_within_their_size():
    block = next(source(0))
    groups = micro_batches(block, 128, seed=1, number=0)
    assert sorted(map(repr, block)) == sorted(repr(example) for group in groups for example in group)
    for group in groups:
        assert len({padded(example) for example in group}) == 1
        assert len(group) * padded(group[0]) <= 128
        assert all(length(example) <= padded(group[0]) for example in group)
    assert groups == micro_batches(block, 128, seed=1, number=0)
    assert groups != micro_batches(block, 128, seed=1, number=1)


def test_reported_loss_is_the_mean_over_completion_tokens():
    trainer = new_trainer(model(), Schedule(tokens=100, micro_tokens=256, learning_rate=1e-12, batches=((0, 1 << 20),)))
    losses = train(trainer, source).losses
    sums: dict[str, list[float]] = {"copy0": [], "copy1": []}
    for prompt, completion, kind in next(source(0)):
        ids = torch.tensor([[*prompt, *completion]])
        with torch.no_grad():
            logits = trainer.model(ids).logits[0, len(prompt) - 1 : -1]
        sums[kind] += cross_entropy(logits, torch.tensor(completion), reduction="none").tolist()
    for kind, each in sums.items():
        assert losses[kind] == pytest.approx(sum(each) / len(each), rel=5e-3)


def test_training_learns_and_leaves_the_matrix_setting_alone():
    trainer = new_trainer(model(), SCHEDULE)
    seen: list[Progress] = []
    done = train(trainer, source, report=seen.append)
    assert done == seen[-1]
    assert done.tokens >= SCHEDULE.tokens
    assert done.losses["copy0"] < 0.95 * seen[0].losses["copy0"]
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_run_that_was_stopped_goes_on_to_the_same_losses_and_weights(tmp_path):
    whole = new_trainer(model(), SCHEDULE)
    uninterrupted: list[Progress] = []
    train(whole, source, report=uninterrupted.append)

    state = tmp_path / "state.safetensors"
    first = new_trainer(model(), SCHEDULE)
    train(first, source, stop=lambda progress: progress.block == 3)
    save(first, state)
    second = new_trainer(model(seed=9), saved_schedule(state))
    assert second.schedule == SCHEDULE
    assert resume(second, state).block == 3
    later: list[Progress] = []
    train(second, source, report=later.append)

    assert [progress.losses for progress in later] == [progress.losses for progress in uninterrupted[3:]]
    assert [progress.step for progress in later] == [progress.step for progress in uninterrupted[3:]]
    for one, two in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_state_of_another_model_is_refused(tmp_path):
    save(new_trainer(model(), SCHEDULE), tmp_path / "state.safetensors")
    with pytest.raises(EngineError, match="choose another --out"):
        resume(new_trainer(model(hidden=64), SCHEDULE), tmp_path / "state.safetensors")


def test_weights_are_a_function_of_the_seed():
    one, two, three = model(1), model(1), model(2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.get_input_embeddings().weight, three.get_input_embeddings().weight)


def test_the_toy_source_can_begin_anywhere():
    assert list(islice(source(0), 3))[2] == next(source(2))
