"""Dates and times as EXIF, XMP, IPTC and PNG write them -> ISO 8601."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from email.utils import parsedate_tz

When = tuple[str, str | None]
"""A local time, or a date where that is all, in ISO 8601; and its offset from UTC, such as "+02:00"."""

_NUMBER = r"\s*(\d{1,2})"
_CLOCK = rf"{_NUMBER}\D{_NUMBER}(?:\D{_NUMBER}(?:[.,]\d*)?)?"
_OFFSET = r"\s*(Z|[+-]\d\d:?\d\d)?"

_EXIF = re.compile(rf"\s*(\d{{4}})\D{_NUMBER}\D{_NUMBER}\D{_CLOCK}{_OFFSET}")
_ISO = re.compile(rf"\s*(\d{{4}})(?:-(\d\d?)(?:-(\d\d?)(?:[T\s]{_CLOCK}{_OFFSET})?)?)?\s*")
_IPTC_DATE = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)")
_IPTC_TIME = re.compile(r"(\d\d):?(\d\d):?(\d\d)([+-]\d\d:?\d\d)?")


def exif_time(text: str | None, offset: str | None = None) -> When | None:
    """
    "2021:07:14 18:03:11", also with blanks in the place of zeros, and with an offset if another tag has
    none. None for a date alone, and for what is no time.
    """
    match = _EXIF.match(text or "")
    return _when(match.groups()[:6], match[7] or offset) if match else None


def iso_time(text: str | None) -> When | None:
    """XMP's: a year, a month, a day, or a time with or without seconds and offset."""
    match = _ISO.fullmatch(text or "")
    if match is None:
        return exif_time(text)
    year, month, day, hour, *_ = match.groups()
    if hour is not None:
        return _when(match.groups()[:6], match[7])
    whole = _when((year, month or "1", day or "1", "0", "0", None), None)
    known = 4 if month is None else 7 if day is None else 10
    return (whole[0][:known], None) if whole else None


def iptc_time(date: str | None, time: str | None) -> When | None:
    """ "20210714" and "180311+0200"; the time may be missing."""
    day = _IPTC_DATE.match(date or "")
    clock = _IPTC_TIME.match(time or "")
    if day is None:
        return None
    if clock is None:
        return iso_time("-".join(day.groups()))
    return _when((*day.groups(), *clock.groups()[:3]), clock[4])


def png_time(text: str | None) -> When | None:
    """That of an e-mail, as the standard wants, or whatever else programs write."""
    parsed = parsedate_tz(text or "")
    if parsed is None or not parsed[0]:
        return iso_time(text)
    offset = None
    # None is for "-0000", a time whose offset nobody knows.
    if parsed[9] is not None and re.search(r"[+-]\d{4}|[A-Z]{1,4}\s*$", text or ""):
        minutes = abs(parsed[9]) // 60
        offset = f"{'-' if parsed[9] < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"
    return _when([str(part) for part in parsed[:6]], offset)


def best_time(times: Iterable[When | None]) -> When | None:
    """The first one, or a later one that is more exact and says the same: a day hides no time of that day."""
    best: When | None = None
    for when in times:
        if when is None:
            continue
        if best is None or (when[0].startswith(best[0]) and len(when[0]) > len(best[0])):
            best = when
    return best


def offset_of(text: str | None) -> str | None:
    """ "+0200" or "Z" -> "+02:00" or "+00:00"; none of more than 14 hours."""
    text = (text or "").strip()
    if text == "Z":
        return "+00:00"
    match = re.fullmatch(r"([+-])(\d\d):?([0-5]\d)", text)
    if match is None or int(match[2]) * 60 + int(match[3]) > 14 * 60:
        return None
    return f"{match[1]}{match[2]}:{match[3]}"


def _when(parts: Sequence[str | None], offset: str | None) -> When | None:
    """`parts` are year, month, day, hour, minute and second, of which the last may be missing."""
    year, month, day, hour, minute, second = (int(part or 0) for part in parts)
    # Midnight is hour 24 to some cameras, of the day that begins.
    hour = 0 if hour == 24 else hour
    second = 59 if second == 60 else second
    try:
        time = datetime(year, month, day, hour, minute, second)
    except (ValueError, OverflowError):
        return None
    return time.isoformat(), offset_of(offset)
