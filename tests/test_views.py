"""Views of image tables: they show pictures and can be searched, and never show a wrong picture."""

from __future__ import annotations

import csv
import io
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from datasette.app import Datasette
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from datasette_image_search.ingest.pipeline import EmbedRequest, embed_images
from datasette_image_search.store import ImageTable
from datasette_image_search.store.views import find_view

from .commands import change, command, query
from .conftest import COLOURS, draw_picture
from .serving import ask, datasette_of, pictures

pytestmark = pytest.mark.datasette

PAGE = "/-/image-search/photos/wide"
WIDE = "create view wide as select images.*, width * height as pixels from images where id > 2"

is_async = pytest.mark.asyncio


@pytest.fixture
def viewed(database: Path) -> Path:
    """photos.db with the view `wide`, of all images but black and blue."""
    change(database, WIDE)
    return database


async def page_of(database: Path, path: str, actor: str | None = None, **rules) -> httpx.Response:
    datasette = datasette_of(database, rules=rules)
    await datasette.invoke_startup()
    return await ask(datasette, path, actor)


def thumbnails(page: httpx.Response) -> list[str]:
    """What the pictures of a page are called, with the ids that their URLs have."""
    found = re.findall(r"/-/image-search/photos/(\w+)/(\w+)/thumbnail", page.text)
    return [f"{table}/{id}" for table, id in found]


# --- What they show --------------------------------------------------------------------------------


@is_async
async def test_the_page_of_a_view_shows_pictures(viewed: Path):
    page = await page_of(viewed, "/photos/wide")
    assert pictures(page) == [f"{name}.jpg" for name in sorted(COLOURS)[2:]]
    assert thumbnails(page) == [f"images/{id}" for id in range(3, 9)]
    assert 'href="/photos/images/3"' in page.text
    assert 'href="/-/image-search/photos/wide?q=%233">more like this' in page.text


@is_async
async def test_as_a_grid(viewed: Path):
    page = await page_of(viewed, "/photos/wide.images?_size=3&pixels__gt=1")
    assert thumbnails(page) == ["images/3", "images/4", "images/5"]
    assert "Images: wide" in page.text


@is_async
async def test_the_page_of_a_view_can_be_searched(viewed: Path):
    """With every filter, on columns of its own too, and the closest first."""
    page = await page_of(viewed, "/photos/wide?_image_search=red")
    assert pictures(page)[0] == "red.jpg"
    assert len(pictures(page)) == 6
    rows = await page_of(
        viewed, "/photos/wide.json?_image_search=red&_image_search_k=2&pixels__gt=1&_shape=array"
    )
    whole = await page_of(
        viewed, "/photos/images.json?_image_search=red&_image_search_k=2&id__gt=2&_shape=array"
    )
    assert [row["id"] for row in rows.json()] == [row["id"] for row in whole.json()]
    none = await page_of(
        viewed, "/photos/wide.json?_image_search=red&pixels__gt=999999&_shape=array"
    )
    assert none.json() == []


@is_async
async def test_the_search_page_of_a_view(viewed: Path):
    answer = (await page_of(viewed, f"{PAGE}.json?q=black&pixels__gt=1&_facet=pixels")).json()
    assert answer["table"] == "wide"
    assert answer["count"] == 6
    assert {hit["id"] for hit in answer["hits"]} == set(range(3, 9))
    assert answer["hits"][0]["row"]["pixels"] == 80 * 60
    path, version = answer["hits"][0]["thumbnail"].split("?v=")
    assert path.endswith(f"/images/{answer['hits'][0]['id']}/thumbnail")
    assert len(version) == 12
    (facet,) = answer["facet_results"]["results"].values()
    assert [(value["value"], value["count"]) for value in facet["results"]] == [(4800, 6)]
    newest = (await page_of(viewed, f"{PAGE}.json?_size=2")).json()
    assert newest["count"] == 6
    assert len(newest["hits"]) == 2


