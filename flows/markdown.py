"""Markdown for Prefect's pages. What a model wrote can be neither markup nor a link there: it is always fenced."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence

LINES, COLUMNS = 24, 160  # of a fenced text, as much as a person reads on a page
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|~<>&:-])")
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def excerpt(text: str, language: str = "text") -> str:
    """The beginning of a text as a fenced block."""
    return fenced(shortened(text), language)


def fenced(text: str, language: str = "text") -> str:
    """A text as a block that shows as it is; its fence is longer than any run of backticks within."""
    shown = visible(text)
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{shown}\n{fence}"


def code(text: str) -> str:
    """A short text of ours in a line, as code: a command, an id, a name."""
    shown = visible(text).replace("\n", " ")
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    room = " " if longest else ""
    return f"{fence}{room}{shown}{room}{fence}"


def plain(text: str) -> str:
    """A text in a line that shows as it is: nothing in it is markup, HTML or the end of a table's cell."""
    return _MARKUP.sub(r"\\\1", visible(text).replace("\n", " "))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of words and numbers, these to the right; an empty one is said to be empty."""
    if not rows:
        return "(none)"
    numeric = [all(isinstance(row[at], int | float | None) for row in rows) for at in range(len(columns))]
    ruler = ["--:" if right else ":--" for right in numeric]
    lines = [[plain(name) for name in columns], ruler, *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def slug(run: str, word: str) -> str:
    """A key of Prefect's for something of a run: small letters, digits and dashes.

    Names that this would make equal are told apart by a hash.
    """
    kept = re.sub("[^a-z0-9]+", "-", run.lower()).strip("-")
    unlike = "" if kept == run else f"-{hashlib.blake2b(run.encode(), digest_size=2).hexdigest()}"
    return f"{kept}{unlike}-{word}"


def visible(text: str) -> str:
    r"""A text without characters that are not seen or turn the line around: each as its escape, ``\u202e``."""
    return "".join(_escaped(char) for char in text.expandtabs(4).replace("\r\n", "\n"))


def shortened(text: str) -> str:
    """The first lines of a text, each to its first columns; what was cut is said in numbers."""
    lines = text.split("\n")
    shown = [line if len(line) <= COLUMNS else f"{line[:COLUMNS]} … {len(line) - COLUMNS} more" for line in lines]
    rest = [f"… {len(lines) - LINES} more lines"] if len(lines) > LINES else []
    return "\n".join(shown[:LINES] + rest)


def _escaped(char: str) -> str:
    if char == "\n" or char.isprintable() or unicodedata.category(char) not in _UNSEEN:
        return char
    return char.encode("unicode_escape").decode()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else _tiny(value) if abs(value) < 0.001 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else plain(str(value))


def _tiny(value: float) -> str:
    """Without the zero that Python puts into exponents: it would make a wide table wider than a page."""
    return f"{value:.2g}".replace("e-0", "e-")
