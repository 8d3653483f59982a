"""An engine without a model: completions are a function of the request. For tests of everything around an engine."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from models.engines.base import Completion, FinishReason, Progress, Request
from models.policy import PolicyRef
from storage.errors import EngineError

Script = Callable[[Request], str]
END_ID = 256  # ids below it are UTF-8 bytes


class ScriptedEngine:
    """Answers every request with what the script makes of it.

    A token is one UTF-8 byte; id 256 ends a completion and counts. A text that needs more than `max_tokens` is cut
    (finish reason length). Log-probs are numbers in (-1, 0] that only the request's seed decides.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self._policy: str | None = None

    def load(self, policy: PolicyRef) -> None:
        """Take the policy's name; nothing is read."""
        self._policy = policy.hash

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Completion]:
        """One completion per request, in their order."""
        completions = []
        for request in requests:
            completions.append(self._complete(request))
            if progress is not None:
                progress(len(completions), len(requests))
        return completions

    def close(self) -> None:
        """Forget the policy."""
        self._policy = None

    def _complete(self, request: Request) -> Completion:
        if self._policy is None:
            raise EngineError("The engine has no policy loaded, so it cannot sample. Nothing was written. Call load.")
        ids = (*self._script(request).encode(), END_ID)[: request.max_tokens]
        stopped = ids[-1] == END_ID
        draws = random.Random(request.seed)  # noqa: S311 - reproducible numbers, not secrets
        return Completion(
            text=bytes(ids[:-1] if stopped else ids).decode(errors="replace"),
            prompt_ids=tuple(request.prompt.encode()),
            completion_ids=ids,
            logprobs=tuple(-draws.random() for _ in ids),
            finish_reason=FinishReason.STOP if stopped else FinishReason.LENGTH,
            policy=self._policy,
        )