@is_async
@pytest.mark.parametrize("format", ["", ".csv", "/map", "/map.json"])
async def test_its_other_formats(viewed: Path, format: str):
    response = await page_of(viewed, f"{PAGE}{format}?q=red&pixels__gt=1")
    assert response.status_code == 200
    if format == ".csv":
        rows = list(csv.DictReader(io.StringIO(response.text)))
        assert rows[0]["path"] == "red.jpg"
        assert rows[0]["pixels"] == "4800"
    if format == "/map.json":
        assert sorted(response.json()["images"]["id"]) == list(range(3, 9))
    if not format:
        assert thumbnails(response)[0] == "images/6"
        assert 'action="/-/image-search/photos/wide"' in response.text
        assert 'href="/-/image-search/photos/wide/6?' in response.text


@is_async
async def test_a_wrong_filter_is_a_sentence_about_what_was_written(viewed: Path):
    response = await page_of(viewed, f"{PAGE}.json?q=red&_where=nope")
    assert response.status_code == 400
    assert "the filter '(nope)' does not work" in response.json()["error"]


@is_async
async def test_tags_of_its_images(viewed: Path):
    assert command("tag-images", viewed, "images", "red", "blue", "--top", "1").exit_code == 0
    change(viewed, "drop view wide", WIDE)
    tagged = {id for (id,) in query(viewed, "select image_id from images_tags where tag = 'red'")}
    rows = await page_of(viewed, "/photos/wide.json?_image_tag=red&_shape=array")
    assert {row["id"] for row in rows.json()} == {id for id in tagged if id > 2}
    hits = (await page_of(viewed, f"{PAGE}.json?_image_tag=red&q=red")).json()["hits"]
    assert {hit["id"] for hit in hits} == {id for id in tagged if id > 2}


# --- Who may see that ------------------------------------------------------------------------------

ANNA = {"allow": {"id": "anna"}}
OURS = [
    "/photos/wide?_image_search=red",
    "/photos/wide.images",
    PAGE,
    f"{PAGE}.json",
    f"{PAGE}/map",
]


@is_async
@pytest.mark.parametrize("private", ["images", "wide"])
@pytest.mark.parametrize("path", OURS)
async def test_who_may_see_both(viewed: Path, private: str, path: str):
    rules = {"databases": {"photos": {"tables": {private: ANNA}}}}
    for actor in (None, "bob"):
        response = await page_of(viewed, path, actor, **rules)
        assert response.status_code in (400, 403, 404)
        assert thumbnails(response) == []
    assert (await page_of(viewed, path, "anna", **rules)).status_code == 200


@is_async
async def test_a_view_that_all_may_see_has_no_pictures_of_a_private_table(viewed: Path):
    """What it has in its rows is what Datasette says; nothing on its page is from us."""
    rules = {"databases": {"photos": {"tables": {"images": ANNA}}}}
    page = await page_of(viewed, "/photos/wide", **rules)
    assert page.status_code == 200
    assert not re.findall("/-/image-search|image-search-box|image-search-cell", page.text)
    assert len(pictures(await page_of(viewed, "/photos/wide", "anna", **rules))) == 6


# --- Never a wrong one -----------------------------------------------------------------------------


def view_of(database: Path, sql: str, *tables: str) -> str | None:
    """The image table that a view of this SQL is taken to be of."""
    change(database, f"create view seen as {sql}")
    shown = [
        (ImageTable(name, "id", True, "root_id", "path", "sha256"), "path", False)
        for name in tables or ("images",)
    ]
    with closing(sqlite3.connect(database)) as conn:
        view = find_view(conn, "seen", shown)
    return view.table.name if view else None


@pytest.mark.parametrize(
    "sql",
    [
        "select * from images",
        "select path, id from images where width > 1 order by taken_at",
        "select i.path, i.id, n.note from images i left join notes n on n.id = i.id",
        "select id, path from images where id in (select id from notes) union all "
        "select id, path from images where id = 1",
        "select id, path, count(*) as number from images group by folder",
        "with some as (select * from images limit 3) select * from some",
    ],
)
def test_a_view_of_an_image_table(database: Path, sql: str):
    change(database, "create table notes (id integer primary key, note)")
    assert view_of(database, sql) == "images"


