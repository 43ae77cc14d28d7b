"""Photos in S3, asked for over HTTP: what a whole run does, and what it says if the service does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import s3fs

from datasette_image_search.files import remote

from .commands import command, query
from .s3_server import S3Server, s3_server
from .serving import ask, datasette_of

TABLE = "/-/image-search/photos/images"
ROOT = "s3://bucket/photos"
PICTURES = 16
MORE = 64

pytestmark = pytest.mark.datasette


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[S3Server, str]]:
    with s3_server() as running:
        yield running


@pytest.fixture
def server(running: tuple[S3Server, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    server, url = running
    for name, value in (
        ("AWS_ENDPOINT_URL", url),
        ("AWS_ACCESS_KEY_ID", "testing"),
        ("AWS_SECRET_ACCESS_KEY", "very-secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", "/nowhere"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/nowhere"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.001)
    forget()
    yield server
    server.reset()
    forget()


def forget() -> None:
    """What was opened with other credentials."""
    s3fs.S3FileSystem.clear_instance_cache()
    remote._filesystems.clear()


@pytest.fixture
def bucket(server: S3Server, folder: Path) -> s3fs.S3FileSystem:
    """Pictures of different sizes in two folders, and other files."""
    fs = s3fs.S3FileSystem()
    fs.mkdir("bucket")
    upload(fs, folder, range(PICTURES))
    fs.pipe_file("bucket/photos/notes/a.txt", b"a")
    return fs


def upload(fs: s3fs.S3FileSystem, folder: Path, numbers: range) -> None:
    drawn = [file.read_bytes() for file in sorted(folder.iterdir())]
    fs.pipe(
        {
            f"bucket/photos/{number % 2}/{number:03}.jpg": drawn[number % 8] + bytes(number)
            for number in numbers
        }
    )


@pytest.fixture
def embed(path: Path) -> Callable[..., str]:
    def embed(*options: str, fails: bool = False) -> str:
        result = command("embed-images", path, "images", ROOT, "--model", "palette", "-s", *options)
        assert (result.exit_code != 0) == fails, result.output
        assert "very-secret" not in result.output
        line = result.output.strip().splitlines()[-1]
        return line if fails else line.partition(" in ")[0]

    return embed


@pytest.mark.asyncio
async def test_a_bucket_from_the_first_run_to_the_last(
    bucket: s3fs.S3FileSystem, server: S3Server, embed: Callable, path: Path, folder: Path
):
    upload(bucket, folder, range(PICTURES, PICTURES + MORE))
    number = PICTURES + MORE
    server.asked.clear()
    assert embed() == f"{number} embedded, 0 unchanged, 0 failed"
    # One for each picture, and one for each page of the listing.
    assert server.asked["GET"] <= number + 2
    assert server.asked["HEAD"] <= 1
    assert query(path, "select count(*) from _images_thumbnails") == [(number,)]
    (stored,) = query(path, "select group_concat(path) from image_search_roots")
    assert stored == (ROOT,)

    server.asked.clear()
    assert embed() == f"0 embedded, {number} unchanged, 0 failed"
    assert sum(server.asked.values()) <= 3

    content = bucket.cat_file("bucket/photos/1/001.jpg")
    bucket.mv("bucket/photos/1/001.jpg", "bucket/photos/moved.jpg")
    bucket.rm("bucket/photos/0/000.jpg")
    bucket.pipe_file("bucket/photos/0/002.jpg", bucket.cat_file("bucket/photos/0/002.jpg")[::-1])
    assert embed("--prune") == (
        f"0 embedded, 1 moved, 1 gone and removed, {number - 3} unchanged, 1 failed"
    )

    datasette = datasette_of(path, plugin={"roots": ["s3://bucket"]})
    ((image_id,),) = query(path, "select id from images where path = 'moved.jpg'")
    original = await ask(datasette, f"{TABLE}/{image_id}/image")
    assert (original.status_code, original.content) == (200, content)
    assert (await ask(datasette, f"{TABLE}/{image_id}/preview")).status_code == 200
    assert (await ask(datasette, f"{TABLE}/{image_id}/thumbnail")).status_code == 200


def test_a_service_that_throttles_and_fails_costs_no_picture(
    bucket: s3fs.S3FileSystem, server: S3Server, embed: Callable
):
    server.every = 4
    assert embed() == f"{PICTURES} embedded, 0 unchanged, 0 failed"


def test_a_bucket_that_is_gone_changes_nothing(
    bucket: s3fs.S3FileSystem, embed: Callable, path: Path
):
    embed("--limit", "2")
    bucket.rm("bucket", recursive=True)
    said = embed("--prune", fails=True)
    assert f"there is nothing at '{ROOT}'; check its name" in said
    assert query(path, "select count(*) from images") == [(2,)]


def test_a_listing_of_many_pages_is_whole_or_nothing(
    bucket: s3fs.S3FileSystem,
    server: S3Server,
    embed: Callable,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")
    assert embed() == f"{PICTURES} embedded, 0 unchanged, 0 failed"
    server.first_page_only = True
    said = embed("--prune", fails=True)
    assert "Access Denied" in said
    assert "nothing was changed" in said
    assert query(path, "select count(*) from images") == [(PICTURES,)]


def test_a_prefix_without_objects_is_storage_that_is_away(
    bucket: s3fs.S3FileSystem, embed: Callable, path: Path
):
    embed("--limit", "2")
    bucket.rm("bucket/photos", recursive=True)
    assert f"there are no images left in '{ROOT}'" in embed("--prune", fails=True)
    assert query(path, "select count(*) from images") == [(2,)]


def test_no_credentials_are_one_sentence(
    bucket: s3fs.S3FileSystem, embed: Callable, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    forget()
    said = embed(fails=True)
    assert f"'{ROOT}' may not be read with the credentials that there are" in said
