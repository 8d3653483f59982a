import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.ids import Mode
from tasks.reasoning.modes import MODES, proposal_blocks
from tasks.reasoning.parsing import LONGEST, Answer, Format, Proposal, Refusal, parse_answer, parse_proposal
from tasks.reasoning.prompts import load_templates

NANO, PAPER = load_templates("nano"), load_templates("paper")
MARKS = [*NANO.forbidden, *PAPER.forbidden, "```python\n", "```input\n", "```message\n", "```\n", "\n", "x", "```json"]
nasty = st.lists(st.sampled_from(MARKS) | st.text(st.characters(exclude_categories=()), max_size=8)).map("".join)


def propose(templates, mode, text, *, wanted=1, finished=True):
    return parse_proposal(templates, mode, text, finished=finished, wanted=wanted, shown="def f(a):\n    return a")


def fence(name, body):
    return f"```{name}\n{body}\n```\n"


def r1(inner):
    return f"I think.\n</think>\n<answer>\n{inner}</answer>"


@settings(derandomize=True, max_examples=300, deadline=None)
@given(text=nasty, finished=st.booleans(), wanted=st.integers(1, 7))
def test_no_text_raises_and_every_refusal_has_a_reason(text, finished, wanted):
    for templates in (NANO, PAPER):
        for mode in MODES:
            count = wanted if mode is Mode.INDUCTION else 1
            proposal = propose(templates, mode, text, wanted=count, finished=finished)
            answer = parse_answer(templates, mode, text, finished=finished)
            for found in (proposal, answer):
                if isinstance(found, Refusal):
                    assert found.format is not Format.OK
                    assert found.reason
                else:
                    assert finished
            if isinstance(proposal, Proposal):
                assert len(proposal.inputs) == count
                assert all([proposal.program, *proposal.inputs])


def written(templates, pieces, think):
    if templates is NANO:
        opening = f"<|think|>{think}" if think else ""
        return opening + "".join(f"<|{block}|>{text}" for block, text in pieces)
    fences = {"program": "python"}
    return f"{think}</think> <answer>" + "\n".join(fence(fences.get(b, b), t) for b, t in pieces) + "</answer> bye"


plain = st.text(st.characters(exclude_characters="`<>|", exclude_categories=("Cs",)), min_size=1, max_size=30).filter(
    lambda text: text == text.strip() and "\r" not in text
)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(data=st.data(), think=plain | st.just(""), wanted=st.integers(1, 6))
@pytest.mark.parametrize("templates", [NANO, PAPER], ids=["nano", "paper"])
@pytest.mark.parametrize("mode", list(MODES))
def test_well_formed_completions_come_back_as_written(templates, mode, data, think, wanted):
    count = wanted if mode is Mode.INDUCTION else 1
    pieces = [(block.value, data.draw(plain)) for block in proposal_blocks(mode, count)]
    proposal = propose(templates, mode, written(templates, pieces, think), wanted=count)
    given_texts = {block: [text for name, text in pieces if name == block] for block in ("program", "input", "message")}
    assert proposal == Proposal(
        program=(given_texts["program"] or ["def f(a):\n    return a"])[0],
        inputs=tuple(given_texts["input"]),
        message=(given_texts["message"] or [None])[0],
    )
    text = data.draw(plain)
    answer = written(templates, [(MODES[mode].answer.value, text)], think)
    assert parse_answer(templates, mode, answer, finished=True) == Answer(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Format.MISSING_BLOCK),
        ("hello", Format.STRAY_TEXT),
        ("def f(a):<|program|>x<|input|>1", Format.STRAY_TEXT),
        ("<|program|>x<|input|>1<|answer|>", Format.STRAY_TEXT),
        ("<|program|>x<|input|>1<|end|>", Format.STRAY_TEXT),
        ("<|program|>x", Format.MISSING_BLOCK),
        ("<|input|>1<|program|>x", Format.WRONG_ORDER),
        ("<|program|>x<|input|>1<|input|>2", Format.WRONG_ORDER),
        ("<|think|>t<|think|>t<|program|>x<|input|>1", Format.WRONG_ORDER),
        ("<|program|>x<|think|>t<|input|>1", Format.WRONG_ORDER),
        ("<|program|>x<|input|>1<|output|>1", Format.WRONG_ORDER),
        ("<|program|>x<|input|> \n", Format.EMPTY),
        ("<|program|>x<|input|>\ud800", Format.UNENCODABLE),
        ("<|program|>" + "x" * LONGEST + "<|input|>1", Format.TOO_LONG),
    ],
)
def test_how_strict_completions_break(text, expected):
    found = propose(NANO, Mode.DEDUCTION, text)
    assert isinstance(found, Refusal)
    assert found.format is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no tags", Format.UNTAGGED),
        ("</think>" + fence("output", "1"), Format.UNTAGGED),
        ("</think><answer>" + fence("output", "1"), Format.UNTAGGED),
        ("</think> so <answer>" + fence("output", "1") + "</answer>", Format.UNTAGGED),
        ("<answer>" + fence("output", "1") + "</answer></think>", Format.UNTAGGED),
        (r1("1"), Format.MISSING_BLOCK),
        (r1("```output\n1"), Format.MISSING_BLOCK),
        (r1(fence("json", "```output\n1")), Format.MISSING_BLOCK),
        (r1(fence("output", " ")), Format.EMPTY),
    ],
)
def test_how_lenient_completions_break(text, expected):
    found = parse_answer(PAPER, Mode.DEDUCTION, text, finished=True)
    assert isinstance(found, Refusal)
    assert found.format is expected


