"""An image that a query is written about is a match, unless so is most of the table."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from datasette_image_search.api import Images
from datasette_image_search.search import fusion
from datasette_image_search.search.asked import SearchOptions
from datasette_image_search.search.hits import Count
from datasette_image_search.store import Filter, text_search
from datasette_image_search.store.filters import IdSet

from .commands import change, command, embed_images
from .conftest import draw_picture
from .serving import ask, datasette_of

PAGE = "/-/image-search/photos/images"

RED, LISBON = {1, 2, 3}, {3, 20, 21}
"""Three red images, and three whose title says Lisbon."""


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images 1 to 24, all in the folder "trips" and in blue and grey, but for three red ones."""
    folder = tmp_path_factory.mktemp("matches")
    for number in range(24):
        colour = "red" if number < 3 else ("grey", "blue")[number % 2]
        draw_picture(folder / "trips" / f"{number:02}.png", colour, size=(90 + number, 90))
    embed_images(folder / "photos.db", "images", folder, "--model", "palette")
    change(
        folder / "photos.db",
        f"update images set title = 'Lisbon' where id in {(*sorted(LISBON),)}",
    )
    return folder / "photos.db"


@pytest.fixture
def database(once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(once, tmp_path))


@pytest.fixture
def images(database: Path) -> Iterator[Images]:
    with Images(database) as images:
        yield images


def test_a_tag_of_a_model_makes_no_match_unless_texts_are_asked_for(database: Path):
    """Each image has the tag that fits it best of a few, which may fit none."""
    assert command("tag-images", database, "images", "red", "blue").exit_code == 0
    change(database, "update images_tags set tag = 'lisbon' where image_id in (10, 11, 12)")
    with Images(database) as images:
        for query, by, expected in (
            ("red + lisbon", "both", RED | LISBON),
            ("red + text:lisbon", "both", RED | LISBON | {10, 11, 12}),
            ("lisbon", "text", LISBON | {10, 11, 12}),
            ("lisbon", "both", LISBON | {10, 11, 12}),
        ):
            (found,) = images.find([query], 24, by=by, matches_only=True)
            assert {hit.id for hit in found.hits} == expected, (query, by)


def test_matches_by_likeness_and_by_text_come_before_the_weaker(images: Images):
    (found,) = images.find(["red + lisbon"], 24, by="both")
    ids = [hit.id for hit in found.hits]
    assert ids[0] == 3
    assert set(ids[:5]) == RED | LISBON
    assert found.matches == 5
    (alike,) = images.find(["red"], 24)
    assert ids[5:] == [hit.id for hit in alike.hits if hit.id not in RED | LISBON]
    relevances = {hit.id: hit.relevance for hit in alike.hits}
    assert {hit.id: hit.relevance for hit in found.hits} == pytest.approx(relevances)


def test_a_word_of_most_images_makes_none_a_match(images: Images):
    (found,) = images.find(["red + trips"], 24, by="both")
    assert ({hit.id for hit in found.hits[:3]}, found.matches) == (RED, 3)
    assert len(found.hits) == 24
    assert not any("trips" in str(hit.matched) for hit in found.hits)
    # If nothing else is known of a query, what has its words is all that matches.
    (found,) = images.find(["trips"], 24, by="both")
    assert (len(found.hits), found.matches) == (24, 24)
    change(images.path, "update images set folder = '' where id % 2")
    (found,) = images.find(["red + trips"], 24, by="both")
    assert found.matches == 3 + 12 - 1


@pytest.mark.parametrize("query", ["red + lisbon", "lisbon", "red + trips", "red - #1"])
def test_only_the_matches(images: Images, query: str):
    (found,) = images.find([query], 24, by="both")
    matches = [hit for hit in found.hits if hit.is_match]
    assert list(found.hits[: len(matches)]) == matches
    (only,) = images.find([query], 24, by="both", matches_only=True)
    assert list(only.hits) == matches
    search = partial(fusion.Search, images.conn, images.index_of(), query)
    both = search(None, SearchOptions(by="both", matches_only=True), images.ask)
    ids = both.within()
    assert ids is not None
    assert set(ids.ids.ids) == {hit.id for hit in matches}
    for some in (None, Filter("id in (2, 3, 21)"), IdSet([2, 3, 21])):
        passed = [hit for hit in matches if some is None or hit.id in (2, 3, 21)]
        assert replace(both, filter=some).count_matches() == Count(len(passed))
    by_text = search(None, SearchOptions(by="text"), images.ask).within()
    assert by_text is not None
    assert set(by_text.ids.ids) == {hit.id for hit in images.search(query, 24, by="text")}


