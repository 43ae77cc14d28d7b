"""Thumbnails and originals: what is shown, and all that tries to get more than that."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import re
import socket
import threading
from contextlib import suppress
from html import unescape
from pathlib import Path

import httpx
import pytest
from datasette.app import Datasette
from datasette.utils import tilde_encode
from datasette.utils.asgi import Request
from PIL import Image
from sqlite_utils import Database

from datasette_image_search.decoding import decode
from datasette_image_search.decoding.decoding_process import DecodingProcess, Limits
from datasette_image_search.ingest.pipeline import EmbedRequest, embed_images
from datasette_image_search.store.contents import copy_content
from datasette_image_search.web.media import making, originals, pictures
from datasette_image_search.web.media.originals import open_below, shown_type

from .conftest import draw_picture
from .serving import HANGS, PLUGIN, ask, datasette_of, served
from .tiny_dng import tiny_dng

TABLE = "/-/image-search/photos/images"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HTML = b"<!doctype html><script>alert(1)</script>"

pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]


@pytest.fixture
def open_datasette(database: Path, folder: Path) -> Datasette:
    """Serves `database`, whose originals may be opened."""
    return datasette_of(database, plugin={"roots": [str(folder)]})


def rename(database: Path, path: str, image_id: int = 6) -> None:
    """What somebody does who can write to the database."""
    Database(database)["images"].update(image_id, {"path": path})


# --- Thumbnails ------------------------------------------------------------------------------------


async def test_a_thumbnail_is_the_stored_picture(database: Path) -> None:
    response = await ask(datasette_of(database), f"{TABLE}/6/thumbnail")
    assert response.status_code == 200
    assert response.content == Database(database)["_images_thumbnails"].get(6)["webp"]
    assert response.headers["content-type"] == "image/webp"
    assert response.headers["content-length"] == str(len(response.content))
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in response.headers["content-security-policy"]


async def test_a_screen_with_small_pixels_gets_a_large_thumbnail_or_the_small_one(
    tmp_path: Path, embed
) -> None:
    folder = tmp_path / "x"
    for name in ("wide.jpg", "wide.png"):
        draw_picture(folder / name, "red", (1000, 500))
    draw_picture(folder / "small.jpg", "blue", (320, 240))
    database = embed(folder)
    datasette = datasette_of(database, plugin={"roots": [str(folder)]})
    page = await ask(datasette, TABLE)
    # Those of the wide JPEG alone: others are too small, or take long to read.
    ((small, large),) = re.findall(r'srcset="(\S+) 320w, (\S+) 800w"', unescape(page.text))
    sizes = []
    for url in (small, large):
        response = await ask(datasette, url)
        assert response.headers["content-type"] == "image/webp"
        sizes.append(Image.open(io.BytesIO(response.content)).size)
    assert sizes == [(320, 160), (800, 400)]

    (folder / "wide.jpg").unlink()
    away = await ask(datasette, large)
    assert away.content == (await ask(datasette, small)).content
    assert "immutable" in (await ask(datasette, small)).headers["cache-control"]
    assert "immutable" not in away.headers["cache-control"]
    assert "srcset" not in (await ask(datasette_of(database), TABLE)).text


async def test_a_browser_that_has_the_thumbnail_is_not_sent_it_again(database: Path) -> None:
    datasette = datasette_of(database)
    etag = (await ask(datasette, f"{TABLE}/6/thumbnail")).headers["etag"]
    for known in (etag, f'"other", W/{etag}', "*"):
        again = await ask(datasette, f"{TABLE}/6/thumbnail", if_none_match=known)
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == etag
        assert "public" in again.headers["cache-control"]
    other = await ask(datasette, f"{TABLE}/6/thumbnail", if_none_match='"other"')
    assert other.status_code == 200


async def test_only_what_anybody_may_see_is_for_caches_of_all(database: Path) -> None:
    version = version_of(database)
    for query in ("", f"?v={version}"):
        response = await ask(datasette_of(database), f"{TABLE}/6/thumbnail{query}")
        assert response.headers["cache-control"].startswith("public, ")
    rules = {"databases": {"photos": {"tables": {"images": {"allow": {"id": "anna"}}}}}}
    # Asked for within Datasette, which in its newer versions says no less of all who log in.
    datasette = datasette_of(database, rules=rules)
    await datasette.invoke_startup()
    url_vars = {"database": "photos", "table": "images", "id": "6"}
    request = Request.fake(f"{TABLE}/6/thumbnail?v={version}", url_vars=url_vars)
    request.scope = {**request.scope, "actor": {"id": "anna"}, "headers": []}
    response = await pictures.thumbnail(datasette, request)
    assert response.status == 200
    assert response.headers["cache-control"] == "private, no-cache"


def version_of(database: Path) -> str:
    return Database(database)["images"].get(6)["sha256"][:12]


def path_of(hit: dict) -> str:
    return hit["thumbnail"].removeprefix("http://localhost")


LASTING = "public, max-age=31536000, immutable"
FOR_NOW = "public, max-age=60"


async def test_a_picture_that_was_replaced_has_another_url(database: Path, folder: Path) -> None:
    """And nobody keeps the old one: not under the new URL, and for a minute under any other."""
    datasette = datasette_of(database)
    (before,) = (await ask(datasette, f"{TABLE}.json?q=%236&_size=1")).json()["hits"]
    old = await ask(datasette, path_of(before))
    assert old.headers["cache-control"] == LASTING

    draw_picture(folder / "red.jpg", "blue", (81, 61))
    embed_images(EmbedRequest(database, "images", (folder,)))
    (after,) = (await ask(datasette, f"{TABLE}.json?q=%236&_size=1")).json()["hits"]
    assert after["id"] == before["id"] == 6
    assert after["thumbnail"] != before["thumbnail"]
    now = await ask(datasette, path_of(after))
    assert now.headers["cache-control"] == LASTING
    assert now.content != old.content
    for url in (path_of(before), f"{TABLE}/6/thumbnail", f"{TABLE}/6/thumbnail?v="):
        answer = await ask(datasette, url)
        assert answer.content == now.content
        assert answer.headers["cache-control"] == FOR_NOW
        again = await ask(datasette, url, if_none_match=answer.headers["etag"])
        assert (again.status_code, again.headers["cache-control"]) == (304, FOR_NOW)


@pytest.mark.parametrize("length", [1, 11, 13, 64])
async def test_only_the_whole_version_is_one(database: Path, length: int) -> None:
    sha256 = Database(database)["images"].get(6)["sha256"]
    response = await ask(datasette_of(database), f"{TABLE}/6/thumbnail?v={sha256[:length]}")
    assert response.headers["cache-control"] == FOR_NOW


async def test_all_pages_have_the_urls_that_last(database: Path) -> None:
    datasette = datasette_of(database)
    path = f"{TABLE}/6/thumbnail?v={version_of(database)}"
    pages = (
        f"{TABLE}?q=%236", f"{TABLE}", "/photos/images", "/photos/images/6", "/photos/images.images",
        f"{TABLE}.json",
    )  # fmt: skip
    for page in pages:
        assert path in (await ask(datasette, page)).text, page
    images = (await ask(datasette, f"{TABLE}/map.json")).json()["images"]
    assert images["version"][images["id"].index(6)] == version_of(database)


async def test_what_is_made_of_the_original_is_not_kept_for_long(
    database: Path, open_datasette: Datasette
) -> None:
    Database(database)["_images_thumbnails"].delete_where()
    for path in (f"thumbnail?v={version_of(database)}", "image"):
        response = await ask(open_datasette, f"{TABLE}/6/{path}")
        assert response.headers["cache-control"] == FOR_NOW


async def test_the_version_of_a_blob_is_of_what_was_embedded(tmp_path: Path) -> None:
    database, red = embedded_blob(tmp_path)
    datasette = datasette_of(database)
    (hit,) = (await ask(datasette, f"{TABLE}.json")).json()["hits"]
    assert hit["thumbnail"].endswith(f"?v={hashlib.sha256(red).hexdigest()[:12]}")
    assert (await ask(datasette, path_of(hit))).headers["cache-control"] == LASTING
    Database(database)["images"].update(1, {"content": draw_picture(tmp_path / "b.png", "blue").read_bytes()})  # fmt: skip
    assert (await ask(datasette, path_of(hit))).headers["cache-control"] == FOR_NOW


@pytest.mark.parametrize("id", ["99", "abc", "6.0", "..~2F6", "1~20or~201", "9" * 30, "~00", "-6"])
@pytest.mark.parametrize("kind", ["thumbnail", "image"])
async def test_no_such_picture(open_datasette: Datasette, kind: str, id: str) -> None:
    assert (await ask(open_datasette, f"{TABLE}/{id}/{kind}")).status_code == 404


@pytest.mark.parametrize("format", ["WEBP", "JPEG"])
async def test_a_stored_thumbnail_is_served_as_what_it_is(database: Path, format: str) -> None:
    """Older versions stored WebP of photos too."""
    buffer = io.BytesIO()
    Image.new("RGB", (80, 60), "red").save(buffer, format, quality=75)
    Database(database)["_images_thumbnails"].update(6, {"webp": buffer.getvalue()})
    response = await ask(datasette_of(database), f"{TABLE}/6/thumbnail")
    assert response.content == buffer.getvalue()
    assert response.headers["content-type"] == f"image/{format.lower()}"


@pytest.mark.parametrize("other", [HTML, SVG, b"", b"RIFF", "text", 7, None])
async def test_a_thumbnail_that_is_no_picture_is_not_served(database: Path, other: object) -> None:
    """The table is one that others can write to."""
    db = Database(database)
    db.execute("drop table _images_thumbnails")
    sha256 = db["images"].get(6)["sha256"]
    row = {"image_id": 6, "sha256": sha256, "webp": other}
    db["_images_thumbnails"].insert(row, pk="image_id")
    assert (await ask(datasette_of(database), f"{TABLE}/6/thumbnail")).status_code == 404


async def test_a_thumbnail_that_was_not_stored_is_made(
    database: Path, open_datasette: Datasette
) -> None:
    Database(database)["_images_thumbnails"].delete_where()
    response = await ask(open_datasette, f"{TABLE}/6/thumbnail")
    picture = Image.open(io.BytesIO(response.content))
    assert (picture.format, picture.size) == ("WEBP", (80, 60))
    assert picture.convert("RGB").getpixel((2, 2))[0] > 240
    again = await ask(
        open_datasette, f"{TABLE}/6/thumbnail", if_none_match=response.headers["etag"]
    )
    assert again.status_code == 304
    without_root = await ask(datasette_of(database), f"{TABLE}/6/thumbnail")
    assert without_root.status_code == 404


# --- Originals -------------------------------------------------------------------------------------


async def test_an_original_is_the_file(open_datasette: Datasette, folder: Path) -> None:
    response = await ask(open_datasette, f"{TABLE}/6/image")
    assert response.status_code == 200
    assert response.content == (folder / "red.jpg").read_bytes()
    assert response.headers["content-type"] == "image/jpeg"
    assert response.headers["content-length"] == str(len(response.content))
    assert response.headers["x-content-type-options"] == "nosniff"
    policy = response.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "sandbox"} <= set(policy)
    assert "script" not in response.headers["content-security-policy"]
    assert "public" in response.headers["cache-control"]


async def test_an_original_that_changed_has_another_etag(
    open_datasette: Datasette, folder: Path
) -> None:
    etag = (await ask(open_datasette, f"{TABLE}/6/image")).headers["etag"]
    assert (await ask(open_datasette, f"{TABLE}/6/image", if_none_match=etag)).status_code == 304
    draw_picture(folder / "red.jpg", "blue", (90, 90))
    response = await ask(open_datasette, f"{TABLE}/6/image", if_none_match=etag)
    assert response.status_code == 200
    assert response.content == (folder / "red.jpg").read_bytes()


async def test_without_a_root_there_are_no_originals(database: Path) -> None:
    assert (await ask(datasette_of(database), f"{TABLE}/6/image")).status_code == 404


@pytest.mark.parametrize("path", [f"{TABLE}/6/image", f"{TABLE}/6/thumbnail"])
async def test_head_has_the_headers_and_no_body(open_datasette: Datasette, path: str) -> None:
    got = await ask(open_datasette, path)
    head = await ask(open_datasette, path, method="HEAD")
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-type", "content-length", "etag", "cache-control"):
        assert head.headers[name] == got.headers[name]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("kind", ["thumbnail", "image"])
async def test_pictures_can_only_be_looked_at(
    open_datasette: Datasette, kind: str, method: str
) -> None:
    response = await ask(open_datasette, f"{TABLE}/6/{kind}", method=method)
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=10-", 10, None),
        ("bytes=-7", -7, None),
        ("bytes=5-5", 5, 6),
        ("bytes=3-999999999", 3, None),
        ("bytes=-999999999", 0, None),
    ],
)
async def test_a_range(
    open_datasette: Datasette, folder: Path, asked: str, start: int, stop: int | None
) -> None:
    data = (folder / "red.jpg").read_bytes()
    response = await ask(open_datasette, f"{TABLE}/6/image", range=asked)
    assert response.status_code == 206
    assert response.content == data[start:stop]
    first = start % len(data)
    said = f"bytes {first}-{first + len(response.content) - 1}/{len(data)}"
    assert response.headers["content-range"] == said
    assert response.headers["content-length"] == str(len(response.content))


@pytest.mark.parametrize("asked", ["bytes=999999999-", "bytes=-0", "bytes=999999999-9999999999"])
async def test_a_range_that_is_not_there(
    open_datasette: Datasette, folder: Path, asked: str
) -> None:
    size = (folder / "red.jpg").stat().st_size
    response = await ask(open_datasette, f"{TABLE}/6/image", range=asked)
    assert response.status_code == 416
    assert response.headers["content-range"] == f"bytes */{size}"


@pytest.mark.parametrize(
    "asked",
    ["bytes=-", "bytes=9-3", "bytes=0-1,3-4", "lines=0-9", "bytes=a-b", "bytes=1-" + "9" * 99],
)
async def test_a_range_that_is_not_understood_is_the_whole(
    open_datasette: Datasette, folder: Path, asked: str
) -> None:
    response = await ask(open_datasette, f"{TABLE}/6/image", range=asked)
    assert response.status_code == 200
    assert response.content == (folder / "red.jpg").read_bytes()


async def test_a_range_of_another_version_is_the_whole(open_datasette: Datasette) -> None:
    etag = (await ask(open_datasette, f"{TABLE}/6/image")).headers["etag"]
    same = await ask(open_datasette, f"{TABLE}/6/image", range="bytes=0-9", if_range=etag)
    assert (same.status_code, len(same.content)) == (206, 10)
    for other in ('"other"', "Wed, 21 Oct 2015 07:28:00 GMT", f"W/{etag}"):
        whole = await ask(open_datasette, f"{TABLE}/6/image", range="bytes=0-9", if_range=other)
        assert whole.status_code == 200


@pytest.mark.parametrize("suffix", ["png", "gif", "webp", "bmp", "avif"])
async def test_what_browsers_show_is_sent_as_it_is(tmp_path: Path, embed, suffix: str) -> None:
    file = draw_picture(tmp_path / "x" / f"a.{suffix}", "red")
    datasette = datasette_of(embed(tmp_path / "x"), plugin={"roots": [str(tmp_path)]})
    response = await ask(datasette, f"{TABLE}/1/image")
    assert response.content == file.read_bytes()
    assert response.headers["content-type"] == f"image/{suffix}"


@pytest.mark.parametrize(
    "suffix",
    [
        "tiff",
        "ppm",
        "jp2",
        pytest.param(
            "heic",
            marks=pytest.mark.skipif(not decode.HEIC, reason="pillow-heif is not installed"),
        ),
    ],
)
async def test_what_browsers_do_not_show_becomes_a_jpeg(tmp_path: Path, embed, suffix: str) -> None:
    draw_picture(tmp_path / "x" / f"a.{suffix}", "red", (640, 480))
    datasette = datasette_of(embed(tmp_path / "x"), plugin={"roots": [str(tmp_path)]})
    response = await ask(datasette, f"{TABLE}/1/image")
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/jpeg"
    picture = Image.open(io.BytesIO(response.content))
    assert (picture.format, picture.size) == ("JPEG", (640, 480))
    red, green, blue = picture.getpixel((5, 5))
    assert red > 240
    assert max(green, blue) < 20
    etag = response.headers["etag"]
    assert (await ask(datasette, f"{TABLE}/1/image", if_none_match=etag)).status_code == 304


async def test_a_raw_is_shown_by_its_preview(tmp_path: Path, embed) -> None:
    pytest.importorskip("rawpy")
    preview = draw_picture(tmp_path / "preview.jpg", "red", (1600, 1200)).read_bytes()
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.dng").write_bytes(tiny_dng((96, 72), preview=preview))
    datasette = datasette_of(embed(tmp_path / "x"), plugin={"roots": [str(tmp_path)]})
    response = await ask(datasette, f"{TABLE}/1/image")
    picture = Image.open(io.BytesIO(response.content))
    assert (picture.format, picture.size) == ("JPEG", (1600, 1200))


async def test_an_original_is_turned_upright_when_it_is_converted(tmp_path: Path, embed) -> None:
    exif = Image.Exif()
    exif[274] = 6
    draw_picture(tmp_path / "x" / "a.tiff", "red", (80, 60), exif=exif)
    datasette = datasette_of(embed(tmp_path / "x"), plugin={"roots": [str(tmp_path)]})
    response = await ask(datasette, f"{TABLE}/1/image")
    assert Image.open(io.BytesIO(response.content)).size == (60, 80)


async def test_when_too_many_are_being_made(
    database: Path, open_datasette: Datasette, monkeypatch: pytest.MonkeyPatch
) -> None:
    Database(database)["_images_thumbnails"].delete_where()
    monkeypatch.setattr(making._queue, "_places", NoPlace())
    response = await ask(open_datasette, f"{TABLE}/6/thumbnail")
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0


class NoPlace:
    def acquire(self, blocking: bool) -> bool:
        return False


# --- Configured roots ------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["instance", "database", "table"])
async def test_roots_for_all_or_for_one_table(database: Path, folder: Path, level: str) -> None:
    plugins = {"plugins": {PLUGIN: {"roots": str(folder)}}}
    other = {"plugins": {"another-plugin": {}, PLUGIN: {"max_upload_bytes": 7}}}
    rules = {
        "instance": {**plugins, "databases": {"photos": {**other, "tables": {"images": other}}}},
        "database": {"databases": {"photos": {**plugins, "tables": {"images": other}}}},
        "table": {"databases": {"photos": {"tables": {"images": plugins}}}},
    }[level]
    datasette = datasette_of(database, rules=rules)
    assert (await ask(datasette, f"{TABLE}/6/image")).status_code == 200


async def test_a_table_can_be_left_out(database: Path, folder: Path) -> None:
    none = {"plugins": {PLUGIN: {"roots": []}}}
    rules = {"databases": {"photos": {"tables": {"images": none}}}}
    datasette = datasette_of(database, plugin={"roots": [str(folder)]}, rules=rules)
    assert (await ask(datasette, f"{TABLE}/6/image")).status_code == 404


@pytest.mark.parametrize("roots", [7, {"a": "b"}, [None], ["pictures"]])
async def test_roots_that_make_no_sense_are_told_to_the_owner(
    database: Path, roots: object
) -> None:
    response = await ask(datasette_of(database, plugin={"roots": roots}), f"{TABLE}/6/image")
    assert response.status_code == 500
    assert "roots must be" in response.text


async def test_a_root_may_be_a_link_itself(database: Path, folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder)
    datasette = datasette_of(database, plugin={"roots": [str(tmp_path / "nowhere"), str(link)]})
    assert (await ask(datasette, f"{TABLE}/6/image")).status_code == 200


# --- Ways out --------------------------------------------------------------------------------------


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A picture that is below no configured root."""
    return draw_picture(tmp_path / "secret" / "secret.jpg", "black")


