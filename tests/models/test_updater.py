import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from models.checkpoints import load_model, load_optimizer, publish
from models.config import EngineConfig, UpdateConfig
from models.engines.base import Request
from models.engines.hf import HfEngine
from models.samples import ALL, Sample, UpdateInputs
from models.updater import export, load_trainer, train, update
from storage.errors import EngineError
from storage.ids import Mode, Role

CPU = torch.device("cpu")
ENGINE = EngineConfig(threads=1, rows=64)
CONFIG = UpdateConfig(learning_rate=1e-3)


def sampled(policy, *, seed=0, count=12):
    """Rollouts of a policy, rewarded for how many even tokens they have."""
    engine = HfEngine(ENGINE)
    engine.load(policy)
    prompts = ["abc<|answer|>", "f(1)", "x" * 9]
    requests = [
        Request(prompt=prompts[number % 3], seed=seed + number, temperature=1.0, top_p=1.0, max_tokens=4 + number)
        for number in range(count)
    ]
    return [
        Sample(
            prompt_ids=one.prompt_ids,
            completion_ids=one.completion_ids,
            logprobs=one.logprobs,
            advantage=sum(token % 2 == 0 for token in one.completion_ids) / len(one.completion_ids) - 0.5,
            weight=1 / count,
            role=Role.PROPOSER if number < 4 else Role.SOLVER,
            mode=Mode.DEDUCTION if number % 2 else Mode.INDUCTION,
        )
        for number, one in enumerate(engine.generate(requests))
    ]


def inputs_of(policy, samples, optimizer=None, temperature=1.0):
    return UpdateInputs(policy=policy, optimizer=optimizer, samples=samples, temperature=temperature)


def value(metrics, name, *, role=ALL, mode=ALL, step=0):
    (found,) = [one.value for one in metrics if one[:4] == (step, name, role, mode)]
    return found


def next_policy(run, iteration, parent, result):
    return publish(
        run_directory=run, iteration=iteration, parent=parent, model=result.model, optimizer=result.optimizer
    ).policy


def plain_gradient(policy, samples):
    """The gradient of the update's first step, one sample at a time, without any of the code under test."""
    model = AutoModelForCausalLM.from_pretrained(policy.directory).float().eval()
    for sample in samples:
        ids = torch.tensor([[*sample.prompt_ids, *sample.completion_ids]])
        start = len(sample.prompt_ids)
        logprobs = model(ids).logits[0, start - 1 : -1].log_softmax(-1)
        chosen = logprobs.gather(1, ids[0, start:, None])[:, 0]
        importance = (chosen.detach() - torch.tensor(sample.logprobs)).exp().clamp(max=2.0)
        (-sample.weight * sample.advantage * (importance * chosen).mean()).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def test_the_gradient_is_that_of_a_plain_reference(any_policy):
    samples = sampled(any_policy)
    trainer = load_trainer(any_policy.directory, None, UpdateConfig(gradient_clip=1e6, micro_tokens=64), device=CPU)
    metrics = train(trainer, samples, UpdateConfig(gradient_clip=1e6, micro_tokens=64), temperature=1.0)
    wanted = plain_gradient(any_policy, samples)
    for name, parameter in trainer.model.named_parameters():
        assert torch.allclose(parameter.grad, wanted[name], rtol=1e-3, atol=1e-6), name
    norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in wanted.values()))
    assert value(metrics, "grad_norm") == pytest.approx(norm, rel=1e-4)


def test_metrics_of_a_first_step(policy):
    samples = sampled(policy)
    metrics = update(inputs_of(policy, samples), CONFIG, engine=ENGINE).metrics
    assert value(metrics, "optimizer_step") == 1
    assert value(metrics, "ratio_max") == 1
    assert value(metrics, "clip_fraction") == 0
    assert value(metrics, "mismatch_max") < 1e-5
    assert value(metrics, "importance") == pytest.approx(1, abs=1e-5)
    expected = -sum(sample.weight * sample.advantage for sample in samples)
    assert value(metrics, "loss") == pytest.approx(expected, abs=1e-5)
    assert value(metrics, "samples") == 12
    assert value(metrics, "tokens") == sum(len(sample.completion_ids) for sample in samples)
    assert value(metrics, "weight", role="proposer", mode="induction") == pytest.approx(2 / 12)
    assert value(metrics, "samples", role="solver", mode="deduction") == 4
    keys = [one[:4] for one in metrics]
    assert len(keys) == len(set(keys))


