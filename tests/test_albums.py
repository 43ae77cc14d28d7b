"""Albums in the store: they are a person's own work, so they outlive all that happens to images."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlite_utils import Database

from datasette_image_search.store import Index, StoreError, find_index
from datasette_image_search.store.albums import (
    LONGEST_NAME,
    add_to_album,
    album_name,
    delete_album,
    read_albums,
    remove_from_album,
    rename_album,
)
from datasette_image_search.store.side_tables import side_tables

from .commands import command
from .conftest import draw_picture, embed_into

TIME = "20[0-9][0-9]-[01][0-9]-[0-3][0-9]T*+00:00"


@pytest.fixture
def index(db: Database) -> Index:
    return find_index(db.conn, "images")


def members(db: Database) -> list[tuple[str, int]]:
    sql = (
        "select name, image_id from images_albums join images_album_members on album_id = id "
        "order by name, image_id"
    )
    return db.execute(sql).fetchall()


def counts(db: Database, index: Index) -> dict[str, int]:
    return {album.name: album.images for album in read_albums(db.conn, index.table)}


def test_albums_are_made_filled_and_emptied(db: Database, index: Index):
    assert read_albums(db.conn, index.table) == []
    assert add_to_album(db, index, " Beach ", [1, 2, 99]) == [1, 2]
    assert add_to_album(db, index, "Beach", [2, 3]) == [3]
    assert add_to_album(db, index, "alone", []) == []
    assert counts(db, index) == {"alone": 0, "Beach": 3}
    assert remove_from_album(db, index.table, "Beach", [3, 4]) == [3]
    assert members(db) == [("Beach", 1), ("Beach", 2)]
    (count,) = db.execute(
        "select count(*) from images_album_members, images_albums where added glob :time and created glob :time",
        {"time": TIME},
    ).fetchone()
    assert count == 4
    assert not db.conn.in_transaction


def test_an_album_gets_another_name_and_keeps_its_id(db: Database, index: Index):
    add_to_album(db, index, "Beach", [1])
    add_to_album(db, index, "Best", [2])
    (beach, _) = read_albums(db.conn, index.table)
    rename_album(db, index.table, "Beach", "Sea & sand")
    assert album_name(db.conn, index.table, beach.id) == "Sea & sand"
    assert members(db) == [("Best", 2), ("Sea & sand", 1)]
    with pytest.raises(StoreError, match="there is an album 'Best' already"):
        rename_album(db, index.table, "Sea & sand", "Best")
    assert delete_album(db, index.table, "Best") == 1
    assert members(db) == [("Sea & sand", 1)]
    assert album_name(db.conn, index.table, 99) is None
    add_to_album(db, index, "Later", [3])
    assert [album.id for album in read_albums(db.conn, index.table)] == [3, beach.id]


@pytest.mark.parametrize("change", [rename_album, remove_from_album, delete_album])
def test_an_album_that_is_not_there_is_a_sentence(db: Database, index: Index, change):
    add_to_album(db, index, "Beaches", [1])
    arguments = {rename_album: ["x"], remove_from_album: [[1]], delete_album: []}[change]
    with pytest.raises(StoreError, match="no album 'Beachs'; did you mean 'Beaches'"):
        change(db, index.table, "Beachs", *arguments)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (" ", "is empty"),
        ("\u3000\u200d", "is empty"),
        ("x" * (LONGEST_NAME + 1), "at most 200"),
        ("a\nb", "cannot be seen"),
        ("a\u2028b", "cannot be seen"),
        ("a\u202eb", "cannot be seen"),
    ],
)
def test_names_that_nobody_can_read_are_refused(db: Database, index: Index, name: str, said: str):
    with pytest.raises(StoreError, match=said):
        add_to_album(db, index, name, [1])
    assert not db["images_albums"].exists()


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467 family", None),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", None),
        ("\U0001f3f4\U000e0067\U000e0062\U000e007f", None),
        ("\u65e5\u672c\u3000\u65c5\u884c", "\u65e5\u672c \u65c5\u884c"),
        ("a\u00a0b", "a b"),
        ("Cafe\u0301", "Caf\u00e9"),
    ],
    ids=ascii,
)
def test_names_of_all_languages(db: Database, index: Index, name: str, written: str | None):
    for _ in range(2):
        add_to_album(db, index, name, [1])
    assert counts(db, index) == {written or name: 1}


@pytest.mark.parametrize("name", [" padded ", "x" * 300, "a\nb"])
def test_names_that_another_program_gave_can_be_changed(db: Database, index: Index, name: str):
    add_to_album(db, index, "padded", [1])
    db["images_albums"].insert({"name": name})
    assert add_to_album(db, index, name, [2, 3]) == [2, 3]
    assert remove_from_album(db, index.table, name, [2]) == [2]
    rename_album(db, index.table, name, "short")
    assert counts(db, index) == {"padded": 1, "short": 1}
    db["images_albums"].insert({"name": name})
    assert delete_album(db, index.table, name) == 0
    assert counts(db, index) == {"padded": 1, "short": 1}


def test_one_is_made_only_if_it_may_be(db: Database, index: Index):
    add_to_album(db, index, "Beach", [1])
    with pytest.raises(StoreError, match="no album 'Sea'"):
        add_to_album(db, index, "Sea", [1], may_create=False)
    with pytest.raises(StoreError, match="an album 'Beach' already"):
        add_to_album(db, index, "Beach", [2], must_be_new=True)
    assert members(db) == [("Beach", 1)]


@pytest.mark.parametrize("dropped", ["images", "images_albums"])
def test_a_program_that_heeds_foreign_keys_empties_no_album(
    db: Database, index: Index, dropped: str
):
    add_to_album(db, index, "Beach", [1, 2])
    db.execute("pragma foreign_keys = 1")
    with pytest.raises(sqlite3.IntegrityError):
        db.execute(f"drop table {dropped}")
    db[dropped].transform()
    assert members(db) == [("Beach", 1), ("Beach", 2)]


@pytest.mark.parametrize("enforced", [0, 1])
def test_ids_change_and_go_whether_or_not_keys_are_heeded(
    db: Database, index: Index, enforced: int
):
    add_to_album(db, index, "Beach", [1, 2])
    db.execute(f"pragma foreign_keys = {enforced}")
    db.execute("update images set id = 77 where id = 1")
    db.execute("delete from images where id = 2")
    assert members(db) == [("Beach", 77)]


@pytest.mark.parametrize("taken", ["images_albums", "images_album_members"])
def test_a_table_of_a_person_is_left_alone(db: Database, index: Index, taken: str):
    db[taken].insert({"id": 1, "mine": "x"})
    with pytest.raises(StoreError, match=f"{taken}' .*was not made by album-images; rename it"):
        add_to_album(db, index, "Beach", [1])
    assert list(db[taken].rows) == [{"id": 1, "mine": "x"}]
    assert read_albums(db.conn, index.table) == []
    assert taken not in side_tables(db.conn)


def test_they_are_side_tables_of_the_image_table(db: Database, index: Index):
    add_to_album(db, index, "Beach", [1])
    made_of = side_tables(db.conn)
    assert made_of["images_albums"] == made_of["images_album_members"] == {"images"}


@pytest.mark.parametrize(
    ("sql", "left"),
    [
        ("update images set path = 'elsewhere.jpg' where id = 1", [1, 2]),
        ("update images set sha256 = 'of another picture' where id = 1", [1, 2]),
        ("delete from images where id = 1", [2]),
        ("update images set id = 77 where id = 1", [2, 77]),
        ("delete from images; insert into images (id, root_id, path) values (1, 1, 'x')", []),
        ("replace into images (id, root_id, path) values (1, 1, 'x')", [2]),
    ],
)
def test_members_follow_their_images(db: Database, index: Index, sql: str, left: list[int]):
    add_to_album(db, index, "Beach", [1, 2])
    db.conn.executescript(sql)
    assert members(db) == [("Beach", id) for id in left]


@pytest.mark.parametrize("enforced", [0, 1])
def test_members_leave_with_an_album_that_any_program_deletes(
    db: Database, index: Index, enforced: int
):
    add_to_album(db, index, "Beach", [1, 2])
    db.execute(f"pragma foreign_keys = {enforced}")
    db.execute("delete from images_albums")
    assert db["images_album_members"].count == 0
    db.execute("delete from images where id = 1")


def test_a_run_keeps_them_and_prune_takes_what_is_gone(database: Path, folder: Path):
    db = Database(database)
    add_to_album(db, find_index(db.conn, "images"), "Beach", [1, 2, 3])
    db.close()
    names = sorted(file.name for file in folder.iterdir())
    (folder / names[0]).unlink()
    draw_picture(folder / names[1], "teal")
    (folder / names[2]).rename(folder / "moved.jpg")
    result = command("embed-images", database, "images", folder, "--prune", "--model", "palette")
    assert result.exit_code == 0, result.output
    db = Database(database)
    sql = "select path from images_album_members join images on image_id = images.id order by image_id"
    assert [path for (path,) in db.execute(sql)] == [names[1], "moved.jpg"]
    db.close()


def test_triggers_that_were_lost_come_back(database: Path, folder: Path):
    db = Database(database)
    add_to_album(db, find_index(db.conn, "images"), "Beach", [1, 2, 3])
    # It drops all triggers of the table.
    db["images"].transform(rename={"title": "caption"})
    db.execute("delete from images where id = 1")
    db.conn.commit()
    db.close()
    embed_into(database, "images", folder)
    db = Database(database)
    assert [id for _, id in members(db)] == [2, 3]
    db.close()


def test_they_follow_a_table_that_was_renamed(database: Path, folder: Path):
    db = Database(database)
    add_to_album(db, find_index(db.conn, "images"), "Beach", [1, 2])
    db.rename_table("images", "photos")
    db.close()
    options = ("--replace-model", "--model", "palette")
    result = command("embed-images", database, "photos", folder, *options)
    assert result.exit_code == 0, result.output
    db = Database(database)
    table = find_index(db.conn, "photos").table
    assert [(album.name, album.images) for album in read_albums(db.conn, table)] == [("Beach", 2)]
    assert {"images_albums", "images_album_members"}.isdisjoint(db.table_names())
    db.execute("delete from photos where id = 1")
    db.execute("delete from photos_albums")
    assert db["photos_album_members"].count == 0
    db.close()


@pytest.mark.parametrize("taken", ["photos_albums", "photos_album_members"])
def test_a_run_keeps_them_if_their_new_name_is_taken(database: Path, folder: Path, taken: str):
    db = Database(database)
    add_to_album(db, find_index(db.conn, "images"), "Beach", [1, 2])
    db.rename_table("images", "photos")
    db[taken].insert({"id": 1, "mine": "x"})
    options = ("--replace-model", "--model", "palette")
    result = command("embed-images", database, "photos", folder, *options)
    assert result.exit_code == 1
    assert f"a table '{taken}' already; rename that one" in result.output
    assert members(db) == [("Beach", 1), ("Beach", 2)]
    db.rename_table(taken, "mine")
    assert command("embed-images", database, "photos", folder, *options).exit_code == 0
    assert db.execute("select image_id from photos_album_members").fetchall() == [(1,), (2,)]
    db.close()


def test_a_broken_view_that_keeps_them_back_is_named(database: Path, folder: Path):
    db = Database(database)
    add_to_album(db, find_index(db.conn, "images"), "Beach", [1, 2])
    db.rename_table("images", "photos")
    db.create_view("broken", "select * from gone")
    db.close()
    options = ("--replace-model", "--model", "palette")
    result = command("embed-images", database, "photos", folder, *options)
    assert result.exit_code == 1
    assert "the albums of 'images' cannot get its new name: error in view broken" in result.output
    assert "drop what is broken" in result.output


def test_texts_are_keys_too(path: Path, folder: Path):
    db = Database(path)
    db["pictures"].insert_all(
        [
            {"name": "a", "file": str(folder / "red.jpg")},
            {"name": "1", "file": str(folder / "blue.jpg")},
        ],
        pk="name",
    )
    db.close()
    options = ("--path-column", "file", "--model", "palette")
    assert command("embed-images", path, "pictures", *options).exit_code == 0
    db = Database(path)
    index = find_index(db.conn, "pictures")
    assert set(add_to_album(db, index, "Best", ["1", "a", "b"])) == {"1", "a"}
    assert db.execute("select image_id from pictures_album_members order by 1").fetchall() == [
        ("1",), ("a",),
    ]  # fmt: skip
    db.close()