async def assert_refused(datasette: Datasette, image_id: int | str = 6) -> None:
    """The same 404, to the letter, as of a row that is not there; and no thumbnail is made either."""
    response = await ask(datasette, f"{TABLE}/{image_id}/image")
    assert response.status_code == 404
    missing = await ask(datasette, f"{TABLE}/987654/image")
    assert response.text == missing.text.replace("987654", str(image_id))
    Database(datasette.get_database("photos").path)["_images_thumbnails"].delete_where()
    assert (await ask(datasette, f"{TABLE}/{image_id}/thumbnail")).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "../secret/secret.jpg",
        "sub/../../secret/secret.jpg",
        "./../secret/secret.jpg",
        "..\\secret\\secret.jpg",
        "%2e%2e/secret/secret.jpg",
        "~2E~2E/secret/secret.jpg",
        "{secret}",
        "//{secret}",
        "file://{secret}",
        "/etc/passwd",
        "/proc/self/environ",
        "/proc/self/cwd",
        "../secret/secret.jpg\0.jpg",
        "red.jpg\0",
        "\0",
        "",
        ".",
        "..",
        "/",
        "red.jpg/..",
        "a" * 5000,
        "a/" * 3000,
        "~/secret.jpg",
        "$HOME/secret.jpg",
        "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
    ],
)
async def test_a_row_that_points_elsewhere(
    database: Path, folder: Path, secret: Path, open_datasette: Datasette, path: str
) -> None:
    (folder / "sub").mkdir()
    rename(database, path.format(secret=secret) if "{secret}" in path else path)
    await assert_refused(open_datasette)


