"""Pictures in cells: of image tables and their rows, of SQL queries, and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sqlite_utils import Database

from datasette_image_search.ingest.pipeline import EmbedRequest, embed_images

from .conftest import draw_picture
from .serving import datasette_of, get, pictures, query_page

pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]


def version_of(database: Path, image_id: int) -> str:
    return Database(database)["_images_thumbnails"].get(image_id)["sha256"][:12]


async def test_every_row_of_an_image_table_shows_its_picture(database: Path) -> None:
    page = await get(datasette_of(database), "/photos/images")
    assert len(pictures(page)) == 8
    cell = re.search(r'<td class="col-path[^"]*">(.*?)</td>', page.text, re.DOTALL)[1]
    assert 'href="/photos/images/1"' in cell
    assert f'src="/-/image-search/photos/images/1/thumbnail?v={version_of(database, 1)}"' in cell
    assert 'alt="black.jpg" width="120" height="90" loading="lazy"' in cell
    assert "black.jpg</span>" in cell
    assert 'href="/-/image-search/photos/images?q=%231">more like this' in cell


async def test_the_page_of_a_row_shows_it_too(database: Path) -> None:
    assert pictures(await get(datasette_of(database), "/photos/images/6")) == ["red.jpg"]


async def test_a_tall_picture_keeps_its_shape(tmp_path: Path, embed) -> None:
    draw_picture(tmp_path / "tall" / "tall.png", "red", size=(300, 900))
    page = await get(datasette_of(embed(tmp_path / "tall")), "/photos/images")
    assert 'width="30" height="90"' in page.text


async def test_urls_begin_where_datasette_does(database: Path) -> None:
    datasette = datasette_of(database, settings={"base_url": "/data/"})
    page = await get(datasette, "/photos/images")
    assert 'src="/data/-/image-search/photos/images/1/thumbnail?v=' in page.text
    assert 'href="/data/photos/images/1"' in page.text


async def test_names_that_are_markup_are_text(tmp_path: Path, embed) -> None:
    name = '<img src=x onerror=alert(1)>".png'
    draw_picture(tmp_path / "odd" / name, "red")
    page = await get(datasette_of(embed(tmp_path / "odd")), "/photos/images")
    assert "<img src=x" not in page.text
    assert len(pictures(page)) == 1


async def test_a_row_without_a_thumbnail_shows_its_path_only(database: Path) -> None:
    Database(database).execute(
        "delete from _images_thumbnails where image_id = 6"
    ).connection.commit()
    page = await get(datasette_of(database), "/photos/images")
    assert "red.jpg" not in pictures(page)
    assert len(pictures(page)) == 7
    assert "red.jpg" in page.text


async def test_other_tables_show_no_pictures(database: Path) -> None:
    Database(database)["plain"].insert({"id": 6, "path": "red.jpg"}, pk="id")
    assert pictures(await get(datasette_of(database), "/photos/plain")) == []


async def test_a_database_without_images_has_no_trace_of_the_plugin(tmp_path: Path) -> None:
    path = tmp_path / "plain.db"
    Database(path)["plain"].insert({"id": 6, "path": "red.jpg"}, pk="id")
    datasette = datasette_of(path)
    for url in ("/", "/plain", "/plain/plain", "/plain/plain/6"):
        page = await get(datasette, url)
        assert page.status_code == 200
        assert "image-search" not in page.text


async def test_images_embedded_in_a_running_datasette_appear(
    tmp_path: Path, folder: Path, embed, monkeypatch
) -> None:
    monkeypatch.setattr("datasette_image_search.web.access.image_tables.FRESH", 0)
    path = tmp_path / "photos.db"
    Database(path)["plain"].insert({"id": 1}, pk="id")
    datasette = datasette_of(path)
    assert pictures(await get(datasette, "/photos/plain")) == []
    embed(folder)
    assert len(pictures(await get(datasette, "/photos/images"))) == 8


async def test_a_table_of_blobs_shows_them(tmp_path: Path) -> None:
    path = tmp_path / "photos.db"
    content = draw_picture(tmp_path / "red.png", "red").read_bytes()
    Database(path)["stickers"].insert({"name": "a/b", "content": content}, pk="name")
    embed_images(EmbedRequest(path, "stickers", (), model="palette", content_column="content"))
    datasette = datasette_of(path)
    page = await get(datasette, "/photos/stickers")
    assert pictures(page) == ["a/b"]
    download = re.search(r'class="blob-download" href="([^"]*)"', page.text)[1]
    assert (await get(datasette, download.replace("&amp;", "&"))).content == content


@pytest.mark.parametrize(
    "sql",
    [
        "select id, path from images where id = 6",
        "select path, 1 as x, id from images where path = 'red.jpg'",
        "select 6 as id, 'red.jpg' as path",
    ],
)
async def test_a_query_with_id_and_path_of_an_image_shows_it(database: Path, sql: str) -> None:
    assert pictures(await query_page(datasette_of(database), sql)) == ["red.jpg"]


@pytest.mark.parametrize(
    "sql",
    [
        "select path from images",
        "select id, filename from images",
        "select 6 as id, 'blue.jpg' as path",
        "select 99 as id, 'red.jpg' as path",
        "select 'red.jpg' as id, 'red.jpg' as path",
        "select '/-/image-search/photos/images/99/thumbnail' as picture",
        "select '/-/image-search/other/images/6/thumbnail' as picture",
        "select '/-/image-search/photos/plain/6/thumbnail' as picture",
        "select 'https://example.com/-/image-search/photos/images/6/thumbnail' as picture",
        "select '/-/image-search/photos/images/6/thumbnail/thumbnail' as picture",
        "select '/-/image-search/photos/images/6/thumbnail?v=1&w=2' as picture",
    ],
)
async def test_a_query_shows_no_picture_that_is_not_certain(database: Path, sql: str) -> None:
    page = await query_page(datasette_of(database), sql)
    assert page.status_code == 200
    assert pictures(page) == []


async def test_a_query_with_the_url_of_a_thumbnail_shows_it(database: Path) -> None:
    url = "'/-/image-search/photos/images/' || id || '/thumbnail'"
    for sql in (url, f"{url} || '?v=' || substr(sha256, 1, 12)", f"{url} || '?v=old'"):
        page = await query_page(
            datasette_of(database), f"select {sql} as picture from images order by id"
        )
        assert pictures(page) == [str(number) for number in range(1, 9)]
        assert f"/1/thumbnail?v={version_of(database, 1)}" in page.text


async def test_the_thumbnails_of_another_database_are_not_told_about(
    database: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain.db"
    Database(plain)["plain"].insert({"id": 1}, pk="id")
    datasette = datasette_of(database, plain)
    path = "/plain/-/query" if hasattr(datasette, "allowed") else "/plain"
    sql = "select '/-/image-search/photos/images/6/thumbnail' as picture"
    assert pictures(await get(datasette, path, sql=sql)) == []


async def test_with_two_image_tables_the_path_tells_which(tmp_path: Path, embed, folder) -> None:
    draw_picture(tmp_path / "more" / "pink.jpg", "pink")
    embed(folder)
    path = embed(tmp_path / "more", table="extra")
    sql = "select id, path from images where id = 1 union all select id, path from extra"
    page = await query_page(datasette_of(path), sql)
    assert re.findall(r'src="/-/image-search/photos/(\w+)/1/', page.text) == ["images", "extra"]


SAVED = {"by path": "select id, path from images", "by URL": (
    "select '/-/image-search/photos/images/6/thumbnail' as url, id from images"
)}  # fmt: skip


@pytest.mark.parametrize("saved", SAVED)
async def test_a_saved_query_shows_pictures_to_those_who_may_see_the_table(
    database: Path, saved: str
) -> None:
    photos = {
        "tables": {"images": {"allow": {"id": "anna"}}},
        "queries": {"peek": {"sql": SAVED[saved]}},
    }
    datasette = datasette_of(database, rules={"databases": {"photos": photos}})
    for actor in (None, "bob"):
        page = await get(datasette, "/photos/peek", actor)
        assert page.status_code == 200
        assert "image-search-cell" not in page.text
    assert "image-search-cell" in (await get(datasette, "/photos/peek", "anna")).text


async def test_a_value_that_is_too_large_costs_a_page_no_picture(database: Path) -> None:
    Database(database).execute("alter table images add column large as (zeroblob(200000000))")
    page = await query_page(datasette_of(database), "select id, path from images limit 2")
    assert page.status_code == 200
    assert "black.jpg" in page.text
