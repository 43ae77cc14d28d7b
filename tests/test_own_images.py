"""Image tables of a person's own: paths or BLOBs in a table that was there before."""

from __future__ import annotations

import json
import os
import sqlite3
from base64 import b64encode
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils
from datasette.app import Datasette
from PIL import Image

from datasette_image_search.ingest.own_images import OwnImage, find_own_changes
from datasette_image_search.ingest.pipeline import EmbedRequest, embed_images
from datasette_image_search.sql.functions import register_functions
from datasette_image_search.store.own_rows import OwnRow
from datasette_image_search.store.tables import KnownSource

from .commands import change, command, query, touch_later
from .commands import embed_images as embed
from .conftest import COLOURS, draw_picture, query_json
from .serving import ask, datasette_of

KEYS = {int: [3, 5, 8, 13, 21, 34, 55, 89], str: ["ä", "b b", "c'", 'd"', "e/", "#f", "7", ""]}


@pytest.fixture(params=[int, str])
def key_type(request: pytest.FixtureRequest) -> type:
    return request.param


@pytest.fixture
def own(tmp_path: Path, folder: Path, key_type: type) -> Path:
    """A database with the table pictures(key, title, file), the files relative and absolute."""
    path = tmp_path / "my.db"
    db = sqlite_utils.Database(path)
    db["pictures"].insert_all(
        [
            {
                "key": key,
                "title": f"A {colour} picture",
                "file": f"pictures/{colour}.jpg" if colour < "m" else str(folder / f"{colour}.jpg"),
            }
            for key, colour in zip(KEYS[key_type], COLOURS, strict=True)
        ],
        pk="key",
    )
    db.close()
    return path


@pytest.fixture
def inserted(tmp_path: Path, folder: Path) -> Path:
    """What `sqlite-utils insert-files` makes: path (the key), content and size."""
    path = tmp_path / "photos.db"
    files = sorted(folder.glob("*.jpg"))
    assert command("insert-files", path, "pictures", *files).exit_code == 0
    return path


def embed_own(path: Path, *options: object, table: str = "pictures") -> str:
    """What the run says in its first line, less the time."""
    return embed(path, table, *options).stdout.partition(" in ")[0]


def key_of(path: Path, colour: str) -> int | str:
    ((key,),) = query(path, "select key from pictures where title like ?", [f"% {colour} %"])
    return key


def best(path: Path, words: str) -> dict:
    """The closest, whatever is written."""
    options = ("--by", "likeness", "-k", "1", "--json")
    (row,) = json.loads(command("search-images", path, "pictures", words, *options).stdout)
    return row


def failures_of(path: Path) -> dict[str, str]:
    return dict(query(path, "select path, reason from _pictures_failures"))


def embedded_files(path: Path, key: str, name: str) -> set[tuple[str, str]]:
    """File name and sha256 of what was embedded."""
    rows = query(
        path,
        f"select {name}, v.sha256 from pictures join _pictures_vectors as v on v.image_id = {key} "
        f"join _pictures_thumbnails as t on t.image_id = {key} and t.sha256 = v.sha256",
    )
    return {(Path(file).name, sha256) for file, sha256 in rows}


# --- Paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", ["null", "''"])
def test_rows_without_a_path_are_counted_and_told(own: Path, empty: str):
    change(
        own, f"update pictures set file = {empty} where title like '%blue%' or title like '%red%'"
    )
    run = ("pictures", "--path-column", "file", "--model", "palette")
    told = "2 rows have no image in the column 'file'\n"
    planned = embed(own, *run, "--dry-run")
    assert (planned.stderr, planned.stdout) == (
        told,
        "Would be: 6 embedded, 0 unchanged, 0 failed\n",
    )
    result = embed(own, *run)
    assert result.stderr == told
    assert result.stdout.startswith("6 embedded, 0 unchanged, 0 failed in ")
    change(own, f"delete from pictures where file is {empty} and title like '%blue%'")
    assert embed(own, "pictures").stderr.startswith("1 row has no image in the column 'file'")


def test_the_path_of_a_row_that_fails_is_told_with_its_key(own: Path, folder: Path):
    (folder / "blue.jpg").unlink()
    run = ("pictures", "--path-column", "file", "--model", "palette")
    ((key,),) = query(own, "select key from pictures where title = 'A blue picture'")
    told = f"#{key} ({folder / 'blue.jpg'}): No such file or directory"
    assert f"Would fail: {told}" in embed(own, *run, "--dry-run").stderr
    assert f"Failed: {told}" in embed(own, *run).stderr


def test_rows_without_a_blob_are_counted_and_told(inserted: Path):
    change(inserted, "update pictures set content = null where path like '%red.jpg'")
    result = embed(inserted, "pictures", "--content-column", "content", "--model", "palette")
    assert result.stderr == "1 row has no image in the column 'content'\n"


def test_a_table_with_paths_becomes_searchable_and_stays_as_it_is(own: Path):
    schema = "select sql from sqlite_master where type = 'table' and name = 'pictures'"
    rows, sql = query(own, "select * from pictures"), query(own, schema)

    assert embed_own(own, "--path-column", "file", "--model", "palette") == (
        "8 embedded, 0 unchanged, 0 failed"
    )

    assert (query(own, "select * from pictures"), query(own, schema)) == (rows, sql)
    for colour in COLOURS:
        assert best(own, colour)["id"] == key_of(own, colour)
    assert query(own, "select count(*) from _pictures_thumbnails") == [(8,)]


