# ruff: noqa: E501 - tables
"""Programs that real proposers wrote: what the executor makes of them, against the outputs that were published with them.

Every disagreement has a cause that a rule finds; one without is a fault, of the executor or of the rules. The fast tier
takes the sample in benchmarks/data. All published files: AZR_SEEDS=FOLDER pytest -m long tests/tasks/test_sandbox_real.py
"""

import json
import math
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import pytest

from storage.ids import Mode
from tasks.sandbox.executor import Execution, Executor, Job, Limits, Status
from tasks.sandbox.judge import Judgement, Question, Verdict, judge
from tasks.sandbox.values import Refused, equal, parse_value

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "benchmarks" / "data"
VALIDATION, ROOMY = Limits(cpu_s=1.0), Limits(cpu_s=20.0, memory_mb=4096)
CUT = 200  # the published executor kept the first and the last 200 characters of an output


class Pair(NamedTuple):
    row: str
    program: str
    input: str
    stored: str


class Cause(StrEnum):
    """Why our output is not the stored one."""

    TRUNCATED = "the stored output was cut"
    EMPTY = "the stored output is empty"
    CODE_INPUT = "the input is code, not literals"
    LIBRARY = "a library that is not there"
    NOT_LITERAL = "the output is not a literal"
    SET_ORDER = "the output depends on the order of a set"
    ADDRESS = "the output holds an address"
    CHANCE = "the output depends on chance or the clock"
    TOO_LARGE = "the output is larger than any gold may be"
    MEMORY = "more memory than a program may have"
    TIME = "more CPU time than validation gives"
    RAISES = "an exception, where the published executor stored nothing"
    FILE = "it writes a file"
    VERSION = "the last digits of a float, from another version of Python"


def read(directory: Path) -> Iterator[Pair]:
    for path in sorted(directory.glob("*.jsonl")):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            row = json.loads(line)
            inputs, outputs = row.get("inputs", [row.get("input")]), row.get("outputs", [row.get("output")])
            for given, stored in zip(inputs, outputs, strict=True):
                yield Pair(f"{path.name}:{number}", row["snippet"], given, stored)


# ---- what Python itself says about an input; asked in the sandbox, since the text may be anything

PYTHON_READS = """
import ast
def f(text):
    call = ast.parse(f"f({text})", mode="eval").body
    [ast.literal_eval(given) for given in [*call.args, *(named.value for named in call.keywords)]]
"""


class Case(NamedTuple):
    """A pair, what became of it, and how it ended where more is allowed."""

    pair: Pair
    found: Execution
    roomy: Execution
    """The run with more time and memory; the first one when it lacked neither."""
    readable: bool
    """Whether Python's own `literal_eval` reads the input."""

    @property
    def text(self) -> str:
        return self.found.outputs[0].text or ""

    def fails(self, status: Status, pattern: str = "") -> bool:
        return self.found.status is status and re.search(pattern, self.found.reason or "") is not None


def agrees(text: str, stored: str) -> bool:
    try:
        return equal(parse_value(text), parse_value(stored))
    except Refused:
        return False


def cut(case: Case) -> bool:
    head, dots, tail = case.pair.stored[:CUT], case.pair.stored[CUT : CUT + 3], case.pair.stored[CUT + 3 :]
    whole = case.found.status is not Status.OK or (case.text.startswith(head) and case.text.endswith(tail))
    return dots == "..." and CUT - 5 <= len(tail) <= CUT and whole  # it was stripped after the cut


def of_a_set(case: Case) -> bool:
    return re.search(r"\bset\b|\bfrozenset\b|\bhash\b|\{", case.pair.program + case.pair.input) is not None


def by_digits(case: Case) -> bool:
    """Whether only the last digits of floats differ: `sum` is more exact from Python 3.12 on."""
    number = r"-?\d+\.\d+(?:e[+-]?\d+)?"
    ours, theirs = re.findall(number, case.text), re.findall(number, case.pair.stored)
    if not ours or re.sub(number, "", case.text) != re.sub(number, "", case.pair.stored):
        return False
    return all(math.isclose(float(a), float(b), rel_tol=1e-9) for a, b in zip(ours, theirs, strict=True))


