import ast
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.seeds import rng
from tasks.nano.language import FOLDS, IDENTITY, OPERATIONS, Type, small
from tasks.nano.programs import Assign, Loop, Program, Refused, When, execute, generate, source
from tasks.nano.samples import draw_copying, draw_sample
from tasks.nano.traces import SEPARATOR, backward, forward

EXAMPLE = Program(
    arguments=(Type.LIST, Type.INT),
    steps=(
        Assign("c", "a + [b]"),
        When("len(c) > 2", "c", "c[1:]"),
        Loop("d", "0", "c", "d + n"),
    ),
    result="g(d)",
    words=("after", "if", "tail", "loop", "sum", "call"),
    operations=4,
    helper="v * 2",
)


EQUALS = re.compile("(?<!=)=(?!=)")


def run(program, text, call="f({})"):
    """What Python itself makes of a call of a program, or of another expression (these are made by rule)."""
    scope = {}
    exec(program, scope)  # noqa: S102
    return repr(eval(call.format(text), scope))  # noqa: S307


def test_source_of_every_kind_of_step():
    assert source(EXAMPLE) == (
        "def g(v):\n    return v * 2\n"
        "def f(a, b):\n    c = a + [b]\n    if len(c) > 2:\n        c = c[1:]\n"
        "    d = 0\n    for n in c:\n        d = d + n\n    return g(d)"
    )


def test_forward_trace_is_the_execution():
    execution = execute(EXAMPLE, ([5, 1], 3))
    assert execution.output == 8
    assert forward(EXAMPLE, execution) == (
        "c=[5, 1] + [3]=[5, 1, 3];len([5, 1, 3]) > 2=True;c=[5, 1, 3][1:]=[1, 3];d=0;d=0 + 1=1;d=1 + 3=4;g(4)=4 * 2"
    )


def test_backward_trace_leads_from_the_output_to_the_arguments():
    execution = execute(EXAMPLE, ([5, 1], 3))
    assert backward(EXAMPLE, execution) == ("g(d)=8;d=4;c=[1, 3];c=[5, 1, 3];a + [b]=[5, 1, 3];a=[5, 1];b=3")


@settings(derandomize=True, max_examples=200, deadline=None)
@given(seed=st.integers(0, 1 << 32), operations=st.integers(1, 6))
def test_samples_agree_with_python(seed, operations):
    sample = draw_sample(rng(seed), levels={operations: 1.0}, pairs=4)
    assert sample.operations == operations
    assert len({text for text, _ in sample.pairs}) == 4
    for text, output in sample.pairs:
        assert run(sample.program, text) == output
        assert small(ast.literal_eval(output))


@settings(derandomize=True, max_examples=200, deadline=None)
@given(seed=st.integers(0, 1 << 32), operations=st.integers(1, 5))
def test_traces_hold_true_equations_and_end_at_the_answer(seed, operations):
    sample = draw_sample(rng(seed), levels={operations: 1.0}, pairs=3)
    text, output = sample.pairs[0]
    *events, last = sample.forward.split(SEPARATOR)
    for event in events:
        sides = EQUALS.split(event)
        assert len({run(sample.program, side, "{}") for side in sides[sides[0].isidentifier() :]}) == 1
    assert EQUALS.split(last)[-1] == "False" or run(sample.program, EQUALS.split(last)[-1], "{}") == output
    solved = dict(event.split("=", 1) for event in sample.backward.split(SEPARATOR) if event[1] == "=")
    names = sample.program.split("f(")[1].split(")")[0].split(", ")
    assert ", ".join(solved[name] for name in names) == text


def test_no_argument_is_dead_and_helpers_are_called():
    draw, made = rng(3), 0
    while made < 300:
        try:
            program = generate(draw, 3)
        except Refused:
            continue
        made += 1
        body = source(program).split("def f(", 1)[1]
        header, _, rest = body.partition(":")
        assert all(name in rest for name in header.rstrip(")").split(", "))
        assert program.helper is None or "g(" in rest


def test_generation_is_a_function_of_the_seed():
    one, two = ([draw_sample(rng(8)) for _ in range(1)] for _ in range(2))
    assert one == two
    assert draw_sample(rng(9)) != one[0]


def test_errors_and_large_values_are_refused():
    broken = Program(arguments=(Type.LIST,), steps=(), result="a[0]", words=("first",), operations=1)
    with pytest.raises(Refused, match="index out of range"):
        execute(broken, ([],))
    large = Program(arguments=(Type.INT,), steps=(Assign("b", "a * a"),), result="b", words=("product",), operations=1)
    with pytest.raises(Refused, match="400"):
        execute(large, (20,))


def test_duplicates_are_rare():
    draw = rng(4)
    programs = [draw_sample(draw, pairs=1).program for _ in range(1000)]
    assert len(set(programs)) > 700


def test_copying_documents_copy():
    draw = rng(5)
    samples = [draw_copying(draw) for _ in range(100)]
    for sample in samples:
        text, output = sample.pairs[0]
        assert run(sample.program, text) == output
    assert IDENTITY in {sample.program for sample in samples}


def test_every_type_can_go_on_and_be_looped_over():
    assert set(OPERATIONS) == set(FOLDS) == set(Type)
