from pathlib import Path

import pytest

from models.engines.base import FinishReason, Request
from models.engines.scripted import END_ID, ScriptedEngine
from models.policy import PolicyRef
from storage.errors import EngineError


def request(prompt="p", seed=1, max_tokens=10):
    return Request(prompt=prompt, seed=seed, temperature=1.0, top_p=1.0, max_tokens=max_tokens)


def engine():
    made = ScriptedEngine(lambda request: request.prompt.upper())
    made.load(PolicyRef("abc", Path("nowhere"), 4))
    return made


def test_completions_are_a_function_of_the_request():
    whole, cut = engine().generate([request("hi"), request("hello", max_tokens=3)])
    assert (whole.text, whole.finish_reason, whole.policy) == ("HI", FinishReason.STOP, "abc")
    assert whole.prompt_ids == (104, 105)
    assert whole.completion_ids == (72, 73, END_ID)
    assert (cut.text, cut.finish_reason) == ("HEL", FinishReason.LENGTH)
    assert cut.completion_ids == (72, 69, 76)
    assert all(-1 < logprob <= 0 for logprob in whole.logprobs + cut.logprobs)
    assert engine().generate([request("hi")])[0] == whole
    assert engine().generate([request("hi", seed=2)])[0].logprobs != whole.logprobs


def test_progress_and_loading():
    seen = []
    made = engine()
    made.generate([request(), request()], lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]
    made.close()
    with pytest.raises(EngineError, match="no policy loaded"):
        made.generate([request()])
