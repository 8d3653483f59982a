"""From a completion to a proposal or an answer, or to a refusal that names how the format was broken.

Only the shape is judged here: whether an input is a literal or a program compiles is a question of validity
(`tasks.reasoning.checks`), never of format. Nothing here raises on any text, and all of it is linear in its length.

Strict sets want exactly the blocks of the mode, in order, after an optional thought, and nothing else. Lenient sets
look inside the envelope's answer for fenced blocks in any order; where more of a kind are given than wanted, the last
ones count (arXiv 2505.03335's published code takes the last inputs, and a solver's last program).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from storage.ids import Mode
from tasks.reasoning.modes import MODES, Block, proposal_blocks
from tasks.reasoning.prompts import Envelope, Layout, Markup, TemplateSet

LONGEST = 1_000_000  # characters; a longer completion is refused unread


class Format(StrEnum):
    """`OK`, or how a completion broke the format."""

    OK = "ok"
    TRUNCATED = "truncated"
    TOO_LONG = "too_long"
    UNENCODABLE = "unencodable"
    UNTAGGED = "untagged"
    STRAY_TEXT = "stray_text"
    MISSING_BLOCK = "missing_block"
    WRONG_ORDER = "wrong_order"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A completion that broke the format, and how, in words with values."""

    format: Format
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A well-formed proposal: texts as the model wrote them, outer white space removed."""

    program: str
    inputs: tuple[str, ...]
    message: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A well-formed answer: an output, an argument list or a program, as the model wrote it."""

    text: str


class Piece(NamedTuple):
    """One block found in a completion."""

    block: Block
    text: str


def parse_proposal(
    templates: TemplateSet, mode: Mode, text: str, *, finished: bool, wanted: int, shown: str | None = None
) -> Proposal | Refusal:
    """Read a proposer's completion.

    Args:
        templates: the set that the prompt was rendered with.
        mode: the kind of task proposed.
        text: the completion, without the end token.
        finished: whether the model ended by itself; a completion cut at its token limit is refused.
        wanted: number of inputs a proposal of this mode holds (`modes.inputs_wanted`).
        shown: the program that the proposer was shown, for modes whose proposals bring none of their own.

    Raises:
        ValueError: the mode needs `shown` and it is None (a fault of the caller; no text raises).
    """
    found = _parse(templates.markup, proposal_blocks(mode, wanted), text, finished=finished)
    if isinstance(found, Refusal):
        return found
    program = _first(found, Block.PROGRAM) or shown
    if program is None:
        raise ValueError(f"a {mode} proposal is about a program that was shown, but none is given")
    inputs = tuple(piece.text for piece in found if piece.block is Block.INPUT)
    return Proposal(program=program, inputs=inputs, message=_first(found, Block.MESSAGE))


def parse_answer(templates: TemplateSet, mode: Mode, text: str, *, finished: bool) -> Answer | Refusal:
    """Read a solver's completion; arguments as in `parse_proposal`."""
    found = _parse(templates.markup, (MODES[mode].answer,), text, finished=finished)
    return found if isinstance(found, Refusal) else Answer(found[0].text)


def _parse(markup: Markup, wanted: Sequence[Block], text: str, *, finished: bool) -> list[Piece] | Refusal:
    """The wanted blocks in the wanted order, tidied, or why not."""
    refused = _unreadable(text, finished=finished)
    if refused is not None:
        return refused
    found = _LAYOUTS[markup.layout](markup, wanted, text)
    if isinstance(found, Refusal):
        return found
    tidied = [Piece(piece.block, _tidy(piece)) for piece in found]
    empty = [piece.block.value for piece in tidied if not piece.text]
    return Refusal(Format.EMPTY, f"empty block: {', '.join(empty)}") if empty else tidied


def _unreadable(text: str, *, finished: bool) -> Refusal | None:
    if not finished:
        return Refusal(Format.TRUNCATED, f"the completion did not end within its token limit ({len(text)} characters)")
    if len(text) > LONGEST:
        return Refusal(Format.TOO_LONG, f"{len(text)} characters, at most {LONGEST} are read")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return Refusal(Format.UNENCODABLE, f"character {error.start} is half of a surrogate pair")
    return None


