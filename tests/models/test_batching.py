import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.batching import micro_batches, prepare
from models.config import Averaging, UpdateConfig
from models.samples import Sample
from storage.ids import Mode, Role


def test_batches_by_hand():
    assert micro_batches([5, 2, 9, 2, 4], 10) == [[1, 3], [4, 0], [2]]
    assert micro_batches([7, 7], 5) == [[0], [1]]
    assert micro_batches([], 5) == []


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 100))
def test_every_sample_once_and_within_the_bound(lengths, tokens):
    batches = micro_batches(lengths, tokens)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= tokens


def sample(prompt, completion, weight, advantage=1.0):
    return Sample(
        prompt_ids=prompt,
        completion_ids=completion,
        logprobs=[-float(token) for token in completion],
        advantage=advantage,
        weight=weight,
        role=Role.SOLVER,
        mode=Mode.DEDUCTION,
    )


@pytest.mark.parametrize(
    ("average", "weights"), [(Averaging.SAMPLE, [0.3, 0.3, 0.4]), (Averaging.TOKEN, [0.375, 0.375, 0.25])]
)
def test_tensors_by_hand(average, weights):
    samples = [sample([1, 2, 3], [4, 5], 0.6), sample([6, 7], [8], 0.4, advantage=-2.0)]
    (batch,) = prepare(samples, UpdateConfig(average=average), torch.device("cpu"))
    assert batch.ids_BT.tolist() == [[6, 7, 8, 0], [1, 2, 3, 4]]  # shortest first; the last token predicts nothing
    assert batch.keep == 3
    assert batch.mask_BK.tolist() == [[True, False, False], [False, True, True]]
    assert batch.targets_N.tolist() == [8, 4, 5]
    assert batch.samples_N.tolist() == [1, 0, 0]
    assert batch.engine_N.tolist() == [-8.0, -4.0, -5.0]
    assert batch.advantages_N.tolist() == [-2.0, 1.0, 1.0]
    assert batch.weights_N.tolist() == pytest.approx([weights[2], *weights[:2]])
