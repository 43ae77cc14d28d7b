"""ZIPs of the originals, and of previews, that a search finds."""

from __future__ import annotations

import asyncio
import errno
import html
import io
import os
import re
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import pytest
from datasette.utils.asgi import Request
from PIL import Image
from sqlite_utils import Database

from datasette_image_search.web.media import making, pictures
from datasette_image_search.web.pages import archives
from datasette_image_search.web.server.threads import Busy

from .commands import change, command
from .conftest import draw_picture, embed_into
from .serving import datasette_of, get

pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]

PAGE = "/-/image-search/photos/images"
ZIP = f"{PAGE}/originals.zip"


def opened(content: bytes) -> ZipFile:
    file = ZipFile(io.BytesIO(content))
    assert file.testzip() is None
    return file


async def test_originals_of_a_search_byte_for_byte(database: Path, folder: Path):
    datasette = datasette_of(database, plugin={"roots": [str(folder)]})
    answer = await get(datasette, f"{ZIP}?path__in=red.jpg,blue.jpg")
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''images.zip"
    file = opened(answer.content)
    assert {name: file.read(name) for name in file.namelist()} == {
        name: (folder / name).read_bytes() for name in ("blue.jpg", "red.jpg")
    }
    matches = opened((await get(datasette, f"{ZIP}?q=red&_limit=2")).content)
    assert "red.jpg" in matches.namelist()
    assert len(matches.namelist()) == 2


async def test_times_are_those_of_the_files(database: Path, folder: Path):
    os.utime(folder / "red.jpg", (0, 1_000_000_000))
    os.utime(folder / "blue.jpg", (0, 0))
    os.utime(folder / "green.jpg", (7_258_118_400, 7_258_118_400))
    datasette = datasette_of(database, plugin={"roots": [str(folder)]})
    file = opened((await get(datasette, ZIP)).content)
    assert file.getinfo("red.jpg").date_time[:2] == (2001, 9)
    assert file.getinfo("blue.jpg").date_time == archives.EARLIEST
    assert file.getinfo("green.jpg").date_time[0] == 2106


@pytest.mark.parametrize(
    ("search", "link"),
    [
        ("", "ZIP of 8 originals"),
        ("?q=red&_limit=2", "ZIP of 2 originals"),
        ("?q=red&_min_score=-1", None),
    ],
)
async def test_the_search_page_has_a_link_that_works(
    database: Path, folder: Path, search: str, link: str | None
):
    datasette = datasette_of(database, plugin={"roots": [str(folder)]})
    page = html.unescape((await get(datasette, PAGE + search)).text)
    found = re.search(r'<a href="(\S+)">(ZIP of (\d) originals?)</a>', page)
    assert found is not None
    assert link in (None, found[2])
    file = opened((await get(datasette, found[1])).content)
    assert len(file.namelist()) == int(found[3])


async def test_it_ends_when_the_client_leaves():
    sent, made = [], []

    async def parts():
        for number in range(100):
            made.append(number)
            yield b"x"

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)
        await asyncio.sleep(0)

    request = Request({"type": "http", "method": "GET", "headers": []}, receive)
    await archives._Archive(request, parts(), "images").asgi_send(send)
    assert sent[0]["status"] == 200
    assert len(made) < 10


async def test_it_ends_when_the_client_leaves_before_anything_is_found(
    monkeypatch: pytest.MonkeyPatch,
):
    asked = []

    async def missing(requested, id, companion, is_preview):
        asked.append(id)
        await asyncio.sleep(0)
        raise pictures.NoPicture("it is away")

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        pass

    monkeypatch.setattr(archives, "picture_to_save", missing)
    request = Request({"type": "http", "method": "GET", "headers": []}, receive)
    parts = archives._zipped(
        None, [archives._File(id) for id in range(100)], 1_000, is_preview=False
    )
    await archives._Archive(request, parts, "images").asgi_send(send)
    assert len(asked) < 10


@pytest.mark.parametrize("busy", [3, 1_000])
async def test_previews_wait_for_a_busy_server(
    database: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, busy: int
):
    asked, run = [], making._queue.run

    async def sometimes(*work):
        asked.append(work)
        if len(asked) <= busy:
            raise Busy
        return await run(*work)

    monkeypatch.setattr(making._queue, "run", sometimes)
    monkeypatch.setattr(pictures, "SMALL_BYTES", 0)
    monkeypatch.setattr(archives, "RETRY_AFTER", 0)
    datasette = datasette_of(database, plugin={"roots": [str(folder)]})
    answer = await get(datasette, f"{PAGE}/previews.zip?path__in=red.jpg,blue.jpg,green.jpg")
    file = opened(answer.content)
    if busy == 3:
        assert sorted(file.namelist()) == ["blue.jpg", "green.jpg", "red.jpg"]
        return
    assert file.namelist() == [archives.LEFT_OUT]
    lines = file.read(archives.LEFT_OUT).decode().splitlines()
    assert len(lines) == 3
    assert all(line.endswith(".jpg: the server was too busy; download it again") for line in lines)
    # Nobody waits for each of thousands.
    assert len(asked) == archives.TRIES + 2