def test_a_completion_that_did_not_end_is_refused():
    good = "<|output|>1"
    assert parse_answer(NANO, Mode.DEDUCTION, good, finished=True) == Answer("1")
    found = parse_answer(NANO, Mode.DEDUCTION, good, finished=False)
    assert found == Refusal(Format.TRUNCATED, "the completion did not end within its token limit (11 characters)")


def test_a_strict_proposal_holds_exactly_the_wanted_inputs():
    two = "<|input|>1<|input|>2<|message|>m"
    assert propose(NANO, Mode.INDUCTION, two, wanted=2) == Proposal(
        program="def f(a):\n    return a", inputs=("1", "2"), message="m"
    )
    fewer, more = propose(NANO, Mode.INDUCTION, two, wanted=3), propose(NANO, Mode.INDUCTION, two, wanted=1)
    assert fewer == Refusal(Format.MISSING_BLOCK, "wanted 3 x input, message; given 2 x input, message")
    assert more == Refusal(Format.WRONG_ORDER, "wanted input, message; given 2 x input, message")


def test_of_more_lenient_blocks_than_wanted_the_last_count():
    inputs = "".join(fence("input", str(at)) for at in range(5))
    found = propose(PAPER, Mode.INDUCTION, r1(fence("message", "hint") + "words\n" + inputs), wanted=3)
    assert isinstance(found, Proposal)
    assert (found.inputs, found.message) == (("2", "3", "4"), "hint")
    programs = fence("python", "def f(a):\n    return 1") + "No:\n" + fence("python", "def f(a):\n    return 2")
    assert parse_answer(PAPER, Mode.INDUCTION, r1(programs), finished=True) == Answer("def f(a):\n    return 2")


def test_an_input_block_before_the_program_is_no_fault_in_a_lenient_set():
    found = propose(PAPER, Mode.DEDUCTION, r1(fence("input", "1, 'x'") + fence("python", "def f(a, b):\n    return a")))
    assert found == Proposal(program="def f(a, b):\n    return a", inputs=("1, 'x'",), message=None)


def test_white_space_inside_a_program_is_kept():
    found = propose(NANO, Mode.DEDUCTION, "<|think|> plan <|program|>\n  def f(a):\n\n    return a\n \n<|input|> 1 \n")
    assert found == Proposal(program="  def f(a):\n\n    return a", inputs=("1",), message=None)


def test_a_proposal_about_no_program_is_a_fault_of_the_caller():
    with pytest.raises(ValueError, match="none is given"):
        parse_proposal(NANO, Mode.INDUCTION, "<|input|>1<|message|>m", finished=True, wanted=1)


@pytest.mark.parametrize("unit", ["<|input|>", "<|", "```", "```\n", "```input\n", "</think><answer>", " ", "<answer>"])
def test_reading_is_linear(unit):
    text = unit * (LONGEST // len(unit))
    began = time.process_time()
    for templates in (NANO, PAPER):
        assert isinstance(propose(templates, Mode.INDUCTION, text, wanted=6), Refusal)
        assert isinstance(propose(templates, Mode.DEDUCTION, r1(text)[:LONGEST]), Refusal)
    assert time.process_time() - began < 5
