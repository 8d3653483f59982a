"""Sampling from any causal language model of transformers, with an own decode loop.

Equal prompts share their prefill, finished rows leave the batch, and every request draws from its own counter.

B rows being decoded, U different prompts, P prompt positions (left-padded), V vocabulary.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from models import policy as policies
from models import runtime
from models.checkpoints import load_model
from models.config import EngineConfig
from models.engines.base import Completion, FinishReason, Progress, Request
from models.engines.cache import RoomyCache
from models.engines.draws import Drawn, draw, uniforms
from models.policy import PolicyRef
from models.tokens import Tokenizer, load_tokenizer
from storage.errors import EngineError

_CROWD = 7 / 8  # rows are dropped from the batch once fewer than this share of it is still going
_PREFILL_TOKENS = 8192  # per forward pass over prompts; bounds its memory


@dataclass(slots=True, eq=False)
class _Row:
    """One request on its way."""

    place: int  # index among the requests
    request: Request
    prompt_ids: tuple[int, ...]
    limit: int  # completion tokens at most
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stopped: bool = False

    @property
    def going(self) -> bool:
        return not self.stopped and len(self.ids) < self.limit

    def take(self, token: int, logprob: float, ends: frozenset[int]) -> None:
        self.ids.append(token)
        self.logprobs.append(logprob)
        self.stopped = token in ends


@dataclass(frozen=True, slots=True)
class _Loaded:
    policy: PolicyRef
    model: PreTrainedModel
    tokenizer: Tokenizer
    positions: int | None


class HfEngine:
    """An engine over `AutoModelForCausalLM`, in this process, on the CPU or a GPU, in the weights' own dtype.

    Log-probs are of softmax(logits / temperature), renormalised over the nucleus where top_p is below 1; in fp32 they
    are within 1e-5 of a full forward pass. A completion is cut at the model's last position (finish reason length).
    """

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._device = runtime.resolve_device(config.device)
        self._loaded: _Loaded | None = None

    def load(self, policy: PolicyRef) -> None:
        """Load the policy's weights and tokenizer, unless they are loaded already."""
        if self._loaded is not None and self._loaded.policy.hash == policy.hash:
            return
        self.close()
        runtime.configure(threads=self._config.threads, device=self._device)
        tokenizer = load_tokenizer(policy.directory)
        model = load_model(policy.directory).train(mode=False)
        torch.nn.Module.to(model, device=self._device)
        _check_vocabulary(tokenizer, model, policy)
        self._loaded = _Loaded(policy, model, tokenizer, policies.context_length(policy.directory))

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Completion]:
        """One completion per request, in their order."""
        if self._loaded is None:
            raise EngineError("The engine has no policy loaded, so it cannot sample. Nothing was written. Call load.")
        rows = [_row(place, request, self._loaded) for place, request in enumerate(requests)]
        done = 0
        for batch in _batches(rows, self._config.rows):
            for finished in _decode(batch, self._loaded):
                done += finished
                if progress is not None:
                    progress(done, len(rows))
        return [_completion(row, self._loaded) for row in rows]

    def close(self) -> None:
        """Drop the weights."""
        self._loaded = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _check_vocabulary(tokenizer: Tokenizer, model: PreTrainedModel, policy: PolicyRef) -> None:
    held = model.get_input_embeddings().get_parameter("weight").shape[0]
    if tokenizer.size > held:
        raise EngineError(
            f"The tokenizer in {policy.directory} has {tokenizer.size} ids, its model only {held} embeddings. "
            "Nothing was written. Save the model together with the tokenizer it was trained with."
        )


def _row(place: int, request: Request, loaded: _Loaded) -> _Row:
    prompt_ids = loaded.tokenizer.encode(request.prompt)
    room = math.inf if loaded.positions is None else loaded.positions - len(prompt_ids)
    if not prompt_ids or room < 1:
        raise EngineError(
            f"Request {place} has a prompt of {len(prompt_ids)} tokens, and the model takes 1 to "
            f"{(loaded.positions or math.inf) - 1} so that one can follow: {request.prompt[:80]!r}. Nothing was "
            "written. Show fewer or shorter references in prompts, or use a model with a longer context."
        )
    return _Row(place, request, prompt_ids, int(min(request.max_tokens, room)))