async def test_previews_are_small(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pictures, "SMALL_BYTES", 2_000)
    monkeypatch.setattr(making, "PREVIEW_SIZE", 100)
    folder = draw_picture(tmp_path / "p" / "large.png", "red", (400, 200)).parent
    noise = Image.effect_noise((400, 200), 90)
    noise.save(folder / "large.png")
    embed_into(path, "images", folder)
    datasette = datasette_of(path, plugin={"roots": [str(folder)]})
    answer = await get(datasette, f"{PAGE}/previews.zip")
    assert answer.headers["content-disposition"].endswith("''previews.zip")
    file = opened(answer.content)
    assert file.namelist() == ["large.jpg"]
    with Image.open(io.BytesIO(file.read("large.jpg"))) as preview:
        assert preview.size == (100, 50)


async def test_names_are_unique_and_stay_in_one_folder(path: Path, tmp_path: Path):
    for place in ("a", "b", "c"):
        draw_picture(tmp_path / "p" / place / f"im.{'JPG' if place == 'b' else 'jpg'}", "red")
    embed_into(path, "images", tmp_path / "p")
    datasette = datasette_of(path, plugin={"roots": [str(tmp_path / "p")]})
    file = opened((await get(datasette, ZIP)).content)
    assert file.namelist() == ["im.jpg", "im (2).JPG", "im (3).jpg"]


async def test_thousands_of_files_of_one_name_are_counted_once():
    class Counted(dict):
        asked = 0

        def __contains__(self, key):
            self.asked += 1
            return super().__contains__(key)

    taken = Counted({archives.LEFT_OUT: 1})
    names = [archives._unique("image.jpg", taken) for _ in range(2_000)]
    assert names[:2] + names[-1:] == ["image.jpg", "image (2).jpg", "image (2000).jpg"]
    assert taken.asked < 5_000
    others = ("IMAGE (2).jpg", "image.JPG", "Left out.txt", "left out.txt")
    assert [archives._unique(name, taken) for name in others] == [
        "IMAGE (2) (2).jpg",
        "image (2001).JPG",
        "Left out (2).txt",
        "left out (3).txt",
    ]


@pytest.mark.parametrize(
    ("good_reads", "reason"),
    [
        (0, "its storage does not answer; download it again"),
        (1, "only its beginning could be read"),
        (2, "only its beginning could be read"),
    ],
)
async def test_a_file_on_a_broken_disk_leaves_the_others_whole(
    database: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, good_reads: int, reason: str
):
    class Broken(io.FileIO):
        left = good_reads

        def read(self, size=-1):
            if not self.left:
                raise OSError(errno.EIO, os.strerror(errno.EIO), self.name)
            self.left -= 1
            return super().read(min(size, 100))

    found = pictures._original

    async def original(asked, companion=None):
        good = await found(asked, companion)
        if good.name != "blue.jpg":
            return good
        good.file.close()
        return replace(good, file=Broken(folder / good.name))

    monkeypatch.setattr(pictures, "_original", original)
    datasette = datasette_of(database, plugin={"roots": [str(folder)]})
    answer = await get(datasette, f"{ZIP}?path__in=red.jpg,blue.jpg,green.jpg")
    file = opened(answer.content)
    assert file.read(archives.LEFT_OUT).decode() == f"blue.jpg: {reason}\n"
    for name in ("red.jpg", "green.jpg"):
        assert file.read(name) == (folder / name).read_bytes()
    assert ("blue.jpg" in file.namelist()) == (good_reads > 0)


async def test_what_is_missing_is_named_in_a_file(database: Path, folder: Path):
    (folder / "red.jpg").unlink()
    (folder / "blue.jpg").write_text("no picture")
    datasette = datasette_of(database, plugin={"roots": [str(folder)]})
    answer = await get(datasette, f"{ZIP}?path__in=red.jpg,blue.jpg,green.jpg")
    assert answer.status_code == 200
    file = opened(answer.content)
    assert file.namelist() == ["green.jpg", archives.LEFT_OUT]
    lines = file.read(archives.LEFT_OUT).decode().splitlines()
    assert sorted(lines) == [
        f"{name}: there is no picture that may be opened" for name in ("blue.jpg", "red.jpg")
    ]


