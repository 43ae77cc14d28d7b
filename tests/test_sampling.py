"""Estimates in place of counts that take too long."""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest
from sqlite_utils import Database

from datasette_image_search import Images
from datasette_image_search.albums import Albums
from datasette_image_search.search.hits import Count
from datasette_image_search.store import Filter, sampling
from datasette_image_search.store.albums import read_albums
from datasette_image_search.store.positions import Box, Cell, cells
from datasette_image_search.store.sampling import Sample, sample_of
from datasette_image_search.store.tables import ImageTable
from datasette_image_search.web.facets import counting
from datasette_image_search.web.pages import geographic_map, image_page

from .random_tables import add_images, random_vectors
from .serving import ask, datasette_of

pytestmark = pytest.mark.datasette

PAGE = "/-/image-search/photos/images"

IMAGES = ImageTable("images", "id", key_is_integer=True)

COUNT = 400


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 images, a quarter of them in the folder "a" and in Lisbon, the others in "b" and in Bern; of two years."""
    path = tmp_path_factory.mktemp("sampled") / "photos.db"
    with closing(Database(path, execute_plugins=False)) as db:
        add_images(db, random_vectors(COUNT))
        with db.conn:
            db.execute("update images set folder = iif(id % 4 = 0, 'a', 'b')")
            db.execute("update images set taken_at = iif(id % 2, '2020', '2021') || '-05-06'")
            db.execute("update images set latitude = iif(id % 4 = 0, 38.7, 46.9)")
            db.execute("update images set longitude = iif(id % 4 = 0, -9.1, 7.4)")
    return path


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample of a tenth, five stretches of eight images."""
    monkeypatch.setattr(sampling, "BLOCKS", 5)
    monkeypatch.setattr(sampling, "BLOCK", 8)
    monkeypatch.setattr(sampling, "FEWEST", 8)


def sampled(path: Path) -> tuple[Sample, list[int]]:
    with closing(sqlite3.connect(path)) as conn:
        sample = sample_of(conn, IMAGES)
        assert sample is not None
        return sample, [id for (id,) in conn.execute(f"select id from {sample.rows}")]


@pytest.mark.usefixtures("short")
def test_a_sample_is_of_stretches_that_are_evenly_spread(path: Path) -> None:
    sample, ids = sampled(path)
    assert sample.share == 0.1
    assert len(ids) == len(set(ids)) == 40
    assert (min(ids), max(ids)) == (1, COUNT)
    assert sample.estimated(20) == 200
    assert sample.estimated(1234) == 12_000
    assert sample.estimated(7) is None


@pytest.mark.asyncio
@pytest.mark.parametrize("lone", [10**12, 2**63 - 1])
async def test_few_images_with_high_ids_are_counted(path: Path, tmp_path: Path, lone: int) -> None:
    """Of the many ids between them next to none is of an image."""
    copy = tmp_path / "photos.db"
    shutil.copy(path, copy)
    with closing(sqlite3.connect(copy)) as conn:
        conn.execute("insert into images (id, root_id, path) values (?, 1, 'lone.jpg')", [lone])
        conn.commit()
    datasette = datasette_of(copy)
    answer = (await ask(datasette, f"{PAGE}.json?_size=1")).json()
    assert (answer["count"], answer["count_truncated"]) == (COUNT + 1, False)
    found = (await ask(datasette, f"{PAGE}.json?q=%231&_size=1")).json()
    assert found["without_vector"] == 1
    assert not any(facet.get("is_sample") for facet in answer["facet_results"]["results"].values())


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("key", "after", "is_found"),
    [
        ("integer primary key", "", True),
        ("integer primary key", "without rowid", True),
        ("int primary key", "", False),
    ],
)
def test_a_key_that_is_no_rowid_has_no_sample(key: str, after: str, is_found: bool) -> None:
    """SQLite would look at all rows for each stretch."""
    with closing(sqlite3.connect(":memory:")) as conn:
        conn.execute(f"create table images (id {key}) {after}")
        conn.executemany("insert into images values (?)", [(id,) for id in range(COUNT)])
        assert (sample_of(conn, IMAGES) is not None) == is_found


def test_a_small_table_needs_no_sample(path: Path) -> None:
    with closing(sqlite3.connect(path)) as conn:
        assert sample_of(conn, IMAGES) is None


@pytest.mark.usefixtures("short")
def test_a_table_of_texts_or_of_nothing_has_no_sample() -> None:
    with closing(sqlite3.connect(":memory:")) as conn:
        conn.execute("create table images (id integer primary key)")
        assert sample_of(conn, IMAGES) is None
        assert sample_of(conn, ImageTable("images", "id", key_is_integer=False)) is None


