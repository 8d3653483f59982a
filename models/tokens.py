"""Text to token ids and back, the same way for sampling, training and checks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from storage.errors import ConfigError, EngineError

_GENERATION_CONFIG = "generation_config.json"


class Tokenizer:
    """A directory's tokenizer.

    A prompt is raw text: special tokens written in it count as such, and nothing is added but the begin token, where
    the tokenizer itself begins every text with it (Llama does, Qwen and GPT-2 do not).

    Attributes:
        ends: ids that end a completion: the tokenizer's end token and those of generation_config.json.
        size: number of ids, special tokens included.
    """

    def __init__(self, inner: PreTrainedTokenizerBase, ends: frozenset[int]) -> None:
        self._inner = inner
        self._begin = _begin_of(inner)
        self.ends = ends
        self.size = len(inner)

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of a prompt."""
        ids: list[int] = self._inner.encode(text, add_special_tokens=False)
        return (*self._begin, *ids) if tuple(ids[:1]) != self._begin else tuple(ids)

    @property
    def special(self) -> tuple[str, ...]:
        """The tokens that text written in a prompt can turn into by accident, such as an end token."""
        return tuple(str(token) for token in self._inner.all_special_tokens)

    def count(self, text: str) -> int:
        """How many ids a prompt has."""
        return len(self.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of a completion's ids: special tokens stay visible, a final end token is left out."""
        shown = ids[:-1] if ids and ids[-1] in self.ends else ids
        text = self._inner.decode(list(shown), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if isinstance(text, str):
            return text
        raise EngineError(f"The tokenizer decoded {len(shown)} ids to {type(text).__name__}, not to text.")

    def require_single_tokens(self, markers: Iterable[str]) -> None:
        """Raise ConfigError listing the markers that are not one token each; templates that need them cannot work."""
        split = [marker for marker in markers if not self._is_one_token(marker)]
        if split:
            raise ConfigError(
                f"The tokenizer has no own token for {len(split)} of the templates' markers: {', '.join(split)}. "
                "Nothing was written. Choose another template set, or a model whose tokenizer has them."
            )

    def _is_one_token(self, marker: str) -> bool:
        ids = self._inner.encode(marker, add_special_tokens=False)
        return len(ids) == 1 and self._inner.convert_ids_to_tokens(ids) == [marker]


def load_tokenizer(directory: Path) -> Tokenizer:
    """The tokenizer of a policy's directory.

    Raises EngineError when it cannot be loaded and ConfigError when it has no end token.
    """
    try:
        inner = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(f"The tokenizer in {directory} could not be loaded: {error}. Nothing was written.") from error
    return Tokenizer(inner, _end_ids(inner, directory))


def _begin_of(inner: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The begin token, when the tokenizer's own encoding of a text starts with it."""
    begin = inner.bos_token_id
    if isinstance(begin, int) and inner.encode("a", add_special_tokens=True)[:1] == [begin]:
        return (begin,)
    return ()


def _end_ids(inner: PreTrainedTokenizerBase, directory: Path) -> frozenset[int]:
    found = [inner.eos_token_id, *_generation_ends(directory / _GENERATION_CONFIG)]
    ends = frozenset(end for end in found if isinstance(end, int))
    if not ends:
        raise ConfigError(
            f"The tokenizer in {directory} has no end token, so no completion could end. Nothing was written. "
            "Set eos_token in its tokenizer_config.json, or eos_token_id in generation_config.json."
        )
    return ends


def _generation_ends(path: Path) -> list[object]:
    if not path.is_file():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
    except (OSError, ValueError, AttributeError) as error:
        raise EngineError(f"{path} could not be read: {error}. Nothing was written.") from error
    return found if isinstance(found, list) else [found]
