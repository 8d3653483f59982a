"""What an audit says: how many things each check looked at, and every difference it found. Findings are values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

SHOWN = 10  # findings of one check that are named where a whole partition is wrong


class Check(StrEnum):
    """What the ledger itself can be asked, without knowing what its rows mean."""

    SEALS = "seals"  # each reads, stands at its place, and its fields give its two hashes
    CHAINS = "both hash chains"  # what each seal says of the earlier ones is so
    FILES = "files"  # every byte is as sealed, and no file is missing or too many
    CONTENTS = "contents"  # the values of a table give its content hash
    ROWS = "rows"  # as many as sealed, declared columns and words, in the order of their key, none twice
    IDS = "ids"  # in range, of their place, and pointing to what was before
    ATTEMPTS = "attempts"  # the log and the seals agree
    ANCHOR = "anchor"  # the hash that was written down elsewhere


class Finding(NamedTuple):
    """One difference; `where` is a position, or a file below the run."""

    check: str
    where: str
    what: str


class Result(NamedTuple):
    """What one check came to at one place: `things` looked at, what was wrong, and what a reader should know."""

    check: str
    things: int
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()


class Line(NamedTuple):
    """One check in numbers."""

    check: str
    things: int
    findings: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole audit: one line per check in the order they began, all findings, all notes."""

    lines: tuple[Line, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


def summed(results: Iterable[Result]) -> Report:
    """The results of all places as one report."""
    things: dict[str, int] = {}
    wrong: dict[str, int] = {}
    findings: list[Finding] = []
    notes: dict[str, None] = {}
    for result in results:
        things[result.check] = things.get(result.check, 0) + result.things
        wrong[result.check] = wrong.get(result.check, 0) + len(result.findings)
        findings += result.findings
        notes |= dict.fromkeys(result.notes)
    lines = tuple(Line(check, count, wrong[check]) for check, count in things.items())
    return Report(lines=lines, findings=tuple(findings), notes=tuple(notes))


def result(check: str, where: str, things: int, wrong: Sequence[str], notes: Sequence[str] = ()) -> Result:
    """A result at one place; after the first `SHOWN` sentences only their number is told."""
    told = list(wrong[:SHOWN])
    if more := len(wrong) - len(told):
        told.append(f"and {more} more like these")
    return Result(check, things, tuple(Finding(check, where, what) for what in told), tuple(notes))
