"""The audit of a ledger: does every seal, file, row and id stand as it was sealed?

Everything is read once, partition by partition in the order of positions, a few of them ahead: memory does not grow
with the run. What the rows mean is audited above this floor, on the partitions that `examined` yields.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from storage import layout
from storage.attempts import AttemptRecord, Outcome, read_attempts, unreadable_lines
from storage.errors import ConfigError, LedgerError
from storage.examination import Examined, examine
from storage.family import Family, Member, broken_links, family_of
from storage.findings import Check, Finding, Result, result, summed
from storage.ids import Position
from storage.partitions import read_facts, read_seal
from storage.retention import dropped
from storage.seals import RunFacts, Seal, stated_seal

_READERS = 2  # threads; hashing and Parquet leave the interpreter to the others
_AHEAD = 4  # partitions held in memory
_HASH = 64  # hexadecimal digits


def audit(root: Path, run: str) -> list[Finding]:
    """Every difference between a run and its seals: files, contents, rows, ids, both chains, the log. Empty is good.

    Raises LedgerError when there is no such run.
    """
    directory = layout.run_directory(root, run)
    read_facts(directory)
    seals, results = read_all_seals(directory)
    results += chains(directory, seals)
    results += [one for partition in examined(directory, seals) for one in partition.results]
    return list(summed([*results, *attempts(directory, seals)]).findings)


def read_all_seals(directory: Path) -> tuple[dict[Position, Seal], list[Result]]:
    """Every seal that can be read, in the order of positions, edited ones too, and what is wrong with them.

    Before the point of a fork these are its parent's.
    """
    family = known_family(directory)
    seals: dict[Position, Seal] = {}
    results = [result(Check.SEALS, layout.LEDGER, 0, _strangers(family))]
    for position in sorted(_positions(family), key=layout.order):
        home, wrong = family.home(position), []
        try:
            seals[position] = read_seal(home, position)
        except LedgerError as error:
            wrong.append(str(error))
            if (stated := _stated(home, position)) is not None:
                seals[position] = stated
        results.append(result(Check.SEALS, str(position), 1, wrong))
    return seals, results


def known_family(directory: Path) -> Family:
    """The family of a run; alone, where its run.json cannot be read, which is another finding's matter."""
    try:
        return family_of(directory)
    except LedgerError:
        unknown = RunFacts(run=directory.name, seed=0, config={}, config_hash="", code_version="", python="")
        return Family((Member(directory, unknown),))


def chains(directory: Path, seals: Mapping[Position, Seal]) -> list[Result]:
    """Every link between seals: what each says of those it was made from, and of the one made before it."""
    family = known_family(directory)
    links = sum(len(seal.named()) for seal in seals.values())
    return [result(Check.CHAINS, layout.LEDGER, links, list(broken_links(family, seals)))]


def examined(
    directory: Path, seals: Mapping[Position, Seal], only: Callable[[Position], Collection[str] | None] = lambda _: None
) -> Iterator[Examined]:
    """Each partition in turn, its tables decoded, or `only` some of them; a few are read ahead in threads."""
    family = known_family(directory)
    gone = {member.directory: dropped(member.directory) for member in family.members}
    waiting: deque[Future[Examined]] = deque()
    with ThreadPoolExecutor(_READERS) as readers:
        for seal in seals.values():
            home = family.home(seal.position)
            waiting.append(readers.submit(examine, home, seal, gone[home], only(seal.position)))
            if len(waiting) == _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def attempts(directory: Path, seals: Mapping[Position, Seal]) -> list[Result]:
    """The log of attempts beside the seals. It is in no chain: what both say must agree, the rest is only read."""
    return [_attempts(member.directory, made) for member, made in known_family(directory).shares(seals)]


def _attempts(directory: Path, seals: Mapping[Position, Seal]) -> Result:
    records = read_attempts(directory, seals)
    known = {(record.position, record.attempt): record for record in records}
    made = set(layout.partitions(directory))
    wrong = [line for record in records for line in _unsealed(record, seals, made)]
    wrong += [line for seal in seals.values() for line in _unlogged(seal, known.get((seal.position, seal.attempt)))]
    wrong += [line for record in records for line in _skipped(record, known)]
    notes = [line for record in records for line in _unconfirmed(record, seals)]
    for number, line in unreadable_lines(directory).items():
        torn = line.startswith("{") and not line.endswith("}")  # by a full disk or a kill, as readers expect
        (notes if torn else wrong).append(f"line {number} of {layout.ATTEMPTS_FILE} cannot be read: {line[:80]!r}")
    return result(Check.ATTEMPTS, layout.ATTEMPTS_FILE, len(records), wrong, notes)


