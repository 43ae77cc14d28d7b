"""
Times in words: "July 2023", "since 2021", "last summer". dateparser reads what stands in a calendar, in English and
in the languages of a browser. Seasons, which it does not know, are in English and of the northern hemisphere. Two times
are one period in English only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dateparser.date import DateDataParser

MOST_WORDS = 24
"""The first words of a text, which are looked at."""

MOST_TRIES = 4
"""Runs of words that look like a time and are none, for dateparser: each takes five milliseconds."""

MOST_TIMES = 2
"""Times of a text that can be one period, as in "between 2019 and 2021"."""

LONGEST = 3
"""Words of a time: "July 4th 2021"."""

SEASONS = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}
"""The month in which each begins. A winter is named after the year of its December."""

FROM, TO = ("since", "after"), ("before", "until")

_SEASON = re.compile(
    rf"(?:(last|this) )?({'|'.join(SEASONS)})(?: (?:of |in )?((?:19|20)\d\d))?", re.IGNORECASE
)
_RELATIVE = re.compile(
    r"(?:last|this) (?:week|month|year)|yesterday|today|\d{1,2} (?:week|month|year)s? ago",
    re.IGNORECASE,
)
_CERTAIN = {
    frozenset(("year",)): re.compile(r"(?:19|20)\d\d"),
    frozenset(("year", "month")): re.compile(
        r"[^\W\d]{3,}\.?(?: of| de)?,? (?:19|20)\d\d|(?:19|20)\d\d-\d\d"
    ),
    frozenset(("year", "month", "day")): re.compile(
        r"[^\W\d]{3,}\.? \d\d?(?:st|nd|rd|th)?,? (?:19|20)\d\d"
        r"|\d\d?(?:st|nd|rd|th|\.)? [^\W\d]{3,}\.?,? (?:19|20)\d\d"
        r"|(?:19|20)\d\d-\d\d-\d\d"
    ),
}
"""
What a text must look like that dateparser reads as a year, a month or a day. It passes over words such as "sun", and
03/05/2021 is another day in another country.
"""

_ISO_DATE = re.compile(r"[0-9]{4}(?:-[0-9]{2}){0,2}")
"""A year, a month or a day of ISO 8601, real or not."""

_LIKELY = re.compile(
    "|".join(f"(?:{each.pattern})" for each in (_SEASON, _RELATIVE, *_CERTAIN.values())),
    re.IGNORECASE,
)

_BEFORE = re.compile(
    rf"(?:^|(?<=\s))(?:(?:({'|'.join((*FROM, *TO))})|in|from|of|on|at|near|during|im|am|en)(?:\s+the)?|the)\s+$",
    re.IGNORECASE,
)
"""A word before a time or a place that goes with it."""

_BETWEEN = re.compile(r"(?:^|(?<=\s))between(?:\s+the)?\s+$", re.IGNORECASE)
_AND = re.compile(r"\s+and(?:\s+the)?\s+", re.IGNORECASE)
_UP_TO = re.compile(r"\s+(?:to|until|till|through|\u2013)(?:\s+the)?\s+", re.IGNORECASE)
"""What stands before and between two times that are the ends of a period."""

_PART_BEFORE = re.compile(
    r"(?:^|(?<=\s))(?:between|to|till|through|early|mid|late|(?:beginning|start|middle|end)\s+of"
    r"|(?:from|since|between)\s.*\s(?:until|and))(?:\s+the)?\s+$",
    re.IGNORECASE,
)
_PART_AFTER = re.compile(r"\s+(?:to|until|till|through)\s", re.IGNORECASE)
"""A time beside these is only a part of what is meant."""


@dataclass(frozen=True)
class Period:
    """
    A time that a text names. `start` and `end` are of ISO 8601, as exact as the text, and the end is not included;
    None is no limit. `rest` is the text without it.
    """

    label: str
    start: str | None
    end: str | None
    rest: str


@dataclass(frozen=True)
class _Time:
    """`typed`, from `begin` to `end` of a text, with its limits as in Period."""

    begin: int
    end: int
    typed: str
    limits: tuple[str, str]


def period_in(text: str, today: date, languages: Sequence[str] = ()) -> Period | None:
    """
    The time in a text, or the one period that two times make; None if the rest of the text would have lost its
    meaning. `languages` are codes such as "de", beside English.
    """
    times = _times(text, today, tuple(languages))
    if len(times) == 1:
        return _period(text, *times)
    return _joined(text, *times) if len(times) == MOST_TIMES else None


def _times(text: str, today: date, languages: tuple[str, ...]) -> list[_Time]:
    """In their order: at most one more than MOST_TIMES, the longest first of those that overlap."""
    words = list(re.finditer(r"\S+", text))[:MOST_WORDS]
    found: list[_Time] = []
    tries = 0
    for length in range(min(LONGEST, len(words)), 0, -1):
        for first in range(len(words) - length + 1):
            begin, end = words[first].start(), words[first + length - 1].end()
            typed = " ".join(text[begin:end].split()).strip(",.;:!?")
            if not _LIKELY.fullmatch(typed) or any(
                begin < other.end and other.begin < end for other in found
            ):
                continue
            limits = _limits(typed, today, languages)
            if limits is not None:
                found.append(_Time(begin, end, typed, limits))
            else:
                tries += 1
            if tries == MOST_TRIES or len(found) > MOST_TIMES:
                return sorted(found, key=lambda time: time.begin)
    return sorted(found, key=lambda time: time.begin)


def _period(text: str, time: _Time) -> Period | None:
    before, after = text[: time.begin], text[time.end :]
    if _is_part(before, after):
        return None
    label, start, end = _sides(before, time)
    return Period(label, start, end, rest_of(before, after))


def _joined(text: str, first: _Time, second: _Time) -> Period | None:
    """From one time to the other, or after one and before the other."""
    before, between, after = text[: first.begin], text[first.end : second.begin], text[second.end :]
    label, start, end = _sides(before, first)
    other, later_start, later_end = _sides(between, second)
    is_between = _BETWEEN.search(before) and _AND.fullmatch(between)
    if is_between or _UP_TO.fullmatch(between):
        before = _BETWEEN.sub("", before)
        label, end = f"{label} to {second.typed}", second.limits[1]
    else:
        has_one_start = (start is None) != (later_start is None)
        has_one_end = (end is None) != (later_end is None)
        is_linked = _BEFORE.sub("", between).strip().lower() in ("", "and", "but")
        if not (has_one_start and has_one_end and is_linked):
            return None
        label, start, end = f"{label} and {other}", start or later_start, end or later_end
    if start is None or end is None or start >= end or _is_part(before, after):
        return None
    return Period(label, start, end, rest_of(before, after))


def _is_part(before: str, after: str) -> bool:
    """Whether what stands between these two parts of a text is not all of a time."""
    return bool(_PART_BEFORE.search(before) or _PART_AFTER.match(after))


def _sides(before: str, time: _Time) -> tuple[str, str | None, str | None]:
    """The label, the start and the end of a time after a text, by its last word."""
    found = _BEFORE.search(before)
    word = (found[1] or "").lower() if found else ""
    start, end = time.limits
    return (
        f"{word} {time.typed}".strip(),
        None if word in TO else end if word == "after" else start,
        None if word in FROM else start if word == "before" else end,
    )


def rest_of(before: str, after: str) -> str:
    """A text without what stands between these two parts, and without a word such as "in" that goes with that."""
    return " ".join(f"{_BEFORE.sub('', before)} {after}".split())


def _limits(typed: str, today: date, languages: tuple[str, ...]) -> tuple[str, str] | None:
    """The start and the end of a time that is all of a text."""
    if season := _SEASON.fullmatch(typed):
        return _season(season, today)
    if _RELATIVE.fullmatch(typed):
        data = _parser((), today).get_date_data(typed)
        return _span(data.date_obj.date(), data.period)
    kinds = {parts for parts, certain in _CERTAIN.items() if certain.fullmatch(typed)}
    data = _parser(languages, today).get_date_data(typed)
    if data.date_obj is None or frozenset(data.parts) not in kinds:
        return None
    return _span(data.date_obj.date(), data.period)


def span_of(written: str) -> tuple[str, str] | None:
    """The start and the end of a year, a month or a day of ISO 8601; None for other texts, and for the end of time."""
    # Since Python 3.11, fromisoformat also reads 20210101 and 2021-W01-1.
    if not _ISO_DATE.fullmatch(written):
        return None
    period = ("year", "month", "day")[written.count("-")]
    try:
        begin, end = _span(date.fromisoformat(f"{written}-01-01"[:10]), period)
    except (ValueError, OverflowError):
        return None
    # The year 10000 would come before 9999, as texts have it.
    return (begin, end) if begin < end else None


def period_in_words(start: str | None, end: str | None) -> str | None:
    """
    "2021", "June 2021", "2021 to 2023", "since June 2021" or "before 2024"; None if a limit is no year, month or day of
    ISO 8601, or if there is nothing between them. The end is not included.
    """
    limits = [limit for limit in (start, end) if limit]
    if not limits or any(len(limit) > 10 or span_of(limit) is None for limit in limits):
        return None
    if not start or not end:
        return f"since {date_in_words(start)}" if start else f"before {date_in_words(limits[0])}"
    if span_of(start) == (start, end):
        return date_in_words(start)
    # As exact as the other, so that nobody takes "2021 to June 2022" for a part of 2021.
    longest = max(len(start), len(end))
    first, behind = (f"{limit}-01-01"[:longest] for limit in (start, end))
    if first >= behind:
        return None
    last = f"{date.fromisoformat(f'{behind}-01-01'[:10]) - timedelta(1)}"[:longest]
    if first == last:
        return date_in_words(first)
    return f"{date_in_words(first)} to {date_in_words(last)}"


def date_in_words(day: str) -> str:
    """ "22 October 2008", "October 2008" or "2008" of a date of ISO 8601 that is real."""
    year, month, number = (*map(int, day.split("-")), 1, 1)[:3]
    known = date(year, month, number)
    return f"{known:{('%Y', '%B %Y', f'{known.day} %B %Y')[day.count('-')]}}"


def _span(day: date, period: str) -> tuple[str, str]:
    if period == "year":
        return f"{day.year:04}", f"{day.year + 1:04}"
    if period == "month":
        return _months(day.year, day.month, 1)
    days = 1
    if period == "week":
        day, days = day - timedelta(day.weekday()), 7
    return f"{day}", f"{day + timedelta(days)}"


def _months(year: int, month: int, count: int) -> tuple[str, str]:
    years, last = divmod(month - 1 + count, 12)
    return f"{year:04}-{month:02}", f"{year + years:04}-{last + 1:02}"


def _season(season: re.Match[str], today: date) -> tuple[str, str] | None:
    which, name, year = season.groups()
    month = SEASONS[name.lower()]
    if which is None and year is not None:
        return _months(int(year), month, 3)
    if which is None or year is not None:
        return None
    # This summer has begun, and the last one has ended.
    now = f"{today:%Y-%m}"
    spans = (_months(at, month, 3) for at in (today.year, today.year - 1, today.year - 2))
    is_last = which.lower() == "last"
    return next(span for span in spans if (span[1] if is_last else span[0]) <= now)


@lru_cache(maxsize=64)
def _parser(languages: tuple[str, ...], today: date) -> DateDataParser:
    # They take a tenth of a second to import, and most queries name no time.
    from dateparser.data.languages_info import language_order
    from dateparser.date import DateDataParser

    # By the day, because dateparser keeps all settings that it ever got.
    now = datetime.combine(today, time(12))
    settings = {"RELATIVE_BASE": now, "PREFER_DAY_OF_MONTH": "first"}
    known = [code for code in languages if code in language_order]
    return DateDataParser(languages=[*known, "en"], settings=settings)
