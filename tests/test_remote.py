"""Photos in storage elsewhere, here that of fsspec in memory: all that runs promise of folders holds for them."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest
from aiohttp import ClientResponseError
from fsspec.implementations import http
from fsspec.implementations.memory import MemoryFileSystem
from sqlite_utils import Database

from datasette_image_search.api import Images
from datasette_image_search.files import remote
from datasette_image_search.files.remote import (
    RemoteEntry,
    RemoteFile,
    entry_of,
    list_remote,
    open_remote,
    read_remote,
)
from datasette_image_search.files.remote_urls import RemoteError, storage_of
from datasette_image_search.ingest import remote_walk
from datasette_image_search.ingest.pairs import paired
from datasette_image_search.ingest.pipeline import EmbedRequest, embed_images
from datasette_image_search.ingest.report import Progress
from datasette_image_search.ingest.scan import GoneFiles, find_changes
from datasette_image_search.ingest.walk import FoundFile
from datasette_image_search.reading.reading import _bytes_of, _Input, _input, _without_gone
from datasette_image_search.store.lines import UnreadPicture
from datasette_image_search.store.tables import Location

from .commands import change, command, query
from .conftest import draw_picture
from .drawn_films import draw_film

ROOT = "memory://photos"


@pytest.fixture
def embed(path: Path) -> Callable[..., str]:
    """embed() runs embed-images into `path` with palette, and gives its last line; `fails` is whether it has to."""

    def embed(*arguments: object, fails: bool = False) -> str:
        arguments = arguments or (ROOT,)
        result = command("embed-images", path, "images", *arguments, "--model", "palette", "-s")
        assert (result.exit_code != 0) == fails, result.output
        return result.output.strip().splitlines()[-1]

    return embed


def counts(line: str) -> str:
    return line.partition(" in ")[0]


# --- A run ---------------------------------------------------------------------------------------


def test_a_bucket_becomes_the_rows_that_its_folder_would_be(
    bucket: MemoryFileSystem, embed: Callable, path: Path, folder: Path
):
    assert counts(embed()) == "8 embedded, 0 unchanged, 0 failed"

    hashes = {file.name: hashlib.sha256(file.read_bytes()) for file in folder.iterdir()}
    rows = query(path, "select filename, sha256, size, folder from images")
    assert {row[0]: row[1] for row in rows} == {
        name: digest.hexdigest() for name, digest in hashes.items()
    }
    assert {row[3] for row in rows} == {"", "2020"}
    assert query(path, "select path, label from image_search_roots") == [(ROOT, "photos")]
    (count,) = query(path, "select count(*) from _images_thumbnails")
    assert count == (8,)


def test_unchanged_files_are_not_asked_for(
    bucket: MemoryFileSystem, embed: Callable, monkeypatch: pytest.MonkeyPatch
):
    embed()

    def refuse(*_: Any, **__: Any) -> bytes:
        raise AssertionError("it was read")

    for name in ("cat_file", "info", "_open"):
        monkeypatch.setattr(MemoryFileSystem, name, refuse)
    assert counts(embed(f"{ROOT}/")) == "0 embedded, 8 unchanged, 0 failed"


def test_new_changed_moved_copied_and_gone(bucket: MemoryFileSystem, embed: Callable, path: Path):
    embed()
    before = dict(query(path, "select sha256, id from images"))
    bucket.mv("/photos/2020/blue.jpg", "/photos/2021/azure.jpg")
    bucket.copy("/photos/red.jpg", "/photos/2021/red.jpg")
    bucket.rm("/photos/white.jpg")
    bucket.pipe_file("/photos/new.jpg", bucket.cat_file("/photos/red.jpg") + b"more")

    assert counts(embed()) == "1 embedded, 1 reused, 1 moved, 1 gone, 6 unchanged, 0 failed"
    (azure,) = query(path, "select sha256, id from images where path = '2021/azure.jpg'")
    assert before[azure[0]] == azure[1]
    assert "1 gone and removed" in embed(ROOT, "--prune")
    assert query(path, "select path from images where path = 'white.jpg'") == []


def test_another_version_of_the_same_size_is_a_change(
    bucket: MemoryFileSystem, embed: Callable, path: Path, tmp_path: Path
):
    draw_picture(tmp_path / "other.jpg", "red")
    size = len(bucket.cat_file("/photos/black.jpg"))
    other = (tmp_path / "other.jpg").read_bytes().ljust(size, b"\0")[:size]
    embed()
    bucket.pipe_file("/photos/black.jpg", other)

    assert counts(embed()).startswith("1 embedded")
    (row,) = query(path, "select sha256 from images where path = 'black.jpg'")
    assert row == (hashlib.sha256(other).hexdigest(),)


def test_a_folder_and_a_file_below_a_root_belong_to_it(
    bucket: MemoryFileSystem, embed: Callable, path: Path
):
    embed()
    assert "4 unchanged" in embed(f"{ROOT}/2020")
    assert "1 unchanged" in embed(f"{ROOT}/red.jpg")
    assert len(query(path, "select * from image_search_roots")) == 1


def test_a_folder_that_is_a_root_of_its_own_stays_one(
    bucket: MemoryFileSystem, embed: Callable, path: Path
):
    embed(f"{ROOT}/2020")
    assert counts(embed()) == "4 embedded, 4 unchanged, 0 failed"
    assert "8 unchanged" in embed()


def test_what_is_left_out_stays_in_the_table(bucket: MemoryFileSystem, embed: Callable, path: Path):
    embed()
    for name in (".hidden.jpg", ".cache/a.jpg", "@eaDir/a.jpg", "notes.txt"):
        bucket.pipe_file(f"/photos/{name}", bucket.cat_file("/photos/red.jpg"))
    for pattern in ("2020", "photos/2020", f"{ROOT}/2020"):
        assert counts(embed(ROOT, "--exclude", pattern, "--prune")) == (
            "0 embedded, 4 unchanged, 0 failed"
        )
    assert query(path, "select count(*) from images") == [(8,)]


def test_a_limit_and_the_run_after_it(bucket: MemoryFileSystem, embed: Callable):
    assert counts(embed(ROOT, "--limit", 3)).startswith("3 embedded")
    assert counts(embed()) == "5 embedded, 3 unchanged, 0 failed"


def test_an_interrupted_run_goes_on_in_the_next(bucket: MemoryFileSystem, path: Path):
    def interrupt(progress: Progress) -> None:
        if progress.done == 4:
            raise KeyboardInterrupt

    request = EmbedRequest(path, "images", [ROOT], model="palette", batch_size=2)
    first = embed_images(request, interrupt)
    assert (first.embedded, first.interrupted) == (4, True)
    second = embed_images(request)
    assert (second.embedded, second.unchanged) == (4, 4)


def test_folders_of_this_machine_in_the_same_run(
    bucket: MemoryFileSystem, embed: Callable, folder: Path, path: Path
):
    assert counts(embed(folder, ROOT)).startswith("16 embedded")
    assert query(path, "select count(distinct root_id), count(*) from images") == [(2, 16)]
    assert "16 unchanged" in embed(folder, ROOT)


def test_a_damaged_file_is_a_failure_until_it_changes(bucket: MemoryFileSystem, embed: Callable):
    bucket.pipe_file("/photos/damaged.jpg", b"\xff\xd8\xff nothing")
    assert counts(embed()) == "8 embedded, 0 unchanged, 1 failed"
    assert counts(embed()) == "0 embedded, 8 unchanged, 1 failed"


def test_a_file_that_goes_between_the_listing_and_the_read_is_tried_again(
    bucket: MemoryFileSystem, embed: Callable, path: Path, monkeypatch: pytest.MonkeyPatch
):
    real = MemoryFileSystem.cat_file

    def cat_file(self: MemoryFileSystem, name: str, **options: Any) -> bytes:
        if name.endswith("red.jpg"):
            raise FileNotFoundError(name)
        return real(self, name, **options)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(MemoryFileSystem, "cat_file", cat_file)
        assert counts(embed()) == "7 embedded, 0 unchanged, 1 failed"
    assert query(path, "select reason from _images_failures") == [("the file is gone",)]
    assert counts(embed()) == "1 embedded, 7 unchanged, 0 failed"


def test_the_xmp_file_beside_a_picture(bucket: MemoryFileSystem, embed: Callable, path: Path):
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="{}"/></rdf:RDF></x:xmpmeta>'
    )
    bucket.pipe_file("/photos/2020/blue.xmp", xmp.format(4).encode())
    embed()
    rated = "select rating from images where filename = 'blue.jpg'"
    assert query(path, rated) == [(4,)]
    bucket.pipe_file("/photos/2020/blue.xmp", xmp.format(2).encode())
    assert "metadata of 1 read again" in embed()
    assert query(path, rated) == [(2,)]


def test_the_raw_of_a_jpeg_is_its_companion(bucket: MemoryFileSystem, embed: Callable, path: Path):
    bucket.pipe_file("/photos/red.dng", b"raw")
    assert "1 companion" in embed()
    assert "1 companion" in embed(f"{ROOT}/red.dng")
    companions = "select companions from images where path = 'red.jpg'"
    assert query(path, companions) == [(json.dumps(["red.dng"]),)]


def test_a_film_is_read_where_its_frames_are(
    storage: MemoryFileSystem,
    embed: Callable,
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    draw_film(tmp_path / "film.mp4", [("red", 1)])
    storage.pipe_file("/photos/film.mp4", (tmp_path / "film.mp4").read_bytes())
    monkeypatch.setattr(remote, "BLOCK", 1000)
    assert counts(embed()).startswith("1 embedded")
    assert query(path, "select format from images") == [("MP4",)]


def test_an_archive_is_a_folder_until_it_is_another_one(
    embed: Callable, folder: Path, tmp_path: Path, path: Path
):
    archive = tmp_path / "a.zip"

    def pack(*names: str) -> None:
        with zipfile.ZipFile(archive, "w") as packed:
            for name in names:
                packed.write(folder / f"{name}.jpg", f"in/{name}.jpg")

    pack("red", "blue")
    assert counts(embed(f"zip::{archive}")).startswith("2 embedded")
    pack("red", "white")
    assert "1 gone" in embed(f"zip://in::{archive}")
    assert query(path, "select path from image_search_roots") == [(f"zip::{archive}",)]


def test_many_names_of_a_folder_cost_one_listing(
    bucket: MemoryFileSystem, embed: Callable, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(MemoryFileSystem, "info", raising(AssertionError("it was looked at")))
    names = [f"{ROOT}/2020/{name}.jpg" for name in ("blue", "green", "orange")]
    assert counts(embed(*names)) == "3 embedded, 0 unchanged, 0 failed"


def test_a_key_with_a_nameless_folder_is_no_other_file(
    bucket: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
):
    entries = [RemoteEntry(path, 5, "now") for path in ("a.jpg", "/a.jpg", "b//a.jpg", "b//a.txt")]
    monkeypatch.setattr(remote_walk, "list_remote", lambda *_: iter(entries))
    found = find_changes([ROOT], {}, []).to_embed
    assert [(file.path, file.problem) for file in found] == [
        ("/a.jpg", remote_walk.NAMELESS),
        ("b//a.jpg", remote_walk.NAMELESS),
        ("a.jpg", None),
    ]


# --- Other commands ------------------------------------------------------------------------------


def test_paths_are_urls(bucket: MemoryFileSystem, embed: Callable, path: Path):
    embed()
    found = command("search-images", path, "images", "blue", "-k", "1", "--paths")
    assert found.output == f"{ROOT}/2020/blue.jpg\n"


def test_no_remote_copy_may_be_deleted(bucket: MemoryFileSystem, embed: Callable, path: Path):
    bucket.copy("/photos/red.jpg", "/photos/again.jpg")
    embed()
    found = command("find-duplicates", path, "images", "--threshold", "1", "--paths")
    assert "1 group is left out" in found.output
    assert "is in storage elsewhere, which is not read as a whole" in found.output
    assert "memory://" not in found.output


def test_text_is_read_of_the_original_or_else_of_the_thumbnail(bucket: MemoryFileSystem):
    original = bucket.cat_file("/photos/red.jpg")
    given = _Input(Location(ROOT, "red.jpg"), b"thumbnail")
    assert _bytes_of(given, 10**6) == (original, False)
    bucket.rm("/photos/red.jpg")
    assert _bytes_of(given, 10**6) == (b"thumbnail", True)


def test_originals_are_read_only_of_storage_that_is_named(
    bucket: MemoryFileSystem, embed: Callable, path: Path
):
    embed(f"{ROOT}/red.jpg")
    db = Database(path)
    with Images(path, "images") as images:
        index = images.index_of()
    gone = [UnreadPicture(None, (1,), was_gone=True)]
    for storages in (set(), {storage_of(ROOT)}):
        given = _input(db, index, path.parent, gone[0], storages)
        assert _bytes_of(given, 10**6)[1] == (not storages)
        assert _without_gone(db, index, path.parent, gone, storages) == (gone if storages else [])


# --- Storage that is away ------------------------------------------------------------------------


def test_an_empty_listing_is_storage_that_is_away(
    bucket: MemoryFileSystem, embed: Callable, path: Path
):
    embed()
    bucket.rm("/photos", recursive=True)
    line = embed(ROOT, "--prune", fails=True)
    # Newer versions of fsspec list what is not there, as empty.
    assert re.search("there (are no images left in|is nothing at) 'memory://photos'", line)
    assert "nothing was changed" in line
    assert query(path, "select count(*) from images") == [(8,)]


def test_a_listing_that_fails_changes_nothing(
    bucket: MemoryFileSystem, embed: Callable, path: Path, monkeypatch: pytest.MonkeyPatch
):
    embed()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(16, "slow down: https://host/?X-Amz-Signature=secret")

    monkeypatch.setattr(MemoryFileSystem, "find", fail)
    line = embed(ROOT, "--prune", fails=True)
    assert "'memory://photos' does not answer as it should (slow down" in line
    assert "secret" not in line
    assert query(path, "select count(*) from images") == [(8,)]


def test_a_folder_that_cannot_be_listed_hides_no_files(
    bucket: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
):
    """Storage without a `find` of its own is listed folder by folder; that of fsspec would leave the folder out."""
    monkeypatch.setattr(remote, "_lists_in_bulk", lambda fs: False)
    assert len(list(list_remote(ROOT))) == 8
    assert len(list(list_remote(ROOT, enter=lambda folder: folder != "2020"))) == 4
    real = MemoryFileSystem.ls

    def ls(self: MemoryFileSystem, name: str, **options: Any) -> list:
        if name.endswith("2020"):
            raise PermissionError(13, "denied")
        return real(self, name, **options)

    monkeypatch.setattr(MemoryFileSystem, "ls", ls)
    with pytest.raises(RemoteError, match=r"may not be read with the credentials .*\(denied\)"):
        list(list_remote(ROOT))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("gs://bucket/photos", "'gs://bucket/photos' needs another package: .*gcsfs"),
        ("nowhere://photos", "is no URL of a folder: 'nowhere' is none of the protocols"),
        ("memory://nothing", "there (are no image files in|is nothing at) 'memory://nothing'"),
        (
            "memory://nothing/a.jpg",
            "'memory://nothing/a.jpg' cannot be looked at: there is nothing",
        ),
        ("s3://key:secret@bucket", "holds a password or a signature"),
        ("file:///photos", "give its path without the scheme"),
    ],
)
def test_a_url_without_photos_is_one_sentence(embed: Callable, url: str, said: str):
    line = embed(url, fails=True)
    assert re.search(said, line), line


def test_a_file_that_is_no_archive_is_one_sentence(embed: Callable, folder: Path):
    for path, kind in ((f"{folder}/red.jpg", "a file of another kind"), (folder, "a folder")):
        for archive in ("zip", "tar"):
            said = embed(f"{archive}::{path}", fails=True)
            assert f"'{path}' is {kind} and no {archive} archive; name one, or leave out" in said


def test_a_bucket_that_was_renamed_is_noticed(
    bucket: MemoryFileSystem, embed: Callable, path: Path
):
    embed()
    bucket.mv("/photos", "/pictures", recursive=True)
    change(path, "update image_search_roots set path = 'memory://pictures/'")
    assert "8 reused" in embed("memory://pictures")


def test_a_folder_that_was_moved_in_its_bucket_is_noticed(
    bucket: MemoryFileSystem, embed: Callable, path: Path
):
    embed(f"{ROOT}/2020")
    bucket.mv("/photos/2020", "/photos/2021", recursive=True)
    line = embed(f"{ROOT}/2021", fails=True)
    assert f"most images in '{ROOT}/2021' are those of '{ROOT}/2020'" in line
    change(path, f"update image_search_roots set path = '{ROOT}/2021/'")
    assert "4 reused" in embed(f"{ROOT}/2021")


@pytest.mark.parametrize("elsewhere", ["reference::http://127.0.0.1:9/a.json", "s3://evil/x", ROOT])
def test_storage_that_the_table_alone_names_is_not_asked(
    storage: MemoryFileSystem,
    embed: Callable,
    path: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    elsewhere: str,
):
    """The table of roots may be a stranger's; its files are perhaps there, so that new ones are copies of them."""
    embed(folder)
    change(path, f"update image_search_roots set path = '{elsewhere}'")
    monkeypatch.setattr(remote, "_opened", lambda root: pytest.fail(f"{root} was asked"))
    copies = tmp_path / "copies"
    folder.rename(copies)
    assert counts(embed(copies)) == "0 embedded, 8 reused, 0 unchanged, 0 failed"
    assert query(path, "select count(*) from images") == [(16,)]


