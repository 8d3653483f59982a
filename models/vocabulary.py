"""The fixed word-level vocabulary of the nano base, as a `tokenizers` object.

Markers, pieces of Python, numbers of one or two digits and the words of messages are one token each; every other
printable ASCII character and the newline stand for themselves, so ASCII text always decodes to itself.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from functools import cache

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

END, PAD, UNKNOWN = "<|end|>", "<|pad|>", "<|unk|>"
MARKERS = (
    "<|propose-deduction|>",
    "<|propose-abduction|>",
    "<|propose-induction|>",
    "<|solve-deduction|>",
    "<|solve-abduction|>",
    "<|solve-induction|>",
    "<|program|>",
    "<|input|>",
    "<|output|>",
    "<|message|>",
    "<|think|>",
    "<|answer|>",
)
SPECIAL = (PAD, END, UNKNOWN, *MARKERS)  # the first ids, in this order
PAD_ID, END_ID = 0, 1
PIECES = (
    *(
        "def f(",
        "def g(",
        "):\n    ",
        "):",
        "\n    return ",
        "return ",
        "\n        ",
        "\n    if ",
        "\n    ",
        "    ",
        ":\n        ",
    ),
    *("\n    for n in ", "range(", "[g(v) for v in ", "g("),
    *(" = ", " + ", " - ", " * ", " // ", " % ", " > ", " < ", " == ", " >= ", " <= ", " != "),
    *("max(", "min(", "abs(", "sum(", "len(", "sorted(", "divmod("),
    *("[::-1]", "[::2]", "[1:]", "[:-1]", "[:", " for v in ", "[v for v in ", "[v", " if v", " if ", " in ", " else "),
    *(".count(", ".replace(", "] + ", ", ", " % 2 == 0", "True", "False", "None", "''", "',)"),
)
WORDS = (
    *("above", "absolute", "add", "after", "alternate", "append", "before", "below", "call", "climb", "copies"),
    *("count", "counting", "couple", "decrease", "difference", "divide", "divmod", "double", "ends", "even"),
    *("exceeding", "first", "from", "head", "if", "increase", "init", "join", "larger", "last", "least", "length"),
    *("letters", "list", "loop", "lower", "max", "min", "minus", "modulo", "most", "negate", "pair", "plus", "prepend"),
    *("product", "range", "remainders", "repeat", "replace", "reverse", "same", "scale", "second", "shift", "skip"),
    *("smaller", "sort", "subtract", "sum", "tail", "take", "times", "tuple"),
)
NUMBERS = tuple(f"{number:02d}" for number in range(100))
CONTEXT = 1024  # tokens of the longest sequence
CHARACTERS = (*string.printable[:95], "\n")


def pattern() -> str:
    """The regular expression whose matches, left to right, are the tokens of a text without markers."""
    pieces = [re.escape(piece) for piece in sorted(PIECES, key=len, reverse=True)]
    words = [rf" ?\b{word}\b(?!\()" for word in sorted(WORDS, key=len, reverse=True)]
    return "|".join([*pieces, *words, r"\d\d?", r"[\s\S]"])


def vocabulary() -> list[str]:
    """Every token in order of its id."""
    words = [form for word in WORDS for form in (word, f" {word}")]
    return list(dict.fromkeys((*SPECIAL, *PIECES, *words, *NUMBERS, *CHARACTERS)))


def encode(texts: Sequence[str]) -> list[list[int]]:
    """The ids of every text."""
    ids: list[list[int]] = tokenizer()(list(texts), add_special_tokens=False)["input_ids"]
    return ids


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer, ready to be saved beside the weights; `<|end|>` is the eos token."""
    words = models.WordLevel({token: index for index, token in enumerate(vocabulary())}, unk_token=UNKNOWN)
    inner = Tokenizer(words)
    inner.add_special_tokens(list(SPECIAL))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(pattern()), "isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        tokenizer_object=inner,
        eos_token=END,
        pad_token=PAD,
        unk_token=UNKNOWN,
        extra_special_tokens=list(MARKERS),
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
        padding_side="left",
    )
