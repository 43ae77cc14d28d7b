"""Originals in storage elsewhere: only below the URLs that the configuration names, and never at the cost of others."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from datasette_image_search.files.remote import RemoteFile
from datasette_image_search.store.tables import Location
from datasette_image_search.web.configuration import configuration_problems
from datasette_image_search.web.media import pictures, remote_originals
from datasette_image_search.web.media.remote_originals import (
    fetched,
    find_original,
    place_below,
    read_some,
)
from datasette_image_search.web.server.threads import Busy
from datasette_image_search.web.urls import COMPANION

from .commands import change, embed_images, query
from .drawn_films import draw_film
from .serving import HANGS, PLUGIN, ask, datasette_of

TABLE = "/-/image-search/photos/images"
ROOT = "memory://photos"

pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]


@pytest.fixture
def remote_database(bucket: MemoryFileSystem, path: Path) -> Path:
    embed_images(path, "images", ROOT, "--model", "palette", "-s")
    return path


def id_of(database: Path, name: str) -> int:
    ((image_id,),) = query(database, "select id from images where filename = ?", [name])
    return image_id


@pytest.mark.parametrize("root", [ROOT, "memory://photos/2020/", "memory://"])
async def test_an_original_below_a_configured_url(
    remote_database: Path, bucket: MemoryFileSystem, root: str
):
    datasette = datasette_of(remote_database, plugin={"roots": [root]})
    url = f"{TABLE}/{id_of(remote_database, 'blue.jpg')}/image"
    response = await ask(datasette, url)
    content = bucket.cat_file("/photos/2020/blue.jpg")
    assert (response.status_code, response.content) == (200, content)
    assert response.headers["content-type"] == "image/jpeg"
    part = await ask(datasette, url, range="bytes=10-19")
    assert (part.status_code, part.content) == (206, content[10:20])
    known = await ask(datasette, url, if_none_match=response.headers["etag"])
    assert known.status_code == 304
    bucket.pipe_file("/photos/2020/blue.jpg", content + b"more")
    changed = await ask(datasette, url, if_none_match=response.headers["etag"])
    assert changed.content == content + b"more"


async def test_the_film_of_a_live_photo_comes_from_there_too(
    remote_database: Path, bucket: MemoryFileSystem, tmp_path: Path
):
    film = draw_film(tmp_path / "red.mov", [("red", 1)]).read_bytes()
    bucket.pipe_file("/photos/red.mov", film)
    embed_images(remote_database, "images", ROOT, "-s")
    datasette = datasette_of(remote_database, plugin={"roots": [ROOT]})
    url = f"{TABLE}/{id_of(remote_database, 'red.jpg')}/image"
    response = await ask(datasette, f"{url}?{COMPANION}=red.mov&_dl=1")
    assert (response.status_code, response.content) == (200, film)
    assert (await ask(datasette, f"{url}?{COMPANION}=2020/blue.jpg")).status_code == 404


@pytest.mark.parametrize("wanted", ["preview", "thumbnail?large=1", "image?_dl=1"])
async def test_what_is_made_of_an_original(remote_database: Path, wanted: str):
    datasette = datasette_of(remote_database, plugin={"roots": [ROOT]})
    response = await ask(datasette, f"{TABLE}/{id_of(remote_database, 'red.jpg')}/{wanted}")
    assert response.status_code == 200
    assert response.content


async def test_a_picture_that_browsers_do_not_show_is_made_into_one(
    remote_database: Path, bucket: MemoryFileSystem, folder: Path
):

    Image.open(folder / "red.jpg").save(folder / "red.tiff")
    bucket.pipe_file("/photos/red.tiff", (folder / "red.tiff").read_bytes())
    embed_images(remote_database, "images", ROOT, "-s")
    datasette = datasette_of(remote_database, plugin={"roots": [ROOT]})
    response = await ask(datasette, f"{TABLE}/{id_of(remote_database, 'red.tiff')}/image")
    assert (response.status_code, response.headers["content-type"]) == (200, "image/jpeg")


@pytest.mark.parametrize(
    "roots", [[], ["memory://photo"], ["memory://other"], ["s3://photos"], ["/photos"]]
)
async def test_a_url_that_only_the_database_names_is_not_opened(
    remote_database: Path, roots: list[str], monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("it was opened")

    monkeypatch.setattr(MemoryFileSystem, "info", refuse)
    monkeypatch.setattr(MemoryFileSystem, "cat_file", refuse)
    datasette = datasette_of(remote_database, plugin={"roots": roots})
    assert (await ask(datasette, f"{TABLE}/1/image")).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "../secret.jpg",
        "2020/../../secret.jpg",
        "%2e%2e/secret.jpg",
        "..%2fsecret.jpg",
        "%252e%252e/secret.jpg",
        ".\t./secret.jpg",
        "..;/secret.jpg",
        "a%3FversionId=1",
        "./a.jpg",
        "a//b.jpg",
        "/a.jpg",
        "..\\secret.jpg",
        "a.jpg?versionId=1",
        "a.jpg#b",
        "a.jpg::memory://secret",
        "a\0.jpg",
        "",
    ],
)
async def test_no_path_leads_out(path: str):
    for root in (ROOT, "https://host/photos", "zip::/a.zip"):
        assert place_below(Location(root, path), [root]) is None


@pytest.mark.parametrize(
    "escape",
    [
        "%2e%2e/private",
        "2020/%2E%2E/%2E%2E/private",
        "..",
        "..%5cprivate",
        "%252e%252e/private",
        f"%{'25' * 9}2e",
        ".\n./private",
        "..;a/private",
        "a?b",
        "a#b",
        "/private",
        "a::memory://private",
    ],
)
async def test_no_root_of_the_database_leads_out(escape: str):
    for root in (ROOT, "https://host/photos"):
        assert place_below(Location(f"{root}/{escape}", "a.jpg"), [root]) is None


async def test_a_path_is_below_the_url_of_the_configuration():
    assert place_below(Location("s3://b/photos", "2020/a.jpg"), ["s3://b"]) == (
        "s3://b",
        "photos/2020/a.jpg",
    )
    assert place_below(Location("https://host/p", "last%20summer/100%25;a.jpg"), ["https://host/p"])
    assert place_below(Location("s3://b/../photos", "a.jpg"), ["s3://b"]) is None
    assert place_below(Location("s3://b/photos", "a.jpg"), ["s3://b/photos/2020"]) is None


async def test_what_is_no_picture_stays_where_it_is(
    remote_database: Path, bucket: MemoryFileSystem
):
    bucket.pipe_file("/photos/red.jpg", b"<!doctype html><script>alert(1)</script>")
    datasette = datasette_of(remote_database, plugin={"roots": [ROOT]})
    for wanted in ("image", "image?_dl=1", "preview"):
        url = f"{TABLE}/{id_of(remote_database, 'red.jpg')}/{wanted}"
        assert (await ask(datasette, url)).status_code == 404


async def test_an_original_that_is_gone(remote_database: Path, bucket: MemoryFileSystem):
    bucket.rm("/photos/red.jpg")
    datasette = datasette_of(remote_database, plugin={"roots": [ROOT]})
    url = f"{TABLE}/{id_of(remote_database, 'red.jpg')}"
    assert (await ask(datasette, f"{url}/image")).status_code == 404
    assert (await ask(datasette, f"{url}/thumbnail")).status_code == 200


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Storage that does not answer until the end of the test; who waits for it."""
    end, waiting = threading.Event(), []
    real = MemoryFileSystem.info

    def info(self: MemoryFileSystem, name: str, **options: Any) -> dict:
        if name.startswith("/photos"):
            waiting.append(name)
            end.wait(60)
        return real(self, name, **options)

    monkeypatch.setattr(MemoryFileSystem, "info", info)
    monkeypatch.setattr(remote_originals, "SECONDS", 0.3)
    yield waiting
    end.set()
    remote_originals._storage_of.cache_clear()


