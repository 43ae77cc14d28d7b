"""The generation of an index is proof of its vectors, whichever tool writes."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from datasette_image_search import store
from datasette_image_search.store.indexes import all_indexes
from datasette_image_search.store.schema import ensure_tables
from datasette_image_search.store.tokens import has_tokens, rows_after

from .commands import command
from .random_tables import add_images, copy_images, random_vectors
from .version_0_1 import make_older

VECTOR = random_vectors(1, seed=5)[0].tobytes()

STATEMENTS = (
    "delete from images where id = {a}",
    "update images set id = {b} + 20 where id = {a}",
    "update images set sha256 = 'other {b}' where id = {a}",
    "insert or replace into images (id, root_id, path) values ({a}, 1, 'replaced {b}')",
    "insert or replace into images (root_id, path) select root_id, path from images where id = {a}",
    "insert into _images_vectors (index_id, image_id, vector) select 1, id, :vector from images where id = {a} "
    "and not exists (select 1 from _images_vectors where image_id = images.id)",
    "replace into _images_vectors (index_id, image_id, vector) values (1, {a}, :vector)",
    "replace into _images_vectors (id, index_id, image_id, vector) values ({b}, 1, {a}, :vector)",
    "delete from _images_vectors where id = {b}",
)


def make_database(path: Path | str = ":memory:") -> Database:
    db = Database(sqlite3.connect(path, isolation_level=None), execute_plugins=False)
    # sqlite-utils has delete triggers fired by REPLACE; other programs have not.
    db.execute("pragma recursive_triggers = off")
    copy_images(db, random_vectors(6))
    return db


def assert_proven(db: Database) -> None:
    """That each vector has a token, nothing else has, and the generation is what they come to."""
    tokens = dict(db.execute("select vector_id, token from _images_tokens").fetchall())
    assert tokens.keys() == {id for (id,) in db.execute("select id from _images_vectors")}
    assert len(set(tokens.values())) == len(tokens)
    for index in all_indexes(db.conn):
        rows = rows_after(db.conn, index, 0)
        assert rows.state() == index.generation


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(STATEMENTS), st.integers(1, 8), st.integers(1, 8)), max_size=12
    )
)
def test_whatever_is_written_the_tokens_are_those_of_the_vectors(
    steps: list[tuple[str, int, int]],
) -> None:
    db = make_database()
    for statement, a, b in steps:
        with suppress(sqlite3.IntegrityError):
            db.execute(statement.format(a=a, b=b), {"vector": VECTOR})
        assert_proven(db)
    ensure_tables(db, "images")
    assert_proven(db)
    orphans = "select count(*) from _images_vectors where image_id not in (select id from images)"
    assert db.execute(orphans).fetchone() == (0,)


def test_what_is_rolled_back_never_was() -> None:
    db = make_database()
    before = store.find_index(db.conn)
    db.execute("begin")
    db.execute("delete from images where id < 4")
    assert store.find_index(db.conn) != before
    db.execute("rollback")
    assert store.find_index(db.conn) == before
    assert_proven(db)


def test_the_same_is_written_to_two_copies_and_they_are_not_the_same(tmp_path: Path) -> None:
    one, other = make_database(tmp_path / "one.db"), sqlite3.connect(tmp_path / "other.db")
    one.conn.backup(other)
    copy = Database(other, execute_plugins=False)
    assert store.find_index(one.conn) == store.find_index(copy.conn)
    for db in (one, copy):
        db.execute("delete from images where id = 6")
        assert store.find_index(db.conn) != store.find_index(make_database().conn)
    assert store.find_index(one.conn) == store.find_index(copy.conn)
    for db in (one, copy):
        db.execute(
            "replace into _images_vectors (index_id, image_id, vector) values (1, 5, ?)", [VECTOR]
        )
    assert store.find_index(one.conn) != store.find_index(copy.conn)


@pytest.mark.parametrize("triggers", ["kept", "dropped"])
def test_a_table_of_version_0_1_is_brought_up_to_date(triggers: str, tmp_path: Path) -> None:
    db = make_database(tmp_path / "photos.db")
    vectors = "select id, image_id, vector from _images_vectors"
    make_older(db)
    if triggers == "dropped":
        db["images"].transform(rename={"lens": "optics"})
    assert not has_tokens(db.conn, store.find_index(db.conn))
    before = db.execute(vectors).fetchall()
    ensure_tables(db, "images")
    assert db.execute(vectors).fetchall() == before
    assert_proven(db)
    add_images(db, random_vectors(2, seed=1))
    assert_proven(db)


@pytest.mark.parametrize(
    "line",
    [
        ("tag-images", "red", "blue"),
        ("find-duplicates", "--threshold", "0.5", "--write"),
        ("index-images",),
    ],
    ids=lambda line: line[0],
)
def test_every_command_that_writes_brings_it_up_to_date(
    line: tuple[str, ...], database: Path
) -> None:
    with closing(Database(database, execute_plugins=False)) as db:
        make_older(db)
    name, *options = line
    result = command(name, database, "images", *options)
    assert result.exit_code == 0, result.output
    with closing(Database(database, execute_plugins=False)) as db:
        assert_proven(db)


def test_an_older_version_that_writes_again_is_noticed(tmp_path: Path) -> None:
    """It puts its own triggers in the place of ours, and knows of no tokens."""
    db = make_database(tmp_path / "photos.db")
    for event in ("added", "deleted"):
        db.execute(f"drop trigger _images_image_search_vector_{event}")
    db.execute(
        "create trigger _images_image_search_vector_added after insert on _images_vectors begin "
        "update image_search_indexes set generation = generation + 1 where id = new.index_id; end"
    )
    db.execute(
        "replace into _images_vectors (index_id, image_id, vector) values (1, 3, ?)", [VECTOR]
    )
    held = rows_after(db.conn, store.find_index(db.conn), 0)
    ensure_tables(db, "images")
    assert_proven(db)
    # Whoever holds what was proven before must not take it for what is there.
    now = rows_after(db.conn, store.find_index(db.conn), 0)
    assert not np.intersect1d(held.tokens, now.tokens).size


def test_what_has_no_row_goes_with_the_next_run() -> None:
    """REPLACE over the path takes the row away, and no trigger tells."""
    db = make_database()
    db.execute(
        "insert or replace into images (root_id, path) select root_id, path from images where id = 2"
    )
    sides = ("_images_vectors", "_images_thumbnails", "_images_tokens")
    assert [db[side].count for side in sides] == [6, 6, 6]
    ensure_tables(db, "images")
    assert [db[side].count for side in sides] == [5, 5, 5]
    assert_proven(db)