def missing_library(case: Case) -> bool:
    named = re.search(r"No module named '(\w+)", case.found.reason or "")
    return named is not None and named[1] in case.pair.program and named[1] not in sys.stdlib_module_names


STARVED = {Status.MEMORY, Status.TIMEOUT}
DIFFERS, REJECTED = Status.NONDETERMINISTIC, Status.REJECTED
RULES: dict[Cause, Callable[[Case], bool]] = {
    Cause.CODE_INPUT: lambda case: case.fails(REJECTED, r"^input 1 is not a list of literals") and not case.readable,
    Cause.LIBRARY: lambda case: case.fails(Status.ERROR, "^ModuleNotFoundError") and missing_library(case),
    Cause.TOO_LARGE: lambda case: case.fails(REJECTED, r"^outputs of \d+ bytes") and cut(case),
    Cause.NOT_LITERAL: lambda case: case.fails(REJECTED, "^not a literal") and not agrees(case.pair.stored, case.pair.stored),
    Cause.FILE: lambda case: case.fails(REJECTED, "^a forbidden system call") and "open(" in case.pair.program,
    Cause.ADDRESS: lambda case: case.fails(DIFFERS, r" at 0x[0-9a-f]+>"),
    Cause.CHANCE: lambda case: case.fails(DIFFERS) and re.search(r"\b(random|secrets|uuid|time|datetime|id)\b", case.pair.program) is not None,
    Cause.SET_ORDER: lambda case: case.fails(DIFFERS) and of_a_set(case),
    Cause.MEMORY: lambda case: case.fails(Status.MEMORY) and case.roomy.status not in STARVED,
    Cause.TIME: lambda case: case.fails(Status.TIMEOUT, "^over its CPU time") and case.roomy.status not in STARVED,
    Cause.TRUNCATED: lambda case: case.fails(Status.OK) and cut(case),
    Cause.EMPTY: lambda case: case.fails(Status.OK) and case.pair.stored == "",
    Cause.RAISES: lambda case: case.fails(Status.ERROR) and case.pair.stored == "",
    Cause.VERSION: lambda case: case.fails(Status.OK) and by_digits(case),
}  # fmt: skip


def cause(case: Case) -> Cause | None:
    """Why a disagreement is one; None when no rule says so."""
    return next((cause for cause, rule in RULES.items() if rule(case)), None)


def executed(executor: Executor, pairs: list[Pair], limits: Limits = VALIDATION) -> list[Execution]:
    return executor.run([Job(program=one.program, inputs=(one.input,), limits=limits, interpreters=2) for one in pairs])


def read_by_python(executor: Executor, texts: list[str]) -> list[bool]:
    found = executor.run([Job(program=PYTHON_READS, inputs=(repr(text),)) for text in texts])
    return [execution.status is Status.OK for execution in found]


class Studied(NamedTuple):
    """All pairs of a folder, run."""

    pairs: list[Pair]
    found: list[Execution]
    odd: list[Case]
    """Those that are not as published."""
    executor: Executor

    def valid(self) -> Iterator[tuple[Pair, str]]:
        """The pairs that validation accepts, and the output that becomes their gold."""
        for pair, execution in zip(self.pairs, self.found, strict=True):
            if execution.status is Status.OK:
                yield pair, execution.outputs[0].text or ""


def studied(executor: Executor, pairs: list[Pair]) -> Studied:
    found = executed(executor, pairs)
    odd = [at for at, one in enumerate(found) if not agrees(one.outputs[0].text or "", pairs[at].stored)]
    hungry = [at for at in odd if found[at].status in STARVED]
    roomy = dict(zip(hungry, executed(executor, [pairs[at] for at in hungry], ROOMY), strict=True))
    readable = read_by_python(executor, [pairs[at].input for at in odd])
    cases = [Case(pairs[at], found[at], roomy.get(at, found[at]), ok) for at, ok in zip(odd, readable, strict=True)]
    return Studied(pairs, found, cases, executor)


