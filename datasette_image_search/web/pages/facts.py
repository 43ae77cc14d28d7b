"""All that is known of an image, in words, each with the search for the images that have the same."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ...metadata.columns import COLUMNS
from ...quantities import bytes_in_words, exposure_in_words
from ...search.hits import clock
from ...store.companions import names_of
from ..facets.words import ALBUMS, KEYWORDS, TAGS
from ..urls import Pairs
from .periods import date_in_words, span_of

PLACES = ("city", "state", "country")

AROUND = 2.0
"""Degrees of the map of the earth on each side of a place: enough of the outline to know it by."""

DEFAULT_DESCRIPTION = re.compile(
    r"((\w+ )+)?digital (still )?camera|sony dsc|samsung camera pictures|exif[ _]jpeg([ _]picture)?",
    re.IGNORECASE,
)
"""What cameras write as the description of each picture."""

SHOWN = {
    *COLUMNS,
    *PLACES,
    *("id", "root_id", "path", "folder", "filename", "format", "width", "height", "size", "mtime", "sha256"),
    *("country_code", "companions"),
}  # fmt: skip
"""The columns of our tables, which are shown in words or tell people nothing."""

DAY_AND_TIME = re.compile(r"(?P<day>[\d-]+)([T ](?P<time>\d\d:\d\d).*)?", re.DOTALL)
"""As we write a date, or as SQLite's datetime() does; people may have written anything else."""

NANOSECOND = 1e-9
"""No exposure is as short, no aperture and no focal length as small."""

LONGEST_VALUE = 500

MOST_COMPANIONS = 10
"""A photo has one or two; more are what people wrote into the column."""
"""Characters of a value in a column of a person's own."""


@dataclass(frozen=True)
class Value:
    """`url` is the search for all images with it, None if there is none."""

    text: str
    url: str | None = None


@dataclass(frozen=True)
class Fact:
    """One line: what it is, and its values."""

    label: str
    values: tuple[Value, ...]


def facts(
    row: Mapping[str, Any],
    words: Mapping[str, Sequence[str]],
    page: Callable[[Pairs], str],
    earth: Callable[[Pairs], str],
    *,
    is_ours: bool,
) -> list[Fact]:
    """
    `row` is that of the image, without a BLOB that is the picture; `words` are its tags, keywords and albums, by the
    parameter that filters by them. `page` makes the URL of a search page, `earth` that of the map of the earth. `is_ours` is True for a table that
    embed-images made, and not for a person's own, whose columns may mean anything.
    """
    found = _of_our_columns(row, page, earth) if is_ours else []
    for kind, label in ((KEYWORDS, "Keywords"), (TAGS, "Tags"), (ALBUMS, "Albums")):
        texts = words.get(kind.argument, ())
        values = tuple(Value(text, page([(kind.argument, text)])) for text in texts)
        found.append(Fact(label, values))
    for column, value in row.items():
        if not (is_ours and column in SHOWN) and value not in (None, ""):
            found.append(Fact(column, (_of_own_column(column, value, page),)))
    return [fact for fact in found if fact.values]


def _of_our_columns(
    row: Mapping[str, Any], page: Callable[[Pairs], str], earth: Callable[[Pairs], str]
) -> list[Fact]:
    def linked(*columns: str) -> tuple[Value, ...]:
        """The texts in some columns, each with the images that have the same in it."""
        texts = [(column, row.get(column)) for column in columns]
        return tuple(
            Value(text, page([(column, text)]))
            for column, text in texts
            if isinstance(text, str) and text
        )

    def plain(*parts: str | None) -> tuple[Value, ...]:
        said = ", ".join(part for part in parts if part)
        return (Value(said),) if said else ()

    return [
        Fact("Title", plain(_text(row, "title"))),
        Fact("Description", plain(_description(row))),
        Fact("Taken", _taken(row, page)),
        Fact("Place", linked(*PLACES)),
        Fact("Position", _position(row, earth)),
        Fact("Camera", linked("camera_make", "camera_model")),
        Fact("Lens", linked("lens")),
        Fact("Exposure", plain(*_exposure(row))),
        Fact("Rating", plain(_rating(row))),
        Fact("By", linked("artist")),
        Fact("Copyright", plain(_text(row, "copyright"))),
        Fact("Picture", plain(*_picture(row))),
        Fact("With", _companions(row)),
        Fact("Folder", linked("folder")),
    ]


