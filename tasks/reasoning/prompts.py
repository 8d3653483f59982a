"""Prompts from named template sets: a folder of markdown files and one `format.toml` that declares the markup.

Every prompt is one file with ``{{name}}`` placeholders, its final newline dropped, put into the set's `frame.md`.
Substitution is one pass: text that came from a model is never searched for placeholders. A template may only use the
placeholders that its mode shows (`modes.MODES`), so no prompt can give an answer away.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, StringConstraints

from storage.errors import ConfigError
from storage.ids import Mode, Role
from tasks.reasoning.modes import MODES, Block, Shown

ROOT = Path(__file__).parent / "templates"
_HOLE = re.compile(r"\{\{([a-z_]+)\}\}")
_STEM = {Role.PROPOSER: "propose", Role.SOLVER: "solve"}
_PIECES = {  # the placeholders of the files that are no prompt of their own
    "frame": frozenset({"prompt"}),
    "reference": frozenset({"index", "program", "input", "output"}),
    "pair": frozenset({"index", "input", "output"}),
}
_OPTIONAL = frozenset({"index", Shown.WANTED.value})

Text = Annotated[str, StringConstraints(min_length=1)]


class Layout(StrEnum):
    """How strictly a completion must keep to the blocks."""

    STRICT = "strict"  # the wanted blocks in order, each from its marker to the next, nothing else
    LENIENT = "lenient"  # fenced blocks inside an envelope, in any order, other text around them allowed


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Mark(_Declared):
    """The markup of one block; strict layouts have no closing mark."""

    open: Text
    close: str = ""


class Envelope(_Declared):
    """What stands around thought and answer in a completion; the prompt ends inside the thought."""

    think_close: Text
    answer_open: Text
    answer_close: Text


class Markup(_Declared):
    """A set's `format.toml`."""

    layout: Layout
    separator: str
    base_must_know: bool
    single_tokens: tuple[Text, ...]
    reserved: tuple[Text, ...]
    blocks: dict[Block, Mark]
    envelope: Envelope | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateSet:
    """A named set of templates.

    `hash` covers the names and bytes of all its files: a base model trained on a set carries it.
    """

    name: str
    hash: str
    markup: Markup
    texts: Mapping[str, str]  # by file stem, final newline dropped

    @property
    def forbidden(self) -> tuple[str, ...]:
        """Strings that no program, value or message may hold, because they would read as markup in a prompt."""
        return self.markup.single_tokens + self.markup.reserved


class Reference(NamedTuple):
    """An earlier task as a proposer is shown it; where a task has several pairs, one of them."""

    program: str
    input: str
    output: str


@cache
def load_templates(name: str) -> TemplateSet:
    """Read the template set `name`.

    Raises:
        ConfigError: there is no such set (the known ones are named), or one of its files does not fit.
    """
    known = template_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        guess = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"There is no template set {name!r}. Known sets: {', '.join(known)}.{guess}")
    return read_templates(ROOT / name)


def template_names() -> tuple[str, ...]:
    """The template sets that come with the package."""
    return tuple(sorted(path.parent.name for path in ROOT.glob("*/format.toml")))


def read_templates(folder: Path) -> TemplateSet:
    """Read and check a folder of templates; raises ConfigError that names the file at fault."""
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in {".md", ".toml"}}
    try:
        markup = Markup.model_validate(tomllib.loads(files["format.toml"].decode()))
        texts = {Path(name).stem: _read(data) for name, data in files.items() if name.endswith(".md")}
    except KeyError:
        raise ConfigError(f"Template set {folder} has no format.toml.") from None
    except ValueError as error:
        raise ConfigError(f"Template set {folder} cannot be read: {error}") from None
    _check_markup(folder, markup)
    _check_texts(folder, texts)
    return TemplateSet(name=folder.name, hash=_hash(files), markup=markup, texts=MappingProxyType(texts))


def proposal_prompt(templates: TemplateSet, mode: Mode, references: Sequence[Reference], *, wanted: int = 1) -> str:
    """The prompt of a proposer.

    Args:
        templates: the set.
        mode: the kind of task to propose.
        references: the earlier tasks shown; a mode that is shown one program takes that of the first.
        wanted: how many inputs the proposal must hold.

    Raises:
        ValueError: the mode shows a program and there is no reference to take it from.
    """
    if not references and Shown.PROGRAM in MODES[mode].proposer_sees:
        raise ValueError(f"a proposer of {mode} is shown a program, but no reference is given")
    values = {Shown.REFERENCES: _references(templates, references), Shown.WANTED: str(wanted)}
    if references:
        values[Shown.PROGRAM] = references[0].program
    return _render(templates, Role.PROPOSER, mode, values)