@pytest.mark.usefixtures("short")
def test_places_are_estimated_from_a_sample(path: Path) -> None:
    sample, _ = sampled(path)
    with closing(sqlite3.connect(path)) as conn:
        found = cells(conn, IMAGES, None, Box(), 32, sample)
        assert [(cell.count, round(cell.latitude)) for cell in found] == [(300, 47), (100, 39)]
        some = cells(conn, IMAGES, Filter("folder = 'a'"), Box(), 32, sample)
        assert [cell.count for cell in some] == [100]


@pytest.mark.asyncio
@pytest.mark.usefixtures("short")
async def test_a_facet_that_takes_too_long_is_estimated_and_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the machine: what counts all rows never ends here."""
    make = counting.make_facet

    def slow(*args, **options):
        if "_img_start" not in options["sql"]:
            endless = (
                "with recursive c(n) as (select 1 union all select n + 1 from c) select n from c"
            )
            options["sql"] = (
                f"select * from ({options['sql']}) where (select count(*) from ({endless}))"
            )
        return make(*args, **options)

    monkeypatch.setattr(counting, "make_facet", slow)
    datasette = datasette_of(path, settings={"facet_time_limit_ms": 50})
    page = await ask(datasette, PAGE)
    assert "Estimated from a part of the images" in page.text
    folder = page.text.partition('aria-label="Folder"')[2].partition("</section>")[0]
    assert re.findall(r"<span>(.*?)</span>", folder) == ["about 300", "about 100"]
    assert "2021: about 200" in page.text
    # It tells none of these apart, and is not shown.
    alike = await ask(datasette, f"{PAGE}?taken_at__lt=2021")
    assert 'aria-label="Folder"' not in alike.text
    said = re.search("because counting takes too long: (.*?)\\.", alike.text)
    assert said is not None
    assert said[1] == "taken_at"
    named = await ask(datasette, f"{PAGE}.json?_facet=folder&taken_at__gte=2021")
    facet = named.json()["facet_results"]["results"]["folder"]
    assert facet["is_sample"]
    assert {value["value"]: value["count"] for value in facet["results"]} == {"a": 100, "b": 100}
    few = await ask(datasette, f"{PAGE}?_facet=folder&id__lt=4")
    assert "Not counted yet: folder" in few.text


@pytest.mark.parametrize(
    ("count", "position", "limit", "said"),
    [
        (Count(400), 3, None, "3 of 400"),
        (Count(400, "about"), 3, None, "3 of about 400"),
        (Count(400, "about"), 412, None, "412 of about 412"),
        (Count(400, "at least"), 3, 100, "3 of 100"),
        (Count(40), 3, 100, "3 of 40"),
    ],
)
def test_the_place_of_an_image_is_among_as_many_as_are_known(
    count: Count, position: int, limit: int | None, said: str
) -> None:
    wanted = mock.Mock(is_limited=False, end=limit)
    assert image_page._place_in_words(wanted, position, count) == said


@pytest.mark.asyncio
@pytest.mark.usefixtures("short")
async def test_the_map_of_the_earth_estimates_what_takes_too_long(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(conn: sqlite3.Connection, *args) -> list[Cell]:
        if args[-1] is None:
            conn.execute(
                "with recursive c(n) as (select 1 union all select n + 1 from c) select count(*) from c"
            )
        return cells(conn, *args)

    monkeypatch.setattr(geographic_map, "cells", slow)
    datasette = datasette_of(path, settings={"sql_time_limit_ms": 50})
    answer = (await ask(datasette, f"{PAGE}/earth.json")).json()
    assert answer["is_sample"]
    assert answer["description"] == "About 400 images"
    assert [cell["count"] for cell in answer["cells"]] == [300, 100]
    page = await ask(datasette, f"{PAGE}/earth")
    assert "these numbers are estimates" in page.text
    # Zoomed in, there is still more than can be counted.
    part = (await ask(datasette, f"{PAGE}/earth.json?_view=38,-10,39,-9")).json()
    assert part["description"] == "About 100 images"


def test_members_of_albums_are_counted_without_a_look_at_their_images(
    path: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "photos.db"
    copy.write_bytes(path.read_bytes())
    with Images(copy) as images:
        Albums(images).add("Sea", [1, 2])
        with images.conn:
            images.conn.execute("insert into images_album_members values (1, 999, '9999')")
        exact = read_albums(images.conn, IMAGES)
        assert [(album.images, album.cover) for album in exact] == [(2, 2)]
        about = read_albums(images.conn, IMAGES, exact=False)
        assert [(album.images, album.cover) for album in about] == [(3, 2)]
