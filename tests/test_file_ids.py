"""Paths of a person, and the images that they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlite_utils import Database

from datasette_image_search.store import StoreError, find_index
from datasette_image_search.store.file_ids import ids_of_files

from .commands import command
from .conftest import draw_picture, embed_into


def ids(database: Path, *files: str | Path, table: str = "images") -> list[int | str]:
    db = Database(database)
    try:
        index = find_index(db.conn, table)
        return ids_of_files(db.conn, index, database.parent, [Path(file) for file in files])
    finally:
        db.close()


def test_paths_are_absolute_relative_or_as_the_table_has_them(
    database: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(folder.parent)
    red = ids(database, folder / "red.jpg")
    assert len(red) == 1
    for spelled in ("pictures/red.jpg", "./pictures/../pictures/red.jpg", "red.jpg"):
        assert ids(database, spelled) == red
    link = folder.parent / "link"
    link.symlink_to(folder)
    assert ids(database, link / "red.jpg", folder / "blue.jpg") == [
        *red,
        *ids(database, "blue.jpg"),
    ]


def test_the_same_path_below_two_folders(path: Path, tmp_path: Path):
    one, two = (draw_picture(tmp_path / name / "a.jpg", "red").parent for name in ("one", "two"))
    embed_into(path, "images", one)
    embed_into(path, "images", two)
    assert ids(path, two / "a.jpg") == [2]
    assert ids(path, "a.jpg") == [1, 2]


def test_files_that_are_no_images_are_named(database: Path, folder: Path):
    with pytest.raises(StoreError, match=r"'x\.jpg' is no image of 'images', nor are 1 other"):
        ids(database, "red.jpg", "x.jpg", "y.jpg")


def test_own_paths_are_relative_to_the_database_or_absolute(path: Path, folder: Path):
    db = Database(path)
    rows = [
        {"name": "a", "the {file}": "pictures/red.jpg"},
        {"name": "b", "the {file}": str(folder / "blue.jpg")},
    ]
    db["pictures"].insert_all(rows, pk="name")
    db.close()
    options = ("--path-column", "the {file}", "--model", "palette")
    assert command("embed-images", path, "pictures", *options).exit_code == 0
    assert ids(path, folder / "blue.jpg", folder / "red.jpg", table="pictures") == ["b", "a"]