async def test_storage_that_is_stuck_stops_nobody_else(remote_database: Path, stuck: list[str]):
    datasette = datasette_of(remote_database, plugin={"roots": [ROOT]})
    answers = (ask(datasette, f"{TABLE}/1/image") for _ in range(remote_originals.READS + 2))
    assert {answer.status_code for answer in await asyncio.gather(*answers)} == {503}
    assert 0 < len(stuck) <= remote_originals.READS
    assert (await ask(datasette, f"{TABLE}/1/thumbnail")).status_code == 200


async def test_a_root_that_is_stuck_stops_no_other(storage: MemoryFileSystem, stuck: list[str]):
    storage.pipe_file("/other/a.jpg", b"0123456789")
    asked = [find_original(ROOT, "a.jpg") for _ in range(2 * remote_originals.READS)]
    waiting = asyncio.gather(*asked, return_exceptions=True)
    found = await find_original("memory://other", "a.jpg", HANGS)
    assert found is not None
    assert await read_some(found.file, 4, HANGS) == b"0123"
    assert {type(each) for each in await waiting} == {OSError}


async def test_a_root_that_was_silent_is_asked_again_later(
    storage: MemoryFileSystem, stuck: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(remote_originals, "SILENT", HANGS)
    with pytest.raises(OSError, match="does not answer"):
        await find_original(ROOT, "a.jpg")
    with pytest.raises(OSError, match="does not answer"):
        await find_original(ROOT, "b.jpg", HANGS)
    assert "/photos/b.jpg" not in stuck
    remote_originals._storage_of(ROOT).silent_until = time.monotonic()
    asked = asyncio.create_task(find_original(ROOT, "b.jpg", HANGS))
    while "/photos/b.jpg" not in stuck and not asked.done():
        await asyncio.sleep(0.01)
    assert not asked.done()
    asked.cancel()


async def test_the_page_of_an_image_does_not_wait_for_storage(
    remote_database: Path, stuck: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(remote_originals, "SECONDS", HANGS)
    monkeypatch.setattr(pictures, "ORIGINAL_TYPE_SECONDS", 0.1)
    change(remote_database, """update images set companions = '["red.mov"]'""")
    datasette = datasette_of(remote_database, plugin={"roots": [ROOT]})
    page = await ask(datasette, f"{TABLE}/1")
    assert page.status_code == 200
    assert "This is the thumbnail" in page.text


async def test_busy_storage_is_not_asked_again_while_somebody_waits(
    storage: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
):
    asked = []

    def info(*_: Any, **__: Any) -> dict:
        asked.append(1)
        raise OSError(16, "please reduce your request rate")

    monkeypatch.setattr(MemoryFileSystem, "info", info)
    with pytest.raises(OSError, match="request rate"):
        await find_original(ROOT, "a.jpg")
    assert asked == [1]


async def test_more_than_may_wait_are_turned_away(monkeypatch: pytest.MonkeyPatch):
    storage = remote_originals._storage_of(ROOT)
    monkeypatch.setattr(storage, "places", threading.BoundedSemaphore(1))
    storage.places.acquire()
    with pytest.raises(Busy):
        await find_original(ROOT, "a.jpg")


async def test_an_original_that_comes_too_slowly_to_be_decoded(
    storage: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
):
    storage.pipe_file("/photos/a", b"0123456789")
    file = RemoteFile(ROOT, "a", 10, block=4, kept=1)
    with await fetched(file, 10) as copy:
        assert copy.read() == b"0123456789"
    monkeypatch.setattr(remote_originals, "FETCH_SECONDS", -1)
    with pytest.raises(OSError, match="too slow"):
        await fetched(file, 10)


@pytest.mark.parametrize(
    ("root", "missing", "said"),
    [
        (ROOT, "fsspec.core", "'memory://photos' needs an extra: pip install"),
        ("s3://photos", "s3fs", "'s3://photos' needs another package: Install s3fs"),
        ("zip::s3://a.zip", "s3fs", "'zip::s3://a.zip' needs another package: Install s3fs"),
        ("s33://photos", "s3fs", "'s33://photos' is no URL of a folder: 's33' is none of"),
    ],
)
async def test_a_url_that_this_server_cannot_read_is_told_to_the_owner(
    remote_database: Path, monkeypatch: pytest.MonkeyPatch, root: str, missing: str, said: str
):
    plugin = {"roots": [root, "memory://other", "zip::/not/there.zip"]}
    datasette = datasette_of(remote_database, plugin=plugin)
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    problem, *others = configuration_problems(datasette)
    assert problem.startswith(f"plugins, {PLUGIN}, roots: {said}")
    assert len(others) == (2 if missing == "fsspec.core" else 0)


async def test_a_url_with_a_secret_in_the_configuration_is_told_to_the_owner(
    remote_database: Path,
):
    plugin = {"roots": ["s3://key:secret@bucket", ROOT]}
    datasette = datasette_of(remote_database, plugin=plugin)
    (problem,) = configuration_problems(datasette)
    assert problem.startswith(f"plugins, {PLUGIN}, roots: the URL at 's3://bucket' holds")
    assert "secret" not in problem
