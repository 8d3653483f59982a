import pytest
from pydantic import ValidationError

from storage.config import Key, Section
from storage.ids import Mode
from tasks.config import BootstrapConfig, CurriculumConfig, RewardConfig, SandboxConfig
from tasks.reasoning.prompts import load_templates

SECTIONS = [CurriculumConfig, BootstrapConfig, RewardConfig, SandboxConfig]
OPERATIONAL = {"workers", "allow_unsafe"}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_described_and_marked(section):
    assert issubclass(section, Section)
    for name, field in section.model_fields.items():
        keys = [mark for mark in field.metadata if isinstance(mark, Key)]
        assert keys == [Key.OPERATIONAL if name in OPERATIONAL else Key.IDENTITY]
        assert field.description


def test_the_default_templates_exist():
    assert load_templates(CurriculumConfig().templates).name == "nano"


@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        (CurriculumConfig, {"visible": 6}, r"visible \(6\) must be below inputs \(6\)"),
        (CurriculumConfig, {"references_min": 3}, r"references_min \(3\) must not exceed references_max \(2\)"),
        (CurriculumConfig, {"modes": ["error", "deduction"]}, "mode error has no rules; choose among deduction"),
        (CurriculumConfig, {"modes": ["deduction", "deduction"]}, "each mode once, please: deduction, deduction"),
        (CurriculumConfig, {"modes": ["induction"]}, "induction needs the programs of deduction or abduction"),
        (CurriculumConfig, {"modes": []}, "at least 1 item"),
        (CurriculumConfig, {"modes": ["deducktion"]}, "Input should be 'deduction'"),
        (CurriculumConfig, {"probes": 1}, "greater than or equal to 2"),
        (BootstrapConfig, {"identity_input": "Hello world"}, "must be one Python literal"),
        (BootstrapConfig, {"identity_input": "f(1)"}, "must be one Python literal"),
        (BootstrapConfig, {"max_rounds": 256}, "less than or equal to 255"),
        (RewardConfig, {"wrong": -2}, r"format \(-1.0\) <= wrong \(-2.0\) <= 0 must hold"),
        (RewardConfig, {"unlearnable": -2}, r"must not exceed unlearnable \(-2.0\)"),
        (RewardConfig, {"duplicate": 0}, r"duplicate \(0.0\) must not exceed unlearnable \(-0.5\)"),
        (RewardConfig, {"learnability": "one-minus"}, "one_minus"),
        (RewardConfig, {"wrong": float("nan")}, "less than or equal to 10"),
        (SandboxConfig, {"validate_cpu_s": 5}, r"validate_cpu_s \(5.0\) must not exceed verify_cpu_s \(4.0\)"),
        (SandboxConfig, {"worker": 2}, "Extra inputs are not permitted"),
    ],
)
def test_values_that_do_not_fit_are_named(section, values, words):
    with pytest.raises(ValidationError, match=words):
        section.model_validate(values)


def test_modes_are_kept_in_one_order():
    chosen = CurriculumConfig(modes=(Mode.INDUCTION, Mode.DEDUCTION))
    assert chosen.modes == (Mode.DEDUCTION, Mode.INDUCTION)


def test_the_identity_input_is_stored_as_canonical_text():
    assert BootstrapConfig(identity_input='"Hello world"').identity_input == "'Hello world'"


def test_the_papers_numbers_fit():
    chosen = CurriculumConfig(
        templates="paper", proposals=64, references_min=6, references_max=6, inputs=10, visible=5, probes=8,
        buffer_tasks=64, buffer_samples=1, allow_leak=True,
    )  # fmt: skip
    assert (chosen.inputs, chosen.visible) == (10, 5)
    assert BootstrapConfig(wanted=256, proposals=64).wanted == 256
