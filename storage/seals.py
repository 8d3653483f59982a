"""The seal of a partition and the facts of a run: typed JSON, and the two hash chains.

`content` links what was computed: place, schema version, config, the content of the inputs, and the content and number
of rows of every table. Never the run's name, host, attempt, time or code version: two runs of one config and seed have
the same chain on one kind of machine, and `ledger_hash` compares them.

`integrity` links what lies on disk: the whole seal, hence the hash of every file, and the integrity of the seal
made just before it in this run (`before`), hence of all earlier ones. Any edit of a sealed file or seal breaks it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, ValidationError, with_config

from storage.errors import LedgerError
from storage.hashes import text_hash
from storage.ids import Position, Stage
from storage.layout import now_us, order, parse_position
from storage.schemas import SCHEMA_VERSION

SEAL_VERSION = 1

_STRICT = ConfigDict(extra="forbid", strict=True)
_Count = Annotated[int, Field(ge=0)]
T = TypeVar("T")


@with_config(_STRICT)
@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One table of a partition: its file, its size, SHA-256 of its bytes, and its content hash."""

    file: str
    rows: _Count
    bytes: _Count
    file_hash: str
    content_hash: str


@with_config(_STRICT)
@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """When a partition was made (microseconds since 1970) and the CPU time of the writer and its ended children."""

    started_us: int
    finished_us: int
    cpu_us: _Count


@with_config(_STRICT)
@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """What makes a partition count: who made what from what. Positions are keys as text, such as ``11/update``."""

    seal_version: int = SEAL_VERSION
    schema_version: int = SCHEMA_VERSION
    run: str
    iteration: _Count
    round: _Count
    stage: Annotated[Stage, Field(strict=False)]
    attempt: int
    code_version: str
    config_hash: str
    seeds: Mapping[str, int]
    inputs: Mapping[str, str]  # position -> content of the partitions read
    outputs: Mapping[str, Output]  # by table name
    artifacts: Mapping[str, str]  # name -> hash of what is not a table, such as a checkpoint
    host: Mapping[str, str]  # facts that decide bit-equality: python, cpu, threads, versions
    timings: Timings
    flow_run_id: str | None
    before: Mapping[str, str]  # position -> integrity of the seal made just before; empty for the first
    content: str = ""
    integrity: str = ""

    @property
    def position(self) -> Position:
        """Which partition of its run this seals."""
        return Position(self.iteration, self.stage, self.round)

    def named(self) -> list[str]:
        """The positions that must be sealed if this one is."""
        return [*self.inputs, *self.before]


@with_config(_STRICT)
@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """What a fork grew from: all of the run `run` before the position `at`, which is the first of the fork's own."""

    run: str
    at: Annotated[str, Field(pattern=rf"^\d+(\.\d+)?/({'|'.join(Stage)})$")]
    before: Mapping[str, str]  # position -> integrity of the parent's seal made just before

    @property
    def position(self) -> Position:
        """The first position that is the fork's own."""
        return parse_position(self.at)


@with_config(_STRICT)
@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What a run is: written once into run.json when it begins."""

    run: str  # name, and name of its directory
    seed: int
    config: Mapping[str, JsonValue]  # resolved, all keys
    config_hash: str  # of the identity keys
    code_version: str
    python: str  # minor version, such as 3.12: part of the executor's identity
    schema_version: int = SCHEMA_VERSION
    created_us: int = field(default_factory=now_us)
    parent: Parent | None = None  # of a fork


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Who makes a partition: recorded in its seal, never part of its content."""

    code_version: str
    host: Mapping[str, str] = field(default_factory=dict)
    flow_run_id: str | None = None


_SEAL, _FACTS = TypeAdapter(Seal), TypeAdapter(RunFacts)


def sealed(seal: Seal) -> Seal:
    """The seal with both of its hashes filled in."""
    seal = dataclasses.replace(seal, content=content_of(seal))
    return dataclasses.replace(seal, integrity=integrity_of(seal))


