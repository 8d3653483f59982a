"""What Prefect, its pages and the ledger cost per iteration, against plain calls of the same stages.

usage: python benchmarks/overhead.py [--out FILE.json] [--long 500] [--nano 20]

Two runs of one config and seed, so of equal work, in one process: blocks of iterations in turn, once as plain calls of
the five stages, once as the Prefect flow `iteration` within another flow, with artifacts, on a server of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cputime

from flows.config import RunConfig, resolve
from flows.launch import TAG
from flows.server import home_of, prefect_server
from flows.session import workshop
from models.engines.base import Request
from models.engines.scripted import ScriptedEngine

NANO = Path(__file__).parents[1] / "configs" / "nano.toml"
SMALL = ("curriculum.proposals=2", "curriculum.probes=2", "curriculum.buffer_tasks=1", "bootstrap.wanted=3")
SETTLE_S = 0.5
"""After a block, outside its wall time but inside its CPU time: what is sent beside the run is sent by then."""
NEAR = 100  # iterations at either end that are compared for flatness
ITERATION_S = 60.0


WRITERS: dict[str, Callable[[int], str]] = {
    "<|propose-induction|>": lambda n: "".join(f"<|input|>{n + i}" for i in range(6)) + f"<|message|>hint {n}",
    "<|propose-": lambda n: f"<|program|>def f(a):\n    return [a, {n}]<|input|>{n % 7}",
    "<|solve-deduction|>": lambda n: f"<|output|>[{n % 7}, {n % 2}]",
    "<|solve-abduction|>": lambda n: f"<|input|>{n % 7}",
    "<|solve-induction|>": lambda n: f"<|program|>def f(a):\n    return [a, {n % 7}]",
}
"""What the scripted engine of the small config says, by the beginning of a prompt: next to no work for a stage."""


def writer(request: Request) -> str:
    """A task or an answer, drawn from the request's seed."""
    write = next(write for marker, write in WRITERS.items() if request.prompt.startswith(marker))
    return write(request.seed % 10**9)


class Block(NamedTuple):
    """Some iterations of one way: seconds per iteration."""

    way: str
    first: int
    iterations: int
    wall: float
    cpu: float
    """Of this process."""
    below: float
    """Of all processes that it started: executor and Prefect server."""
    rules: float
    """Wall time of the stages' rules alone, without ledger; plain calls only."""
    database: int
    """Bytes of the server's database, at the end of the block."""


class Clock:
    """Adds up the wall time spent in the rules of stages."""

    def __init__(self) -> None:
        self.spent = 0.0

    def around(self, rule: Callable[..., object]) -> Callable[..., object]:
        """The rule, timed."""

        def timed(*given: object) -> object:
            began = time.perf_counter()
            try:
                return rule(*given)
            finally:
                self.spent += time.perf_counter() - began

        return timed


def measure(root: Path, config: RunConfig, block: int, *, scripted: bool) -> list[Block]:
    """Both ways in turn up to the iterations of a config; `scripted` puts a script in the model's place."""
    with prefect_server(root):
        from prefect import flow, tags

        @flow(name="overhead", persist_result=False, retries=0)
        def overhead() -> list[Block]:
            return list(_blocks(root, config, block, scripted=scripted))

        with tags(TAG):  # as `azr train` does
            return overhead()


