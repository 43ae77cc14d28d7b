"""Restored, moved, copied over: answers are of what is in the place of the database, and of nothing else."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sqlite_utils import Database

from datasette_image_search.engines.lance import LanceEngine
from datasette_image_search.search import freshness, indexing
from datasette_image_search.search.codes import CODE_ERROR
from datasette_image_search.search.freshness import live_index
from datasette_image_search.search.indexing import index_images, refresh_sidecars
from datasette_image_search.search.similarity import scores_by_image
from datasette_image_search.sql import register_functions
from datasette_image_search.store import find_index
from datasette_image_search.store.tokens import has_tokens

from .conftest import sidecar_of
from .kept import database_kept_in
from .planning import search_one
from .random_tables import add_images, random_vectors, stored_vectors
from .version_0_1 import make_older

QUERY = random_vectors(1, seed=99)[0]
VECTORS = random_vectors(100)


@pytest.fixture
def path(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A database with VECTORS and its sidecar, or another of KEPT."""
    path = tmp_path / "photos.db"
    with database_kept_in(getattr(request, "param", "sidecar"), path, VECTORS, monkeypatch):
        yield path


@pytest.fixture
def conn(path: Path) -> Iterator[sqlite3.Connection]:
    """The connection of one who searches, and has done so before."""
    with closing(connected(path)) as conn:
        assert_right(conn)
        yield conn


def connected(path: Path) -> sqlite3.Connection:
    conn = sqlite3.connect(path, timeout=60, check_same_thread=False)
    register_functions(conn)
    return conn


def change(path: Path, *statements: str, add: int = 0, seed: int = 0) -> None:
    with closing(Database(path, execute_plugins=False)) as db:
        for statement in statements:
            db.execute(statement)
            db.conn.commit()
        if add:
            add_images(db, random_vectors(add, seed=seed))


def assert_right(conn: sqlite3.Connection) -> None:
    """That all ways to search find what brute force finds in the table that this connection sees."""
    index = find_index(conn, "images")
    there = stored_vectors(conn)
    scores = {id: float(vector @ QUERY) for id, vector in there.items()}
    best = sorted(scores, key=scores.get, reverse=True)[:20]
    found = search_one(conn, index, QUERY, 20).hits
    assert [hit.id for hit in found] == best
    by_sql = dict(conn.execute("select id, image_similarity(id, ?) from images", [QUERY.tobytes()]))
    assert {id: score for id, score in by_sql.items() if score is not None} == pytest.approx(
        scores, abs=CODE_ERROR
    )
    all_at_once = scores_by_image(conn, index, QUERY)
    if all_at_once is not None:
        known = {id: score for id, score in enumerate(all_at_once) if score == score}
        assert known == pytest.approx(scores, abs=CODE_ERROR)
    for id in best[:3]:
        (hit,) = search_one(conn, index, there[id], 1).hits
        assert (hit.id, hit.score) == (id, pytest.approx(1, abs=1e-5))


# --- How another content comes into the place of a database ------------------------------------------


def restore(backup: Path, path: Path) -> None:
    """As `.restore` does, into the same file."""
    with closing(sqlite3.connect(backup)) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)


def move(backup: Path, path: Path) -> None:
    moved = backup.with_name("moved")
    shutil.copy(backup, moved)
    moved.replace(path)


def vacuum_into(backup: Path, path: Path) -> None:
    vacuumed = backup.with_name("vacuumed")
    vacuumed.unlink(missing_ok=True)
    with closing(sqlite3.connect(backup)) as source:
        source.execute("vacuum into ?", [str(vacuumed)])
    vacuumed.replace(path)


def copy_over(backup: Path, path: Path) -> None:
    shutil.copyfile(backup, path)


WAYS = [restore, move, vacuum_into, copy_over]

PLACES = [*((way, "sidecar") for way in WAYS), (restore, "lance"), (move, "lance alone")]
"""Each way, and each place of the vectors."""


