"""The curves of a run, one point per iteration: what the named SQL says of it, counted from its sealed rows.

The views `reward_curves` and `iterations` say the same of a whole history (a test compares them); opening it for each
new point would cost more with every iteration. So a point is counted from the rows of its own iteration, and the points
before are kept, thinned out: a picture shows no more of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from storage.ids import Position, Role, Stage
from storage.ledger import Ledger
from storage.records import VALID, Answer, Reward, Task

MOST = 100
"""Points that are kept; beyond, every other one goes."""

Values = Mapping[str, float]  # by mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One iteration: means by mode, and what it cost."""

    iteration: int
    proposer: Values
    """Mean reward of proposals."""
    solver: Values
    """Mean reward of answers."""
    solved: Values
    """Share of the answers that are correct."""
    valid: Values
    """Share of the proposals that became tasks."""
    seconds: float
    """Wall-clock time of its sealed attempts."""


@dataclass(slots=True)
class Curves:
    """The points of one run, made when asked for and kept; every `stride`-th iteration, and the latest."""

    ledger: Ledger
    stride: int = 1
    _points: dict[int, Point] = field(default_factory=dict)

    def until(self, last: int) -> list[Point]:
        """The points up to an iteration whose update is sealed.

        Raises:
            LedgerError: a file is not what was sealed.
        """
        while last // self.stride > MOST:
            self.stride *= 2
        wanted = [*range(self.stride, last, self.stride), last] if last > 0 else []
        self._points = {number: self._point(number) for number in wanted}
        return list(self._points.values())

    def _point(self, iteration: int) -> Point:
        return self._points.get(iteration) or point(self.ledger, iteration)


def point(ledger: Ledger, iteration: int) -> Point:
    """What one whole iteration came to; raises LedgerError when it is not sealed or not what was sealed."""
    verified, validated = Position(iteration, Stage.VERIFY), Position(iteration, Stage.VALIDATE)
    rewards = ledger.read(Reward, verified)
    answers, tasks = ledger.read(Answer, verified), ledger.read(Task, validated)
    return Point(
        iteration=iteration,
        proposer=_means((reward.mode, reward.total) for reward in rewards if reward.role is Role.PROPOSER),
        solver=_means((reward.mode, reward.total) for reward in rewards if reward.role is Role.SOLVER),
        solved=_means((answer.mode, float(answer.verdict == "correct")) for answer in answers),
        valid=_means((task.mode, float(task.verdict == VALID)) for task in tasks),
        seconds=sum(seconds(ledger, Position(iteration, stage)) for stage in Stage),
    )


def seconds(ledger: Ledger, at: Position) -> float:
    """Wall-clock time of the attempt that sealed a stage."""
    timings = ledger.require(at).timings
    return (timings.finished_us - timings.started_us) / 1e6


def _means(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    values: dict[str, list[float]] = defaultdict(list)
    for key, value in pairs:
        values[str(key)].append(value)
    return {key: sum(some) / len(some) for key, some in values.items()}