FOLDERS = {
    "sample": SAMPLE,
    "all": pytest.param(os.environ.get("AZR_SEEDS", ""), marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
}


@pytest.fixture(scope="module", params=FOLDERS.values(), ids=FOLDERS)
def seeds(request: pytest.FixtureRequest) -> Iterator[Studied]:
    if not request.param:
        pytest.skip("AZR_SEEDS names no folder with the published seeds")
    with Executor(workers=2) as executor:
        yield studied(executor, list(read(Path(request.param))))


def test_every_disagreement_with_the_published_output_has_a_cause(seeds: Studied) -> None:
    causes = [cause(case) for case in seeds.odd]
    print(len(seeds.pairs), "pairs:", dict(Counter(str(one.status) for one in seeds.found)))
    print(len(seeds.odd), "disagree:", dict(Counter(str(one) for one in causes)))
    unexplained = [
        (case.pair.row, case.pair.input[:80], case.pair.stored[:80], case.found)
        for case, found in zip(seeds.odd, causes, strict=True)
        if found is None
    ]
    assert unexplained == []
    assert len(seeds.odd) < len(seeds.pairs) / 2


def test_no_input_that_python_reads_as_literals_is_refused(seeds: Studied) -> None:
    refused = [case for case in seeds.odd if case.fails(Status.REJECTED, "is not a list of literals")]
    assert refused
    assert [case.pair.input for case in refused if case.readable] == []


def judged(seeds: Studied, questions: list[Question]) -> list[tuple[Question, Judgement]]:
    found = judge(seeds.executor, questions, limits=Limits(cpu_s=4 * VALIDATION.cpu_s))
    return [pair for pair in zip(questions, found, strict=True) if pair[1].verdict is not Verdict.CORRECT]


@pytest.mark.parametrize("mode", [Mode.DEDUCTION, Mode.ABDUCTION])
def test_gold_is_accepted(seeds: Studied, mode: Mode) -> None:
    valid = list(seeds.valid())
    questions = [
        Question(mode=mode, program=pair.program, inputs=(pair.input,), outputs=(gold,), answer=answer)
        for pair, gold in valid
        for answer in [gold if mode is Mode.DEDUCTION else pair.input]
    ]
    assert len(questions) > 100
    assert judged(seeds, questions) == []


def test_the_program_itself_is_accepted_in_induction(seeds: Studied) -> None:
    """All inputs of a row in one job, as validation runs an induction task: a program with a memory is refused there."""
    rows: dict[tuple[str, str], list[str]] = {}
    for pair, _ in seeds.valid():
        rows.setdefault((pair.row, pair.program), []).append(pair.input)
    jobs = [
        Job(program=program, inputs=tuple(inputs), limits=VALIDATION, interpreters=2)
        for (_, program), inputs in rows.items()
    ]
    found = seeds.executor.run(jobs)
    refused = [execution.status for execution in found if execution.status is not Status.OK]
    assert set(refused) <= {Status.NONDETERMINISTIC, Status.REJECTED}
    assert len(refused) < len(jobs) / 50
    questions = [
        Question(
            mode=Mode.INDUCTION,
            program=job.program,
            inputs=job.inputs,
            outputs=tuple(output.text or "" for output in execution.outputs),
            visible=len(job.inputs) // 2,
            answer=job.program,
        )
        for job, execution in zip(jobs, found, strict=True)
        if execution.status is Status.OK
    ]
    assert judged(seeds, questions) == []
    print(len(questions), "rows valid in induction, refused:", dict(Counter(map(str, refused))))


def test_another_gold_is_not_accepted(seeds: Studied) -> None:
    """Of two programs' gold outputs each answers its own question only, unless they are equal."""
    valid = list(seeds.valid())
    questions = [
        Question(mode=Mode.DEDUCTION, program=None, inputs=(pair.input,), outputs=(gold,), answer=other)
        for (pair, gold), (_, other) in zip(valid, [*valid[1:], valid[0]], strict=True)
    ]
    found = judge(seeds.executor, questions)
    assert [one.verdict is Verdict.CORRECT for one in found] == [
        agrees(question.answer or "", question.outputs[0]) for question in questions
    ]


@pytest.mark.long
def test_the_benchmark_runs(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "executor.py"), "--quick", "--json", str(tmp_path / "found")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "found").read_text())["rows"]
    assert {row["agree"] for row in rows if row["name"] == "plain exec in process"} == {rows[0]["programs"]}
    assert all(row["cpu_ms"] > 0 for row in rows)
