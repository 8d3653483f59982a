"""A sealed stage done again, aside: from what was sealed before it, into nothing, and compared with what is sealed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from models.manifest import list_checkpoints
from storage.comparison import Difference, compare
from storage.ids import Position
from storage.seals import Provenance, Seal
from tasks.stage import StageTask
from tasks.workshop import Workshop


class Fact(NamedTuple):
    """One fact of code or host that is another than when the partition was sealed; None where it was not noted."""

    name: str
    sealed: str | None
    here: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """What came of doing one stage again: rows made, what differs from the seal, and what differs between the hosts."""

    at: Position
    rows: int
    differences: tuple[Difference, ...]
    facts: tuple[Fact, ...]

    @property
    def equal(self) -> bool:
        """Whether the same content was made."""
        return not self.differences


def again(work: Workshop, stage: StageTask, at: Position) -> Again:
    """Run the stage of a sealed position again and compare; nothing is sealed, and `work.aside` takes the checkpoint.

    A checkpoint that came out equal stays there, for the stages after it, until the next one does.

    Raises:
        LedgerError: the position or what it needs is not sealed, or a file is not what was sealed.
        EngineError: the policy or the optimizer state that it starts from is no longer kept.
        ValueError: `work` has nothing aside, so that an update would publish into the run.
    """
    if work.aside is None:
        raise ValueError("a stage is run again only aside")
    seal = work.ledger.require(at)
    facts = changed_facts(seal, work.provenance(stage.stage, None))
    work.reporter.begin(at)
    outcome = stage.outcome(work, at)
    differences = compare(work.ledger, at, outcome.tables, outcome.artifacts)
    if outcome.artifacts:
        _tidy(work, keep=None if differences else outcome.artifacts.get("policy"))
    work.reporter.end(at, outcome.note)
    rows = sum(map(len, outcome.tables.values()))
    return Again(at=at, rows=rows, differences=tuple(differences), facts=facts)


def changed_facts(seal: Seal, here: Provenance) -> tuple[Fact, ...]:
    """What of code and host is another here than the seal says."""
    then, now = _facts(seal.code_version, seal.host), _facts(here.code_version, here.host)
    return tuple(
        Fact(name, then.get(name), now.get(name)) for name in {**then, **now} if then.get(name) != now.get(name)
    )


def _facts(code_version: str, host: Mapping[str, str]) -> dict[str, str]:
    return {"code": code_version, **host}


def _tidy(work: Workshop, *, keep: str | None) -> None:
    """Remove the checkpoints that lie aside, but for the one of this policy."""
    for directory in list_checkpoints(work.publishes_below) if work.aside is not None else ():
        if keep is None or not directory.name.endswith(keep[:12]):
            shutil.rmtree(directory)