def _strict(markup: Markup, wanted: Sequence[Block], text: str) -> list[Piece] | Refusal:
    """Blocks from marker to marker: an optional thought, then exactly the wanted ones."""
    opening = {mark.open: block for block, mark in markup.blocks.items()}
    marks = sorted({*opening, *markup.single_tokens, *markup.reserved}, key=len, reverse=True)
    head, *rest = re.split(f"({'|'.join(map(re.escape, marks))})", text)
    if head.strip():
        return Refusal(Format.STRAY_TEXT, f"text before the first marker: {_clip(head)}")
    foreign = next((mark for mark in rest[::2] if mark not in opening), None)
    if foreign is not None:
        return Refusal(Format.STRAY_TEXT, f"{foreign} does not belong into a completion")
    pieces = [Piece(opening[mark], body) for mark, body in zip(rest[::2], rest[1::2], strict=True)]
    if pieces and pieces[0].block is Block.THINK:
        pieces = pieces[1:]
    return pieces if [piece.block for piece in pieces] == list(wanted) else _misfit(pieces, wanted)


def _lenient(markup: Markup, wanted: Sequence[Block], text: str) -> list[Piece] | Refusal:
    """Fenced blocks inside the answer of the envelope, the last ones of each kind, put into the wanted order."""
    inner = text if markup.envelope is None else _unwrap(markup.envelope, text)
    if isinstance(inner, Refusal):
        return inner
    given: dict[Block, list[Piece]] = {block: [] for block in wanted}
    for piece in _fenced(markup, inner):
        given.setdefault(piece.block, []).append(piece)
    chosen: list[Piece] = []
    for block in dict.fromkeys(wanted):
        count = wanted.count(block)
        if len(given[block]) < count:
            return _misfit([piece for pieces in given.values() for piece in pieces], wanted)
        chosen += given[block][-count:]
    return chosen


_Reader = Callable[[Markup, Sequence[Block], str], list[Piece] | Refusal]
_LAYOUTS: dict[Layout, _Reader] = {Layout.STRICT: _strict, Layout.LENIENT: _lenient}


def _unwrap(envelope: Envelope, text: str) -> str | Refusal:
    """The answer of ``...</think> <answer>...</answer>``; the prompt has opened the thought, a tail is ignored."""
    _, closed, after = text.partition(envelope.think_close)
    between, opened, rest = after.partition(envelope.answer_open)
    inner, ended, _ = rest.partition(envelope.answer_close)
    marks = ((envelope.think_close, closed), (envelope.answer_open, opened), (envelope.answer_close, ended))
    missing = next((mark for mark, found in marks if not found), None)
    if missing is not None:
        return Refusal(Format.UNTAGGED, f"{missing} is missing")
    if between.strip():
        return Refusal(Format.UNTAGGED, f"text between thought and answer: {_clip(between)}")
    return inner


def _fenced(markup: Markup, text: str) -> Iterator[Piece]:
    """The closed fenced blocks of a text; fences with other names are skipped whole, so nothing inside them counts."""
    opening = {mark.open: block for block, mark in markup.blocks.items()}
    closing = {mark.close for mark in markup.blocks.values()}
    name: str | None = None
    body: list[str] = []
    for line in text.split("\n"):
        word = line.strip()
        if name is None:
            if word in opening or any(word.startswith(close) for close in closing):
                name, body = word, []
        elif word in closing:
            if name in opening:
                yield Piece(opening[name], "\n".join(body))
            name = None
        else:
            body.append(line)


def _misfit(given: Sequence[Piece], wanted: Sequence[Block]) -> Refusal:
    """Why the blocks given are not those wanted: one is missing, or all are there and they do not line up."""
    kinds = [piece.block for piece in given]
    reason = f"wanted {_listed(wanted)}; given {_listed(kinds)}"
    missing = any(kinds.count(block) < wanted.count(block) for block in wanted)
    return Refusal(Format.MISSING_BLOCK if missing else Format.WRONG_ORDER, reason)


def _listed(blocks: Sequence[Block]) -> str:
    """Runs of blocks in words: ``3 x input, message``; long lists are cut."""
    runs: list[tuple[Block, int]] = []
    for block in blocks:
        if runs and runs[-1][0] is block:
            runs[-1] = (block, runs[-1][1] + 1)
        else:
            runs.append((block, 1))
    words = [block.value if count == 1 else f"{count} x {block.value}" for block, count in runs]
    return ", ".join(words[:8]) + (f" and {len(words) - 8} more" if len(words) > 8 else "") or "nothing"


def _first(pieces: Sequence[Piece], block: Block) -> str | None:
    return next((piece.text for piece in pieces if piece.block is block), None)


def _tidy(piece: Piece) -> str:
    """Without outer white space; a program keeps the indentation of its first line."""
    if piece.block is not Block.PROGRAM:
        return piece.text.strip()
    return piece.text.rstrip().lstrip("\r\n")


def _clip(text: str, limit: int = 60) -> str:
    short = text.strip()
    return repr(short[:limit]) + (f"... ({len(text)} characters)" if len(short) > limit else "")
