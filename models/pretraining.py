"""Pre-training of a small causal language model on a stream of (prompt, completion) pairs.

Everything is a pure function of the seed, the stream and the schedule, so a run that was stopped goes on to the same
losses. The whole state is one safetensors file: weights, optimizer states, and the numbers of `Progress` in its header.

Shapes: B documents of a micro-batch, T tokens of its longest one, V vocabulary.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from storage.errors import EngineError
from storage.seeds import rng

_LENGTH_STEP = 8  # tokens


class Example(NamedTuple):
    """Token ids of a prompt and of the completion to learn (its end token included), and a name for the loss table."""

    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]
    kind: str


Source = Callable[[int], Iterator[Sequence[Example]]]
"""From a block's number, the blocks from there on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How to train: `tokens` in all, the rates, and how many tokens one optimizer step takes from which token on.

    Muon (https://kellerjordan.github.io/posts/muon/) moves the matrices, AdamW the embedding and the norms.
    """

    tokens: int
    seed: int = 1
    matrix_rate: float = 2e-2
    learning_rate: float = 4e-3
    betas: tuple[float, float] = (0.9, 0.95)
    gradient_clip: float = 1.0
    warmup_steps: int = 100
    decay_share: float = 0.4  # the rate falls linearly over the last part
    final_rate: float = 0.02  # of the learning rate, where the decay ends
    prompt_weight: float = 0.1  # loss weight of prompt tokens; completion tokens weigh 1
    micro_tokens: int = 1024
    batches: tuple[tuple[int, int], ...] = ((0, 1024), (3_000_000, 2048), (9_000_000, 4096))

    def batch_tokens(self, tokens: int) -> int:
        """Tokens of a step that begins after `tokens` of them."""
        return next(size for start, size in reversed(self.batches) if tokens >= start)

    def pace(self, step: int, tokens: int) -> float:
        """What the learning rates are multiplied with at a step."""
        left = 1 - tokens / self.tokens
        decay = min(1.0, max(self.final_rate, left / self.decay_share))
        return decay * min(1.0, (step + 1) / self.warmup_steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run stands: blocks done, optimizer steps, tokens seen, training seconds, recent loss per kind (nats)."""

    block: int = 0
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Trainer:
    """A model with its optimizers; it owns the state that `save` writes and `resume` reads."""

    model: PreTrainedModel
    schedule: Schedule
    matrices: torch.optim.Muon
    others: torch.optim.AdamW
    progress: Progress


def new_trainer(model: PreTrainedModel, schedule: Schedule) -> Trainer:
    """A trainer at the beginning of its schedule."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, weights in model.named_parameters():
        (matrices if _is_matrix(name, weights) else others).append(weights)
    muon = torch.optim.Muon(matrices, lr=schedule.matrix_rate, weight_decay=0.0)
    adamw = torch.optim.AdamW(others, lr=schedule.learning_rate, betas=schedule.betas, weight_decay=0.0, fused=True)
    return Trainer(model, schedule, muon, adamw, Progress())


def _is_matrix(name: str, weights: Tensor) -> bool:
    """Whether Muon moves these weights: matrices, but not the embedding."""
    return weights.ndim == 2 and "embed" not in name


def train(
    trainer: Trainer,
    source: Source,
    *,
    report: Callable[[Progress], None] | None = None,
    stop: Callable[[Progress], bool] | None = None,
) -> Progress:
    """Train to the schedule's end, or until `stop` (asked after each block) says so; `report` is called per block."""
    trainer.model.train()
    blocks = source(trainer.progress.block)
    while trainer.progress.tokens < trainer.schedule.tokens:
        with _fast_matrices(trainer.model.device):
            _train_block(trainer, next(blocks))
        if report is not None:
            report(trainer.progress)
        if stop is not None and stop(trainer.progress):
            break
    return trainer.progress


@contextmanager
def _fast_matrices(device: torch.device) -> Iterator[None]:
    """Matrix products by oneDNN, which is twice as fast as the default library on some CPUs.

    It may use bfloat16 factors where the CPU has units for them (AMX), else float32. The plain attention kernel goes
    with it: the fused one of CPUs is slow in this setting.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext():
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _train_block(trainer: Trainer, block: Sequence[Example]) -> None:
    """One pass over a block; what is left of it when the schedule ends is dropped."""
    begun, done, schedule = time.perf_counter(), trainer.progress, trainer.schedule
    step, tokens = done.step, done.tokens
    meter = _Meter()
    waiting = micro_batches(block, schedule.micro_tokens, seed=schedule.seed, number=done.block)
    while waiting and tokens < schedule.tokens:
        count = max(1, schedule.batch_tokens(tokens) // schedule.micro_tokens)
        batch, waiting = waiting[:count], waiting[count:]
        _step(trainer, batch, schedule.pace(step, tokens), meter)
        step += 1
        tokens += sum(length(example) for micro in batch for example in micro)
    trainer.progress = replace(
        done,
        block=done.block + 1,
        step=step,
        tokens=tokens,
        seconds=done.seconds + time.perf_counter() - begun,
        losses={**done.losses, **meter.means()},
    )


def length(example: Example) -> int:
    """Tokens of an example."""
    return len(example.prompt_ids) + len(example.completion_ids)


def micro_batches(block: Sequence[Example], size: int, *, seed: int, number: int) -> list[list[Example]]:
    """A block cut into groups of nearly equal length, at most `size` tokens with padding, in random order."""
    draw = rng(seed, "micro-batches", number)
    buckets: dict[int, list[Example]] = {}
    for example in sorted(block, key=length):
        buckets.setdefault(padded(example), []).append(example)
    groups = []
    for longest, examples in buckets.items():
        rows = max(1, size // longest)
        draw.shuffle(examples)
        groups += [examples[start : start + rows] for start in range(0, len(examples), rows)]
    draw.shuffle(groups)
    return groups


def padded(example: Example) -> int:
    """The length that an example is padded to; few lengths, because matrix kernels are made anew for each shape."""
    return -(-length(example) // _LENGTH_STEP) * _LENGTH_STEP


def _step(trainer: Trainer, batch: list[list[Example]], pace: float, meter: _Meter) -> None:
    """One optimizer step: the weighted mean loss of a batch, its gradient clipped."""
    schedule = trainer.schedule
    weight = sum(_weight(example, schedule.prompt_weight) for micro in batch for example in micro)
    for micro in batch:
        loss = _weighted_loss(trainer, micro, meter)
        (loss / weight).backward()  # type: ignore[no-untyped-call]  # torch's own annotation is missing
    nn.utils.clip_grad_norm_(trainer.model.parameters(), schedule.gradient_clip)
    for optimizer, rate in ((trainer.matrices, schedule.matrix_rate), (trainer.others, schedule.learning_rate)):
        for group in optimizer.param_groups:
            group["lr"] = rate * pace
        optimizer.step()  # type: ignore[no-untyped-call]  # torch leaves Muon's untyped
        optimizer.zero_grad(set_to_none=True)


def _weight(example: Example, prompt_weight: float) -> float:
    return (len(example.prompt_ids) - 1) * prompt_weight + len(example.completion_ids)


def _weighted_loss(trainer: Trainer, micro: list[Example], meter: _Meter) -> Tensor:
    """Sum over the micro-batch of weight x cross-entropy in nats. Shapes depend on the padded length alone."""
    model, schedule = trainer.model, trainer.schedule
    longest = padded(micro[0])
    ids_BT = torch.zeros(max(1, schedule.micro_tokens // longest), longest, dtype=torch.long)
    weights_BT = torch.zeros(ids_BT.shape)
    for row, example in enumerate(micro):
        prompt, end = len(example.prompt_ids), length(example)
        ids_BT[row, :end] = torch.tensor([*example.prompt_ids, *example.completion_ids])
        weights_BT[row, 1:prompt] = schedule.prompt_weight
        weights_BT[row, prompt:end] = 1.0
    ids_BT, weights_BT = ids_BT.to(model.device), weights_BT[:, 1:].to(model.device)
    # Padding stands on the right and attention is causal, so no mask is needed.
    logits_BTV = model(ids_BT, use_cache=False).logits[:, :-1]
    losses_BT = cross_entropy(logits_BTV.transpose(1, 2), ids_BT[:, 1:], reduction="none")
    meter.add([example.kind for example in micro], losses_BT.detach(), weights_BT)
    return (losses_BT * weights_BT).sum()


class _Meter:
    """Mean completion loss per kind of example."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, float] = {}

    def add(self, kinds: list[str], losses_BT: Tensor, weights_BT: Tensor) -> None:
        learnt_BT = weights_BT == 1.0
        sums, counts = (losses_BT * learnt_BT).sum(1).tolist(), learnt_BT.sum(1).tolist()
        for row, kind in enumerate(kinds):
            self.sums[kind] = self.sums.get(kind, 0.0) + sums[row]
            self.counts[kind] = self.counts.get(kind, 0.0) + counts[row]

    def means(self) -> dict[str, float]:
        return {kind: self.sums[kind] / self.counts[kind] for kind in sorted(self.sums)}


def save(trainer: Trainer, path: Path) -> None:
    """Write weights, optimizer states and progress as one file, in place of the last one (atomic rename)."""
    tensors: dict[str, Tensor] = {}
    for name, weights in trainer.model.named_parameters():
        tensors[f"weights/{name}"] = weights.detach().contiguous().cpu()
        state = _optimizer(trainer, name, weights).state.get(weights, {})
        tensors |= {f"{part}/{name}": tensor.contiguous().cpu() for part, tensor in state.items()}
    header = {"progress": json.dumps(asdict(trainer.progress)), "schedule": json.dumps(asdict(trainer.schedule))}
    fresh = path.with_suffix(".new")
    save_file(tensors, fresh, metadata=header)
    fresh.replace(path)


def _optimizer(trainer: Trainer, name: str, weights: Tensor) -> torch.optim.Optimizer:
    return trainer.matrices if _is_matrix(name, weights) else trainer.others


def resume(trainer: Trainer, path: Path) -> Progress:
    """Put a saved state into a trainer of the same model; raises EngineError when the file is of another one."""
    with safe_open(path, framework="pt") as file:
        trainer.progress = Progress(**json.loads(file.metadata()["progress"]))
        known: dict[str, set[str]] = defaultdict(set)
        for key in file.keys():  # noqa: SIM118 - the file is no mapping
            part, name = key.split("/", 1)
            known[name].add(part)
        for name, weights in trainer.model.named_parameters():
            if name not in known or tuple(file.get_slice(f"weights/{name}").get_shape()) != weights.shape:
                raise EngineError(f"{path} holds no {name} of shape {tuple(weights.shape)}; choose another --out.")
            with torch.no_grad():
                weights.copy_(file.get_tensor(f"weights/{name}"))
            _optimizer(trainer, name, weights).state[weights] = {
                part: file.get_tensor(f"{part}/{name}").to(weights.device) for part in known[name] - {"weights"}
            }
    return trainer.progress


def saved_schedule(path: Path) -> Schedule:
    """The schedule of a saved state."""
    with safe_open(path, framework="pt") as file:
        values = json.loads(file.metadata()["schedule"])
    values["betas"] = tuple(values["betas"])
    values["batches"] = tuple(tuple(pair) for pair in values["batches"])
    return Schedule(**values)