def test_a_second_run_needs_no_option_and_embeds_nothing(own: Path):
    embed_own(own, "--path-column", "file", "--model", "palette")
    before = own.read_bytes()
    assert embed_own(own) == "0 embedded, 8 unchanged, 0 failed"
    assert own.read_bytes() == before


def test_relative_paths_are_relative_to_the_database(
    own: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    embed_own(Path("..", own.name), "--path-column", "file", "--model", "palette")
    found = command("search-images", Path("..", own.name), "pictures", "blue", "-k", "1", "--paths")
    assert found.stdout == f"{folder / 'blue.jpg'}\n"
    assert best(own, "blue")["path"] == "pictures/blue.jpg"


def test_a_file_that_changed_is_embedded_again(own: Path, folder: Path):
    embed_own(own, "--path-column", "file", "--model", "palette")
    key = key_of(own, "blue")
    draw_picture(folder / "blue.jpg", "red", (90, 60))
    draw_picture(folder / "red.jpg", "blue", (90, 60))
    for name in ("blue.jpg", "red.jpg"):
        touch_later(folder / name)
    assert embed_own(own) == "2 embedded, 6 unchanged, 0 failed"
    assert best(own, "red")["id"] == key
    assert query(own, "select count(*) from _pictures_vectors") == [(8,)]


def test_a_row_that_points_to_another_file_is_not_that_of_the_old_one(own: Path, folder: Path):
    embed_own(own, "--path-column", "file", "--model", "palette")
    key = key_of(own, "blue")
    # Two pictures that size and time do not tell apart.
    draw_picture(folder / "red.bmp", "red")
    draw_picture(folder / "blue.bmp", "blue")
    for name in ("red.bmp", "blue.bmp"):
        os.utime(folder / name, (1_600_000_000, 1_600_000_000))
    change(own, "update pictures set file = 'pictures/blue.bmp' where title like '% blue %'")
    assert embed_own(own) == "1 embedded, 7 unchanged, 0 failed"
    change(own, "update pictures set file = 'pictures/red.bmp' where title like '% blue %'")
    change(own, "delete from pictures where title like '% red %'")

    assert command("search-images", own, "pictures", f"#{key}", "--json").exit_code == 1
    assert embed_own(own) == "1 embedded, 6 unchanged, 0 failed"
    assert best(own, "red")["id"] == key


def test_a_file_that_is_missing_is_a_failure_until_it_is_there(own: Path, folder: Path):
    (folder / "red.jpg").rename(folder / "kept")
    key = key_of(own, "red")
    run = ("--path-column", "file", "--model", "palette")
    assert embed_own(own, *run) == "7 embedded, 0 unchanged, 1 failed"
    assert failures_of(own) == {f"#{key}": "No such file or directory"}
    assert embed_own(own) == "0 embedded, 7 unchanged, 1 failed"

    (folder / "kept").rename(folder / "red.jpg")
    assert embed_own(own) == "1 embedded, 7 unchanged, 0 failed"
    assert failures_of(own) == {}


def test_a_drive_that_was_not_mounted_costs_no_vector(own: Path, folder: Path):
    embed_own(own, "--path-column", "file", "--model", "palette")
    before = query(own, "select id, image_id from _pictures_vectors")
    folder.rename(folder.with_name("unmounted"))
    assert embed_own(own) == "0 embedded, 0 unchanged, 8 failed"
    assert embed_own(own) == "0 embedded, 0 unchanged, 8 failed"
    assert len(failures_of(own)) == 8
    folder.with_name("unmounted").rename(folder)
    assert embed_own(own) == "0 embedded, 8 unchanged, 0 failed"
    assert failures_of(own) == {}
    assert query(own, "select id, image_id from _pictures_vectors") == before


def test_rows_come_and_go(own: Path, folder: Path, key_type: type):
    embed_own(own, "--path-column", "file", "--model", "palette")
    draw_picture(folder / "pink.png", "pink")
    new = KEYS[key_type][0] * 100
    change(
        own,
        "delete from pictures where title like '% red %'",
        f"insert into pictures values ('{new}', 'A pink picture', 'pictures/pink.png')",
        f"insert into pictures values ('{new}0', 'No picture at all', null)",
    )
    assert query(own, "select count(*) from _pictures_vectors") == [(7,)]
    assert query(own, "select count(*) from _pictures_thumbnails") == [(7,)]
    assert embed_own(own) == "1 embedded, 7 unchanged, 0 failed"
    assert best(own, "pink")["id"] == new


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("nothing/there.jpg", "No such file or directory"),
        ("pictures", "it is a folder"),
        ("a" * 5000, "File name too long"),
        ("nul\0byte.jpg", "the value has a null character, as no path has"),
        ("https://example.com/a.jpg", "the value is a URL, not a path; download the picture"),
        ("FILE:///photos/a.jpg", "the value is a URL, not a path"),
        (b"\xff.jpg", "the value is a BLOB, not a path"),
        (17, "No such file"),
    ],
    ids=["missing", "folder", "long", "nul", "url", "file url", "bytes", "number"],
)
def test_whatever_stands_in_the_path_column_costs_no_more_than_its_row(
    tmp_path: Path, folder: Path, file: str | bytes | int, reason: str
):
    path = tmp_path / "my.db"
    sqlite_utils.Database(path)["pictures"].insert_all(
        [{"id": 1, "file": "pictures/red.jpg"}, {"id": 2, "file": file}], pk="id"
    )
    assert embed_own(path, "--path-column", "file", "--model", "palette") == (
        "1 embedded, 0 unchanged, 1 failed"
    )
    assert reason in failures_of(path)["#2"]


