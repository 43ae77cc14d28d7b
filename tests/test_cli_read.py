"""`sqlite-utils read-images` as people run it. The models read in test_recognition.py and test_recipes.py."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlite_utils import Database

from datasette_image_search import Images
from datasette_image_search.cli import progress
from datasette_image_search.decoding.decoding_process import Killed
from datasette_image_search.errors import ImageSearchError
from datasette_image_search.reading import reading, recognition

from .commands import change, command, embed_images, query
from .conftest import COLOURS, draw_picture
from .documents import PROJECT
from .reading_names import BOX, NamesRead


@pytest.fixture(autouse=True)
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read."""
    monkeypatch.setattr(reading, "ReadingProcess", NamesRead)
    monkeypatch.setattr(reading, "check_recognition", lambda: None)
    monkeypatch.setattr(NamesRead, "read", [])
    return NamesRead.read


def read_images(database: Path, *arguments: object, table: str = "images") -> str:
    result = command("read-images", database, table, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()[-1]


def texts(database: Path, table: str = "images", name: str = "path") -> dict[str, list[str]]:
    """Path -> lines, of the images that have some."""
    sql = f'select i.{name}, text from "{table}_text" as t join "{table}" as i on i.id = image_id'
    found: dict[str, list[str]] = {}
    for path, text in query(database, f"{sql} order by t.rowid"):
        found.setdefault(path, []).append(text)
    return found


def reasons(database: Path) -> dict[str, str]:
    sql = "select path, reason from _images_readings join images on id = image_id"
    return dict(query(database, f"{sql} where reason is not null"))


def test_lines_of_images(database: Path, read: list[str]):
    told = read_images(database, "--workers", 2)
    assert told == "8 images read, 6 with text, 1 failed: see the table _images_readings"
    assert sorted(read) == sorted(f"{colour}.jpg" for colour in COLOURS)
    with_text = {f"{colour}.jpg" for colour in COLOURS} - {"black.jpg", "white.jpg"}
    assert texts(database) == {name: [name, "2 MB"] for name in with_text}
    assert reasons(database) == {"black.jpg": "it is black"}
    sql = "select text, score, box from images_text where text = 'red.jpg'"
    assert query(database, sql) == [("red.jpg", 0.99, str(list(BOX)))]


def test_a_search_finds_the_text(database: Path):
    read_images(database)

    def found(words: str) -> dict[str, str]:
        printed = command("search-images", database, "images", words, "--by", "text", "--json")
        return {hit["path"]: hit["matched"] for hit in json.loads(printed.output)}

    assert len(found("mb")) == 6
    assert found("mb")["red.jpg"] == "mb in the picture"
    change(database, "update images_text set text = 'Sesame' where text = 'red.jpg'")
    assert found("sesame") == {"red.jpg": "sesame in the picture"}
    change(database, "delete from images_text where text = 'Sesame'")
    assert found("sesame") == {}


def test_nothing_is_read_twice(database: Path, folder: Path, read: list[str]):
    read_images(database)
    read.clear()
    assert read_images(database) == "0 images read, 0 with text"
    shutil.copy(folder / "red.jpg", folder / "copy.jpg")
    embed_images(database, "images", folder)
    assert read_images(database) == "1 image read, 1 as a copy, 1 with text"
    assert read == []
    assert texts(database)["copy.jpg"] == ["red.jpg", "2 MB"]


def test_a_picture_of_two_new_images_is_read_once(path: Path, folder: Path, read: list[str]):
    shutil.copy(folder / "red.jpg", folder / "copy.jpg")
    embed_images(path, "images", folder, "--model", "palette")
    where = ("--where", "path in ('red.jpg', 'copy.jpg')")
    assert read_images(path, *where, "--limit", 1) == "2 images read, 1 as a copy, 2 with text"
    assert len(read) == 1
    assert texts(path)["red.jpg"] == texts(path)["copy.jpg"]


def test_where_and_limit(database: Path, read: list[str]):
    where = ("--where", "path >= :name", "-p", "name", "orange.jpg")
    assert read_images(database, *where, "--limit", 2).startswith("2 images read")
    assert read_images(database, *where).startswith("3 images read")
    assert sorted(read) == ["orange.jpg", "purple.jpg", "red.jpg", "white.jpg", "yellow.jpg"]
    result = command("read-images", database, "images", "--where", "nonsense")
    assert "the filter 'nonsense' does not work on 'images'" in result.output


def test_failures_are_tried_again_if_that_is_asked_for(database: Path, read: list[str]):
    read_images(database)
    read.clear()
    assert read_images(database, "--retry-failed").startswith("1 image read")
    assert read == ["black.jpg"]


def test_a_picture_whose_process_was_killed_is_tried_again(
    database: Path, monkeypatch: pytest.MonkeyPatch, read: list[str]
):
    def kill(name: str) -> None:
        if name == "red.jpg":
            raise Killed("memory ran out")

    with monkeypatch.context() as patched:
        patched.setattr(NamesRead, "meanwhile", kill)
        assert "2 failed" in read_images(database)
    assert read_images(database) == "1 image read, 1 with text"


def test_nothing_fails_if_no_picture_can_be_read(
    database: Path, monkeypatch: pytest.MonkeyPatch, read: list[str]
):
    def fail(process: NamesRead) -> None:
        raise ImageSearchError("the models that read text cannot be loaded")

    with monkeypatch.context() as patched:
        patched.setattr(NamesRead, "load", fail)
        result = command("read-images", database, "images")
        assert result.exit_code == 1
        assert "cannot be loaded" in result.output
    assert read == []
    assert read_images(database).startswith("8 images read")
    # There is nothing to load the models for.
    monkeypatch.setattr(NamesRead, "load", fail)
    assert read_images(database) == "0 images read, 0 with text"


def test_a_picture_that_changes(database: Path, folder: Path, read: list[str]):
    read_images(database)
    read.clear()
    draw_picture(folder / "red.jpg", "pink")
    # Its row is still of the other picture.
    change(database, "delete from _images_readings where image_id = 6")
    (id,) = query(database, "select id from images where path = 'red.jpg'")
    assert id == (6,)
    assert "1 failed" in read_images(database)
    assert reasons(database)["red.jpg"] == reading.CHANGED
    embed_images(database, "images", folder)
    assert "red.jpg" not in texts(database)
    assert read_images(database) == "1 image read, 1 with text"
    assert read == ["red.jpg"]


def test_the_original_is_read_when_it_is_there_again(database: Path, folder: Path, read: list[str]):
    folder.rename(folder.with_name("away"))
    assert read_images(database) == "8 images read, 8 with text"
    assert texts(database)["red.jpg"] == ["a thumbnail", "2 MB"]
    assert read_images(database) == "0 images read, 0 with text"
    folder.with_name("away").rename(folder)
    assert read_images(database).startswith("8 images read")
    assert texts(database)["red.jpg"] == ["red.jpg", "2 MB"]


def test_an_original_that_is_gone_and_has_no_thumbnail_is_tried_again(
    path: Path, folder: Path, read: list[str]
):
    embed_images(path, "images", folder, "--model", "palette", "--no-thumbnails")
    hidden = (folder / "red.jpg").rename(folder / "hidden")
    read_images(path)
    assert reasons(path)["red.jpg"] == "the file is gone"
    hidden.rename(folder / "red.jpg")
    assert read_images(path) == "1 image read, 1 with text"


def test_of_a_film_the_thumbnail_is_read(database: Path, folder: Path, read: list[str]):
    (folder / "red.jpg").rename(folder / "red.mp4")
    change(
        database,
        "update images set path = 'red.mp4' where path = 'red.jpg'",
        "update images set path = 'blue.mp4' where path = 'blue.jpg'",
        "delete from _images_thumbnails where image_id = "
        "(select id from images where path = 'blue.mp4')",
    )
    read_images(database, "--where", "path like '%.mp4'")
    assert texts(database) == {"red.mp4": ["a thumbnail", "2 MB"]}
    assert reasons(database)["blue.mp4"].startswith("the film has no thumbnail")
    assert read_images(database, "--where", "path like '%.mp4'").startswith("0 images")


def test_lines_leave_with_their_image(database: Path):
    read_images(database)
    change(
        database,
        "delete from images where path = 'red.jpg'",
        "update images set id = 100 where path = 'blue.jpg'",
        "insert or replace into images (id, root_id, path, sha256) "
        "select id, root_id, path, sha256 from images where path = 'green.jpg'",
        "update images set sha256 = 'other' where path = 'orange.jpg'",
    )
    assert sorted(texts(database)) == ["blue.jpg", "purple.jpg", "yellow.jpg"]
    assert query(database, "select count(*) from images_text") == [(6,)]
    assert query(database, "select image_id from _images_readings where image_id = 100") == [(100,)]


def test_a_table_of_ones_own(tmp_path: Path, read: list[str]):
    draw_picture(tmp_path / "red.png", "red")
    content = draw_picture(tmp_path / "blue.png", "blue").read_bytes()
    db = Database(tmp_path / "own.db")
    db["trips"].insert({"id": "a", "file": "red.png"}, pk="id")
    db["blobs"].insert({"id": 1, "content": content}, pk="id")
    embed_images(tmp_path / "own.db", "trips", "--path-column", "file", "--model", "palette")
    embed_images(tmp_path / "own.db", "blobs", "--content-column", "content", "--model", "palette")
    assert read_images(tmp_path / "own.db", table="trips") == "1 image read, 1 with text"
    assert read_images(tmp_path / "own.db", table="blobs") == "1 image read, 1 with text"
    assert texts(tmp_path / "own.db", "trips", "id") == {"a": ["red.png", "2 MB"]}
    change(tmp_path / "own.db", "update blobs set content = x'00'")
    assert texts(tmp_path / "own.db", "blobs", "id") == {}


def test_tables_of_somebody_else(database: Path):
    change(database, "create table images_text (id, text)")
    result = command("read-images", database, "images")
    assert "'images_text' or '_images_readings' was not made by read-images" in result.output


def test_lines_that_a_person_dropped_are_read_again(database: Path):
    read_images(database)
    change(database, "drop table images_text")
    assert read_images(database).startswith("8 images read")


def test_how_long_it_will_take_is_told_after_the_first_pictures(
    database: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reading, "COMMIT_SECONDS", 0.0)
    result = command("read-images", database, "images", "--workers", 1)
    assert "6 images to read with 1 worker will take about 6 seconds" in result.stderr


def test_the_time_to_load_the_models_is_not_counted_for_each_picture(
    database: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reading, "COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(NamesRead, "first_takes", None)
    # The first of seven tells nothing, the second does.
    where = ("--where", "path <> 'black.jpg'")
    result = command("read-images", database, "images", "--workers", 1, *where)
    assert "5 images to read with 1 worker will take about 5 seconds" in result.stderr


def test_progress_does_not_wait_for_the_estimate(database: Path, monkeypatch: pytest.MonkeyPatch):
    """Pictures that fail, as of a drive that is gone, tell no seconds."""
    monkeypatch.setattr(reading, "COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    where = ("--where", "path = 'black.jpg'")
    result = command("read-images", database, "images", *where)
    assert "0 of 1 images" in result.stderr
    assert "1 of 1 images" in result.stderr
    assert "will take" not in result.stderr


def test_ctrl_c_keeps_what_is_done(database: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reading, "COMMIT_SECONDS", 0.0)

    def interrupt(name: str) -> None:
        if name == "purple.jpg":
            raise KeyboardInterrupt

    monkeypatch.setattr(NamesRead, "meanwhile", interrupt)
    result = command("read-images", database, "images", "--workers", 1)
    assert result.exit_code == 130
    assert result.stdout.startswith("Interrupted: 4 images read, 3 with text")
    monkeypatch.setattr(NamesRead, "meanwhile", lambda name: None)
    assert read_images(database).startswith("4 images read")


def test_a_run_that_is_killed_is_finished_by_the_next(database: Path, read: list[str]):
    line = [sys.executable, "-m", "tests.reading_names", "0.1", "read-images", str(database)]
    process = subprocess.Popen([*line, "images", "-s"], cwd=PROJECT)
    done = 0
    while not 0 < done < 8 and process.poll() is None:
        if "_images_readings" in Database(database).table_names():
            done = query(database, "select count(*) from _images_readings")[0][0]
    process.kill()
    assert process.wait() in (-signal.SIGKILL, 0)
    (done,) = query(database, "select count(*) from _images_readings")[0]
    read_images(database)
    assert len(read) == 8 - done
    assert query(database, "pragma integrity_check") == [("ok",)]
    assert {path: len(lines) for path, lines in texts(database).items()} == dict.fromkeys(
        [f"{colour}.jpg" for colour in COLOURS if colour not in ("black", "white")], 2
    )


def test_what_is_refused(database: Path, monkeypatch: pytest.MonkeyPatch):
    with Images(database) as images:
        for wrong in ({"limit": 0}, {"workers": 1.5}, {"max_pixels": 0}, {"retry_failed": 1}):
            with pytest.raises(ImageSearchError, match=f"{next(iter(wrong))} is"):
                images.read(**wrong)
    monkeypatch.setattr(reading, "check_recognition", recognition.check_recognition)
    monkeypatch.setattr(recognition, "find_spec", lambda name: None)
    assert "needs an extra" in command("read-images", database, "images").output
