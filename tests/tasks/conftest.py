"""A loop without a language model: what the model writes is scripted, by the id of what it is asked for."""

import json
import platform
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from models.engines.base import Engine, Request
from models.engines.scripted import ScriptedEngine
from models.policy import CONFIG, NANO, resolve_base
from storage import ids
from storage.buffers import valid_ids
from storage.commit import Disk
from storage.ids import Position, Stage
from storage.ledger import Ledger
from storage.records import Row
from storage.seals import RunFacts
from storage.seeds import rng, seed_of
from tasks.base import CARD
from tasks.loop import LoopConfig
from tasks.propose import propose
from tasks.seeding import lacking
from tasks.solve import solve
from tasks.stage import StageTask
from tasks.update import update
from tasks.validate import validate
from tasks.verify import verify
from tasks.workshop import Workshop

Line = str | Callable[[Request], str]
Changes = Mapping[str, object]

STAGES: tuple[StageTask, ...] = (propose, validate, solve, verify, update)
RUN = "played"

# Limits are small, so that programs that go wrong do it soon; a scripted token is one byte of text.
SECTIONS: dict[str, dict[str, object]] = {
    "engine": {"threads": 1},
    "sampling": {"proposer_tokens": 300, "solver_tokens": 300},
    "curriculum": {"proposals": 2, "inputs": 3, "visible": 1, "probes": 2, "buffer_tasks": 1},
    "bootstrap": {"wanted": 1, "proposals": 1, "max_rounds": 3},
    "update": {"learning_rate": 1e-3},
    "sandbox": {"workers": 2, "validate_cpu_s": 0.3, "verify_cpu_s": 0.6, "memory_mb": 128},
}


def make_config(*, seed: int = 5, **changes: Changes) -> LoopConfig:
    """The small config above, with sections changed key by key."""
    names = {*SECTIONS, *changes}
    return LoopConfig.model_validate(
        {"seed": seed} | {name: SECTIONS.get(name, {}) | dict(changes.get(name, {})) for name in names}
    )


class Play:
    """A script: a line for each id (`1-ded-000` a proposal, `1-ded-000:1` an answer), found by the request's seed.

    A request without a line fails the test, unless there is an `otherwise`.
    """

    def __init__(self, config: LoopConfig, lines: Mapping[str, Line], *, otherwise: Line | None = None) -> None:
        self.asked: list[Request] = []
        self._lines = {_seed(config, name): line for name, line in lines.items()}
        self._otherwise = otherwise

    def __call__(self, request: Request) -> str:
        self.asked.append(request)
        line = self._lines.get(request.seed, self._otherwise)
        assert line is not None, f"nothing is scripted after {request.prompt!r}"
        return line if isinstance(line, str) else line(request)


def _seed(config: LoopConfig, name: str) -> int:
    place = ids.unpack(ids.parse(name))
    word = Stage.PROPOSE if place.sample is None else Stage.SOLVE
    draw = (place.iteration, place.round, word.value, place.mode.value, place.slot, place.sample or 0)
    return seed_of(config.seed, *draw)


def open_work(
    root: Path, config: LoopConfig, script: Callable[[Request], str] | None = None, *, engine: Engine | None = None
) -> Workshop:
    """A workshop over the run below `root`, begun or gone on with; a script takes the place of the model."""
    disk = Disk(durable=False)
    if (root / RUN / "run.json").exists():
        ledger = Ledger.open(root, RUN, write=True, disk=disk)
    else:
        python = ".".join(platform.python_version_tuple()[:2])
        facts = RunFacts(
            run=RUN, seed=config.seed, config={}, config_hash="c0ffee", code_version="tests", python=python
        )
        ledger = Ledger.create(root, facts, disk=disk)
    engine = ScriptedEngine(script) if script is not None else engine
    return Workshop(ledger=ledger, config=config, code_version="tests", engine=engine)


def bootstrap(work: Workshop) -> int:
    """Iteration 0 until no seed is lacking or the rounds are over; returns the number of rounds."""
    update(work, 0)
    validate(work, 0)
    for round in range(1, work.config.bootstrap.max_rounds + 1):
        if not lacking(work.config, valid_ids(work.ledger, Position(0, Stage.PROPOSE, round))):
            return round - 1
        propose(work, 0, round)
        validate(work, 0, round)
    return work.config.bootstrap.max_rounds


def iterate(work: Workshop, iteration: int, *, until: Stage = Stage.UPDATE) -> None:
    """The stages of one iteration, up to and including `until`."""
    for stage in STAGES:
        stage(work, iteration)
        if stage.stage is until:
            return


def copied_base(directory: Path, *, positions: int | None = None) -> Path:
    """The nano model, copied without the card that says which templates it was trained with.

    With `positions`, its config says that it has so many.
    """
    shutil.copytree(resolve_base(NANO), directory, ignore=shutil.ignore_patterns(CARD, "*.npy"))
    if positions is not None:
        path = directory / CONFIG
        config = json.loads(path.read_text(encoding="utf-8")) | {"max_position_embeddings": positions}
        path.write_text(json.dumps(config), encoding="utf-8")
    return directory


def row_named(rows: list[Row], name: str) -> Row:
    """The one row whose id (the last column of its key that is an id) reads so."""
    wanted = ids.parse(name)
    found = [row for row in rows if getattr(row, row.key[0]) == wanted]
    assert len(found) == 1, f"{len(found)} rows are {name}"
    return found[0]


# A run of some variety, for a model that draws what it says.
VARIED: dict[str, dict[str, object]] = {
    "curriculum": {"proposals": 3, "probes": 2, "buffer_tasks": 1},
    "bootstrap": {"wanted": 2, "proposals": 4, "max_rounds": 9},
}


def drawing(programs: int) -> Callable[[Request], str]:
    """A model whose every completion is a draw from the request's seed: tasks and answers, good and bad ones."""

    def puzzle(number: int) -> str:
        return "".join(f"<|input|>'{number}{letter}'" for letter in "abc") + f"<|message|>hint {number}"

    writers: dict[str, Callable[[int], str]] = {
        "<|propose-induction|>": puzzle,
        "<|propose-": lambda n: f"<|program|>def f(a):\n    return [a, {n % programs}]<|input|>{n % 2}",
        "<|solve-deduction|>": lambda n: f"<|output|>[{n % 2}, {n % 5}]",
        "<|solve-abduction|>": lambda n: f"<|input|>{n % 2}",
        "<|solve-induction|>": lambda n: f"<|program|>def f(a):\n    return {'a' if n % 2 else '[a, 1]'}",
    }

    def writer(request: Request) -> str:
        draw = rng(request.seed)
        write = next(write for marker, write in writers.items() if request.prompt.startswith(marker))
        return write(draw.randrange(1000)) if draw.random() < 0.8 else "nonsense"

    return writer


class Loop:
    """All of the above, for tests (files under tests/ do not import each other)."""

    stages = STAGES
    run = RUN
    config = staticmethod(make_config)
    play = Play
    varied = VARIED
    drawing = staticmethod(drawing)
    open = staticmethod(open_work)
    bootstrap = staticmethod(bootstrap)
    iterate = staticmethod(iterate)
    named = staticmethod(row_named)
    base_without_card = staticmethod(copied_base)


@pytest.fixture(scope="session")
def loop() -> type[Loop]:
    return Loop
