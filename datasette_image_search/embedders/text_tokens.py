"""Texts -> the numbers that a text tower reads, as the tokenizers of open_clip make them, without torch."""

from __future__ import annotations

import html
import string
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import ftfy
import numpy as np
from tokenizers import Tokenizer


def _clean_whitespace(text: str) -> str:
    unescaped = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(unescaped.split())


def _clean_lower(text: str) -> str:
    return _clean_whitespace(text).lower()


def _clean_canonicalize(text: str) -> str:
    # In the order of open_clip: a letter in lower case may come with a mark that its capital had not.
    words = _clean_whitespace(text).replace("_", " ").translate(_NO_PUNCTUATION).lower()
    return " ".join(words.split())


_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)

CLEANINGS: dict[str, Callable[[str], str]] = {
    "canonicalize": _clean_canonicalize,
    "lower": _clean_lower,
    "whitespace": _clean_whitespace,
}
"""By the names that open_clip has for them."""


@dataclass(frozen=True)
class TextTokens:
    """
    `tokenizer` is a tokenizer.json, which cuts and pads texts to the length that the tower reads, `cleaning` a key of
    CLEANINGS. The token `zeroed` becomes 0.
    """

    tokenizer: str = field(repr=False)
    cleaning: str
    zeroed: int | None = None
    _tokenizer: Tokenizer = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises an error of tokenizers for what is none."""
        object.__setattr__(self, "_tokenizer", _parsed(self.tokenizer))

    def __call__(self, texts: list[str]) -> np.ndarray:
        """n texts -> (n, length), int64."""
        clean = CLEANINGS[self.cleaning]
        encoded = self._tokenizer.encode_batch([clean(text) for text in texts])
        tokens = np.array([each.ids for each in encoded], dtype=np.int64)
        if self.zeroed is not None:
            tokens[tokens == self.zeroed] = 0
        return tokens


@lru_cache(maxsize=1)
def _parsed(tokenizer: str) -> Tokenizer:
    # Takes 0.1 s for that of CLIP, and an export wants it twice: for what it writes, and for the file that is checked.
    return Tokenizer.from_str(tokenizer)