@pytest.mark.parametrize("depth", [1, 4, 1000])
@pytest.mark.parametrize("query", ["red + lisbon", "blue + trips", "red + lisbon + trips"])
def test_pages_show_each_image_once(
    images: Images, monkeypatch: pytest.MonkeyPatch, query: str, depth: int
):
    monkeypatch.setattr(fusion, "DEPTH", depth)
    whole = images.search(query, 24, by="both")
    pages = [images.search(query, 5, by="both", offset=offset) for offset in range(0, 25, 5)]
    assert [hit for page in pages for hit in page] == whole
    assert {hit.id for hit in whole} == set(range(1, 25))


def test_one_word_of_several_changes_the_order_of_the_matches(images: Images):
    (found,) = images.find(["red lisbon"], 24, by="both")
    assert ({hit.id for hit in found.hits[:3]}, found.hits[0].id, found.matches) == (RED, 3, 3)
    (alike,) = images.find(["red"], 24)
    assert [hit.id for hit in found.hits[3:]] == [hit.id for hit in alike.hits[3:]]
    assert images.search("red lisbon", by="text") == []
    (found,) = images.find(["red trips"], 24, by="both")
    assert [hit.id for hit in found.hits] == [hit.id for hit in alike.hits]


def test_words_of_other_images_than_a_filter_has_are_known(images: Images):
    assert len(images.search("red + lisbon", 24, by="both", where="id > 21")) == 3
    assert images.search("lisbon", by="both", where="id > 21") == []


def test_limits_are_of_likeness(images: Images):
    relevance = {hit.id: hit.relevance for hit in images.search("red", 24)}
    hits = images.search("red + lisbon", 24, by="both", min_relevance=0.95)
    assert {hit.id for hit in hits} == RED
    least = relevance[20]
    hits = images.search("red + lisbon", 24, by="both", min_relevance=least)
    assert {hit.id for hit in hits} == {id for id, value in relevance.items() if value >= least}
    change(images.path, "delete from _images_vectors where image_id = 21")
    assert 21 in {hit.id for hit in images.search("red + lisbon", by="both")}
    assert 21 not in {
        hit.id for hit in images.search("red + lisbon", by="both", min_relevance=1e-9)
    }


@pytest.mark.asyncio
@pytest.mark.datasette
async def test_a_page_counts_and_shows_them(database: Path):
    datasette = datasette_of(database)
    answer = (await ask(datasette, f"{PAGE}.json?q=red+%2B+lisbon")).json()
    assert answer["description"] == '5 of 24 images match "red + lisbon"'
    assert answer["matches"] == 5
    assert {hit["id"] for hit in answer["hits"][:5]} == RED | LISBON
    page = (await ask(datasette, f"{PAGE}?q=red+%2B+lisbon")).text
    assert page.index("Weaker matches") > page.index("“lisbon” in title")
    only = "q=red+%2B+lisbon&_matches_only=1&_facet=title&_size=2"
    answer = (await ask(datasette, f"{PAGE}.json?{only}")).json()
    assert (answer["count"], answer["matches"], len(answer["hits"])) == (5, 5, 2)
    counted = answer["facet_results"]["results"]["title"]["results"]
    assert [(value["value"], value["count"]) for value in counted] == [("Lisbon", 3)]
    drawn = (await ask(datasette, f"{PAGE}/map.json?q=red+%2B+lisbon&_matches_only=1")).json()
    assert set(drawn["images"]["id"]) == RED | LISBON
    text = (await ask(datasette, f"{PAGE}.csv?q=red+%2B+lisbon&_matches_only=1")).text
    assert {int(row["id"]) for row in csv.DictReader(io.StringIO(text))} == RED | LISBON


