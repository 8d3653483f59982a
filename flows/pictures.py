"""Curves as a small picture that a Markdown page can hold: SVG, made of nothing but our own words and numbers."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from flows.curves import Point
from storage.ids import Mode

_ALL = "all modes"
_INK, _FAINT = "#333333", "#dddddd"
COLOURS = {
    Mode.DEDUCTION: "#1f77b4", Mode.ABDUCTION: "#d95f02", Mode.INDUCTION: "#2a9d4a", Mode.ERROR: "#8e44ad", _ALL: _INK,
}  # fmt: skip
_WIDTH, _HEIGHT, _GAP, _TOP = 330, 150, 40, 34  # of one panel's frame, in pixels
_ACROSS = 2
Lines = Mapping[str, Sequence[tuple[int, float]]]  # by mode: iteration and value


class _Panel(NamedTuple):
    """One frame: its heading, what it shows of a point, and the values that it holds at least."""

    heading: str
    of: Callable[[Point], Mapping[str, float]]
    low: float
    high: float


_PANELS = (
    _Panel("solver: mean reward", lambda point: point.solver, -1.0, 1.0),
    _Panel("solver: share of answers correct", lambda point: point.solved, 0.0, 1.0),
    _Panel("proposer: mean reward", lambda point: point.proposer, -1.0, 1.0),
    _Panel("proposer: share of proposals valid", lambda point: point.valid, 0.0, 1.0),
    _Panel("seconds per iteration", lambda point: {_ALL: point.seconds}, 0.0, 1.0),
)


def picture(points: Sequence[Point]) -> str:
    """The curves of a run as Markdown: an image that holds itself, so that no server is asked for it."""
    data = base64.b64encode(svg(points).encode()).decode()
    return f"![the curves so far](data:image/svg+xml;base64,{data})"


def svg(points: Sequence[Point]) -> str:
    """The panels over the iterations, one line per mode, and in the last place what the colours mean."""
    rows = len(_PANELS) // _ACROSS + 1
    width, height = _ACROSS * (_WIDTH + _GAP) + _GAP, rows * (_HEIGHT + _TOP + 22) + 6
    frames = "".join(_frame(panel, points, at) for at, panel in enumerate(_PANELS))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
        f"{frames}{_legend(points)}</svg>"
    )


def _frame(panel: _Panel, points: Sequence[Point], at: int) -> str:
    left, top = _corner(at)
    lines = _lines(panel, points)
    values = [value for line in lines.values() for _, value in line]
    low, high = min([panel.low, *values]), max([panel.high, *values])
    first, last = (points[0].iteration, points[-1].iteration) if points else (0, 0)

    def place(iteration: int, value: float) -> str:
        x = left + (_WIDTH if last == first else _WIDTH * (iteration - first) / (last - first))
        return f"{x:.0f},{top + _HEIGHT * (high - value) / (high - low):.0f}"  # whole pixels halve the picture

    marks = [low, (low + high) / 2, high]
    grid = "".join(_mark(left, float(place(first, value).partition(",")[2]), value) for value in marks)
    drawn = "".join(_line(mode, [place(*one) for one in line]) for mode, line in lines.items())
    foot = top + _HEIGHT + 14
    return (
        _text(left, top - 10, panel.heading, weight="bold")
        + f"{grid}{drawn}{_text(left, foot, str(first))}{_text(left + _WIDTH, foot, str(last), anchor='end')}"
    )


def _lines(panel: _Panel, points: Sequence[Point]) -> Lines:
    modes = dict.fromkeys(mode for point in points for mode in panel.of(point))
    return {mode: [(one.iteration, panel.of(one)[mode]) for one in points if mode in panel.of(one)] for mode in modes}


def _line(mode: str, places: Sequence[str]) -> str:
    """One curve; where there is one point alone, a dot."""
    colour = COLOURS[mode]
    x, _, y = places[-1].partition(",")
    return (
        f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        f'<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>'
    )


def _mark(left: int, y: float, value: float) -> str:
    rule = f'<line x1="{left}" y1="{y:.1f}" x2="{left + _WIDTH}" y2="{y:.1f}" stroke="{_FAINT}"/>'
    return rule + _text(left - 4, y + 4, f"{value:,.0f}" if value >= 10 else f"{value:.2g}", anchor="end")


def _legend(points: Sequence[Point]) -> str:
    left, top = _corner(len(_PANELS))
    shown = [*(mode for mode in Mode if any(mode in point.valid for point in points)), _ALL]
    lines = [(top + 20 * at, word) for at, word in enumerate(shown)]
    dots = [f'<circle cx="{left + 6}" cy="{y - 4}" r="4" fill="{COLOURS[word]}"/>' for y, word in lines]
    return "".join([*dots, *(_text(left + 16, y, word) for y, word in lines)])


def _corner(at: int) -> tuple[int, int]:
    """Where the frame of a panel begins: its left and its top."""
    return _GAP + at % _ACROSS * (_WIDTH + _GAP), _TOP + at // _ACROSS * (_HEIGHT + _TOP + 22)


def _text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal") -> str:
    look = f'text-anchor="{anchor}" font-weight="{weight}" fill="{_INK}"'
    return f'<text x="{x:g}" y="{y:g}" {look}>{escape(words)}</text>'
