from storage.ids import Mode
from tasks import config
from tasks.reasoning.modes import MODES, Block, Pairs, Shown, inputs_wanted, pairs_visible, proposal_blocks


def test_every_mode_but_the_optional_one_has_rules():
    assert set(MODES) == set(Mode) - {Mode.ERROR}
    assert set(config.MODES) == set(MODES)


def test_each_mode_hides_from_its_solver_what_it_asks_for():
    for rules in MODES.values():
        assert rules.answer.value not in {shown.value for shown in rules.solver_sees}
        assert rules.sources
        assert set(rules.sources) <= set(MODES)
        assert (Shown.PROGRAM in rules.proposer_sees) is (Block.PROGRAM not in rules.proposal)
        assert (Shown.PAIRS in rules.solver_sees) is (rules.pairs is Pairs.SEVERAL)


def test_blocks_of_a_proposal_in_order():
    assert proposal_blocks(Mode.DEDUCTION, 1) == (Block.PROGRAM, Block.INPUT)
    assert proposal_blocks(Mode.INDUCTION, 3) == (Block.INPUT, Block.INPUT, Block.INPUT, Block.MESSAGE)


def test_numbers_of_pairs():
    assert [inputs_wanted(mode, 6) for mode in MODES] == [1, 1, 6]
    assert [pairs_visible(mode, 3) for mode in MODES] == [0, 0, 3]
