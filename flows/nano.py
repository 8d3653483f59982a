"""Pre-training of the nano base: documents to tokens to a model directory that `model.path` can name."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from flows.console import say
from models import runtime
from models.architecture import new_model
from models.config import DeviceKind
from models.pretraining import Example, Progress, Schedule, Trainer, new_trainer, resume, save, saved_schedule, train
from models.vocabulary import END, tokenizer
from storage.errors import ConfigError
from tasks.nano.documents import TEMPLATES, Document, documents
from tasks.nano.memory import write_memory
from tasks.reasoning.prompts import load_templates

STATE = "state.safetensors"
BASE = "azr_base.json"
PARAMETERS_SEED = 1
_SAVE_EVERY, _PROBE_BLOCKS = 120.0, 2  # seconds; blocks trained to measure how fast this machine is


def pretrain(
    *, minutes: float, device: str, out: Path, tokens: int | None = None, seed: int = PARAMETERS_SEED
) -> int:
    """Train from scratch, or go on where `out` was left, and publish the model in `out`; returns the exit code.

    The schedule counts tokens, so that a run is a function of its seed: `minutes` becomes tokens by the measured
    throughput of the first blocks unless `tokens` says how many. A run that goes on keeps its schedule.

    Raises ConfigError for minutes that are not positive and EngineError for a device or a state that cannot be used.
    """
    if minutes <= 0:
        raise ConfigError(f"--minutes is {minutes:g}; it must be positive. Nothing was written.")
    place = runtime.resolve_device(DeviceKind(device))
    runtime.configure(device=place)
    out.mkdir(parents=True, exist_ok=True)
    trainer = _trainer(out / STATE, minutes=minutes, tokens=tokens, seed=seed, device=place)
    done = trainer.progress
    if done.tokens:
        say(f"Going on at {done.tokens / 1e6:.2f} of {trainer.schedule.tokens / 1e6:.2f} million tokens.")
    _train(trainer, out / STATE)
    publish(trainer, out)
    say(f"{trainer.progress.tokens / 1e6:.1f} million tokens seen. The model is in {out}.")
    say(f"Try it: azr train --set model.path={out} --iterations 2")
    return 0


def _trainer(state: Path, *, minutes: float, tokens: int | None, seed: int, device: torch.device) -> Trainer:
    words = tokenizer()
    model = new_model(vocabulary=len(words), end=words.eos_token_id, pad=words.pad_token_id, seed=seed).to(device)
    if state.is_file():
        trainer = new_trainer(model, saved_schedule(state))
        resume(trainer, state)
        return trainer
    schedule = Schedule(tokens=tokens or _tokens_within(minutes * 60, seed, device), seed=seed)
    return new_trainer(model, schedule)


def _tokens_within(seconds: float, seed: int, device: torch.device) -> int:
    """How many tokens this machine trains on in that time, measured on a model that is then dropped."""
    words = tokenizer()
    model = new_model(vocabulary=len(words), end=words.eos_token_id, pad=words.pad_token_id, seed=seed).to(device)
    probe = new_trainer(model, Schedule(tokens=1 << 40, seed=seed))
    begun = time.perf_counter()
    train(probe, examples(seed), stop=lambda progress: progress.block >= _PROBE_BLOCKS)
    speed = probe.progress.tokens / (time.perf_counter() - begun)
    return int(speed * max(seconds, 1.0))


class _Narrator:
    """Says after each block how far the training is, and saves its state now and then."""

    def __init__(self, trainer: Trainer, state: Path) -> None:
        self._trainer, self._state = trainer, state
        self._begun = self._saved = time.perf_counter()
        self._first = trainer.progress.tokens

    def __call__(self, progress: Progress) -> None:
        now = time.perf_counter()
        speed = (progress.tokens - self._first) / (now - self._begun)
        left = max(0.0, (self._trainer.schedule.tokens - progress.tokens) / speed)
        losses = " ".join(f"{kind} {loss:.2f}" for kind, loss in progress.losses.items())
        say(f"{progress.tokens / 1e6:.2f} million tokens, {speed:.0f}/s, {left / 60:.1f} minutes left; loss {losses}")
        if now - self._saved > _SAVE_EVERY:
            save(self._trainer, self._state)
            self._saved = now


def _train(trainer: Trainer, state: Path) -> None:
    train(trainer, examples(trainer.schedule.seed), report=_Narrator(trainer, state))
    save(trainer, state)


class examples:  # noqa: N801
    pass


def publish(trainer: Trainer, out: Path) -> None:
    """Write the model directory: weights, config, tokenizer, what it was trained on."""