@pytest.mark.parametrize(
    "sql",
    [
        "select id, note from notes",
        "select id, note as path from notes",
        "select path from images",
        "select id as number, path from images",
        "select id, width from images",
        "select nope from images",
        "select images.id, images.path from images join others on others.id = images.id",
        "select image_search('red', 3) as id, 1 as path",
    ],
)
def test_a_view_of_something_else(database: Path, sql: str):
    change(database, "create table notes (id integer primary key, note)")
    change(database, "create table others as select * from images")
    assert view_of(database, sql, "images", "others") is None


@is_async
async def test_an_id_of_another_table_shows_nothing(database: Path):
    """Album 6 is not image 6, although that is red."""
    db = Database(database)
    db["albums"].insert_all(({"id": id, "cover": 9 - id} for id in range(1, 9)), pk="id")
    db.create_view(
        "wide", "select albums.id, images.path from albums join images on images.id = albums.cover"
    )
    db.close()
    for path in ("/photos/wide", "/photos/wide.images", PAGE, f"{PAGE}?q=red"):
        page = await page_of(database, path)
        assert page.status_code == 200
        assert thumbnails(page) == []
    rows = await page_of(database, "/photos/wide.json?_image_search=red&_shape=array")
    assert rows.json() == []


@pytest.fixture
def two_roots(folder: Path, tmp_path: Path) -> Path:
    """Image 1 is red and image 2 is blue, both a.jpg."""
    for root, colour in (("one", "red"), ("two", "blue")):
        draw_picture(tmp_path / root / "a.jpg", colour)
    database = tmp_path / "photos.db"
    roots = (tmp_path / "one", tmp_path / "two")
    embed_images(EmbedRequest(database, "images", roots, model="palette"))
    assert sorted(query(database, "select id, path from images")) == [(1, "a.jpg"), (2, "a.jpg")]
    return database


@is_async
async def test_a_path_that_two_files_have(two_roots: Path):
    """With the root it is one of them; without, it could be the other."""
    change(two_roots, "create view wide as select 3 - id as id, path from images")
    for path in ("/photos/wide", "/photos/wide.images", f"{PAGE}?q=red"):
        assert thumbnails(await page_of(two_roots, path)) == []
    change(two_roots, "drop view wide", "create view wide as select id, path, root_id from images")
    for path in ("/photos/wide", "/photos/wide.images"):
        assert sorted(thumbnails(await page_of(two_roots, path))) == ["images/1", "images/2"]