def test_a_folder_that_was_uploaded_is_noticed(
    bucket: MemoryFileSystem, embed: Callable, folder: Path
):
    embed(folder)
    for file in folder.iterdir():
        bucket.pipe_file(f"/backup/{file.name}", file.read_bytes())
        file.unlink()
    assert f"most images in 'memory://backup' are those of '{folder}'" in embed(
        "memory://backup", fails=True
    )


@pytest.mark.parametrize("left", ["nothing", "an empty folder"])
def test_rows_of_storage_that_is_empty_are_not_taken_over(
    bucket: MemoryFileSystem, embed: Callable, path: Path, tmp_path: Path, left: str
):
    embed()
    (tmp_path / "here").mkdir()
    (tmp_path / "here/other.jpg").write_bytes(bucket.cat_file("/photos/red.jpg"))
    bucket.rm("/photos", recursive=True)
    if left == "an empty folder":
        bucket.makedirs("/photos")
    bucket.pipe_file("/photos2/other.jpg", b"")
    key = (ROOT, "red.jpg")
    assert remote.is_empty_or_gone(ROOT)
    assert key not in GoneFiles({}, frozenset({storage_of(ROOT)}))


def test_a_root_that_cannot_be_listed_has_perhaps_all_files(
    bucket: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
):
    assert remote.is_gone(ROOT, "none.jpg")
    monkeypatch.setattr(MemoryFileSystem, "ls", raising(PermissionError(13, "denied")))
    assert not remote.is_gone(ROOT, "none.jpg")
    assert not remote.is_empty_or_gone(ROOT)


