"""Filters that the words of a query suggest."""

from __future__ import annotations

import re
from contextlib import closing
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from datasette.utils.asgi import Request
from sqlite_utils import Database

from datasette_image_search.store import find_image_table, find_index
from datasette_image_search.store.albums import add_to_album
from datasette_image_search.store.metadata import write_keywords
from datasette_image_search.web.pages import offers
from datasette_image_search.web.pages.offers import accepted_languages

from .commands import change
from .serving import ask, datasette_of

PAGE = "/-/image-search/photos/images"
pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]


async def offered(database: Path, url: str, **options) -> dict[str, list[tuple[str, str]]]:
    """Label -> the query string of each link to a filter."""
    headers = options.pop("headers", {})
    page = await ask(datasette_of(database, **options), url, **headers)
    links = re.findall(
        r'<li class="image-search-offer"><a href="([^"]*)">only (.*?)\?</a>', page.text
    )
    return {unescape(label): parse_qsl(urlsplit(unescape(url)).query) for url, label in links}


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        (
            "red in July 2023",
            {
                "July 2023": [
                    ("q", "red"),
                    ("taken_at__gte", "2023-07"),
                    ("taken_at__lt", "2023-08"),
                ]
            },
        ),
        (
            "#6 + blue 2021 - dark",
            {
                "2021": [
                    ("q", "#6 + blue - dark"),
                    ("taken_at__gte", "2021"),
                    ("taken_at__lt", "2022"),
                ]
            },
        ),
        ("2021", {"2021": [("taken_at__gte", "2021"), ("taken_at__lt", "2022")]}),
        ("red since 2021", {"since 2021": [("q", "red"), ("taken_at__gte", "2021")]}),
        ("red - 2021", {}),
        ("red", {}),
        ("red - ", {}),
    ],
)
async def test_a_time_is_offered_as_a_filter(database: Path, query: str, wanted: dict) -> None:
    assert await offered(database, f"{PAGE}?q={quote(query)}") == wanted


async def test_nothing_is_filtered_before_somebody_asks(database: Path) -> None:
    change(database, "update images set taken_at = '2021-05-06T07:08:09' where id = 6")
    datasette = datasette_of(database)
    assert (await ask(datasette, f"{PAGE}.json?q=red")).json()["count"] == 8
    page = await ask(datasette, f"{PAGE}?q=2021&_size=5&_next=5&_sort=path")
    (url,) = re.findall(r'<a href="([^"]*)">only 2021', page.text)
    pairs = [("_size", "5"), ("_sort", "path"), ("taken_at__gte", "2021"), ("taken_at__lt", "2022")]
    assert parse_qsl(urlsplit(unescape(url)).query) == pairs
    filtered = await ask(datasette, unescape(url))
    assert filtered.status_code == 200
    assert re.findall(r'alt="([^"]*)" width', filtered.text) == ["red.jpg"]


async def test_an_offer_that_was_taken_is_not_made_again(database: Path) -> None:
    url = f"{PAGE}?q=red+2021&taken_at__gte=2021&taken_at__lt=2022"
    assert await offered(database, url) == {}


async def test_a_query_that_the_model_does_not_understand_has_its_offers(database: Path) -> None:
    page = await ask(datasette_of(database), f"{PAGE}?q=party+2021")
    assert page.status_code == 400
    assert "only 2021?" in page.text


async def test_a_table_without_times_has_no_offers_of_them(database: Path) -> None:
    change(database, "alter table images rename column taken_at to seen_at")
    assert await offered(database, f"{PAGE}?q=red+2021") == {}


async def test_places_that_the_table_has(database: Path) -> None:
    change(
        database,
        "alter table images add column city text",
        "alter table images add column country text",
        "update images set city = 'New York', country = 'USA' where id < 4",
        "update images set city = 'Nice', country = 'France' where id > 6",
    )
    assert await offered(database, f"{PAGE}?q=red+in+new+york") == {
        "New York (city)": [("q", "red"), ("city", "New York")]
    }
    assert await offered(database, f"{PAGE}?q=red+Nice%2C+usa") == {
        "Nice (city)": [("q", "red , usa"), ("city", "Nice")],
        "USA (country)": [("q", "red Nice,"), ("country", "USA")],
    }
    assert await offered(database, f"{PAGE}?q=red+nicest+york") == {}


@pytest.mark.parametrize(
    ("column", "value", "words", "wanted"),
    [
        ("city text", "'Isparta'", "\u0131sparta", "Isparta"),
        ("city text", "'STRASSE'", "straße", "STRASSE"),
        ("city text collate nocase", "'iNNsbruck'", "innsbruck", None),
        ("country text collate rtrim", "'Spain '", "Spain", None),
        ("state integer", "3", "3", None),
        ("state", "3.0", "3.0", None),
        ("state", "x'4f736c6f'", "Oslo", None),
    ],
)
async def test_a_name_is_a_text_that_is_written_so(
    database: Path, column: str, value: str, words: str, wanted: str | None
) -> None:
    name = column.partition(" ")[0]
    change(
        database,
        f"alter table images add column {column}",
        f"update images set {name} = {value} where id = 6",
    )
    label = {f"{wanted} ({name})": [("q", "red"), (name, wanted)]}
    offer = await offered(database, f"{PAGE}?q=red+{quote(words)}")
    assert offer == (label if wanted else {})