def test_a_text_that_is_not_utf8_is_no_path(tmp_path: Path, folder: Path):
    path = tmp_path / "my.db"
    sqlite_utils.Database(path)["pictures"].insert_all(
        [{"id": 1, "file": "pictures/red.jpg"}, {"id": 2, "file": ""}], pk="id"
    )
    change(path, "update pictures set file = cast(x'61ff2e6a7067' as text) where id = 2")
    embed_own(path, "--path-column", "file", "--model", "palette")
    assert failures_of(path)["#2"] == (
        "the value is a text that is not UTF-8; write the path in UTF-8"
    )


# --- BLOBs ---------------------------------------------------------------------------------------


def test_what_insert_files_made_becomes_searchable(inserted: Path, folder: Path):
    rows = query(inserted, "select * from pictures")
    assert embed_own(inserted, "--content-column", "content", "--model", "palette") == (
        "8 embedded, 0 unchanged, 0 failed"
    )
    assert query(inserted, "select * from pictures") == rows
    for colour in COLOURS:
        assert best(inserted, colour)["id"] == str(folder / f"{colour}.jpg")
    assert embed_own(inserted) == "0 embedded, 8 unchanged, 0 failed"


def test_a_blob_and_a_file_are_embedded_alike(inserted: Path, own: Path):
    embed_own(inserted, "--content-column", "content", "--model", "palette")
    embed_own(own, "--path-column", "file", "--model", "palette")
    by_path = embedded_files(own, "key", "file")
    by_blob = embedded_files(inserted, "path", "path")
    assert len(by_path) == 8
    assert by_path == by_blob


@pytest.mark.parametrize("length", [2000, 2001], ids=["same length", "other length"])
def test_a_blob_that_changed_is_embedded_again(inserted: Path, folder: Path, length: int):
    key = str(folder / "red.jpg")

    def write(colour: str, length: int) -> None:
        # Zeros after the end of a JPEG mean nothing.
        content = (folder / f"{colour}.jpg").read_bytes().ljust(length, b"\0")
        db = sqlite_utils.Database(inserted, execute_plugins=False)
        db["pictures"].update(key, {"content": content})
        db.close()

    write("red", 2000)
    embed_own(inserted, "--content-column", "content", "--model", "palette")
    write("blue", length)

    assert embed_own(inserted) == "1 embedded, 7 unchanged, 0 failed"
    found = command("search-images", inserted, "pictures", "blue", "-k", "2", "--json")
    assert {Path(row["id"]).name for row in json.loads(found.stdout)} == {"blue.jpg", "red.jpg"}


def test_a_bad_blob_is_tried_again_when_it_changes(inserted: Path, folder: Path):
    key = str(folder / "red.jpg")
    good = (folder / "red.jpg").read_bytes()
    db = sqlite_utils.Database(inserted, execute_plugins=False)
    db["pictures"].update(key, {"content": b"x" * len(good)})
    run = ("--content-column", "content", "--model", "palette")
    assert embed_own(inserted, *run) == "7 embedded, 0 unchanged, 1 failed"
    assert embed_own(inserted) == "0 embedded, 7 unchanged, 1 failed"
    db["pictures"].update(key, {"content": good})
    assert embed_own(inserted) == "1 embedded, 7 unchanged, 0 failed"
    assert failures_of(inserted) == {}


def test_a_failure_goes_with_its_row(inserted: Path):
    db = sqlite_utils.Database(inserted, execute_plugins=False)
    db["pictures"].insert({"path": "bad", "content": b"no picture", "size": 0})
    embed_own(inserted, "--content-column", "content", "--model", "palette")
    db["pictures"].delete("bad")
    assert embed_own(inserted) == "0 embedded, 8 unchanged, 0 failed"
    assert failures_of(inserted) == {}


@pytest.mark.parametrize("content", [b"", b"no picture", "text", 17], ids=repr)
def test_whatever_stands_in_the_content_column_costs_no_more_than_its_row(
    inserted: Path, content: bytes | str | int
):
    db = sqlite_utils.Database(inserted, execute_plugins=False)
    db["pictures"].insert({"path": "bad", "content": content, "size": 0})
    assert embed_own(inserted, "--content-column", "content", "--model", "palette") == (
        "8 embedded, 0 unchanged, 1 failed"
    )
    assert failures_of(inserted)["#bad"]


# --- Search --------------------------------------------------------------------------------------


@pytest.mark.datasette
@pytest.mark.asyncio
async def test_sql_and_thumbnails_work_on_blobs(inserted: Path, folder: Path):
    embed_own(inserted, "--content-column", "content", "--model", "palette")
    key = str(folder / "red.jpg")
    datasette = Datasette([str(inserted)])

    sql = (
        "select path, image_similarity(path, 'red') as score from pictures "
        "order by score desc limit 1"
    )
    (row,) = await query_json(datasette, sql)
    assert row["path"] == key
    (row,) = await query_json(datasette, "select image_search('red', 1) as hits")
    assert json.loads(row["hits"])[0]["id"] == key
    thumbnail = query(inserted, "select webp from _pictures_thumbnails where image_id = ?", [key])
    assert Image.open(BytesIO(thumbnail[0][0])).format == "WEBP"


