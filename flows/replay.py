"""`azr replay` and `azr rerun --compare`: sealed stages done again, aside, and compared with what is sealed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from flows.aside import aside
from flows.console import Gauge, Meter, Table, as_table, say, say_json
from flows.launch import pick_run, position_of, stage_of
from storage import layout
from storage.comparison import Difference
from storage.errors import ConfigError, EngineError, LedgerError
from storage.ids import Position, Stage
from storage.ledger import Ledger
from tasks.workshop import Workshop

if TYPE_CHECKING:
    from tasks.again import Again

_ROWS = ("table", "sealed", "now", "missing", "added", "changed", "columns")
_STAGES = ("stage", "stages", "rows", "equal", "differing", "not done")
_CHANCE = (
    "Code and host are those of the seal. Programs that end near a limit of time or memory may end otherwise; on a GPU "
    "sums have no fixed order. Anything else is a fault: please report it."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """A stage that could not be done again, and why."""

    at: Position
    reason: str


def compare_stage(root: Path, run: str | None, *, iteration: str, stage: str) -> int:
    """Do one sealed stage again and say whether it came out equal: exit code 0, or 1 when it did not.

    Raises:
        LedgerError: there is no such run, or the stage is not sealed.
        EngineError: the policy or optimizer state that it starts from is no longer kept.
    """
    name, at = pick_run(root, run), position_of(iteration, stage)
    maker, found = compared(root, name, at, gauge=Meter(f"{at} of {name} again"))
    say(comparison(maker, at, found))
    return int(not found.equal)


def compared(root: Path, name: str, at: Position, *, gauge: Gauge) -> tuple[str, Again]:
    """The run that made a sealed stage (of what a fork shares, its parent) and the stage done again by its config.

    Raises:
        LedgerError: the stage is not sealed.
        EngineError: the policy or optimizer state that it starts from is no longer kept.
    """
    ledger = Ledger.open(root, name)
    ledger.require(at)
    maker = name if at in ledger.made() else ledger.home(at).name
    with aside(root, maker, gauge=gauge, total=1) as work:
        return maker, _again(work, at)


def comparison(name: str, at: Position, found: Again) -> str:
    """What came of one stage done again, for people."""
    what = f"Stage {at} of run {name} was done again aside"
    if found.equal:
        return f"{what}: equal, {found.rows} rows. Nothing was written."
    return f"{what}: it differs. Nothing was written.\n\n{_page(found)}"


def replay(root: Path, run: str | None, *, first: int, last: int | None, stages: str | None, as_json: bool) -> int:
    """Do every sealed stage of a range again and say what differs: exit code 0 when all came out equal, else 1.

    Raises:
        LedgerError: there is no such run, or nothing of the range is sealed.
        ConfigError: a stage that is none.
    """
    name = pick_run(root, run)
    wanted = sealed_stages(Ledger.open(root, name), first, last, _stages(stages))
    tell = _silent if as_json else say
    done = replayed(root, name, wanted, gauge=Meter(f"replay of {name}: stages"), tell=tell)
    if as_json:
        say_json({"run": name, "equal": all(map(is_equal, done)), "stages": list(map(_plain, done))})
    else:
        say(page(root, name, first, done))
    return int(not all(map(is_equal, done)))


def replayed(
    root: Path, name: str, wanted: Sequence[Position], *, gauge: Gauge, tell: Callable[[str], None]
) -> list[Again | Undone]:
    """Sealed stages of a run done again aside; each that differs or cannot be done is told of at once."""
    done: list[Again | Undone] = []
    with aside(root, name, gauge=gauge, total=len(wanted)) as work:
        for at in wanted:
            done.append(_tried(work, at))
            if told := _told(done[-1]):
                tell(told)
    return done


def page(root: Path, name: str, first: int, done: Sequence[Again | Undone]) -> str:
    """The sums of a replay and what follows from them."""
    return f"{as_table(Table(_STAGES, list(_sums(done))))}\n\n{_verdict(root, name, first, done)}"


def _silent(text: str) -> None:
    """Say nothing; the JSON says it all."""


def _stages(words: str | None) -> Collection[Stage]:
    return tuple(Stage) if words is None else {stage_of(word.strip()) for word in words.split(",")}


def sealed_stages(ledger: Ledger, first: int, last: int | None, stages: Collection[Stage]) -> list[Position]:
    """The stages of a range that the run itself sealed; raises LedgerError when there is none."""
    sealed = list(ledger.made())  # what a fork took from its parent was made under the parent's config
    end = max((at.iteration for at in sealed), default=0) if last is None else last
    found = [at for at in sealed if first <= at.iteration <= end and at.stage in stages]
    if not found:
        raise LedgerError(
            f"Run {ledger.run} has no sealed {' or '.join(stages)} of iterations {first} to {end}. Nothing was done. "
            f"What is sealed: {layout.command('status', root=ledger.root, run=ledger.run)}"
        )
    return found


def _again(work: Workshop, at: Position) -> Again:
    from flows.iteration import STAGES  # these bring prefect, whose home is aside now
    from tasks.again import again

    return again(work, next(one for one in STAGES if one.stage is at.stage), at)


def _tried(work: Workshop, at: Position) -> Again | Undone:
    try:
        return _again(work, at)
    except (ConfigError, EngineError, LedgerError) as error:
        work.reporter.skip(at)
        return Undone(at=at, reason=str(error))


def is_equal(one: Again | Undone) -> bool:
    """Whether a stage was done again and came out as it is sealed."""
    return not isinstance(one, Undone) and one.equal


def _told(one: Again | Undone) -> str | None:
    """What is said of a stage as soon as it is done."""
    if isinstance(one, Undone):
        return f"{one.at} could not be done again: {one.reason}\n"
    return None if one.equal else f"{one.at} differs\n\n{_page(one)}\n"


def _page(one: Again) -> str:
    parts = [as_table(Table(_ROWS, [_row(difference) for difference in one.differences]))]
    parts.append("\n".join(["first differences", *_examples(one.differences)]))
    if one.facts:
        rows = [(fact.name, fact.sealed, fact.here) for fact in one.facts]
        parts.append("what may have changed it\n" + as_table(Table(("fact", "when sealed", "here"), rows)))
    else:
        parts.append(_CHANCE)
    return "\n\n".join(parts)


def _row(one: Difference) -> tuple[object, ...]:
    columns = ", ".join(f"{name} {count}" for name, count in one.columns.items())
    return (one.table, one.sealed, one.made, one.missing, one.added, one.changed, columns)


def _examples(differences: Sequence[Difference]) -> Iterator[str]:
    for one in differences:
        for row, column, sealed, made in one.examples:
            what = f"{one.table} {row} {column}".rstrip()
            yield f"  {what}: {sealed} is sealed, now {made}".replace("\n", "⏎ ")


def _sums(done: Sequence[Again | Undone]) -> Iterator[tuple[object, ...]]:
    order = list(Stage)
    for stage, group in groupby(sorted(done, key=lambda one: order.index(one.at.stage)), lambda one: one.at.stage):
        of_stage = list(group)
        again = [one for one in of_stage if not isinstance(one, Undone)]
        equal = sum(one.equal for one in again)
        rows = sum(one.rows for one in again)
        yield stage.value, len(of_stage), rows, equal, len(again) - equal, len(of_stage) - len(again)


def _verdict(root: Path, run: str, first: int, done: Sequence[Again | Undone]) -> str:
    equal = sum(map(is_equal, done))
    what = "All came out equal" if equal == len(done) else f"{equal} of {len(done)} stages came out equal"
    told = f"{what}. Nothing was written into run {run}."
    if first and any(isinstance(one, Undone) for one in done):
        told += (
            "\nPolicies and optimizer states that are no longer kept are made again by the updates before them: "
            + layout.command("replay", root=root, run=run)
        )
    return told


def _plain(one: Again | Undone) -> dict[str, object]:
    if isinstance(one, Undone):
        return {"stage": str(one.at), "reason": one.reason, "equal": False}
    return {
        "stage": str(one.at),
        "equal": one.equal,
        "rows": one.rows,
        "facts": [fact._asdict() for fact in one.facts],
        "differences": [
            {**asdict(difference), "examples": [example._asdict() for example in difference.examples]}
            for difference in one.differences
        ],
    }
