# ruff: noqa: E501, RUF001 - tables, and characters that only look alike
"""Literals: what is read, how it is written, when two are equal. Every expectation is written out by hand."""

import ast
import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.sandbox.values import (
    Arguments,
    Refused,
    canonical,
    canonical_arguments,
    equal,
    parse_arguments,
    parse_value,
)

READ = {
    "1": "1",
    " -1 # minus one\n": "-1",
    "+1": "1",
    "0x1F": "31",
    "0b11": "3",
    "1_000": "1000",
    "1.5e3": "1500.0",
    "1.": "1.0",
    ".5": "0.5",
    "-0.0": "-0.0",
    "-0": "0",
    "1j": "1j",
    "-1j": "-1j",
    "(1+2j)": "(1+2j)",
    "1 - 2.5j": "(1-2.5j)",
    "(-0-1j)": "(-0-1j)",
    "(inf+nanj)": "(inf+nanj)",
    "inf": "inf",
    "-inf": "-inf",
    "nan": "nan",
    "float('-inf')": "-inf",
    "-float('inf')": "-inf",
    'float("nan")': "nan",
    "None": "None",
    "True": "True",
    "...": "Ellipsis",
    "Ellipsis": "Ellipsis",
    "'a' \"b\"\n'c'": "'abc'",
    r"r'\d'": r"'\\d'",
    r"'\d'": r"'\\d'",
    r"'\x41\u00e9\n'": r"'Aé\n'",
    r"'\N{BULLET}'": "'•'",
    r"'\ud800'": r"'\ud800'",
    "b'\\xff' b'a'": r"b'\xffa'",
    "'''a\nb'''": r"'a\nb'",
    '"it\'s"': '"it\'s"',
    "[1, 2,]": "[1, 2]",
    "[]": "[]",
    "()": "()",
    "(1)": "1",
    "(1,)": "(1,)",
    "((1, 2), [3])": "((1, 2), [3])",
    "{}": "{}",
    "{'b': 1, 'a': 2,}": "{'b': 1, 'a': 2}",
    "dict(a=1, b=[2])": "{'a': 1, 'b': [2]}",
    "{3, 1, 2, 1}": "{1, 2, 3}",
    "{10, 9}": "{10, 9}",  # by text, not by value
    "set()": "set()",
    "set([2, 1])": "{1, 2}",
    "frozenset({2, 1})": "frozenset({1, 2})",
    "frozenset()": "frozenset()",
}

REFUSED = [
    "", " ", ",", "1 +", "1+2", "--1", "1 2", "[1", "[1]]", "(,)", "{1: 2, 3}", "{1, 2: 3}", "{[1]: 2}", "{{}}", "012",
    "0x", "1__0", "1e", "-True", "-'a'", "not 1", "a", "a.b", "f(1)", "lambda: 1", "x := 1", "[x for x in y]", "1 if 1 else 2",
    "*[1]", "**{}", "{**{}}", "'a' * 3", "10 ** 10", "f'{1}'", "f\"{x}\"", "'a' b'b'", "b'é'", r"'\x1'", r"'\N{NO SUCH}'",
    "'unclosed", "'''unclosed", "set(1)", "set([1], [2])", "set(x=1)", "dict([(1, 2)])", "float('1')", "float(1)", "True()",
    "__import__('os')", "１", "ｓet()", "“a”", "1\u00a0", "\ud800", "\x00", "'\x00'", "1;2", "1\n2", "1=2", "1==1", "[1][0]",
    "'a'.b",
    "1j+1", "(1+2j)+1j", "1+-+2j", "inf()", "nan.real", "-set()", "9" * 4301, "0x" + "f" * 4000, "[" * 62 + "]" * 62,
    "(" * 70 + "1" + ")" * 70, "-" * 5000 + "1", "1," * 40_000, "1, 2", "x=1", "`1`", "1_", "$", "\\\n1",
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), READ.items())
def test_a_literal_is_read_and_written_in_one_way(text: str, expected: str) -> None:
    assert canonical(parse_value(text)) == expected
    assert canonical(parse_value(expected)) == expected


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_not_a_literal_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        parse_value(text)


def test_the_greatest_int_has_4300_digits() -> None:
    assert parse_value("9" * 4299) == 10**4299 - 1
    assert canonical(-(2**14284) + 1).startswith("-")
    with pytest.raises(Refused, match="14285 bits"):
        canonical(2**14284)


@pytest.mark.parametrize(("opened", "closed", "count"), [("[", "]", 60), ("(", ",)", 60), ("frozenset({", "})", 30)])
def test_a_value_has_at_most_60_containers_around_it(opened: str, closed: str, count: int) -> None:
    text = opened * count + "1" + closed * count
    assert canonical(parse_value(text)) == text
    with pytest.raises(Refused):
        parse_value(f"[{text}]")
    with pytest.raises(Refused):
        canonical([parse_value(text)])


def test_arguments_are_positional_then_named() -> None:
    assert parse_arguments(" 1, [2],\n k = 3, ") == Arguments((1, [2]), {"k": 3})
    assert parse_arguments("") == Arguments((), {})
    assert parse_arguments("(1, 2)") == Arguments(((1, 2),), {})
    assert canonical_arguments(parse_arguments("{2,1},b={ 'x':1 }")) == "{1, 2}, b={'x': 1}"


@pytest.mark.parametrize(
    "text", ["k=1, 2", "k=1, k=2", "1) or (2", "1)\nimport os\n(2", "*a", "k==1", "1=2", "k=", "f(1)"]
)
def test_what_is_not_an_argument_list_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        parse_arguments(text)


