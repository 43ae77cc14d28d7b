"""Places as EXIF and XMP write them -> degrees and metres."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .numbers import number_of, numbers_in
from .texts import text_of

Place = tuple[float | None, float | None]
"""Latitude and longitude in degrees, each None if it makes no sense."""

_BELOW = (1, 3)
"""Below the sea, and below the sea as EXIF 3.0 says it."""


def place(latitude: float | None, longitude: float | None) -> Place:
    """Without values that no place has; nothing for 0, 0, which is that of a device without a signal."""
    if latitude == longitude == 0:
        return None, None
    return _within(latitude, 90), _within(longitude, 180)


def degrees(value: object, reference: object = None) -> float | None:
    """
    Degrees, or with minutes, or with seconds too: as numbers, or as a text such as "43,30.6N". `reference`
    is where they are counted to: N, S, E or W, or such a word in full.
    """
    side = (text_of(reference) or "").upper()[:1]
    if isinstance(value, bytes):
        text = text_of(value) or ""
        value = numbers_in(text)
        side = side or text.upper()[-1:]
    if not isinstance(value, Sequence) or not 1 <= len(value) <= 3:
        return None
    parts = [float(part) for part in value]
    if not all(map(math.isfinite, parts)):
        return None
    whole, minutes, seconds = (*parts, 0.0, 0.0)[:3]
    # A sign is of the whole, also in "-0 30 0", and a reference of what has none.
    size = abs(whole) + abs(minutes) / 60 + abs(seconds) / 3600
    negative = side in ("S", "W") if side in ("N", "E", "S", "W") else math.copysign(1, whole) < 0
    return round(-size if negative else size, 7)


def altitude(value: float | None, reference: object) -> float | None:
    """`reference` is 1 or 3 for a depth: a number, a byte, or a digit."""
    if value is None or not math.isfinite(value):
        return None
    return -abs(value) if _flag(reference) in _BELOW else value


def _flag(reference: object) -> float:
    if isinstance(reference, str | bytes):
        text = text_of(reference) or ""
        number = number_of(text)
        return ord((reference or "\0")[:1]) if number is None else number
    if isinstance(reference, Sequence) and reference:
        return float(reference[0])
    return 0


def _within(value: float | None, limit: int) -> float | None:
    return value if value is not None and abs(value) <= limit else None