def _batches(rows: Sequence[_Row], width: int) -> Iterator[list[_Row]]:
    """Rows of like length together, equal prompts side by side, in batches of nearly equal size."""
    ordered = sorted(rows, key=lambda row: (len(row.prompt_ids), row.prompt_ids, row.place))
    count = math.ceil(len(ordered) / width)
    for batch in range(count):
        yield ordered[batch * len(ordered) // count : (batch + 1) * len(ordered) // count]


def _completion(row: _Row, loaded: _Loaded) -> Completion:
    return Completion(
        text=loaded.tokenizer.decode(row.ids),
        prompt_ids=row.prompt_ids,
        completion_ids=tuple(row.ids),
        logprobs=tuple(row.logprobs),
        finish_reason=FinishReason.STOP if row.stopped else FinishReason.LENGTH,
        policy=loaded.policy.hash,
    )


class _Batch:
    """The rows of one batch still going, and the tensors that follow them."""

    def __init__(self, rows: Sequence[_Row], device: torch.device) -> None:
        self.rows = list(rows)
        self.seeds_B = np.array([row.request.seed & (1 << 64) - 1 for row in rows], dtype=np.uint64)
        self.temperatures_B = torch.tensor([row.request.temperature for row in rows], device=device)
        self.top_ps_B = torch.tensor([row.request.top_p for row in rows], device=device)
        self.lengths_B = torch.tensor([len(row.prompt_ids) for row in rows], device=device)

    def draw(self, logits_BV: Tensor, step: int) -> Drawn:
        uniforms_B = torch.from_numpy(uniforms(self.seeds_B, step)).to(logits_BV.device)
        return draw(logits_BV, temperatures_B=self.temperatures_B, top_ps_B=self.top_ps_B, uniforms_B=uniforms_B)

    def keep(self, kept: list[int], kept_B: Tensor) -> None:
        self.rows = [self.rows[index] for index in kept]
        self.seeds_B = self.seeds_B[kept]
        self.temperatures_B = self.temperatures_B[kept_B]
        self.top_ps_B = self.top_ps_B[kept_B]
        self.lengths_B = self.lengths_B[kept_B]


@torch.inference_mode()
def _decode(rows: Sequence[_Row], loaded: _Loaded) -> Iterator[int]:
    """Complete the rows in place; yields how many finished, whenever some did."""
    model = loaded.model
    batch = _Batch(rows, model.device)
    logits_BV, cache, mask_BT = _prefill(rows, model)
    last = (loaded.positions or sys.maxsize) - 1  # finished rows that are still in the batch must not go beyond it
    going = len(rows)
    for step in range(max(row.limit for row in rows)):
        drawn = batch.draw(logits_BV, step)
        _take(batch.rows, drawn, loaded)
        kept = [index for index, row in enumerate(batch.rows) if row.going]
        if len(kept) < going:
            yield going - len(kept)
            going = len(kept)
        if not kept:
            return
        tokens_B = drawn.tokens_B
        if len(kept) < _CROWD * len(batch.rows):
            kept_B = torch.tensor(kept, device=model.device)
            batch.keep(kept, kept_B)
            cache.keep(kept_B)
            mask_BT, tokens_B = mask_BT[kept_B], tokens_B[kept_B]
        mask_BT = torch.nn.functional.pad(mask_BT, (0, 1), value=1)
        logits_BV = model(
            input_ids=tokens_B[:, None],
            attention_mask=mask_BT,
            position_ids=(batch.lengths_B + step).clamp_(max=last)[:, None],
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]


def _take(rows: Sequence[_Row], drawn: Drawn, loaded: _Loaded) -> None:
    for row, token, logprob in zip(rows, drawn.tokens_B.tolist(), drawn.logprobs_B.tolist(), strict=True):
        if not row.going:
            continue
        if not math.isfinite(logprob):
            raise EngineError(
                f"Policy {loaded.policy.hash[:12]} gives no finite probabilities after {len(row.ids)} tokens of "
                f"request {row.place}. No completion was kept. Its update diverged: lower update.learning_rate and "
                "fork the run before it."
            )
        row.take(token, logprob, loaded.tokenizer.ends)


def _prefill(rows: Sequence[_Row], model: PreTrainedModel) -> tuple[Tensor, RoomyCache, Tensor]:
    """Run every different prompt once; returns what rows continue from: logits, cache, and the mask over P."""
    prompts = list(dict.fromkeys(row.prompt_ids for row in rows))
    index = {prompt: number for number, prompt in enumerate(prompts)}
    rows_B = torch.tensor([index[row.prompt_ids] for row in rows], device=model.device)
    ids_UP, mask_UP = _left_padded(prompts, model.device)
    piece = max(1, _PREFILL_TOKENS // ids_UP.shape[1])
    starts = range(0, len(prompts), piece)
    parts = [_run(model, ids_UP[start : start + piece], mask_UP[start : start + piece]) for start in starts]
    logits_UV = torch.cat([logits for logits, _ in parts])
    return logits_UV[rows_B], RoomyCache([cache for _, cache in parts], rows_B), mask_UP[rows_B]


def _run(model: PreTrainedModel, ids_UP: Tensor, mask_UP: Tensor) -> tuple[Tensor, DynamicCache]:
    cache = DynamicCache()
    logits_UV = model(
        input_ids=ids_UP,
        attention_mask=mask_UP,
        position_ids=(mask_UP.cumsum(-1) - 1).clamp_(min=0),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
    return logits_UV, cache


def _left_padded(prompts: Sequence[tuple[int, ...]], device: torch.device) -> tuple[Tensor, Tensor]:
    width = max(map(len, prompts))
    ids_UP = torch.tensor([(0,) * (width - len(prompt)) + prompt for prompt in prompts])
    mask_UP = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return ids_UP.to(device), mask_UP.to(device)