def _blocks(root: Path, config: RunConfig, block: int, *, scripted: bool) -> Iterator[Block]:
    from flows.bootstrap import bootstrap
    from flows.iteration import STAGES, iteration
    from flows.pages import own_page
    from flows.running import running

    clock = Clock()
    stages = [dataclasses.replace(stage, rule=clock.around(stage.rule)) for stage in STAGES]
    with workshop(root, "plain", config=config) as work, running(root, "flow", config=config) as other:
        if scripted:
            work.engine, other.engine = ScriptedEngine(writer), ScriptedEngine(writer)
        bootstrap("plain", root)
        bootstrap("flow", root)

        def plain(number: int) -> None:
            for stage in stages:
                stage(work, number)

        def flow(number: int) -> None:
            own_page(iteration, number)
            iteration("flow", number, root)

        for first in range(1, config.iterations + 1, block):
            numbers = range(first, min(first + block, config.iterations + 1))
            ways = {"plain": plain, "flow": flow}
            for way in sorted(ways, reverse=first // block % 2 == 0):  # neither is always the first
                yield _timed(root, way, ways[way], numbers, clock)
            print(f"iterations {first} to {numbers[-1]} of {config.iterations}", flush=True)


def _timed(root: Path, way: str, run: Callable[[int], None], numbers: Sequence[int], clock: Clock) -> Block:
    clock.spent = 0.0
    used, began = cputime.begin(), time.perf_counter()
    for number in numbers:
        run(number)
    wall = time.perf_counter() - began
    time.sleep(SETTLE_S)
    spent = cputime.end().since(used)
    count = len(numbers)
    size = sum(path.stat().st_size for path in home_of(root).glob("prefect.db*"))
    return Block(
        way, numbers[0], count, wall / count, spent.own / count, spent.below / count, clock.spent / count, size
    )


def summary(blocks: Sequence[Block]) -> dict[str, float]:
    """Medians over the blocks, and what lies between the ways."""
    plain, flow = ([block for block in blocks if block.way == way] for way in ("plain", "flow"))
    overhead = [other.wall - one.rules for one, other in zip(plain, flow, strict=True)]
    cpu = [other.cpu + other.below - one.cpu - one.below for one, other in zip(plain, flow, strict=True)]
    iterations = sum(block.iterations for block in flow)
    grown = flow[-1].database - flow[0].database
    edge = max(1, min(NEAR, iterations // 2) // flow[0].iterations)
    first, last = statistics.median(overhead[:edge]), statistics.median(overhead[-edge:])
    return {
        "iterations": iterations,
        "rules_s": statistics.median(block.rules for block in plain),
        "plain_s": statistics.median(block.wall for block in plain),
        "flow_s": statistics.median(block.wall for block in flow),
        "ledger_s": statistics.median(block.wall - block.rules for block in plain),
        "overhead_s": statistics.median(overhead),
        "overhead_worst_block_s": max(overhead),
        "overhead_of_60_s": statistics.median(overhead) / ITERATION_S,
        "flow_to_plain": statistics.median(flow_.wall / one.wall for one, flow_ in zip(plain, flow, strict=True)),
        "overhead_cpu_s": statistics.median(cpu),
        "overhead_first_s": first,
        "overhead_last_s": last,
        "last_to_first": last / first,
        "database_bytes_per_iteration": grown / max(1, iterations - flow[0].iterations),
    }


def main() -> None:
    """Measure the small config over many iterations and nano over some; print, and keep with --out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", type=int, default=500, help="iterations with a script for a model; 0: none")
    parser.add_argument("--nano", type=int, default=20, help="iterations of configs/nano.toml; 0: none")
    parser.add_argument("--out", type=Path, help="where to keep the figures")
    wanted = parser.parse_args()
    found: dict[str, object] = {"machine": cputime.machine()}
    for name, iterations, block, settings in (("scripted", wanted.long, 10, SMALL), ("nano", wanted.nano, 2, ())):
        if iterations == 0:
            continue
        also = (f"iterations={iterations}", "tracking.mlflow=false")
        with tempfile.TemporaryDirectory(prefix="azr-overhead-") as directory:
            blocks = measure(
                Path(directory), resolve(NANO, [*settings, *also]).config, block, scripted=name == "scripted"
            )
        figures = summary(blocks)
        found[name] = {"settings": settings, **figures, "blocks": [block._asdict() for block in blocks]}
        print(name, *(f"  {word:<30} {value:.4g}" for word, value in figures.items()), sep="\n", flush=True)
    if wanted.out is not None:
        wanted.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