def test_a_companion_stays_if_the_folder_cannot_be_listed(
    bucket: MemoryFileSystem, embed: Callable, path: Path, monkeypatch: pytest.MonkeyPatch
):
    bucket.pipe_file("/photos/red.dng", b"raw")
    embed()
    monkeypatch.setattr(MemoryFileSystem, "ls", raising(PermissionError(13, "denied")))
    embed(f"{ROOT}/red.jpg")
    assert query(path, "select companions from images where path = 'red.jpg'") == [
        (json.dumps(["red.dng"]),)
    ]


def raising(error: Exception) -> Callable[..., None]:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize(("status", "gone"), [(404, True), (410, True), (503, False), (403, False)])
def test_a_web_server_that_fails_has_its_files(
    monkeypatch: pytest.MonkeyPatch, status: int, gone: bool
):
    """For fsspec each error of a web server is a file that is not there."""
    url, asked = "https://host/photos", []
    answer = ClientResponseError(cast(Any, Mock(real_url=url)), (), status=status, message="no")

    async def ask(*_: Any, size_policy: str, **__: Any) -> None:
        asked.append(size_policy)
        raise answer

    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(http, "_file_info", ask)
    with pytest.raises(FileNotFoundError if gone else OSError) as error:
        entry_of(url, "a.jpg")
    assert isinstance(error.value, FileNotFoundError) == gone
    assert asked.count("get") == (remote.TRIES if status == 503 else 1)


