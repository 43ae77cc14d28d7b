"""The search page."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from datasette.app import Datasette
from datasette.utils import tilde_encode
from PIL import ExifTags, Image

from .conftest import draw_picture, query_json

PAGE = "/-/image-search/photos/images"
pytestmark = pytest.mark.asyncio


async def get(
    datasette: Datasette, path: str, actor: str | None = None, **headers
) -> httpx.Response:
    cookies = {}
    if actor is not None:
        cookies["ds_actor"] = datasette.sign({"a": {"id": actor}}, "actor")
    return await datasette.client.get(path, cookies=cookies, headers=headers)


def names(response: httpx.Response) -> list[str]:
    """The file names on a page, in its order."""
    return re.findall(r'<img [^>]*alt="([^"]*)"', response.text)


async def test_the_best_match_comes_first(database: Path) -> None:
    response = await get(Datasette([str(database)]), f"{PAGE}?q=red")
    assert response.status_code == 200
    assert names(response)[0] == "red.jpg"
    assert len(names(response)) == 8
    assert re.search(r"closest to\s+<strong>red</strong>", response.text)


async def test_the_scores_are_those_of_sql(database: Path) -> None:
    datasette = Datasette([str(database)])
    page = await get(datasette, f"{PAGE}?q=dark+blue")
    shown = [float(score) for score in re.findall(r'similarity">(-?[\d.]+)<', page.text)]
    sql = "select round(value ->> 'score', 3) from json_each(image_search('dark blue', 60))"
    assert shown == await query_json(datasette, sql, "arrayfirst")


async def test_every_picture_links_to_its_row_and_to_more_like_it(database: Path) -> None:
    datasette = Datasette([str(database)])
    page = await get(datasette, f"{PAGE}?q=red")
    assert (await get(datasette, "/photos/images/6")).status_code == 200
    assert 'href="/photos/images/6"' in page.text
    similar = re.search(r'class="image-search-similar" href="([^"]*)"', page.text)[1]
    assert similar == f"{PAGE}?q=%236"
    assert names(await get(datasette, similar))[0] == "red.jpg"


async def test_no_query_shows_the_newest(tmp_path: Path, embed) -> None:
    for name, year in (("old", 2019), ("new", 2023)):
        exif = Image.Exif()
        exif[ExifTags.Base.DateTime] = f"{year}:01:01 12:00:00"
        draw_picture(tmp_path / "dated" / f"{name}.jpg", "red", exif=exif)
    draw_picture(tmp_path / "dated" / "undated.jpg", "red")
    response = await get(Datasette([str(embed(tmp_path / "dated"))]), PAGE)
    assert names(response) == ["new.jpg", "old.jpg", "undated.jpg"]


async def test_what_is_wrong_with_a_query_is_said_on_the_page(database: Path) -> None:
    response = await get(Datasette([str(database)]), f"{PAGE}?q=sports+car")
    assert response.status_code == 400
    assert "palette does not know &#39;sports car&#39;" in response.text
    assert names(response) == []


async def test_what_was_not_understood_is_said_above_the_hits(database: Path) -> None:
    response = await get(Datasette([str(database)]), f"{PAGE}?q=red+sports+car")
    assert response.status_code == 200
    assert "palette does not know &#39;sports car&#39;" in response.text
    assert names(response)[0] == "red.jpg"


async def test_a_query_is_text_and_never_markup(database: Path) -> None:
    response = await get(Datasette([str(database)]), f"{PAGE}?q=red+%3Cscript%3Ealert(1)")
    assert "<script>alert" not in response.text
    assert "&lt;script&gt;alert" in response.text


@pytest.mark.parametrize("table", ['my "photos" of \'21', "bilder für/alle", "a~b%20c.d"])
async def test_any_table_and_file_name(tmp_path: Path, embed, table: str) -> None:
    draw_picture(tmp_path / "x" / 'Zoë\'s <b> & "co".png', "red")
    datasette = Datasette([str(embed(tmp_path / "x", table=table))])
    path = f"/-/image-search/photos/{tilde_encode(table)}"
    response = await get(datasette, f"{path}?q=red")
    assert names(response) == ["Zoë&#39;s &lt;b&gt; &amp; &#34;co&#34;.png"]
    picture = re.search(r'<img src="([^"]*)"', response.text)[1]
    assert (await get(datasette, picture)).headers["content-type"] == "image/webp"
    row = re.search(r'class="image-search-picture" href="([^"]*)"', response.text)[1]
    assert (await get(datasette, row)).status_code == 200


async def test_a_base_url_is_kept_in_every_link(database: Path) -> None:
    datasette = Datasette([str(database)], settings={"base_url": "/prefix/"})
    response = await get(datasette, f"{PAGE}?q=red")
    links = re.findall(r'(?:href|src|action)="(/[^"]*)"', response.text)
    assert len(links) > 8
    assert [link for link in links if not link.startswith("/prefix/")] == []
