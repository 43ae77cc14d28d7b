"""Scores by image: of what is there now, and no more of them than there is room for."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sqlite_utils import Database

from datasette_image_search import Images
from datasette_image_search.search import similarity
from datasette_image_search.search.codes import CODE_ERROR
from datasette_image_search.search.indexing import refresh_sidecars
from datasette_image_search.search.similarity import scores_by_image
from datasette_image_search.sql import register_functions
from datasette_image_search.store import find_index
from datasette_image_search.store.stored_vectors import vector_to_blob
from datasette_image_search.store.tables import EmbeddedImage
from datasette_image_search.store.writes import write_batch

from .random_tables import add_images, make_index, make_own_table, make_record, random_vectors

VECTORS = random_vectors(100)
QUERY = random_vectors(1, seed=1)[0]


@pytest.fixture
def db(path: Path) -> Iterator[Database]:
    with closing(Database(path, execute_plugins=False)) as db:
        add_images(db, VECTORS)
        refresh_sidecars(db, "images")
        yield db


def check(conn: sqlite3.Connection, vectors: dict[int, np.ndarray], query=QUERY) -> None:
    scores = scores_by_image(conn, find_index(conn, "images"), query)
    there = {id: score for id, score in enumerate(scores) if score == score}
    assert there == pytest.approx(
        {id: float(vector @ query) for id, vector in vectors.items()}, abs=CODE_ERROR
    )
    assert all(type(score) is float for score in there.values())


def test_every_image_has_a_score_whatever_happened_to_it(db: Database) -> None:
    vectors = dict(enumerate(VECTORS, start=1))
    check(db.conn, vectors)
    db.execute("delete from images where id % 5 = 0")
    vectors = {id: vector for id, vector in vectors.items() if id % 5}
    check(db.conn, vectors)
    table, index = make_index(db)
    for id in (5, 7):
        # An id that is used again, and a file that has another picture.
        record = make_record(1)
        db["images"].insert({"id": id, "root_id": 1, "path": f"again {id}"}, ignore=True)
        write_batch(db, table, index, [EmbeddedImage(id, record, QUERY, None)])
        vectors[id] = QUERY
    check(db.conn, vectors)
    db.execute("update images set id = 120 where id = 1")
    vectors[120] = vectors.pop(1)
    check(db.conn, vectors)
    refresh_sidecars(db, "images")
    check(db.conn, vectors)
    db.execute("delete from images")
    check(db.conn, {})


def test_the_score_of_a_film_is_that_of_its_best_scene(db: Database) -> None:
    """Among all as by itself, to the last bit."""
    scenes = random_vectors(7, seed=2)
    (film,) = add_images(db, [scenes])
    (scores,) = [scores_by_image(db.conn, find_index(db.conn), QUERY)]
    assert scores[film] == pytest.approx(float((scenes @ QUERY).max()), abs=CODE_ERROR)
    assert [scores[id] for id in range(1, 101)] == pytest.approx(VECTORS @ QUERY, abs=CODE_ERROR)
    register_functions(db.conn)
    blob = vector_to_blob(QUERY)
    sql = "select image_similarity(?, ?), image_relevance(?, ?)"
    score, relevance = db.execute(sql, [film, blob, film, blob]).fetchone()
    assert score == scores[film]
    (found,) = Images(db.conn).find([blob], 101)
    (hit,) = [hit for hit in found.hits if hit.id == film]
    assert hit.score == pytest.approx(score, abs=CODE_ERROR)
    assert hit.relevance == pytest.approx(relevance, abs=1e-6)
    assert hit.at == float((scenes @ QUERY).argmax())
    (written,) = [
        each
        for each in json.loads(db.execute("select image_search(?, 101)", [blob]).fetchone()[0])
        if "at" in each
    ]
    assert (written["id"], written["at"]) == (film, hit.at)


def test_what_was_computed_is_remembered_and_then_forgotten(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = find_index(db.conn)
    first = scores_by_image(db.conn, index, QUERY)
    assert scores_by_image(db.conn, index, QUERY) is first
    assert scores_by_image(db.conn, index, -QUERY, compute=False) is None
    monkeypatch.setattr(similarity, "KEPT_BYTES", 3 * first.nbytes)
    for vector in VECTORS[:10]:
        scores_by_image(db.conn, index, vector)
    assert sum(each.nbytes for each in similarity._remembered.values()) <= 3 * first.nbytes
    assert scores_by_image(db.conn, index, QUERY, compute=False) is None
    assert scores_by_image(db.conn, index, VECTORS[9], compute=False) is not None


@pytest.mark.parametrize(("kind", "keys"), [(str, ["a", "b"]), (int, [-1, 5]), (int, [1, 2**40])])
def test_keys_that_are_no_positions_have_none(path: Path, kind: type, keys: list) -> None:
    with closing(Database(path, execute_plugins=False)) as db:
        table = make_own_table(db, "mine", "key", kind)
        _, index = make_index(db, "mine")
        for key, vector in zip(keys, VECTORS, strict=False):
            db["mine"].insert({"key": key})
            one = EmbeddedImage(key, make_record(1), vector, None)
            write_batch(db, table, index, [one])
        assert scores_by_image(db.conn, find_index(db.conn, "mine"), QUERY) is None


def test_without_the_triggers_there_are_none(db: Database) -> None:
    db["images"].transform(rename={"lens": "optics"})
    assert scores_by_image(db.conn, find_index(db.conn), QUERY) is None


def test_who_sees_an_older_state_does_not_tell_others_about_it(path: Path, db: Database) -> None:
    db.execute("pragma journal_mode = wal")
    with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(path)) as new:
        old.execute("begin")
        index = find_index(old)
        add_images(db, QUERY[None])
        assert scores_by_image(old, index, QUERY) is None
        check(new, dict(enumerate([*VECTORS, QUERY], start=1)))


def test_what_is_not_committed_is_not_remembered(path: Path, db: Database) -> None:
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("delete from images where id > 3")
        assert scores_by_image(conn, find_index(conn), QUERY) is None
        conn.rollback()
        check(conn, dict(enumerate(VECTORS, start=1)))