def content_of(seal: Seal) -> str:
    """The link of the content chain that follows from the fields of a seal."""
    tables = {name: [output.rows, output.content_hash] for name, output in seal.outputs.items()}
    return _hash(
        {
            "iteration": seal.iteration,
            "round": seal.round,
            "stage": seal.stage,
            "schema_version": seal.schema_version,
            "config_hash": seal.config_hash,
            "inputs": dict(seal.inputs),
            "tables": tables,
            "artifacts": dict(seal.artifacts),
        }
    )


def integrity_of(seal: Seal) -> str:
    """The link of the integrity chain: over every other field of the seal."""
    fields = _shallow(seal)
    del fields["integrity"]
    outputs = {name: _shallow(output) for name, output in seal.outputs.items()}
    return _hash(fields | {"outputs": outputs, "timings": _shallow(seal.timings)})


def ledger_hash(seals: Iterable[Seal]) -> str:
    """One hash over the content of these partitions, in the order of their positions."""
    lines = [f"{seal.position} {seal.content}\n" for seal in sorted(seals, key=lambda seal: order(seal.position))]
    return text_hash("".join(lines))


def to_json(record: Seal | RunFacts) -> str:
    """A seal or a run's facts as the text of its file."""
    return json.dumps(dataclasses.asdict(record), indent=1, sort_keys=True) + "\n"


def seal_from_json(written: str, source: str) -> Seal:
    """The seal in a text from `source`; raises LedgerError when it is torn, edited, or of a newer version."""
    seal = stated_seal(written, source)
    for name, (stated, computed) in own_hashes(seal).items():
        if stated != computed:
            raise LedgerError(
                f"{source} was changed after it was written: its {name} says {stated[:12]}, its fields give "
                f"{computed[:12]}. Nothing was written. Restore the file from a backup."
            )
    return seal


def stated_seal(written: str, source: str) -> Seal:
    """What a seal says, its hashes believed; raises LedgerError when it is torn or of a newer version."""
    _refuse_newer(written, source, {"seal_version": SEAL_VERSION, "schema_version": SCHEMA_VERSION})
    return _parsed(_SEAL, written, source)


def own_hashes(seal: Seal) -> dict[str, tuple[str, str]]:
    """Both hashes of a seal by name: as it states them, and as its fields give them."""
    return {"content": (seal.content, content_of(seal)), "integrity": (seal.integrity, integrity_of(seal))}


def facts_from_json(written: str, source: str) -> RunFacts:
    """The facts in a run.json; raises LedgerError when it is torn, edited, or of a newer version."""
    _refuse_newer(written, source, {"schema_version": SCHEMA_VERSION})
    return _parsed(_FACTS, written, source)


def _refuse_newer(written: str, source: str, known: Mapping[str, int]) -> None:
    try:
        data = json.loads(written)
    except ValueError as error:
        raise LedgerError(_damaged(source, str(error))) from error
    for name, newest in known.items():
        found = data.get(name) if isinstance(data, dict) else None
        if isinstance(found, int) and found > newest:
            raise LedgerError(
                f"{source} has {name} {found}, this azr reads up to {newest}. Nothing was read or written. "
                f"Install the azr that wrote it: code version {data.get('code_version', 'unknown')} or later."
            )


def _parsed(adapter: TypeAdapter[T], written: str, source: str) -> T:
    try:
        return adapter.validate_json(written)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise LedgerError(_damaged(source, f"{where}: {first['msg']}")) from error


def _damaged(source: str, why: str) -> str:
    return f"{source} is damaged: {why}. Nothing was written. Restore the file from a backup."


def _shallow(record: Seal | Output | Timings) -> dict[str, object]:
    """The fields of a record by name; `dataclasses.asdict` copies all below them, which took half of opening a run."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def _hash(fields: Mapping[str, object]) -> str:
    return text_hash(json.dumps(fields, sort_keys=True, separators=(",", ":")))
