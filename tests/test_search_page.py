"""The search page as a server answers it: HTML, JSON and CSV, filters, facets, and what is hostile."""

from __future__ import annotations

import asyncio
import csv
import io
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from html import unescape
from itertools import cycle
from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import httpx
import pytest
from datasette import hookimpl
from datasette.app import Datasette
from datasette.filters import FilterArguments
from datasette.plugins import pm
from datasette.utils import tilde_encode
from datasette.utils.asgi import Request
from PIL import ExifTags, Image
from sqlite_utils import Database

from datasette_image_search.embedders.model_ids import DEFAULT_MODEL
from datasette_image_search.embedders.palette import PaletteEmbedder
from datasette_image_search.search.hits import Count
from datasette_image_search.search.query import vector_to_term
from datasette_image_search.store import find_image_table
from datasette_image_search.store.reads import indexes_of_texts
from datasette_image_search.store.schema import ensure_keywords
from datasette_image_search.web.pages import search_page
from datasette_image_search.web.pages.descriptions import count_in_words
from datasette_image_search.web.server import preparing

from .commands import change
from .conftest import COLOURS, copied_database, draw_picture, embed_into, query_json
from .only_ours import close
from .serving import HANGS, ask, datasette_of

PAGE = "/-/image-search/photos/images"
pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]


def grid(response: httpx.Response) -> str:
    """The part of a page with the pictures."""
    return response.text.partition("image-search-grid")[2].rpartition("</ol>")[0]


def names(response: httpx.Response) -> list[str]:
    """The file names on a page, in its order."""
    return [unescape(name) for name in re.findall(r'<img [^>]*alt="([^"]*)"', grid(response))]


def summary(response: httpx.Response) -> str:
    html = re.search(r'image-search-summary"[^>]*>(.*?)</h2>', response.text)[1]
    return unescape(re.sub(r"<[^>]+>", "", html))


def alert(response: httpx.Response) -> str:
    return unescape(re.search(r'role="alert">(.*?)</p>', response.text)[1])


def sentence(response: httpx.Response) -> str:
    """The error of a page or of JSON."""
    return alert(response) if "<html" in response.text else response.json()["error"]


def link(response: httpx.Response, text: str) -> str:
    """Where the first link with this text goes."""
    return unescape(re.search(rf'<a [^>]*href="([^"]*)"[^>]*>{text}</a>', response.text)[1])


def link_to_remove(response: httpx.Response, words: str) -> str:
    """Where the chip of a filter goes, without that filter."""
    chip = re.search(rf'<li>{re.escape(words)} <a href="([^"]*)"', response.text)
    return unescape(chip[1])


def scores(response: httpx.Response) -> list[float]:
    return [float(score) for score in re.findall(r'similarity(?: |">)(-?[\d.]+)', response.text)]


def query_of(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query)