async def test_all_terms_have_their_names(database: Path) -> None:
    change(
        database,
        "alter table images add column city text",
        "update images set city = case id when 6 then 'Nice' else 'Rome' end",
    )
    assert await offered(database, f"{PAGE}?q={quote('red Nice + blue in Rome')}") == {
        "Nice (city)": [("q", "red + blue in Rome"), ("city", "Nice")],
        "Rome (city)": [("q", "red Nice + blue"), ("city", "Rome")],
    }


async def test_a_page_has_its_answer_if_nothing_can_be_offered(
    database: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """dateparser reads what anybody typed."""

    def fail(*asked):
        raise OverflowError("a year that nobody thought of")

    monkeypatch.setattr(offers, "period_in", fail)
    page = await ask(datasette_of(database), f"{PAGE}?q=red+2021")
    assert page.status_code == 200
    assert "red.jpg" in page.text
    assert "no filters could be offered for the query 'red 2021'" in caplog.text
    assert "a year that nobody thought of" in caplog.text


async def test_keywords_that_the_actor_may_see(database: Path) -> None:
    db = Database(database)
    table = find_image_table(db.conn, "images")
    with db.conn:
        for key, keyword in ((6, "Beach"), (2, "beach ball")):
            write_keywords(db, table, {key: [keyword]})
    db.close()
    url = f"{PAGE}?q=red+at+the+beach"
    assert await offered(database, url) == {
        "Beach (keyword)": [("q", "red"), ("_image_keyword", "Beach")]
    }
    hidden = {"databases": {"photos": {"tables": {"images_keywords": {"allow": {"id": "root"}}}}}}
    assert await offered(database, url, rules=hidden) == {}


async def test_albums_that_the_actor_may_see(database: Path) -> None:
    with closing(Database(database)) as db:
        add_to_album(db, find_index(db.conn, "images"), "Best Of", [6])
    url = f"{PAGE}?q=red+best+of"
    assert await offered(database, url) == {
        "Best Of (album)": [("q", "red"), ("_image_album", "Best Of")]
    }
    for side in ("images_albums", "images_album_members"):
        hidden = {"databases": {"photos": {"tables": {side: {"allow": {"id": "root"}}}}}}
        assert await offered(database, url, rules=hidden) == {}


async def test_a_table_that_takes_too_long_has_no_offers(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(
        database,
        "alter table images add column city text as (case when id = 6 then 'Red' end)",
    )
    assert await offered(database, f"{PAGE}?q=red") == {"Red (city)": [("city", "Red")]}
    monkeypatch.setattr(offers, "PATIENCE", 1)
    slow = offers.values_among

    def very_slow(conn, *asked):
        conn.execute(
            "with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n"
        )
        return slow(conn, *asked)

    monkeypatch.setattr(offers, "values_among", very_slow)
    assert await offered(database, f"{PAGE}?q=red") == {}


async def test_the_terms_of_a_query_are_looked_up_together(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under one limit, however many they are."""
    change(database, "alter table images add column city text")
    asked = []

    def note(conn, table, column, values, limit):
        asked.append((column, {"Red", "Blue", "Green"} <= set(values)))
        return []

    monkeypatch.setattr(offers, "values_among", note)
    await offered(database, f"{PAGE}?q={quote('red + blue + green')}")
    assert asked.count(("city", True)) == len([each for each in asked if each[0] == "city"]) == 1


async def test_the_names_of_months_in_the_language_of_the_browser(database: Path) -> None:
    german = {"accept_language": "de-CH,de;q=0.9,en;q=0.5"}
    url = f"{PAGE}?q=red+im+Juli+2023"
    assert list(await offered(database, url, headers=german)) == ["Juli 2023"]
    assert list(await offered(database, url)) == ["2023"]
    page = await ask(datasette_of(database), url)
    assert "accept-language" in page.headers["vary"]


@pytest.mark.parametrize(
    ("header", "codes"),
    [
        ("", []),
        ("*", []),
        ("de", ["de"]),
        ("fr-CH, fr;q=0.9, en;q=0.8, de;q=0.7, *;q=0.5", ["fr", "en", "de"]),
        ("zh-Hant-TW,zz;q=0.1", ["zh", "zz"]),
        ("x" * 5000, []),
    ],
)
async def test_the_languages_of_a_header(header: str, codes: list[str]) -> None:
    scope = {"type": "http", "headers": [(b"accept-language", header.encode())]}
    assert accepted_languages(Request(scope, None)) == codes
