"""Films on the pages: the thumbnail of the best scene, its time, and the film itself, played from there."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from datasette.app import Datasette
from PIL import Image

from datasette_image_search.web.media.originals import is_played, shown_type

from .commands import change, command, query
from .conftest import draw_picture
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
    assert is_played(type) == (name != "a.avi")


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "mpeg4"), ("a.mts", "libx264")])
async def test_a_film_that_browsers_do_not_play_is_a_frame_and_a_download(
    tmp_path: Path, name: str, codec: str
) -> None:
    film = draw_film(tmp_path / "films" / name, [("red", 1)], codec)
    path = tmp_path / "photos.db"
    assert command("embed-images", path, "images", film, "--model", "palette").exit_code == 0
    datasette = datasette_of(path, plugin={"roots": [str(film.parent)]})
    page = (await ask(datasette, f"{TABLE}/1")).text
    assert "<video" not in page
    assert f'<img src="{TABLE}/1/preview"' in page
    assert "browsers do not play films of this kind" in page
    saved = await ask(datasette, f"{TABLE}/1/image?_dl=1")
    assert saved.content == film.read_bytes()


# --- Pairs -----------------------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A JPEG with a film and a RAW beside it, and a film that is not of it."""
    folder = tmp_path / "pair"
    draw_picture(folder / "1.jpg", "red")
    draw_film(folder / "1.mov", [("red", 1)])
    (folder / "1.cr3").write_bytes(b"\0\0\0\x18ftypcrx " + bytes(50))
    draw_film(folder / "other.mov", [("green", 1)])
    for file in folder.iterdir():
        os.utime(file, (1_600_000_000, 1_600_000_000))
    run = ("embed-images", tmp_path / "photos.db", "images", folder, "--model", "palette")
    assert command(*run).exit_code == 0
    return folder


async def test_the_film_of_a_live_photo_is_played_and_its_raw_saved(
    tmp_path: Path, pair: Path
) -> None:
    datasette = datasette_of(tmp_path / "photos.db", plugin={"roots": [str(pair)]})
    page = (await ask(datasette, f"{TABLE}/1")).text
    assert re.findall(r"<summary>(.*?)</summary>", page) == ["Play 1.mov"]
    (film,) = re.findall(r'<video src="([^"]*)" controls', page)
    played = await ask(datasette, unescape(film))
    assert played.headers["content-type"] == "video/mp4"
    assert played.content == (pair / "1.mov").read_bytes()
    links = re.findall(r'<a href="([^"]*)">Download (.*?)</a>', page)
    assert [name for _, name in links] == ["1.cr3", "1.mov"]
    for url, name in links:
        saved = await ask(datasette, unescape(url))
        assert saved.content == (pair / name).read_bytes()
        assert saved.headers["content-disposition"] == f"attachment; filename*=UTF-8''{name}"


@pytest.mark.parametrize("name", ["other.mov", "../pair/1.mov", "1.jpg", "", "nothing.mov"])
async def test_a_file_that_the_row_does_not_name_is_not_opened(
    tmp_path: Path, pair: Path, name: str
) -> None:
    datasette = datasette_of(tmp_path / "photos.db", plugin={"roots": [str(pair)]})
    for doing in ("", "&_dl=1"):
        answer = await ask(datasette, f"{TABLE}/1/image?_companion={name}{doing}")
        assert answer.status_code == 404


async def test_a_companion_is_opened_below_the_roots_only(tmp_path: Path, pair: Path) -> None:
    """Whatever the row names; and without roots none is shown."""
    draw_film(tmp_path / "secret" / "a.mov", [("red", 1)])
    (pair / "no film.mov").write_bytes(b"root:x:0:0")
    names = ["../secret/a.mov", str(tmp_path / "secret" / "a.mov"), "gone.mov", "no film.mov"]
    written = json.dumps(names)
    change(tmp_path / "photos.db", f"update images set companions = '{written}' where id = 1")
    datasette = datasette_of(tmp_path / "photos.db", plugin={"roots": [str(pair)]})
    page = (await ask(datasette, f"{TABLE}/1")).text
    assert "<summary>Play" not in page
    for name in names:
        for doing in ("", "&_dl=1"):
            answer = await ask(datasette, f"{TABLE}/1/image?_companion={name}{doing}")
            assert answer.status_code == 404
    change(tmp_path / "photos.db", """update images set companions = '["1.mov"]' where id = 1""")
    closed = datasette_of(tmp_path / "photos.db")
    page = (await ask(closed, f"{TABLE}/1")).text
    assert "1.mov" in page
    assert "Play 1.mov" not in page
    assert "_companion" not in page
    assert (await ask(closed, f"{TABLE}/1/image?_companion=1.mov")).status_code == 404


async def test_who_may_not_see_the_table_sees_no_companion(tmp_path: Path, pair: Path) -> None:
    rules = {"databases": {"photos": {"tables": {"images": {"allow": {"id": "anna"}}}}}}
    datasette = datasette_of(tmp_path / "photos.db", rules=rules, plugin={"roots": [str(pair)]})
    url = f"{TABLE}/1/image?_companion=1.mov"
    assert (await ask(datasette, url)).status_code == 404
    assert (await ask(datasette, url, actor="anna")).status_code == 200


# --- Photos and films ------------------------------------------------------------------------------


async def test_photos_and_films_are_a_facet_without_configuration(
    tmp_path: Path, pair: Path
) -> None:
    """By links, one instead of the other; and a chip says so."""
    draw_picture(pair / "2.jpg", "blue")
    path = tmp_path / "photos.db"
    assert command("embed-images", path, "images", pair).exit_code == 0
    datasette = datasette_of(path)

    async def kinds(url: str) -> dict[str, tuple[str, str]]:
        """Kind -> its count and the URL of its link."""
        page = (await ask(datasette, url)).text
        box = page.partition(">Kind")[2].partition("</ul>")[0]
        links = re.findall(
            r'href="([^"]*)"[^>]*>(?:<[^>]*>)*(photos|films)\b.*?(\d+)</', box, re.DOTALL
        )
        return {kind: (count, unescape(url)) for url, kind, count in links}

    first = await kinds(TABLE)
    assert {kind: count for kind, (count, _) in first.items()} == {"photos": "2", "films": "1"}
    films = first["films"][1]
    assert parse_qsl(urlsplit(films).query)[0][0] == "format__in"
    shown = (await ask(datasette, films)).text
    assert "other.mov" in shown
    assert "1.jpg" not in shown
    assert 'aria-label="Remove the filter films"' in shown
    photos = (await kinds(films))["photos"][1]
    assert [name for name, _ in parse_qsl(urlsplit(photos).query)] == ["format__notin"]
    shown = (await ask(datasette, photos)).text
    assert "1.jpg" in shown
    assert "other.mov" not in shown
    rows = await ask(datasette, f"/photos/images.json?{urlsplit(films).query}&_shape=array")
    assert [row["path"] for row in rows.json()] == ["other.mov"]


async def test_films_alone_or_photos_alone_have_no_such_facet(
    datasette: Datasette, database: Path
) -> None:
    assert ">Kind" not in (await ask(datasette, TABLE)).text
    assert ">Kind" not in (await ask(datasette_of(database), TABLE)).text
