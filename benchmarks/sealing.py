"""What sealing costs, in time and in bytes, beside writing the same tables without any of it.

usage: python benchmarks/sealing.py --out FILE.json [--run DIRECTORY]

Time: a solve stage of 2,000 rollouts with 1,000 sampled tokens each, sealed through the ledger (records to columns,
both hashes, files synced, one rename, the directories synced, the attempt and the index), and in the same turn plain
`pyarrow.parquet.write_table` of the same two tables and fsync. Bytes: the same stage, and the rollouts of a real run
when its directory is given, as sealed, as plain Parquet and as JSON lines.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
from history import host
from synthetic import MODES, PROVENANCE, rollout

from storage.ids import Place, Position, Stage
from storage.ledger import Ledger
from storage.records import Rollout, Row, Tokens
from storage.schemas import to_table
from storage.seals import RunFacts
from storage.seeds import rng

AT = Position(1, Stage.SOLVE)
ROLLOUTS, TOKENS, PROMPT, VOCABULARY, REPEATS = 2_000, 1_000, 300, 150_000, 7
FACTS = RunFacts(run="sealing", seed=1, config={}, config_hash="0", code_version="benchmark", python="3")
Tables = Mapping[type[Row], Sequence[Row]]


def main() -> None:
    """Measure and write the figures; progress on standard output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--run", type=Path, help="directory of a real run, for the bytes of its rollouts")
    given = parser.parse_args()
    stage = synthetic()
    found = {"host": host(), "rollouts": ROLLOUTS, "tokens": TOKENS, "prompt": PROMPT, "seconds": timed(stage)}
    found["bytes_per_1000_tokens"] = {"synthetic": sizes(stage)}
    if given.run is not None:
        found["bytes_per_1000_tokens"][given.run.name] = sizes(sampled(given.run))
    given.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def synthetic() -> Tables:
    """A solve stage: token ids by Zipf's law in a vocabulary of 150,000, and log-probabilities of a confident model."""
    draw = rng(1, "sealing")
    places = [Place(1, 0, MODES[number % 3], number // 24, number // 3 % 8) for number in range(ROLLOUTS)]
    rollouts = [rollout(place, draw) for place in places]
    rollouts = [dataclasses.replace(row, prompt_tokens=PROMPT, completion_tokens=TOKENS) for row in rollouts]
    return {Rollout: rollouts, Tokens: [tokens(row, draw) for row in rollouts]}


def tokens(row: Rollout, draw: Random) -> Tokens:
    """Ids and log-probabilities of one rollout; two in three of them near zero."""
    return Tokens(
        iteration=row.iteration,
        round=0,
        rollout_id=row.rollout_id,
        prompt_ids=tuple(zipf(draw) for _ in range(PROMPT)),
        completion_ids=tuple(zipf(draw) for _ in range(TOKENS)),
        logprobs=tuple(-draw.expovariate(1.0) * (1e-3 if draw.random() < 0.65 else 1.0) for _ in range(TOKENS)),
    )


def zipf(draw: Random) -> int:
    """A word's rank when rank times frequency is constant."""
    return int(math.exp(draw.random() * math.log(VOCABULARY)))


def sampled(run: Path) -> Tables:
    """All rollouts of a run with their tokens."""
    ledger = Ledger.open(run.parent, run.name)
    places = [seal.position for seal in ledger.sealed() if Tokens.table in seal.outputs]
    return {kind: [row for at in places for row in ledger.read(kind, at)] for kind in (Rollout, Tokens)}


def timed(stage: Tables) -> dict[str, object]:
    """Wall-clock and CPU seconds of both ways in turn, and the median of the ratios within one turn."""
    plain = {kind.table: to_table(kind, rows) for kind, rows in stage.items()}
    found: dict[str, list[float]] = {"sealed": [], "sealed_cpu": [], "plain": [], "plain_cpu": []}
    for _ in range(REPEATS):
        for name, way in (("sealed", lambda place: seal(place, stage)), ("plain", lambda place: write(place, plain))):
            wall, cpu = once(way)
            found[name].append(wall)
            found[f"{name}_cpu"].append(cpu)
    ratios = {
        f"ratio{end}": statistics.median(
            one / other for one, other in zip(found[f"sealed{end}"], found[f"plain{end}"], strict=True)
        )
        for end in ("", "_cpu")
    }
    return found | ratios


def once(way: Callable[[Path], None]) -> tuple[float, float]:
    """Seconds of one way in an empty directory of its own."""
    place = Path(tempfile.mkdtemp(prefix="azr-sealing-", dir=Path.cwd()))
    try:
        wall, cpu = time.perf_counter(), time.process_time()
        way(place)
        return round(time.perf_counter() - wall, 4), round(time.process_time() - cpu, 4)
    finally:
        shutil.rmtree(place)


def seal(place: Path, stage: Tables) -> None:
    """Through the ledger, as a training does it."""
    with (
        Ledger.create(place, FACTS) as ledger,
        ledger.begin(AT, provenance=PROVENANCE) as attempt,
    ):
        attempt.seal(stage)


def write(place: Path, tables: Mapping[str, pa.Table]) -> None:
    """The columns as they are, with the defaults of pyarrow, synced."""
    for name, table in tables.items():
        with (place / f"{name}.parquet").open("wb") as file:
            pq.write_table(table, file)
            file.flush()
            os.fsync(file.fileno())


def sizes(stage: Tables) -> dict[str, float]:
    """Bytes per 1,000 sampled tokens, all columns of both tables, three ways."""
    count = sum(row.completion_tokens for row in stage[Rollout] if isinstance(row, Rollout))
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        write(place, {kind.table: to_table(kind, rows) for kind, rows in stage.items()})
        plain = sum(path.stat().st_size for path in place.iterdir())
    lines = (json.dumps(dataclasses.asdict(row), default=str) for rows in stage.values() for row in rows)
    found = {"sealed": sealed_bytes(stage), "plain parquet": plain, "json lines": sum(len(line) + 1 for line in lines)}
    return {name: round(size / count * 1000, 1) for name, size in found.items()} | {"tokens": count}


def sealed_bytes(stage: Tables) -> int:
    """Bytes of the tables as the ledger writes them."""
    from storage.schemas import to_parquet

    return sum(len(to_parquet(kind, to_table(kind, rows))) for kind, rows in stage.items())


if __name__ == "__main__":
    main()
