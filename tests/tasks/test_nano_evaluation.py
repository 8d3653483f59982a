import pytest

from models.engines.base import Completion, FinishReason
from storage.ids import Mode
from storage.seeds import rng
from tasks.nano.evaluation import Share, judge_proposals, novel, propose, solve
from tasks.nano.exams import held_out
from tasks.nano.memory import remember
from tasks.nano.samples import draw_sample
from tasks.sandbox.executor import Executor


class Told:
    """An engine that says what it was told to say, in turn."""

    policy = "told"

    def __init__(self, texts, *, finish_reason=FinishReason.STOP):
        self.texts = texts
        self.finish_reason = finish_reason
        self.asked = []

    def load(self, policy):
        self.policy = policy.hash

    def close(self):
        self.asked.clear()

    def generate(self, requests, progress=None):
        self.asked += requests
        return [
            Completion(
                text=self.texts[at % len(self.texts)],
                prompt_ids=(3,),
                completion_ids=(1,),
                logprobs=(0.0,),
                finish_reason=self.finish_reason,
                policy=self.policy,
            )
            for at in range(len(requests))
        ]


@pytest.fixture(scope="module")
def executor():
    with Executor(workers=1) as running:
        yield running


def test_gold_answers_are_right_in_every_mode(executor):
    for mode, gold in (
        (Mode.DEDUCTION, lambda asked: f"<|think|>so<|output|>{asked.outputs[0]}"),
        (Mode.ABDUCTION, lambda asked: f"<|input|>{asked.inputs[0]}"),
        (Mode.INDUCTION, lambda asked: f"<|program|>{asked.program}"),
    ):
        asked = held_out(mode, "easy", count=6)
        texts = [gold(one) for one in asked]
        engine = Told(texts)
        solved = solve(engine, executor, asked, temperature=0, seed=1)
        assert [one.right for one in solved] == [True] * len(asked)
        assert [one.completion for one in solved] == texts
        assert len({request.seed for request in engine.asked}) == len(asked)


def test_wrong_missing_and_unfinished_answers_are_not_right(executor):
    asked = held_out(Mode.DEDUCTION, "easy", count=6)
    assert not any(one.right for one in solve(Told(["<|output|>'x'", "?"]), executor, asked, temperature=1, seed=1))
    gold = [f"<|output|>{one.outputs[0]}" for one in asked]
    unfinished = Told(gold, finish_reason=FinishReason.LENGTH)
    assert not any(one.right for one in solve(unfinished, executor, asked, temperature=1, seed=1))


def test_proposals_are_counted_by_hand(executor):
    draw = rng(1)
    pool = [draw_sample(draw) for _ in range(10)]
    fresh = "<|program|>def f(a):\n    return a - 7<|input|>3"
    texts = [
        fresh,
        fresh.replace("a", "b").replace("<|progrbm|>", "<|program|>"),  # the same up to names
        f"<|program|>{pool[0].program}<|input|>{pool[0].pairs[0][0]}",  # a reference
        "<|program|>def f(a):\n    return a[0]<|input|>[]",
        "<|program|>def f(a):\n    return a - 8<|input|>",
    ]
    candidates = propose(Told(texts), executor, Mode.DEDUCTION, pool, count=5, seed=1)
    assert [one.verdict for one in candidates] == ["valid", "valid", "valid", "error", "empty"]
    new = novel(candidates, pool)
    assert [one.completion for one in new] == [fresh]
    solver = Told(["<|output|>-4", "<|output|>4"])
    memory = remember(["def f(x):\n    return x - 8"])
    figures = judge_proposals(solver, executor, candidates, new, memory, probes=4)
    assert (figures.valid, figures.novel) == (Share(3, 5), Share(1, 5))
    assert (figures.unseen, figures.solved, figures.learnable) == (Share(1, 1), Share(2, 4), Share(1, 1))
    assert figures.rejections == {"error": 1, "empty": 1}


def test_induction_proposals_bring_inputs_for_a_given_program(executor):
    pool = [draw_sample(rng(2), levels={1: 1.0})]
    inputs = [text for text, _ in pool[0].pairs]
    text = "".join(f"<|input|>{one}" for one in inputs) + "<|message|>add"
    repeated = text.replace(inputs[1], inputs[0])
    engine = Told([text, repeated, text])
    candidates = propose(engine, executor, Mode.INDUCTION, pool * 2, count=3, seed=1)
    assert [one.verdict for one in candidates] == ["valid", "repeated_input", "valid"]
    problem = candidates[0].problem
    assert problem is not None
    assert (problem.program, problem.visible, problem.message) == (pool[0].program, 3, "add")
    assert problem.outputs == tuple(output for _, output in pool[0].pairs)
    assert len(novel(candidates, pool)) == 1


def test_share_with_wilsons_interval():
    low, high = Share(45, 100).interval()
    assert low == pytest.approx(0.3561, abs=1e-3)
    assert high == pytest.approx(0.5476, abs=1e-3)
    assert str(Share(1, 2)) == "50.0% (9.5% to 90.5%, n 2)"