def test_a_step_raises_the_chance_of_what_was_good(policy):
    samples = sampled(policy)
    result = update(inputs_of(policy, samples), UpdateConfig(learning_rate=1e-4), engine=ENGINE)

    def objective(model):
        total = 0.0
        for sample in samples:
            ids = torch.tensor([[*sample.prompt_ids, *sample.completion_ids]])
            with torch.inference_mode():
                logprobs = model(ids).logits[0, len(sample.prompt_ids) - 1 : -1].log_softmax(-1)
            chosen = logprobs.gather(1, ids[0, len(sample.prompt_ids) :, None])
            total += sample.weight * sample.advantage * float(chosen.mean())
        return total

    assert objective(result.model) > objective(load_model(policy.directory).eval()) + 1e-4


def test_the_clip_acts_from_the_second_step_on(policy):
    config = UpdateConfig(learning_rate=1e-2, steps=3, clip=0.05)
    result = update(inputs_of(policy, sampled(policy)), config, engine=ENGINE)
    assert value(result.metrics, "clip_fraction", step=0) == 0
    assert value(result.metrics, "ratio_max", step=0) == 1
    assert value(result.metrics, "clip_fraction", step=2) > 0
    assert value(result.metrics, "ratio_max", step=2) > 1.05
    assert result.optimizer.steps == 3


@pytest.mark.parametrize("base", ["policy", "bf16_policy"])
def test_resuming_from_disk_equals_going_on_in_memory(base, request, tmp_path):
    base = request.getfixturevalue(base)
    first, second = sampled(base), sampled(base, seed=100)
    trainer = load_trainer(base.directory, None, CONFIG, device=CPU)
    train(trainer, first, CONFIG, temperature=1.0)
    train(trainer, second, CONFIG, temperature=1.0)
    memory = export(trainer, [])

    middle = next_policy(tmp_path, 1, base, update(inputs_of(base, first), CONFIG, engine=ENGINE))
    disk = update(inputs_of(middle, second, optimizer=middle.directory), CONFIG, engine=ENGINE)
    assert disk.optimizer.steps == memory.optimizer.steps == 2
    for kind in ("exp_avg", "exp_avg_sq", "master"):
        mine, theirs = getattr(memory.optimizer, kind), getattr(disk.optimizer, kind)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    memory_weights, disk_weights = memory.model.state_dict(), disk.model.state_dict()
    assert all(torch.equal(memory_weights[name], disk_weights[name]) for name in memory_weights)


def test_an_update_repeats_to_the_last_bit(policy, tmp_path):
    samples = sampled(policy)
    made = [
        next_policy(tmp_path / name, 1, policy, update(inputs_of(policy, samples), CONFIG, engine=ENGINE))
        for name in "ab"
    ]
    assert made[0].hash == made[1].hash != policy.hash


def test_bf16_weights_have_fp32_masters(bf16_policy, tmp_path):
    config = UpdateConfig(learning_rate=1e-6)
    result = update(inputs_of(bf16_policy, sampled(bf16_policy)), config, engine=ENGINE)
    assert {parameter.dtype for parameter in result.model.parameters()} == {torch.bfloat16}
    base = load_model(bf16_policy.directory)
    moved = rounded_away = 0
    for name, parameter in result.model.named_parameters():
        master = result.optimizer.master[name]
        assert master.dtype is torch.float32
        assert torch.equal(master.bfloat16(), parameter)
        moved += int((master != base.get_parameter(name).float()).sum())
        rounded_away += int((parameter == base.get_parameter(name)).sum())
    count = sum(parameter.numel() for parameter in base.parameters())
    assert moved > 0.2 * count  # the masters keep what bf16 loses at this learning rate
    assert rounded_away > 0.9 * count
    directory = next_policy(tmp_path, 1, bf16_policy, result).directory
    assert load_model(directory).dtype is torch.bfloat16
    assert load_optimizer(directory).master.keys() == result.optimizer.master.keys()