def _taken(row: Mapping[str, Any], page: Callable[[Pairs], str]) -> tuple[Value, ...]:
    taken_at = _text(row, "taken_at")
    if taken_at is None:
        return ()
    written = DAY_AND_TIME.fullmatch(taken_at)
    span = span_of(written["day"]) if written else None
    if written is None or span is None:
        return (Value(taken_at),)
    begin, end = span
    time = written["time"]
    said = date_in_words(written["day"]) + (f", {time}" if time else "")
    offset = _text(row, "taken_at_offset")
    url = page([("taken_at__gte", begin), ("taken_at__lt", end)])
    return (Value(said + (f" (UTC{offset})" if time and offset else ""), url),)


def _description(row: Mapping[str, Any]) -> str | None:
    text = _text(row, "description")
    return None if text is None or DEFAULT_DESCRIPTION.fullmatch(text.strip()) else text


def _position(row: Mapping[str, Any], earth: Callable[[Pairs], str]) -> tuple[Value, ...]:
    latitude, longitude = _number(row, "latitude"), _number(row, "longitude")
    altitude = _number(row, "altitude")
    said = []
    if latitude is not None and longitude is not None:
        south_north = f"{abs(latitude):.5f}° {'S' if latitude < 0 else 'N'}"
        west_east = f"{abs(longitude):.5f}° {'W' if longitude < 0 else 'E'}"
        said.append(Value(f"{south_north}, {west_east}", _around(latitude, longitude, earth)))
    if altitude is not None:
        side = "below" if altitude <= -0.5 else "above"
        said.append(Value(f"{abs(altitude):,.0f} m {side} sea level"))
    return tuple(said)


def _around(latitude: float, longitude: float, earth: Callable[[Pairs], str]) -> str | None:
    """The map of the earth around a place, None if there is no such place."""
    if abs(latitude) > 90 or abs(longitude) > 180:
        return None
    south, north = max(latitude - AROUND, -90), min(latitude + AROUND, 90)
    west, east = max(longitude - AROUND, -180), min(longitude + AROUND, 180)
    return earth([("_view", ",".join(f"{side:.4f}" for side in (south, west, north, east)))])


def _exposure(row: Mapping[str, Any]) -> list[str]:
    said = []
    for column, words in (
        ("exposure_time", exposure_in_words),
        ("f_number", lambda number: f"f/{number:g}"),
        ("focal_length", lambda millimetres: f"{millimetres:g} mm"),
        ("iso", lambda number: f"ISO {number:g}"),
    ):
        number = _number(row, column)
        if number is not None and number > NANOSECOND:
            said.append(words(number))
    return said


def _rating(row: Mapping[str, Any]) -> str | None:
    stars = _number(row, "rating")
    if stars is None or not -1 <= stars <= 5:
        return None
    return "rejected" if stars < 0 else f"{stars:g} of 5 stars"


def _picture(row: Mapping[str, Any]) -> list[str]:
    width, height, size = (_number(row, name) for name in ("width", "height", "size"))
    said = [text for text in [_text(row, "format")] if text]
    if width is not None and height is not None:
        said.append(f"{width:,.0f} \u00d7 {height:,.0f}")
        if width * height >= 100_000:
            # A tenth says something of a small picture only.
            millions = width * height / 1e6
            said.append(f"{millions:.{0 if millions >= 9.95 else 1}f} MP")
    if (duration := _number(row, "duration")) is not None and 0 <= duration < 1e6:
        said.append(clock(duration))
    if size is not None and size >= 0:
        said.append(bytes_in_words(int(size)))
    return said


def _companions(row: Mapping[str, Any]) -> tuple[Value, ...]:
    """The names of the other files of a pair."""
    names = names_of(row.get("companions"))[:MOST_COMPANIONS]
    return tuple(Value(PurePosixPath(path).name[:LONGEST_VALUE]) for path in names)


def _of_own_column(column: str, value: Any, page: Callable[[Pairs], str]) -> Value:
    if isinstance(value, bytes):
        return Value(f"BLOB of {bytes_in_words(len(value))}")
    text = str(value)
    if len(text) > LONGEST_VALUE:
        return Value(f"{text[:LONGEST_VALUE]}…")
    return Value(text, page([(f"{column}__exact", text)]))


def _text(row: Mapping[str, Any], column: str) -> str | None:
    """Other programs can write anything to a column."""
    value = row.get(column)
    return value if isinstance(value, str) and value else None


def _number(row: Mapping[str, Any], column: str) -> float | None:
    value = row.get(column)
    return value if isinstance(value, int | float) and math.isfinite(value) else None
