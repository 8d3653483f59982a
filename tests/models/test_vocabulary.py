import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.tokens import load_tokenizer
from models.vocabulary import END, END_ID, MARKERS, PAD, PAD_ID, SPECIAL, UNKNOWN, WORDS, tokenizer, vocabulary
from tasks.nano.documents import block
from tasks.nano.language import WORDS as LANGUAGE_WORDS
from tasks.reasoning.prompts import load_templates

ASCII = string.printable[:95] + "\n"


@pytest.fixture(scope="module")
def words():
    return tokenizer()


def test_ids_are_fixed(words):
    assert len(words) == len(vocabulary()) == 397
    assert vocabulary()[:4] == [PAD, END, UNKNOWN, "<|propose-deduction|>"]
    assert (words.pad_token_id, words.eos_token_id) == (PAD_ID, END_ID) == (0, 1)
    assert (
        words.encode("def f(a):\n    return a + 17", add_special_tokens=False)
        == [vocabulary().index(piece) for piece in ("def f(", "a", "):", "\n    return ", "a", " + ", "17")]
        or words.tokenize("def f(a):\n    return a + 17")[0] == "def f("
    )


def test_special_tokens_are_the_templates_own():
    markup = load_templates("nano").markup
    assert set(markup.single_tokens) == set(SPECIAL)
    assert set(MARKERS) == set(SPECIAL) - {PAD, END, UNKNOWN}


@settings(derandomize=True, max_examples=500)
@given(st.text(alphabet=ASCII, max_size=200))
def test_ascii_text_decodes_to_itself(words, text):
    ids = words.encode(text, add_special_tokens=False)
    assert words.decode(ids) == text
    assert words.unk_token_id not in ids or UNKNOWN in text


def test_documents_decode_to_themselves_and_split_at_markers(words):
    for document in block(2, 15)[:500]:
        prompt = words.encode(document.prompt, add_special_tokens=False)
        completion = words.encode(document.completion + END, add_special_tokens=False)
        whole = words.encode(document.prompt + document.completion + END, add_special_tokens=False)
        assert prompt + completion == whole
        assert words.decode(whole) == document.prompt + document.completion + END
        assert words.unk_token_id not in whole
        assert completion[-1] == END_ID


def test_every_word_of_a_message_is_one_token(words):
    assert set(LANGUAGE_WORDS) <= set(WORDS)
    for word in LANGUAGE_WORDS:
        assert len(words.encode(f"<|message|>{word}<|answer|>", add_special_tokens=False)) == 3
        assert len(words.encode(f"<|message|>add {word}", add_special_tokens=False)) == 3


def test_saved_tokenizer_is_the_same(words, tmp_path):
    words.save_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    again.require_single_tokens(SPECIAL)
    text = "<|solve-deduction|><|program|>def f(a):\n    return a[::-1]<|input|>'pq'<|answer|>"
    ids = again.encode(text)
    assert ids == tuple(words.encode(text, add_special_tokens=False))
    assert again.decode([*ids, END_ID]) == text
    assert again.ends == {END_ID}
