"""Makes and models as cameras and programs write them -> one name of each camera, by rule: there is no list of cameras."""

from __future__ import annotations

import re

_FORMS = frozenset({
    "corporation", "corp", "company", "co", "ltd", "inc", "llc", "gmbh", "ag", "ab", "a/s",
    "imaging", "optical", "electric", "computer", "camera", "techwin", "systems",
})  # fmt: skip
"""Words at the end of a make that tell of the company: it changes its form while its cameras keep their name."""

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
    while len(words) > 1 and _is_form(words[-1]) and len(" ".join(words[:-1])) >= _SHORT:
        words.pop()
    name = _capitalized(" ".join(words))
    return name, None if model is None else _without_make(model, name)


def _is_form(word: str) -> bool:
    return word.lower().strip(".") in _FORMS


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
