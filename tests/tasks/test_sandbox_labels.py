"""Error mode: which exception class a call raises, what is never a label, and answers compared with it."""

from collections import Counter
from collections.abc import Iterator

import pytest

from tasks.sandbox.executor import Executor, Job, Limits
from tasks.sandbox.judge import Verdict
from tasks.sandbox.labels import NO_ERROR, Label, judge_name, labels

LIMITS = Limits(cpu_s=0.3)
DIVIDE = "def f(x):\n    return 1 / x"


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with Executor(workers=2) as executor:
        yield executor


def label(executor: Executor, program: str, call: str = "0") -> Label:
    return labels(executor, [Job(program=program, inputs=(call,), limits=LIMITS)])[0][0]


@pytest.mark.parametrize(
    ("program", "name"),
    [
        (DIVIDE, "ZeroDivisionError"),
        ("def f(x):\n    return x", NO_ERROR),
        ("def f(x):\n    return [][x]", "IndexError"),
        ("def f(x):\n    raise KeyError('a: b')", "KeyError"),
        ("class Empty(Exception):\n    pass\ndef f(x):\n    raise Empty", "Empty"),
        ("import json\ndef f(x):\n    return json.loads('{')", "JSONDecodeError"),
        ("def f(x):\n    return f(x)", "RecursionError"),
        ("import sys\ndef f(x):\n    sys.exit(0)", "SystemExit"),
        ("assert False\ndef f(x):\n    return x", "AssertionError"),
        ("def f(x:\n", "SyntaxError"),
        ("def f():\n    return 1", "TypeError"),
        ("def f(x):\n    raise KeyError(set('abc').pop())", "KeyError"),  # only the message tosses a coin
        ("def f(x):\n    try:\n        raise KeyError\n    except KeyError:\n        return 'KeyError'", NO_ERROR),
    ],
)  # fmt: skip
def test_the_label_is_the_class(executor: Executor, program: str, name: str) -> None:
    assert label(executor, program) == Label(name)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("def f(x):\n    raise (KeyError if hash('a') % 3 else ValueError)", "nondeterministic: input 1 gives "),
        ("def f(x):\n    return 1 // (hash('f') % 2)", "nondeterministic: input 1 gives "),
        ("def f(x):\n    while True:\n        pass", "timeout: over its CPU time of 0.3 s"),
        ("def f(x):\n    return [0] * 10 ** 9", "memory: MemoryError"),
        ("def f(x):\n    raise MemoryError", "memory: MemoryError"),
        ("def f(x):\n    return f", "rejected: not a literal: builtins.function"),
        ("import os\ndef f(x):\n    os.fork()", "rejected: a forbidden system call"),
        ("import os\ndef f(x):\n    os._exit(1)", "error: it ended itself with exit code 1"),
        ("import os\ndef f(x):\n    os.write(3, b'12345678'); os._exit(0)", "protocol: "),
        ("import os\ndef f(x):\n    os.abort()", "crash: "),
        ("class NoError(Exception):\n    pass\ndef f(x):\n    raise NoError", "may not be called NoError"),
        ("def f(x):\n    raise type('Value Error', (Exception,), {})", "may not be called Value Error"),
        ("def f(x):\n    raise type('error: x\\n', (Exception,), {})", "may not be called error"),
        ("def f(x):\n    raise type('', (Exception,), {})", "may not be called "),
        ("def f(x):\n    raise type('E' * 90, (Exception,), {})", "may not be called E"),
    ],
)
def test_what_can_differ_or_be_faked_is_no_label(executor: Executor, program: str, reason: str) -> None:
    found = label(executor, program)
    assert found.name is None
    assert reason in (found.reason or "")


def test_an_input_that_is_no_literal_is_no_label(executor: Executor) -> None:
    assert label(executor, DIVIDE, "f(0)").name is None


def test_each_call_has_its_own_label(executor: Executor) -> None:
    found = labels(executor, [Job(program=DIVIDE, inputs=("0", "2", "'a'"))])
    assert found == [(Label("ZeroDivisionError"), Label(NO_ERROR), Label("TypeError"))]


def test_state_between_calls_is_no_label(executor: Executor) -> None:
    program = "seen = []\ndef f(x):\n    seen.append(x)\n    return 1 // (len(seen) - 1)"
    found = labels(executor, [Job(program=program, inputs=("1", "2", "3"))])
    assert {one.name for one in found[0]} == {None}


@pytest.mark.parametrize(
    ("known", "answer", "verdict"),
    [
        ("KeyError", "KeyError", Verdict.CORRECT),
        ("KeyError", " KeyError\n", Verdict.CORRECT),
        (NO_ERROR, "NoError", Verdict.CORRECT),
        ("KeyError", "keyerror", Verdict.WRONG),
        ("KeyError", "LookupError", Verdict.WRONG),
        ("KeyError", "NoError", Verdict.WRONG),
        ("KeyError", "ΚeyError", Verdict.WRONG),  # noqa: RUF001 - a Greek letter
        ("KeyError", "KeyError: 1", Verdict.UNPARSED),
        ("KeyError", "builtins.KeyError", Verdict.UNPARSED),
        ("KeyError", "KeyError ValueError", Verdict.UNPARSED),
        ("KeyError", "", Verdict.UNPARSED),
        ("KeyError", None, Verdict.UNPARSED),
        (None, "KeyError", Verdict.REJECTED),
        (None, None, Verdict.REJECTED),
    ],
)
def test_an_answer_is_right_letter_by_letter(known: str | None, answer: str | None, verdict: Verdict) -> None:
    found = judge_name(Label(known, None if known else "timeout"), answer)
    assert (found.verdict, found.passed) == (verdict, int(verdict is Verdict.CORRECT))
    assert (found.reason is None) == (verdict is Verdict.CORRECT)


def test_labels_are_the_same_every_time(executor: Executor) -> None:
    jobs = [Job(program=DIVIDE, inputs=(text,)) for text in ("0", "1", "'a'", "[]")]
    assert len({tuple(labels(executor, jobs)) for _ in range(3)}) == 1
    assert Counter(found.name for (found,) in labels(executor, jobs))["TypeError"] == 2