async def test_the_limit_is_told_before_and_holds_for_files_that_grew(database: Path, folder: Path):
    size = sum((folder / name).stat().st_size for name in ("red.jpg", "blue.jpg"))
    options = {"roots": [str(folder)], "max_zip_bytes": size}
    datasette = datasette_of(database, plugin=options)
    two = f"{ZIP}?path__in=red.jpg,blue.jpg"
    assert len(opened((await get(datasette, two)).content).namelist()) == 2
    all_of_them = await get(datasette, ZIP)
    assert all_of_them.status_code == 413
    assert "8 images of" in all_of_them.text
    change(database, "update images set size = 1")
    file = opened((await get(datasette, ZIP)).content)
    assert archives.LEFT_OUT in file.namelist()
    pictures = [name for name in file.namelist() if name != archives.LEFT_OUT]
    assert 0 < sum(file.getinfo(name).file_size for name in pictures) <= size


@pytest.mark.parametrize(
    ("plugin", "search", "status", "sentence"),
    [
        ({}, "", 404, "there are no ZIPs of these images here"),
        ({"roots": ["/"], "max_zip_bytes": 0}, "", 404, "there are no ZIPs"),
        (
            {"roots": ["/"], "max_zip_bytes": "2 GB"},
            "",
            400,
            "max_zip_bytes must be a whole number",
        ),
        ({"roots": ["/"]}, "q=red", 400, "puts all images in an order"),
        ({"roots": ["/"]}, "nix=1", 400, "no column"),
        ({"roots": ["/"]}, "path=none.jpg", 404, "no images were found"),
    ],
)
async def test_no_zip_is_a_sentence(
    database: Path, plugin: dict, search: str, status: int, sentence: str
):
    answer = await get(datasette_of(database, plugin=plugin), f"{ZIP}?{search}")
    assert (answer.status_code, sentence in answer.text) == (status, True)


async def test_only_for_whoever_may_see_the_images(database: Path, folder: Path):
    rules = {"databases": {"photos": {"tables": {"images": {"allow": {"id": "anna"}}}}}}
    datasette = datasette_of(database, plugin={"roots": [str(folder)]}, rules=rules)
    for actor, status in ((None, 404), ("bert", 404), ("anna", 200)):
        assert (await get(datasette, f"{ZIP}?path=red.jpg", actor)).status_code == status


async def test_no_file_outside_the_configured_folders(database: Path, folder: Path, tmp_path: Path):
    draw_picture(tmp_path / "secret.jpg", "red")
    change(database, "update images set path = '../secret.jpg' where path = 'red.jpg'")
    datasette = datasette_of(database, plugin={"roots": [str(folder)]})
    file = opened((await get(datasette, f"{ZIP}?path__in=../secret.jpg,blue.jpg")).content)
    assert file.namelist() == ["blue.jpg", archives.LEFT_OUT]


async def test_pictures_in_the_database_get_names(path: Path, folder: Path):
    insert = ("insert-files", path, "blobs", folder / "red.jpg")
    command(*insert, "-c", "key:name", "-c", "content:content", "--pk", "key")
    options = ("--content-column", "content", "--model", "palette")
    assert command("embed-images", path, "blobs", *options).exit_code == 0
    with_id = Database(path)
    with_id.execute("update blobs set key = 'a/b'")
    with_id.conn.commit()
    with_id.close()
    answer = await get(datasette_of(path), "/-/image-search/photos/blobs/originals.zip")
    file = opened(answer.content)
    assert file.namelist() == ["blobs-a_b.jpg"]
    assert file.read("blobs-a_b.jpg") == (folder / "red.jpg").read_bytes()


async def test_the_other_files_of_a_photo_come_with_it(
    database: Path, folder: Path, tmp_path: Path
):
    (folder / "red.mov").write_bytes(b"\0\0\0\x14ftypqt  film")
    (folder / "red.cr3").write_bytes(b"\0\0\0\x18ftypcrx " + bytes(50))
    (folder / "notes.txt").write_text("no picture")
    draw_picture(tmp_path / "secret.jpg", "red")
    others = '["red.mov", "red.cr3", "notes.txt", "away.mov", "../secret.jpg"]'
    change(database, f"update images set companions = '{others}' where path = 'red.jpg'")
    datasette = datasette_of(database, plugin={"roots": [str(folder)]})
    two = "path__in=red.jpg,blue.jpg"
    file = opened((await get(datasette, f"{ZIP}?{two}")).content)
    there = {"blue.jpg", "red.jpg", "red.mov", "red.cr3"}
    assert set(file.namelist()) == {*there, archives.LEFT_OUT}
    for name in there:
        assert file.read(name) == (folder / name).read_bytes()
    reason = "there is no picture that may be opened"
    assert file.read(archives.LEFT_OUT).decode().splitlines() == [
        f"{name}: {reason}" for name in ("notes.txt", "away.mov", "../secret.jpg")
    ]
    previews = opened((await get(datasette, f"{PAGE}/previews.zip?{two}")).content)
    assert set(previews.namelist()) == {"blue.jpg", "red.jpg"}
