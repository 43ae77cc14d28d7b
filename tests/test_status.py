"""What is wrong is said, with what to do about it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from datasette_image_search import ImageSearchError
from datasette_image_search.search.indexing import index_images, refresh_sidecars
from datasette_image_search.search.status import status
from datasette_image_search.sql import register_functions
from datasette_image_search.store import find_index

from .conftest import sidecar_of
from .documents import PROJECT, names_in_tables
from .random_tables import add_images, random_vectors


@pytest.fixture
def db(path: Path) -> Iterator[Database]:
    with closing(Database(path, execute_plugins=False)) as db:
        add_images(db, random_vectors(100))
        refresh_sidecars(db, "images")
        yield db


def test_all_is_well(db: Database) -> None:
    assert status(db.conn) == {
        "table": "images",
        "model": "palette",
        "dimensions": 8,
        "images": 100,
        "vectors": 100,
        "search": "exact",
        "sidecar": "in use",
        "engine": "sidecar",
        "stored_vectors": True,
        "newer_than_sidecar": 0,
        "problem": None,
    }


def test_the_documentation_explains_every_key(db: Database) -> None:
    explained = names_in_tables((PROJECT / "docs" / "tables.md").read_text(encoding="utf-8"))
    assert set(status(db.conn)) <= explained


def test_an_approximate_search_says_how_much_it_finds(db: Database) -> None:
    _, _, made = index_images(db, "images", type="IVF2,SQ8")
    found = status(db.conn)
    assert found["search"] == (
        f"IVF2,SQ8 {made.tuning.parameters}, recall@20 {made.tuning.recalls[0][1]:.3f} and recall@128 "
        f"{made.tuning.recalls[1][1]:.3f} for 100 queries; exact under filters and beyond the best 128"
    )
    assert found["problem"] is None


def test_a_lost_sidecar_is_said(path: Path, db: Database) -> None:
    sidecar_of(path).unlink()
    found = status(db.conn)
    assert found["sidecar"] == "not in use"
    assert found["problem"] == (
        "photos.db-image-search-1.faiss is missing, so this process searches a copy in memory; to "
        "rebuild the file, run sqlite-utils index-images on the database and 'images' with write access "
        "to its folder"
    )


def test_a_damaged_approximate_index_is_said(path: Path, db: Database) -> None:
    index_images(db, "images", type="SQ8")
    file = path.with_name("photos.db-image-search-1.approximate.faiss")
    file.write_bytes(file.read_bytes()[:-1])
    found = status(db.conn)
    assert (found["sidecar"], found["search"]) == ("in use", "exact")
    assert found["problem"] == (
        "photos.db-image-search-1.approximate.faiss is damaged or was cut short, so all searches are "
        "exact; run sqlite-utils index-images to repair it"
    )


def test_many_new_images_are_said(db: Database) -> None:
    add_images(db, random_vectors(5, seed=1))
    assert status(db.conn)["problem"] is None
    add_images(db, random_vectors(5, seed=2))
    found = status(db.conn)
    assert found["newer_than_sidecar"] == 10
    assert found["problem"].startswith("10 vectors are newer than the sidecar")
    refresh_sidecars(db, "images")
    assert status(db.conn)["problem"] is None


def test_images_without_a_vector_are_said(db: Database) -> None:
    db.execute("delete from _images_vectors where image_id < 3")
    assert status(db.conn)["problem"].startswith("2 images have no vector; embed them with")


@pytest.mark.parametrize("table", [None, "nope"])
def test_where_nothing_can_be_searched_that_is_all(table: str | None) -> None:
    db = Database(memory=True, execute_plugins=False)
    with pytest.raises(ImageSearchError, match="this database has no image table"):
        status(db.conn, table)
    register_functions(db.conn)
    (shown,) = db.execute("select image_search_status(?)", [table]).fetchone()
    assert json.loads(shown).keys() == {"problem"}


def test_a_database_in_memory_is_searched_in_memory() -> None:
    db = Database(memory=True, execute_plugins=False)
    add_images(db, random_vectors(10))
    assert find_index(db.conn).sidecar is None
    assert status(db.conn)["problem"].startswith("the database is in memory, so this process")


def test_what_cannot_be_found_is_not_counted(db: Database) -> None:
    """A row that REPLACE took away, and an image that came instead, are not one and nothing."""
    db.execute("pragma recursive_triggers = off")
    db.execute(
        "insert or replace into images (root_id, path) select root_id, path from images where id = 2"
    )
    db.execute("insert into images (root_id, path) values (1, 'invalid')")
    db.execute(
        "insert into _images_vectors (index_id, image_id, vector) select 1, max(id), x'00' from images"
    )
    db.conn.commit()
    found = status(db.conn)
    assert (found["images"], found["vectors"]) == (101, 99)
    assert found["problem"].startswith("2 images have no vector")