@pytest.mark.parametrize(
    "said",
    [
        "https://user:SECRET@host/x",
        "s3://key:a/SECRET@bucket",
        "bad https://h/p#SECRET",
        "https://h/p%3Fsig=SECRET",
        "AccessDenied: AKIA Signature=SECRET",
    ],
)
def test_no_error_says_a_secret(said: str):
    assert "SECRET" not in remote._said(OSError(said))


def test_nested_roots_that_have_images_are_not_empty(
    bucket: MemoryFileSystem, embed: Callable, path: Path
):
    embed(f"{ROOT}/2020")
    embed()
    for name in ("red", "black", "white", "yellow", "gray", "pink"):
        if bucket.exists(f"/photos/{name}.jpg"):
            bucket.rm(f"/photos/{name}.jpg")
    assert "4 gone and removed, 4 unchanged" in embed(ROOT, "--prune")


# --- Reading -------------------------------------------------------------------------------------


def test_storage_that_is_busy_is_asked_again(
    bucket: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
):
    real, asked = MemoryFileSystem.cat_file, []

    def cat_file(self: MemoryFileSystem, name: str, **options: Any) -> bytes:
        asked.append(name)
        if len(asked) < remote.TRIES:
            raise OSError(16, "please reduce your request rate")
        return real(self, name, **options)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)
    expected = real(bucket, "/photos/red.jpg")
    assert read_remote(ROOT, "red.jpg", len(expected)) == expected
    assert len(asked) == remote.TRIES


