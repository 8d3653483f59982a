"""Every verdict about a proposal, provoked by a scripted proposer, and the rows that come of it."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from models.engines.base import Request
from storage import ids
from storage.ids import Mode, Position, Stage
from storage.ledger import Ledger
from storage.records import Rollout, Task, TaskParent
from tasks.reasoning.checks import Rejection, program_key, task_key
from tasks.reasoning.parsing import Format

IDENTITY = "def f(a):\n    return a"
PLUS = "def f(a):\n    return a + 1"
GRID = Position(1, Stage.VALIDATE)

SECTIONS = {
    "curriculum": {"proposals": 36, "inputs": 2, "visible": 1, "allow_constant": False},
    "sandbox": {
        "verify_cpu_s": 3.0,
        "max_program_chars": 200,
        "max_value_chars": 60,
        "max_message_chars": 40,
        "allow_imports": ["os", "ctypes", "resource"],
    },
}


class Case(NamedTuple):
    """A completion, and what must be stored about it."""

    text: str
    verdict: str
    reason: str | None = None
    outputs: tuple[str, ...] | None = ()  # None: whatever the machine says
    format: str = "ok"


def task(program: str, arguments: str = "1", *, before: str = "") -> str:
    return f"{before}<|program|>{program}<|input|>{arguments}"


def puzzle(message: str, *arguments: str) -> str:
    return "".join(f"<|input|>{one}" for one in arguments) + f"<|message|>{message}"


def returning(expression: str) -> str:
    return f"def f(a):\n    return {expression}"


ZERO = "def f(a):\n    return a / 0"
LIMIT = "import resource\ndef f(a):\n    return resource.getrlimit(resource.RLIMIT_CPU)[0]"
FORK = "import os\ndef f(a):\n    return os.fork()"
SEGFAULT = "import ctypes\ndef f(a):\n    return ctypes.string_at(0)"
FORGED = "import os\ndef f(a):\n    os.write(3, b'12345678')\n    os._exit(0)"

CASES: dict[str, Case] = {
    # What is a task
    "1-ded-000": Case(task(PLUS, "1"), "valid", None, ("2",)),
    "1-ded-001": Case(task(PLUS, " 0x10 ", before="<|think|>hm"), "valid", None, ("17",)),
    "1-ded-002": Case(task("def f(a, k=0):\n    return {k: a}", "'x', k=(1,)"), "valid", None, ("{(1,): 'x'}",)),
    # How the format can be broken
    "1-ded-003": Case("x" * 1200, "malformed", "the completion did not end within its token limit (300 characters)",
                      format="truncated"),
    "1-ded-004": Case(task(PLUS, before="Sure! "), "malformed", "text before the first marker: 'Sure!'",
                      format="stray_text"),
    "1-ded-005": Case(task(PLUS) + "<|answer|>", "malformed", "<|answer|> does not belong into a completion",
                      format="stray_text"),
    "1-ded-006": Case(f"<|program|>{PLUS}", "malformed", "wanted program, input; given program",
                      format="missing_block"),
    "1-ded-007": Case(f"<|input|>1<|program|>{PLUS}", "malformed", "wanted program, input; given input, program",
                      format="wrong_order"),
    "1-ded-008": Case(task(PLUS) + "<|output|>2", "malformed", "wanted program, input; given program, input, output",
                      format="wrong_order"),
    "1-ded-009": Case(task(" \n", "1"), "malformed", "empty block: program", format="empty"),
    "1-ded-010": Case("", "malformed", "wanted program, input; given nothing", format="missing_block"),
    # What is well-formed and breaks a rule before it is run
    "1-ded-011": Case(task(returning("'" + "x" * 200 + "'")), "too_large",
                      "program has 223 characters, 200 are allowed"),
    "1-ded-012": Case(task(PLUS, "[" + "1, " * 20 + "1]"), "too_large", "input has 63 characters, 60 are allowed"),
    "1-ded-013": Case(task(PLUS, "1e15, " * 5 + "2"), "too_large", "input has 101 characters, 60 are allowed"),
    "1-ded-014": Case(task(PLUS, r"'\x3c|end|>'"), "markup", "input contains <|end|>, which is markup of the prompts"),
    "1-ded-015": Case(task(PLUS, "1 + 1"), "not_literal"),
    "1-ded-016": Case(task(PLUS, "print()"), "not_literal"),
    # Tasks that were there before: of an earlier stage, and of this one
    "1-ded-017": Case(task(IDENTITY, '"pqr"'), "duplicate", "the same task as 0.0-ded-000"),
    "1-ded-018": Case(task(IDENTITY, "'pq' 'r'"), "duplicate", "the same task as 0.0-ded-000"),
    "1-ded-019": Case(task(PLUS, "0x1"), "duplicate", "the same task as 1-ded-000", ("2",)),
    # Other names, a comment, the same call in other words: no other task
    "1-ded-033": Case(task("def f(b: int):  # plus\n    return b + 1", "b=1"), "duplicate",
                      "the same task as 1-ded-000", ("2",)),
    # One twin fails by its annotation alone, the other has its own turn
    "1-ded-034": Case(task("def f(a: Oops):\n    return a - 1"), "error", "NameError: name 'Oops' is not defined"),
    "1-ded-035": Case(task("def f(b):\n    return b - 1"), "valid", None, ("0",)),
    # What programs do
    "1-ded-020": Case(task(ZERO), "error", "ZeroDivisionError: division by zero"),
    "1-ded-021": Case(task(ZERO, "+1"), "error", "ZeroDivisionError: division by zero"),
    "1-ded-022": Case(task("def f(a"), "error", "SyntaxError: '(' was never closed (<program>, line 1)"),
    "1-ded-023": Case(task("def f(a):\n    while True:\n        pass"), "timeout", "over its CPU time of 0.3 s"),
    "1-ded-024": Case(task(returning("bytes(10 ** 12)")), "memory", "MemoryError"),
    "1-ded-025": Case(task(FORK), "rejected", "a forbidden system call"),
    "1-ded-026": Case(task(returning("object")), "rejected"),
    "1-ded-027": Case(task(returning("hash('a')")), "nondeterministic"),
    "1-ded-028": Case(task(SEGFAULT), "crash", "killed by SIGSEGV"),
    "1-ded-029": Case(task(FORGED), "protocol", "8 bytes that are not one frame"),
    # What outputs can be
    "1-ded-032": Case(
        task("from time import time\ndef f(a):\n    return time() > a"),
        "banned",
        "the program uses time, which is banned",
    ),
    "1-ded-030": Case(task(returning("a * 60"), "'x'"), "too_large", "output has 62 characters, 60 are allowed",
                      ("'" + "x" * 60 + "'",)),
    "1-ded-031": Case(task(returning("'<|en' + 'd|>'")), "markup",
                      "output contains <|end|>, which is markup of the prompts", ("'<|end|>'",)),
    # The mode is part of the task: this is no duplicate of 1-ded-000
    "1-abd-000": Case(task(PLUS, "1"), "valid", None, ("2",)),
    # Two interpreters agree about the time allowed, and the judge allows more
    "1-abd-001": Case(task(LIMIT), "gold_refused", outputs=None),
    "1-abd-002": Case(task(LIMIT, "0b1"), "gold_refused", outputs=None),
    "1-abd-003": Case(task(returning("hash('a')")), "nondeterministic"),
    # All programs are the identity's here: nothing else is in the buffers
    "1-ind-000": Case(puzzle("same", "1", "[2]"), "valid", None, ("1", "[2]")),
    "1-ind-001": Case(puzzle("same", "0x1", "[2]"), "duplicate", "the same task as 1-ind-000", ("1", "[2]")),
    "1-ind-002": Case(puzzle("other words", "1", "[2]"), "valid", None, ("1", "[2]")),
    "1-ind-003": Case(puzzle("same", "1", "0x1"), "repeated_input", "input 2 repeats input 1: 1"),
    "1-ind-004": Case(puzzle("it is def f(a): ...", "1", "2"), "leaked_program",
                      "the message contains the program or its body: 'it is def f(a): ...'"),
    "1-ind-005": Case(
        puzzle("same", "1", "a=1"),
        "not_literal",
        "input 2 is no list of literals, named arguments are not allowed where inputs must differ: 'a=1'",
    ),
    "1-ind-006": Case(puzzle("same", "1", "1, 2"), "error"),
    "1-ind-007": Case(puzzle("same", "1"), "malformed", "wanted 2 x input, message; given input, message",
                      format="missing_block"),
    "1-ind-008": Case("<|message|>m<|input|>1<|input|>2", "malformed",
                      "wanted 2 x input, message; given message, 2 x input", format="wrong_order"),
    "1-ind-009": Case(puzzle(" ", "1", "2"), "malformed", "empty block: message", format="empty"),
    "1-ind-010": Case(puzzle("m" * 41, "1", "2"), "too_large", "message has 41 characters, 40 are allowed"),
    "1-ind-011": Case(puzzle("same", "1", "x"), "not_literal"),
    "1-ind-012": Case(task(IDENTITY), "malformed", "wanted 2 x input, message; given program, input",
                      format="missing_block"),
}  # fmt: skip

UNREACHED = {Format.TOO_LONG, Format.UNENCODABLE, Format.UNTAGGED}  # the first two need a model that no script can be


@pytest.fixture(scope="module")
def ledger(loop, tmp_path_factory) -> Iterator[Ledger]:
    config = loop.config(**SECTIONS)
    lines = {name: case.text for name, case in CASES.items()} | {"0.1-ind-000": puzzle("seed", "7", "8")}
    with loop.open(tmp_path_factory.mktemp("runs"), config, loop.play(config, lines, otherwise="")) as work:
        assert loop.bootstrap(work) == 1
        loop.iterate(work, 1, until=Stage.VALIDATE)
        yield work.ledger


@pytest.mark.parametrize("name", CASES)
def test_the_verdict_its_reason_and_the_gold_are_stored(loop, ledger, name):
    case, row = CASES[name], loop.named(ledger.read(Task, GRID), name)
    assert (row.verdict, row.format) == (case.verdict, case.format)
    assert case.outputs in (None, row.outputs)
    if case.verdict == "valid":
        assert row.reason is None
    else:
        assert row.reason
        assert case.reason in (None, row.reason)


def test_the_cases_above_are_all_there_are():
    # A constant needs a program that is no identity: test_checks has it.
    assert {case.verdict for case in CASES.values()} == {"valid", *Rejection} - {Rejection.CONSTANT}
    assert {case.format for case in CASES.values()} == set(Format) - UNREACHED


def test_every_proposal_becomes_one_row_at_its_own_id(ledger):
    rollouts = ledger.read(Rollout, GRID._replace(stage=Stage.PROPOSE))
    tasks = ledger.read(Task, GRID)
    assert [task.task_id for task in tasks] == sorted(rollout.rollout_id for rollout in rollouts)
    assert {mode: sum(task.mode is mode for task in tasks) for mode in Mode} == {
        Mode.DEDUCTION: 36,
        Mode.ABDUCTION: 36,
        Mode.INDUCTION: 36,
        Mode.ERROR: 0,
    }
    assert {(task.iteration, task.round) for task in tasks} == {(1, 0)}


def test_reasons_that_depend_on_the_machine_name_what_was_seen(loop, ledger):
    tasks = ledger.read(Task, GRID)
    said = {name: loop.named(tasks, name).reason for name in ("1-ded-015", "1-ded-016", "1-ded-026", "1-ind-011")}
    assert said["1-ded-015"].startswith("input 1 is no list of literals, ")
    assert said["1-ded-015"].endswith(": '1 + 1'")
    assert said["1-ded-016"].endswith(": 'print()'")
    assert said["1-ded-026"] == "not a literal: builtins.type <class 'object'>"
    assert said["1-ind-011"].startswith("input 2 is no list of literals, ")
    hashed = loop.named(tasks, "1-ded-027").reason
    first, _, second = hashed.removeprefix("input 1 gives ").partition(" or ")
    assert int(first) != int(second)
    wrong = loop.named(tasks, "1-ind-006").reason
    assert wrong == "input 2: TypeError: f() takes 1 positional argument but 2 were given"


def test_gold_that_the_judge_refuses_is_named(loop, ledger):
    refused, copy = (loop.named(ledger.read(Task, GRID), name) for name in ("1-abd-001", "1-abd-002"))
    assert refused.reason == "its own gold answer is wrong: 0 of 1 outputs as they should be"
    assert copy.reason == refused.reason
    assert (len(refused.outputs), copy.outputs) == (1, refused.outputs)


def test_what_is_kept_of_a_task(loop, ledger):
    tasks = ledger.read(Task, GRID)
    plain, puzzled = loop.named(tasks, "1-ded-001"), loop.named(tasks, "1-ind-002")
    assert (plain.program, plain.inputs, plain.visible, plain.message) == (PLUS, ("16",), 0, None)
    assert (puzzled.program, puzzled.inputs) == (IDENTITY, ("1", "[2]"))
    assert (puzzled.visible, puzzled.message) == (1, "other words")
    assert plain.program_key == program_key(PLUS)
    assert plain.content_key == task_key(Mode.DEDUCTION, "def f(x0):\n    return x0 + 1", ("16",), None)
    identity = "def f(x0):\n    return x0"
    assert puzzled.content_key == task_key(Mode.INDUCTION, identity, ("1", "[2]"), "other words")
    assert loop.named(tasks, "1-ded-002").inputs == ("'x', k=(1,)",)
    assert min(plain.cpu_us, plain.memory_kb, puzzled.cpu_us) > 0


def test_what_is_kept_of_a_refusal(loop, ledger):
    tasks = ledger.read(Task, GRID)
    malformed, unread = loop.named(tasks, "1-ded-004"), loop.named(tasks, "1-ded-015")
    nothing = (malformed.program, malformed.message, malformed.content_key, malformed.program_key)
    assert nothing == (None, None, None, None)
    assert (malformed.inputs, malformed.outputs, malformed.cpu_us) == ((), (), 0)
    assert (unread.program, unread.inputs, unread.cpu_us) == (PLUS, ("1 + 1",), 0)


def test_static_facts_are_kept(loop, ledger):
    tasks = ledger.read(Task, GRID)
    plain, copy, hashed = (loop.named(tasks, name) for name in ("1-ded-001", "1-ded-033", "1-ded-027"))
    timed, unparsed = loop.named(tasks, "1-ded-032"), loop.named(tasks, "1-ded-022")
    assert plain.normalised_key == copy.normalised_key != hashed.normalised_key
    assert (plain.source_lines, plain.ast_nodes, plain.ast_depth, plain.cyclomatic, plain.cognitive) == (2, 8, 5, 1, 0)
    halstead = (plain.distinct_operators, plain.distinct_operands, plain.total_operators, plain.total_operands)
    assert halstead == (1, 2, 1, 2)
    assert (plain.imports, plain.facilities, hashed.facilities) == ((), (), ("hash",))
    assert (timed.imports, timed.facilities, timed.paper_words) == (("time",), ("time",), ("time",))
    assert (unparsed.normalised_key, unparsed.imports, unparsed.ast_nodes) == (None, None, None)


def test_duplicates_keep_their_rows_and_share_the_key(loop, ledger):
    tasks = ledger.read(Task, GRID)
    first, again = loop.named(tasks, "1-ded-000"), loop.named(tasks, "1-ded-019")
    failed, failed_again = loop.named(tasks, "1-ded-020"), loop.named(tasks, "1-ded-021")
    abduction = loop.named(tasks, "1-abd-000")
    assert first.content_key == again.content_key != abduction.content_key
    assert first.program_key == abduction.program_key
    assert failed.content_key == failed_again.content_key
    assert (again.cpu_us, failed_again.cpu_us) == (0, 0), "a copy is not run again"


def test_the_identity_triplet_is_all_that_a_run_is_given(loop, ledger):
    given = ledger.read(Task, Position(0, Stage.VALIDATE))
    assert [ids.text(task.task_id) for task in given] == ["0.0-ded-000", "0.0-abd-000"]
    assert {(task.verdict, task.program, task.inputs, task.outputs) for task in given} == {
        ("valid", IDENTITY, ("'pqr'",), ("'pqr'",))
    }
    seeds = ledger.read(Task, Position(0, Stage.VALIDATE, 1))
    assert [(ids.text(task.task_id), task.round, task.outputs) for task in seeds] == [("0.1-ind-000", 1, ("7", "8"))]


STATEFUL = "seen = []\ndef f(a):\n    seen.append(a)\n    return len(seen) > 1 if a == 2 else a"


def test_a_program_with_a_memory_is_no_task(loop, tmp_path):
    """What it gives for one input depends on the calls before."""

    def propose(request: Request) -> str:
        return puzzle("m", "1", "2", "3") if STATEFUL in request.prompt else puzzle("m", "1", "5", "9")

    config = loop.config(curriculum={"proposals": 8, "modes": ["deduction", "induction"]}, bootstrap={"wanted": 2})
    lines = {"0.1-ded-000": task(STATEFUL, "2")}
    lines |= {f"0.{round}-ind-000": puzzle(f"seed {round}", "7", "8", "9") for round in (2, 3)}
    with loop.open(tmp_path, config, loop.play(config, lines, otherwise=propose)) as work:
        loop.bootstrap(work)
        loop.iterate(work, 1, until=Stage.VALIDATE)
        tasks = [task for task in work.ledger.read(Task, GRID) if task.program == STATEFUL]
        assert tasks, "no proposer was shown the program: take another seed"
    assert {(task.verdict, task.reason) for task in tasks} == {("nondeterministic", "input 2 gives True or False")}


def test_rules_that_the_config_relaxes(loop, tmp_path):
    curriculum = {"inputs": 2, "allow_leak": True, "allow_constant": True}
    config = loop.config(curriculum=curriculum)
    lines = {
        "0.1-ind-000": puzzle("seed", "7", "8"),
        "1-ind-000": puzzle("def f(a): return a", "1", "2"),
    }
    with loop.open(tmp_path, config, loop.play(config, lines, otherwise="")) as work:
        loop.bootstrap(work)
        loop.iterate(work, 1, until=Stage.VALIDATE)
        tasks = [task for task in work.ledger.read(Task, GRID) if task.mode is Mode.INDUCTION]
    assert [(task.verdict, task.outputs) for task in tasks] == [("valid", ("1", "2")), ("malformed", ())]


def test_a_refused_proposal_is_judged_again_when_it_comes_again(loop, tmp_path):
    config = loop.config(curriculum={"modes": ["deduction"], "proposals": 1})
    lines = dict.fromkeys(("1-ded-000", "2-ded-000"), task(ZERO)) | dict.fromkeys(
        ("3-ded-000", "4-ded-000"), task(PLUS)
    )
    with loop.open(tmp_path, config, loop.play(config, lines, otherwise="")) as work:
        loop.bootstrap(work)
        verdicts = []
        for iteration in (1, 2, 3, 4):
            loop.iterate(work, iteration)
            verdicts += work.ledger.read(Task, Position(iteration, Stage.VALIDATE))
    assert [task.verdict for task in verdicts] == ["error", "error", "valid", "duplicate"]
    assert min(verdicts[0].cpu_us, verdicts[1].cpu_us) > 0
    assert verdicts[3].reason == "the same task as 3-ded-000"


def answer(*blocks: tuple[str, str], think: str = "I think</think>\n") -> str:
    fences = "\n".join(f"```{name}\n{body}\n```" for name, body in blocks)
    return f"{think}<answer>{fences}</answer>"


def test_the_paper_set(loop, tmp_path):
    config = loop.config(
        curriculum={"templates": "paper", "modes": ["deduction"], "proposals": 7},
        model={"path": str(loop.base_without_card(tmp_path / "base", positions=5000))},
    )
    lines = {
        "1-ded-000": answer(("python", PLUS), ("input", "1")),
        "1-ded-001": answer(("input", "0"), ("python", PLUS), ("input", "2")),
        "1-ded-002": answer(("python", PLUS), ("input", "1"), think="no thought ends here"),
        "1-ded-003": "thought</think> so <answer></answer>",
        "1-ded-004": answer(("python", PLUS)),
        "1-ded-005": answer(("python", PLUS), ("input", "'<answer>'")),
        "1-ded-006": answer(("python", " "), ("input", "1")),
    }
    expected = [
        ("valid", "ok", None),
        ("valid", "ok", None),
        ("malformed", "untagged", "</think> is missing"),
        ("malformed", "untagged", "text between thought and answer: 'so'"),
        ("malformed", "missing_block", "wanted program, input; given program"),
        ("markup", "ok", "input contains <answer>, which is markup of the prompts"),
        ("malformed", "empty", "empty block: program"),
    ]
    with loop.open(tmp_path / "runs", config, loop.play(config, lines)) as work:
        assert loop.bootstrap(work) == 0, "without induction the identity triplet is enough"
        loop.iterate(work, 1, until=Stage.VALIDATE)
        tasks = work.ledger.read(Task, GRID)
        shown = work.ledger.read(TaskParent, GRID._replace(stage=Stage.PROPOSE))
    assert [(task.verdict, task.format, task.reason) for task in tasks] == expected
    assert [task.inputs for task in tasks[:2]] == [("1",), ("2",)]
    assert {ids.text(row.parent_id) for row in shown} == {"0.0-ded-000"}
