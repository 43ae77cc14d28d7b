"""Films on the pages: the thumbnail of the best scene, its time, and the film itself, played from there."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from datasette.app import Datasette
from PIL import Image

from datasette_image_search.web.media.originals import shown_type

from .commands import command, query
from .drawn_films import draw_film
from .serving import ask, datasette_of, get

TABLE = "/-/image-search/photos/images"

pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return draw_film(tmp_path / "films" / "a.mp4", [("red", 2), ("green", 1.5), ("blue", 2.5)])


@pytest.fixture
def datasette(film: Path, tmp_path: Path) -> Datasette:
    path = tmp_path / "photos.db"
    run = ("embed-images", path, "images", film.parent, "--model", "palette")
    assert command(*run).exit_code == 0
    return datasette_of(path, plugin={"roots": [str(film.parent)]})


async def test_the_json_has_the_second_and_the_thumbnail_of_the_scene(
    datasette: Datasette, tmp_path: Path
) -> None:
    (hit,) = (await get(datasette, f"{TABLE}.json", q="green")).json()["hits"]
    assert 2 <= hit["at"] < 3.5
    thumbnail = await ask(datasette, hit["thumbnail"].removeprefix("http://localhost"))
    sql = "select webp from _images_scenes where at = ?"
    assert [(thumbnail.content,)] == query(tmp_path / "photos.db", sql, [hit["at"]])
    assert "immutable" in thumbnail.headers["cache-control"]
    ((first,),) = query(tmp_path / "photos.db", "select webp from _images_thumbnails")
    for other in ("", "?at=99", "?at=nan", "?at=1e999"):
        assert (await ask(datasette, f"{TABLE}/1/thumbnail{other}")).content == first
    assert first != thumbnail.content


async def test_the_csv_has_the_second(datasette: Datasette) -> None:
    text = (await get(datasette, f"{TABLE}.csv", q="green")).text
    (row,) = csv.DictReader(io.StringIO(text))
    assert 2 <= float(row["at"]) < 3.5


async def test_a_card_tells_the_time_and_where_to_play_from(datasette: Datasette) -> None:
    page = (await get(datasette, TABLE, q="green")).text
    assert 'title="The time of the best scene">0:02</span>' in page
    assert f'data-film="{TABLE}/1/image#t=2.5"' in page
    newest = (await get(datasette, TABLE)).text
    assert f'data-film="{TABLE}/1/image"' in newest
    assert "The time of the best scene" not in newest


async def test_the_page_of_a_film_plays_it(datasette: Datasette) -> None:
    page = (await get(datasette, f"{TABLE}/1")).text
    assert f'<video src="{TABLE}/1/image" poster="{TABLE}/1/thumbnail' in page


async def test_the_preview_of_a_film_is_the_frame_of_its_longest_scene(
    datasette: Datasette,
) -> None:
    preview = await ask(datasette, f"{TABLE}/1/preview")
    assert preview.headers["content-type"] == "image/jpeg"
    red, green, blue = Image.open(io.BytesIO(preview.content)).getpixel((20, 20))
    assert blue > max(red, green)


async def test_the_film_is_served_with_its_type_and_in_ranges(
    datasette: Datasette, film: Path
) -> None:
    whole = await ask(datasette, f"{TABLE}/1/image")
    assert (whole.status_code, whole.headers["content-type"]) == (200, "video/mp4")
    assert whole.content == film.read_bytes()
    part = await ask(datasette, f"{TABLE}/1/image", range="bytes=100-199")
    assert (part.status_code, part.content) == (206, whole.content[100:200])


@pytest.mark.parametrize(("name", "codec", "type"), [
    ("a.webm", "libvpx", "video/webm"),
    ("a.mkv", "libx264", "video/x-matroska"),
    ("a.mov", "libx264", "video/mp4"),
    ("a.avi", "mpeg4", "video/x-msvideo"),
])  # fmt: skip
async def test_the_type_is_told_by_the_first_bytes(
    tmp_path: Path, name: str, codec: str, type: str
) -> None:
    film = draw_film(tmp_path / name, [("red", 0.2)], codec)
    assert shown_type(film.read_bytes()[:64]) == type
