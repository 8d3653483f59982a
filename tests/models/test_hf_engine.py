import dataclasses
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from models.config import EngineConfig
from models.engines.base import FinishReason, Request
from models.engines.hf import HfEngine
from models.policy import PolicyRef, policy_hash
from storage.errors import EngineError

PROMPTS = ["def f(x): return x", "a", "[1, 2]<|answer|>", "def f(x): return x", "éß"]


def request(prompt="ab", seed=1, temperature=1.0, top_p=1.0, max_tokens=24):
    return Request(prompt=prompt, seed=seed, temperature=temperature, top_p=top_p, max_tokens=max_tokens)


def engine_of(policy, rows=256):
    engine = HfEngine(EngineConfig(rows=rows, threads=1))
    engine.load(policy)
    return engine


def full_forward(policy, completion, temperature=1.0):
    """Log-probs of a completion by one plain forward pass of transformers."""
    model = AutoModelForCausalLM.from_pretrained(policy.directory).eval()
    ids = torch.tensor([completion.prompt_ids + completion.completion_ids])
    with torch.inference_mode():
        logprobs = (model(ids).logits[0] / temperature).log_softmax(-1)
    start = len(completion.prompt_ids)
    return [logprobs[start + at - 1, token].item() for at, token in enumerate(completion.completion_ids)]


def requests_of(count=20, **changes):
    return [request(PROMPTS[number % len(PROMPTS)], seed=number * 977, **changes) for number in range(count)]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_a_full_forward_pass(any_policy, temperature):
    completions = engine_of(any_policy).generate(requests_of(temperature=temperature))
    assert [completion.policy for completion in completions] == [any_policy.hash] * 20
    for completion in completions:
        assert 1 <= len(completion.completion_ids) == len(completion.logprobs) <= 24
        expected = full_forward(any_policy, completion, temperature)
        assert list(completion.logprobs) == pytest.approx(expected, abs=1e-5)


def test_greedy_tokens_are_those_of_generate(any_policy):
    found = engine_of(any_policy).generate(requests_of(5, temperature=0.0))
    model = AutoModelForCausalLM.from_pretrained(any_policy.directory).eval()
    for completion in found:
        ids = torch.tensor([completion.prompt_ids])
        wanted = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24)
        assert completion.completion_ids == tuple(wanted[0, ids.shape[1] :].tolist())


def test_same_requests_same_completions(any_policy):
    first, second = (engine_of(any_policy).generate(requests_of()) for _ in range(2))
    assert first == second


def test_tokens_do_not_depend_on_the_batch(any_policy):
    wanted = requests_of()
    together = engine_of(any_policy).generate(wanted)
    apart = engine_of(any_policy, rows=3).generate(list(reversed(wanted)))[::-1]
    assert [one.completion_ids for one in together] == [one.completion_ids for one in apart]
    alone = engine_of(any_policy).generate([wanted[7]])[0]
    assert alone.completion_ids == together[7].completion_ids
    assert list(alone.logprobs) == pytest.approx(list(together[7].logprobs), abs=1e-5)


def test_another_seed_gives_other_tokens(policy):
    completions = engine_of(policy).generate([request(seed=seed) for seed in range(16)])
    assert len({completion.completion_ids for completion in completions}) > 12


def test_draws_follow_the_models_distribution(policy):
    completions = engine_of(policy).generate([request(seed=seed, max_tokens=1) for seed in range(4000)])
    counts = torch.zeros(264)
    for completion in completions:
        counts[completion.completion_ids[0]] += 1
    model = AutoModelForCausalLM.from_pretrained(policy.directory).eval()
    with torch.inference_mode():
        expected = model(torch.tensor([completions[0].prompt_ids])).logits[0, -1].softmax(-1) * 4000
    likely = expected > 20
    assert int(likely.sum()) > 5
    chi2 = ((counts - expected)[likely] ** 2 / expected[likely]).sum().item()
    freedom = int(likely.sum()) - 1
    assert chi2 < freedom + 5 * (2 * freedom) ** 0.5


def test_completions_end_at_the_end_token(policy):
    completions = engine_of(policy).generate([request(seed=seed, max_tokens=200) for seed in range(60)])
    stopped = [completion for completion in completions if completion.finish_reason is FinishReason.STOP]
    assert len(stopped) > 5
    for completion in stopped:
        assert completion.completion_ids[-1] == 0
        assert 0 not in completion.completion_ids[:-1]
        assert "<|end|>" not in completion.text
    for completion in completions:
        if completion.finish_reason is FinishReason.LENGTH:
            assert len(completion.completion_ids) == 200
            assert 0 not in completion.completion_ids