def anchor(seals: Mapping[Position, Seal], expected: str) -> Result:
    """Whether this is the ledger, or a later state of it, that had `expected` as its ledger hash or last integrity.

    Raises ConfigError when `expected` is no hash.
    """
    if len(expected) != _HASH or set(expected) - set("0123456789abcdef"):
        raise ConfigError(
            f"{expected!r} is no ledger hash: {_HASH} hexadecimal digits, as `azr status --json` and `azr audit` print "
            "it. Nothing was checked. Give the whole hash: azr audit --expect HASH"
        )
    hasher = hashlib.sha256()
    for number, seal in enumerate(seals.values(), start=1):
        hasher.update(f"{seal.position} {seal.content}\n".encode())  # as storage.seals.ledger_hash
        if expected in (hasher.hexdigest(), seal.integrity):
            later = f"the expected hash is that of {seal.position}; {len(seals) - number} stages were sealed since"
            return result(Check.ANCHOR, layout.LEDGER, number, [], [later] if number < len(seals) else [])
    wrong = (
        f"no state of this ledger had the hash {expected[:12]}; now its hash is {hasher.hexdigest()[:12]}. It is "
        "another run, or what was sealed was made anew"
    )
    return result(Check.ANCHOR, layout.LEDGER, len(seals), [wrong])


def _positions(family: Family) -> list[Position]:
    """The partitions of a history, each in the directory of the run that made it."""
    members = family.members
    return [at for one in members for at in layout.partitions(one.directory) if family.maker(at) is one]


def _strangers(family: Family) -> list[str]:
    """What lies in the ledger's directory and is no partition of this run."""
    directory = family.members[0].directory
    entries = sorted(layout.ledger_entries(directory))  # before what is known, which may grow beside a writer
    ours = {layout.partition_of(directory, at): at for at in layout.partitions(directory)}
    steps = {path.parent for path in ours}
    found = [path for path in entries if path not in ours and path not in steps and not layout.is_begun(path)]
    inherited = [path for path, at in ours.items() if family.home(at) != directory]
    return [f"{path} is no partition" for path in found] + [f"{path} lies before the fork" for path in inherited]


def _stated(directory: Path, position: Position) -> Seal | None:
    """A seal that was edited but still reads; None when it cannot stand for this position."""
    path = layout.partition_of(directory, position) / layout.SEAL_FILE
    try:
        seal = stated_seal(path.read_text(), str(path))
    except (OSError, UnicodeDecodeError):  # LedgerError is an OSError
        return None
    return seal if seal.position == position else None


def _unsealed(record: AttemptRecord, seals: Mapping[Position, Seal], made: set[Position]) -> Iterator[str]:
    if record.outcome is not Outcome.SEALED:
        return
    seal = seals.get(record.position)
    if seal is None and record.position not in made:
        yield f"attempt {record.attempt} of {record.position} was sealed, but there is no such partition"
    elif seal is not None and seal.attempt != record.attempt:
        yield (
            f"attempt {record.attempt} of {record.position} was sealed, but the partition there is of attempt "
            f"{seal.attempt}"
        )


def _unlogged(seal: Seal, record: AttemptRecord | None) -> Iterator[str]:
    at = f"attempt {seal.attempt} of {seal.position}"
    if record is None:
        yield f"{at} is sealed, but the log has no start of it"
        return
    if record.outcome not in (Outcome.SEALED, Outcome.FAILED):
        yield f"{at} is sealed, but the log says {record.outcome}"
    for name, logged, stated in (
        ("code_version", record.code_version, seal.code_version),
        ("flow_run_id", record.flow_run_id, seal.flow_run_id),
    ):
        if logged != stated:
            yield f"{at} has {name} {logged} in the log, {stated} in its seal"


def _unconfirmed(record: AttemptRecord, seals: Mapping[Position, Seal]) -> Iterator[str]:
    """An attempt may fail after its rename, when the disk does not confirm it: it is sealed then."""
    seal = seals.get(record.position)
    if record.outcome is Outcome.FAILED and seal is not None and seal.attempt == record.attempt:
        yield f"attempt {record.attempt} of {record.position} is sealed, though it failed: {(record.error or '')[:80]}"


def _skipped(record: AttemptRecord, known: Mapping[tuple[Position, int], AttemptRecord]) -> Iterator[str]:
    if record.attempt > 1 and (record.position, record.attempt - 1) not in known:
        yield f"attempt {record.attempt} of {record.position} is logged, but not attempt {record.attempt - 1}"
