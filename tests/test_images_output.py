""".images: the rows of a table page or of a query as a grid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from datasette.app import Datasette
from sqlite_utils import Database

from .serving import datasette_of, get, pictures, query_page

pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_query_is_a_grid_in_its_order_with_its_scores(of_colours: Datasette) -> None:
    sql = "select id, image_similarity(id, 'red') as score from images order by score desc limit 3"
    page = await query_page(of_colours, sql, ".images")
    assert page.status_code == 200
    assert pictures(page)[0] == "red.jpg"
    assert len(pictures(page)) == 3
    scores = [float(text) for text in re.findall(r'similarity">(-?[\d.]+)<', page.text)]
    assert scores == sorted(scores, reverse=True)
    assert "3 images" in page.text


@pytest.mark.asyncio(loop_scope="module")
async def test_a_table_page_is_a_grid_the_closest_first(of_colours: Datasette) -> None:
    page = await get(of_colours, "/photos/images.images", _image_search="red", _size=4)
    assert pictures(page)[0] == "red.jpg"
    assert len(pictures(page)) == 4
    assert 'href="/photos/images?_image_search=red&amp;_size=4">as a table' in page.text
    assert "4 images closest to &#34;red&#34;" in page.text
    assert pictures(await get(of_colours, "/photos/images/6.images")) == ["red.jpg"]


async def test_pages_link_to_it_where_the_rows_have_ids_of_images(database: Path) -> None:
    Database(database)["plain"].insert({"id": 1}, pk="id")
    datasette = datasette_of(database)
    assert ".images?" in (await query_page(datasette, "select id from images")).text
    assert ".images?" not in (await query_page(datasette, "select path from images")).text
    assert 'href="/photos/images.images' in (await get(datasette, "/photos/images")).text
    assert ".images" not in (await get(datasette, "/photos/plain")).text


@pytest.mark.asyncio(loop_scope="module")
async def test_rows_that_are_not_images_are_counted(of_colours: Datasette) -> None:
    sql = "select 6 as id union all select 99 union all select null union all select x'00'"
    page = await query_page(of_colours, sql, ".images")
    assert pictures(page) == ["red.jpg"]
    assert "3 rows are not images of images" in page.text


async def test_with_several_image_tables_one_has_to_be_named(embed, folder: Path) -> None:
    embed(folder)
    datasette = datasette_of(embed(folder, table="more"))
    page = await query_page(datasette, "select 6 as id", ".images")
    assert page.status_code == 400
    assert "_image_table=; this database has &#39;images&#39;, &#39;more&#39;" in page.text
    page = await query_page(datasette, "select 6 as id", ".images", _image_table="more")
    assert re.findall(r'src="/-/image-search/photos/(\w+)/6/', page.text) == ["more"]


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("select path from images", "no column 'id'"),
        ("select image_search('sports car', 3)", "palette does not know 'sports car'"),
        ("select nope", "no such column: nope"),
        ("select id from images where", "incomplete input"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_wrong_is_one_sentence(
    of_colours: Datasette, sql: str, sentence: str
) -> None:
    page = await query_page(of_colours, sql, ".images")
    assert page.status_code == 400
    assert sentence in page.text.replace("&#39;", "'")


async def test_who_may_not_see_the_table_sees_no_grid_of_it(database: Path) -> None:
    rules = {"databases": {"photos": {"tables": {"images": {"allow": {"id": "anna"}}}}}}
    datasette = datasette_of(database, rules=rules)
    for named in ({}, {"_image_table": "images"}, {"_image_table": "nowhere"}):
        page = await query_page(datasette, "select 6 as id", ".images", **named)
        assert page.status_code == 400
        assert "has no image table" in page.text
        assert pictures(page) == []
    assert (
        await query_page(datasette, "select 6 as id", ".images", actor="anna")
    ).status_code == 200
    assert ".images?" not in (await query_page(datasette, "select 6 as id")).text
