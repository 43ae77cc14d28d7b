"""Makes and models as cameras and programs write them -> one name of each camera, by rule: there is no list of cameras."""

from __future__ import annotations

import re

_FORMS = frozenset({
    "corporation", "corp", "company", "co", "ltd", "inc", "llc", "gmbh", "ag", "ab", "a/s",
})  # fmt: skip
"""Words at the end of a make that tell of the company: it changes its form while its cameras keep their name."""

_TRADES = frozenset({"imaging", "optical", "electric", "computer", "camera", "techwin", "systems"})
"""Words before those, which a company changes too. Without them they belong to the name: "General Electric"."""

_NO_NAMES = frozenset({"general"})
"""Words that name nobody alone: "General Imaging Co."."""

_SHORT = 3
"""Letters of a make, at the most, that may be the initials of something: "HTC" is written so, "SONY" need not be."""


def named_once(make: str | None, model: str | None) -> tuple[str | None, str | None]:
    """
    "NIKON CORPORATION" and "NIKON D70s", or "Nikon" and "D70s" -> "Nikon" and "D70s". What was named once is not
    changed again.
    """
    if make is None:
        return None, model
    words = make.replace(",", " ").split() or [make]
    name = _capitalized(" ".join(_without_form(words)))
    return name, None if model is None else _without_make(model, name)


def _without_form(words: list[str]) -> list[str]:
    without = _without_last(words, _FORMS)
    return without if without == words else _without_last(without, _TRADES)


def _without_last(words: list[str], left_out: frozenset[str]) -> list[str]:
    """Without the words at the end that are left out, as long as a name remains."""
    end = len(words)
    while end > 1 and words[end - 1].lower().strip(".") in left_out and _is_name(words[: end - 1]):
        end -= 1
    return words[:end]


def _is_name(words: list[str]) -> bool:
    name = " ".join(words).lower()
    return len(name) >= _SHORT and name not in _NO_NAMES


def _capitalized(name: str) -> str:
    """The same for "NIKON" and "samsung" as for "Nikon" and "Samsung"."""
    if len(name) <= _SHORT or not (name.isupper() or name.islower()):
        return name
    return re.sub(r"[^\W\d_]{3,}", lambda word: word[0].capitalize(), name)


def _without_make(model: str, make: str) -> str:
    named = make.lower().split()
    words = model.split()
    while len(words) > 1 and words[0].lower() in named:
        words.pop(0)
    return " ".join(words)