def solver_prompt(
    templates: TemplateSet,
    mode: Mode,
    *,
    program: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    visible: int,
    message: str | None,
) -> str:
    """The prompt of a solver; the mode decides which of these parts of the task it shows.

    Raises:
        ValueError: a mode with a message has none, or there are fewer pairs than `visible`.
    """
    shown = tuple(zip(inputs, outputs, strict=True))[:visible]
    if len(shown) < visible:
        raise ValueError(f"{visible} pairs are to be shown, the task has {len(inputs)}")
    if message is None and Shown.MESSAGE in MODES[mode].solver_sees:
        raise ValueError(f"a {mode} task without a message cannot be shown")
    values = {
        Shown.PROGRAM: program,
        Shown.INPUT: inputs[0],
        Shown.OUTPUT: outputs[0],
        Shown.PAIRS: _pairs(templates, shown),
        Shown.MESSAGE: message or "",
    }
    return _render(templates, Role.SOLVER, mode, values)


def _render(templates: TemplateSet, role: Role, mode: Mode, values: Mapping[Shown, str]) -> str:
    prompt = _fill(templates.texts[_name(role, mode)], {shown.value: text for shown, text in values.items()})
    return _fill(templates.texts["frame"], {"prompt": prompt})


def _references(templates: TemplateSet, references: Sequence[Reference]) -> str:
    text = templates.texts["reference"]
    filled = (_fill(text, {"index": str(at), **one._asdict()}) for at, one in enumerate(references, start=1))
    return templates.markup.separator.join(filled)


def _pairs(templates: TemplateSet, pairs: Sequence[tuple[str, str]]) -> str:
    text = templates.texts["pair"]
    filled = (_fill(text, {"index": str(at), "input": i, "output": o}) for at, (i, o) in enumerate(pairs, start=1))
    return templates.markup.separator.join(filled)


def _fill(template: str, values: Mapping[str, str]) -> str:
    """Substitute in one pass; raises KeyError for a placeholder without a value."""
    return _HOLE.sub(lambda hole: values[hole[1]], template)


def _name(role: Role, mode: Mode) -> str:
    return f"{_STEM[role]}_{mode}"


def _read(data: bytes) -> str:
    return data.decode("utf-8").removesuffix("\n")


def _hash(files: Mapping[str, bytes]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, data in sorted(files.items()):
        digest.update(f"{len(name)}:{name}{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()


def _placeholders() -> dict[str, frozenset[str]]:
    """The placeholders that each file may use; a prompt's come from its mode."""
    found = dict(_PIECES)
    for mode, rules in MODES.items():
        found[_name(Role.PROPOSER, mode)] = frozenset(shown.value for shown in rules.proposer_sees)
        found[_name(Role.SOLVER, mode)] = frozenset(shown.value for shown in rules.solver_sees)
    return found


def _check_texts(folder: Path, texts: Mapping[str, str]) -> None:
    for stem, allowed in _placeholders().items():
        if stem not in texts:
            raise ConfigError(f"Template set {folder} has no {stem}.md.")
        used = frozenset(_HOLE.findall(texts[stem]))
        if used - allowed or allowed - used - _OPTIONAL:
            raise ConfigError(
                f"{folder / stem}.md uses the placeholders {sorted(used)}; it must use {sorted(allowed - _OPTIONAL)}"
                f" and may use {sorted(allowed)}."
            )


def _check_markup(folder: Path, markup: Markup) -> None:
    wanted = {block for rules in MODES.values() for block in (*rules.proposal, rules.answer)}
    missing = wanted - markup.blocks.keys()
    if missing:
        raise ConfigError(f"{folder}/format.toml declares no markup for {', '.join(sorted(missing))}.")
    strict = markup.layout is Layout.STRICT
    if strict is not (markup.envelope is None) or any(strict is bool(mark.close) for mark in markup.blocks.values()):
        raise ConfigError(
            f"{folder}/format.toml: a strict layout has no envelope and no closing marks, a lenient one has both."
        )
