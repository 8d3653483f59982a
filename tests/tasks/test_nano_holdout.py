from hypothesis import given, settings
from hypothesis import strategies as st

from storage.seeds import rng
from tasks.nano.holdout import Split, held_out, normalise, split, structure
from tasks.nano.language import IDENTITY
from tasks.nano.memory import read_memory, remember, seen, write_memory
from tasks.nano.samples import draw_sample


def test_normalising_renames_variables_in_order_of_appearance():
    assert (
        normalise("def f(b, a):\n    c = b + a   \n    return c\n") == "def f(x0, x1):\n    x2 = x0 + x1\n    return x2"
    )


def test_keywords_builtins_attributes_and_strings_stay():
    program = "def g(v):\n    return v.count('a')\ndef f(a):\n    return sum([g(v) for v in a])"
    assert normalise(program) == (
        "def x0(x1):\n    return x1.count('a')\ndef f(x2):\n    return sum([x0(x1) for x1 in x2])"
    )


def test_renaming_variables_changes_nothing():
    one = "def f(a):\n    b = a + 3\n    return b * 2"
    two = "def f(left):\n    right = left + 3\n    return right * 2"
    assert normalise(one) == normalise(two)
    assert split(one) is split(two)
    assert normalise(one) != normalise(one.replace("3", "4"))
    assert structure(one) == structure(one.replace("3", "4"))


@settings(derandomize=True, max_examples=200)
@given(st.text(max_size=300))
def test_any_text_belongs_to_one_part(text):
    assert split(text) in Split
    assert normalise(normalise(text)) == normalise(text)


def test_the_identity_is_for_training():
    assert split(IDENTITY) is Split.TRAINING


def test_parts_have_their_sizes():
    draw = rng(11)
    parts = [split(f"def f(a):\n    b = a + {draw.randrange(10**9)}\n    return b * {n}") for n in range(2000)]
    assert 150 < parts.count(Split.PROGRAM) < 250
    assert held_out("def f(a):\n    return a") is False


def test_training_never_draws_what_is_held_out():
    draw = rng(12)
    assert not any(held_out(draw_sample(draw).program) for _ in range(500))


def test_memory_of_programs_seen(tmp_path):
    memory = remember(["def f(a):\n    return a", "def f(a):\n    return a + 1", "def f(b):\n    return b"])
    assert len(memory) == 2
    write_memory(memory, tmp_path)
    again = read_memory(tmp_path)
    assert seen(again, "def f(x):\n    return x + 1")
    assert not seen(again, "def f(x):\n    return x + 2")
