import numpy as np
import torch

from models.engines.draws import draw, uniforms


def test_uniforms_are_a_function_of_seed_and_step():
    seeds = np.array([0, 1, 2**63 - 1, 12345], dtype=np.uint64)
    first = uniforms(seeds, 3)
    assert np.array_equal(first, uniforms(seeds, 3))
    assert np.array_equal(uniforms(seeds[::-1], 3), first[::-1])
    assert not np.array_equal(uniforms(seeds, 4), first)
    # splitmix64 by hand, in Python's integers
    assert first[3] == (mix(mix(12345) + 4 * 0x9E3779B97F4A7C15) >> 16) / 2**48


def mix(key):
    key &= 2**64 - 1
    key = (key ^ key >> 30) * 0xBF58476D1CE4E5B9 & 2**64 - 1
    key = (key ^ key >> 27) * 0x94D049BB133111EB & 2**64 - 1
    return key ^ key >> 31


def test_uniforms_are_uniform_over_seeds_and_over_steps():
    over_seeds = uniforms(np.arange(20_000, dtype=np.uint64), 0)
    over_steps = np.concatenate([uniforms(np.array([7], dtype=np.uint64), step) for step in range(20_000)])
    for numbers in (over_seeds, over_steps):
        assert numbers.min() >= 0
        assert numbers.max() < 1
        counts = np.histogram(numbers, bins=50, range=(0, 1))[0]
        assert ((counts - 400) ** 2 / 400).sum() < 49 + 5 * 98**0.5
        assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.03


def test_draw_inverts_the_distribution():
    logits = torch.tensor([[0.25, 0.0, 0.5, 0.25]]).log().expand(6, 4)
    numbers = torch.tensor([0.0, 0.2499, 0.25, 0.7499, 0.75, 1 - 2**-48], dtype=torch.float64)
    drawn = draw(logits, temperatures_B=torch.ones(6), top_ps_B=torch.ones(6), uniforms_B=numbers)
    assert drawn.tokens_B.tolist() == [0, 0, 2, 2, 3, 3]  # a token without mass is never drawn
    assert torch.allclose(drawn.logprobs_B.exp(), torch.tensor([0.25, 0.25, 0.5, 0.5, 0.25, 0.25]))


def test_settings_are_per_row():
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log().expand(3, 3)
    drawn = draw(
        logits,
        temperatures_B=torch.tensor([0.0, 1.0, 0.5]),
        top_ps_B=torch.tensor([1.0, 0.7, 1.0]),
        uniforms_B=torch.tensor([0.99, 0.99, 0.99], dtype=torch.float64),
    )
    assert drawn.tokens_B.tolist() == [0, 1, 2]
    expected = torch.tensor([0.5, 0.3 / 0.8, 0.04 / (0.25 + 0.09 + 0.04)])
    assert torch.allclose(drawn.logprobs_B.exp(), expected, atol=1e-6)
