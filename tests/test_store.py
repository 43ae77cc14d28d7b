"""What is written to the tables is what is read, whatever their names, and other tools may write too."""

from __future__ import annotations

import re
import sqlite3
import threading
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils import Database
from sqlite_utils.db import quote_identifier

from datasette_image_search import store
from datasette_image_search.metadata.columns import COLUMNS, Metadata
from datasette_image_search.store import (
    Filter,
    FilterError,
    ImageTable,
    Key,
    StoreError,
    reads,
)
from datasette_image_search.store.filters import (
    IdSet,
    asked_images,
    matching,
    passing,
    there,
    vectors_by_content,
)
from datasette_image_search.store.image_record import ImageRecord
from datasette_image_search.store.indexes import image_table_names
from datasette_image_search.store.ownership import has_triggers
from datasette_image_search.store.reads import (
    count_images,
    image_rows,
    known_files,
    locations,
    newest_ids,
    roots,
)
from datasette_image_search.store.schema import (
    ensure_duplicates,
    ensure_keywords,
    ensure_tables,
    ensure_tags,
)
from datasette_image_search.store.stored_vectors import vector_from_blob, vector_to_blob
from datasette_image_search.store.tables import EmbeddedImage, Failure, KnownSource, Location
from datasette_image_search.store.vectors import (
    count_vectors,
    image_vector,
    vector_batches,
    vectors_by_id,
)
from datasette_image_search.store.writes import ensure_roots, write_batch

