"""Checks of a well-formed proposal on the trusted side: before it is executed, and on the outputs it then gives.

Also the content keys, by which duplicates are known. Nothing here runs a program or raises on what a model wrote.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import UUID

from storage import ids
from storage.ids import Mode
from tasks.config import CurriculumConfig, SandboxConfig
from tasks.reasoning.imports import banned
from tasks.reasoning.modes import MODES, Pairs
from tasks.reasoning.parsing import Proposal
from tasks.reasoning.prompts import TemplateSet
from tasks.sandbox.facts import Facts, NoFacts
from tasks.sandbox.values import Refused, canonical_arguments, equal, parse_arguments

_HEADER = re.compile(r"def\s+f\s*\([^\n]*?:")
_DEFINES = re.compile(r"\bdef\s+\w+\s*\(|\blambda\b")
_LEAK_CHARS = 16  # a shorter body, without spaces and `return`, may be said by chance: `a + 1`


class Rejection(StrEnum):
    """Why a proposal is no task. The words from `ERROR` to `PROTOCOL` are those of the executor's statuses."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    MARKUP = "markup"
    BANNED = "banned"
    NOT_LITERAL = "not_literal"
    REPEATED_INPUT = "repeated_input"
    LEAKED_PROGRAM = "leaked_program"
    DUPLICATE = "duplicate"
    ERROR = "error"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    REJECTED = "rejected"
    CRASH = "crash"
    NONDETERMINISTIC = "nondeterministic"
    PROTOCOL = "protocol"
    CONSTANT = "constant"
    GOLD_REFUSED = "gold_refused"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A rejection with its reason in words, values included."""

    verdict: Rejection
    reason: str


def check_proposal(
    templates: TemplateSet, proposal: Proposal, curriculum: CurriculumConfig, sandbox: SandboxConfig
) -> Proposal | Rejected:
    """The proposal with its inputs as canonical literals, or the first rule that it breaks.

    In order: sizes, markup that would mislead a prompt, inputs that are no literals, inputs that repeat, a message that
    gives the program away.
    """
    message = proposal.message or ""
    parts = {"program": (proposal.program,), "input": proposal.inputs, "message": (message,)}
    rejected = _too_large(parts, sandbox) or _marked(parts, templates)
    if rejected is not None:
        return rejected
    read = _canonical_inputs(proposal.inputs)
    if isinstance(read, Rejected):
        return read
    rejected = _too_large({"input": read}, sandbox) or _marked({"input": read}, templates) or _repeated(read)
    if rejected is not None:
        return rejected
    if not curriculum.allow_leak and leaks(proposal.program, message):
        return Rejected(Rejection.LEAKED_PROGRAM, f"the message contains the program or its body: {message[:80]!r}")
    return replace(proposal, inputs=read)


def check_facts(reading: Facts | NoFacts, sandbox: SandboxConfig) -> Rejected | None:
    """Why a program is not executed: it is none, the parser cannot take it, or it uses what its run bans."""
    if isinstance(reading, NoFacts):
        return Rejected(Rejection(reading.status.value), reading.reason)
    found = banned(reading, sandbox)
    return None if found is None else Rejected(Rejection.BANNED, f"the program uses {found}, which is banned")


def check_outputs(
    templates: TemplateSet, mode: Mode, outputs: Sequence[str], curriculum: CurriculumConfig, sandbox: SandboxConfig
) -> Rejected | None:
    """The first rule that a proposal's gold outputs (canonical literals) break: size, markup, all of them equal."""
    rejected = _too_large({"output": outputs}, sandbox) or _marked({"output": outputs}, templates)
    if rejected is not None:
        return rejected
    constant = MODES[mode].pairs is Pairs.SEVERAL and len(set(outputs)) == 1
    if constant and not curriculum.allow_constant:
        return Rejected(Rejection.CONSTANT, f"all {len(outputs)} outputs are {outputs[0][:80]}")
    return None


def check_novel(key: UUID, earlier: Mapping[UUID, int]) -> Rejected | None:
    """Whether an equal task came before; `earlier` maps content keys to the packed ids of the first of each."""
    first = earlier.get(key)
    return None if first is None else Rejected(Rejection.DUPLICATE, f"the same task as {ids.text(first)}")