@pytest.fixture(scope="module")
def dated_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is copied for each test: pictures/, photos.db and its sidecar."""
    place = tmp_path_factory.mktemp("dated")
    for folder, name, year, make, colour in (
        ("a", "old", 2019, "Canon", "red"),
        ("a", "mid-1", 2021, "NIKON", "orange"),
        ("b", "mid-2", 2021, "NIKON", "blue"),
        ("b", "new", 2023, "Canon", "purple"),
    ):
        exif = Image.Exif()
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = f"{year}:05:06 12:00:00"
        exif[ExifTags.Base.Make] = make
        draw_picture(place / "pictures" / folder / f"{name}.jpg", colour, exif=exif)
    draw_picture(place / "pictures" / "undated.jpg", "black")
    draw_picture(place / "pictures" / "plain.jpg", "white")
    embed_into(place / "photos.db", "images", place / "pictures")
    return place


@pytest.fixture
def dated(dated_once: Path, tmp_path: Path) -> Path:
    """
    Six pictures: old.jpg (2019) and new.jpg (2023) by Canon, mid-1.jpg and mid-2.jpg (2021) by NIKON,
    in two folders; undated.jpg and plain.jpg without EXIF.
    """
    folder = shutil.copytree(dated_once / "pictures", tmp_path / "dated")
    return copied_database(dated_once, folder, tmp_path)


@pytest.fixture(scope="module")
def of_dated(dated_once: Path) -> Iterator[Datasette]:
    """The same for all tests that only ask, of the pictures of `dated`. They share the loop of the module."""
    datasette = datasette_of(dated_once / "photos.db")
    yield datasette
    close(datasette)


# --- Queries ---------------------------------------------------------------------------------------


@pytest.mark.asyncio(loop_scope="module")
async def test_the_best_match_comes_first(of_colours: Datasette) -> None:
    response = await ask(of_colours, f"{PAGE}?q=red")
    assert response.status_code == 200
    assert names(response)[0] == "red.jpg"
    assert len(names(response)) == len(COLOURS)
    assert summary(response) == '1 of 8 images matches "red"'


@pytest.mark.asyncio(loop_scope="module")
async def test_the_scores_are_those_of_sql(of_colours: Datasette) -> None:
    page = await ask(of_colours, f"{PAGE}?q=dark+blue")
    shown = scores(page)
    sql = "select round(json_extract(value, '$.score'), 3) from json_each(image_search('dark blue', 60))"
    assert shown == await query_json(of_colours, sql, "arrayfirst")


@pytest.mark.asyncio(loop_scope="module")
async def test_no_query_shows_the_newest(of_dated: Datasette) -> None:
    response = await ask(of_dated, PAGE)
    assert names(response)[:4] == ["new.jpg", "mid-2.jpg", "mid-1.jpg", "old.jpg"]
    assert summary(response) == "6 images, newest first"


@pytest.mark.asyncio(loop_scope="module")
async def test_every_picture_links_to_its_page_and_to_more_and_less_like_it(
    of_colours: Datasette,
) -> None:
    page = await ask(of_colours, f"{PAGE}?q=red")
    assert f'href="{PAGE}/6?q=red&amp;_position=1"' in page.text
    more, less = link(page, "more like this"), link(page, "less like this")
    assert query_of(more) == {"q": ["red + #6"]}
    assert query_of(less) == {"q": ["red - #6"]}
    assert names(await ask(of_colours, more))[0] == "red.jpg"
    assert (await ask(of_colours, less)).status_code == 200


@pytest.mark.asyncio(loop_scope="module")
async def test_more_like_this_without_a_query_is_a_query_by_the_picture_alone(
    of_colours: Datasette,
) -> None:
    page = await ask(of_colours, f"{PAGE}?folder__isblank=1")
    assert query_of(link(page, "more like this")) == {"q": ["#8"], "folder__isblank": ["1"]}
    assert "less like this" not in page.text


@pytest.mark.asyncio(loop_scope="module")
async def test_each_term_of_a_query_can_be_taken_away(of_colours: Datasette) -> None:
    page = await ask(of_colours, f"{PAGE}?q={quote('#6 + dark - 0.5:blue')}&_size=5")
    chips = re.findall(
        r'<a href="([^"]*)" class="cross" aria-label="Search without ([^"]*)"', page.text
    )
    assert [(label, query_of(unescape(url))["q"][0]) for url, label in chips] == [
        ("#6", "dark - 0.5:blue"),
        ("dark", "#6 - 0.5:blue"),
        ("0.5:blue", "#6 + dark"),
    ]
    assert all("_size=5" in url for url, _ in chips)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_single_term_has_a_chip_if_it_is_subtracted(of_colours: Datasette) -> None:
    for typed in ("-red", "- red"):
        page = await ask(of_colours, f"{PAGE}?q={quote(typed)}")
        chips = page.text.partition("image-search-chips")[2].partition("</ul>")[0]
        assert "&minus;" in chips
        assert 'aria-label="Search without red"' in chips
    page = await ask(of_colours, f"{PAGE}?q=red")
    assert "image-search-chips" not in page.text


@pytest.mark.asyncio(loop_scope="module")
async def test_an_uploaded_picture_is_called_that_and_not_spelt_out(
    of_colours: Datasette, palette: PaletteEmbedder
) -> None:
    vector = vector_to_term(palette.encode_texts(["red"])[0])
    response = await ask(of_colours, f"{PAGE}?q={vector}")
    assert names(response)[0] == "red.jpg"
    assert summary(response) == "None of 8 images matches your picture"
    assert "<title>your picture - Image search" in response.text
    less = await ask(of_colours, f"{PAGE}?q={vector}+-+%236")
    assert summary(less) == 'None of 8 images matches "your picture - #6"'


@pytest.mark.parametrize(
    ("rest", "box"),
    [
        ("", ""),
        (" + dark", "dark"),
        (" - dark + #6", "- dark + #6"),
        (' + "a + b" - 2:red', '"a + b" - 2:red'),
    ],
)
@pytest.mark.parametrize("page", [PAGE, f"{PAGE}/map"])
@pytest.mark.asyncio(loop_scope="module")
async def test_an_uploaded_picture_is_a_chip_and_the_box_has_the_words(
    of_colours: Datasette, palette: PaletteEmbedder, rest: str, box: str, page: str
) -> None:
    vector = vector_to_term(palette.encode_texts(["red"])[0])
    response = await ask(of_colours, f"{page}?q={quote(vector + rest)}")
    fields = {
        name: unescape(value)
        for name, value in re.findall(
            r'<input [^>]*name="(q|_picture)" value="([^"]*)"', response.text
        )
    }
    assert fields == {"q": box, "_picture": vector}
    assert f'<svg class="image-search-sent" data-vector="{vector}"' in response.text
    assert "your picture" in response.text
    # Sent as it is, it is the same query again.
    sent = await ask(of_colours, f"{page}?{urlencode({**fields, '_filter_column': ''})}")
    assert query_of(sent.headers["location"]) == {"q": [vector + rest]}


@pytest.mark.asyncio(loop_scope="module")
async def test_a_picture_that_is_subtracted_stays_so(
    of_colours: Datasette, palette: PaletteEmbedder
) -> None:
    vector = vector_to_term(palette.encode_texts(["red"])[0])
    fields = {"q": "blue", "_picture": f"- 0.5:{vector}"}
    sent = await ask(of_colours, f"{PAGE}?{urlencode(fields)}")
    assert query_of(sent.headers["location"]) == {"q": [f"- 0.5:{vector} + blue"]}
    page = await ask(of_colours, sent.headers["location"])
    assert 'value="blue"' in page.text
    assert f'name="_picture" value="- 0.5:{vector}"' in page.text


@pytest.mark.asyncio(loop_scope="module")
async def test_a_picture_that_cannot_be_searched_for_can_be_removed(of_colours: Datasette) -> None:
    page = await ask(of_colours, f"{PAGE}?q=vec:AAAA")
    assert page.status_code == 400
    assert link(page, "&#x2716;") == PAGE


@pytest.mark.asyncio(loop_scope="module")
async def test_a_single_image_has_its_chip(of_colours: Datasette) -> None:
    page = await ask(of_colours, f"{PAGE}?q=%236")
    chips = page.text.partition("image-search-chips")[2].partition("</ul>")[0]
    assert "/images/6/thumbnail" in chips
    assert 'name="q" value="#6"' in page.text


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_wrong_with_a_query_is_said_on_the_page(of_colours: Datasette) -> None:
    response = await ask(of_colours, f"{PAGE}?q=sports+car")
    assert response.status_code == 400
    assert "palette does not know 'sports car'" in alert(response)
    # The form and the pictures stay.
    assert 'name="q" value="sports car"' in response.text
    assert summary(response) == "8 images, newest first"
    assert len(names(response)) == 8


async def test_without_the_weights_the_newest_pictures_are_below_the_sentence(
    dated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    db = Database(dated)
    db["image_search_indexes"].update(1, {"model": DEFAULT_MODEL})
    db.execute("update images set id = id + 100")
    db.conn.commit()
    datasette = datasette_of(dated)
    page = await ask(datasette, f"{PAGE}?q=a+red+car&filename__contains=d&_size=2&_facet=folder")
    assert page.status_code == 400
    assert f"the weights of {DEFAULT_MODEL} are not in the cache" in alert(page)
    assert 'name="q" value="a red car"' in page.text
    assert summary(page) == '4 images where filename contains "d", newest first'
    assert names(page) == ["mid-2.jpg", "mid-1.jpg"]
    # Ids that there are, and links without the words that cannot be searched for.
    (newest,) = db.query("select id from images where filename = 'mid-2.jpg'")
    assert f"an image such as <code>#{newest['id']}</code>" in page.text
    for text in ("more like this", "Next page", "JSON", "Table"):
        assert "red" not in link(page, text)
    assert names(await ask(datasette, link(page, "Next page"))) == ["old.jpg", "undated.jpg"]
    assert (await ask(datasette, f"{PAGE}.json?q=a+red+car")).json()["ok"] is False


@pytest.mark.asyncio(loop_scope="module")
async def test_what_was_not_understood_is_said_above_the_hits(of_colours: Datasette) -> None:
    response = await ask(of_colours, f"{PAGE}?q=red+sports+car")
    assert response.status_code == 200
    assert "palette does not know &#39;sports car&#39;" in response.text
    assert names(response)[0] == "red.jpg"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_minimum_score_leaves_the_tail_away(of_colours: Datasette) -> None:
    response = await ask(of_colours, f"{PAGE}?q=red&_min_score=0.3")
    assert 0 < len(names(response)) < len(COLOURS)
    assert "with a score of 0.3 or more" in summary(response)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_limit_without_a_query_is_not_told(of_colours: Datasette):
    response = await ask(of_colours, f"{PAGE}.json?_min_score=0.3&_min_relevance=0.9")
    assert response.json()["description"] == "8 images, newest first"


@pytest.mark.parametrize("limit", ["_min_score=0.3", "_min_relevance=0.9", "_min_score=0.99"])
@pytest.mark.asyncio(loop_scope="module")
async def test_all_that_is_counted_and_shown_has_what_is_asked_for(
    of_colours: Datasette, limit: str
) -> None:
    whole = (await ask(of_colours, f"{PAGE}.json?q=red&_size=100")).json()["hits"]
    name, least = limit.removeprefix("_min_").split("=")
    wanted = [hit["id"] for hit in whole if hit[name] >= float(least)]
    url = f"q=red&{limit}&_facet=folder"
    found = (await ask(of_colours, f"{PAGE}.json?{url}")).json()
    assert [hit["id"] for hit in found["hits"]] == wanted
    assert found["count"] == len(wanted) < len(whole)
    counted = found["facet_results"]["results"]["folder"]["results"]
    assert sum(value["count"] for value in counted) == len(wanted)
    rows = list(csv.DictReader(io.StringIO((await ask(of_colours, f"{PAGE}.csv?{url}")).text)))
    assert [int(row["id"]) for row in rows] == wanted
    page = await ask(of_colours, f"{PAGE}?{url}")
    assert summary(page).startswith(f"{len(wanted)} image")
    assert len(names(page)) == len(wanted)
    few = (await ask(of_colours, f"{PAGE}.json?{url}&_size=0&id__gt=3")).json()
    assert few["count"] == len([id for id in wanted if id > 3])


@pytest.mark.parametrize("value", ["0", "1.5", "nan", "x"])
@pytest.mark.asyncio(loop_scope="module")
async def test_a_relevance_that_there_is_not_is_refused(of_colours: Datasette, value: str) -> None:
    response = await ask(of_colours, f"{PAGE}.json?q=red&_min_relevance={value}")
    assert response.status_code == 400
    assert response.json()["error"].startswith("_min_relevance must be ")


# --- Filters ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "words", "expected"),
    [
        ("camera_make=Canon", 'where camera_make = "Canon"', {"old", "new"}),
        (
            "camera_make=Canon&taken_at__gte=2021",
            'where camera_make = "Canon" and taken_at ≥ 2021',
            {"new"},
        ),
        ("folder__in=a,b", 'where folder in ["a", "b"]', {"old", "mid-1", "mid-2", "new"}),
        ("taken_at__isnull=1", "where taken_at is null", {"undated", "plain"}),
        ("filename__contains=mid", 'where filename contains "mid"', {"mid-1", "mid-2"}),
    ],
)
@pytest.mark.parametrize("query", ["", "q=red&"])
@pytest.mark.asyncio(loop_scope="module")
async def test_filters_are_those_of_the_table_page(
    of_dated: Datasette, query: str, filters: str, words: str, expected: set[str]
) -> None:
    response = await ask(of_dated, f"{PAGE}?{query}{filters}")
    assert {name.removesuffix(".jpg") for name in names(response)} == expected
    plural = "" if len(expected) == 1 else "s"
    images = f"{len(expected)} image{plural} {words}"
    wanted = f"{images}, newest first"
    if query:
        # Only old.jpg is red.
        wanted = f'None of {images} matches "red"'
        if "old" in expected:
            wanted = f'1 of {images} matches "red"'
        elif len(expected) == 1:
            wanted = f'No image {words} matches "red"'
    assert summary(response) == wanted
    table = await ask(of_dated, f"/photos/images?{filters}")
    assert words in unescape(table.text)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_filter_row_becomes_a_filter_in_the_url(of_dated: Datasette) -> None:
    fields = (
        "q=red&_size=3&_filter_column_1=camera_make&_filter_op_1=exact&_filter_value_1=Canon"
        "&_filter_column=folder&_filter_op=notblank__1&_filter_value="
    )
    response = await ask(of_dated, f"{PAGE}?{fields}")
    assert response.status_code == 302
    to = response.headers["location"]
    assert query_of(to) == {
        "q": ["red"],
        "_size": ["3"],
        "camera_make__exact": ["Canon"],
        "folder__notblank": ["1"],
    }
    page = await ask(of_dated, to)
    assert {*names(page)} == {"old.jpg", "new.jpg"}
    assert 'name="_filter_value_1" class="filter-value" value="Canon"' in page.text


@pytest.mark.asyncio(loop_scope="module")
async def test_the_top_folder_is_a_filter_that_a_new_search_keeps(of_dated: Datasette) -> None:
    page = await ask(of_dated, f"{PAGE}?_facet=folder")
    top = link(page, "-")
    assert set(names(await ask(of_dated, top))) == {"undated.jpg", "plain.jpg"}
    row = "_filter_column_1=folder&_filter_op_1=exact&_filter_value_1="
    searched = await ask(of_dated, f"{PAGE}?q=white&{row}")
    assert names(await ask(of_dated, searched.headers["location"])) == ["plain.jpg", "undated.jpg"]


async def test_where_is_for_those_who_may_execute_sql(dated: Path) -> None:
    response = await ask(datasette_of(dated), f"{PAGE}?_where=taken_at+<+'2020'+or+id+=+1")
    without = link_to_remove(response, "where taken_at &lt; &#39;2020&#39; or id = 1")
    assert without == PAGE
    assert "old.jpg" in names(response)
    closed = datasette_of(dated, settings={"default_allow_sql": False})
    refused = await ask(closed, f"{PAGE}?_where=1")
    assert refused.status_code == 403


async def test_a_column_whose_name_has_two_underscores(database: Path) -> None:
    Database(database)["images"].add_column("my__note", str)
    Database(database)["images"].update(6, {"my__note": "x"})
    datasette = datasette_of(database)
    assert names(await ask(datasette, f"{PAGE}?my__note=x")) == ["red.jpg"]
    facet = (await ask(datasette, f"{PAGE}.json?_facet=my__note")).json()
    (value,) = facet["facet_results"]["results"]["my__note"]["results"]
    assert names(await ask(datasette, value["toggle_url"])) == ["red.jpg"]


# --- Where the matches end -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("many")
    for number in range(30):
        colour = ("red", "orange", *["grey", "blue"] * 4)[number // 3]
        draw_picture(place / "pictures" / f"{number:02}.png", colour)
    embed_into(place / "photos.db", "images", place / "pictures")
    return place


@pytest.fixture
def many(many_once: Path, tmp_path: Path) -> Path:
    """Thirty pictures, 00.png to 29.png: the first three are red, the next three orange, and the rest grey or blue."""
    folder = shutil.copytree(many_once / "pictures", tmp_path / "many")
    return copied_database(many_once, folder, tmp_path)


def parts(response: httpx.Response) -> list[list[str]]:
    """The file names of each grid of a page."""
    found = re.findall(r'<ol class="image-search-grid.*?</ol>', response.text, re.DOTALL)
    return [re.findall(r'<img [^>]*alt="([^"]*)"', part) for part in found]


async def test_the_matches_come_first_and_the_rest_is_folded(many: Path) -> None:
    page = await ask(datasette_of(many), f"{PAGE}?q=red")
    matches, weaker = parts(page)
    assert set(matches) == {"00.png", "01.png", "02.png"}
    assert len(weaker) == 27
    assert summary(page) == '3 of 30 images match "red"'
    assert "<summary>Weaker matches</summary>" in page.text
    assert '<ol class="image-search-grid medium" start="4">' in page.text
    assert "No clear match" not in page.text


async def test_a_few_weaker_matches_are_below_a_line(many: Path) -> None:
    page = await ask(datasette_of(many), f"{PAGE}?q=red&_size=10")
    assert [len(part) for part in parts(page)] == [3, 7]
    assert 'image-search-line">Weaker matches</h3>' in page.text
    assert "<summary>Weaker matches" not in page.text


@pytest.mark.parametrize(("size", "lines"), [(2, [False, True, True]), (3, [False, True, True])])
async def test_no_page_shows_weaker_matches_without_a_line_and_the_count_is_of_all(
    many: Path, size: int, lines: list[bool]
) -> None:
    datasette = datasette_of(many)
    shown = []
    for number, has_line in enumerate(lines):
        page = await ask(datasette, f"{PAGE}?q=red&_size={size}&_next={number * size}")
        assert ("Weaker matches" in page.text) == has_line
        assert summary(page) == '3 of 30 images match "red"'
        shown += names(page)
    assert len(set(shown)) == len(shown) == size * len(lines)
    assert set(shown[:3]) == {"00.png", "01.png", "02.png"}


async def test_nothing_looks_like_that_and_the_nearest_are_below(many: Path) -> None:
    datasette = datasette_of(many)
    page = await ask(datasette, f"{PAGE}?q=red&filename__contains=29")
    assert summary(page) == 'No image where filename contains "29" matches "red"'
    assert "No clear match." in page.text
    assert "The nearest:" in page.text
    assert parts(page) == [["29.png"]]
    page = await ask(datasette, f"{PAGE}?q=red&id__gt=3&_size=5")
    assert summary(page) == 'None of 27 images where id > 3 matches "red"'
    page = await ask(datasette, f"{PAGE}?q=red&id__gt=3&_size=5&_next=5")
    assert summary(page) == 'None of 27 images where id > 3 matches "red"'
    assert "No clear match" not in page.text
    assert "The nearest:" in page.text


async def test_the_line_is_that_of_the_score_if_that_ranks(many: Path) -> None:
    page = await ask(datasette_of(many), f"{PAGE}?q=red&_rank=cosine")
    assert set(parts(page)[0]) == {"00.png", "01.png", "02.png"}


async def test_a_card_says_how_relevant_its_image_is(many: Path) -> None:
    datasette = datasette_of(many)
    page = await ask(datasette, f"{PAGE}?q=red")
    hits = (await ask(datasette, f"{PAGE}.json?q=red")).json()["hits"]
    said = [float(each) for each in re.findall(r">relevance ([\d.]+)<", page.text)]
    assert said == [pytest.approx(hit["relevance"] - 0.005, abs=0.0051) for hit in hits]
    assert "relevance" not in grid(await ask(datasette, PAGE))


async def test_matches_only_is_a_box_of_the_form(many: Path) -> None:
    datasette = datasette_of(many)
    page = await ask(datasette, f"{PAGE}?q=red")
    assert '<input type="checkbox" name="_matches_only" value="1"> matches only' in page.text
    page = await ask(datasette, f"{PAGE}?q=red&_matches_only=1")
    assert 'name="_matches_only" value="1" checked> matches only' in page.text
    assert 'type="hidden" name="_matches_only"' not in page.text
    assert summary(page) == '3 images match "red"'
    assert [len(part) for part in parts(page)] == [3]
    page = await ask(datasette, f"{PAGE}?q=red&_min_relevance=0.2")
    assert 'value="0.2" checked> relevance 0.2 or more' in page.text
    assert "_min_relevance" not in grid(await ask(datasette, PAGE))


async def test_an_order_is_of_all_matches(many: Path) -> None:
    datasette = datasette_of(many)
    page = await ask(datasette, f"{PAGE}?q=red&_sort_desc=filename")
    assert parts(page) == [["02.png", "01.png", "00.png"]]
    assert summary(page) == '3 images match "red", sorted by filename descending'
    assert 'name="_limit" value="" placeholder="matches"' in page.text
    page = await ask(datasette, f"{PAGE}?q=red&_sort=filename&_size=2&_next=2")
    assert parts(page) == [["02.png"]]
    page = await ask(datasette, f"{PAGE}?q=red&_sort=filename&_limit=5")
    assert len(names(page)) == 5
    assert summary(page) == '3 of 5 images match "red", the 5 closest, sorted by filename'


async def test_an_order_without_matches_is_of_the_closest(many: Path) -> None:
    page = await ask(datasette_of(many), f"{PAGE}?q=red&id__gt=3&_sort=id")
    assert names(page) == [f"{number:02}.png" for number in range(3, 30)]
    assert 'placeholder="300"' in page.text


# --- Order -----------------------------------------------------------------------------------------


async def test_pages_in_the_order_of_an_index_are_those_without_one(many: Path) -> None:
    """Twelve grey ones, with three dates and none, of which several have the same."""
    change(many, "update images set taken_at = nullif('201' || (id % 4), '2010')")
    parts = [
        (asked, size, after)
        for asked in ("_by=likeness", "_by=both", "_by=both&_min_relevance=0.97")
        for size, after in ((1, 0), (3, 2), (5, 0), (5, 10), (60, 0))
    ]
    urls = [
        f"{PAGE}.json?q=grey&{asked}&{sort}=taken_at&_size={size}&_next={after}"
        for (asked, size, after), sort in zip(parts, cycle(("_sort", "_sort_desc")), strict=False)
    ]
    by_index, without = [], []
    for answers in (by_index, without):
        datasette = datasette_of(many)
        for url in urls:
            answer = (await ask(datasette, url)).json()
            assert answer["matches"] == 12
            scores = [pytest.approx(hit["score"]) for hit in answer["hits"]]
            shown = [(hit["id"], hit["row"]) for hit in answer["hits"]]
            answers.append((answer["count"], answer["next"], shown, scores))
        change(many, "drop index if exists idx_images_taken_at_camera_model_folder_camera_make")
    assert by_index == without


@pytest.mark.parametrize("asked", ["q=red", "", "_sort=filename"])
@pytest.mark.asyncio(loop_scope="module")
async def test_a_limit_ends_the_pages(of_colours: Datasette, asked: str) -> None:
    everything = (await ask(of_colours, f"{PAGE}.json?{asked}")).json()["hits"]
    url, pages = f"{PAGE}.json?{asked}&_limit=5&_size=2", []
    while url:
        answer = (await ask(of_colours, url)).json()
        pages.append([hit["id"] for hit in answer["hits"]])
        url = answer["next_url"] and answer["next_url"].removeprefix("http://localhost")
    assert pages == [[hit["id"] for hit in everything[at : min(at + 2, 5)]] for at in (0, 2, 4)]


@pytest.mark.asyncio(loop_scope="module")
async def test_an_order_without_matches_says_so_above_the_nearest(of_colours: Datasette) -> None:
    page = await ask(of_colours, f"{PAGE}?q=red&filename=blue.jpg&_sort=filename")
    assert '<p class="zero-results">No clear match.</p>' in page.text
    assert '<h3 class="image-search-line">The nearest:</h3>' in page.text
    page = await ask(of_colours, f"{PAGE}?q=red&_sort=filename")
    assert "The nearest:" not in page.text


@pytest.mark.asyncio(loop_scope="module")
async def test_an_order_is_of_the_closest_only(of_dated: Datasette) -> None:
    (closest, second, *_) = names(await ask(of_dated, f"{PAGE}?q=orange"))
    assert (closest, second) == ("mid-1.jpg", "old.jpg")
    page = await ask(of_dated, f"{PAGE}?q=orange&_sort=taken_at&_limit=2")
    assert names(page) == ["old.jpg", "mid-1.jpg"]
    assert summary(page) == '2 images match "orange", the 2 closest, oldest first'
    assert scores(page) == sorted(scores(page))
    for extension, wanted in (
        ("json", ["mid-1.jpg", "old.jpg"]),
        ("csv", ["mid-1.jpg", "old.jpg"]),
    ):
        answer = await ask(of_dated, f"{PAGE}.{extension}?q=orange&_sort_desc=taken_at&_limit=2")
        if extension == "json":
            assert [hit["row"]["filename"] for hit in answer.json()["hits"]] == wanted
        else:
            assert [row["filename"] for row in csv.DictReader(io.StringIO(answer.text))] == wanted


@pytest.mark.asyncio(loop_scope="module")
async def test_pages_of_an_order_show_each_image_once(of_dated: Datasette) -> None:
    for query, last in (
        ("", ["plain.jpg", "undated.jpg"]),
        ("q=red&_limit=6&", ["undated.jpg", "plain.jpg"]),
    ):
        for sort, first in (
            ("_sort", ["old.jpg", "mid-1.jpg", "mid-2.jpg", "new.jpg"]),
            ("_sort_desc", ["new.jpg", "mid-1.jpg", "mid-2.jpg", "old.jpg"]),
        ):
            shown, after = [], "0"
            while after:
                url = f"{PAGE}.json?{query}{sort}=taken_at&_size=1&_next={after}"
                answer = (await ask(of_dated, url)).json()
                shown += [hit["row"]["filename"] for hit in answer["hits"]]
                after = answer["next"]
            assert shown[:4] == first
            assert sorted(shown[4:]) == sorted(last)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_filter_applies_before_an_order(of_dated: Datasette) -> None:
    for query in ("", "q=blue&_limit=300&"):
        page = await ask(of_dated, f"{PAGE}?{query}camera_make=Nikon&_sort_desc=filename")
        assert names(page) == ["mid-2.jpg", "mid-1.jpg"]


async def test_the_form_offers_the_columns_that_may_be_sorted_by(dated: Path) -> None:
    datasette = datasette_of(dated)
    page = await ask(datasette, f"{PAGE}?q=red&_sort_desc=iso")
    assert '<option value="iso" selected>by iso</option>' in page.text
    assert 'name="_sort_by_desc" checked' in page.text
    assert '<input type="hidden" name="_sort' not in page.text
    rules = {"databases": {"photos": {"tables": {"images": {"sortable_columns": ["taken_at"]}}}}}
    datasette = datasette_of(dated, rules=rules)
    page = await ask(datasette, PAGE)
    assert re.findall(r'<option value="([\w-]*)">oldest', page.text) == ["taken_at"]
    assert re.findall(r'<option value="(\w+)">by', page.text) == []
    assert (await ask(datasette, f"{PAGE}?_sort=iso")).status_code == 400


@pytest.mark.asyncio(loop_scope="module")
async def test_dates_are_newest_or_oldest_first(of_dated: Datasette) -> None:
    for asked, chosen in (("_sort_desc", "newest first"), ("_sort", "oldest first")):
        page = await ask(of_dated, f"{PAGE}?q=red&{asked}=taken_at")
        assert re.findall(r"<option[^>]* selected>(\w+ first)<", page.text) == [chosen]
        assert 'name="_sort_by_desc" checked' not in page.text
        (value,) = re.findall(rf'<option value="([^"]*)" selected>{chosen}<', page.text)
        sent = await ask(of_dated, f"{PAGE}?q=red&_sort={value}")
        url = sent.headers.get("location", str(sent.url))
        assert query_of(url) == {"q": ["red"], asked: ["taken_at"]}
    sent = await ask(of_dated, f"{PAGE}?q=red&_sort=-taken_at&_sort_by_desc=on")
    assert query_of(sent.headers["location"]) == {"q": ["red"], "_sort_desc": ["taken_at"]}


@pytest.mark.asyncio(loop_scope="module")
async def test_the_fields_of_the_form_become_an_order(of_dated: Datasette) -> None:
    sent = await ask(of_dated, f"{PAGE}?q=red&_sort=iso&_sort_by_desc=on&_limit=5")
    assert query_of(sent.headers["location"]) == {
        "q": ["red"],
        "_sort_desc": ["iso"],
        "_limit": ["5"],
    }
    sent = await ask(of_dated, f"{PAGE}?q=red&_sort=&_sort_by_desc=on&_limit=")
    assert query_of(sent.headers["location"]) == {"q": ["red"]}


# --- Facets ----------------------------------------------------------------------------------------


def facet_of(response: httpx.Response, name: str) -> dict[str, int]:
    results = response.json()["facet_results"]["results"][name]["results"]
    return {value["value"]: value["count"] for value in results}


@pytest.mark.asyncio(loop_scope="module")
async def test_facets_count_all_matching_rows_and_not_only_those_shown(of_dated: Datasette) -> None:
    url = f"{PAGE}.json?q=red&_size=1&_facet=camera_make&_facet=folder"
    response = await ask(of_dated, url)
    assert facet_of(response, "camera_make") == {"Canon": 2, "Nikon": 2}
    assert facet_of(response, "folder") == {"": 2, "a": 2, "b": 2}
    filtered = await ask(of_dated, f"{url}&taken_at__gte=2021")
    assert facet_of(filtered, "camera_make") == {"Nikon": 2, "Canon": 1}


@pytest.mark.asyncio(loop_scope="module")
async def test_a_facet_adds_and_removes_its_filter_and_keeps_the_rest(of_dated: Datasette) -> None:
    page = await ask(of_dated, f"{PAGE}?q=red&_size=1&_next=1&_facet=camera_make")
    added = link(page, "Canon")
    assert query_of(added) == {
        "q": ["red"],
        "_size": ["1"],
        "_facet": ["camera_make"],
        "camera_make": ["Canon"],
    }
    chosen = await ask(of_dated, added)
    assert "2 images where" in summary(chosen)
    removed = unescape(
        re.search(r'<a href="([^"]*)"[^>]*without the filter Canon"', chosen.text, re.I)[1]
    )
    assert "camera_make=Canon" not in removed


@pytest.mark.parametrize("filter", ["", "&camera_make__notblank=1"])
@pytest.mark.asyncio(loop_scope="module")
async def test_years_are_counted_the_latest_first_and_link_to_a_range(
    of_dated: Datasette, filter: str
) -> None:
    response = await ask(of_dated, f"{PAGE}.json?_facet_year=taken_at{filter}")
    assert list(facet_of(response, "taken_at").items()) == [("2023", 1), ("2021", 2), ("2019", 1)]
    values = response.json()["facet_results"]["results"]["taken_at"]["results"]
    chosen = await ask(of_dated, values[1]["toggle_url"])
    assert {*names(chosen)} == {"mid-1.jpg", "mid-2.jpg"}
    removed = unescape(
        re.search(r'<a href="([^"]*)"[^>]*without the filter 2021"', chosen.text, re.I)[1]
    )
    assert "taken_at__" not in removed
    table = await ask(of_dated, f"/photos/images?_facet_year=taken_at{filter}")
    assert "taken_at (year)" in table.text


async def test_years_are_counted_by_an_index_of_a_persons_own_too(dated: Path) -> None:
    with closing(Database(dated)) as db:
        images = db["images"]
        images.add_column("edited", str)
        images.add_column("stars", int)
        images.create_index(["edited"])
        images.create_index(["stars"])
        db.execute("update images set edited = 2000 + id, stars = 2000 + id")
        db.conn.commit()
        indexed = indexes_of_texts(db.conn, find_image_table(db.conn, "images"))
    assert {"edited", "taken_at"} <= set(indexed)
    assert not {"stars", "width", "filename"} & set(indexed)
    response = await ask(datasette_of(dated), f"{PAGE}.json?_facet_year=edited&_facet_size=3")
    years = [(str(year), 1) for year in (2006, 2005, 2004)]
    assert list(facet_of(response, "edited").items()) == years


async def test_a_date_that_is_none_is_in_no_year(dated: Path) -> None:
    table = Database(dated)["images"]
    for id, text in ((1, "yesterday"), (2, ""), (3, "2021"), (4, "9999-12-31")):
        table.update(id, {"taken_at": text})
    response = await ask(datasette_of(dated), f"{PAGE}.json?_facet_year=taken_at")
    assert (
        {"2021", "9999"}
        <= facet_of(response, "taken_at").keys()
        <= {"2021", "9999", "2019", "2023"}
    )


async def test_dates_and_configured_facets_are_datasettes_own(dated: Path) -> None:
    tables = {"images": {"facets": ["folder", {"year": "taken_at"}]}}
    datasette = datasette_of(dated, rules={"databases": {"photos": {"tables": tables}}})
    response = await ask(datasette, f"{PAGE}.json?_facet_date=taken_at")
    results = response.json()["facet_results"]["results"]
    assert results.keys() == {"folder", "taken_at", "taken_at_2"}
    page = await ask(datasette, PAGE)
    assert 'id="facet-folder"' in page.text


@pytest.mark.asyncio(loop_scope="module")
async def test_a_facet_that_is_asked_for_a_thousand_times_is_counted_once(
    of_dated: Datasette,
) -> None:
    response = await ask(of_dated, f"{PAGE}.json?{'_facet=folder&' * 1000}")
    assert list(response.json()["facet_results"]["results"]) == ["folder"]


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (Count(0), "0 images"),
        (Count(1), "1 image"),
        (Count(1_234_567), "1,234,567 images"),
        (Count(10_000, "more than"), "More than 10,000 images"),
        (Count(None), "Images"),
    ],
)
async def test_how_many_in_words(count: Count, words: str) -> None:
    assert count_in_words(count) == words


@pytest.mark.asyncio(loop_scope="module")
async def test_camera_folder_and_year_are_suggested_until_they_are_counted(
    of_dated: Datasette,
) -> None:
    suggested = (await ask(of_dated, f"{PAGE}.json?_facet=folder")).json()["suggested_facets"]
    # No picture says which model it is of.
    assert [facet["name"] for facet in suggested] == ["taken_at"]
    assert query_of(suggested[0]["toggle_url"])["_facet_year"] == ["taken_at"]


def facet_boxes(response: httpx.Response) -> dict[str, list[str]]:
    """Title of a facet -> its values, or the labels of its bars."""
    boxes = re.findall(
        r'<section class="image-search-facet"[^>]*aria-label="([^"]*)">(.*?)</section>',
        response.text,
        re.S,
    )
    values = r"(?:</a> |<li><a [^>]*>)([^<]*)</(?:strong|a)> <span>"
    return {
        unescape(title): re.findall(r"<title>([^<]*)</title>", box) or re.findall(values, box)
        for title, box in boxes
    }


async def test_what_most_people_filter_by_is_counted_without_configuration(dated: Path) -> None:
    change(dated, "update images set camera_model = 'X1' where camera_make = 'Canon'")
    change(dated, "update images set camera_model = 'Z9' where camera_make = 'Nikon'")
    page = await ask(datasette_of(dated), PAGE)
    assert facet_boxes(page) == {
        "Year": ["2019: 1", "2021: 2", "2023: 1"],
        "Folder": ["-", "a", "b"],
        "Camera": ["X1", "Z9"],
    }
    # One value tells no images apart.
    chosen = await ask(datasette_of(dated), f"{PAGE}?camera_model=Z9&folder__gt=")
    assert facet_boxes(chosen) == {"Folder": ["a", "b"], "Camera": ["Z9", "X1"]}
    assert (await ask(datasette_of(dated), f"{PAGE}.json")).json()["facet_results"]["results"] == {}


async def test_whoever_names_facets_gets_these(dated: Path) -> None:
    assert facet_boxes(await ask(datasette_of(dated), f"{PAGE}?_facet=iso")) == {}
    assert facet_boxes(await ask(datasette_of(dated), f"{PAGE}?_nofacet=1")) == {}
    named = await ask(datasette_of(dated), f"{PAGE}?_facet=camera_make")
    assert facet_boxes(named) == {"camera_make": ["Canon", "Nikon"]}
    never = datasette_of(dated, settings={"suggest_facets": False})
    assert facet_boxes(await ask(never, PAGE)) == {}


async def test_keywords_and_tags_are_among_them(database: Path) -> None:
    with closing(Database(database)) as db, db.conn:
        ensure_keywords(db, find_image_table(db.conn, "images"))
    change(database, "insert into images_keywords values (1, 'sea'), (2, 'sea'), (3, 'sky')")
    page = await ask(datasette_of(database), PAGE)
    assert facet_boxes(page) == {"Keywords": ["sea", "sky"]}


@pytest.mark.asyncio(loop_scope="module")
async def test_several_values_of_a_facet_are_chosen_together(of_dated: Datasette) -> None:
    url = f"{PAGE}?q=red&_facet=folder&_facet=camera_make&camera_make=Canon"
    page = await ask(of_dated, f"{url}&folder=a")
    # The others are counted as if none was chosen here, and under all other filters.
    assert facet_boxes(page) == {"Folder": ["a", "b"], "camera_make": ["Canon", "Nikon"]}
    both = link(page, "b")
    assert query_of(both)["folder__in"] == ['["a", "b"]']
    assert {*names(await ask(of_dated, both))} == {"old.jpg", "new.jpg"}
    less = await ask(of_dated, both)
    only = re.search(r'<a href="([^"]*)"[^>]*without the filter a"', less.text, re.I)[1]
    assert query_of(unescape(only))["folder"] == ["b"]
    assert "folder__in" not in query_of(unescape(only))
    listed = await ask(of_dated, f"{PAGE}?_facet=folder&folder__in=a,b")
    assert listed.text.count('aria-label="Without the filter') == 2


async def test_the_chosen_year_is_shown_among_all_and_by_its_months(dated: Path) -> None:
    change(dated, "update images set taken_at = '2021-11-02' where filename = 'mid-2.jpg'")
    page = await ask(datasette_of(dated), f"{PAGE}?q=red&taken_at__gte=2021&taken_at__lt=2022")
    years = ["2019: 1", "2021: 2", "2023: 1"]
    assert facet_boxes(page)["Year"] == [*years, "2021-05: 1", "2021-11: 1"]
    bar = unescape(re.search(r'<a href="([^"]*)"[^>]*aria-label="2021-11, 1"', page.text)[1])
    assert query_of(bar) == {
        "q": ["red"],
        "taken_at__gte": ["2021-11"],
        "taken_at__lt": ["2021-12"],
    }
    again = unescape(re.search(r'<a href="([^"]*)"[^>]*aria-label="2021, 2"', page.text)[1])
    assert query_of(again) == {"q": ["red"]}


@pytest.mark.parametrize("years", [("0001", "0999"), ("1999", "2153", "9999"), ("2020", "9999")])
async def test_dates_far_away_leave_the_others_their_bars(
    dated: Path, years: tuple[str, ...]
) -> None:
    """Cameras that lost their clock have them."""
    for id, year in enumerate(years, start=1):
        change(dated, f"update images set taken_at = '{year}-05-06T12:00:00' where id = {id}")
    response = await ask(datasette_of(dated), PAGE)
    assert response.status_code == 200
    shown = facet_boxes(response)["Year"]
    assert {f"{year}: 1" for year in years if year != "9999"} <= {*shown}
    assert any(bar.startswith(("2019", "2021", "2023")) for bar in shown)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_page_has_twenty_chips_at_most(of_colours: Datasette) -> None:
    many = "&".join(["iso=1"] * 3000)
    page = await ask(of_colours, f"{PAGE}?_size=1&{many}")
    assert (page.status_code, alert(page)) == (
        400,
        "a URL can have 100 filters; this one has 3,000",
    )
    assert page.text.count("Remove the filter") == 20
    assert len(page.text) < 1_000_000


@pytest.mark.asyncio(loop_scope="module")
async def test_facets_that_nobody_asked_for_break_no_long_url(of_dated: Datasette) -> None:
    ids = ",".join(map(str, range(1, 10_000)))
    page = await ask(of_dated, f"{PAGE}?_size=2&_facet_size=200&_where=id+in+({ids})")
    assert page.status_code == 200
    assert facet_boxes(page) == {}


async def test_a_column_of_any_name_is_chosen_from(dated: Path) -> None:
    change(dated, "alter table images add column q")
    change(dated, "update images set q = 'x' where id < 3")
    page = await ask(datasette_of(dated), f"{PAGE}?_facet=q")
    assert query_of(link(page, "x")) == {"_facet": ["q"], "q__exact": ["x"]}


async def test_many_values_are_folded_and_more_are_a_link_away(tmp_path: Path, embed) -> None:
    for number in range(40):
        draw_picture(tmp_path / "x" / f"f{number:02}" / "red.png", "red")
    datasette = datasette_of(embed(tmp_path / "x"))
    page = await ask(datasette, PAGE)
    assert len(facet_boxes(page)["Folder"]) == 30
    first = page.text.partition('aria-label="Folder">')[2].partition("<details>")[0]
    assert first.count("<li>") == 10
    assert len(facet_boxes(await ask(datasette, f"{PAGE}?_facet_size=max"))["Folder"]) == 40
    assert query_of(link(page, "all")) == {"_facet_size": ["max"], "_facet": ["folder"]}


async def test_a_facet_that_takes_too_long_comes_after_the_page(dated: Path) -> None:
    many = Database(dated)
    many.executescript(
        "create table numbers(n); with recursive c(n) as (select 1 union all select n + 1 from c "
        "where n < 20000) insert into numbers select n from c"
    )
    many.close()
    slow = "_where=(select+count(*)+from+numbers+where+n>id+and+n!=taken_at)>0"
    datasette = datasette_of(dated, settings={"facet_time_limit_ms": 1, "sql_time_limit_ms": 10000})
    page = await ask(datasette, f"{PAGE}?_facet=camera_make&{slow}")
    assert page.status_code == 200
    assert "Not counted yet: camera_make" in page.text
    later = unescape(re.search(r'data-later="([^"]*)"', page.text)[1])
    counted = await ask(datasette, later)
    assert 'id="facet-camera_make"' in counted.text
    assert names(counted) == []
    assert "_facet_wait" not in link(counted, "Canon")
    waited = await ask(datasette, link(page, "Count anyway"))
    assert 'id="facet-camera_make"' in waited.text
    assert len(names(waited)) == 4


async def test_a_filter_that_takes_too_long_is_a_sentence(dated: Path) -> None:
    slow = (
        "_where=(with+recursive+c(n)+as+(select+1+union+all+select+n%2B1+from+c+"
        "where+n<1000000000)+select+count(*)+from+c)+>+id"
    )
    datasette = datasette_of(dated, settings={"sql_time_limit_ms": 50, "facet_time_limit_ms": 20})
    for url in (f"{PAGE}?{slow}", f"{PAGE}?q=red&{slow}"):
        response = await ask(datasette, url)
        assert response.status_code == 400
        assert "sql_time_limit_ms" in alert(response)


# --- Pages, and how they look ----------------------------------------------------------------------


@pytest.mark.parametrize("query", ["", "q=red&"])
@pytest.mark.asyncio(loop_scope="module")
async def test_pages_keep_everything_and_show_each_picture_once(
    of_colours: Datasette, query: str
) -> None:
    url, seen = f"{PAGE}?{query}_size=3&_pictures=large&width__gt=1", []
    pages = 0
    while url:
        page = await ask(of_colours, url)
        seen += names(page)
        pages += 1
        more = re.search(r'<a href="([^"]*)" rel="next"', page.text)
        url = unescape(more[1]) if more else None
        assert 'class="image-search-grid large"' in page.text
    assert (pages, len(seen)) == (3, 8)
    assert {*seen} == {f"{colour}.jpg" for colour in COLOURS}
    previous = unescape(re.search(r'<a href="([^"]*)" rel="prev"', page.text)[1])
    assert names(await ask(of_colours, previous)) == seen[3:6]


@pytest.mark.asyncio(loop_scope="module")
async def test_pictures_have_their_size_before_they_load(of_colours: Datasette) -> None:
    page = await ask(of_colours, PAGE)
    pictures = re.findall(r"<img [^>]*>", grid(page))
    assert len(pictures) == 8
    for picture in pictures:
        assert 'width="80" height="60"' in picture


async def test_the_first_pictures_of_a_search_are_asked_for_at_once(database: Path) -> None:
    change(database, "insert into images (root_id, path) values (1, 'a.jpg'), (1, 'b.jpg')")
    datasette = datasette_of(database)
    for query, lazy in (("", [False] * 8 + [True] * 2), ("?_next=2", [False] * 6 + [True] * 2)):
        page = await ask(datasette, PAGE + query)
        pictures = re.findall(r"<img [^>]*>", grid(page))
        assert ['loading="lazy"' in picture for picture in pictures] == lazy
    assert 'rel="expect" href="#image-search-preview"' in page.text
    assert page.text.count('id="image-search-preview"') == 1


async def test_two_files_of_one_name_are_told_apart_by_their_paths(tmp_path: Path, embed) -> None:
    for folder, colour in (("lotus", "red"), ("<gps>", "blue")):
        draw_picture(tmp_path / "x" / folder / "image_0051.jpg", colour)
    page = await ask(datasette_of(embed(tmp_path / "x")), f"{PAGE}?q=red")
    assert names(page) == ["image_0051.jpg"] * 2
    paths = ["lotus/image_0051.jpg", "<gps>/image_0051.jpg"]
    for kind in ("picture", "name"):
        shown = re.findall(rf'class="image-search-{kind}" [^>]*title="([^"]*)"', page.text)
        assert [unescape(path) for path in shown] == paths


async def test_a_very_long_picture_leaves_the_others_their_size(tmp_path: Path, embed) -> None:
    for name, size in (("tall", (60, 1200)), ("wide", (1200, 60)), ("usual", (80, 60))):
        draw_picture(tmp_path / "x" / f"{name}.png", "red", size)
    page = await ask(datasette_of(embed(tmp_path / "x")), f"{PAGE}?_sort=filename")
    assert re.findall(r"--ratio: ([\d.]+)", grid(page)) == ["0.4", "1.333", "4"]


async def test_an_empty_table_says_what_to_do(database: Path) -> None:
    Database(database)["images"].delete_where()
    page = await ask(datasette_of(database), PAGE)
    assert "This table has no images yet" in page.text
    assert "No image matches" in (await ask(datasette_of(database), f"{PAGE}?id=1")).text


@pytest.mark.asyncio(loop_scope="module")
async def test_a_page_sets_no_cookie(of_colours: Datasette) -> None:
    """A cookie would make Datasette 0.65 keep every page from caches."""
    assert "set-cookie" not in (await ask(of_colours, f"{PAGE}?q=red")).headers


@pytest.mark.parametrize("table", ['my "photos" of \'21', "bilder für/alle", "a~b%20c.d", "x.json"])
async def test_any_table_and_file_name(tmp_path: Path, embed, table: str) -> None:
    hostile = 'Zoë\'s <b> & "co".png'
    draw_picture(tmp_path / "x" / hostile, "red")
    datasette = datasette_of(embed(tmp_path / "x", table=table))
    path = f"/-/image-search/photos/{tilde_encode(table)}"
    response = await ask(datasette, f"{path}?q=red&_facet=filename")
    assert names(response) == [hostile]
    assert "<b> &" not in response.text
    picture = re.search(r'<img src="([^"]*)"', grid(response))[1]
    assert (await ask(datasette, picture)).headers["content-type"] == "image/webp"
    image = re.search(r'class="image-search-picture" href="([^"]*)"', response.text)[1]
    assert (await ask(datasette, unescape(image))).status_code == 200
    (hit,) = (await ask(datasette, f"{path}.json?q=red")).json()["hits"]
    assert hit["row"]["filename"] == hostile
    rows = csv.DictReader(io.StringIO((await ask(datasette, f"{path}.csv?q=red")).text))
    assert [row["filename"] for row in rows] == [hostile]


async def test_a_base_url_is_kept_in_every_link(dated: Path) -> None:
    datasette = datasette_of(dated, settings={"base_url": "/prefix/", "default_facet_size": 1})
    url = f"{PAGE}?q=red&_size=2&_facet=camera_make&_facet_date=taken_at&_facet_year=taken_at"
    response = await ask(datasette, url)
    links = re.findall(r'(?:href|src|action|data-[a-z-]+)="(/[^"]*)"', response.text)
    assert len(links) > 25
    assert [link for link in links if not link.startswith("/prefix/")] == []


async def test_a_persons_own_table_is_searched_too(tmp_path: Path, database: Path) -> None:
    db = Database(tmp_path / "own.db")
    for colour in ("red", "blue"):
        picture = draw_picture(tmp_path / "own" / f"{colour}.png", colour)
        db["stickers"].insert(
            {"name": colour, "content": picture.read_bytes(), "artist": "zoë"}, pk="name"
        )
    from datasette_image_search.ingest.pipeline import EmbedRequest, embed_images

    embed_images(
        EmbedRequest(tmp_path / "own.db", "stickers", (), model="palette", content_column="content")
    )
    datasette = datasette_of(tmp_path / "own.db")
    page = "/-/image-search/own/stickers"
    assert names(await ask(datasette, f"{page}?q=red&artist=zoë")) == ["red", "blue"]
    hits = (await ask(datasette, f"{page}.json?_facet=artist")).json()["hits"]
    assert [hit["row"] for hit in hits] == [
        {"name": "red", "artist": "zoë"},
        {"name": "blue", "artist": "zoë"},
    ]


class ClusterMap:
    """Stands for the name in the list of plugins, which is all that is looked at."""

    __name__ = "datasette_cluster_map"


async def test_a_map_is_offered_where_there_are_places_and_who_draws_them(database: Path) -> None:
    datasette = datasette_of(database)
    Database(database)["images"].update(6, {"latitude": 48.2, "longitude": 16.4})
    url = f"{PAGE}?q=dark+red&filename__startswith=r&_size=5"
    assert ">map</a>" not in (await ask(datasette, url)).text
    plugin = ClusterMap()
    pm.register(plugin)
    try:
        to = link(await ask(datasette, url), "map")
        assert urlsplit(to).path == "/photos/images"
        assert query_of(to) == {"filename__startswith": ["r"], "_image_search": ["dark red"]}
        assert ">map</a>" not in (await ask(datasette, f"{PAGE}?id=1")).text
    finally:
        pm.unregister(plugin)


async def test_images_that_no_query_can_find_are_counted(database: Path) -> None:
    datasette = datasette_of(database)
    assert "no vector" not in (await ask(datasette, f"{PAGE}?q=red")).text
    assert (await ask(datasette, f"{PAGE}.json?q=red")).json()["without_vector"] == 0
    db = Database(database)
    db.execute("delete from _images_vectors where image_id in (2, 3)")
    db.conn.commit()
    page = await ask(datasette, f"{PAGE}?q=red&id__lt=7")
    assert "2 images of this table have no vector, so no query finds them." in page.text
    assert (await ask(datasette, f"{PAGE}.json?q=red")).json()["without_vector"] == 2
    # Without a query, all images are shown.
    assert "no vector" not in (await ask(datasette, PAGE)).text
    assert (await ask(datasette, f"{PAGE}.json")).json()["without_vector"] is None


async def test_an_image_without_a_vector_of_the_model_that_is_searched(database: Path) -> None:
    """Each run feeds one index of a table."""
    db = Database(database)
    index = db["image_search_indexes"].get(1)
    db["image_search_indexes"].insert({**index, "id": 2, "model": "other", "identity": "other"})
    columns = "image_id, sha256, vector"
    db.execute(
        f"insert into _images_vectors (index_id, {columns}) select 2, {columns} from _images_vectors"
    )
    db.execute("delete from _images_vectors where image_id = 3 and index_id = 1")
    db.conn.commit()
    page = await ask(datasette_of(database), f"{PAGE}?q=red")
    assert "1 image of this table has no vector, so no query finds it." in page.text


# --- What is written -------------------------------------------------------------------------------


@pytest.fixture
def titled(database: Path) -> Path:
    change(
        database, "update images set title = 'Lisbon <b>' where filename in ('red.jpg', 'blue.jpg')"
    )
    return database


async def test_text_is_searched_beside_likeness(titled: Path) -> None:
    datasette = datasette_of(titled)
    page = await ask(datasette, f"{PAGE}?q=red+%2B+lisbon")
    assert names(page)[:2] == ["red.jpg", "blue.jpg"]
    assert len(names(page)) == 8
    matched = re.findall(r'image-search-matched">(.*?)</p>', page.text)
    assert matched == ["“red” in filename, “lisbon” in title", "“lisbon” in title"]
    assert "palette does not know" in page.text


async def test_words_for_texts_only_have_a_chip_that_says_so(titled: Path) -> None:
    datasette = datasette_of(titled)
    page = await ask(datasette, f"{PAGE}?q=text:lisbon")
    assert sorted(names(page)) == ["blue.jpg", "red.jpg"]
    assert 'aria-label="Search without written: lisbon"' in page.text
    drawn = (await ask(datasette, f"{PAGE}/map.json?q=text:lisbon&_matches_only=1")).json()
    assert drawn["images"]["id"] == [2, 6]
    assert (await ask(datasette, f"{PAGE}?q=text:lisbon&_by=likeness")).status_code == 400


async def test_words_that_no_model_knows_are_found_in_texts(titled: Path) -> None:
    datasette = datasette_of(titled)
    page = await ask(datasette, f"{PAGE}?q=lisbon")
    assert (page.status_code, sorted(names(page)), scores(page)) == (
        200,
        ["blue.jpg", "red.jpg"],
        [],
    )
    answer = (await ask(datasette, f"{PAGE}.json?q=lisbon")).json()
    assert [hit["score"] for hit in answer["hits"]] == [None, None]
    assert (await ask(datasette, f"{PAGE}?q=porto")).status_code == 400
    change(titled, "update image_search_indexes set model = 'nobody/has-it'")
    assert sorted(names(await ask(datasette, f"{PAGE}?q=lisbon"))) == ["blue.jpg", "red.jpg"]


async def test_by_text_or_by_likeness_only(titled: Path) -> None:
    datasette = datasette_of(titled)
    page = await ask(datasette, f"{PAGE}?q=lisbon&_by=text")
    assert summary(page) == '2 images match "lisbon"'
    assert len(names(page)) == 2
    assert '<option value="text" selected>text</option>' in page.text
    assert names(await ask(datasette, f"{PAGE}?q=porto&_by=text")) == []
    page = await ask(datasette, f"{PAGE}?q=red&_by=likeness")
    assert "image-search-matched" not in page.text
    answer = await ask(datasette, f"{PAGE}.json?q=red&_by=words")
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        "_by must be one of both, likeness, text",
    )


async def test_pages_by_both_show_each_image_once(titled: Path) -> None:
    datasette = datasette_of(titled)
    url = f"{PAGE}.json?q=green+%2B+lisbon&_size=3"
    found: list[int] = []
    for _ in range(3):
        answer = (await ask(datasette, url)).json()
        found += [hit["id"] for hit in answer["hits"]]
        url = (answer["next_url"] or "").replace("http://localhost", "")
    assert (url, sorted(found)) == ("", list(range(1, 9)))


async def test_a_view_is_searched_by_likeness_only(titled: Path) -> None:
    """Its texts may be of columns that the view leaves out."""
    change(titled, "create view some as select id, path from images")
    datasette = datasette_of(titled)
    page = f"{PAGE.replace('images', 'some')}.json"
    answer = (await ask(datasette, f"{page}?q=red&_size=1")).json()
    assert answer["hits"][0]["matched"] == []
    assert (await ask(datasette, f"{page}?q=lisbon")).status_code == 400
    assert "by likeness only" in (await ask(datasette, f"{page}?q=red&_by=text")).json()["error"]


# --- JSON and CSV ----------------------------------------------------------------------------------


@pytest.mark.asyncio(loop_scope="module")
async def test_the_json_says_what_the_page_says(of_colours: Datasette) -> None:
    answer = (await ask(of_colours, f"{PAGE}.json?q=red&_size=2&_facet=format")).json()
    assert answer["ok"] is True
    assert answer["query"] == "red"
    assert answer["description"] == '1 of 8 images matches "red"'
    assert answer["matches"] == 1
    assert (answer["count"], answer["count_truncated"]) == (8, False)
    assert answer["hits"][0]["row"]["filename"] == "red.jpg"
    assert answer["hits"][0].keys() == {
        "id",
        "score",
        "relevance",
        "at",
        "matched",
        "thumbnail",
        "url",
        "row",
    }
    assert answer["hits"][0]["matched"] == [{"words": "red", "text": "filename"}]
    thumbnail = urlsplit(answer["hits"][0]["thumbnail"])
    assert thumbnail.netloc == "localhost"
    assert (await ask(of_colours, thumbnail.path)).status_code == 200
    assert answer["plan"][0].keys() == {"step", "looked_at", "passed", "ms"}
    assert {"search_ms", "count_ms", "facets_ms", "query_vector_ms"} == answer["timing"].keys()
    assert answer["next"] == "2"
    more = (await ask(of_colours, answer["next_url"].removeprefix("http://localhost"))).json()
    assert len(more["hits"]) == 2
    assert more["hits"][0]["id"] not in [hit["id"] for hit in answer["hits"]]


@pytest.mark.asyncio(loop_scope="module")
async def test_the_csv_has_the_rows_and_their_scores(of_colours: Datasette) -> None:
    response = await ask(of_colours, f"{PAGE}.csv?q=red&_size=3")
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert rows[0]["filename"] == "red.jpg"
    assert len(rows) == 3
    assert float(rows[0]["score"]) > float(rows[1]["score"])
    hits = (await ask(of_colours, f"{PAGE}.json?q=red&_size=3")).json()["hits"]
    assert [float(row["relevance"]) for row in rows] == [hit["relevance"] for hit in hits]
    assert response.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("format", ["json", "csv"])
@pytest.mark.parametrize("cors", [True, False])
async def test_cors_headers_are_sent_where_datasette_sends_them(
    database: Path, format: str, cors: bool
) -> None:
    datasette = datasette_of(database, cors=cors)
    for url in (f"{PAGE}.{format}?q=red", f"{PAGE}.{format}?q=sports+car"):
        assert ("access-control-allow-origin" in (await ask(datasette, url)).headers) == cors


@pytest.mark.asyncio(loop_scope="module")
async def test_an_error_in_json_is_in_the_shape_of_datasettes(of_colours: Datasette) -> None:
    response = await ask(of_colours, f"{PAGE}.json?q=sports+car")
    assert response.status_code == 400
    assert response.json() == {
        "ok": False,
        "error": response.json()["error"],
        "status": 400,
        "title": None,
    }
    assert "sports car" in response.json()["error"]


# --- A model that takes its time -------------------------------------------------------------------


async def test_a_cold_model_shows_a_page_that_comes_back_and_holds_no_sql_thread(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasette = datasette_of(database, settings={"num_sql_threads": 1})
    encode = PaletteEmbedder.encode_texts
    ready = threading.Event()

    def slowly(self, texts):
        ready.wait()
        return encode(self, texts)

    monkeypatch.setattr(PaletteEmbedder, "encode_texts", slowly)
    monkeypatch.setattr(search_page, "PATIENCE", 0.2)
    url = f"{PAGE}?q=dark+reddish+orange"
    waiting = await ask(datasette, url)
    assert waiting.status_code == 202
    assert 'http-equiv="refresh"' in waiting.text
    assert waiting.headers["cache-control"] == "no-store"
    assert (await asyncio.wait_for(ask(datasette, "/photos"), HANGS)).status_code == 200
    ready.set()
    answer = await ask(datasette, f"{PAGE}.json?q=dark+reddish+orange")
    assert answer.status_code == 200
    assert (await ask(datasette, url)).status_code == 200


async def test_the_page_without_a_query_begins_to_load_the_model(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(
        preparing, "prepare_words", lambda index, query, weights_of: asked.append(query)
    )
    await ask(datasette_of(database), PAGE)
    deadline = time.monotonic() + HANGS
    while not asked and time.monotonic() < deadline:
        time.sleep(0.01)
    assert asked == [""]


# --- What is hostile -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query_string", "sentence"),
    [
        ("q=" + "x" * 60_000, "shorten it to 16,384 or fewer"),
        ("q=" + "x" * 16_000, "the query has 16,000 letters; at most 1,000 are allowed"),
        ("_size=-1", "_size must be a whole number"),
        ("_size=1e9", "_size must be a whole number"),
        ("_size=100000", "_size must be a whole number from 0 to 1,000"),
        ("_size=²", "_size must be a whole number"),
        ("_next=nope", "_next must be a whole number"),
        ("_next=" + "9" * 30, "_next must be a whole number"),
        ("q=red&_next=9999999", "best 10,000 images"),
        ("_min_score=nan", "_min_score must be a number"),
        ("_pictures=huge", "_pictures must be one of"),
        ("nope=1", "'images' has no column 'nope'"),
        ("nope__gt=1", "'images' has no column 'nope'"),
        ("id__nope=1", "there is no filter 'nope'"),
        ("id__gt=" + "9" * 400, "does not work on 'images'"),
        ("id__in=[", "a filter in this URL cannot be read"),
        ('id__in=[{"a":1}]', "does not work on 'images'"),
        ("filename__arraycontains=x", "does not work on 'images'"),
        ("filename__like=" + "_" * 51_000, "does not work on 'images'"),
        ("_where=nope+=", "does not work on 'images'"),
        ("_where=nope(1)", "the filter '(nope(1))' does not work on 'images': no such function"),
        ("_where={images}", "does not work on 'images'"),
        ("_through=nope", "a filter in this URL cannot be read"),
        ("_through={}", "a filter in this URL cannot be read"),
        (
            '_through={"table":"images","column":"id","value":"1"}',
            "cannot be read: Invalid _through",
        ),
        (r'id__in=["\ud800"]', "does not work on 'images': half of a character"),
        (r'_facet={"simple":"\ud800"}', "there is no column"),
        ("_facet=nope", "there is no column 'nope' to facet by"),
        ("_facet_year=nope", "there is no column 'nope' to facet by"),
        ("_facet={", "must be a column, or JSON that names one"),
        ('_facet={"a":1}', "must be a column, or JSON that names one"),
        ("_facet=" + "{%22a%22:" * 7_000, "must be a column, or JSON that names one"),
        ("q=%23nope", "'#nope' is not an image"),
        ("q=vec:AAAA", "vec:"),
    ],
    ids=lambda value: value[:40],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_nonsense_is_answered_with_a_sentence(
    of_dated: Datasette, query_string: str, sentence: str
) -> None:
    for format in ("", ".json"):
        encoded = quote(query_string, safe="=&%+{:[")
        response = await ask(of_dated, f"{PAGE}{format}?{encoded}")
        assert response.status_code == 400
        said = response.json()["error"] if format else alert(response)
        assert sentence in said
        assert len(said) < 130_000


@pytest.mark.asyncio(loop_scope="module")
async def test_a_query_of_a_megabyte_is_answered_with_a_sentence_and_not_repeated(
    of_colours: Datasette,
) -> None:
    """Past the client, which has a limit of its own."""
    await of_colours.invoke_startup()
    sent: list[dict] = []

    async def send(message: dict) -> None:
        sent.append(message)

    async def receive() -> dict:
        return {"type": "http.request", "body": b""}

    scope = {
        "type": "http",
        "method": "GET",
        "path": PAGE,
        "raw_path": PAGE.encode(),
        "query_string": b"q=" + b"x" * 1_000_000,
        "headers": [(b"host", b"localhost")],
        "scheme": "http",
    }
    await of_colours.app()(scope, receive, send)
    assert sent[0]["status"] == 414
    body = b"".join(message.get("body", b"") for message in sent)
    assert b"the URL has more than 65,536 characters" in body
    assert len(body) < 100_000


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{PAGE}?_size=max&" + "_col=&" * 10_000, 400),
        (f"{PAGE}?_size=max&" + "_col=&" * 100, 200),
        (f"{PAGE}?_size=60&" + "_col=&" * 10_000, 200),
        (f"{PAGE}.json?_size=max&" + "_col=&" * 10_000, 200),
        (f"{PAGE}?_facet=path&_facet=folder&_facet_size=max&" + "_col=&" * 1_000, 400),
        (f"{PAGE}.json?_facet=path&_facet=folder&_facet_size=max&" + "_col=&" * 1_000, 400),
        (f"{PAGE}?_facet=path&_facet=folder&_facet_size=max&" + "_col=&" * 100, 200),
    ],
    ids=lambda value: str(value)[:80],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_long_url_is_not_repeated_for_each_picture_and_each_value(
    of_colours: Datasette, path: str, status: int
) -> None:
    """By what there may be of them: a database grows."""
    response = await ask(of_colours, path)
    assert response.status_code == status
    if status == 400:
        said = response.json()["error"] if ".json" in path else alert(response)
        assert "is too long for a page with" in said


@pytest.mark.asyncio(loop_scope="module")
async def test_a_page_has_not_more_facets_than_a_server_counts(of_colours: Datasette) -> None:
    for path, sentence in ((PAGE, alert), (f"{PAGE}.json", lambda page: page.json()["error"])):
        facets = [
            f"_facet{kind}={column}"
            for kind in ("", "_date", "_year")
            for column in ("path", "folder", "filename", "format", "width", "height", "mtime")
        ]
        response = await ask(of_colours, f"{path}?{'&'.join(facets)}")
        assert response.status_code == 400
        assert "20 facets at most" in sentence(response)


@pytest.mark.parametrize(
    "query_string",
    [
        *("_facet_size=nope", "_nl=on", "_nocol=iso", "_shape=array", "q=", "_sort=", "_size=0"),
        # They resemble no parameter, so another plugin may read them.
        *("_xyzzy=1", "_foo=1", "_gl=1", "_geojson=1", "_=1", "_token=1", "_page=1", "_lang=de"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_what_means_nothing_here_is_left_alone(
    of_dated: Datasette, query_string: str
) -> None:
    assert (await ask(of_dated, f"{PAGE}?{query_string}")).status_code == 200


@pytest.mark.parametrize(
    ("query_string", "said"),
    [
        ("_srot=taken_at", "there is no parameter _srot; did you mean _sort?"),
        ("_facets=folder", "there is no parameter _facets; did you mean _facet?"),
        ("_facet_yaer=taken_at", "there is no parameter _facet_yaer; did you mean _facet_year?"),
        ("_min_similarity=1", "there is no parameter _min_similarity; did you mean _min_score?"),
        ("_Sort=iso", "there is no parameter _Sort; did you mean _sort?"),
        ("_cols=iso", "there is no parameter _cols; did you mean _col?"),
        (
            "_sort=tekan_at",
            "'images' has no column 'tekan_at' to sort by; did you mean 'taken_at'?",
        ),
        ("_sort=iso&_sort_desc=iso", "there are two columns to sort by; name one of them"),
        ("_limit=0&_sort=iso", "_limit must be a whole number from 1 to 10,000"),
        (
            "camera_mkae=Canon",
            "'images' has no column 'camera_mkae' to filter by; did you mean 'camera_make'?",
        ),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_mistyped_name_is_refused_with_the_one_that_was_meant(
    of_dated: Datasette, query_string: str, said: str
) -> None:
    for url in (f"{PAGE}?{query_string}", f"{PAGE}.json?{query_string}"):
        response = await ask(of_dated, url)
        assert response.status_code == 400
        assert sentence(response) == said


async def test_a_column_that_begins_with_an_underscore_needs_a_lookup(dated: Path) -> None:
    change(dated, "alter table images add column _mine text")
    refused = await ask(datasette_of(dated), f"{PAGE}?_mine=1")
    assert alert(refused) == "there is no parameter _mine; did you mean _mine__exact?"
    assert (await ask(datasette_of(dated), f"{PAGE}?_mine__exact=1")).status_code == 200


async def test_a_parameter_that_another_plugin_reads_is_known(dated: Path) -> None:
    class Plugin:
        __name__ = "in-colour"

        @hookimpl
        def filters_from_request(self, request: Request) -> FilterArguments | None:
            if request.args.get("_in_colour"):
                return FilterArguments(["camera_make = 'Canon'"], {}, ["in colour"])
            return None

    plugin = Plugin()
    pm.register(plugin)
    try:
        response = await ask(datasette_of(dated), f"{PAGE}?_in_colour=1")
    finally:
        pm.unregister(plugin)
    assert summary(response) == "2 images where in colour, newest first"


async def test_a_parameter_that_another_plugin_reads_before_the_page_is_left_alone(
    dated: Path,
) -> None:
    class Plugin:
        __name__ = "tokens"

        @hookimpl
        def actor_from_request(self, request: Request) -> dict[str, str] | None:
            return {"id": "me"} if request.args.get("_auth_token") == "secret" else None

    plugin = Plugin()
    pm.register(plugin)
    try:
        datasette = datasette_of(dated, rules={"allow": {"id": "me"}})
        for url in (f"{PAGE}?q=red&_auth_token=", f"{PAGE}.json?q=red&_auth_token="):
            assert (await ask(datasette, f"{url}secret")).status_code == 200
            assert (await ask(datasette, f"{url}guessed")).status_code == 404
    finally:
        pm.unregister(plugin)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_query_is_text_and_never_markup(of_colours: Datasette) -> None:
    hostile = quote("red <script>alert(1)</script>\"'")
    for place in ("q={}", "filename={}", "filename__{}=1", "{}=1", "_size={}", "_facet={}"):
        response = await ask(of_colours, f"{PAGE}?{place.format(hostile)}")
        assert "<script>alert" not in response.text


@pytest.mark.asyncio(loop_scope="module")
async def test_an_array_facet_of_what_is_no_array_is_no_traceback(of_dated: Datasette) -> None:
    """Datasette 0.65 fails at it, 1.0 counts nothing."""
    response = await ask(of_dated, f"{PAGE}?_facet_array=folder")
    assert response.status_code in (200, 400)


async def test_facets_may_be_forbidden(dated: Path) -> None:
    datasette = datasette_of(dated, settings={"allow_facet": False})
    assert (await ask(datasette, PAGE)).status_code == 200
    assert (await ask(datasette, f"{PAGE}?_facet=folder")).status_code == 400


async def test_a_row_that_says_nonsense_is_shown_all_the_same(database: Path) -> None:
    Database(database)["images"].update(
        6, {"width": -1, "height": 0, "taken_at": "<i>", "path": None or "", "filename": None}
    )
    response = await ask(datasette_of(database), f"{PAGE}?q=red")
    assert response.status_code == 200
    assert "<i>" not in response.text


@pytest.mark.asyncio(loop_scope="module")
async def test_many_at_a_time(of_colours: Datasette) -> None:
    urls = [f"{PAGE}?q=red&_size={n % 7 + 1}&_facet=folder" for n in range(20)]
    responses = await asyncio.gather(*(ask(of_colours, url) for url in urls))
    assert {response.status_code for response in responses} == {200}


# --- The list of image tables ----------------------------------------------------------------------


@pytest.mark.asyncio(loop_scope="module")
async def test_one_image_table_alone_is_where_one_is_sent(of_colours: Datasette) -> None:
    response = await ask(of_colours, "/-/image-search")
    assert (response.status_code, response.headers["location"]) == (302, PAGE)


async def test_image_tables_are_listed_for_those_who_may_see_them(
    folder: Path, embed: Callable[..., Path]
) -> None:
    embed(folder)
    database = embed(folder, table="secret")
    hidden = {"databases": {"photos": {"tables": {"secret": {"allow": {"id": "anna"}}}}}}
    datasette = datasette_of(database, rules=hidden)
    await datasette.invoke_startup()
    for_anna = await ask(datasette, "/-/image-search", actor="anna")
    assert for_anna.status_code == 200
    assert "/-/image-search/photos/images" in for_anna.text
    assert "/-/image-search/photos/secret" in for_anna.text
    assert (await ask(datasette, "/-/image-search")).headers["location"] == PAGE


async def test_no_image_table_is_no_error(tmp_path: Path) -> None:
    Database(tmp_path / "plain.db")["plain"].insert({"id": 1}, pk="id")
    response = await ask(datasette_of(tmp_path / "plain.db"), "/-/image-search")
    assert response.status_code == 200
    assert "There are no image tables here" in response.text


@pytest.mark.parametrize("format", ["", ".json", ".csv", ".json?q=red&_facet=folder"])
async def test_a_hidden_table_answers_as_one_that_is_not_there(database: Path, format: str) -> None:
    rules = {"databases": {"photos": {"tables": {"images": {"allow": {"id": "anna"}}}}}}
    datasette = datasette_of(database, rules=rules)
    hidden = await ask(datasette, f"{PAGE}{format}")
    missing = await ask(datasette, f"{PAGE.replace('images', 'imagos')}{format}")
    assert hidden.status_code == missing.status_code == 404
    assert hidden.text.replace("images", "imagos") == missing.text


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("_srot=taken_at", 400),
        ("_min_score=high", 400),
        ("_where=nonsense(", 400),
        ("_image_tag=cat", 400),
        ("q=red&_next=1e3", 400),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_an_error_keeps_the_form_and_shows_the_images(
    of_colours: Datasette, query: str, status: int
) -> None:
    page = await ask(of_colours, f"{PAGE}?_size=3&{query}")
    assert page.status_code == status
    assert alert(page)
    assert len(names(page)) == 8
    # None of the links to other pages leads to the error again.
    assert all("?" not in unescape(url) or "_position" in url for url in card_links(page))
    for name, value in parse_qs(query).items():
        if "__" in name:
            assert f"<option selected>{name.partition('__')[0]}</option>" in page.text
            assert f'class="filter-value" value="{value[0]}"' in page.text
        if name == "q":
            assert f'name="q" value="{value[0]}"' in page.text


def card_links(page: httpx.Response) -> list[str]:
    return re.findall(r'class="image-search-picture" href="([^"]*)"', page.text)


async def test_where_that_is_not_allowed_is_told_above_the_images(database: Path) -> None:
    datasette = datasette_of(database, rules={"allow_sql": False})
    page = await ask(datasette, f"{PAGE}?_where=1")
    assert (page.status_code, alert(page)) == (403, "_where= is not allowed")
    assert len(names(page)) == 8


@pytest.mark.asyncio(loop_scope="module")
async def test_a_table_that_is_not_there_is_a_404_with_a_link_to_the_list(
    of_colours: Datasette,
) -> None:
    for path in ("/nothing", "/nothing/map", "/nothing/1", "/images/99"):
        page = await ask(of_colours, f"/-/image-search/photos{path}")
        assert page.status_code == 404
        assert re.search(r'<a href="/-/image-search[^"]*">All image(s| tables)</a>', page.text)
    answer = await ask(of_colours, "/-/image-search/photos/nothing.json")
    assert answer.json()["error"] == "There is no image table 'nothing' in 'photos'"


@pytest.mark.parametrize("wrong", ["camra_make=Canon", "_sort=nope", "_min_score=high"])
@pytest.mark.asyncio(loop_scope="module")
async def test_a_wrong_name_keeps_the_words(of_colours: Datasette, wrong: str) -> None:
    page = await ask(of_colours, f"{PAGE}?q=red&{wrong}")
    assert page.status_code == 400
    assert "found by the words alone" in alert(page)
    assert summary(page).endswith('images matches "red"')