from .random_tables import (
    AWKWARD_NAMES,
    add_images,
    copy_images,
    make_index,
    make_own_table,
    make_record,
    numbers,
    random_vectors,
    stored_vectors,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with images 1 to 4, whose vectors are random_vectors(4)."""
    path = tmp_path / "photos.db"
    db = Database(path, execute_plugins=False)
    copy_images(db, random_vectors(4))
    db.close()
    return path


@pytest.fixture
def db(path: Path):
    db = Database(path, execute_plugins=False)
    yield db
    db.close()


@pytest.fixture
def raw(path: Path):
    """A connection of another tool: the sqlite3 module as it comes, without recursive triggers."""
    conn = sqlite3.connect(path, isolation_level=None)
    yield conn
    conn.close()


def insert(conn: sqlite3.Connection, verb: str = "insert", **columns) -> None:
    columns = {"root_id": 1, "path": f"{next(numbers)}.png", **columns}
    conn.execute(
        f"{verb} into images ({', '.join(columns)}) values ({', '.join('?' * len(columns))})",
        list(columns.values()),
    )


def vector_ids(conn: sqlite3.Connection) -> list[int]:
    index = store.find_index(conn)
    return [int(id) for batch in vector_batches(conn, index) for id in batch.vector_ids]


def schema(db: Database) -> list[tuple]:
    return db.execute("select type, name, sql from sqlite_master order by 1, 2").fetchall()


# --- Schema --------------------------------------------------------------------------------------


def test_the_tables_of_a_new_database(db: Database) -> None:
    assert set(db.table_names()) >= {
        "images",
        "image_search_roots",
        "image_search_indexes",
        "_images_vectors",
        "_images_thumbnails",
        "_images_failures",
    }
    of_file = [field.name for field in fields(ImageRecord) if field.name != "metadata"]
    expected = ["id", *of_file, *COLUMNS]
    assert list(db["images"].columns_dict) == expected
    assert db["images"].pks == ["id"]
    assert db["images"].foreign_keys[0].other_table == "image_search_roots"


def test_making_the_tables_again_changes_nothing(db: Database) -> None:
    before = schema(db)
    version = db.execute("pragma schema_version").fetchone()
    ensure_tables(db, "images")
    assert schema(db) == before
    assert db.execute("pragma schema_version").fetchone() == version


def test_a_path_is_in_the_table_once_per_root(raw: sqlite3.Connection) -> None:
    insert(raw, path="same.jpg")
    with pytest.raises(sqlite3.IntegrityError):
        insert(raw, path="same.jpg")


def test_a_persons_own_columns_indexes_triggers_and_views_survive(db: Database) -> None:
    db["images"].add_column("stars", int)
    db["images"].create_index(["stars"])
    db["log"].create({"what": str})
    db.execute(
        "create trigger mine after insert on images begin insert into log values (new.path); end"
    )
    db.create_view("good", "select * from images where stars > 3")
    db.execute("update images set stars = 5 where id = 2")
    before = {row[1]: row for row in schema(db)}

    add_images(db, random_vectors(2, seed=1))
    table, index = make_index(db)
    again = make_record(1, path=db["images"].get(2)["path"])
    write_batch(db, table, index, [EmbeddedImage(2, again, random_vectors(1)[0], None)])

    assert {row[1]: row for row in schema(db)} == before
    assert [row["id"] for row in db["good"].rows] == [2]
    assert db["log"].count == 2


def test_full_text_search_on_the_table_does_not_mix_up_the_ids(db: Database) -> None:
    db["images"].enable_fts(["path"], create_triggers=True)
    for _ in range(3):
        db["images_fts"].optimize()
        vectors = random_vectors(3, seed=next(numbers))
        ids = add_images(db, vectors)
        assert ids == sorted(ids)
        for id, vector in zip(ids, vectors, strict=True):
            assert np.array_equal(stored_vectors(db.conn)[id], vector)


def test_a_table_without_a_primary_key_is_refused_and_nothing_is_made() -> None:
    db = Database(memory=True, execute_plugins=False)
    db["photos"].insert({"path": "a.jpg"})
    with pytest.raises(StoreError, match=r"'photos' has no primary key of one column.*--pk"):
        ensure_tables(db, "photos")
    assert db.table_names() == ["photos"]


def test_a_table_in_another_case_is_the_same_table(db: Database) -> None:
    assert ensure_tables(db, "IMAGES").key == "id"


@pytest.mark.parametrize("name", AWKWARD_NAMES)
def test_a_table_may_have_any_name(name: str) -> None:
    db = Database(memory=True, execute_plugins=False)
    vectors = random_vectors(3)
    ids = add_images(db, vectors, name, sizes=[10, 20, 30])
    table = store.find_image_table(db.conn, name)
    index = store.find_index(db.conn)
    assert index.image_table == name
    assert image_table_names(db.conn) == [name]
    bare, qualified = Filter("size > 10"), Filter(f"{quote_identifier(name)}.size > 10")
    for filter in (bare, qualified, IdSet(ids[1:]).as_filter(table)):
        assert sorted(matching(db.conn, index, filter)) == ids[1:]
        assert passing(db.conn, index, ids[::-1], filter) == ids[:0:-1]
    assert there(db.conn, index, ids[::-1], np.array(ids[::-1])) == ids[::-1]
    assert newest_ids(db.conn, table, 2) == ids[:0:-1]
    assert image_rows(db.conn, table, ids)[ids[0]]["size"] == 10
    assert locations(db.conn, index, ids[:1])[ids[0]].root == "/pictures"
    assert reads.thumbnail(db.conn, table, ids[0]).picture.startswith(b"webp of")
    db[name].transform(rename={"lens": "optics"})
    assert not has_triggers(db.conn, table)
    assert passing(db.conn, index, ids, bare) == ids[1:]
    assert [id for id, _ in vectors_by_content(db.conn, index, bare)] == ids[1:]
    assert reads.thumbnail(db.conn, table, ids[0]).picture.startswith(b"webp of")
    ensure_tables(db, name)
    db.execute(f"update {quote_identifier(name)} set id = 100 where id = ?", [ids[0]])
    db.execute(f"delete from {quote_identifier(name)} where id = ?", [ids[1]])
    assert set(stored_vectors(db.conn, name)) == {100, ids[2]}
    assert np.array_equal(stored_vectors(db.conn, name)[100], vectors[0])


# --- What is an image table ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("create table t (id integer primary key)", ImageTable("t", "id", True)),
        ("create table t (a, 'my key' integer primary key)", ImageTable("t", "my key", True)),
        ("create table t (name text primary key)", ImageTable("t", "name", False)),
        ("create table t (name text primary key) without rowid", ImageTable("t", "name", False)),
    ],
)
def test_an_image_table_has_an_integer_or_a_text_key(sql: str, expected: ImageTable) -> None:
    conn = sqlite3.connect(":memory:")
    conn.execute(sql)
    assert store.find_image_table(conn, "t") == expected


@pytest.mark.parametrize(
    ("text", "integer"),
    [("42", 42), ("-5", -5), ("007", 7), ("", None), ("4 2", None), ("1.0", None), ("٣", None),
     ("9" * 30, None), ("abc", None)],
)  # fmt: skip
def test_a_key_that_a_person_wrote_down(text: str, integer: int | None) -> None:
    assert ImageTable("images", "id", True).parse_key(text) == integer
    assert ImageTable("mine", "name", False).parse_key(text) == text


@pytest.mark.parametrize("kind", ["int", "bigint"])
def test_a_key_of_whole_numbers_keeps_its_type_whatever_the_column_calls_it(kind: str) -> None:
    db = Database(memory=True, execute_plugins=False)
    db.execute(f"create table t (id {kind} primary key, path text)")
    db.execute("insert into t values (7, 'a.jpg')")
    table, index = make_index(db, "t")
    db[table.vectors].insert(
        {"index_id": index.id, "image_id": 7, "vector": vector_to_blob(random_vectors(1)[0])}
    )
    (batch,) = vector_batches(db.conn, index)
    assert batch.image_ids == [7]


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("create table other (id integer primary key)", "there is no table 't'"),
        ("create table t (a, b)", "'t' has no primary key of one column"),
        ("create table t (a, b, primary key (a, b))", "'t' has no primary key of one column"),
        ("create view t as select 1 as id", "'t' is a view, and only tables can have images"),
    ],
)
def test_what_is_no_image_table_is_refused_with_a_sentence(sql: str, sentence: str) -> None:
    conn = sqlite3.connect(":memory:")
    conn.execute(sql)
    with pytest.raises(StoreError, match=sentence):
        store.find_image_table(conn, "t")


def test_a_database_without_images_says_how_to_make_some() -> None:
    conn = sqlite3.connect(":memory:")
    assert image_table_names(conn) == []
    with pytest.raises(StoreError, match=r"no image table; make one with: .*embed-images"):
        store.find_index(conn)


def test_of_several_tables_one_must_be_named(db: Database) -> None:
    add_images(db, random_vectors(1), "more")
    assert store.find_index(db.conn, "more").image_table == "more"
    with pytest.raises(StoreError, match="several image tables; name one of 'images', 'more'"):
        store.find_index(db.conn)


def test_a_table_that_was_never_embedded_is_named_beside_those_that_were(db: Database) -> None:
    db["people"].insert({"id": 1}, pk="id")
    with pytest.raises(StoreError, match="'people' is not an image table; this database has 'im"):
        store.find_index(db.conn, "people")


def test_a_dropped_table_is_no_longer_an_image_table(db: Database) -> None:
    add_images(db, random_vectors(1), "more")
    db["images"].drop()
    assert image_table_names(db.conn) == ["more"]
    assert store.find_index(db.conn).image_table == "more"


def test_a_table_made_again_after_a_drop_inherits_no_vectors(db: Database) -> None:
    db["images"].drop()
    ensure_tables(db, "images")
    insert(db.conn, id=1)
    assert store.read_indexes(db.conn, "images") == []
    assert db.table("_images_vectors").count == db.table("_images_thumbnails").count == 0


# --- Whichever tool writes -----------------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["plain", "recursive_triggers"])
def tool(request: pytest.FixtureRequest, raw: sqlite3.Connection) -> sqlite3.Connection:
    raw.execute(f"pragma recursive_triggers = {request.param}")
    return raw


def thumbnail(conn: sqlite3.Connection, id: Key) -> bytes | None:
    found = reads.thumbnail(conn, store.find_image_table(conn, "images"), id)
    return found.picture if found else None


def test_a_deleted_row_takes_its_vector_and_thumbnail_along(tool: sqlite3.Connection) -> None:
    tool.execute("delete from images where id in (2, 4)")
    assert set(stored_vectors(tool)) == {1, 3}
    assert image_vector(tool, store.find_index(tool), 2) is None
    assert count_vectors(tool, store.find_index(tool)) == 2
    assert tool.execute("select image_id from _images_thumbnails").fetchall() == [(1,), (3,)]


def test_deleting_all_rows_leaves_no_vector(tool: sqlite3.Connection) -> None:
    tool.execute("delete from images")
    assert count_vectors(tool, store.find_index(tool)) == 0
    assert tool.execute("select count(*) from _images_thumbnails").fetchone() == (0,)


def test_a_replaced_row_does_not_keep_the_vector(tool: sqlite3.Connection) -> None:
    insert(tool, "insert or replace", id=2)
    assert set(stored_vectors(tool)) == {1, 3, 4}
    assert thumbnail(tool, 2) is None


def test_a_row_replaced_under_another_id_is_gone(tool: sqlite3.Connection) -> None:
    (path,) = tool.execute("select path from images where id = 2").fetchone()
    insert(tool, "insert or replace", id=9, path=path)
    index = store.find_index(tool)
    assert image_vector(tool, index, 2) is None
    assert image_vector(tool, index, 9) is None
    assert there(tool, index, [4, 2, 1], np.array([4, 2, 1])) == [4, 1]
    assert thumbnail(tool, 2) is None


def test_an_id_that_is_used_again_inherits_nothing(tool: sqlite3.Connection) -> None:
    (path,) = tool.execute("select path from images where id = 4").fetchone()
    insert(tool, "insert or replace", id=9, path=path)
    tool.execute("delete from images where id = 9")
    insert(tool, id=4)
    assert set(stored_vectors(tool)) == {1, 2, 3}
    assert thumbnail(tool, 4) is None


@pytest.mark.parametrize("key", ["id", "ID", "rowid"])
def test_vector_and_thumbnail_follow_a_row_that_is_renumbered(
    tool: sqlite3.Connection, key: str
) -> None:
    picture = thumbnail(tool, 3)
    tool.execute(f"update images set {key} = 30 where id = 3")
    assert np.array_equal(stored_vectors(tool)[30], random_vectors(4)[2])
    assert thumbnail(tool, 30) == picture
    assert set(stored_vectors(tool)) == {1, 2, 30, 4}


@pytest.mark.parametrize("key", ["id", "rowid"])
def test_a_row_renumbered_onto_another_replaces_its_vector(
    tool: sqlite3.Connection, key: str
) -> None:
    tool.execute(f"update or replace images set {key} = 1 where id = 3")
    vectors = stored_vectors(tool)
    assert set(vectors) == {1, 2, 4}
    assert np.array_equal(vectors[1], random_vectors(4)[2])


@pytest.mark.parametrize("key", ["id", "rowid"])
def test_a_row_without_vector_renumbered_onto_another_inherits_nothing(
    tool: sqlite3.Connection, key: str
) -> None:
    insert(tool, id=7)
    tool.execute(f"update or replace images set {key} = 1 where id = 7")
    assert set(stored_vectors(tool)) == {2, 3, 4}
    assert thumbnail(tool, 1) is None


@pytest.mark.parametrize(
    "side",
    [
        "_images_vectors",
        "_images_thumbnails",
        "_images_beside",
        "_images_tokens",
        "images_duplicates",
        "images_tags",
        "images_keywords",
    ],
)
def test_a_side_table_that_was_dropped_keeps_nobody_from_updating(path: Path, side: str) -> None:
    with Database(path, execute_plugins=False) as db:
        table = store.find_image_table(db.conn, "images")
        ensure_keywords(db, table)
        ensure_duplicates(db, table, None)
        ensure_tags(db, table, None)
        ensure_tables(db, "images")
        assert side in db.table_names()
        db[side].drop()
        db["images"].update(3, {"title": "Sea", "camera_make": "Canon"})
        ensure_tables(db, "images")
        db.execute("update images set id = 30 where id = 3")
        assert db["images"].get(30)["title"] == "Sea"


def test_a_shift_of_all_ids_keeps_each_picture_with_its_row(tool: sqlite3.Connection) -> None:
    tool.execute("delete from images where id = 1")
    tool.execute("update images set id = id - 1")
    vectors = stored_vectors(tool)
    assert set(vectors) == {1, 2, 3}
    for id, vector in vectors.items():
        assert np.array_equal(vector, random_vectors(4)[id])


def test_another_sha256_is_another_picture(tool: sqlite3.Connection) -> None:
    tool.execute("update images set sha256 = 'other' where id = 3")
    assert set(stored_vectors(tool)) == {1, 2, 4}
    assert thumbnail(tool, 3) is None


def test_another_sha256_under_another_id_is_another_picture_too(path: Path) -> None:
    db = Database(path, execute_plugins=False)
    # The order in which SQLite runs triggers is not promised: try either.
    for id, trigger in ((1, "renumbered"), (2, "content_changed")):
        db.execute(f"drop trigger _images_image_search_{trigger}")
        ensure_tables(db, "images")
        db.execute("update images set id = ?, sha256 = 'other' where id = ?", [id + 50, id])
    assert set(stored_vectors(db.conn)) == {3, 4}
    db.close()


def test_other_columns_may_change_and_the_vector_stays(tool: sqlite3.Connection) -> None:
    tool.execute("update images set sha256 = sha256, id = id, camera_make = 'Canon', path = path")
    assert set(stored_vectors(tool)) == {1, 2, 3, 4}
    assert thumbnail(tool, 1) is not None


def test_a_vector_is_never_changed_in_place(tool: sqlite3.Connection) -> None:
    for change in ("vector = zeroblob(32)", "image_id = 9", "id = 9"):
        with pytest.raises(sqlite3.IntegrityError, match="never changed in place"):
            tool.execute(f"update _images_vectors set {change} where image_id = 1")
    assert np.array_equal(stored_vectors(tool)[1], random_vectors(4)[0])


def test_the_id_of_a_vector_never_comes_back(db: Database) -> None:
    before = vector_ids(db.conn)
    db["images"].delete_where()
    db.vacuum()
    add_images(db, random_vectors(2))
    assert min(vector_ids(db.conn)) > max(before)


def test_the_generation_is_another_after_whatever_changes_the_vectors(db: Database) -> None:
    def changed() -> bool:
        before.append(store.find_index(db.conn).generation)
        return before[-1] not in before[:-1]

    before = [store.find_index(db.conn).generation]
    add_images(db, random_vectors(1))
    assert changed()
    db.execute("delete from images where id = 1")
    assert changed()
    db.execute("update images set id = 50 where id = 2")
    assert changed()
    db.execute("update images set sha256 = 'other' where id = 3")
    assert changed()
    db.execute("update images set camera_make = 'Canon'")
    assert not changed()


def test_the_triggers_come_back_after_transform(db: Database) -> None:
    db["images"].transform(rename={"iso": "film_speed"})
    ensure_tables(db, "images")
    db.execute("delete from images where id = 1")
    insert(db.conn, id=1)
    db.execute("update images set id = 20 where id = 2")
    db.execute("update images set sha256 = 'other' where id = 3")
    assert set(stored_vectors(db.conn)) == {20, 4}


def test_a_row_deleted_while_transform_had_taken_the_triggers_away_is_gone(db: Database) -> None:
    db["images"].transform(drop={"iso"})
    db.execute("delete from images where id = 4")
    index = store.find_index(db.conn)
    assert image_vector(db.conn, index, 4) is None
    assert passing(db.conn, index, [4], None) == []
    assert there(db.conn, index, [4, 1], np.array([4, 1])) == [1]


def test_in_a_table_without_an_index_vectors_are_looked_up_by_their_ids(db: Database) -> None:
    """Another tool may have copied it."""
    rows = db.execute("select id, index_id, image_id, vector from _images_vectors").fetchall()
    db.execute("drop table _images_vectors")
    db.execute(
        "create table _images_vectors (id integer primary key, index_id, image_id integer, vector, sha256)"
    )
    db.conn.executemany("insert into _images_vectors values (?, ?, ?, ?, null)", rows)
    said: list[str] = []
    db.conn.set_trace_callback(said.append)
    assert there(db.conn, store.find_index(db.conn), [4, 9, 1], np.array([4, 9, 1])) == [4, 1]
    db.conn.set_trace_callback(None)
    plans = [
        step
        for sql in said
        if sql.lstrip().startswith("select")
        for *_, step in db.execute(f"explain query plan {sql}")
    ]
    assert any(step.startswith("SEARCH _img_vector ") for step in plans)
    assert not any(step.startswith("SCAN _img_vector") for step in plans)


def test_an_id_used_again_while_transform_had_taken_the_triggers_away_inherits_nothing(
    db: Database,
) -> None:
    db["images"].transform(drop={"iso"})
    db.execute("delete from images where id = 4")
    insert(db.conn, id=4, sha256="other")
    ensure_tables(db, "images")
    assert image_vector(db.conn, store.find_index(db.conn), 4) is None


ids = st.integers(1, 5)


@settings(max_examples=60)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["insert", "embed", "embed", "delete", "content"]), ids),
            st.tuples(st.just("renumber"), ids, ids),
        ),
        max_size=15,
    )
)
def test_no_row_ever_has_the_vector_of_another(changes: list[tuple]) -> None:
    db = Database(sqlite3.connect(":memory:"), recursive_triggers=False, execute_plugins=False)
    table, index = make_index(db)
    ensure_roots(db, ["/pictures"])
    expected: dict[int, np.ndarray | None] = {}
    for what, id, *to in changes:
        if what == "insert":
            insert(db.conn, "insert or replace", id=id)
            expected[id] = None
        elif what == "embed" and id in expected:
            vector = random_vectors(1, seed=next(numbers))[0]
            write_batch(db, table, index, [EmbeddedImage(id, make_record(1), vector, b"")])
            expected[id] = vector
        elif what == "delete":
            db.execute("delete from images where id = ?", [id])
            expected.pop(id, None)
        elif what == "content":
            db.execute("update images set sha256 = ? where id = ?", [f"{next(numbers)}", id])
            expected.update({id: None} if id in expected else {})
        elif what == "renumber" and id in expected:
            db.execute("update or replace images set id = ? where id = ?", [to[0], id])
            expected[to[0]] = expected.pop(id)
    actual = stored_vectors(db.conn)
    assert set(actual) == {id for id, vector in expected.items() if vector is not None}
    for id, vector in actual.items():
        assert np.array_equal(vector, expected[id])
    thumbnails = {row[0] for row in db.execute("select image_id from _images_thumbnails")}
    assert thumbnails == set(actual)
    db.close()


# --- Writing -------------------------------------------------------------------------------------


def test_a_batch_is_written_whole_or_not_at_all(db: Database) -> None:
    table, index = make_index(db)
    taken = db["images"].get(1)["path"]
    vector = random_vectors(1)[0]
    good = EmbeddedImage(None, make_record(1), vector, b"webp")
    changed = EmbeddedImage(2, make_record(1, sha256="new"), -vector, b"webp")
    bad = EmbeddedImage(None, make_record(1, path=taken), vector, None)
    failure = Failure(1, "broken.jpg", 1, "now", "it is broken")
    before = list(db.iterdump())
    with pytest.raises(sqlite3.IntegrityError):
        write_batch(db, table, index, [good, changed, bad], [failure])
    assert list(db.iterdump()) == before
    write_batch(db, table, index, [good, changed], [failure])
    assert count_images(db.conn, table) == 5
    assert np.array_equal(stored_vectors(db.conn)[2], -vector)


def test_a_row_deleted_while_its_new_picture_was_embedded_comes_back(db: Database) -> None:
    table, index = make_index(db)
    gone = EmbeddedImage(99, make_record(1), random_vectors(1)[0], None)
    write_batch(db, table, index, [gone])
    assert set(stored_vectors(db.conn)) == {1, 2, 3, 4, 5}


def test_a_picture_that_changed_keeps_its_id_and_a_persons_columns(db: Database) -> None:
    db["images"].add_column("stars", int)
    db.execute("update images set stars = 5 where id = 2")
    table, index = make_index(db)
    record = make_record(
        1, path=db["images"].get(2)["path"], metadata=Metadata(camera_make="Canon")
    )
    vector = random_vectors(1, seed=9)[0]
    write_batch(db, table, index, [EmbeddedImage(2, record, vector, b"new")])
    row = db["images"].get(2)
    assert (row["stars"], row["camera_make"], row["sha256"]) == (5, "Canon", record.sha256)
    assert np.array_equal(stored_vectors(db.conn)[2], vector)
    assert reads.thumbnail(db.conn, table, 2).picture == b"new"


def test_a_failure_is_known_until_the_file_is_embedded(db: Database) -> None:
    table, index = make_index(db)
    failure = Failure(1, "broken.jpg", 7, "monday", "it is broken")
    write_batch(db, table, index, [], [failure])
    write_batch(db, table, index, [], [failure])
    assert list(db[table.failures].rows) == [vars(failure)]
    key = ("/pictures", "broken.jpg")
    assert known_files(db.conn, "images")[key] == KnownSource(None, 7, "monday", True, False)

    record = make_record(1, path="broken.jpg", size=8)
    write_batch(db, table, index, [EmbeddedImage(None, record, random_vectors(1)[0], None)])
    assert db[table.failures].count == 0
    assert known_files(db.conn, "images", index)[key] == KnownSource(5, 8, "then")


def test_a_picture_that_became_a_broken_file_is_known_as_that_until_it_changes(
    db: Database,
) -> None:
    table, index = make_index(db)
    path = db["images"].get(3)["path"]
    write_batch(db, table, index, [], [Failure(1, path, 1, "friday", "it is broken")])
    known = known_files(db.conn, "images")["/pictures", path]
    assert known == KnownSource(3, 1, "friday", True, False)


def test_a_root_is_made_once(db: Database) -> None:
    root_id = ensure_roots(db, ["/photos/2024"])["/photos/2024"]
    assert ensure_roots(db, ["/photos/2024"])["/photos/2024"] == root_id
    assert db["image_search_roots"].get(root_id)["label"] == "2024"
    assert [root.path for root in roots(db.conn)] == ["/pictures", "/photos/2024"]


def test_moving_a_drive_is_one_update(db: Database) -> None:
    path = db["images"].get(1)["path"]
    db.execute("update image_search_roots set path = '/new'")
    index = store.find_index(db.conn)
    assert locations(db.conn, index, [1, 99]) == {1: Location("/new", path)}
    assert ("/new", path) in known_files(db.conn, "images")


def test_an_index_is_made_once(db: Database) -> None:
    first = store.find_index(db.conn)
    assert make_index(db)[1] == first
    assert db["image_search_indexes"].count == 1


# --- Reading -------------------------------------------------------------------------------------


def test_nothing_is_known_of_a_table_that_is_not_there_yet() -> None:
    conn = sqlite3.connect(":memory:")
    assert known_files(conn, "images") == {}
    assert roots(conn) == []


def test_a_table_of_another_shape_cannot_take_images(db: Database) -> None:
    db["people"].insert({"id": 1, "path": "x"}, pk="id")
    with pytest.raises(StoreError, match="'people' cannot take images: it has no column 'root_id'"):
        known_files(db.conn, "people")


@pytest.mark.parametrize(("kind", "keys"), [(str, ["b", "a - 'x'", "ü"]), (int, [7, -3, 2**40])])
def test_a_persons_own_table_with_any_key_works(kind: type, keys: list[Key]) -> None:
    db = Database(memory=True, execute_plugins=False)
    table = make_own_table(db, "mine", "my key", kind)
    _, index = make_index(db, "mine")
    root_id = ensure_roots(db, ["/pictures"])["/pictures"]
    vectors = random_vectors(3)
    for key in keys:
        db["mine"].insert({"my key": key, "rating": 4})
    images = [
        EmbeddedImage(key, make_record(root_id), vector, b"webp")
        for key, vector in zip(keys, vectors, strict=True)
    ]
    write_batch(db, table, index, images)
    db.vacuum()
    assert np.array_equal(stored_vectors(db.conn, "mine")[keys[1]], vectors[1])
    ids = matching(db.conn, index, IdSet(keys[:2])).tolist()
    assert vectors_by_id(db.conn, index, ids).image_ids == keys[:2]
    assert image_rows(db.conn, table, keys)[keys[2]]["rating"] == 4
    db.execute('delete from mine where "my key" = ?', [keys[0]])
    assert set(stored_vectors(db.conn, "mine")) == set(keys[1:])


def test_columns_are_noted_as_a_persons_only_if_others_could_be_written_there(db: Database) -> None:
    """Of a table like those from folders that a person made; not of ours, whatever became of its side tables."""
    make_own_table(db, "mine", "id", int)
    db["pictures"].insert({"id": 1, "file": "a.jpg", "title": "A"}, pk="id")
    ensure_tables(db, "pictures", "file")
    db["_images_vectors"].drop()
    ensure_tables(db, "images")
    assert [name for name in db.table_names() if name.endswith("own_columns")] == [
        "_mine_own_columns"
    ]


def test_vectors_come_in_batches_in_the_order_of_their_ids(db: Database) -> None:
    add_images(db, random_vectors(6, seed=1))
    index = store.find_index(db.conn)
    batches = list(vector_batches(db.conn, index, after=2, up_to=9, size=3))
    assert [batch.vector_ids.tolist() for batch in batches] == [[3, 4, 5], [6, 7, 8], [9]]
    assert batches[0].vectors.shape == (3, 8)
    assert count_vectors(db.conn, index, up_to=9) == 9


def test_vectors_by_id_leaves_out_what_is_gone(db: Database) -> None:
    index = store.find_index(db.conn)
    found = vectors_by_id(db.conn, index, [3, 99, 1])
    assert sorted(found.image_ids) == [1, 3]
    assert vectors_by_id(db.conn, index, []).vectors.shape == (0, 8)


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([None, None, None, None], [4, 3, 2, 1]),
        ([None, "2021-05-01T10:00:00", "2020-01-01T00:00:00", None], [2, 3, 4, 1]),
        (["2020-01-01", "2020-01-01", "2020-01-02", "2019-01-01"], [3, 2, 1, 4]),
    ],
)
def test_the_newest_photos_come_first_and_those_without_a_date_last(
    db: Database, taken: list[str | None], expected: list[int]
) -> None:
    for id, when in enumerate(taken, start=1):
        db["images"].update(id, {"taken_at": when})
    table = store.find_image_table(db.conn, "images")
    assert newest_ids(db.conn, table, 10) == expected
    assert newest_ids(db.conn, table, 2) == expected[:2]


@pytest.mark.parametrize("few_match", [True, False])
def test_the_newest_photos_that_pass_a_filter(db: Database, few_match: bool) -> None:
    for id, when in enumerate(["2020", "2021", None, "2023"], start=1):
        db["images"].update(id, {"taken_at": when})
    table = store.find_image_table(db.conn, "images")
    not_the_last = Filter("id != :p0", {"p0": 4})

    def newest(limit: int, offset: int = 0) -> list:
        return newest_ids(db.conn, table, limit, not_the_last, offset=offset, few_match=few_match)

    assert newest(10) == [2, 1, 3]
    assert newest(1, offset=1) == [1]
    assert newest(5, offset=9) == []


def test_images_are_counted_under_a_filter_and_up_to_a_limit(db: Database) -> None:
    table = store.find_image_table(db.conn, "images")
    assert count_images(db.conn, table) == 4
    assert count_images(db.conn, table, Filter("id > :p0", {"p0": 1})) == 3
    assert count_images(db.conn, table, limit=3) == 3
    assert count_images(db.conn, table, Filter("path != '{images}'"), limit=9) == 4


@pytest.mark.parametrize("clause", ["nope =", "nope = 1", "json_extract(path, '$')"])
def test_a_filter_that_does_not_work_is_named(db: Database, clause: str) -> None:
    table = store.find_image_table(db.conn, "images")
    for read in (
        count_images,
        lambda *given: newest_ids(given[0], given[1], 9, given[2]),
    ):
        with pytest.raises(FilterError, match=re.escape(repr(clause))):
            read(db.conn, table, Filter(clause))
    with pytest.raises(FilterError):
        count_images(db.conn, table, Filter("id = :p0", {"p0": 2**70}))


@pytest.mark.parametrize(
    "sql",
    [
        "select camera_model, count(*) from images group by camera_model",
        "select folder, count(*) from images where camera_make = 'Canon' group by +folder",
        "select +folder, count(*) from images where taken_at >= '2021' group by 1",
        "select count(*) from images where folder = 'a'",
    ],
)
def test_what_is_counted_most_is_counted_in_an_index(db: Database, sql: str) -> None:
    (plan, *_) = db.execute(f"explain query plan {sql}").fetchall()
    assert "COVERING INDEX" in plan[3]


def test_indexes_for_facets_come_back_where_their_columns_are(db: Database) -> None:
    for index in db["images"].indexes:
        if "folder" in index.columns:
            db.execute(f"drop index {quote_identifier(index.name)}")
    db["images"].transform(drop={"camera_make"})
    ensure_tables(db, "images")
    assert ["folder"] in [index.columns for index in db["images"].indexes]


def test_the_newest_rows_of_a_table_without_dates_are_those_of_the_highest_ids(
    db: Database,
) -> None:
    for index in db["images"].indexes:
        if "taken_at" in index.columns:
            db.execute(f"drop index {quote_identifier(index.name)}")
    db["images"].transform(drop={"taken_at"})
    table = store.find_image_table(db.conn, "images")
    assert newest_ids(db.conn, table, 2) == [4, 3]


def test_a_vector_is_little_endian_float32() -> None:
    vector = np.array([1.0, -2.5], dtype=np.float64)
    assert vector_to_blob(vector) == bytes.fromhex("0000803f000020c0")
    assert vector_from_blob(vector_to_blob(vector)).tolist() == [1.0, -2.5]


# --- Filters -------------------------------------------------------------------------------------


@pytest.fixture
def shuffled(db: Database) -> sqlite3.Connection:
    """Images 2 to 5 with the vectors 2 to 4 and 6: ids of images and vectors are not the same."""
    db.execute("delete from images where id = 1")
    add_images(db, random_vectors(1))
    db.execute("update images set id = 50 where id = 5")
    db.execute("update images set size = id * 10")
    return db.conn


def images_of(conn: sqlite3.Connection, vector_ids: list[int]) -> list[Key]:
    found = vectors_by_id(conn, store.find_index(conn), vector_ids)
    image_of = dict(zip(found.vector_ids.tolist(), found.image_ids, strict=True))
    return [image_of[id] for id in vector_ids]


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        (Filter("1"), [2, 3, 4, 50]),
        (Filter("id = 4"), [4]),
        (Filter("images.id = 50"), [50]),
        (Filter("id in (2, 50) or id = 3"), [2, 3, 50]),
        (Filter("size >= :least", {"least": 40}), [4, 50]),
        (Filter("filename like '%.jpg' -- all of them"), [2, 3, 4, 50]),
        (Filter("/* some */ id < 4"), [2, 3]),
        (Filter("id in (select id from images where size > 30)"), [4, 50]),
        (Filter("exists (select 1 from json_each('[2, 3]') where value = images.id)"), [2, 3]),
        (Filter("camera_make = '{braces} 100%'"), []),
    ],
)
def test_a_filter_is_a_where_clause_over_the_image_table(
    shuffled: sqlite3.Connection, filter: Filter, expected: list[int]
) -> None:
    index = store.find_index(shuffled)
    everything = vector_ids(shuffled)
    assert sorted(images_of(shuffled, matching(shuffled, index, filter).tolist())) == expected
    for order in (everything, everything[::-1]):
        passed = passing(shuffled, index, order, filter)
        assert passed == [id for id in order if id in passed]
        assert sorted(images_of(shuffled, passed)) == expected


def test_without_a_filter_whatever_still_exists_passes(shuffled: sqlite3.Connection) -> None:
    index = store.find_index(shuffled)
    assert passing(shuffled, index, [99, 4, 1, 2], None) == [4, 2]


BAD_FILTERS = [
    Filter("nosuchcolumn = 1"),
    Filter("size >"),
    Filter("("),
    Filter("'"),
    Filter("/* never closed"),
    Filter(""),
    Filter("count(*) > 1"),
    Filter("1 limit 3"),
    Filter("1; select 2"),
    Filter("size > :missing"),
    Filter("nosuchfunction(size)"),
    # Columns of the tables that the images are joined to, in one function or the other.
    Filter("value > 1"),
    Filter("type = 'JPEG'"),
    Filter("image_id = 3"),
    Filter("vector is not null"),
    # Words that are also in the messages of a database that is locked or broken.
    Filter("unlocked = 1"),
    Filter("disk = 'C'"),
    Filter("path ->> 'a' = 1"),
]


@pytest.mark.parametrize("filter", BAD_FILTERS, ids=lambda filter: filter.where)
def test_a_filter_that_sqlite_does_not_take_is_named(db: Database, filter: Filter) -> None:
    index = store.find_index(db.conn)
    sentence = re.escape(f"the filter {filter.where!r} does not work on 'images': ")
    with pytest.raises(FilterError, match=sentence):
        passing(db.conn, index, [1, 2, 3, 4], filter)
    with pytest.raises(FilterError, match=sentence):
        matching(db.conn, index, filter)


def test_a_column_of_another_name_in_a_table_with_another_key_is_not_ours() -> None:
    db = Database(memory=True, execute_plugins=False)
    table = make_own_table(db, "mine", "name", str)
    _, index = make_index(db, "mine")
    for filter in (Filter("id = 1"), Filter("key = 1")):
        with pytest.raises(FilterError):
            passing(db.conn, index, [1], filter)
    assert passing(db.conn, index, [1], IdSet(["a"]).as_filter(table)) == []


def test_the_keys_that_a_filter_names_are_listed_without_a_look_at_their_images(
    db: Database,
) -> None:
    index = store.find_index(db.conn)
    named = Filter("0", keys="select value as image_id from json_each('[2, 9, null, \"x\", 2]')")
    assert asked_images(db.conn, index, named).tolist() == [2, 9, 2]
    assert asked_images(db.conn, index, named, 1).tolist() == [2]
    assert asked_images(db.conn, index, Filter("0")).tolist() == []


def test_a_search_that_was_interrupted_is_not_the_fault_of_the_filter(db: Database) -> None:
    index = store.find_index(db.conn)
    conn = db.conn
    conn.execute(
        "with recursive n(x) as (select 1 union all select x + 1 from n where x < 9) select x from n"
    )
    conn.set_progress_handler(lambda: 1, 1)
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        matching(db.conn, index, Filter("size > 1"))


# --- What others do to the tables --------------------------------------------------------------------


def test_what_is_no_vector_is_left_out(db: Database) -> None:
    """Others can write to the table too; one bad row must not break every search."""
    _, index = make_index(db)
    nan = np.full(index.dimensions, np.nan, dtype="<f4").tobytes()
    for id, blob in ((2, b"1234"), (3, nan)):
        db["_images_vectors"].delete_where("image_id = ?", [id])
        sha256 = db["images"].get(id)["sha256"]
        row = {"index_id": index.id, "image_id": id, "sha256": sha256, "vector": blob}
        db["_images_vectors"].insert(row)
    (batch,) = vector_batches(db.conn, index)
    assert batch.image_ids == [1, 4]
    assert image_vector(db.conn, index, 2) is None


def test_a_batch_waits_for_another_writer(db: Database, tmp_path: Path) -> None:
    """SQLite does not wait where a transaction that has read wants to write; so it asks at once."""
    database = tmp_path / "waiting.db"
    ours = Database(database, execute_plugins=False)
    table, index = make_index(ours)
    other = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    other.execute("create table notes (note text)")
    other.execute("begin immediate")
    threading.Timer(0.3, lambda: other.execute("commit")).start()
    image = EmbeddedImage(None, make_record(1), random_vectors(1)[0], None)
    ensure_roots(ours, ["/pictures"])
    write_batch(ours, table, index, [image])
    assert ours["images"].count == 1


def test_columns_that_a_person_dropped_are_not_missed(db: Database) -> None:
    db["images"].transform(drop={"altitude"}, rename={"iso": "speed"})
    table, index = make_index(db)
    known_files(db.conn, "images", index)
    image = EmbeddedImage(
        None, make_record(7, metadata=Metadata(iso=100)), random_vectors(1)[0], None
    )
    write_batch(db, table, index, [image])
    assert db["images"].get(5)["speed"] is None


def test_a_database_of_an_older_version_gets_the_columns_it_lacks(db: Database) -> None:
    db["image_search_indexes"].transform(drop={"path_column", "content_column"})
    ensure_tables(db, "images")
    assert store.find_index(db.conn).path_column is None


@pytest.mark.parametrize("name", ["", " ", "a_view", "sqlite_master", "sqlite_images"])
def test_what_cannot_be_an_image_table(db: Database, name: str) -> None:
    db.create_view("a_view", "select 1")
    with pytest.raises(StoreError, match="cannot be an image table"):
        ensure_tables(db, name)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("id", "../../../x"),
        ("id", 1.5),
        ("id", None),
        ("dimensions", "449"),
        ("model", b"palette"),
        ("fingerprint", None),
        ("generation", "many"),
        ("path_column", 7),
    ],
)
def test_what_is_no_index_is_none(database: Path, column: str, value: object) -> None:
    """Whoever made the database made its tables too, with whatever types."""
    db = Database(database, execute_plugins=False)
    (row,) = db.query("select * from image_search_indexes")
    db["image_search_indexes"].drop()
    names = ", ".join(row)
    db.execute(f"create table image_search_indexes ({names})")
    values = {**row, column: value}
    db.execute(
        f"insert into image_search_indexes values ({', '.join('?' * len(values))})",
        list(values.values()),
    )
    assert image_table_names(db.conn) == []
    assert store.read_indexes(db.conn, "images") == []
    with pytest.raises(store.StoreError, match="this database has no image table"):
        store.find_index(db.conn)
    db.close()
