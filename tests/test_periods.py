"""Times that people name in queries."""

from __future__ import annotations

from datetime import date

import pytest
from dateparser.date import DateData

from datasette_image_search.web.pages import periods
from datasette_image_search.web.pages.periods import Period, period_in, period_in_words

TODAY = date(2026, 7, 15)


@pytest.mark.parametrize(
    ("text", "label", "start", "end"),
    [
        ("2023", "2023", "2023", "2024"),
        ("July 2023", "July 2023", "2023-07", "2023-08"),
        ("dec 1999", "dec 1999", "1999-12", "2000-01"),
        ("July of 2023", "July of 2023", "2023-07", "2023-08"),
        ("2021-07", "2021-07", "2021-07", "2021-08"),
        ("July 4th 2021", "July 4th 2021", "2021-07-04", "2021-07-05"),
        ("31 December 2021", "31 December 2021", "2021-12-31", "2022-01-01"),
        ("2021-07-04", "2021-07-04", "2021-07-04", "2021-07-05"),
        ("since 2021", "since 2021", "2021", None),
        ("after July 2021", "after July 2021", "2021-08", None),
        ("before 2021", "before 2021", None, "2021"),
        ("until 2021", "until 2021", None, "2022"),
        ("yesterday", "yesterday", "2026-07-14", "2026-07-15"),
        ("last week", "last week", "2026-07-06", "2026-07-13"),
        ("this month", "this month", "2026-07", "2026-08"),
        ("last year", "last year", "2025", "2026"),
        ("2 years ago", "2 years ago", "2024", "2025"),
        ("last summer", "last summer", "2025-06", "2025-09"),
        ("this summer", "this summer", "2026-06", "2026-09"),
        ("last spring", "last spring", "2026-03", "2026-06"),
        ("this autumn", "this autumn", "2025-09", "2025-12"),
        ("last winter", "last winter", "2025-12", "2026-03"),
        ("Summer 2022", "Summer 2022", "2022-06", "2022-09"),
        ("winter 2022", "winter 2022", "2022-12", "2023-03"),
        ("the fall of 2020", "fall of 2020", "2020-09", "2020-12"),
        ("summer in 2023", "summer in 2023", "2023-06", "2023-09"),
        ("after the summer of 2023", "after summer of 2023", "2023-09", None),
        ("between 2019 and 2021", "2019 to 2021", "2019", "2022"),
        ("from 2019 to July 2021", "2019 to July 2021", "2019", "2021-08"),
        ("March 2020 until the fall of 2020", "March 2020 to fall of 2020", "2020-03", "2020-12"),
        ("since 2019 until yesterday", "since 2019 to yesterday", "2019", "2026-07-15"),
        ("before 2020 and after 2010", "before 2020 and after 2010", "2011", "2020"),
        ("since 2019, before 2021", "since 2019 and before 2021", "2019", "2021"),
    ],
)
def test_a_time_has_a_start_and_an_end(text: str, label: str, start: str | None, end: str | None):
    assert period_in(text, TODAY) == Period(label, start, end, "")


@pytest.mark.parametrize(
    ("text", "label", "rest"),
    [
        ("a red car in July 2023", "July 2023", "a red car"),
        ("beach, last summer, with dogs", "last summer", "beach, with dogs"),
        ("in 2019 at the sea", "2019", "at the sea"),
        ("snow since 2021 and fog", "since 2021", "snow and fog"),
        ("party on 4 July 2021", "4 July 2021", "party"),
        ("snow in the winter 2021", "winter 2021", "snow"),
        ("snow in the summer of 2023, dogs", "summer of 2023", "snow dogs"),
        ("cats and dogs between 2019 and 2021 at night", "2019 to 2021", "cats and dogs at night"),
        ("a car from 2019 to 2021 and a dog", "2019 to 2021", "a car and a dog"),
        ("red after 2010 but before 2020 in fog", "after 2010 and before 2020", "red in fog"),
        ("the 2021 party", "2021", "party"),
    ],
)
def test_the_rest_is_what_to_search_for(text: str, label: str, rest: str):
    found = period_in(text, TODAY)
    assert (found.label, found.rest) == (label, rest)