def leaks(program: str, message: str) -> bool:
    """Whether a message gives the program away: it holds code that defines something, or the body of `f`.

    White space and the word `return` do not count, so that neither breaks a match.
    """
    body = _bare(_HEADER.split(program, maxsplit=1)[-1])
    said = _bare(message)
    return _DEFINES.search(message) is not None or (len(body) >= _LEAK_CHARS and body in said)


def _bare(text: str) -> str:
    return "".join(text.split()).replace("return", "")


def program_key(program: str) -> UUID:
    """The content key of a program's text."""
    return _key("program", program)


def normalised_key(facts: Facts) -> UUID:
    """The key of a program's normal form: programs that differ in names, comments or layout only share it."""
    return _key("normalised", facts.normalised)


def task_key(mode: Mode, program: str, inputs: Sequence[str], message: str | None) -> UUID:
    """The content key of a task; equal for duplicates and only for them.

    `program` is in normal form and `inputs` are bound to its parameters, so that neither another name nor another way
    to write the same call makes a new task; of what could not be parsed, both are the text as it came.
    """
    return _key("task", mode.value, program, str(len(inputs)), *inputs, message)


def answer_key(task: UUID, answer: str) -> UUID:
    """The content key of an answer to the task with that key."""
    return _key("answer", task.hex, answer)


def rollout_key(prompt: str, completion: str) -> UUID:
    """The content key of a rollout."""
    return _key("rollout", prompt, completion)


def reward_key(rule: str, total: float, parts: Mapping[str, float | int | str | None]) -> UUID:
    """The content key of a reward: the rule, the total and the named parts, whatever their order."""
    named = (text for name in sorted(parts) for text in (name, None if parts[name] is None else str(parts[name])))
    return _key("reward", rule, repr(total), *named)


def _key(*parts: str | None) -> UUID:
    """blake2b over each part's length and bytes, None told from empty text, so no two part lists read alike."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = b"" if part is None else part.encode("utf-8", "surrogatepass")
        digest.update(b"-:" if part is None else f"{len(data)}:".encode())
        digest.update(data)
    return UUID(bytes=digest.digest())


def _each(parts: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Every text with a name for it: `program`, `input 2`."""
    for name, texts in parts.items():
        for at, text in enumerate(texts, start=1):
            yield (name if len(texts) == 1 else f"{name} {at}"), text


def _too_large(parts: Mapping[str, Sequence[str]], sandbox: SandboxConfig) -> Rejected | None:
    limits = {"program": sandbox.max_program_chars, "message": sandbox.max_message_chars}
    for name, text in _each(parts):
        limit = limits.get(name, sandbox.max_value_chars)
        if len(text) > limit:
            return Rejected(Rejection.TOO_LARGE, f"{name} has {len(text)} characters, {limit} are allowed")
    return None


def _marked(parts: Mapping[str, Sequence[str]], templates: TemplateSet) -> Rejected | None:
    for name, text in _each(parts):
        found = next((mark for mark in templates.forbidden if mark in text), None)
        if found is not None:
            return Rejected(Rejection.MARKUP, f"{name} contains {found}, which is markup of the prompts")
    return None


def _canonical_inputs(inputs: Sequence[str]) -> tuple[str, ...] | Rejected:
    read: list[str] = []
    for at, text in enumerate(inputs, start=1):
        try:
            arguments = parse_arguments(text)
            if arguments.kwargs and len(inputs) > 1:  # `1` and `a=1` may be one call: a shown pair would give it away
                raise Refused("named arguments are not allowed where inputs must differ")
            read.append(canonical_arguments(arguments))
        except Refused as error:
            return Rejected(Rejection.NOT_LITERAL, f"input {at} is no list of literals, {error}: {text[:80]!r}")
        if not read[-1]:
            return Rejected(Rejection.NOT_LITERAL, f"input {at} has no arguments: {text[:80]!r}")
    return tuple(read)


def _repeated(inputs: Sequence[str]) -> Rejected | None:
    """Equal by value: a dict in another order, or -0.0 for 0.0, is the same input."""
    values = [parse_arguments(text).args for text in inputs]
    for at, value in enumerate(values):
        first = next((earlier for earlier in range(at) if equal(values[earlier], value)), None)
        if first is not None:
            return Rejected(Rejection.REPEATED_INPUT, f"input {at + 1} repeats input {first + 1}: {inputs[at][:80]}")
    return None