async def test_paths_that_lead_back_below_the_root(
    database: Path, folder: Path, open_datasette: Datasette
) -> None:
    """The rule is where the file is, not how its path is written."""
    rename(database, f"../{folder.name}/red.jpg")
    assert (await ask(open_datasette, f"{TABLE}/6/image")).status_code == 200


@pytest.mark.parametrize("root", ["/", "/etc", "{secret}", "", "..", "{folder}/../secret", "\0"])
async def test_a_root_that_was_changed_in_the_database(
    database: Path, folder: Path, secret: Path, open_datasette: Datasette, root: str
) -> None:
    roots = Database(database)["image_search_roots"]
    roots.update(1, {"path": root.format(secret=secret.parent, folder=folder)})
    for path in ("passwd", "etc/passwd", "secret.jpg", "secret/secret.jpg"):
        rename(database, path)
        await assert_refused(open_datasette)
    roots.update(1, {"path": str(folder)})
    rename(database, "red.jpg")
    assert (await ask(open_datasette, f"{TABLE}/6/image")).status_code == 200


async def test_a_sibling_whose_name_begins_like_the_root(
    database: Path, folder: Path, open_datasette: Datasette
) -> None:
    draw_picture(folder.with_name(f"{folder.name}-private") / "a.jpg", "black")
    rename(database, f"../{folder.name}-private/a.jpg")
    await assert_refused(open_datasette)