def after(way: Callable, conn: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    """Who kept a connection to a file that was moved away sees that; others see the new."""
    if way in (move, vacuum_into):
        assert_right(conn)
    return connected(path)


@pytest.mark.parametrize(("way", "path"), PLACES, indirect=["path"])
def test_other_pictures_get_the_ids_of_those_that_came_after_the_backup(
    path: Path, conn: sqlite3.Connection, way: Callable
) -> None:
    backup = path.with_name("backup.db")
    shutil.copy(path, backup)
    change(path, add=10, seed=1)
    assert_right(conn)
    way(backup, path)
    with closing(after(way, conn, path)) as other:
        assert_right(other)
        change(path, add=10, seed=2)
        assert_right(other)
        change(path, add=1, seed=3)
        assert_right(other)
    assert_right(conn)


@pytest.mark.parametrize(("way", "path"), PLACES, indirect=["path"])
def test_the_last_picture_is_the_same_and_those_before_are_not(
    path: Path, conn: sqlite3.Connection, way: Callable
) -> None:
    """As when a folder is embedded again in which one file changed."""
    backup = path.with_name("backup.db")
    shutil.copy(path, backup)
    change(path, add=3, seed=1)
    change(path, add=1, seed=7)
    assert_right(conn)
    way(backup, path)
    change(path, add=3, seed=2)
    change(path, add=1, seed=7)
    with closing(after(way, conn, path)) as other:
        assert_right(other)


@pytest.mark.parametrize(("way", "path"), PLACES, indirect=["path"])
def test_what_was_deleted_before_it_was_read_is_back(path: Path, way: Callable) -> None:
    backup = path.with_name("backup.db")
    change(path, add=10, seed=1)
    shutil.copy(path, backup)
    change(path, "delete from images where id in (7, 105)")
    with closing(connected(path)) as conn:
        assert_right(conn)
        way(backup, path)
        with closing(after(way, conn, path)) as other:
            assert_right(other)
        assert_right(conn)


@pytest.mark.parametrize("way", WAYS)
def test_a_sidecar_that_was_written_again_without_them_is_not_believed(
    path: Path, way: Callable
) -> None:
    backup = path.with_name("backup.db")
    shutil.copy(path, backup)
    change(path, "delete from images where id in (7, 50)")
    sidecar_of(path).unlink()
    with closing(connected(path)) as conn:
        assert_right(conn)
    way(backup, path)
    freshness._open.clear()
    with closing(connected(path)) as conn:
        assert_right(conn)
        assert "another state of the database" in live_index(conn, find_index(conn)).problem


@pytest.mark.parametrize("way", WAYS)
def test_the_sidecar_of_one_history_lies_beside_the_database_of_another(
    path: Path, conn: sqlite3.Connection, way: Callable
) -> None:
    """Both with the token of the same sidecar, and written to since."""
    backup = path.with_name("backup.db")
    shutil.copy(path, backup)
    change(path, add=10, seed=1)
    with closing(Database(path, execute_plugins=False)) as db:
        index_images(db, "images", type="IVF2,SQ8")
    token = find_index(conn).sidecar
    assert_right(conn)
    with closing(Database(backup, execute_plugins=False)) as db:
        add_images(db, random_vectors(10, seed=2))
        db.execute("update image_search_indexes set sidecar = ?, sidecar_vector_id = 110", [token])
        db.conn.commit()
    way(backup, path)
    freshness._open.clear()
    with closing(connected(path)) as other:
        assert_right(other)


@pytest.mark.parametrize(("way", "path"), PLACES, indirect=["path"])
def test_a_run_writes_the_sidecar_of_what_there_is_now(path: Path, way: Callable) -> None:
    backup = path.with_name("backup.db")
    shutil.copy(path, backup)
    change(path, "delete from images where id = 7")
    sidecar_of(path).unlink()
    with closing(connected(path)) as conn:
        assert_right(conn)
    way(backup, path)
    with closing(Database(path, execute_plugins=False)) as db:
        refresh_sidecars(db, "images")
    freshness._open.clear()
    with closing(connected(path)) as conn:
        assert_right(conn)
        assert live_index(conn, find_index(conn)).problem is None


@pytest.mark.parametrize(
    ("path", "maker", "makes"),
    [("sidecar", indexing, "stored_codes"), ("lance", LanceEngine, "optimize")],
    indirect=["path"],
)
def test_a_database_that_was_restored_while_a_sidecar_was_made_does_not_name_it(
    path: Path, maker: object, makes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor what was fed to an engine."""
    backup = path.with_name("backup.db")
    shutil.copy(path, backup)
    change(path, add=10, seed=1)
    real = getattr(maker, makes)

    def make(*args: object, **options: object) -> object:
        made = real(*args, **options)
        restore(backup, path)
        change(path, add=10, seed=2)
        return made

    monkeypatch.setattr(maker, makes, make)
    with closing(Database(path, execute_plugins=False)) as db:
        named = find_index(db.conn).sidecar
        with pytest.raises(indexing.SidecarNotWritten, match="was replaced while"):
            index_images(db, "images")
        assert find_index(db.conn).sidecar == named
    with closing(connected(path)) as conn:
        assert_right(conn)


# Of the functions that meet a file which is copied over just then.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("way", "path"),
    [(restore, "lance"), (move, "sidecar"), (vacuum_into, "sidecar"), (copy_over, "sidecar")],
    indirect=["path"],
)
def test_nobody_finds_a_mixture_while_it_happens(path: Path, way: Callable) -> None:
    """Each answer is that of one of the databases that were there while it was looked for."""
    one, other = path.with_name("one.db"), path.with_name("other.db")
    shutil.copy(path, one)
    shutil.copy(path, other)
    change(one, add=10, seed=1)
    change(other, "delete from images where id < 30", add=10, seed=2)
    # More of them: where files are copied over, SQLite itself tells by this that they are others.
    change(other, *["update images set lens = 'x' where id = 50"] * 30)
    states = []
    for each in (path, one, other):
        with closing(connected(each)) as conn:
            states.append(stored_vectors(conn))
    ended = threading.Event()

    def search_on() -> int:
        searches = 0
        while not ended.is_set() or not searches:
            with closing(connected(path)) as conn:
                for _ in range(3):
                    try:
                        found = conn.execute(
                            "select json_extract(value, '$.id'), json_extract(value, '$.score') from json_each(image_search(?, 8))",
                            [QUERY.tobytes()],
                        ).fetchall()
                    except sqlite3.DatabaseError:
                        # A file that is copied over is no database meanwhile; one that is restored is
                        # locked, perhaps for longer than somebody waits.
                        assert way in (copy_over, restore)
                        continue
                    # Of one that is half copied, SQLite itself reads a mixture.
                    assert way is copy_over or any(is_best(found, state) for state in states), found
                    searches += 1
            # As long as one thread of a process reads, others may join, and who writes would wait for ever.
            time.sleep(0.05)
        return searches

    with ThreadPoolExecutor(4) as threads:
        searching = [threads.submit(search_on) for _ in range(4)]
        try:
            for number in range(12):
                way((one, other)[number % 2], path)
        finally:
            ended.set()
        assert all(each.result() for each in searching)
    with closing(connected(path)) as conn:
        assert_right(conn)


def is_best(found: list[tuple[int, float]], state: dict[int, np.ndarray]) -> bool:
    scores = {id: float(vector @ QUERY) for id, vector in state.items()}
    best = sorted(scores.items(), key=lambda item: -item[1])[:8]
    return [id for id, _ in found] == [id for id, _ in best] and np.allclose(
        [score for _, score in found], [score for _, score in best], atol=1e-5
    )


def test_what_was_read_of_a_file_that_is_half_copied_is_not_believed(path: Path) -> None:
    """The row of the index is of one database, and vectors are of another, as if nothing was written since."""
    other = path.with_name("other.db")
    shutil.copy(path, other)
    change(other, "delete from images where id < 30", add=5, seed=2)
    with closing(sqlite3.connect(other)) as source:
        (generation,) = source.execute("select generation from image_search_indexes").fetchone()
    change(path, f"update image_search_indexes set generation = {generation}, sidecar = null")
    with closing(connected(path)) as conn:
        assert_right(conn)
        assert live_index(conn, find_index(conn)).gone is None
    copy_over(other, path)
    change(path, "update image_search_indexes set sidecar = null")
    with closing(connected(path)) as conn:
        assert find_index(conn).generation == generation
        assert_right(conn)


# --- What cancels in a count -------------------------------------------------------------------------


def test_a_deleted_vector_and_an_invalid_one_are_not_none(
    path: Path, conn: sqlite3.Connection
) -> None:
    change(
        path,
        "delete from images where id = 100",
        "insert into images (id, root_id, path) values (100, 1, 'another')",
        "insert into images (id, root_id, path) values (101, 1, 'one more')",
        "insert into _images_vectors (index_id, image_id, vector) values (1, 101, x'00')",
    )
    assert_right(conn)
    change(path, "delete from images where id = 3", add=1, seed=4)
    assert_right(conn)


def test_rows_that_hold_no_vector_do_not_make_a_sidecar_unusable(path: Path) -> None:
    change(
        path,
        "insert into images (id, root_id, path) values (101, 1, 'one')",
        "insert into _images_vectors (index_id, image_id, vector) values (1, 101, x'00')",
    )
    with closing(Database(path, execute_plugins=False)) as db:
        index_images(db, "images")
    change(path, "delete from images where id = 3", add=1, seed=4)
    freshness._open.clear()
    with closing(connected(path)) as conn:
        assert_right(conn)
        assert live_index(conn, find_index(conn)).from_sidecar


# --- What it costs -----------------------------------------------------------------------------------


def test_what_is_proven_is_not_read_again(
    path: Path, conn: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("all vectors were read")

    monkeypatch.setattr(freshness, "read_segment", refuse)
    change(path, add=3, seed=1)
    assert_right(conn)
    change(path, "delete from images where id in (3, 102)")
    assert_right(conn)
    backup = path.with_name("backup.db")
    with closing(sqlite3.connect(path)) as source:
        source.execute("vacuum into ?", [str(backup)])
    backup.replace(path)
    with closing(connected(path)) as other:
        assert_right(other)


# --- Databases of version 0.1 ------------------------------------------------------------------------


def test_a_database_of_version_0_1_is_searched_as_it_is(path: Path) -> None:
    with closing(Database(path, execute_plugins=False)) as db:
        make_older(db)
    before = path.read_bytes(), sidecar_of(path).read_bytes()
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as conn:
        register_functions(conn)
        assert_right(conn)
        assert live_index(conn, find_index(conn)).problem is None
    assert (path.read_bytes(), sidecar_of(path).read_bytes()) == before


@pytest.mark.parametrize("way", WAYS)
def test_a_database_of_version_0_1_is_restored(path: Path, way: Callable) -> None:
    """Its counter comes to the same number with other vectors."""
    with closing(Database(path, execute_plugins=False)) as db:
        make_older(db)
    backup = path.with_name("backup.db")
    shutil.copy(path, backup)
    for database, seed in ((path, 1), (backup, 2)):
        for vector in random_vectors(5, seed=seed):
            with closing(sqlite3.connect(database)) as writer:
                writer.execute("insert into images (root_id, path) values (1, ?)", [str(vector[0])])
                writer.execute(
                    "insert into _images_vectors (index_id, image_id, vector) "
                    "select 1, max(id), ? from images",
                    [vector.tobytes()],
                )
                writer.commit()
    with closing(connected(path)) as conn:
        assert_right(conn)
        generation = find_index(conn).generation
        way(backup, path)
        os.utime(path)
        with closing(connected(path)) as other:
            assert find_index(other).generation == generation
            assert_right(other)


def test_a_run_makes_it_new(path: Path, conn: sqlite3.Connection) -> None:
    with closing(Database(path, execute_plugins=False)) as db:
        make_older(db)
        assert_right(conn)
        add_images(db, random_vectors(3, seed=1))
        assert_right(conn)
        assert has_tokens(conn, find_index(conn))
        refresh_sidecars(db, "images")
    freshness._open.clear()
    assert_right(conn)
    assert live_index(conn, find_index(conn)).problem is None