@pytest.mark.parametrize(
    "text",
    [
        "red",
        "may",
        "a march of penguins in the sun",
        "summer",
        "2 dogs",
        "2020s",
        "1000 people",
        "IMG_2021",
        "3021",
        "a dog ago",
        "03/05/2021",
        "last supper",
        "",
    ],
)
def test_other_words_are_no_time(text: str):
    assert period_in(text, TODAY) is None


@pytest.mark.parametrize(
    "text",
    [
        "2021 and 2022",
        "2019, 2020 and 2021",
        "between 2021 and 2019",
        "between 2019 and Lisbon",
        "before 2010 and after 2020",
        "after 2010 and since 2015",
        "before 2019 to 2021",
        "from July to August 2023",
        "from spring until August 2023",
        "from 2019 to now",
        "between July and August 2023",
        "party in 2019 and cake in 2021",
        "zwischen 2019 und 2021",
        "early 2020",
        "the end of 2020",
    ],
)
def test_no_part_of_what_is_meant_is_offered(text: str):
    assert period_in(text, TODAY) is None


def test_the_languages_of_the_browser():
    assert period_in("Juli 2023", TODAY) == Period("2023", "2023", "2024", "Juli")
    assert period_in("Strand im Juli 2023", TODAY, ["de"]) == Period(
        "Juli 2023", "2023-07", "2023-08", "Strand"
    )
    assert period_in("4. März 2021", TODAY, ["de"]).start == "2021-03-04"
    assert period_in("plage en août 2023", TODAY, ["fr", "de"]) == Period(
        "août 2023", "2023-08", "2023-09", "plage"
    )
    assert period_in("May 2021", TODAY, ["de"]).start == "2021-05"


def test_only_the_first_words_of_a_text_are_looked_at():
    assert period_in("red " * 23 + "2021", TODAY).label == "2021"
    assert period_in("red " * 24 + "2021", TODAY) is None


def test_only_some_runs_of_words_that_look_like_a_time_are_tried(monkeypatch: pytest.MonkeyPatch):
    tried = []

    class Parser:
        def get_date_data(self, typed: str):
            tried.append(typed)
            return DateData(date_obj=None, period="day", locale=None, parts=())

    monkeypatch.setattr(periods, "_parser", lambda languages, today: Parser())
    assert period_in("foo 2021 bar 2022 " * 6, TODAY) is None
    assert len(tried) == periods.MOST_TRIES


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        ("2021", "2022", "2021"),
        ("2021-06", "2021-07", "June 2021"),
        ("2021-12-31", "2022-01-01", "31 December 2021"),
        ("2021", "2024", "2021 to 2023"),
        ("2022-12", "2023-03", "December 2022 to February 2023"),
        ("2021", "2022-07", "January 2021 to June 2022"),
        ("2021-06-15", "2022", "15 June 2021 to 31 December 2021"),
        ("2021-01", "2021-02-01", "1 January 2021 to 31 January 2021"),
        ("2021-06", None, "since June 2021"),
        (None, "2024", "before 2024"),
        # Nothing between, no date, and the ends of time.
        ("2024", "2021", None),
        ("2021", "2021", None),
        ("2021-06-01T10:00", "2022", None),
        ("banana", None, None),
        ("2021-13", "2022", None),
        ("20210101", None, None),
        ("2021-W01-1", "2022", None),
        (None, "2021W011", None),
        ("\u0662\u0660\u0662\u0661", None, None),
        ("2021-1", "2022", None),
        ("0001", "0001-01-01", None),
        (None, "9999", None),
        ("", "", None),
    ],
)
def test_a_period_in_words(start: str | None, end: str | None, words: str | None):
    assert period_in_words(start, end) == words
