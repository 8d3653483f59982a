from collections import Counter

import pytest

from storage.errors import ConfigError
from storage.ids import Mode
from tasks.nano.exams import COUNT, HASH, LEVELS, PARTS, Row, content_hash, generate, held_out, rows
from tasks.nano.holdout import Split, program_hash, split, structure


def test_the_committed_file_is_the_one_of_the_hash():
    assert content_hash(rows()) == HASH
    assert Counter((row.part, row.level) for row in rows()) == {
        (part, level): COUNT for part in PARTS for level in LEVELS
    }


def test_every_program_is_held_out_by_rule_and_there_once():
    assert all(split(row.program) == row.part for row in rows())
    assert all(row.operations in LEVELS[row.level] for row in rows())
    assert len({program_hash(row.program) for row in rows()}) == len(rows())


def test_the_stricter_part_has_two_lines_and_more():
    assert all(structure(row.program).count("\n") >= 2 for row in rows() if row.part == Split.STRUCTURE)


def test_problems_of_each_mode():
    deduction, induction = held_out(Mode.DEDUCTION, "hard", count=3)[2], held_out(Mode.INDUCTION, "hard", count=3)[2]
    assert deduction.program == induction.program
    assert (len(deduction.inputs), deduction.visible, deduction.message) == (1, 0, None)
    assert (len(induction.inputs), induction.visible) == (6, 3)
    assert induction.message
    with pytest.raises(ConfigError, match="501 problems were asked for"):
        held_out(Mode.DEDUCTION, "easy", count=501)


def test_generated_rows_are_the_same_every_time():
    made = generate(Split.STRUCTURE, "middle", 5)
    assert made == generate(Split.STRUCTURE, "middle", 5)
    assert all(isinstance(row, Row) and split(row.program) is Split.STRUCTURE for row in made)


def test_levels_are_apart():
    assert sorted(number for level in LEVELS.values() for number in level) == [1, 2, 3, 4, 5, 6]
