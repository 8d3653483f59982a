from itertools import islice

import pytest

from storage.ids import Mode, Role
from storage.seeds import rng
from tasks.nano.documents import BLOCK, INPUTS, VISIBLE, block, documents, propose_document, solve_document
from tasks.nano.holdout import held_out
from tasks.nano.language import IDENTITY
from tasks.nano.samples import Sample
from tasks.reasoning.parsing import Answer, Proposal, parse_answer, parse_proposal
from tasks.reasoning.prompts import load_templates, solver_prompt

SAMPLE = Sample(
    program="def f(a):\n    b = a + 1\n    return b * 2",
    pairs=(("3", "8"), ("0", "2"), ("5", "12"), ("1", "4"), ("2", "6"), ("4", "10")),
    forward="b=3 + 1=4;4 * 2",
    backward="b * 2=8;b=4;a + 1=4;a=3",
    words=("add 1", "times 2"),
    operations=2,
)
TEMPLATES = load_templates("nano")


@pytest.fixture(scope="module")
def late():
    return block(1, 20)


def run(text, arguments):
    scope = {}
    exec(text, scope)  # noqa: S102 - made by rule
    return repr(eval(f"f({arguments})", scope))  # noqa: S307


def test_prompts_are_those_of_the_loop():
    draw = rng(1)
    assert solve_document(draw, Mode.DEDUCTION, SAMPLE).prompt == (
        "<|solve-deduction|><|program|>def f(a):\n    b = a + 1\n    return b * 2<|input|>3<|answer|>"
    )
    assert solve_document(draw, Mode.ABDUCTION, SAMPLE).prompt == (
        "<|solve-abduction|><|program|>def f(a):\n    b = a + 1\n    return b * 2<|output|>8<|answer|>"
    )
    induction = solve_document(draw, Mode.INDUCTION, SAMPLE).prompt
    hint = induction.split("<|message|>")[1].removesuffix("<|answer|>")
    inputs, outputs = zip(*SAMPLE.pairs, strict=True)
    assert induction == solver_prompt(
        TEMPLATES,
        Mode.INDUCTION,
        program=SAMPLE.program,
        inputs=inputs,
        outputs=outputs,
        visible=VISIBLE,
        message=hint,
    )
    proposal = propose_document(draw, Mode.INDUCTION, SAMPLE, [])
    assert proposal.prompt == f"<|propose-induction|><|program|>{SAMPLE.program}<|answer|>"
    bootstrap = propose_document(draw, Mode.ABDUCTION, SAMPLE, []).prompt
    assert bootstrap.startswith(f"<|propose-abduction|><|program|>{IDENTITY}<|input|>")


def test_completions_parse_and_are_right(late):
    checked = 0
    for document in late[:600]:
        if document.role is Role.PROPOSER:
            continue
        answer = parse_answer(TEMPLATES, document.mode, document.completion, finished=True)
        assert isinstance(answer, Answer)
        if document.mode is Mode.DEDUCTION:
            assert (
                run(document.program, document.prompt.split("<|input|>")[1].removesuffix("<|answer|>")) == answer.text
            )
        elif document.mode is Mode.ABDUCTION:
            wanted = document.prompt.split("<|output|>")[1].removesuffix("<|answer|>")
            assert run(document.program, answer.text) == wanted
        else:
            shown = document.prompt.split("<|message|>")[0].split("<|input|>")[1:]
            assert len(shown) == VISIBLE
            for pair in shown:
                text, output = pair.split("<|output|>")
                assert run(answer.text, text) == output
        checked += 1
    assert checked > 300


def test_proposals_parse_and_run(late):
    for document in late:
        if document.role is Role.SOLVER:
            continue
        wanted = INPUTS if document.mode is Mode.INDUCTION else 1
        proposal = parse_proposal(
            TEMPLATES, document.mode, document.completion, finished=True, wanted=wanted, shown=document.program
        )
        assert isinstance(proposal, Proposal)
        assert proposal.program == document.program
        assert len(set(proposal.inputs)) == wanted
        assert all(run(proposal.program, text) for text in proposal.inputs)


def test_what_is_held_out_is_in_no_document_nor_reference(late):
    for document in late:
        shown = [part.split("<|")[0] for part in (document.prompt + document.completion).split("<|program|>")[1:]]
        assert not any(held_out(program) for program in [*shown, document.program])


def test_shares_of_the_kinds(late):
    counts = {
        (role, mode): sum(document.role is role and document.mode is mode for document in late)
        for role in Role
        for mode in (Mode.DEDUCTION, Mode.ABDUCTION, Mode.INDUCTION)
    }
    assert sum(counts.values()) == BLOCK
    assert counts[Role.SOLVER, Mode.INDUCTION] > 0.25 * BLOCK
    assert min(counts.values()) > 0.05 * BLOCK
    alone = [
        document for document in late if document.prompt.startswith(f"<|propose-deduction|><|program|>{IDENTITY}<|")
    ]
    assert len(alone) >= 10
    with_think = [document for document in late if document.completion.startswith("<|think|>")]
    assert 0.4 * BLOCK < len(with_think) < 0.7 * BLOCK


def test_blocks_are_a_function_of_seed_and_number():
    second = block(3, 1)
    assert next(documents(3, 1)) == second
    assert list(islice(documents(3, 0), 2))[1] == second
    assert block(4, 1) != second