def test_threads_share_only_storage_that_allows_it(storage: MemoryFileSystem):
    def opened(root: str, barrier: threading.Barrier) -> int:
        barrier.wait()
        return id(remote._opened(root)[0])

    for root, number in (("https://host/photos", 1), (ROOT, 3)):
        barrier = threading.Barrier(3)
        with ThreadPoolExecutor(3) as executor:
            found = [executor.submit(opened, root, barrier) for _ in range(3)]
        assert len({each.result() for each in found}) == number
        remote._forget(root)


def test_without_the_extra_a_sentence_says_so(
    bucket: MemoryFileSystem, embed: Callable, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    said = embed(fails=True)
    assert "'memory://photos' needs an extra: pip install 'datasette-image-search[remote]'" in said


@pytest.mark.parametrize("error", [PermissionError(13, "denied"), FileNotFoundError("gone")])
def test_what_will_not_pass_is_asked_once(
    bucket: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch, error: OSError
):
    asked = []

    def cat_file(*_: Any, **__: Any) -> bytes:
        asked.append(1)
        raise error

    monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)
    with pytest.raises(type(error)):
        read_remote(ROOT, "red.jpg", 5)
    assert len(asked) == 1


def test_a_file_that_changed_since_it_was_listed_is_not_read_in_part(storage: MemoryFileSystem):
    storage.pipe_file("/photos/a", b"0123456789")
    for size in (9, 11):
        with pytest.raises(OSError, match="it was changed"):
            read_remote(ROOT, "a", size)
    assert read_remote(ROOT, "a", 10, at_most=4) == b"0123"
    assert read_remote(ROOT, "a", 0) == b"0123456789"


