"""All that is known of an image, in words."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasette_image_search.web.pages.facts import SHOWN, facts


def said(row: dict, words: dict | None = None, *, is_ours: bool = True) -> dict[str, str]:
    found = facts(row, words or {}, page, earth, is_ours=is_ours)
    return {fact.label: " · ".join(value.text for value in fact.values) for fact in found}


def links(row: dict, words: dict | None = None, *, is_ours: bool = True) -> dict[str, list]:
    found = facts(row, words or {}, page, earth, is_ours=is_ours)
    return {fact.label: [value.url for value in fact.values] for fact in found}


def page(pairs) -> str:
    return f"?{urlencode(list(pairs))}"


def earth(pairs) -> str:
    return f"earth?{urlencode(list(pairs))}"


PHOTO = {
    "root_id": 1,
    "path": "2008/DSCN0010.jpg",
    "folder": "2008",
    "filename": "DSCN0010.jpg",
    "format": "JPEG",
    "width": 4000,
    "height": 3000,
    "size": 3_217_130,
    "mtime": "2026-11-28T19:05:16+00:00",
    "sha256": "17307b",
    "taken_at": "2008-10-22T16:28:39",
    "taken_at_offset": "+02:00",
    "camera_make": "Nikon",
    "camera_model": "COOLPIX P6000",
    "lens": None,
    "focal_length": 24.0,
    "f_number": 5.9,
    "exposure_time": 1 / 75,
    "iso": 64,
    "latitude": -43.4674483,
    "longitude": 11.8851267,
    "altitude": 261.4,
    "rating": 4,
    "city": "Arezzo",
    "country": "Italy",
    "country_code": "IT",
}


def test_a_photo_in_words():
    assert said(PHOTO) == {
        "Taken": "22 October 2008, 16:28 (UTC+02:00)",
        "Place": "Arezzo · Italy",
        "Position": "43.46745° S, 11.88513° E · 261 m above sea level",
        "Camera": "Nikon · COOLPIX P6000",
        "Exposure": "1/75 s, f/5.9, 24 mm, ISO 64",
        "Rating": "4 of 5 stars",
        "Picture": "JPEG, 4,000 \u00d7 3,000, 12 MP, 3.2 MB",
        "Folder": "2008",
    }


def test_what_others_can_have_too_leads_to_them():
    found = links(PHOTO, {"_image_keyword": ["sea", "a&b"]})
    assert found["Taken"] == ["?taken_at__gte=2008-10-22&taken_at__lt=2008-10-23"]
    assert found["Place"] == ["?city=Arezzo", "?country=Italy"]
    assert found["Keywords"] == ["?_image_keyword=sea", "?_image_keyword=a%26b"]
    assert found["Exposure"] == [None]
    assert found["Position"] == ["earth?_view=-45.4674%2C9.8851%2C-41.4674%2C13.8851", None]


@pytest.mark.parametrize(
    ("place", "view"),
    [((-90, 180), "-90.0000%2C178.0000%2C-88.0000%2C180.0000"), ((90.5, 0), None)],
)
def test_the_map_around_a_place_ends_with_the_earth(place: tuple[float, float], view: str | None):
    row = dict(zip(("latitude", "longitude"), place, strict=True))
    assert links(row) == {"Position": [view and f"earth?_view={view}"]}


@pytest.mark.parametrize(("altitude", "side"), [(-12.4, "12 m below"), (-0.2, "0 m above")])
def test_a_height_says_from_where(altitude: float, side: str):
    assert said({"altitude": altitude}) == {"Position": f"{side} sea level"}


@pytest.mark.parametrize(
    ("size", "words"),
    [((100, 64), ""), ((640, 480), ", 0.3 MP"), ((3648, 2736), ", 10 MP")],
)
def test_megapixels_as_exact_as_they_tell_something(size: tuple[int, int], words: str):
    row = dict(zip(("width", "height"), size, strict=True))
    assert said(row) == {"Picture": f"{size[0]:,} \u00d7 {size[1]:,}{words}"}


@pytest.mark.parametrize(
    "text", ["OLYMPUS DIGITAL CAMERA         ", "SONY DSC", "Exif_JPEG_PICTURE"]
)
def test_what_a_camera_writes_of_each_picture_is_no_description(text: str):
    assert said({"description": text}) == {}
    assert said({"description": f"my {text.strip()} on a table"}) != {}


@pytest.mark.parametrize(
    ("taken_at", "words", "url"),
    [
        ("2008", "2008", "?taken_at__gte=2008&taken_at__lt=2009"),
        ("2008-12", "December 2008", "?taken_at__gte=2008-12&taken_at__lt=2009-01"),
        ("2008-10-22", "22 October 2008", "?taken_at__gte=2008-10-22&taken_at__lt=2008-10-23"),
        (
            "2008-10-22 16:28:39",
            "22 October 2008, 16:28",
            "?taken_at__gte=2008-10-22&taken_at__lt=2008-10-23",
        ),
        ("2008-10-22 in the evening", "2008-10-22 in the evening", None),
        ("last summer", "last summer", None),
        ("2008-13-45T99", "2008-13-45T99", None),
        ("9999-12-31", "9999-12-31", None),
    ],
)
def test_a_time_as_exact_as_it_is_known(taken_at: str, words: str, url: str | None):
    assert said({"taken_at": taken_at}) == {"Taken": words}
    assert links({"taken_at": taken_at}) == {"Taken": [url]}


ANYTHING = st.one_of(
    st.integers(),
    st.floats(),
    st.binary(max_size=3),
    st.text(max_size=5),
    st.text("0123456789-T: +", max_size=25),
)


@given(st.dictionaries(st.sampled_from(sorted(SHOWN - {"companions"})), ANYTHING))
def test_a_row_may_hold_anything(row: dict):
    assert all(isinstance(text, str) for text in said(row).values())


def test_nothing_is_said_of_what_is_not_known_or_makes_no_sense():
    nonsense = {"iso": 0, "exposure_time": -1, "f_number": "big", "latitude": float("inf")}
    assert said({**dict.fromkeys(PHOTO), **nonsense, "rating": 17, "width": b"x", "size": -3}) == {}


def test_a_film_says_how_long_it_is_and_a_pair_what_it_has():
    film = {"format": "MP4", "duration": 75.2, "companions": '["a/IMG_1.MOV", 7]'}
    assert said(film) == {"Picture": "MP4, 1:15", "With": "IMG_1.MOV"}
    assert said({"companions": "nonsense", "duration": "long"}) == {}
    # Half a character, which JSON has, would break the page.
    assert said({"companions": '["\\ud800.mov"]'}) == {}
    assert said({"companions": json.dumps(["1.mov"] * 1000)}) == {
        "With": " · ".join(["1.mov"] * 10)
    }


def test_columns_that_a_person_added_come_last():
    assert list(said({**PHOTO, "album": "Tuscany"}))[-1] == "album"
    assert links({"album": "Tuscany"}) == {"album": ["?album__exact=Tuscany"]}


def test_columns_of_a_table_of_their_own_are_shown_as_they_are():
    row = {"taken_at": "tuesday", "iso": 3, "note": "x" * 600, "scan": b"123", "empty": None}
    assert said(row, is_ours=False) == {
        "taken_at": "tuesday",
        "iso": "3",
        "note": "x" * 500 + "…",
        "scan": "BLOB of 3 B",
    }
