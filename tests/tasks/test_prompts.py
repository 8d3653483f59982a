import shutil
from pathlib import Path

import pytest

from storage.errors import ConfigError
from storage.ids import Mode, Role
from tasks.reasoning.modes import MODES, Block
from tasks.reasoning.prompts import (
    ROOT,
    Layout,
    Reference,
    TemplateSet,
    load_templates,
    proposal_prompt,
    read_templates,
    solver_prompt,
    template_names,
)

GOLDEN = Path(__file__).parent / "golden"
REFERENCES = (
    Reference("def f(a):\n    return a", "'pqr'", "'pqr'"),
    Reference("def f(a, b):\n    c = [a] + b\n    return c[::-1]", "1, [2, 3]", "[3, 2, 1]"),
)
PROGRAM, INPUTS, OUTPUTS, MESSAGE = "def f(a):\n    return a * 2", ("3", "[4]", "'p'"), ("6", "[4, 4]", "'pp'"), "dbl"


def rendered(templates: TemplateSet, role: Role, mode: Mode) -> str:
    if role is Role.PROPOSER:
        return proposal_prompt(templates, mode, REFERENCES, wanted=6)
    return solver_prompt(templates, mode, program=PROGRAM, inputs=INPUTS, outputs=OUTPUTS, visible=2, message=MESSAGE)


@pytest.mark.parametrize("mode", list(MODES))
@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("name", ["nano", "paper"])
def test_golden_prompts(name, role, mode):
    golden = GOLDEN / f"{name}_{role}_{mode}.txt"
    assert rendered(load_templates(name), role, mode) + "\n" == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", template_names())
def test_no_solver_prompt_holds_what_is_asked_for(name):
    hidden = {Block.PROGRAM: PROGRAM, Block.INPUT: INPUTS[1], Block.OUTPUT: OUTPUTS[1]}
    for mode in set(MODES) - {Mode.INDUCTION}:
        prompt = solver_prompt(
            load_templates(name),
            mode,
            program=PROGRAM,
            inputs=INPUTS[1:2],
            outputs=OUTPUTS[1:2],
            visible=0,
            message=None,
        )
        assert hidden[MODES[mode].answer] not in prompt
    induction = rendered(load_templates(name), Role.SOLVER, Mode.INDUCTION)
    assert PROGRAM not in induction
    assert INPUTS[2] not in induction
    assert OUTPUTS[2] not in induction


def test_the_paper_asks_each_mode_for_the_right_difficulty():
    paper = load_templates("paper")
    assert "working out the **output**" in paper.texts["propose_deduction"]
    assert "to an **input**" in paper.texts["propose_abduction"]


def test_substituted_text_is_never_searched_for_placeholders():
    program = "def f(a):\n    return '{{input}}{{prompt}}{{nothing}}' # \\g<0> \\1"
    prompt = solver_prompt(
        load_templates("nano"), Mode.DEDUCTION, program=program, inputs=("'{{program}}'",), outputs=("1",), visible=0,
        message=None,
    )  # fmt: skip
    assert prompt == f"<|solve-deduction|><|program|>{program}<|input|>'{{{{program}}}}'<|answer|>"


def test_fewer_references_are_shown_when_there_are_fewer():
    assert proposal_prompt(load_templates("nano"), Mode.ABDUCTION, REFERENCES[:1]).count("<|program|>") == 1
    assert "<snippet_2>" not in proposal_prompt(load_templates("paper"), Mode.ABDUCTION, REFERENCES[:1])


def test_what_a_prompt_needs_must_be_given():
    nano = load_templates("nano")
    with pytest.raises(ValueError, match="no reference"):
        proposal_prompt(nano, Mode.INDUCTION, [], wanted=6)
    with pytest.raises(ValueError, match="without a message"):
        solver_prompt(nano, Mode.INDUCTION, program="p", inputs=("1",), outputs=("1",), visible=1, message=None)
    with pytest.raises(ValueError, match="2 pairs are to be shown, the task has 1"):
        solver_prompt(nano, Mode.INDUCTION, program="p", inputs=("1",), outputs=("1",), visible=2, message="m")


def test_an_unknown_set_is_answered_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"no template set 'nanno'\. Known sets: nano, paper\. Did you mean nano\?"):
        load_templates("nanno")
    with pytest.raises(ConfigError, match="Known sets"):
        load_templates("../templates/nano")


def test_markup_of_the_two_sets():
    nano, paper = load_templates("nano").markup, load_templates("paper").markup
    assert nano.layout is Layout.STRICT
    assert nano.base_must_know
    assert {mark.open for mark in nano.blocks.values()} < set(nano.single_tokens)
    assert len(nano.single_tokens) == len(set(nano.single_tokens)) == 15
    assert paper.layout is Layout.LENIENT
    assert not paper.base_must_know
    assert paper.single_tokens == ()


@pytest.fixture
def copied(tmp_path):
    return Path(shutil.copytree(ROOT / "nano", tmp_path / "mine"))


def test_the_hash_is_of_names_and_bytes(copied):
    same = read_templates(copied)
    assert same.hash == load_templates("nano").hash
    (copied / "pair.md").write_text("<|input|>{{input}} <|output|>{{output}}\n")
    assert read_templates(copied).hash != same.hash


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("solve_deduction.md", "{{program}}{{input}}{{output}}", "solve_deduction.md uses the placeholders"),
        ("solve_deduction.md", "{{program}}", "must use"),
        ("frame.md", "nothing", "frame.md"),
        ("format.toml", "layout = 'strict'", "cannot be read"),
        ("format.toml", "layout = ", "cannot be read"),
    ],
)
def test_a_set_that_does_not_fit_is_refused(copied, file, text, words):
    (copied / file).write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_templates(copied)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"strict"', '"lenient"', "a strict layout has no envelope"),
        ('output = { open = "<|output|>" }', "", "no markup for output"),
        ('{ open = "<|think|>" }', '{ open = "" }', "cannot be read"),
    ],
)
def test_a_format_that_does_not_fit_is_refused(copied, old, new, words):
    declared = (copied / "format.toml").read_text()
    assert old in declared
    (copied / "format.toml").write_text(declared.replace(old, new))
    with pytest.raises(ConfigError, match=words):
        read_templates(copied)


def test_a_missing_file_is_named(copied):
    (copied / "pair.md").unlink()
    with pytest.raises(ConfigError, match=r"no pair\.md"):
        read_templates(copied)
    (copied / "format.toml").unlink()
    with pytest.raises(ConfigError, match=r"no format\.toml"):
        read_templates(copied)