async def test_a_link_out_of_the_root(
    database: Path, folder: Path, secret: Path, open_datasette: Datasette
) -> None:
    (folder / "file.jpg").symlink_to(secret)
    (folder / "linked").symlink_to(secret.parent)
    (folder / "chain.jpg").symlink_to(folder / "linked" / "secret.jpg")
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    (folder / "dangling.jpg").symlink_to(folder / "nothing.jpg")
    for path in ("file.jpg", "linked/secret.jpg", "chain.jpg", "loop.jpg", "dangling.jpg"):
        rename(database, path)
        await assert_refused(open_datasette)


async def test_a_link_below_the_root_is_followed(
    database: Path, folder: Path, open_datasette: Datasette
) -> None:
    (folder / "album").mkdir()
    (folder / "album" / "best.jpg").symlink_to("../red.jpg")
    rename(database, "album/best.jpg")
    assert (await ask(open_datasette, f"{TABLE}/6/image")).status_code == 200


async def test_a_link_that_is_put_there_after_the_look(
    folder: Path, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at a path and its opening, somebody replaces a file, or a folder, by a link."""
    draw_picture(folder / "sub" / "secret.jpg", "red")
    draw_picture(folder / "secret.jpg", "red")
    assert open_below(folder / "sub" / "secret.jpg", [folder]) is not None
    really = os.path.realpath

    def swap_after(path, **options):
        found = really(path, **options)
        if Path(path).name == "secret.jpg":
            for place in (folder / "sub", folder / "secret.jpg"):
                place.rename(place.with_suffix(".moved"))
            (folder / "sub").symlink_to(secret.parent)
            (folder / "secret.jpg").symlink_to(secret)
        return found

    def swap_back():
        for place in (folder / "sub", folder / "secret.jpg"):
            place.unlink()
            place.with_suffix(".moved").rename(place)

    monkeypatch.setattr(originals.os.path, "realpath", swap_after)
    assert open_below(folder / "sub" / "secret.jpg", [folder]) is None
    swap_back()
    assert open_below(folder / "secret.jpg", [folder]) is None


async def test_what_is_no_regular_file_is_not_opened(
    database: Path, folder: Path, open_datasette: Datasette
) -> None:
    """A FIFO would wait for ever, and opening a device can be enough to make it do something."""
    os.mkfifo(folder / "fifo.jpg")
    (folder / "folder.jpg").mkdir()
    with socket.socket(socket.AF_UNIX) as unix:
        previous = Path.cwd()
        os.chdir(folder)  # The path of a socket has a length of 100 at most.
        unix.bind("socket.jpg")
        os.chdir(previous)
    made = ["fifo.jpg", "folder.jpg", "socket.jpg"]
    with suppress(PermissionError):
        os.mknod(folder / "null.jpg", 0o666 | 0o020000, os.makedev(1, 3))
        os.mknod(folder / "zero.jpg", 0o666 | 0o020000, os.makedev(1, 5))
        made += ["null.jpg", "zero.jpg"]
    for path in made:
        rename(database, path)
        await assert_refused(open_datasette)


@pytest.mark.parametrize("device", ["null", "zero", "random", "stdin", "fd/0"])
async def test_devices(database: Path, device: str) -> None:
    datasette = datasette_of(database, plugin={"roots": ["/dev"]})
    Database(database)["image_search_roots"].update(1, {"path": "/dev"})
    rename(database, device)
    await assert_refused(datasette)


async def test_a_file_that_may_not_be_read(
    database: Path, folder: Path, open_datasette: Datasette
) -> None:
    (folder / "red.jpg").chmod(0)
    if os.access(folder / "red.jpg", os.R_OK):
        pytest.skip("this user may read everything")
    await assert_refused(open_datasette)


async def test_where_folders_cannot_be_opened_by_number(
    folder: Path, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows."""
    monkeypatch.setattr(originals.os, "supports_dir_fd", set())
    (folder / "link.jpg").symlink_to(secret)
    os.mkfifo(folder / "fifo.jpg")
    with open_below(folder / "red.jpg", [folder]) as file:
        assert file.read() == (folder / "red.jpg").read_bytes()
    for name in ("link.jpg", "fifo.jpg", "../secret/secret.jpg", "."):
        assert open_below(folder / name, [folder]) is None


# --- Bytes that are not what the name says --------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        SVG,
        b'<?xml version="1.0"?>' + SVG,
        HTML,
        b"BM" + HTML,
        b"BM<script>" + bytes(100),
        b"RIFF" + HTML,
        b"P5 is no picture\n" + HTML,
        b"%PDF-1.7\n" + HTML,
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
        b"II*\0" + HTML,
        b"\0\0\0\x18ftypheic" + HTML,
        b"MZ" + bytes(200),
        b"",
        b"x",
    ],
)
async def test_what_is_no_picture_is_not_served(
    database: Path, folder: Path, open_datasette: Datasette, data: bytes
) -> None:
    for suffix in ("jpg", "svg", "dng", "heic", "tiff"):
        (folder / f"a.{suffix}").write_bytes(data)
        rename(database, f"a.{suffix}")
        await assert_refused(open_datasette)
    rename(database, "red.jpg")
    assert (await ask(open_datasette, f"{TABLE}/6/image")).status_code == 200


