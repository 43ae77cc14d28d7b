"""Bytes and texts of metadata -> texts for people."""

from __future__ import annotations

import re

LONGEST_TEXT = 10_000
"""Characters; the rest is cut off."""

LONGEST_KEYWORD = 200

MOST_KEYWORDS = 1_000

_SAYS_NOTHING = re.compile(r"-*|unknown", re.IGNORECASE)
"""What cameras and programs write if they know nothing."""

_UNPRINTABLE = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n\r"}


def text_of(value: object) -> str | None:
    """
    A text without its padding; None if it says nothing. Bytes are UTF-8 or, if they cannot be, Latin-1 as
    Windows has it.
    """
    if isinstance(value, bytes):
        value = decoded(value.split(b"\0")[0])
    if not isinstance(value, str):
        return None
    # Fields of fixed length are filled up with NULs or blanks; some decode to lone surrogates.
    text = value.split("\0")[0].encode("utf-8", "replace").decode()
    text = text.translate(_UNPRINTABLE).strip()[:LONGEST_TEXT].strip()
    return None if _SAYS_NOTHING.fullmatch(text) else text


def decoded(value: bytes) -> str:
    """UTF-8, also if it ends inside of a letter, or else Latin-1 with the letters of Windows in the gaps."""
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return value.decode(encoding)
        except UnicodeDecodeError as error:
            is_cut = error.reason == "unexpected end of data"
            if is_cut and not value[: error.start].isascii():
                return value[: error.start].decode("utf-8-sig")
    return value.decode("latin-1")


def joined(texts: list[str]) -> str | None:
    """Several names as one text."""
    return text_of("; ".join(texts))


def keywords_of(texts: list[str]) -> tuple[str, ...]:
    """Each once, in the order they were written in, without those that are too long to be words."""
    cleaned = (text_of(" ".join(text.split())) for text in texts)
    kept = dict.fromkeys(text for text in cleaned if text and len(text) <= LONGEST_KEYWORD)
    return tuple(kept)[:MOST_KEYWORDS]