def test_a_text_key_that_looks_like_a_number_is_still_text(tmp_path: Path, folder: Path):
    path = tmp_path / "my.db"
    sqlite_utils.Database(path)["pictures"].insert_all(
        [{"key": "007", "file": "pictures/red.jpg"}, {"key": "7", "file": "pictures/blue.jpg"}],
        pk="key",
    )
    embed_own(path, "--path-column", "file", "--model", "palette")
    assert (best(path, "red")["id"], best(path, "blue")["id"]) == ("007", "7")
    assert best(path, "#007")["id"] == "007"


# --- Refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "options", "sentence"),
    [
        (
            "create table pictures (a, b, file, primary key (a, b))",
            ["--path-column", "file"],
            "table 'pictures' has no primary key of one column",
        ),
        (
            "create table pictures (file)",
            ["--path-column", "file"],
            "table 'pictures' has no primary key of one column",
        ),
        (
            "create table pictures (id integer primary key, file)",
            ["--path-column", "path"],
            "table 'pictures' has no column 'path'; it has id, file",
        ),
        (
            "create table pictures (id integer primary key, file)",
            ["--content-column", "blob"],
            "table 'pictures' has no column 'blob'; it has id, file",
        ),
        (
            "create table pictures (id integer primary key, file)",
            ["--path-column", "file"],
            "table 'pictures' has no images in its column 'file'",
        ),
        ("create table pictures (id integer primary key, file)", [], "name the folders to embed"),
        (
            "create view pictures as select 1 as id, 'a.jpg' as file",
            ["--path-column", "file"],
            "'pictures' is a view, and only tables can have images; name its table",
        ),
        ("create table others (id)", ["--path-column", "file"], "there is no table 'pictures'"),
    ],
    ids=["two keys", "no key", "no column", "no BLOBs", "no rows", "no option", "view", "no table"],
)
def test_what_makes_no_sense_is_one_sentence_and_changes_nothing(
    tmp_path: Path, schema: str, options: list[str], sentence: str
):
    path = tmp_path / "my.db"
    change(path, schema)
    before = path.read_bytes()
    result = command("embed-images", path, "pictures", *options, "--model", "palette")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {sentence}")
    assert len(result.stderr.splitlines()) == 1
    assert path.read_bytes() == before


def test_a_table_made_from_folders_takes_no_column(database: Path):
    result = command("embed-images", database, "images", "--path-column", "path")
    assert result.exit_code == 1
    assert "table 'images' was made from folders; name the folders to embed" in result.stderr


def test_a_table_of_ones_own_takes_no_folders(own: Path, folder: Path):
    embed_own(own, "--path-column", "file", "--model", "palette")
    result = command("embed-images", own, "pictures", folder)
    assert result.exit_code == 1
    assert "table 'pictures' cannot take images: it has no column 'root_id'" in result.stderr


# --- BLOBs, whose triggers were gone --------------------------------------------------------------