def test_fp32_weights_need_no_masters(policy):
    result = update(inputs_of(policy, sampled(policy)), CONFIG, engine=ENGINE)
    assert result.optimizer.master == {}
    assert result.optimizer.exp_avg.keys() == dict(result.model.named_parameters()).keys()


@pytest.mark.parametrize("change", [{"advantage": 0.0}, {"weight": 0.0}, None])
def test_without_signal_no_step_is_taken(policy, tmp_path, change):
    samples = [] if change is None else [with_(sample, **change) for sample in sampled(policy)]
    seen = []
    result = update(inputs_of(policy, samples), CONFIG, engine=ENGINE, progress=lambda *at: seen.append(at))
    assert value(result.metrics, "optimizer_step") == 0
    assert value(result.metrics, "samples") == len(samples)
    assert result.optimizer.steps == 0
    assert seen == []
    kept = load_model(policy.directory).state_dict()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in result.model.state_dict().items())
    same = next_policy(tmp_path, 1, policy, result)
    again = update(inputs_of(same, sampled(same), optimizer=same.directory), CONFIG, engine=ENGINE)
    assert again.optimizer.steps == 1


def with_(sample, **changes):
    fields = {name: getattr(sample, name) for name in Sample.__dataclass_fields__}
    return Sample(**fields | changes)


def test_micro_batches_change_rounding_only(policy):
    samples = sampled(policy)
    wide, narrow = (
        update(inputs_of(policy, samples), CONFIG.model_copy(update={"micro_tokens": tokens}), engine=ENGINE)
        for tokens in (8192, 1)
    )
    for name in ("loss", "grad_norm", "entropy", "tokens"):
        assert value(wide.metrics, name) == pytest.approx(value(narrow.metrics, name), rel=1e-4, abs=1e-6)


def test_log_probs_are_at_the_sampling_temperature(policy):
    engine = HfEngine(ENGINE)
    engine.load(policy)
    asked = Request(prompt="ab", seed=5, temperature=0.7, top_p=1.0, max_tokens=20)
    (one,) = engine.generate([asked])
    sample = with_(
        sampled(policy, count=1)[0],
        prompt_ids=one.prompt_ids,
        completion_ids=one.completion_ids,
        logprobs=one.logprobs,
        advantage=1.0,
    )
    right = update(inputs_of(policy, [sample], temperature=0.7), CONFIG, engine=ENGINE)
    wrong = update(inputs_of(policy, [sample], temperature=1.0), CONFIG, engine=ENGINE)
    assert value(right.metrics, "mismatch_max") < 1e-5
    assert value(wrong.metrics, "mismatch_max") > 1e-2


def test_progress_counts_micro_batches(policy):
    seen = []
    config = UpdateConfig(micro_tokens=1, steps=2)
    update(inputs_of(policy, sampled(policy)), config, engine=ENGINE, progress=lambda *at: seen.append(at))
    assert seen == [(done, 24) for done in range(1, 25)]


def test_a_gradient_that_is_not_finite_stops_the_update(policy):
    samples = [with_(sample, advantage=float("inf")) for sample in sampled(policy, count=2)]
    with pytest.raises(EngineError, match=r"optimizer step 1 has norm (nan|inf)\. No step was taken"):
        update(inputs_of(policy, samples), CONFIG, engine=ENGINE)


def test_the_state_of_another_model_is_refused(policy, gpt2_policy, tmp_path):
    other = next_policy(
        tmp_path, 1, gpt2_policy, update(inputs_of(gpt2_policy, sampled(gpt2_policy)), CONFIG, engine=ENGINE)
    )
    with pytest.raises(EngineError, match="is of another model: transformer"):
        update(inputs_of(policy, sampled(policy), optimizer=other.directory), CONFIG, engine=ENGINE)
