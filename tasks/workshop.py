"""What the stages of one run share in one process: the ledger, the config, an engine and an executor."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from models.engines.base import Engine
from models.policy import PolicyRef, context_length, resolve_base
from storage.ids import Position, Role, Stage
from storage.ledger import Ledger
from storage.records import Checkpoint
from storage.seals import Provenance
from tasks.loop import LoopConfig
from tasks.reasoning.prompts import TemplateSet, load_templates
from tasks.sandbox.analyser import Analyser
from tasks.sandbox.executor import Executor
from tasks.sandbox.jobs import Limits, Statistics

if TYPE_CHECKING:
    from models.tokens import Tokenizer

WITH_MODEL = frozenset({Stage.PROPOSE, Stage.SOLVE, Stage.UPDATE})
"""The stages that load the policy, onto the GPU where there is one."""


class Reporter(Protocol):
    """Who is told what the stages do."""

    def begin(self, at: Position) -> None:
        """A stage starts to run."""

    def progress(self, done: int, total: int) -> None:
        """Part of the running stage is done."""

    def end(self, at: Position, note: str) -> None:
        """A stage is sealed; the note says in a few words what it made."""

    def skip(self, at: Position) -> None:
        """A stage was sealed before."""


class Silent:
    """A reporter that says nothing."""

    def begin(self, at: Position) -> None:
        """Say nothing."""

    def progress(self, done: int, total: int) -> None:
        """Say nothing."""

    def end(self, at: Position, note: str) -> None:
        """Say nothing."""

    def skip(self, at: Position) -> None:
        """Say nothing."""


@dataclass(kw_only=True)
class Workshop:
    """Owns what a run works with: an open ledger; engine, executor and analyser, each made when first used.

    A context manager: leaving it closes them all. `engine` may be given, as tests do. Where sealed stages are run
    again, `aside` is the directory that takes what would be published.
    """

    ledger: Ledger
    config: LoopConfig
    code_version: str
    reporter: Reporter = field(default_factory=Silent)
    engine: Engine | None = None
    aside: Path | None = None
    _executor: Executor | None = None
    _analyser: Analyser | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        with ExitStack() as closing:  # the lock is given back last, whatever the others do
            closing.callback(self.ledger.close)
            if self.engine is not None:
                closing.callback(self.engine.close)
            if self._executor is not None:
                closing.callback(self._executor.close)
            if self._analyser is not None:
                closing.callback(self._analyser.close)

    @contextmanager
    def as_before(self, at: Position) -> Iterator[None]:
        """Let the ledger show only what was sealed before a position."""
        whole = self.ledger
        self.ledger = whole.before(at)
        try:
            yield
        finally:
            self.ledger = whole

    @property
    def templates(self) -> TemplateSet:
        """The prompt templates that the config names."""
        return load_templates(self.config.curriculum.templates)

    def engine_at(self, policy: PolicyRef) -> Engine:
        """The engine, with this policy loaded; made as the config says when there is none yet."""
        if self.engine is None:
            from models.engines.hf import HfEngine

            self.engine = HfEngine(self.config.engine)
        self.engine.load(policy)
        return self.engine

    @property
    def publishes_below(self) -> Path:
        """The directory below which an update publishes its checkpoint."""
        return self.aside or self.ledger.directory

    def directory_of(self, checkpoint: Checkpoint) -> Path:
        """Where a checkpoint lies: the base's own place, aside when its update was just run again, else the run's."""
        if checkpoint.directory is None:
            return self.base
        again = self.publishes_below / checkpoint.directory
        made = Position(checkpoint.iteration, Stage.UPDATE, checkpoint.round)
        return again if again.is_dir() else self.ledger.home(made) / checkpoint.directory

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The run's tokenizer: the base model's, which every later policy keeps."""
        from models.tokens import load_tokenizer

        return load_tokenizer(self.base)

    def prompt_limit(self, role: Role) -> float:
        """How many tokens a prompt may have, so that a completion of full length still fits the model."""
        sampling = self.config.sampling
        completion = {Role.PROPOSER: sampling.proposer_tokens, Role.SOLVER: sampling.solver_tokens}[role]
        return math.inf if self._positions is None else self._positions - completion

    @cached_property
    def base(self) -> Path:
        """Where the base model lies, looked for once: a hub's name would ask the network again for every prompt."""
        return resolve_base(self.config.model.path)

    @cached_property
    def _positions(self) -> int | None:
        return context_length(self.base)

    @property
    def judging_limits(self) -> Limits:
        """What a program may use while an answer is judged."""
        sandbox = self.config.sandbox
        return Limits(cpu_s=sandbox.verify_cpu_s, memory_mb=sandbox.memory_mb, output_bytes=sandbox.output_bytes)

    def executor(self) -> Executor:
        """The executor; raises SandboxError when this machine cannot confine programs."""
        if self._executor is None:
            sandbox = self.config.sandbox
            self._executor = Executor(workers=sandbox.workers, allow_unsafe=sandbox.allow_unsafe)
        return self._executor

    def statistics(self) -> Statistics:
        """What the executor has done so far."""
        return Statistics() if self._executor is None else self._executor.statistics()

    def analyser(self) -> Analyser:
        """The analyser; raises SandboxError when this machine cannot confine programs."""
        if self._analyser is None:
            self._analyser = Analyser(allow_unsafe=self.config.sandbox.allow_unsafe)
        return self._analyser

    def provenance(self, stage: Stage, flow_run_id: str | None) -> Provenance:
        """Who makes a partition, and the facts of the host that its bits depend on."""
        host = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
        if stage in WITH_MODEL:
            from models import runtime

            device = runtime.resolve_device(self.config.engine.device)
            runtime.configure(threads=self.config.engine.threads, device=device)  # before the threads are counted
            host |= runtime.host_facts(device)
        return Provenance(code_version=self.code_version, host=host, flow_run_id=flow_run_id)