def test_a_file_of_untold_size_is_read_up_to_a_limit(
    storage: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(MemoryFileSystem, "cat_file", raising(AssertionError("all was read")))
    storage.pipe_file("/photos/a", b"0123456789")
    assert read_remote(ROOT, "a", 0, at_most=4) == b"0123"
    monkeypatch.setattr(remote, "UNTOLD", 10)
    assert len(read_remote(ROOT, "a", 0)) == 10
    monkeypatch.setattr(remote, "UNTOLD", 9)
    with pytest.raises(OSError, match="its size is not told"):
        read_remote(ROOT, "a", 0)


def test_an_open_file_is_read_in_blocks(storage: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(remote, "BLOCK", 100)
    content = bytes(range(256)) * 10
    storage.pipe_file("/photos/a", content)
    with open_remote(ROOT, "a", len(content)) as file:
        assert file.read() == content
        assert file.seek(-5, 2) == len(content) - 5
        assert file.read(100) == content[-5:]
        file.seek(150)
        assert file.read(200) == content[150:350]
        file.seek(len(content) + 7)
        assert file.read(1) == b""


def test_threads_that_read_one_file_share_no_connection(
    storage: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
):
    storage.pipe_file("/photos/a", b"0123456789")
    used = []
    real = MemoryFileSystem.cat_file

    def cat_file(self: MemoryFileSystem, *arguments: Any, **options: Any) -> bytes:
        used.append(self)
        return real(self, *arguments, **options)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)
    file = RemoteFile(ROOT, "a", 10, block=2, kept=1)
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        read = [executor.submit(file.read, 2).result() for executor in (one, other, one)]
    assert read == [b"01", b"23", b"45"]
    assert used[0] is used[2] is not used[1]


def test_a_server_that_sends_all_of_a_file_is_understood(
    storage: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(remote, "BLOCK", 4)
    monkeypatch.setattr(MemoryFileSystem, "cat_file", lambda *_, **__: b"0123456789")
    with open_remote(ROOT, "a", 10) as file:
        assert file.read() == b"0123456789"


def test_files_without_times_are_no_pair():
    files = [FoundFile(ROOT, name, 5, f"tag {name}") for name in ("a.jpg", "a.dng")]
    assert len(paired({file.key: file for file in files}, {}, lambda key: True)) == 2
