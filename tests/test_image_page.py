"""The page of an image, as a server answers it."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from io import BytesIO
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from datasette.app import Datasette
from PIL import Image
from sqlite_utils import Database

from .commands import change, command
from .conftest import draw_picture
from .reading_names import write_in_picture
from .serving import ask, datasette_of

pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]

PAGE = "/-/image-search/photos/images"


def link(response: httpx.Response, rel: str) -> str | None:
    found = re.search(rf'<a rel="{rel}" href="([^"]*)"', response.text)
    return unescape(found[1]) if found else None


def facts(response: httpx.Response) -> dict[str, str]:
    rows = re.findall(r"<dt>(.*?)</dt>\s*<dd>(.*?)</dd>", response.text, re.DOTALL)
    return {unescape(label): unescape(re.sub("<[^>]*>", "", text)) for label, text in rows}


def alike(response: httpx.Response) -> list[str]:
    """The names of the pictures in the strip."""
    strip = response.text.partition("image-search-grid")[2]
    return re.findall(r'<img [^>]*alt="([^"]*)"', strip)


async def test_the_picture_what_is_known_of_it_and_the_most_alike(
    database: Path, folder: Path
) -> None:
    Database(database)["images"].update(6, {"camera_model": "X <1>", "taken_at": "2021-05"})
    page = await ask(datasette_of(database, plugin={"roots": [str(folder)]}), f"{PAGE}/6")
    assert page.status_code == 200
    assert "<h1>red.jpg</h1>" in page.text
    assert f'<img src="{PAGE}/6/preview" alt="red.jpg" width="80" height="60"' in page.text
    size = f"{(folder / 'red.jpg').stat().st_size} B"
    assert facts(page) == {
        "Taken": "May 2021",
        "Camera": "X <1>",
        "Picture": f"JPEG, 80 \u00d7 60, {size}",
    }
    assert f'href="{PAGE}?camera_model=X+%3C1%3E"' in page.text
    assert 'href="/photos/images/6"' in page.text
    assert len(alike(page)) == 7
    assert "red.jpg" not in alike(page)


@pytest.mark.asyncio(loop_scope="module")
async def test_the_most_alike_are_of_all_images_whatever_was_searched_for(
    of_colours: Datasette,
) -> None:
    searched = "q=blue&_by=text&id=6&_matches_only=1&_min_score=0.9&_sort=filename&_limit=1"
    page = await ask(of_colours, f"{PAGE}/6?{searched}&_position=1")
    assert len(alike(page)) == 7
    assert alike(page)[0] in ("orange.jpg", "purple.jpg")


@pytest.mark.asyncio(loop_scope="module")
async def test_without_roots_it_is_the_thumbnail_and_says_so(of_colours: Datasette) -> None:
    page = await ask(of_colours, f"{PAGE}/6")
    assert re.search(rf'<img src="{PAGE}/6/thumbnail\?v=[0-9a-f]+" alt="red.jpg"', page.text)
    assert "the configuration of this server names no folder with originals" in page.text
    assert "Download" not in page.text


async def test_what_is_written_in_the_picture_is_shown_where_it_is(database: Path) -> None:
    datasette = datasette_of(database)
    assert "<rect" not in (await ask(datasette, f"{PAGE}/6")).text
    write_in_picture(database, 6, "No <entry>", "2 MB")
    page = await ask(datasette, f"{PAGE}/6")
    assert 'viewBox="0 0 80 60"' in page.text
    box = '<rect x="20.0" y="15.0" width="40.0" height="15.0"><title>'
    assert re.findall(f"{box}(.*)</title>", page.text) == ["No &lt;entry&gt;", "2 MB"]
    assert facts(page)["Text"] == "No <entry> \u00b7 2 MB"
    change(database, "update images set width = null")
    page = await ask(datasette, f"{PAGE}/6")
    assert "<rect" not in page.text
    assert facts(page)["Text"] == "No <entry> \u00b7 2 MB"


async def test_who_may_not_see_the_table_of_lines_sees_none_over_the_picture(
    database: Path,
) -> None:
    write_in_picture(database, 6, "secret")
    private = {"databases": {"photos": {"tables": {"images_text": {"allow": {"id": "anna"}}}}}}
    datasette = datasette_of(database, rules=private)
    assert "secret" not in (await ask(datasette, f"{PAGE}/6")).text
    assert "secret" in (await ask(datasette, f"{PAGE}/6", "anna")).text


@pytest.mark.parametrize(
    ("column", "value"),
    [("box", "'[0, 0, 1]'"), ("box", "'[0, 0, 9, 1]'"), ("box", "x'00'"), ("text", "x'00'")],
)
async def test_what_is_no_line_is_not_shown(database: Path, column: str, value: str) -> None:
    write_in_picture(database, 6, "fine", "wrong")
    change(database, f"update images_text set {column} = {value} where text = 'wrong'")
    page = await ask(datasette_of(database), f"{PAGE}/6")
    assert facts(page)["Text"] == "fine"


@pytest.mark.parametrize("where", ["gone", "elsewhere"])
async def test_an_original_that_is_away_is_told_and_the_thumbnail_shown(
    database: Path, folder: Path, tmp_path: Path, where: str
) -> None:
    (folder / "red.jpg").rename(tmp_path / "red.jpg")
    roots = [str(folder if where == "gone" else tmp_path / "other")]
    page = await ask(datasette_of(database, plugin={"roots": roots}), f"{PAGE}/6")
    assert f'<img src="{PAGE}/6/thumbnail' in page.text
    assert "the original cannot be opened here" in page.text
    assert "Download" not in page.text


async def test_a_download_is_the_file_itself_whatever_browsers_show(
    tmp_path: Path, embed: Callable[..., Path]
) -> None:
    draw_picture(tmp_path / "x" / "a b\u00fc.tiff", "red")
    draw_picture(tmp_path / "x" / "c.jpg", "red")
    (tmp_path / "x" / "d.png").write_bytes(b"no picture" * 20)
    datasette = datasette_of(embed(tmp_path / "x"), plugin={"roots": [str(tmp_path / "x")]})
    page = await ask(datasette, f"{PAGE}/1")
    assert ">Original as a JPEG</a>" in page.text
    saved = await ask(datasette, f"{PAGE}/1/image?_dl=1")
    assert saved.content == (tmp_path / "x" / "a b\u00fc.tiff").read_bytes()
    assert saved.headers["content-disposition"] == "attachment; filename*=UTF-8''a%20b%C3%BC.tiff"
    assert ">Original</a>" in (await ask(datasette, f"{PAGE}/2")).text
    assert (await ask(datasette, f"{PAGE}/2/image?_dl=1")).content[:3] == b"\xff\xd8\xff"
    (tmp_path / "x" / "c.jpg").write_bytes(b"root:x:0:0")
    assert (await ask(datasette, f"{PAGE}/2/image?_dl=1")).status_code == 404


@pytest.mark.asyncio(loop_scope="module")
async def test_the_way_back_is_to_the_page_with_the_image(of_colours: Datasette) -> None:
    page = await ask(of_colours, f"{PAGE}/3?_size=2&_sort=filename&_position=6")
    back = unescape(re.search(r'<a href="([^"]*)">&#x2190; ', page.text)[1])
    assert parse_qs(urlsplit(back).query) == {"_size": ["2"], "_sort": ["filename"], "_next": ["4"]}


@pytest.mark.asyncio(loop_scope="module")
async def test_a_limit_ends_the_way(of_colours: Datasette) -> None:
    page = await ask(of_colours, f"{PAGE}/5?_sort=filename&_limit=5&_position=5")
    assert link(page, "prev") is not None
    assert link(page, "next") is None


@pytest.mark.asyncio(loop_scope="module")
async def test_the_way_through_a_search(of_colours: Datasette) -> None:
    hits = (await ask(of_colours, f"{PAGE}.json?q=dark+red&id__gt=2")).json()["hits"]
    ids = [hit["id"] for hit in hits]
    url, seen = f"{PAGE}/{ids[0]}?q=dark+red&id__gt=2&_position=1", []
    while url:
        page = await ask(of_colours, url)
        seen.append(int(urlsplit(url).path.rpartition("/")[2]))
        before = link(page, "prev")
        assert (before is None) == (len(seen) == 1)
        url = link(page, "next")
    assert seen == ids
    assert parse_qs(urlsplit(before).query)["_position"] == [str(len(ids) - 1)]
    assert unescape(re.search(r'<a href="([^"]*)">&#x2190; ', page.text)[1]) == (
        f"{PAGE}?q=dark+red&id__gt=2#image-{ids[-1]}"
    )


def place(response: httpx.Response) -> str:
    return re.search(r"<span>(.* of .*|number .*)</span>", response.text)[1]


@pytest.mark.asyncio(loop_scope="module")
async def test_the_place_in_the_search_is_told(of_colours: Datasette) -> None:
    assert place(await ask(of_colours, f"{PAGE}/3?_sort=id&id__gt=1&_position=2")) == "2 of 7"
    assert place(await ask(of_colours, f"{PAGE}/3?_sort=id&_limit=4&_position=3")) == "3 of 4"
    # Weaker matches are left out here, which the filters do not tell.
    assert place(await ask(of_colours, f"{PAGE}/6?q=red&_matches_only=1&_position=1")) == "number 1"


async def test_without_a_search_the_neighbours_are_by_date(database: Path) -> None:
    for id, taken_at in ((2, "2020-01-01"), (5, "2021-05"), (6, "2021-05"), (7, "2022")):
        change(database, f"update images set taken_at = '{taken_at}' where id = {id}")
    datasette = datasette_of(database)
    seen, url = [], f"{PAGE}/7"
    while url:
        page = await ask(datasette, url)
        seen.append(int(url.rpartition("/")[2]))
        before = link(page, "prev")
        assert before == (f"{PAGE}/{seen[-2]}" if len(seen) > 1 else None)
        url = link(page, "next")
    assert seen == [7, 6, 5, 2]
    undated = await ask(datasette, f"{PAGE}/1")
    assert (link(undated, "prev"), link(undated, "next")) == (None, None)


async def test_neighbours_are_those_of_the_search_as_it_is_now(database: Path) -> None:
    datasette = datasette_of(database)
    ids = [hit["id"] for hit in (await ask(datasette, f"{PAGE}.json?q=red")).json()["hits"]]
    Database(database)["images"].delete(ids[1])
    moved = await ask(datasette, f"{PAGE}/{ids[2]}?q=red&_position=3")
    assert urlsplit(link(moved, "prev")).path == f"{PAGE}/{ids[0]}"
    elsewhere = await ask(datasette, f"{PAGE}/{ids[0]}?q=red&_position=6")
    assert (link(elsewhere, "prev"), link(elsewhere, "next")) == (None, None)


@pytest.mark.asyncio(loop_scope="module")
async def test_an_order_and_limits_are_those_of_the_search(of_colours: Datasette) -> None:
    page = await ask(of_colours, f"{PAGE}/3?_sort_desc=filename&_position=6")
    assert urlsplit(link(page, "prev")).path == f"{PAGE}/4"
    page = await ask(of_colours, f"{PAGE}/6?q=red&_min_relevance=0.95&_position=1")
    assert link(page, "next") is None


@pytest.mark.parametrize("key", ["map", "upload", "a/b", "c d.jpg", "~6D", "ü", "x.json"])
async def test_any_key_has_a_page(tmp_path: Path, key: str) -> None:
    picture = BytesIO()
    Image.new("RGB", (40, 30), "red").save(picture, "PNG")
    db = Database(tmp_path / "photos.db")
    db["own"].insert({"name": key, "content": picture.getvalue(), "note": "mine"}, pk="name")
    run = ("embed-images", tmp_path / "photos.db", "own", "--content-column", "content")
    assert command(*run, "--model", "palette").exit_code == 0
    datasette = datasette_of(tmp_path / "photos.db")
    found = await ask(datasette, "/-/image-search/photos/own?q=red")
    url = unescape(re.search(r'class="image-search-picture" href="([^"]*)"', found.text)[1])
    page = await ask(datasette, url)
    assert page.status_code == 200
    assert facts(page) == {"note": "mine"}
    preview = re.search(r'<img src="([^"]*/preview)"', page.text)[1]
    assert (await ask(datasette, preview)).content == picture.getvalue()


@pytest.mark.parametrize("id", ["99", "x", "-1", "1.5"])
@pytest.mark.asyncio(loop_scope="module")
async def test_no_image_is_a_404(of_colours: Datasette, id: str) -> None:
    page = await ask(of_colours, f"{PAGE}/{id}")
    assert page.status_code == 404
    assert "There is no image " in page.text
    assert f'<a href="{PAGE}">All images</a>' in page.text


async def test_nobody_sees_what_they_may_not(database: Path) -> None:
    rules = {"databases": {"photos": {"tables": {"images": {"allow": {"id": "anna"}}}}}}
    datasette = datasette_of(database, rules=rules)
    for path in (f"{PAGE}/6", f"{PAGE}/6/preview"):
        assert (await ask(datasette, path)).status_code == 404
    assert (await ask(datasette, f"{PAGE}/6", actor="anna")).status_code == 200


@pytest.mark.asyncio(loop_scope="module")
async def test_a_query_that_cannot_be_read_is_a_sentence_beside_the_picture(
    of_colours: Datasette,
) -> None:
    page = await ask(of_colours, f"{PAGE}/6?q=red&colour=blue&_position=1")
    assert page.status_code == 400
    assert "&#39;images&#39; has no column &#39;colour&#39; to filter by" in page.text
    assert "<h1>red.jpg</h1>" in page.text


async def test_an_image_of_a_view_is_shown_if_it_is_in_the_view(database: Path) -> None:
    db = Database(database)
    db.create_view("warm", "select * from images where filename in ('red.jpg', 'orange.jpg')")
    datasette = datasette_of(database)
    page = await ask(datasette, "/-/image-search/photos/warm/6?q=red&_position=1")
    assert page.status_code == 200
    assert urlsplit(link(page, "next")).path == "/-/image-search/photos/warm/4"
    assert alike(page) == ["orange.jpg"]
    assert (await ask(datasette, "/-/image-search/photos/warm/2")).status_code == 404


async def test_a_large_original_has_a_preview_of_the_size_of_a_screen(
    tmp_path: Path, embed: Callable[..., Path]
) -> None:
    draw_picture(tmp_path / "large" / "red.tiff", "red", (3000, 2000))
    database = embed(tmp_path / "large")
    datasette = datasette_of(database, plugin={"roots": [str(tmp_path / "large")]})
    first = await ask(datasette, f"{PAGE}/1/preview")
    assert first.headers["content-type"] == "image/jpeg"
    assert Image.open(BytesIO(first.content)).size == (1600, 1067)
    again = await datasette.client.get(
        f"{PAGE}/1/preview", headers={"if-none-match": first.headers["etag"]}
    )
    assert again.status_code == 304
    draw_picture(tmp_path / "large" / "red.tiff", "blue", (300, 200))
    assert Image.open(BytesIO((await ask(datasette, f"{PAGE}/1/preview")).content)).size == (
        300,
        200,
    )