def blob(colour: str, width: int = 8) -> bytes:
    """A picture of one colour; those of the same width have the same length."""
    content = BytesIO()
    Image.new("RGB", (width, 8), colour).save(content, "BMP")
    return content.getvalue()


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Embedded, with ids from 1 in the order of COLOURS."""
    path = tmp_path / "scans.db"
    with closing(sqlite_utils.Database(path)) as db:
        rows = [{"id": n, "scan": blob(colour)} for n, colour in enumerate(COLOURS, 1)]
        db["pictures"].insert_all(rows, pk="id")
    assert embed_own(path, "--content-column", "scan", "--model", "palette").startswith("8 embed")
    return path


def swap(path: Path, one: int, other: int) -> None:
    (first,), (second,) = (
        row
        for id in (one, other)
        for row in query(path, "select scan from pictures where id = ?", [id])
    )
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.executemany(
            "update pictures set scan = ? where id = ?", [(second, one), (first, other)]
        )


def transform(path: Path) -> None:
    """As sqlite-utils does, with the triggers of the table."""
    assert command("transform", path, "pictures", "--rename", "nothing", "nothing").exit_code == 0
    triggers = query(path, "select name from sqlite_master where tbl_name = 'pictures'")
    assert "_pictures_image_search_content_changed" not in [name for (name,) in triggers]


def computed(path: Path, expression: str) -> Any:
    with closing(sqlite3.connect(path)) as conn:
        register_functions(conn)
        return conn.execute(f"select {expression}").fetchone()[0]


def found(path: Path) -> set[int]:
    return {hit["id"] for hit in json.loads(computed(path, "image_search('red', 8)"))}


def status_of(path: Path) -> dict[str, Any]:
    return json.loads(computed(path, "image_search_status()"))


BEFORE = {
    "nothing": None,
    "tags": ("tag-images", "pictures", "red", "blue", "-s"),
    "an index": ("index-images", "pictures", "-s"),
    "duplicates": ("find-duplicates", "pictures", "--write", "-s"),
}


@pytest.mark.parametrize("before", BEFORE)
def test_a_blob_of_the_same_length_in_anothers_place_is_noticed(scans: Path, before: str):
    """Whichever command puts the triggers back."""
    transform(scans)
    swap(scans, 1, 4)
    if BEFORE[before] is not None:
        name, *rest = BEFORE[before]
        assert command(name, scans, *rest).exit_code == 0
        ids = query(scans, "select image_id from _pictures_vectors order by 1")
        assert [id for (id,) in ids] == [2, 3, 5, 6, 7, 8]
    told = "2 embedded, 6 unchanged, 0 failed"
    assert embed_own(scans, "--dry-run") == f"Would be: {told}\n"
    assert embed_own(scans) == told
    assert (best(scans, "red")["id"], best(scans, "green")["id"]) == (4, 1)
    assert embed_own(scans) == "0 embedded, 8 unchanged, 0 failed"
    swap(scans, 1, 4)
    assert embed_own(scans) == told
    assert best(scans, "red")["id"] == 1


def test_a_blob_of_another_length_is_not_found_meanwhile(scans: Path):
    transform(scans)
    assert found(scans) == {1, 2, 3, 4, 5, 6, 7, 8}
    with closing(sqlite3.connect(scans)) as conn, conn:
        conn.execute("update pictures set scan = ? where id = 1", [blob("white", 80)])
    assert found(scans) == {2, 3, 4, 5, 6, 7, 8}
    assert computed(scans, "image_similarity(1, 'red')") is None
    assert embed_own(scans) == "1 embedded, 7 unchanged, 0 failed"


def test_the_status_says_that_blobs_may_be_others(scans: Path):
    """Until a command that writes has looked at them, one of the same length is answered with the old vector."""
    assert status_of(scans)["problem"] is None
    transform(scans)
    swap(scans, 1, 4)
    told = status_of(scans)["problem"]
    assert "triggers of 'pictures' are missing" in told
    assert "check all BLOBs with sqlite-utils embed-images" in told
    assert (best(scans, "red")["id"], status_of(scans)["vectors"]) == (1, 8)
    assert command("index-images", scans, "pictures", "-s").exit_code == 0
    told = status_of(scans)["problem"]
    assert told == "2 images have no vector; embed them with sqlite-utils embed-images"
    embed_own(scans)
    assert status_of(scans)["problem"] is None
    assert best(scans, "red")["id"] == 4


def test_the_status_of_paths_needs_no_triggers(own: Path):
    embed_own(own, "--path-column", "file", "--model", "palette")
    transform(own)
    assert status_of(own)["problem"] is None


def test_what_is_no_blob_any_more_is_not_found(scans: Path):
    transform(scans)
    change(scans, "update pictures set scan = null where id = 1")
    assert found(scans) == {2, 3, 4, 5, 6, 7, 8}
    assert embed_own(scans) == "0 embedded, 7 unchanged, 0 failed"
    assert query(scans, "select 1 from _pictures_vectors where image_id = 1") == []


@pytest.mark.datasette
@pytest.mark.asyncio
@pytest.mark.parametrize("change", [("--drop", "scan"), ("--rename", "scan", "picture")])
async def test_without_the_column_of_its_blobs_a_table_is_searched_all_the_same(
    scans: Path, change: tuple[str, ...]
):
    assert command("transform", scans, "pictures", *change).exit_code == 0
    searched = command("search-images", scans, "pictures", "red", "-k", 8)
    assert (searched.exit_code, searched.output.count("\n0.")) == (0, 8), searched.output
    duplicates = command("find-duplicates", scans, "pictures", "--threshold", "0.1")
    assert (duplicates.exit_code, "#1" in duplicates.output) == (0, True), duplicates.output
    assert found(scans) == {1, 2, 3, 4, 5, 6, 7, 8}
    assert computed(scans, "image_similarity(1, '#1')") == pytest.approx(1, abs=1e-3)
    datasette = datasette_of(scans)
    page = "/-/image-search/scans/pictures"
    hits = (await ask(datasette, f"{page}.json?q=red")).json()["hits"]
    assert {hit["id"] for hit in hits} == {1, 2, 3, 4, 5, 6, 7, 8}
    for path in ("?q=red", "?q=red&id__gt=3", "/1/thumbnail"):
        assert (await ask(datasette, f"{page}{path}")).status_code == 200, path
    assert command("index-images", scans, "pictures").exit_code == 0
    assert found(scans) == {1, 2, 3, 4, 5, 6, 7, 8}


def test_a_source_leaves_with_its_image_and_goes_along_to_another_id(scans: Path):
    change(scans, "delete from pictures where id = 1", "update pictures set id = 70 where id = 2")
    ids = query(scans, "select image_id from _pictures_sources order by 1")
    assert [id for (id,) in ids] == [3, 4, 5, 6, 7, 8, 70]
    assert embed_own(scans) == "0 embedded, 7 unchanged, 0 failed"


def test_a_renamed_column_of_blobs_keeps_its_trigger(scans: Path):
    """SQLite corrects the trigger; the old name in it would forbid any other renaming."""
    change(scans, "alter table pictures rename column scan to picture")
    assert command("tag-images", scans, "pictures", "red", "blue", "-s").exit_code == 0
    change(scans, "alter table pictures rename column picture to pic")
    change(scans, "update pictures set pic = null where id = 1")
    assert query(scans, "select 1 from _pictures_vectors where image_id = 1") == []
    assert found(scans) == {2, 3, 4, 5, 6, 7, 8}


def test_a_dropped_table_of_sources_is_made_again_for_the_triggers(scans: Path):
    change(scans, "drop table _pictures_sources")
    assert found(scans) == {1, 2, 3, 4, 5, 6, 7, 8}
    assert command("tag-images", scans, "pictures", "red", "blue", "-s").exit_code == 0
    change(scans, "delete from pictures where id = 1")
    assert embed_own(scans) == "7 embedded, 0 unchanged, 0 failed"


# --- Finding, without a database -----------------------------------------------------------------


def test_a_blob_is_known_by_its_length(tmp_path: Path):
    known = KnownSource(1, 10, "")
    rows = [OwnRow(1, 10, known), OwnRow(2, 11, known), OwnRow(3, 12, None)]
    changes = find_own_changes(rows, None)
    assert changes.to_embed == (OwnImage(2, 11, ""), OwnImage(3, 12, ""))
    assert changes.unchanged == 1


def test_a_failure_is_tried_again_only_where_that_is_asked_for():
    rows = [OwnRow("k", 10, KnownSource("k", 10, "", failed=True, has_vector=False))]
    assert find_own_changes(rows, None).failed_before == 1
    (image,) = find_own_changes(rows, None, retry_failed=True).to_embed
    assert (image.path, image.read()) == ("#k", b"")


def test_a_limit_holds_for_own_tables_too(own: Path):
    request = EmbedRequest(own, "pictures", path_column="file", model="palette", limit=5)
    assert [embed_images(request).embedded for _ in range(3)] == [5, 3, 0]


def test_another_path_column_is_remembered_from_then_on(tmp_path: Path, folder: Path):
    path = tmp_path / "my.db"
    db = sqlite_utils.Database(path)
    row = {"id": 1, "front": "pictures/red.jpg", "back": "pictures/blue.jpg"}
    db["pictures"].insert(row, pk="id")
    db.close()
    embed_own(path, "--path-column", "front", "--model", "palette")

    assert embed_own(path, "--path-column", "back").startswith("1 embedded")
    assert embed_own(path) == "0 embedded, 1 unchanged, 0 failed"
    assert best(path, "blue")["path"] == "pictures/blue.jpg"


@pytest.mark.parametrize(
    "arguments",
    [("--path-column", "a", "--content-column", "b"), (".", "--path-column", "a")],
)
def test_only_one_place_has_the_images(tmp_path: Path, arguments: tuple[str, ...]):
    result = command("embed-images", tmp_path / "my.db", "pictures", *arguments)
    assert (result.exit_code, "give either files and folders" in result.stderr) == (1, True)


@pytest.mark.parametrize("type", ["", "numeric", "blob"])
def test_a_key_that_is_neither_integer_nor_text_is_refused(tmp_path: Path, type: str):
    path = tmp_path / "my.db"
    change(path, f"create table pictures (id {type} primary key, file)")
    result = command("embed-images", path, "pictures", "--path-column", "file")
    assert result.exit_code == 1
    assert "neither an integer nor a text" in result.stderr


# --- Rows that name no image -----------------------------------------------------------------------


ODD_KEYS = {
    "text": ["a", " k", "", None, None, b"\xff\x00"],
    "int": [1, -5, 2**62, None, "x7", 2.5],
}
"""By the type of the column: three keys, and three of rows that nothing can name."""

ODD_LABELS = {
    "text": {"NULL": "NULL", "NULL (2)": "NULL", "X'FF00'": "a BLOB"},
    "int": {"NULL": "NULL", "'x7'": "a text", "2.5": "a fraction"},
}


@pytest.fixture(params=["text", "int"])
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """A type, and a database whose table has keys of it, of which SQLite does not care."""
    for at in range(6):
        draw_picture(tmp_path / f"{at}.png", COLOURS[at])
    path = tmp_path / "odd.db"
    rows = [(key, f"{at}.png") for at, key in enumerate(ODD_KEYS[request.param])]
    db = sqlite_utils.Database(path)
    db.execute(f"create table pictures (key {request.param} primary key, file text)")
    db.conn.executemany("insert into pictures values (?, ?)", rows)
    db.conn.commit()
    db.close()
    return request.param, path


def test_a_row_without_a_key_is_a_failure_and_the_others_are_embedded(odd: tuple[str, Path]):
    kind, path = odd
    options = ("--path-column", "file", "--model", "palette")
    assert embed_own(path, "--dry-run", *options).startswith("Would be: 3 embedded")
    assert embed_own(path, *options) == "3 embedded, 0 unchanged, 3 failed"
    failures = failures_of(path)
    assert failures.keys() == ODD_LABELS[kind].keys()
    for label, what in ODD_LABELS[kind].items():
        wanted = "a text" if kind == "text" else "a whole number"
        assert failures[label] == f"its key 'key' is {what}; give the row {wanted} for a key"
    assert embed_own(path) == "0 embedded, 3 unchanged, 3 failed"
    change(path, "delete from pictures where typeof(key) not in ('integer', 'text') or key = 'x7'")
    assert embed_own(path) == "0 embedded, 3 unchanged, 0 failed"
    assert failures_of(path) == {}


@pytest.mark.parametrize(
    ("key", "label", "what"),
    [
        ("char(97, 0, 98)", "'a\\0b'", "a text with a null character, where SQLite ends it"),
        ("cast(x'61ff' as text)", "'a\\udcff'", "a text that is not UTF-8"),
    ],
)
def test_a_text_that_sqlite_cannot_hand_on_is_a_failure(
    tmp_path: Path, key: str, label: str, what: str
):
    path = tmp_path / "my.db"
    for colour in ("red", "blue"):
        draw_picture(tmp_path / f"{colour}.png", colour)
    change(
        path,
        "create table pictures (key text primary key, file)",
        "insert into pictures values ('a', 'red.png')",
        f"insert into pictures values ({key}, 'blue.png')",
    )
    options = ("--path-column", "file", "--model", "palette")
    assert embed_own(path, *options) == "1 embedded, 0 unchanged, 1 failed"
    reason = f"its key 'key' is {what}; give the row a text for a key"
    assert failures_of(path) == {label: reason}
    assert best(path, "blue")["id"] == "a"
    # Its words are not found either.
    (row,) = json.loads(command("search-images", path, "pictures", "blue", "--json").stdout)
    assert row["id"] == "a"


def test_every_command_gets_along_with_such_rows(odd: tuple[str, Path]):
    kind, path = odd
    embed(path, "pictures", "--path-column", "file", "--model", "palette")
    rows = json.loads(command("search-images", path, "pictures", "red", "--json").stdout)
    assert sorted(map(str, (row["id"] for row in rows))) == sorted(map(str, ODD_KEYS[kind][:3]))
    for line in (
        ("find-duplicates", path, "pictures", "--threshold", "0.1", "--write"),
        ("find-duplicates", path, "pictures", "--threshold", "0.1", "--paths"),
        ("tag-images", path, "pictures", "red", "blue"),
        ("plot-images", path, "pictures", path.with_name("map.png"), "--color", "file"),
        ("plot-images", path, "pictures", "--html", path.with_name("map.html")),
        ("index-images", path, "pictures", "--type", "ivf"),
        ("query", path, "select image_search('red', 9), image_search_status()"),
    ):
        result = command(*line)
        assert result.exit_code == 0, (line, result.output)
    sql = """
        select count(image_similarity(key, 'red')) as scored,
            count(image_classify(key, '["red", "blue"]')) as classified,
            json_array_length(image_search_agg(key, 'red', 9)) as among from pictures
    """
    (row,) = json.loads(command("query", path, sql).stdout)
    assert set(row.values()) == {3}
    # But another column than that of the keys is a mistake.
    if kind == "int":
        assert command(
            "query", path, "select image_similarity(file, 'red') from pictures"
        ).exit_code


@pytest.mark.datasette
@pytest.mark.asyncio
async def test_every_page_gets_along_with_such_rows(odd: tuple[str, Path]):
    _, path = odd
    embed(path, "pictures", "--path-column", "file", "--model", "palette")
    command("tag-images", path, "pictures", "red", "blue")
    datasette = Datasette([str(path)])
    search, table = "/-/image-search/odd/pictures", "/odd/pictures"
    for page in (
        search, f"{search}?q=red", f"{search}.json", f"{search}.json?q=red", f"{search}.csv",
        f"{search}/map", f"{search}/map.json", f"{search}/map.json?_color=file", f"{search}?_facet=file",
        table, f"{table}?_image_search=red", f"{table}.images", f"{table}.images?_image_search=red",
        f"{table}.json?_image_search=red", f"{table}?_facet_tag=key", f"{table}_tags",
    ):  # fmt: skip
        response = await datasette.client.get(page)
        assert response.status_code == 200, (page, response.text)
    hits = (await datasette.client.get(f"{search}.json")).json()["hits"]
    assert len(hits) == 3
    for hit in hits:
        thumbnail = await datasette.client.get(hit["thumbnail"].removeprefix("http://localhost"))
        assert thumbnail.headers["content-type"] == "image/webp", hit["id"]


def test_a_text_key_with_blanks_is_searched_by_as_it_is_printed(tmp_path: Path):
    path = tmp_path / "my.db"
    for at, colour in enumerate(("red", "orange", "blue")):
        draw_picture(tmp_path / f"{at}.png", colour)
    rows = [{"key": key, "file": f"{at}.png"} for at, key in enumerate((" k", "k", "k "))]
    sqlite_utils.Database(path)["pictures"].insert_all(rows, pk="key")
    embed(path, "pictures", "--path-column", "file", "--model", "palette")
    printed = command("search-images", path, "pictures", "blue").stdout
    assert '"k "' in printed
    assert '" k"' in printed
    for row in rows:
        query = f'#"{row["key"]}"'
        result = command("search-images", path, "pictures", query, "-k", "1", "--json")
        assert json.loads(result.stdout)[0]["id"] == row["key"]
    result = command("search-images", path, "pictures", '#" K"')
    assert result.stderr == """Error: there is no image #" K" with a vector in 'pictures'\n"""


