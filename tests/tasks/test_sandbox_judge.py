"""Judging: every mode and verdict by hand, and the gold of real programs. Answers that cheat are in tests/cheats."""

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
