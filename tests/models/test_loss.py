import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.loss import Sampled, objective, score, token_metrics, token_weights

number = st.integers(-30, 30).map(lambda value: value / 10)
token = st.tuples(number, number, number, number, st.integers(0, 10).map(lambda value: value / 10))


def plain_loss(rows, *, clip, cap):
    total = 0.0
    for logprob, old, engine, advantage, weight in rows:
        ratio = math.exp(logprob - old)
        held = min(max(ratio, 1 - clip), 1 + clip)
        total -= weight * min(math.exp(old - engine), cap) * min(ratio * advantage, held * advantage)
    return total


def sampled(rows, dtype=torch.float64):
    logprobs, *rest = (torch.tensor(column, dtype=dtype) for column in zip(*rows, strict=True))
    return logprobs, Sampled(*rest)


@settings(derandomize=True, deadline=None)
@given(st.lists(token, min_size=1, max_size=8), st.sampled_from([0.1, 0.2]), st.sampled_from([1.0, 2.0]))
def test_loss_equals_a_plain_reference(rows, clip, cap):
    logprobs, others = sampled(rows)
    found = objective(logprobs, others, clip=clip, importance_cap=cap).loss
    assert float(found) == pytest.approx(plain_loss(rows, clip=clip, cap=cap), rel=1e-12, abs=1e-12)


@settings(derandomize=True, deadline=None)
@given(st.lists(token, min_size=1, max_size=5))
def test_gradient_equals_finite_differences(rows):
    logprobs, others = sampled(rows)
    logprobs.requires_grad_()
    objective(logprobs, others, clip=0.2, importance_cap=2.0).loss.backward()
    step = 1e-6
    for place, row in enumerate(rows):
        if min(abs(math.exp(row[0] - row[1]) - edge) for edge in (0.8, 1.2)) < 1e-4:
            continue  # the loss has a corner there
        higher, lower = rows.copy(), rows.copy()
        higher[place] = (row[0] + step, *row[1:])
        lower[place] = (row[0] - step, *row[1:])
        slope = (plain_loss(higher, clip=0.2, cap=2.0) - plain_loss(lower, clip=0.2, cap=2.0)) / (2 * step)
        assert float(logprobs.grad[place]) == pytest.approx(slope, rel=1e-5, abs=1e-7)


def test_first_step_by_hand():
    logprobs = torch.tensor([-1.0, -2.0], requires_grad=True)
    others = Sampled(logprobs.detach(), torch.tensor([-1.0, -4.0]), torch.tensor([1.0, -2.0]), torch.tensor([0.5, 0.5]))
    terms = objective(logprobs, others, clip=0.2, importance_cap=2.0)
    terms.loss.backward()
    # the second token's importance is exp(2) held at 2: loss = -(0.5 * 1 * 1 + 0.5 * 2 * -2) = 1.5
    assert terms.loss.item() == pytest.approx(1.5)
    assert logprobs.grad.tolist() == pytest.approx([-0.5, 2.0])
    assert terms.clipped_N.tolist() == [False, False]


def test_the_clip_stops_the_gradient_only_where_it_would_go_too_far():
    logprobs = torch.tensor([0.5, 0.5, -0.5, -0.5], requires_grad=True)
    others = Sampled(torch.zeros(4), torch.zeros(4), torch.tensor([1.0, -1.0, 1.0, -1.0]), torch.ones(4))
    terms = objective(logprobs, others, clip=0.2, importance_cap=2.0)
    terms.loss.backward()
    assert terms.clipped_N.tolist() == [True, False, False, True]
    assert logprobs.grad.tolist() == pytest.approx([0.0, math.exp(0.5), -math.exp(-0.5), 0.0])


def test_score_by_hand():
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    scored = score(logits, torch.tensor([1, 0]), temperature=1.0)
    assert scored.logprobs_N.tolist() == pytest.approx([math.log(3 / 4), math.log(1 / 2)])
    expected = -(math.log(1 / 4) / 4 + 3 * math.log(3 / 4) / 4)
    assert scored.entropy_N.tolist() == pytest.approx([expected, math.log(2)])
    halved = score(logits, torch.tensor([1, 0]), temperature=0.5)
    assert halved.logprobs_N[0].item() == pytest.approx(math.log(9 / 10))


def test_score_has_the_gradient_of_a_log_softmax():
    torch.manual_seed(0)
    logits = torch.randn(5, 7, dtype=torch.float32, requires_grad=True)
    scored = score(logits, torch.tensor([0, 6, 3, 3, 1]), temperature=0.7)
    scored.logprobs_N.sum().backward()
    onehot = torch.nn.functional.one_hot(torch.tensor([0, 6, 3, 3, 1]), 7)
    expected = (onehot - (logits.detach() / 0.7).softmax(-1)) / 0.7
    assert torch.allclose(logits.grad, expected, atol=1e-6)


def test_token_weights_by_hand():
    weights, lengths = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([1, 2, 5])
    assert token_weights(weights, lengths, per_token=False).tolist() == pytest.approx([0.5, 0.125, 0.05])
    # masses 0.5 + 0.5 + 1.25 = 2.25
    per_token = token_weights(weights, lengths, per_token=True)
    assert per_token.tolist() == pytest.approx([0.5 / 2.25, 0.25 / 2.25, 0.25 / 2.25])
    assert float((per_token * lengths).sum()) == pytest.approx(1)
    assert token_weights(torch.zeros(2), torch.tensor([1, 2]), per_token=True).tolist() == [0.0, 0.0]


def test_metrics_by_hand():
    old, engine = torch.tensor([-1.0, -2.0]), torch.tensor([-1.0, -4.0])
    others = Sampled(old, engine, torch.tensor([1.0, 1.0]), torch.tensor([0.5, 0.5]))
    terms = objective(old + torch.tensor([0.0, 0.5]), others, clip=0.2, importance_cap=2.0)
    found = token_metrics(others, torch.tensor([1.0, 3.0]), terms)
    assert found == pytest.approx(
        {
            "entropy": 2.0,
            "kl_engine": (math.exp(2) - 1 - 2) / 2,
            "mismatch": 1.0,
            "mismatch_max": 2.0,
            "importance": 1.5,
            "importance_capped": 0.5,
            "ratio_max": math.exp(0.5),
            "clip_fraction": 0.5,
        },
        rel=1e-6,
    )
