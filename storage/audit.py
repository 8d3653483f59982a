"""The audit: does every sealed byte still stand as it was sealed? Reads all files, decodes none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from storage import layout
from storage.attempts import Outcome, read_attempts
from storage.errors import LedgerError
from storage.hashes import content_hash
from storage.ids import Position
from storage.partitions import broken_links, damage, read_bytes, read_facts, read_seal
from storage.records import ROWS
from storage.schemas import from_parquet
from storage.seals import Seal

_TABLES = {row_type.table: row_type for row_type in ROWS}


class Finding(NamedTuple):
    """One way in which a run differs from what was sealed; `where` is a position, or a file below the run."""

    where: str
    what: str


def audit(root: Path, run: str) -> list[Finding]:
    """Every difference between a run and its seals: files, sizes, hashes, both chains, the log. Empty is good.

    Raises LedgerError when there is no such run.
    """
    directory = layout.run_directory(root, run)
    read_facts(directory)
    seals: dict[Position, Seal] = {}
    findings: list[Finding] = []
    for position in layout.partitions(directory):
        try:
            seals[position] = read_seal(directory, position)
        except LedgerError as error:
            findings.append(Finding(str(position), str(error)))
    findings += [Finding(layout.LEDGER, problem) for problem in broken_links(directory, seals)]
    for seal in seals.values():
        findings += _files(directory, seal)
    return [*findings, *_log(directory, seals)]


def audit_contents(root: Path, run: str) -> list[Finding]:
    """As `audit`, and decodes every table to compute its content hash again from the values in it."""
    findings = audit(root, run)
    directory = layout.run_directory(root, run)
    damaged = {finding.where for finding in findings}
    for position in layout.partitions(directory):
        if damaged.isdisjoint({str(position), layout.LEDGER}):
            findings += _contents(directory, read_seal(directory, position))
    return findings


def _files(directory: Path, seal: Seal) -> Iterator[Finding]:
    partition = layout.partition_of(directory, seal.position)
    named = {output.file for output in seal.outputs.values()} | {layout.SEAL_FILE}
    for stray in sorted({entry.name for entry in partition.iterdir()} - named):
        yield Finding(str(seal.position), f"{partition / stray} is not named by the seal")
    for output in seal.outputs.values():
        path = partition / output.file
        try:
            problem = damage(output, path.read_bytes())
        except OSError as error:
            problem = str(error)
        if problem is not None:
            yield Finding(str(seal.position), f"{path} is not what was sealed: {problem}")


def _contents(directory: Path, seal: Seal) -> Iterator[Finding]:
    for name, output in seal.outputs.items():
        found = content_hash(_TABLES[name], from_parquet(read_bytes(directory, seal, name)))
        if found != output.content_hash:
            what = f"table {name} holds content {found[:12]}, its seal says {output.content_hash[:12]}"
            yield Finding(str(seal.position), what)


def _log(directory: Path, seals: dict[Position, Seal]) -> Iterator[Finding]:
    for record in read_attempts(directory, seals):
        if record.outcome is Outcome.SEALED and record.position not in seals:
            what = f"attempt {record.attempt} of {record.position} was sealed, but there is no such partition"
            yield Finding(layout.ATTEMPTS_FILE, what)
