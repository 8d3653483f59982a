# ruff: noqa: E501, RUF001 - tables, and characters that only look alike
"""Judging: every mode and verdict by hand, answers that cheat, and real programs."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.errors import ConfigError
from storage.ids import Mode
from tasks.sandbox.executor import Executor, Job, Limits, Status
from tasks.sandbox.judge import Question, Verdict, judge

DATA = Path(__file__).parent / "data" / "azr_seeds_sample.jsonl"
REAL = [json.loads(line) for line in DATA.read_text("utf-8").splitlines()]
SORT = "def f(x):\n    return sorted(x)"
LIMITS = Limits(cpu_s=0.3)


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor(workers=2) as executor:
        yield executor


def deduce(answer: str | None, gold: str = "[1, 3]") -> Question:
    return Question(mode=Mode.DEDUCTION, program=SORT, inputs=("[3, 1]",), outputs=(gold,), answer=answer)


def abduce(answer: str | None, program: str = SORT, gold: str = "[1, 3]") -> Question:
    return Question(mode=Mode.ABDUCTION, program=program, inputs=("[3, 1]",), outputs=(gold,), answer=answer)


def induce(answer: str | None) -> Question:
    inputs, outputs = ("[1]", "[2, 1]", "[9, 4, 7]", "[0]"), ("[1]", "[1, 2]", "[4, 7, 9]", "[0]")
    return Question(mode=Mode.INDUCTION, program=SORT, inputs=inputs, outputs=outputs, visible=1, answer=answer)


VERDICTS = [
    (deduce("[1, 3]"), Verdict.CORRECT, 1),
    (deduce(" [1,3] # sorted\n"), Verdict.CORRECT, 1),
    (deduce("[3, 1]"), Verdict.WRONG, 0),
    (deduce("sorted([3, 1])"), Verdict.UNPARSED, 0),
    (deduce(None), Verdict.UNPARSED, 0),
    (deduce("[1, 3]", gold="<object>"), Verdict.REJECTED, 0),
    (abduce("[3, 1]"), Verdict.CORRECT, 1),
    (abduce("(1, 3)"), Verdict.CORRECT, 1),
    (abduce("x=[1, 3]"), Verdict.CORRECT, 1),
    (abduce("[1, 2]"), Verdict.WRONG, 0),
    (abduce("7"), Verdict.ERROR, 0),
    (abduce("[1, 3], 4"), Verdict.ERROR, 0),
    (abduce("[3, 1"), Verdict.UNPARSED, 0),
    (abduce(None), Verdict.UNPARSED, 0),
    (abduce("9", program="def f(n):\n    while n: pass"), Verdict.TIMEOUT, 0),
    (abduce("9", program="def f(n):\n    return [0] * 10 ** n"), Verdict.MEMORY, 0),
    (abduce("9", program="def f(n):\n    return print"), Verdict.REJECTED, 0),
    (induce(SORT), Verdict.CORRECT, 3),
    (induce("def f(x):\n    x.sort()\n    return x"), Verdict.CORRECT, 3),
    (induce("def f(x):\n    return x"), Verdict.WRONG, 1),
    (induce("def f(x):\n    return sorted(x)[: len(x) if x[0] < 9 else 1 // 0]"), Verdict.ERROR, 2),
    (induce("def g(x):\n    return x"), Verdict.ERROR, 0),
    (induce("def f(x):\n    while True: pass"), Verdict.TIMEOUT, 0),
    (induce("import os\ndef f(x):\n    os.abort()"), Verdict.CRASH, 0),
    (induce("import os\ndef f(x):\n    os.fork()"), Verdict.REJECTED, 0),
    (induce("import os\ndef f(x):\n    os.write(3, b'x' * 9); os._exit(0)"), Verdict.PROTOCOL, 0),
    (induce(None), Verdict.UNPARSED, 0),
    (induce(""), Verdict.ERROR, 0),
]


def test_every_mode_and_verdict(executor: Executor) -> None:
    found = judge(executor, [question for question, _, _ in VERDICTS], limits=LIMITS)
    assert [(judgement.verdict, judgement.passed) for judgement in found] == [row[1:] for row in VERDICTS]
    for judgement, (question, verdict, _) in zip(found, VERDICTS, strict=True):
        assert judgement.checks == (3 if question.mode is Mode.INDUCTION else 1)
        assert (judgement.reason is None) == (verdict is Verdict.CORRECT)


def test_only_answers_that_must_run_are_run(executor: Executor) -> None:
    seen: list[tuple[int, int]] = []
    found = judge(executor, [deduce("[1, 3]"), abduce("[1, 3]"), abduce("?")], lambda *at: seen.append(at))
    assert seen == [(1, 1)]
    assert [judgement.cpu_us > 0 for judgement in found] == [False, True, False]


@pytest.mark.parametrize("visible", [-1, 1, 2])
def test_a_question_that_checks_nothing_is_refused(visible: int) -> None:
    with pytest.raises(ValueError, match="at least one is hidden"):
        Question(mode=Mode.DEDUCTION, program=None, inputs=("1",), outputs=("1",), visible=visible, answer="1")


def test_abduction_without_a_program_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the task's program"):
        Question(mode=Mode.ABDUCTION, program=None, inputs=("1",), outputs=("1",), answer="1")


def test_a_mode_without_a_rule_is_refused(executor: Executor) -> None:
    with pytest.raises(ConfigError, match="mode error cannot be judged"):
        judge(executor, [Question(mode=Mode.ERROR, program="", inputs=("1",), outputs=("1",), answer="1")])


ALWAYS = "class E(list):\n    __eq__ = lambda a, b: True\n    __ne__ = lambda a, b: False\n    __hash__ = lambda a: 0\n"
CHEATING_LITERALS = [
    "type('E', (), {'__eq__': lambda s, o: True})()", "setattr(f, '__code__', (lambda x: [1, 3]).__code__) or 1",
    "lambda: [1, 3]", "__import__('os').system('touch /tmp/pwned_by_azr')", "f([3, 1])", "(f := lambda x: [1, 3])",
    "[1, 3] if True else 0", "eval('[1, 3]')", "[1, 3]) or (1", "1)\nprint([1, 3])\n(1", "sorted([3, 1])", "[*[1, 3]]",
    "[x for x in (1, 3)]", "'[1, 3]'", "b'[1, 3]'", "[１, ３]", "[1.0, 3.0]", "[True, 3]", "(1, 3)" + ".__class__", "[1, 3][:]",
    "[1, 3] or 1", "{1, 3}", "9" * 60_000, "[" * 30_000 + "]" * 30_000, "-" * 10_000 + "1", "[1, 3]" + ", [1, 3]" * 9_000,
    "{" + ",".join(str(k * (2**61 - 1)) for k in range(1, 2_500)) + "}", "10 ** 10 ** 10", "'a' * 10 ** 10", "f'{[1, 3]}'",
    "[1, 3]\u200b", "［1, 3］", "[1, 3];", "return [1, 3]", "output", "_", "*", "x", "gold", "[1, 3]\n[1, 3]", "...", "None",
    "[0x7fffffffffffffff, 3]", "[[1, 3]]", "nan", "set([1, 3])", "range(1, 4, 2)", "open('/proc/self/environ').read()", "\x00", "\ud800",
]  # fmt: skip
CHEATING_PROGRAMS = [
    ALWAYS + "def f(x):\n    return E()",
    ALWAYS + "def f(x):\n    return [E()]",
    "class E:\n    def __repr__(s): return '[4, 7, 9]'\ndef f(x):\n    return E()",
    "class R:\n    def __reduce__(s): return (sorted, ([1],))\ndef f(x):\n    return R()",
    "import builtins\nbuiltins.sorted = lambda *a: True\nbuiltins.all = lambda *a: True\ndef f(x):\n    return 1",
    "import sys\ndef f(x):\n    sys.exit(0)",
    "import os\ndef f(x):\n    os._exit(0)",
    "import os\ndef f(x):\n    os.write(1, b'correct')\n    os._exit(0)",
    "print('correct')\ndef f(x):\n    print('[4, 7, 9]')",
    "raise SystemExit(0)",
    "import atexit\natexit.register(print, 'correct')\ndef f(x):\n    return None",
    (
        "import os, struct, marshal\nd = marshal.dumps([('ok', True)] * 3, 2)\n"
        "def f(x):\n    os.write(3, struct.pack('=I', len(d)) + d); os._exit(0)"
    ),
    (
        "import os, struct, marshal\nd = marshal.dumps([('correct', 1)] * 3, 2)\n"
        "def f(x):\n    os.write(3, struct.pack('=I', len(d)) + d); os._exit(0)"
    ),
    "import os\ndef f(x):\n    os.write(3, b'[\\1\\0\\0\\0' * 9000); os._exit(0)",
    (
        "import sys\ndef f(x):\n    frame, found = sys._getframe(), []\n    while frame:\n"
        "        found += [v for k, v in frame.f_locals.items() if k in ('gold', 'outputs', 'expected')]; frame = frame.f_back\n"
        "    return found[0] if found else None"
    ),
    "import gc\ndef f(x):\n    return next((o for o in gc.get_objects() if type(o) is list and o == [4, 7, 9][:1]), None)",
    "def f(x):\n    return open('/proc/self/environ').read()",
    "import os\ndef f(x):\n    return os.listdir('/proc')",
    "import inspect\ndef f(x):\n    return [s.frame.f_locals.get('gold') for s in inspect.stack()]",
    "import signal, os\ndef f(x):\n    os.kill(os.getppid(), signal.SIGKILL)",
    "def f(x):\n    yield from sorted(x)",
    "def f(x):\n    return map(int, sorted(x))",
    "def f(x):\n    return NotImplemented",
    "def f(x):\n    return type('L', (list,), {})(sorted(x))",
    "def f(x):\n    return [float(i) for i in sorted(x)]",
    "def f(x):\n    return tuple(sorted(x))",
    "class f(list):\n    def __init__(s, x): super().__init__(sorted(x))",
    "import sys\nsys.modules['__main__'].f = sorted\ndel sys.modules['__main__'].f",
    "import marshal\nmarshal.dumps = lambda *a: b''\ndef f(x):\n    return 1",
    "f = lambda x: f",
]


def test_no_literal_that_cheats_scores(executor: Executor) -> None:
    questions = [deduce(answer) for answer in CHEATING_LITERALS]
    program = "def f(*a, **k):\n    return a"  # says what it was given, and never [1, 3]
    questions += [abduce(answer, program=program) for answer in CHEATING_LITERALS]
    found = judge(executor, questions, limits=LIMITS)
    assert [q.answer for q, judgement in zip(questions, found, strict=True) if judgement.passed] == []
    assert not Path("/tmp/pwned_by_azr").exists()


def test_no_program_that_cheats_scores(executor: Executor) -> None:
    found = judge(executor, [induce(answer) for answer in CHEATING_PROGRAMS], limits=LIMITS)
    assert [answer for answer, judgement in zip(CHEATING_PROGRAMS, found, strict=True) if judgement.passed] == []


def test_the_gold_of_every_real_program_is_accepted_in_every_mode(executor: Executor) -> None:
    jobs = [Job(program=row["program"], inputs=tuple(row["inputs"]), interpreters=2) for row in REAL]
    executions = executor.run(jobs)
    assert Counter(execution.status for execution in executions)[Status.OK] >= 35
    questions = []
    for job, execution in zip(jobs, executions, strict=True):
        if execution.status is Status.OK:
            outputs = tuple(output.text or "" for output in execution.outputs)
            pair = {"program": job.program, "inputs": job.inputs[:1], "outputs": outputs[:1]}
            questions.append(Question(mode=Mode.DEDUCTION, answer=outputs[0], **pair))
            questions.append(Question(mode=Mode.ABDUCTION, answer=job.inputs[0], **pair))
            whole = {"inputs": job.inputs, "outputs": outputs, "visible": len(outputs) // 2}
            questions.append(Question(mode=Mode.INDUCTION, program=None, answer=job.program, **whole))
    assert {judgement.verdict for judgement in judge(executor, questions)} == {Verdict.CORRECT}
