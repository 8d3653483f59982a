"""The nano base: pre-training (documents to tokens to a directory that `model.path` can name), and its figures."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from itertools import islice, product
from pathlib import Path

from flows.console import Table, as_table, say, seconds
from models import runtime
from models.architecture import new_base, write_base
from models.config import DeviceKind, EngineConfig
from models.engines.base import Engine
from models.engines.hf import HfEngine
from models.policy import NANO, PolicyRef, policy_hash, resolve_base
from models.pretraining import Example, Progress, Schedule, Trainer, new_trainer, resume, save, saved_schedule, train
from models.vocabulary import END, encode
from storage.errors import ConfigError
from storage.ids import Mode
from storage.seeds import rng
from tasks.nano.documents import TEMPLATES, documents
from tasks.nano.evaluation import Share, judge_proposals, novel, propose, solve
from tasks.nano.exams import LEVELS, PARTS, held_out
from tasks.nano.memory import Memory, known_of, read_memory, remember, write_memory
from tasks.nano.samples import Sample, draw_sample
from tasks.reasoning.modes import MODES
from tasks.reasoning.prompts import load_templates
from tasks.sandbox.executor import Executor

STATE = "state.safetensors"
BASE = "azr_base.json"
_POOL = 300  # samples that proposers are shown references from
_FIGURES = ("valid", "novel", "unseen", "solved", "learnable")
_SAVE_EVERY = 120.0  # seconds
_PROBE_BLOCKS = 2  # blocks trained to measure how fast this machine is


def pretrain(*, minutes: float, device: str, out: Path, tokens: int | None = None, seed: int = 1) -> int:
    """Train from scratch, or go on where `out` was left, and publish the model in `out`; returns the exit code.

    The schedule counts tokens, so that a run is a function of its seed: `minutes` becomes tokens by the measured
    throughput of this machine unless `tokens` says how many. A run that goes on keeps its schedule.

    Raises ConfigError for minutes that are not positive, EngineError for a device or a state that cannot be used.
    """
    if minutes <= 0:
        raise ConfigError(f"--minutes is {minutes:g}; it must be positive. Nothing was written.")
    place = DeviceKind(device)
    runtime.configure(device=runtime.resolve_device(place))
    out.mkdir(parents=True, exist_ok=True)
    trainer = _trainer(out / STATE, minutes=minutes, tokens=tokens, seed=seed, device=place)
    train(trainer, lambda first: examples(trainer.schedule.seed, first), report=_Narrator(trainer, out / STATE))
    save(trainer, out / STATE)
    say("Trained. Collecting the hashes of the programs seen.")
    publish(trainer, out)
    say(f"The model is in {out} ({trainer.progress.tokens / 1e6:.1f} million tokens seen).")
    say(f"Try it: azr train --config configs/nano.toml --run mine --set model.path={out} --iterations 2")
    return 0


def _trainer(state: Path, *, minutes: float, tokens: int | None, seed: int, device: DeviceKind) -> Trainer:
    """The trainer that the state file left, or a new one."""
    if state.is_file():
        schedule = saved_schedule(state)
        trainer = new_trainer(new_base(schedule.seed, device), schedule)
        resume(trainer, state)
        say(f"Going on at {trainer.progress.tokens / 1e6:.2f} of {schedule.tokens / 1e6:.2f} million tokens.")
        return trainer
    wanted = tokens if tokens is not None else _tokens_within(minutes * 60, seed, device)
    return new_trainer(new_base(seed, device), Schedule(tokens=wanted, seed=seed))


def _tokens_within(budget: float, seed: int, device: DeviceKind) -> int:
    """How many tokens this machine trains on in `budget` seconds, measured on a model that is then dropped."""
    probe = new_trainer(new_base(seed, device), Schedule(tokens=1 << 40, seed=seed))
    begun = time.perf_counter()
    train(probe, lambda first: examples(seed, first), stop=lambda progress: progress.block >= _PROBE_BLOCKS)
    spent = time.perf_counter() - begun
    return int(probe.progress.tokens / spent * max(budget - spent, 1.0))


def examples(seed: int, first: int = 0) -> Iterator[list[Example]]:
    """Blocks of documents as token ids, each completion with its end token, from block `first` on."""
    for block in documents(seed, first):
        prompts = encode([document.prompt for document in block])
        completions = encode([document.completion + END for document in block])
        yield [
            Example(prompt, completion, f"{document.role}-{document.mode}")
            for document, prompt, completion in zip(block, prompts, completions, strict=True)
        ]


class _Narrator:
    """Says after each block how far the training is, and saves its state now and then."""

    def __init__(self, trainer: Trainer, state: Path) -> None:
        self._trainer, self._state = trainer, state
        self._begun = self._saved = time.perf_counter()
        self._first = trainer.progress.tokens

    def __call__(self, progress: Progress) -> None:
        now = time.perf_counter()
        speed = (progress.tokens - self._first) / (now - self._begun)
        total = self._trainer.schedule.tokens
        left = seconds(max(0.0, (total - progress.tokens) / speed))
        losses = ", ".join(f"{kind} {loss:.2f}" for kind, loss in progress.losses.items())
        say(f"{progress.tokens / 1e6:.2f} of {total / 1e6:.2f} million tokens, {speed:.0f}/s, {left} left; {losses}")
        if now - self._saved > _SAVE_EVERY:
            save(self._trainer, self._state)
            self._saved = now


def publish(trainer: Trainer, out: Path) -> None:
    """Write the model directory: weights, config, tokenizer, what it was trained on, hashes of the programs seen."""
    seed, progress = trainer.schedule.seed, trainer.progress
    write_base(trainer.model, out)
    blocks = islice(documents(seed), progress.block)
    memory = remember(document.program for block in blocks for document in block)
    write_memory(memory, out)
    facts = {
        "template_set": TEMPLATES,
        "template_hash": load_templates(TEMPLATES).hash,
        "seed": seed,
        "tokens": progress.tokens,
        "documents_blocks": progress.block,
        "programs": len(memory),
    }
    (out / BASE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def evaluate(model: str, *, count: int, proposals: int, temperatures: Sequence[float]) -> int:
    """Print what a base or a later policy of it can do; returns the exit code.

    Args:
        model: ``nano`` or the model's directory; the hashes of its pre-training programs must lie there or in nano.
        count: held-out problems per part, level and mode.
        proposals: proposals per mode, each valid and novel one probed 8 times; 0 leaves them out.
        temperatures: of the held-out answers; 0 is greedy.

    Raises ConfigError for more problems than there are, EngineError for a directory that is no model.
    """
    directory = resolve_base(model)
    engine = HfEngine(EngineConfig(threads=1))
    engine.load(PolicyRef(policy_hash(directory), directory, 0))
    with Executor(workers=1) as executor:
        _say_held_out(engine, executor, count, temperatures)
        if proposals:
            pool = [draw_sample(rng("nano references", number)) for number in range(_POOL)]
            for mode in MODES:
                _say_proposals(engine, executor, mode, pool, proposals, _memory(directory))
    return 0


def _say_held_out(engine: Engine, executor: Executor, count: int, temperatures: Sequence[float]) -> None:
    """A table of the shares of held-out problems solved."""
    rows: list[list[object]] = []
    for part, temperature in product(PARTS, temperatures):
        shares = []
        for level, mode in product(LEVELS, MODES):
            solved = solve(engine, executor, held_out(mode, level, part, count), temperature=temperature, seed=5)
            shares.append(Share(sum(one.right for one in solved), len(solved)))
            rows.append([part, f"{temperature:g}", level, mode, shares[-1]])
        everything = Share(sum(share.hits for share in shares), sum(share.of for share in shares))
        rows.append([part, f"{temperature:g}", "all", "all", everything])
    say(as_table(Table(["held out by", "temperature", "level", "mode", "right"], rows)))


def _memory(directory: Path) -> Memory:
    """The programs that the base of a model has seen: a policy that self-play made stands on the shipped one."""
    own = known_of(directory)
    return read_memory(resolve_base(NANO)) if own is None else own


def _say_proposals(
    engine: Engine, executor: Executor, mode: Mode, pool: Sequence[Sample], count: int, memory: Memory
) -> None:
    candidates = propose(engine, executor, mode, pool, count=count, seed=3)
    figures = judge_proposals(engine, executor, candidates, novel(candidates, pool), memory)
    rows = [[f"{mode} proposals", name, getattr(figures, name)] for name in _FIGURES]
    say(as_table(Table(["", "share", "figure"], rows)))
    say("rejected: " + ", ".join(f"{word} {times}" for word, times in sorted(figures.rejections.items())))