@is_async
@settings(
    max_examples=10,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(ids=st.lists(st.integers(1, 9), min_size=1, max_size=8))
async def test_each_picture_is_that_of_the_path_beside_it(database: Path, ids: list[int]):
    """Whatever ids a view gives to whatever paths."""
    db = Database(database)
    db["given"].insert_all(
        ({"id": id, "of": of} for of, id in enumerate(ids, 1)), truncate=True, replace=True
    )
    db.create_view(
        "wide",
        "select given.id, images.path, images.root_id from given join images on images.id = of",
        replace=True,
    )
    db.close()
    right = [f"images/{of}" for of, id in enumerate(ids, 1) if of == id]
    datasette = datasette_of(database)
    for path in (
        "/photos/wide",
        "/photos/wide.images",
        f"{PAGE}?q=red",
        "/photos/wide?_image_search=red",
    ):
        assert sorted(thumbnails(await ask(datasette, path))) == right


# --- Tables of a person's own ----------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Pictures in BLOBs, whose key is that of another table."""
    database = tmp_path / "photos.db"
    db = Database(database)
    db["items"].insert_all([{"sku": "r", "name": "Red"}, {"sku": "b", "name": "Blue"}], pk="sku")
    for sku, colour in (("r", "red"), ("b", "blue")):
        content = draw_picture(tmp_path / f"{colour}.png", colour).read_bytes()
        db["stickers"].insert({"sku": sku, "content": content}, pk="sku")
    db["stickers"].add_foreign_key("sku", "items", "sku")
    db.create_view("wide", "select *, length(content) as bytes from stickers")
    db.create_view("swapped", "select iif(sku = 'r', 'b', 'r') as sku, content from stickers")
    db.close()
    embed_images(EmbedRequest(database, "stickers", (), model="palette", content_column="content"))
    return database


@is_async
async def test_pictures_in_blobs(own: Path):
    for path in ("/photos/wide", "/photos/wide.images", f"{PAGE}?q=red", f"{PAGE}?bytes__gt=1"):
        assert sorted(thumbnails(await page_of(own, path))) == ["stickers/b", "stickers/r"]
    searched = await page_of(own, "/photos/wide?_image_search=red")
    assert thumbnails(searched) == ["stickers/r", "stickers/b"]
    for path in ("/photos/swapped", "/photos/swapped.images", f"{PAGE[:-4]}swapped?q=red"):
        assert thumbnails(await page_of(own, path)) == []


@is_async
@pytest.mark.parametrize("path", ["stickers.images?_labels=on", "stickers?_labels=on"])
async def test_a_key_that_refers_to_another_table(own: Path, path: str):
    page = await page_of(own, f"/photos/{path}")
    assert page.status_code == 200
    assert sorted(thumbnails(page)) == ["stickers/b", "stickers/r"]
    searched = await page_of(own, f"/photos/{path}&_image_search=red")
    assert thumbnails(searched) == ["stickers/r", "stickers/b"]


@is_async
async def test_a_view_that_appears_while_datasette_runs(database: Path, monkeypatch):
    monkeypatch.setattr("datasette_image_search.web.access.image_tables.FRESH", 0.0)
    datasette: Datasette = datasette_of(database)
    await datasette.invoke_startup()
    assert (await ask(datasette, PAGE)).status_code == 404
    change(database, WIDE)
    assert (await ask(datasette, PAGE)).status_code == 200


@is_async
async def test_an_order_by_a_column_of_the_view(viewed: Path):
    change(viewed, "drop view wide", WIDE.replace("width * height", "nullif(id, 5) % 4"))
    for asked in ("", "q=red&_limit=6&"):
        answer = (await page_of(viewed, f"{PAGE}.json?{asked}_sort=pixels")).json()
        values = [hit["row"]["pixels"] for hit in answer["hits"]]
        assert values == [0, 0, 2, 3, 3, None]
        answer = (
            await page_of(viewed, f"{PAGE}.json?{asked}_sort_desc=pixels&pixels__gt=0")
        ).json()
        assert [hit["row"]["pixels"] for hit in answer["hits"]] == [3, 3, 2]


# --- Several rows of an image ----------------------------------------------------------------------


@is_async
@pytest.mark.parametrize(
    ("filters", "rising", "falling"),
    [
        ("", [2, 3, 1, 4], [3, 1, 2, 4]),
        # Only the rows that pass the filter count.
        ("&mark__lt=9", [2, 3, 1], [1, 3, 2]),
    ],
)
async def test_an_image_of_several_rows_counts_by_the_first_in_the_order(
    database: Path, filters: str, rising: list[int], falling: list[int]
):
    change(
        database,
        "create table marks (image_id integer, mark integer)",
        "insert into marks values (1, 4), (1, 8), (2, 1), (2, null), (3, 5), (3, 3), (3, 9), (4, null)",
        "create view marked as select images.*, mark from images join marks on image_id = images.id",
    )
    for query_string in ("", "q=red&"):
        for sort, wanted in (("_sort", rising), ("_sort_desc", falling)):
            url = f"/-/image-search/photos/marked.json?{query_string}{sort}=mark{filters}"
            found = (await page_of(database, url)).json()
            assert [hit["id"] for hit in found["hits"]] == wanted, url
