"""Numbers as texts have them -> float. No text is too long or too strange: what is no number is None."""

from __future__ import annotations

import math
import re

_DECIMAL = r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?"

_NUMBER = re.compile(rf"({_DECIMAL})(?:/({_DECIMAL}))?")


def number_of(text: str | None) -> float | None:
    """ "12", "-1.5", "1.2e-05" or "306/10", with blanks around it; None if it is not finite."""
    match = _NUMBER.fullmatch((text or "").strip())
    number = math.nan if match is None else _quotient(match)
    return number if math.isfinite(number) else None


def numbers_in(text: str) -> list[float]:
    """All numbers of a text, whatever is between them; those that are not finite are nan or inf."""
    return [_quotient(match) for match in _NUMBER.finditer(text)]


def _quotient(match: re.Match[str]) -> float:
    # float() takes any number of digits, and int() no more than 4,300.
    denominator = float(match[2] or 1)
    return float(match[1]) / denominator if denominator else math.nan
