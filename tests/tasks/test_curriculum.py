from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.ids import Mode
from storage.seeds import rng
from tasks.reasoning.curriculum import IDENTITY_PROGRAM, draw_buffer_tasks, draw_references
from tasks.reasoning.modes import MODES

BUFFERS = {
    Mode.DEDUCTION: [f"d{at}" for at in range(6)],
    Mode.ABDUCTION: [f"a{at}" for at in range(4)],
    Mode.INDUCTION: ["i0"],
}


def draw(mode, slot, *, buffers=BUFFERS, least=1, most=2):
    return draw_references(buffers, mode, least=least, most=most, rng=rng(7, 1, "propose", mode.value, slot))


def test_each_mode_draws_from_the_buffers_that_feed_it():
    drawn = {mode: {task for slot in range(300) for task in draw(mode, slot)} for mode in MODES}
    assert drawn == {
        Mode.DEDUCTION: set(BUFFERS[Mode.DEDUCTION]),
        Mode.ABDUCTION: set(BUFFERS[Mode.ABDUCTION]),
        Mode.INDUCTION: set(BUFFERS[Mode.DEDUCTION] + BUFFERS[Mode.ABDUCTION]),
    }


def test_a_mode_shown_one_program_draws_one_task():
    assert {len(draw(Mode.INDUCTION, slot, least=3, most=5)) for slot in range(50)} == {1}
    assert draw(Mode.INDUCTION, 0, buffers={}) == []


def test_equal_coordinates_give_equal_draws():
    assert [draw(Mode.DEDUCTION, slot) for slot in range(50)] == [draw(Mode.DEDUCTION, slot) for slot in range(50)]
    assert len({tuple(draw(Mode.DEDUCTION, slot, least=4, most=4)) for slot in range(50)}) > 30


def test_draws_of_a_seed_are_fixed():
    assert draw(Mode.DEDUCTION, 0, least=3, most=3) == ["d1", "d2", "d3"]
    assert draw_buffer_tasks(range(100), 4, rng(7, 1, "solve", "deduction")) == [99, 35, 81, 33]


def test_number_and_order_are_uniform():
    drawn = [draw(Mode.DEDUCTION, slot) for slot in range(6000)]
    sizes = Counter(map(len, drawn))
    assert set(sizes) == {1, 2}
    assert abs(sizes[1] - 3000) < 200  # 5 standard deviations of 39
    pairs = Counter(tuple(one) for one in drawn if len(one) == 2)
    assert len(pairs) == 30  # every ordered pair of different tasks
    assert all(abs(count - sizes[2] / 30) < 60 for count in pairs.values())  # 6 standard deviations of 10


@settings(derandomize=True, max_examples=100)
@given(size=st.integers(0, 8), least=st.integers(0, 6), more=st.integers(0, 4), seed=st.integers(0, 99))
def test_never_twice_and_fewer_where_there_are_fewer(size, least, more, seed):
    buffer = list(range(size))
    found = draw_references({Mode.DEDUCTION: buffer}, Mode.DEDUCTION, least=least, most=least + more, rng=rng(seed))
    assert len(set(found)) == len(found)
    assert min(size, least) <= len(found) <= min(size, least + more)
    tasks = draw_buffer_tasks(buffer, least, rng(seed))
    assert len(set(tasks)) == len(tasks) == min(size, least)
    assert buffer == list(range(size))


def test_a_span_upside_down_is_a_fault_of_the_caller():
    with pytest.raises(ValueError):
        draw(Mode.DEDUCTION, 0, least=3, most=2)


def test_the_identity_program():
    assert IDENTITY_PROGRAM == "def f(a):\n    return a"