@pytest.mark.parametrize("stored", ["", " stored"])
def test_a_generated_column_of_paths(tmp_path: Path, stored: str):
    for name in ("red", "blue"):
        draw_picture(tmp_path / f"{name}.png", name)
    path = tmp_path / "my.db"
    change(
        path,
        "create table pictures (key integer primary key, name text, "
        f"file text generated always as (name || '.png'){stored})",
        "insert into pictures (name) values ('red'), ('blue')",
    )
    options = ("--path-column", "file", "--model", "palette")
    assert embed_own(path, *options) == "2 embedded, 0 unchanged, 0 failed"
    row = best(path, "blue")
    assert (row["id"], row["path"]) == (2, "blue.png")
    # What it is computed from is what changes.
    change(path, "update pictures set name = 'blue' where key = 1")
    assert query(path, "select image_id from _pictures_vectors") == [(2,)]
    assert embed_own(path) == "1 embedded, 1 unchanged, 0 failed"


def encoded(path: Path, form: str) -> bytes | str:
    content = path.read_bytes()
    if form == "BLOB":
        return content
    return ("data:image/png;base64," if form == "data URI" else "") + b64encode(content).decode()


@pytest.fixture(params=["BLOB", "data URI", "base64"])
def encoded_pictures(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The colours in one form, and rows that hold no picture."""
    path = tmp_path / "my.db"
    rows: list[dict[str, Any]] = [
        {"id": at, "picture": encoded(draw_picture(tmp_path / "a.png", colour), request.param)}
        for at, colour in enumerate(COLOURS, start=1)
    ]
    broken = [
        "data:image/png;base64,iVBORw0KGgo=",
        "https://example.org/a.png",
        "red.png",
        "",
        None,
        7,
    ]
    rows += [{"id": 101 + at, "picture": value} for at, value in enumerate(broken)]
    db = sqlite_utils.Database(path)
    db.execute("create table pictures (id integer primary key, picture)")
    db["pictures"].insert_all(rows)
    db.close()
    return path


ENCODED = ("--content-column", "picture", "--model", "palette")


def test_pictures_in_texts_are_embedded_as_those_in_blobs(encoded_pictures: Path):
    path = encoded_pictures
    assert embed_own(path, *ENCODED) == "8 embedded, 0 unchanged, 4 failed"
    failures = failures_of(path)
    assert failures.keys() == {"#101", "#102", "#103", "#106"}
    none = "the value is no picture: neither a BLOB, nor a data URI, nor a text in base64"
    assert failures["#102"] == failures["#103"] == none
    assert failures["#106"] == "the value is a number, not a picture"
    assert none not in failures["#101"]
    for at, colour in enumerate(COLOURS, start=1):
        assert best(path, colour)["id"] == at
    assert embed_own(path) == "0 embedded, 8 unchanged, 4 failed"


def test_a_text_that_changes_is_another_picture(encoded_pictures: Path):
    path = encoded_pictures
    embed_own(path, *ENCODED)
    change(
        path,
        "update pictures set picture = (select picture from pictures where id = 2) where id = 1",
    )
    assert query(path, "select 1 from _pictures_vectors where image_id = 1") == []
    assert embed_own(path) == "1 embedded, 7 unchanged, 4 failed"
    # Without our triggers, it takes a look at the values.
    change(path, "drop trigger _pictures_image_search_content_changed")
    change(
        path,
        "update pictures set picture = (select picture from pictures where id = 4) where id = 3",
    )
    assert embed_own(path) == "1 embedded, 7 unchanged, 4 failed"
    sha256 = "select sha256 from _pictures_sources where image_id in (3, 4)"
    assert len(set(query(path, sha256))) == 1


@pytest.mark.datasette
@pytest.mark.asyncio
async def test_pages_show_pictures_in_texts(encoded_pictures: Path, tmp_path: Path):
    embed_own(encoded_pictures, *ENCODED)
    assert command("tag-images", encoded_pictures, "pictures", "red", "blue").exit_code == 0
    line = ("find-duplicates", encoded_pictures, "pictures", "--threshold", "0.5", "--write")
    assert command(*line).exit_code == 0
    datasette = Datasette([str(encoded_pictures)])
    search, table = "/-/image-search/my/pictures", "/my/pictures"
    for page in (
        search, f"{search}?q=red", f"{search}.json?q=red", f"{search}.csv?q=red", f"{search}/map", f"{search}/map.json",
        table, f"{table}?_image_search=red", f"{table}.images", f"{table}.json", f"{table}/1", f"{table}/102",
        f"{table}/106", f"{table}_tags", f"{table}_duplicates",
    ):  # fmt: skip
        response = await ask(datasette, page)
        assert response.status_code == 200, (page, response.text)
    whole = query(encoded_pictures, "select picture from pictures where id = 1")[0][0]
    cells = (await ask(datasette, table)).text
    assert cells.count('<a class="image-search-cell"') == len(COLOURS)
    # A text is shortened; Datasette 1.0 has it in an attribute of the row as well.
    assert 'alt="1"' in cells
    assert f">{whole}<" not in cells
    original = await ask(datasette, f"{search}/1/image")
    assert original.headers["content-type"] == "image/png"
    draw_picture(tmp_path / "first.png", COLOURS[0])
    assert original.content == (tmp_path / "first.png").read_bytes()


def test_a_picture_in_the_column_of_paths_is_a_failure_that_says_what_to_do(encoded_pictures: Path):
    line = ("--path-column", "picture", "--model", "palette")
    assert embed_own(encoded_pictures, *line) == "0 embedded, 0 unchanged, 12 failed"
    assert failures_of(encoded_pictures)["#101"] == (
        "the value is a data URI, not a path; if it is a picture, name its column with --content-column"
    )


@pytest.mark.skipif(os.name == "nt", reason="names of files are Unicode there")
def test_a_database_in_a_folder_whose_name_is_not_utf8(tmp_path: Path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("a file system of UTF-8")
    draw_picture(folder / "red.png", "red")
    path = folder / "my.db"
    rows = [{"id": 1, "file": "red.png"}, {"id": 2, "file": "none.png"}]
    sqlite_utils.Database(path)["pictures"].insert_all(rows, pk="id")
    options = ("--path-column", "file", "--model", "palette")
    assert embed_own(path, *options) == "1 embedded, 0 unchanged, 1 failed"
    assert (folder / "my.db-image-search-1.faiss").is_file()
    assert command("index-images", path, "pictures").exit_code == 0
    assert '"sidecar": "in use"' in json.loads(
        command("query", path, "select image_search_status() as s").stdout
    )[0]["s"].replace("\\", "")
    found = command("search-images", path, "pictures", "red", "--paths", "-0")
    assert found.stdout_bytes == os.fsencode(folder / "red.png") + b"\0"
