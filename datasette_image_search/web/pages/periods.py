"""
Times in words: "July 2023", "since 2021", "last summer". dateparser reads what stands in a calendar, in English and
in the languages of a browser. Seasons, which it does not know, are in English and of the northern hemisphere.
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
"""Runs of words that look like a time, for dateparser: each takes a millisecond, or five if it is none."""

LONGEST = 3
"""Words of a time: "July 4th 2021"."""

SEASONS = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}
"""The month in which each begins. A winter is named after the year of its December."""

FROM, TO = ("since", "after"), ("before", "until")

_SEASON = re.compile(rf"(?:(last|this) )?({'|'.join(SEASONS)})(?: ((?:19|20)\d\d))?", re.IGNORECASE)
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

_LIKELY = re.compile(
    "|".join(f"(?:{each.pattern})" for each in (_SEASON, _RELATIVE, *_CERTAIN.values())),
    re.IGNORECASE,
)

_BEFORE = re.compile(
    rf"(?:^|(?<=\s))(?:({'|'.join((*FROM, *TO))})|in|from|of|on|at|near|during|im|am|en)(?:\s+the)?\s+$",
    re.IGNORECASE,
)
"""A word before a time or a place that goes with it."""


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


def period_in(text: str, today: date, languages: Sequence[str] = ()) -> Period | None:
    """The first of the longest times in a text; `languages` are codes such as "de", beside English."""
    words = list(re.finditer(r"\S+", text))[:MOST_WORDS]
    tries = 0
    for length in range(min(LONGEST, len(words)), 0, -1):
        for first in range(len(words) - length + 1):
            begin, end = words[first].start(), words[first + length - 1].end()
            typed = " ".join(text[begin:end].split()).strip(",.;:!?")
            if not _LIKELY.fullmatch(typed):
                continue
            limits = _limits(typed, today, tuple(languages))
            if limits is not None:
                return _period(text[:begin], typed, text[end:], limits)
            tries += 1
            if tries == MOST_TRIES:
                return None
    return None


def _period(before: str, typed: str, after: str, limits: tuple[str, str]) -> Period:
    start, end = limits
    found = _BEFORE.search(before)
    word = (found[1] or "").lower() if found else ""
    return Period(
        f"{word} {typed}".strip(),
        None if word in TO else end if word == "after" else start,
        None if word in FROM else start if word == "before" else end,
        rest_of(before, after),
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


def _span(day: date, period: str) -> tuple[str, str]:
    if period == "year":
        return f"{day:%Y}", f"{day.year + 1}"
    if period == "month":
        return _months(day.year, day.month, 1)
    days = 1
    if period == "week":
        day, days = day - timedelta(day.weekday()), 7
    return f"{day}", f"{day + timedelta(days)}"


def _months(year: int, month: int, count: int) -> tuple[str, str]:
    years, last = divmod(month - 1 + count, 12)
    return f"{year}-{month:02}", f"{year + years}-{last + 1:02}"


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