def test_own_limits_within_one_batch(policy):
    completions = engine_of(policy).generate([request(seed=3, max_tokens=limit) for limit in (1, 7, 30)])
    longest = completions[2].completion_ids
    assert [completion.completion_ids for completion in completions] == [longest[:1], longest[:7], longest]


def test_top_p_keeps_the_nucleus_only(policy):
    sampled = engine_of(policy).generate([request(seed=seed, top_p=0.5, max_tokens=1) for seed in range(200)])
    model = AutoModelForCausalLM.from_pretrained(policy.directory).eval()
    with torch.inference_mode():
        mass = model(torch.tensor([sampled[0].prompt_ids])).logits[0, -1].softmax(-1)
    ordered = mass.sort(descending=True)
    size = int((ordered.values.cumsum(0) < 0.5).sum()) + 1
    nucleus = set(ordered.indices[:size].tolist())
    assert {completion.completion_ids[0] for completion in sampled} == nucleus
    for completion in sampled:
        expected = (mass[completion.completion_ids[0]] / ordered.values[:size].sum()).log().item()
        assert completion.logprobs[0] == pytest.approx(expected, abs=1e-5)


def test_a_completion_is_cut_at_the_last_position(gpt2_policy):
    long, short = engine_of(gpt2_policy).generate([request("x" * 60, max_tokens=50), request("x", max_tokens=50)])
    assert len(long.completion_ids) <= 4
    assert len(short.completion_ids) > 4 or short.finish_reason is FinishReason.STOP
    assert list(short.logprobs) == pytest.approx(full_forward(gpt2_policy, short), abs=1e-5)


def test_a_row_at_the_last_position_may_stay_in_the_batch(gpt2_policy):
    requests = [request("x" * 62, max_tokens=50), *(request("x" * 8, seed=seed, max_tokens=50) for seed in range(30))]
    first, *others = engine_of(gpt2_policy).generate(requests)
    assert len(first.completion_ids) <= 2
    assert max(len(other.completion_ids) for other in others) > 30


def test_a_prompt_without_room_is_refused(gpt2_policy):
    engine = engine_of(gpt2_policy)
    with pytest.raises(EngineError, match="prompt of 64 tokens, and the model takes 1 to 63"):
        engine.generate([request("x" * 64)])
    with pytest.raises(EngineError, match="prompt of 0 tokens"):
        engine.generate([request("")])


def test_progress_counts_every_completion(policy):
    seen = []
    engine_of(policy, rows=4).generate(requests_of(10), lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (10, 10)
    assert engine_of(policy).generate([]) == []


def test_generate_needs_a_policy(policy):
    engine = HfEngine(EngineConfig(threads=1))
    with pytest.raises(EngineError, match="no policy loaded"):
        engine.generate([request()])
    engine.load(policy)
    engine.close()
    with pytest.raises(EngineError, match="no policy loaded"):
        engine.generate([request()])


def test_load_goes_by_the_hash(policy, tmp_path):
    engine = engine_of(policy)
    engine.load(PolicyRef(policy.hash, tmp_path / "nowhere", 3))
    assert engine.generate([request()])[0].policy == policy.hash
    with pytest.raises(EngineError, match="could not be loaded"):
        engine.load(PolicyRef("another", tmp_path / "nowhere", 3))


def test_truncated_weights_are_refused(policy, tmp_path):
    broken = shutil.copytree(policy.directory, tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(EngineError, match="could not be loaded"):
        HfEngine(EngineConfig(threads=1)).load(PolicyRef(policy_hash(broken), broken, 0))


def test_weights_that_diverged_are_named(policy, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(policy.directory)
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(float("nan"))
    broken = shutil.copytree(policy.directory, tmp_path / "broken")
    model.save_pretrained(broken)
    with pytest.raises(EngineError, match="no finite probabilities after 0 tokens"):
        engine_of(PolicyRef("nan", broken, 1)).generate([request()])


def test_a_vocabulary_beyond_the_embeddings_is_refused(policy, tmp_path, make_tokenizer):
    large = shutil.copytree(policy.directory, tmp_path / "large")
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([f"word{number}" for number in range(50)])
    tokenizer.save_pretrained(large)
    with pytest.raises(EngineError, match="311 ids, its model only 264 embeddings"):
        engine_of(PolicyRef("large", large, 0))


def test_bf16_weights_are_sampled_in_their_own_dtype(bf16_policy):
    found = engine_of(bf16_policy).generate(requests_of(4))
    assert [dataclasses.replace(one, logprobs=()) for one in found] == [
        dataclasses.replace(one, logprobs=()) for one in engine_of(bf16_policy).generate(requests_of(4))
    ]
    assert all(logprob <= 0 for one in found for logprob in one.logprobs)