@pytest.mark.asyncio
@pytest.mark.datasette
async def test_an_order_is_of_all_matches(database: Path):
    answer = (
        await ask(datasette_of(database), f"{PAGE}.json?q=red+%2B+lisbon&_sort_desc=id&_size=4")
    ).json()
    assert [hit["id"] for hit in answer["hits"]] == [21, 20, 3, 2]
    assert answer["hits"][0]["matched"] == [{"words": "lisbon", "text": "title"}]
    assert answer["matches"] == 5


@pytest.mark.asyncio
@pytest.mark.datasette
async def test_by_text_nothing_weaker_is_shown(database: Path):
    datasette = datasette_of(database)
    answer = (await ask(datasette, f"{PAGE}.json?q=lisbon&_by=text&_facet=title")).json()
    assert {hit["id"] for hit in answer["hits"]} == LISBON
    assert answer["description"] == '3 images match "lisbon"'
    (value,) = answer["facet_results"]["results"]["title"]["results"]
    assert value["count"] == 3
    answer = (await ask(datasette, f"{PAGE}.json?q=porto&_by=text")).json()
    assert (answer["description"], answer["hits"]) == ('0 images match "porto"', [])
    answer = await ask(datasette, f"{PAGE}.json?q=lisbon&_by=text&_min_relevance=0.5")
    assert (answer.status_code, "by text has no scores" in answer.json()["error"]) == (400, True)


@pytest.mark.asyncio
@pytest.mark.datasette
async def test_by_text_a_filter_is_never_short(database: Path, monkeypatch: pytest.MonkeyPatch):
    """Of a word that more images have than are looked at, those that pass the filter are found."""
    monkeypatch.setattr(text_search, "SCANNED", 2)
    url = f"{PAGE}.json?q=trips&_by=text&id__lt=3"
    answer = (await ask(datasette_of(database), url)).json()
    assert ({hit["id"] for hit in answer["hits"]}, answer["count"]) == ({1, 2}, 2)


@pytest.mark.asyncio
@pytest.mark.datasette
async def test_as_many_matches_as_are_looked_at_may_be_more(
    database: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(text_search, "SCANNED", 3)
    url = f"{PAGE}.json?q=lisbon&_by=text&_size=2"
    answer = (await ask(datasette_of(database), url)).json()
    assert answer["description"] == 'More than 3 images match "lisbon"'
    assert (answer["count"], answer["count_truncated"]) == (3, True)


@pytest.mark.asyncio
@pytest.mark.datasette
async def test_nothing_looks_like_that_if_no_text_matches_either(database: Path):
    datasette = datasette_of(database)
    page = await ask(datasette, f"{PAGE}?q=red+%2B+lisbon&id__gt=3")
    assert "No clear match" not in page.text
    page = await ask(datasette, f"{PAGE}?q=red+%2B+lisbon&id__gt=21")
    assert "No clear match" in page.text


def test_the_command(database: Path):
    asked = ("search-images", database, "images", "red + lisbon", "-k", 24)
    rows = json.loads(command(*asked, "--matches-only", "--json").stdout)
    assert {row["id"] for row in rows} == RED | LISBON
    result = command(*asked, "--where", "id > 21")
    assert "No image is a clear match; these are the nearest" in result.stderr
    result = command(*asked, "--where", "id > 21", "--matches-only")
    assert "No image passes the filter and is a match" in result.stderr


@pytest.mark.parametrize("by", ["both", "text"])
def test_a_text_with_a_minus_leaves_images_out(images: Images, by: str):
    """Of those that look like the rest of the query, too."""
    wanted = images.search("red + trips", 24, by=by)
    found = images.search("red + trips - text:lisbon", 24, by=by)
    assert {hit.id for hit in found} == {hit.id for hit in wanted} - LISBON
    for filter in ("id < 21", IdSet([1, 3, 20])):
        some = images.search("trips - text:lisbon", 24, by=by, where=filter)
        assert not {hit.id for hit in some} & LISBON
        assert 1 in {hit.id for hit in some}


def test_a_text_with_a_minus_leaves_matches_by_likeness_out(images: Images):
    assert {hit.id for hit in images.search("red - text:lisbon", 24, by="both")} == (
        set(range(1, 25)) - LISBON
    )
    only = images.search("red - text:lisbon", 24, by="both", matches_only=True)
    assert {hit.id for hit in only} == RED - LISBON


@pytest.mark.asyncio
@pytest.mark.datasette
@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("q=red+%2B+lisbon&_sort=id", sorted(RED | LISBON)),
        ("q=red+%2B+lisbon&_sort_desc=id&id__lt=3", [2, 1]),
        ("q=red+%2B+lisbon&_sort=id&_limit=2", [1, 3]),
        ("q=blue+-+text:lisbon&_limit=300&_sort=id", sorted(set(range(1, 25)) - LISBON)),
        ("q=blue+-+text:lisbon", sorted(set(range(1, 25)) - LISBON)),
        ("q=red&_sort=id&id__gt=20", [21, 22, 23, 24]),
    ],
)
async def test_what_is_counted_is_what_is_shown(database: Path, asked: str, shown: list[int]):
    change(database, "update images set camera_make = 'Canon'")
    datasette = datasette_of(database)
    answer = (await ask(datasette, f"{PAGE}.json?{asked}&_facet=camera_make")).json()
    ids = [hit["id"] for hit in answer["hits"]]
    if "_limit=2" in asked:
        # Which red one is the closest, nobody says here.
        assert (ids == sorted(ids), len(ids), 3 in ids) == (True, 2, True)
    else:
        assert (ids if "_sort" in asked else sorted(ids)) == shown
    (value,) = answer["facet_results"]["results"]["camera_make"]["results"]
    assert (answer["count"], value["count"]) == (len(shown), len(shown))
    assert (answer["matches"] or 0) <= answer["count"]
    rows = (await ask(datasette, f"{PAGE}.csv?{asked}")).text
    assert [int(row["id"]) for row in csv.DictReader(io.StringIO(rows))] == ids


