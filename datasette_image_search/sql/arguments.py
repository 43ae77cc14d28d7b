"""
What SQL hands to a function -> what is meant. A parameter of Datasette is a text whatever it stands
for, and an empty one until somebody fills in the form.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..errors import ImageSearchError

if TYPE_CHECKING:
    from ..store import ImageTable, Key

_WHOLE = re.compile(r"([+-]?[0-9]{1,19})(\.0*)?")
"""As CSV files have ids, and programs that know one kind of number only."""


def is_missing(*values: Any) -> bool:
    """
    Whether one of them is NULL, an empty text, or a # without the id that is to follow it: then the
    result is NULL, so that a saved query shows its form, and no error, before anything is typed.
    """
    return any(
        value is None or (isinstance(value, str) and value.strip() in ("", "#")) for value in values
    )


def image_count(k: Any) -> int:
    """Raises ImageSearchError for what is no whole number."""
    number = whole_number(k)
    if number is None:
        raise ImageSearchError(f"k is {_shown(k)}; it must be a whole number")
    return number


def image_key(table: ImageTable, id: Any) -> Key:
    """Raises ImageSearchError for what can be the id of no image, such as the value of another column."""
    number = whole_number(id)
    if table.key_is_integer and number is not None:
        return number
    if not table.key_is_integer and (number is not None or isinstance(id, str)):
        return id if isinstance(id, str) else str(number)
    ids = "whole numbers" if table.key_is_integer else "texts"
    raise ImageSearchError(
        f"{_shown(id)} is not the id of an image of {table.name!r}, whose ids are {ids}; "
        f"name the column {table.key!r}"
    )


def whole_number(value: Any) -> int | None:
    """None for what is none, or what SQLite has no integer for."""
    if isinstance(value, str):
        match = _WHOLE.fullmatch(value.strip())
        number = int(match[1]) if match else None
    elif isinstance(value, float):
        number = int(value) if value.is_integer() else None
    else:
        number = value if isinstance(value, int) else None
    return number if number is not None and abs(number) < 2**63 else None


def _shown(value: Any) -> str:
    return f"a BLOB of {len(value):,} bytes" if isinstance(value, bytes) else f"{value!r:.200}"
