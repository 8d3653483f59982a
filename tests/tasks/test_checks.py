import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import ids
from storage.ids import Mode, Place
from storage.records import VALID
from tasks.config import CurriculumConfig, SandboxConfig
from tasks.reasoning.checks import (
    Rejected,
    Rejection,
    answer_key,
    check_novel,
    check_outputs,
    check_proposal,
    leaks,
    program_key,
    reward_key,
    rollout_key,
    task_key,
)
from tasks.reasoning.parsing import Proposal
from tasks.reasoning.prompts import load_templates
from tasks.sandbox.jobs import Status

NANO, PAPER = load_templates("nano"), load_templates("paper")
CURRICULUM, SANDBOX = CurriculumConfig(), SandboxConfig(max_program_chars=80, max_value_chars=20, max_message_chars=60)
PROGRAM = "def f(a):\n    b = [v + 1 for v in a]\n    return b[::-1]"


def check(*inputs, program=PROGRAM, message=None, templates=NANO, curriculum=CURRICULUM):
    proposal = Proposal(program=program, inputs=inputs, message=message)
    return check_proposal(templates, proposal, curriculum, SANDBOX)


def test_accepted_inputs_become_canonical():
    assert check('[ 1,2 ] ,k = "x"') == Proposal(program=PROGRAM, inputs=("[1, 2], k='x'",), message=None)
    assert check("{2,1}", "1,", message="hi").inputs == ("{1, 2}", "1")


@pytest.mark.parametrize(
    ("inputs", "verdict", "words"),
    [
        (("[1]" * 7,), Rejection.TOO_LARGE, "input has 21 characters, 20 are allowed"),
        (("[1]", "x" * 21), Rejection.TOO_LARGE, "input 2 has 21 characters"),
        (("'<|end|>'",), Rejection.MARKUP, "input contains <|end|>"),
        (("'<|\\x65nd|>'",), Rejection.MARKUP, "input contains <|end|>"),
        (("f(1)",), Rejection.NOT_LITERAL, "input 1 is no list of literals"),
        (("[1]", "open('x')"), Rejection.NOT_LITERAL, "input 2 is no list of literals"),
        (("# nothing",), Rejection.NOT_LITERAL, "input 1 has no arguments"),
        (("[1]", "[2]", "[ 1 ]"), Rejection.REPEATED_INPUT, "input 3 repeats input 1: [1]"),
    ],
)
def test_inputs_that_are_rejected(inputs, verdict, words):
    found = check(*inputs)
    assert isinstance(found, Rejected)
    assert found.verdict is verdict
    assert words in found.reason


def test_equal_values_of_other_types_are_other_inputs():
    assert check("1", "1.0", "True", "'1'").inputs == ("1", "1.0", "True", "'1'")


def test_sizes_and_markup_of_program_and_message():
    assert check("1", program="x" * 81) == Rejected(Rejection.TOO_LARGE, "program has 81 characters, 80 are allowed")
    assert check("1", message="x" * 61) == Rejected(Rejection.TOO_LARGE, "message has 61 characters, 60 are allowed")
    fenced = "def f(a):\n    return '```'"
    assert isinstance(check("1", program=fenced), Proposal)
    assert check("1", program=fenced, templates=PAPER).verdict is Rejection.MARKUP
    assert check("1", message="see <answer>", templates=PAPER).verdict is Rejection.MARKUP


def test_a_message_must_not_give_the_program_away():
    body = "it is: b = [v+1 for v in a]; or so"
    whole = PROGRAM.partition("\n")[2]
    assert check("1", message="def  f (a): no").verdict is Rejection.LEAKED_PROGRAM
    assert check("1", message=whole).verdict is Rejection.LEAKED_PROGRAM
    assert isinstance(check("1", message=body), Proposal)
    assert isinstance(check("1", message=whole, curriculum=CurriculumConfig(allow_leak=True)), Proposal)


def test_a_short_body_may_be_said_by_chance():
    assert not leaks("def f(a):\n    return a", "it will return a thing")
    assert not leaks("lambda: 0", "anything")
    assert leaks("def f(a):\n    return a", "def f(a):\n  return a")


def outputs(*texts, mode=Mode.INDUCTION, allow=True):
    return check_outputs(NANO, mode, texts, CurriculumConfig(allow_constant=allow), SANDBOX)


def test_gold_outputs():
    assert outputs("1", "2") is None
    assert outputs("1", "1") is None
    assert outputs("1", "1", allow=False) == Rejected(Rejection.CONSTANT, "all 2 outputs are 1")
    assert outputs("1", "2", allow=False) is None
    assert outputs("1", mode=Mode.DEDUCTION, allow=False) is None
    assert outputs("1", "'" + "x" * 20 + "'").reason == "output 2 has 22 characters, 20 are allowed"
    assert outputs("'<|input|>'").verdict is Rejection.MARKUP


def test_a_duplicate_names_the_first():
    key = task_key(Mode.DEDUCTION, PROGRAM, ("1",), None)
    first = ids.pack(Place(12, 0, Mode.DEDUCTION, 31))
    assert check_novel(key, {}) is None
    assert check_novel(key, {key: first}) == Rejected(Rejection.DUPLICATE, "the same task as 12-ded-031")


def test_words_of_the_executor_are_rejections():
    assert {status.value for status in Status} - {"ok"} <= {rejection.value for rejection in Rejection}
    assert VALID not in set(Rejection)


def test_content_keys_are_fixed():
    assert str(program_key("def f(a):\n    return a")) == "ed439670-8efb-fc0b-4991-510c5a7ed527"
    assert str(task_key(Mode.INDUCTION, "p", ("1", "2"), "m")) == "bbb95538-8cb7-3b52-16f5-577a050a0dba"


def test_content_keys_tell_kinds_and_none_apart():
    base = task_key(Mode.DEDUCTION, "p", ("1",), None)
    others = [
        task_key(Mode.ABDUCTION, "p", ("1",), None),
        task_key(Mode.DEDUCTION, "p", ("1",), ""),
        task_key(Mode.DEDUCTION, "p1", ("",), None),
        task_key(Mode.DEDUCTION, "p", ("1", ""), None),
        program_key("p"),
        answer_key(base, "1"),
        rollout_key("p", "1"),
        rollout_key("p1", ""),
    ]
    assert len({base, *others}) == len(others) + 1


def test_a_reward_key_ignores_the_order_of_its_parts():
    assert reward_key("r", 0.5, {"a": 1, "b": None}) == reward_key("r", 0.5, {"b": None, "a": 1})
    assert reward_key("r", 0.5, {"a": 1, "b": None}) != reward_key("r", 0.5, {"a": None, "b": 1})
    assert reward_key("r", 0.5, {}) != reward_key("r", 0.25, {})


texts = st.text(st.characters(exclude_categories=()), max_size=12)
task_parts = st.tuples(st.sampled_from(list(Mode)), texts, st.lists(texts, max_size=3).map(tuple), st.none() | texts)


@settings(derandomize=True, max_examples=300)
@given(one=task_parts, other=task_parts)
def test_equal_keys_for_equal_tasks_only(one, other):
    assert (task_key(*one) == task_key(*other)) is (one == other)


@settings(derandomize=True, max_examples=300)
@given(program=texts, inputs=st.lists(texts, min_size=1, max_size=4).map(tuple), message=st.none() | texts)
def test_no_proposal_makes_the_checks_raise(program, inputs, message):
    for templates in (NANO, PAPER):
        found = check(*inputs, program=program, message=message, templates=templates)
        assert isinstance(found, Proposal) or found.reason
