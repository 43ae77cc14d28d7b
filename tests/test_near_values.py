"""A search that found nothing names the value that no image has, and offers those that resemble it."""

from __future__ import annotations

import re
from contextlib import closing
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from sqlite_utils import Database

from datasette_image_search.store import find_index
from datasette_image_search.store.albums import add_to_album

from .commands import change
from .serving import ask, datasette_of

PAGE = "/-/image-search/photos/images"
pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]


@pytest.fixture
def places(database: Path) -> Path:
    with closing(Database(database)) as db:
        add_to_album(db, find_index(db.conn, "images"), "Beach & sea", [3, 4])
        add_to_album(db, find_index(db.conn, "images"), "Empty", [])
    change(
        database,
        "alter table images add column city text",
        "update images set city = iif(id < 4, 'Zermatt', iif(id < 6, 'New Zurich', 'Rome'))",
        "update images set camera_make = 'Canon' where id in (1, 5)",
    )
    return database


async def said(database: Path, *pairs: tuple[str, str]) -> tuple[str, list[list[tuple[str, str]]]]:
    """What the page says of nothing, and the query strings of its links."""
    page = await ask(datasette_of(database), f"{PAGE}?{urlencode(pairs)}")
    assert page.status_code == 200
    shown = re.search(r'<p class="zero-results">(.*?)</p>', page.text, re.DOTALL)[1]
    links = [
        parse_qsl(urlsplit(unescape(link)).query) for link in re.findall(r'href="([^"]*)"', shown)
    ]
    return unescape(re.sub("<[^>]*>", "", shown)).strip(), links


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("zermatt", "Zermatt (3)"),
        ("Zerm", "Zermatt (3)"),
        ("Zermat", "Zermatt (3)"),
        ("Matterzerm", None),
        ("zur", "New Zurich (2)"),
        ("Roma", "Rome (3)"),
    ],
)
async def test_values_that_resemble_what_was_typed(
    places: Path, typed: str, offered: str | None
) -> None:
    sentence, links = await said(places, ("city", typed))
    meant = f" Did you mean {offered}?" if offered else ""
    assert sentence == f"No image matches. No image has “{typed}” in City.{meant}"
    assert links == ([[("city", offered.rpartition(" (")[0])]] if offered else [])


async def test_their_numbers_are_of_what_the_other_filters_leave(places: Path) -> None:
    canon = ("camera_make", "Canon")
    sentence, links = await said(places, ("city", "zermatt"), canon)
    assert sentence == "No image matches. No image has “zermatt” in City. Did you mean Zermatt (1)?"
    assert links == [[("city", "Zermatt"), canon]]


async def test_an_album_that_is_not_there_is_named(places: Path) -> None:
    sentence, links = await said(places, ("_image_album", "beach"))
    assert sentence == "No image matches. There is no album “beach”. Did you mean Beach & sea (2)?"
    assert links == [[("_image_album", "Beach & sea")]]
    assert (await said(places, ("_image_album", "Nope")))[
        0
    ] == "No image matches. There is no album “Nope”."


@pytest.mark.parametrize(
    "pairs",
    [
        [("_image_album", "Empty")],
        [("city", "Rome"), ("camera_make", "Canon")],
        [("city__contains", "xyz")],
    ],
)
async def test_values_that_are_there_are_not_called_missing(
    places: Path, pairs: list[tuple[str, str]]
) -> None:
    assert await said(places, *pairs) == ("No image matches.", [])


async def test_two_values_of_a_column_offer_nothing(places: Path) -> None:
    sentence, links = await said(places, ("city", "Zermat"), ("city__exact", "Rome"))
    assert (sentence, links) == ("No image matches.", [])


async def test_characters_that_cannot_be_seen_are_written(places: Path) -> None:
    sentence, _ = await said(places, ("city", "\0"))
    assert sentence == "No image matches. No image has “\\x00” in City."