EQUAL = [
    ("1", "1"), ("nan", "nan"), ("[nan]", "[nan]"), ("{nan: 1}", "{nan: 1}"), ("0.0", "-0.0"), ("0j", "-0j"),
    ("[0.0]", "[-0.0]"), ("{0.0}", "{-0.0}"), ("{1, 2, 3}", "{3, 2, 1}"), ("{'a': 1, 'b': 2}", "{'b': 2, 'a': 1}"),
    ("{1: {2: 3, 4: 5}}", "{1: {4: 5, 2: 3}}"), ("0.1", "0.10000000000000001"), ("1_0", "10"), ("'a'", '"a"'), ("1e400", "inf"),
    ("(nan+1j)", "(nan+1j)"), ("set()", "set([])"), ("dict(a=1)", "{'a': 1}"),
]  # fmt: skip
UNEQUAL = [
    ("1", "True"), ("0", "False"), ("1", "1.0"), ("1.0", "(1+0j)"), ("1", "2"), ("1", "'1'"), ("'a'", "b'a'"), ("[1]", "(1,)"),
    ("{1}", "frozenset({1})"), ("{1}", "[1]"), ("{}", "set()"), ("()", "[]"), ("None", "False"), ("None", "'None'"), ("''", "None"),
    ("{1}", "{True}"), ("{1: 2}", "{True: 2}"), ("{1: 2}", "{1.0: 2}"), ("{1: 2}", "{1: 2.0}"), ("{1: 0.0}", "{1: 0}"),
    ("{(1,): 2}", "{(True,): 2}"), ("[1, 2]", "[2, 1]"), ("[1]", "[1, 1]"), ("0.3", "0.30000000000000004"), ("nan", "inf"),
    ("nan", "'nan'"), ("inf", "-inf"), ("'a'", "'а'"), ("'é'", "'e\\u0301'"), ("...", "None"),
    ("{'a': 1}", "{'a': 1, 'b': 1}"), ("['1', '2']", "[\"1', '2\"]"), ("1", "1j"), ("0", "0j"),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), EQUAL)
def test_equal(a: str, b: str) -> None:
    assert equal(parse_value(a), parse_value(b))
    assert equal(parse_value(b), parse_value(a))


@pytest.mark.parametrize(("a", "b"), UNEQUAL)
def test_unequal(a: str, b: str) -> None:
    assert not equal(parse_value(a), parse_value(b))
    assert not equal(parse_value(b), parse_value(a))


class _Always(int):
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 1

    def __repr__(self) -> str:
        return "1"


@pytest.mark.parametrize(
    "value", [_Always(1), [_Always(1)], object(), range(3), bytearray(b"a"), {1: _Always(1)}, print]
)
def test_other_types_are_never_written_nor_compared(value: object) -> None:
    with pytest.raises(Refused):
        canonical(value)
    with pytest.raises(Refused):
        equal(1, value)


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(Refused):
        canonical(loop)


@pytest.mark.parametrize(
    "text",
    [
        "{" + ", ".join(str(k * (2**61 - 1)) for k in range(1, 2000)) + "}",
        "{" + ", ".join(f"{k * (2**61 - 1)}: 0" for k in range(1, 2000)) + "}",
        "set([" + ", ".join(str(k * (2**61 - 1)) for k in range(1, 2000)) + "])",
        "{" + ", ".join(f"({k * (2**61 - 1)},)" for k in range(1, 2000)) + "}",
        "'" * 65_001, "'''" + "\\'" * 30_000, "[" * 65_000, "-" * 65_000, "(" * 30_000 + ")" * 30_000, "1_" * 32_000,
        "'\\" * 32_000, "0b" + "1" * 65_000, "1e" * 32_000, "," * 65_000, "a=" * 32_000, "." * 65_000, "#" * 65_000, "9" * 65_000,
        "frozenset(" * 6_000, "{0:" * 20_000, "'\\N{" * 13_000,
    ],
)  # fmt: skip
def test_text_made_to_be_slow_is_refused_quickly(text: str) -> None:
    start = time.process_time()
    with pytest.raises(Refused):
        parse_value(text)
    assert time.process_time() - start < 2  # linear work takes a hundredth of it, quadratic work ten times as much


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text()
    | st.binary()
    | st.just(...)
)
HASHABLE = st.recursive(SCALARS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4), max_leaves=5)
LITERALS = st.recursive(
    SCALARS | st.sets(HASHABLE, max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.tuples(inner) | st.dictionaries(HASHABLE, inner, max_size=5),
    max_leaves=20,
)


@given(LITERALS)
@settings(derandomize=True, max_examples=300, deadline=None)
def test_every_literal_survives_its_own_text(value: object) -> None:
    text = canonical(value)
    again = parse_value(text)
    assert canonical(again) == text
    assert equal(again, value)


@given(LITERALS, LITERALS)
@settings(derandomize=True, max_examples=200, deadline=None)
def test_equality_is_no_wider_than_pythons(a: object, b: object) -> None:
    if equal(a, b):
        assert type(a) is type(b)
        assert a == b or "nan" in canonical(a)


@given(st.text(alphabet="0123456789abjxn.eE+-_()[]{},:='\"\\ \n#TrueNosflati", max_size=30))
@settings(derandomize=True, max_examples=1000, deadline=None)
def test_what_is_read_is_what_python_reads(text: str) -> None:
    try:
        value = parse_value(text)
    except Refused:
        return
    try:
        expected = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        assert any(word in text for word in ("inf", "nan", "set", "dict", "float", "\n", "+", "-"))
        return
    assert equal(value, expected) or not math.isfinite(abs(expected))
