"""How many proposals are asked for, and what is said when the bootstrap stays without seeds."""

import pytest

from flows.bootstrap import _starved, missing_seeds
from storage.ids import Mode, Position, Stage
from tasks.seeding import lacking, proposals_wanted

DEDUCTION, ABDUCTION, INDUCTION = Mode.DEDUCTION, Mode.ABDUCTION, Mode.INDUCTION


@pytest.mark.parametrize(
    ("held", "modes"),
    [
        ({}, (DEDUCTION, ABDUCTION)),
        ({DEDUCTION: 3}, (ABDUCTION,)),
        ({DEDUCTION: 3, ABDUCTION: 2}, (ABDUCTION,)),
        ({DEDUCTION: 2, ABDUCTION: 3, INDUCTION: 3}, (DEDUCTION,)),
        ({DEDUCTION: 3, ABDUCTION: 3}, (INDUCTION,)),
        ({DEDUCTION: 4, ABDUCTION: 5, INDUCTION: 2}, (INDUCTION,)),
        ({DEDUCTION: 3, ABDUCTION: 3, INDUCTION: 3}, ()),
    ],
)
def test_induction_waits_for_the_programs_of_the_others(loop, held, modes):
    config = loop.config(bootstrap={"wanted": 3, "proposals": 7})
    buffers = {mode: [None] * count for mode, count in held.items()}
    assert lacking(config, buffers) == modes
    assert proposals_wanted(config, Position(0, Stage.PROPOSE, 1), buffers) == dict.fromkeys(modes, 7)


def test_only_the_modes_of_the_config_are_seeded(loop):
    config = loop.config(curriculum={"modes": ["abduction", "induction"]})
    assert lacking(config, {}) == (ABDUCTION,)
    assert lacking(config, {ABDUCTION: [None]}) == (INDUCTION,)


def test_an_iteration_proposes_alike_for_every_mode_whatever_the_buffers_hold(loop):
    config = loop.config(curriculum={"proposals": 5})
    for buffers in ({}, {DEDUCTION: [None] * 9}):
        wanted = proposals_wanted(config, Position(2, Stage.PROPOSE), buffers)
        assert list(wanted.items()) == [(DEDUCTION, 5), (ABDUCTION, 5), (INDUCTION, 5)]


def test_rounds_end_when_every_mode_has_its_seeds(loop, tmp_path):
    config = loop.config(bootstrap={"wanted": 2, "proposals": 2, "max_rounds": 9})
    plus, times = (f"<|program|>def f(a):\n    return a {sign} 2<|input|>1" for sign in "+*")
    lines = {
        "0.1-ded-000": plus,
        "0.1-abd-000": "nothing",
        "0.2-abd-001": times,
        **{f"0.3-ind-00{slot}": "<|input|>1<|input|>2<|input|>3<|message|>" + "ab"[slot] for slot in (0, 1)},
    }
    script = loop.play(config, lines, otherwise="nothing")
    with loop.open(tmp_path, config, script) as work:
        assert loop.bootstrap(work) == 3
        assert missing_seeds(config, work.ledger, 1) == (DEDUCTION, ABDUCTION)
        assert missing_seeds(config, work.ledger, 2) == (ABDUCTION,)
        assert missing_seeds(config, work.ledger, 3) == (INDUCTION,)
        assert missing_seeds(config, work.ledger, 4) == ()
    assert len(script.asked) == 4 + 2 + 2, "no proposals of modes that have their seeds"


def test_a_bootstrap_without_seeds_says_what_was_rejected_why_and_what_to_do(loop, tmp_path):
    config = loop.config(bootstrap={"wanted": 3, "proposals": 2, "max_rounds": 2})
    lines = {"0.1-ded-000": "<|program|>def f(a):\n    return a / 0<|input|>1", "0.2-ded-001": "<|program|>x<|input|>y"}
    with loop.open(tmp_path, config, loop.play(config, lines, otherwise="nothing")) as work:
        assert loop.bootstrap(work) == 2
        error = _starved(work, missing_seeds(config, work.ledger, 3))
    assert str(error) == (
        "The bootstrap of run played lacks seeds after 2 rounds: deduction has 1 of 3, abduction has 1 of 3. "
        "Rejections: 6 malformed, 1 error, 1 not_literal. All rounds are sealed and can be looked at with azr sql. "
        "Begin another run with a larger --set bootstrap.max_rounds, fewer --set bootstrap.wanted, or another --set "
        "model.path."
    )
