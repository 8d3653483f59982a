"""The family of a run: a fork's history before its point is its parent's, by reference, to any depth.

A fork has a directory of its own, with partitions from its point on; run.json names its parent, the point, and the
integrity of the parent's seal just before it. Readers take the seals of the whole history from here, and the home of
each partition: the directory of the run that made it. A parent that changed, or is not there, is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from storage import layout
from storage.errors import LedgerError
from storage.ids import Position
from storage.layout import order, parse_position
from storage.partitions import missing_files, read_facts, read_seal
from storage.seals import RunFacts, Seal


class Member(NamedTuple):
    """One run of a family: its directory and facts."""

    directory: Path
    facts: RunFacts

    def made(self, position: Position) -> bool:
        """Whether a position is this run's own rather than an ancestor's; later runs of the family come first."""
        parent = self.facts.parent
        return parent is None or order(position) >= order(parent.position)


@dataclass(frozen=True, slots=True)
class Family:
    """A run, its parent, the parent's parent, and so on: who made which part of one history."""

    members: tuple[Member, ...]

    def maker(self, position: Position) -> Member:
        """The run that made, or would make, a partition of this history."""
        return next(member for member in self.members if member.made(position))

    def home(self, position: Position) -> Path:
        """The directory of that run."""
        return self.maker(position).directory

    def shares(self, seals: Mapping[Position, Seal]) -> Iterator[tuple[Member, dict[Position, Seal]]]:
        """Each run of the family with those of the seals that it made."""
        for member in self.members:
            yield member, {at: seal for at, seal in seals.items() if self.maker(at) is member}


def family_of(run_directory: Path, facts: RunFacts | None = None) -> Family:
    """The family of a run; raises LedgerError when the run or an ancestor is not there or damaged."""
    members = [Member(run_directory, read_facts(run_directory) if facts is None else facts)]
    while (parent := members[-1].facts.parent) is not None:
        members.append(_parent(members, parent.run, parent.at))
    return Family(tuple(members))


def read_seals(family: Family, known: Mapping[Position, Seal] | None = None) -> dict[Position, Seal]:
    """Every seal of a history in the order of positions; `known` ones are not read again, since none ever changes.

    Raises LedgerError when a seal is damaged, or missing although a later one names it, or is not the one that it
    names.
    """
    seals = dict(known or {})
    for member in family.members:
        for position in layout.partitions(member.directory):
            if position not in seals and family.maker(position) is member:
                seals[position] = read_seal(member.directory, position)
    for problem in broken_links(family, seals):
        raise LedgerError(problem)
    return dict(sorted(seals.items(), key=lambda item: order(item[0])))


def broken_links(family: Family, seals: Mapping[Position, Seal]) -> Iterator[str]:
    """Every way in which the seals of a history do not fit each other, as a sentence with the way out."""
    root, run = family.members[0].directory.parent, family.members[0].directory.name
    followers: dict[str, Position] = {}
    for position, seal in seals.items():
        for name, stated in seal.inputs.items():
            yield from _link(family, seals, str(position), name, stated, "content")
        for name, stated in seal.before.items():
            yield from _link(family, seals, str(position), name, stated, "integrity")
        follows = next(iter(seal.before), "the beginning")
        if (other := followers.setdefault(follows, position)) != position:
            yield (
                f"{other} and {position} of run {run} both say that they were made right after "
                f"{follows}, so one was put there by hand. Nothing was written. {layout.another_run(root)}"
            )
    for member in family.members:
        parent = member.facts.parent
        if parent is not None and family.maker(parent.position) is member:  # else a later run left before that point
            for name, stated in parent.before.items():
                yield from _link(family, seals, f"the fork {member.directory.name}", name, stated, "integrity")


def require_files(family: Family, seals: Mapping[Position, Seal]) -> None:
    """Raise LedgerError for the first sealed file that is missing or has another size; reads no file."""
    for member, made in family.shares(seals):
        missing_files(member.directory, made.values())


def fork_points(run_directory: Path) -> dict[str, Position]:
    """Where the forks of a run, and theirs, leave their parents, by their names: what a fork there needs is kept.

    Raises LedgerError when a run below the root cannot be read: it may be a fork.
    """
    found: dict[str, Position] = {}
    for name in layout.run_names(run_directory.parent):
        members = family_of(run_directory.parent / name).members
        later = list(takewhile(lambda member: member.directory.name != run_directory.name, members))
        if len(later) < len(members):  # the run is this one, or one of its ancestors
            points = ((member.directory.name, member.facts.parent) for member in later)
            found |= {fork: parent.position for fork, parent in points if parent is not None}
    return found


def _parent(members: list[Member], run: str, at: str) -> Member:
    """The next member of a family; raises LedgerError when it is not there, or was there before."""
    child = members[-1].directory
    directory = layout.run_directory(child.parent, run)
    if not (directory / layout.RUN_FILE).is_file():
        raise LedgerError(
            f"Run {child.name} is a fork of run {run} at {at}, and all before that is there, but {directory} is no "
            f"run. Nothing was read or written. Put the run {run} back below {child.parent}, under that name."
        )
    if directory in [member.directory for member in members]:
        raise LedgerError(
            f"{child / layout.RUN_FILE} names {run} as the parent of {child.name}, which is a fork of it. "
            "Nothing was read or written. Restore the file from a backup."
        )
    return Member(directory, read_facts(directory))


def _link(
    family: Family, seals: Mapping[Position, Seal], who: str, name: str, stated: str, chain: str
) -> Iterator[str]:
    home = family.home(parse_position(name))
    named, run = seals.get(parse_position(name)), home.name
    if named is None:
        where = layout.partition_of(home, parse_position(name))
        yield (
            f"The seal of {name} of run {run} is missing, but {who} was made after it and names it. "
            f"Nothing was written, and {name} is not made again, since later stages stand on it. "
            f"Restore {where} from a backup. {layout.another_run(home.parent)}"
        )
    elif stated != (found := {"content": named.content, "integrity": named.integrity}[chain]):
        yield (
            f"{name} of run {run} is not the partition that {who} was made after: its {chain} is {found[:12]}, "
            f"{who} names {stated[:12]}. Nothing was written. {layout.another_run(home.parent)}"
        )