@pytest.mark.asyncio
@pytest.mark.datasette
@pytest.mark.parametrize("asked", ["q=lisbon&_by=text", "q=red+%2B+lisbon&_sort=id"])
async def test_a_facet_still_has_the_values_that_are_not_chosen(database: Path, asked: str):
    change(database, "update images set camera_make = iif(id in (3, 20), 'Canon', 'Nikon')")
    url = f"{PAGE}.json?{asked}&camera_make=Canon&_facet=camera_make"
    answer = (await ask(datasette_of(database), url)).json()
    values = answer["facet_results"]["results"]["camera_make"]["results"]
    assert ({value["value"] for value in values}, answer["count"]) == ({"Canon", "Nikon"}, 2)


@pytest.mark.asyncio
@pytest.mark.datasette
async def test_without_time_for_texts_likeness_is_left(
    database: Path, monkeypatch: pytest.MonkeyPatch
):
    def slow(*_args: object, **_options: object) -> None:
        raise sqlite3.OperationalError("interrupted")

    monkeypatch.setattr(fusion, "text_hits", slow)
    datasette = datasette_of(database)
    for asked in ("q=red", "q=red+%2B+text:lisbon", "q=red&_matches_only=1", "q=red&_sort=id"):
        answer = (await ask(datasette, f"{PAGE}.json?{asked}")).json()
        assert {hit["id"] for hit in answer["hits"][:3]} == RED
        assert "by likeness alone" in answer["warnings"][-1]
    for asked in ("q=lisbon", "q=lisbon&_by=text", "q=text:lisbon"):
        answer = await ask(datasette, f"{PAGE}.json?{asked}")
        assert answer.status_code == 400
        assert "try again, or filter by a column with an index" in answer.json()["error"]
    answer = await ask(datasette, f"{PAGE}.json?q=text:lisbon&id__lt=9")
    assert "remove a filter" in answer.json()["error"]


def test_words_of_the_closest_are_told_from_each_other(images: Images):
    """A word that more than half of them have says nothing of one of them."""
    change(images.path, "update images set title = 'sunny market' where id in (5, 6)")
    table, closest = images.index_of().table, [4, 5, 6, 7, 8]
    words = text_search.Words("sunny trips").each()
    hits = text_search.text_hits_of(images.conn, table, words, (), closest)
    assert [(hit.id, hit.rank) for hit in hits] == [(5, 1), (6, 1)]
    without = (text_search.Words("market"),)
    assert text_search.text_hits_of(images.conn, table, words, without, closest) == []