@pytest.mark.parametrize("start", [b"GIF89a", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n"])
async def test_a_picture_that_is_a_page_as_well_stays_a_picture(
    database: Path, folder: Path, open_datasette: Datasette, start: bytes
) -> None:
    """The name says .html, the rest of the bytes too; type, nosniff and sandbox say what it is."""
    (folder / "a.html").write_bytes(start + b"=0;/*" + HTML)
    rename(database, "a.html")
    response = await ask(open_datasette, f"{TABLE}/6/image")
    assert response.headers["content-type"].startswith("image/")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in response.headers["content-security-policy"]


async def test_a_truncated_original(
    database: Path, folder: Path, open_datasette: Datasette
) -> None:
    """As far as it goes, where a browser shows it; nothing where it has to be decoded here."""
    whole = draw_picture(folder / "a.jpg", "red", (800, 600)).read_bytes()
    (folder / "a.jpg").write_bytes(whole[: len(whole) // 2])
    rename(database, "a.jpg")
    response = await ask(open_datasette, f"{TABLE}/6/image")
    assert response.content == whole[: len(whole) // 2]
    whole = draw_picture(folder / "a.tiff", "red", (800, 600)).read_bytes()
    (folder / "a.tiff").write_bytes(whole[: len(whole) // 2])
    rename(database, "a.tiff")
    await assert_refused(open_datasette)


async def test_a_bomb_is_not_decoded(
    database: Path, folder: Path, open_datasette: Datasette
) -> None:
    Image.new("1", (20_000, 20_000)).save(folder / "a.tiff", compression="group4")
    rename(database, "a.tiff")
    await assert_refused(open_datasette)


@pytest.mark.parametrize("brand", [b"avif", b"avis"])
async def test_avif_is_told_by_its_brand(brand: bytes) -> None:
    assert shown_type(b"\0\0\0\x20ftyp" + brand) == "image/avif"


# --- A person's own table --------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """photos.db with the table images: text keys, paths relative to the folder of the database."""
    draw_picture(tmp_path / "files" / "red.jpg", "red")
    database = tmp_path / "photos.db"
    rows = [
        {"id": "a/b.jpg", "file": "files/red.jpg"},
        {"id": "absolute", "file": str(tmp_path / "files" / "red.jpg")},
    ]
    Database(database)["images"].insert_all(rows, pk="id")
    embed_images(EmbedRequest(database, "images", (), model="palette", path_column="file"))
    return database


async def test_a_path_of_a_persons_own_table(own: Path) -> None:
    datasette = datasette_of(own, plugin={"roots": [str(own.parent / "files")]})
    for key in ("a/b.jpg", "absolute"):
        response = await ask(datasette, f"{TABLE}/{tilde_encode(key)}/image")
        assert response.content == (own.parent / "files" / "red.jpg").read_bytes()
    assert (await ask(datasette_of(own), f"{TABLE}/absolute/image")).status_code == 404
    for path in ("/etc/passwd", "../../../../../etc/passwd", "photos.db", "files"):
        Database(own)["images"].update("absolute", {"file": path})
        assert (await ask(datasette, f"{TABLE}/absolute/image")).status_code == 404


async def test_a_blob_of_a_persons_own_table(tmp_path: Path) -> None:
    """No file, so it needs no root."""
    red = draw_picture(tmp_path / "red.png", "red").read_bytes()
    tiff = draw_picture(tmp_path / "red.tiff", "red").read_bytes()
    db = Database(tmp_path / "photos.db")
    rows = [{"id": 1, "content": red}, {"id": 2, "content": tiff}, {"id": 3, "content": SVG}]
    db["images"].insert_all([*rows, {"id": 4, "content": None}], pk="id")
    request = EmbedRequest(
        tmp_path / "photos.db",
        "images",
        (),
        model="palette",
        content_column="content",
        thumbnail_size=None,
    )
    embed_images(request)
    datasette = datasette_of(tmp_path / "photos.db")
    response = await ask(datasette, f"{TABLE}/1/image", range="bytes=0-99")
    assert (response.status_code, response.content) == (206, red[:100])
    response = await ask(datasette, f"{TABLE}/2/image")
    assert response.headers["content-type"] == "image/jpeg"
    for image_id in (1, 2):
        response = await ask(datasette, f"{TABLE}/{image_id}/thumbnail")
        assert Image.open(io.BytesIO(response.content)).format == "WEBP"
    for image_id in (3, 4, 5):
        for kind in ("image", "thumbnail"):
            response = await ask(datasette, f"{TABLE}/{image_id}/{kind}")
            assert response.status_code == 404


async def test_a_column_that_was_renamed(own: Path) -> None:
    datasette = datasette_of(own, plugin={"roots": [str(own.parent)]})
    Database(own)["images"].transform(rename={"file": "datei"})
    assert (await ask(datasette, f"{TABLE}/absolute/image")).status_code == 404
    Database(own)["image_search_indexes"].update(1, {"path_column": None, "content_column": "gone"})
    assert (await ask(datasette, f"{TABLE}/absolute/image")).status_code == 404


async def test_what_is_too_large_for_the_memory_is_not_there(
    tmp_path: Path, embed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But what is only passed on may have any size."""
    for suffix in ("tiff", "jpg"):
        draw_picture(tmp_path / "x" / f"a.{suffix}", "red", (300, 300))
    datasette = datasette_of(embed(tmp_path / "x"), plugin={"roots": [str(tmp_path)]})
    statuses = {}
    small = DecodingProcess(Limits(making.MEMORY, making.DECODING_SECONDS, file_size=1000))
    for limit, value in (("MAX_PIXELS", 1000), ("_decoder", small)):
        with monkeypatch.context() as patch:
            patch.setattr(making, limit, value)
            for image_id in (1, 2):
                response = await ask(datasette, f"{TABLE}/{image_id}/image")
                statuses.setdefault(response.headers["content-type"], set()).add(
                    (image_id, response.status_code)
                )
    assert statuses == {"image/jpeg": {(1, 200)}, "text/plain; charset=utf-8": {(2, 404)}}


def embedded_blob(folder: Path) -> tuple[Path, bytes]:
    """A database with one image, a BLOB, and its bytes."""
    red = draw_picture(folder / "red.png", "red").read_bytes()
    database = folder / "photos.db"
    Database(database)["images"].insert({"id": 1, "content": red}, pk="id")
    embed_images(EmbedRequest(database, "images", (), model="palette", content_column="content"))
    return database, red


async def test_a_blob_that_is_too_large_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, red = embedded_blob(tmp_path)
    for limit, status in ((len(red), 200), (len(red) - 1, 404)):
        monkeypatch.setattr(pictures, "MAX_BLOB_BYTES", limit)
        response = await ask(datasette_of(database), f"{TABLE}/1/image")
        assert response.status_code == status


async def test_a_blob_is_read_while_others_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, red = embedded_blob(tmp_path)
    datasette = datasette_of(database)
    answered = threading.Event()
    really = copy_content

    def slow(*args, **options):
        assert answered.wait(HANGS), "nobody else was answered meanwhile"
        return really(*args, **options)

    monkeypatch.setattr(pictures, "copy_content", slow)
    asked = asyncio.ensure_future(ask(datasette, f"{TABLE}/1/image"))
    assert (await ask(datasette, f"{TABLE}/1/thumbnail")).status_code == 200
    answered.set()
    response = await asked
    again = await ask(datasette, f"{TABLE}/1/image", if_none_match=response.headers["etag"])
    assert (response.content, again.status_code) == (red, 304)


# --- A real server ---------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
async def test_a_large_original_is_not_read_into_memory(
    database: Path, folder: Path, tmp_path: Path
) -> None:
    size = 400_000_000
    with (folder / "red.jpg").open("r+b") as file:
        file.truncate(size)
    with (
        served(database, plugin={"roots": [str(folder)]}) as server,
        httpx.Client(timeout=HANGS) as client,
    ):
        url = f"{server.url}{TABLE}/6/image"
        client.get(url, headers={"range": "bytes=0-9"})
        before = server.memory()
        with client.stream("GET", url) as response:
            assert sum(len(chunk) for chunk in response.iter_raw()) == size
        end = client.get(url, headers={"range": f"bytes={size - 10}-"})
        assert end.content == bytes(10)
        with client.stream("GET", url) as response:
            next(response.iter_raw())  # And then the browser goes away.
        assert client.head(url).headers["content-length"] == str(size)
        assert server.memory("VmHWM") - before < 100_000_000


async def test_a_file_that_shrinks_while_it_is_sent_ends_early(
    folder: Path, database: Path
) -> None:
    with (folder / "red.jpg").open("r+b") as file:
        file.truncate(50_000_000)
    with (
        served(database, plugin={"roots": [str(folder)]}) as server,
        httpx.Client(timeout=HANGS) as client,
    ):
        with client.stream("GET", f"{server.url}{TABLE}/6/image") as response:
            chunks = response.iter_raw()
            next(chunks)
            os.truncate(folder / "red.jpg", 1000)
            with pytest.raises(httpx.RemoteProtocolError):
                list(chunks)
        again = client.get(f"{server.url}{TABLE}/6/image")
        assert len(again.content) == 1000
