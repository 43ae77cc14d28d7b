"""Whatever became of the sidecar, and whoever writes: searches answer from what is committed."""

from __future__ import annotations

import gc
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from sqlite_utils import Database

from datasette_image_search import store
from datasette_image_search.engines import places
from datasette_image_search.search import checking, first_segment, freshness, indexing
from datasette_image_search.search import sidecar as sidecar_module
from datasette_image_search.search.checking import check_files
from datasette_image_search.search.codes import CODE_ERROR
from datasette_image_search.search.freshness import live_index
from datasette_image_search.search.indexing import (
    index_images,
    refresh_sidecars,
)
from datasette_image_search.search.live import LiveIndex
from datasette_image_search.search.not_written import SidecarNotWritten
from datasette_image_search.search.sidecar import (
    MAGIC,
    SidecarUnusable,
    approximate_path,
    check_sidecar,
    open_sidecar,
)
from datasette_image_search.search.status import status
from datasette_image_search.sql import register_functions
from datasette_image_search.store import Index, find_index
from datasette_image_search.store.indexes import ensure_index, record_sidecar
from datasette_image_search.store.replacements import delete_index
from datasette_image_search.store.stored_vectors import vector_to_blob
from datasette_image_search.store.vectors import count_vectors, image_vector

from . import committing
from .conftest import sidecar_of
from .kept import database_kept_in, kept_in
from .planning import search_one
from .random_tables import add_images, random_vectors
from .serving import HANGS

VECTORS = random_vectors(100)
"""Of the images 1 to 100."""


@pytest.fixture
def path(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A database with VECTORS and its sidecar, or another of KEPT, which this process has never searched."""
    path = tmp_path / "photos.db"
    with database_kept_in(getattr(request, "param", "sidecar"), path, VECTORS, monkeypatch):
        freshness._open.clear()
        yield path


over_journals = pytest.mark.parametrize(
    ("path", "journal"),
    [("sidecar", "delete"), ("sidecar", "wal"), ("lance", "wal")],
    indirect=True,
)

over_engines = pytest.mark.parametrize("path", ["sidecar", "lance"], indirect=True)


def make_database(path: Path, vectors: np.ndarray = VECTORS) -> None:
    with closing(Database(path, execute_plugins=False)) as db:
        add_images(db, vectors)
        refresh_sidecars(db, "images")


@pytest.fixture
def db(path: Path) -> Iterator[Database]:
    """The connection of one who writes."""
    db = Database(path, execute_plugins=False)
    yield db
    db.close()


@pytest.fixture
def conn(path: Path) -> Iterator[sqlite3.Connection]:
    """The connection of one who searches, such as Datasette's."""
    with closing(sqlite3.connect(path)) as conn:
        yield conn


def search(conn: sqlite3.Connection, vector: np.ndarray, k: int = 5) -> list[tuple[int, float]]:
    hits = search_one(conn, find_index(conn, "images"), vector, k).hits
    return [(hit.id, hit.score) for hit in hits]


def live(conn: sqlite3.Connection) -> LiveIndex:
    return live_index(conn, find_index(conn, "images"))


def assert_best(found: list[tuple[int, float]], images: dict[int, np.ndarray], vector) -> None:
    """That nothing was found but the best of these images, best first, with the right scores."""
    scores = {id: float(image @ vector) for id, image in images.items()}
    best = sorted(scores, key=scores.get, reverse=True)[: len(found)]
    assert [id for id, _ in found] == best
    assert np.allclose([score for _, score in found], [scores[id] for id in best], atol=1e-5)


def numbered(vectors: np.ndarray) -> dict[int, np.ndarray]:
    return dict(enumerate(vectors, start=1))


# --- The sidecar is a cache ----------------------------------------------------------------------


def keep(sidecar: Path) -> None:
    pass


def truncate(sidecar: Path) -> None:
    os.truncate(sidecar, sidecar.stat().st_size // 2)


def fill_with_garbage(sidecar: Path) -> None:
    sidecar.write_bytes(b"garbage" * 500)


def change_in_the_middle(sidecar: Path) -> None:
    """To zeros, as a bad disk does; the length stays."""
    at = sidecar.stat().st_size // 4
    with sidecar.open("r+b") as file:
        file.seek(at)
        file.write(bytes(at))


def put_a_folder_in_its_place(sidecar: Path) -> None:
    sidecar.unlink()
    sidecar.mkdir()


def put_that_of_another_table_in_its_place(sidecar: Path) -> None:
    database = sidecar.parent / "photos.db"
    with closing(Database(database, execute_plugins=False)) as db:
        add_images(db, -VECTORS, "others")
        refresh_sidecars(db, "others")
    shutil.copy(sidecar_of(database, "others"), sidecar)


def put_that_of_another_database_in_its_place(sidecar: Path) -> None:
    other = sidecar.parent / "other.db"
    make_database(other, -VECTORS)
    shutil.copy(sidecar_of(other), sidecar)


DAMAGES = [
    keep,
    Path.unlink,
    truncate,
    fill_with_garbage,
    change_in_the_middle,
    put_a_folder_in_its_place,
    put_that_of_another_table_in_its_place,
    put_that_of_another_database_in_its_place,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_answers_are_the_same_whatever_became_of_the_sidecar(
    path: Path, conn: sqlite3.Connection, damage
) -> None:
    damage(sidecar_of(path))
    for vector in random_vectors(5, seed=1):
        assert_best(search(conn, vector), numbered(VECTORS), vector)
    assert live(conn).from_sidecar == (damage is keep)
    assert (live(conn).problem is None) == (damage is keep)


@pytest.mark.parametrize(
    "damage", [one for one in DAMAGES if one not in (keep, put_a_folder_in_its_place)]
)
def test_a_search_writes_an_unusable_sidecar_again(
    path: Path, conn: sqlite3.Connection, damage
) -> None:
    sidecar = sidecar_of(path)
    damage(sidecar)
    search(conn, VECTORS[0])
    assert len(open_sidecar(sidecar, find_index(conn, "images")).vector_ids) == 100
    assert not list(path.parent.glob("*.tmp"))


def test_a_sidecar_is_written_again_after_rows_were_added_and_deleted(
    path: Path, db: Database, conn: sqlite3.Connection
) -> None:
    sidecar_of(path).unlink()
    db.execute("delete from images where id in (1, 100)")
    add_images(db, VECTORS[:1])
    images = {**numbered(VECTORS), 101: VECTORS[0]}
    del images[1], images[100]
    vector = random_vectors(1, seed=2)[0]
    assert_best(search(conn, vector, 20), images, vector)
    codes = open_sidecar(sidecar_of(path), find_index(conn))
    assert codes.vector_ids.tolist() == list(range(2, 100))


def while_it_is_written_again(
    monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]
) -> None:
    """The next search that writes a sidecar does this when that is written, but not in its place yet."""
    write = first_segment.written_beside

    @contextmanager
    def written(*args: object, **options: object) -> Iterator[Path]:
        with write(*args, **options) as temporary:
            action()
            yield temporary

    monkeypatch.setattr(first_segment, "written_beside", written)


def test_no_search_waits_for_another_that_writes_the_sidecar_again(
    path: Path, db: Database, conn: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = []

    def search_too() -> None:
        with closing(sqlite3.connect(path)) as other:
            answers.append([image for image, _ in search(other, VECTORS[0], 2)])

    def beside() -> None:
        add_images(db, VECTORS[:1])
        thread = threading.Thread(target=search_too, daemon=True)
        thread.start()
        thread.join(HANGS)

    while_it_is_written_again(monkeypatch, beside)
    sidecar_of(path).unlink()
    search(conn, VECTORS[0])
    assert answers == [[1, 101]]
    assert sidecar_of(path).exists()


def test_a_sidecar_that_another_wrote_meanwhile_stays(
    path: Path, db: Database, conn: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    while_it_is_written_again(monkeypatch, lambda: index_images(db, "images"))
    sidecar_of(path).unlink()
    search(conn, VECTORS[0])
    check_sidecar(sidecar_of(path), find_index(conn))


@pytest.fixture
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is so small that it is checked when it is opened."""
    for module in (sidecar_module, checking):
        monkeypatch.setattr(module, "CHECKED_WHEN_OPENED", 0)


@pytest.mark.usefixtures("all_are_large")
def test_embedding_finds_damage_in_the_middle_of_a_large_sidecar(
    path: Path, db: Database, conn: sqlite3.Connection
) -> None:
    index, *_ = index_images(db, "images", type="SQ8")
    files = [sidecar_of(path), approximate_path(path.resolve(), index)]
    for file in files:
        change_in_the_middle(file)
        refresh_sidecars(db, "images")
        for each in files:
            check_sidecar(each, find_index(conn))
    assert_best(search(conn, VECTORS[0]), numbered(VECTORS), VECTORS[0])
    assert live(conn).from_sidecar
    assert live(conn).approximate is not None


@pytest.mark.usefixtures("all_are_large")
def test_a_large_sidecar_that_proves_damaged_is_not_searched_any_more(
    path: Path, conn: sqlite3.Connection
) -> None:
    sidecar = sidecar_of(path)
    change_in_the_middle(sidecar)
    before = live(conn)
    assert before.from_sidecar
    assert check_files(conn, find_index(conn)) == [f"{sidecar.name} is damaged"]
    for vector in random_vectors(3, seed=1):
        assert_best(search(conn, vector), numbered(VECTORS), vector)
    assert live(conn).name != before.name
    assert live(conn).problem == f"{sidecar.name} is damaged"
    # It was written again, for the next process.
    check_sidecar(sidecar, find_index(conn))
    assert check_files(conn, find_index(conn)) == []


@pytest.mark.usefixtures("all_are_large")
def test_a_damaged_sidecar_that_cannot_be_written_again_is_not_believed_again(
    path: Path, db: Database, conn: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(first_segment, "written_beside", refuse)
    change_in_the_middle(sidecar_of(path))
    check_files(conn, find_index(conn))
    # What every process does whose index was replaced, or that has opened none.
    freshness._open.clear()
    assert_best(search(conn, VECTORS[0]), numbered(VECTORS), VECTORS[0])
    assert not live(conn).from_sidecar


@pytest.mark.usefixtures("all_are_large")
def test_a_large_approximate_index_that_proves_damaged_is_left_aside(
    path: Path, db: Database, conn: sqlite3.Connection
) -> None:
    index, *_ = index_images(db, "images", type="SQ8")
    file = approximate_path(path.resolve(), index)
    change_in_the_middle(file)
    assert live(conn).approximate is not None
    assert check_files(conn, find_index(conn)) == [f"{file.name} is damaged"]
    assert live(conn).approximate is None
    assert live(conn).from_sidecar
    assert status(conn)["problem"].startswith(f"{file.name} is damaged, so all searches are exact")


@pytest.mark.usefixtures("all_are_large")
@pytest.mark.filterwarnings("error")
def test_damage_that_is_no_number_prints_no_warning_and_ends_nothing(
    path: Path, conn: sqlite3.Connection
) -> None:
    """Until a large file was checked, which takes seconds."""
    sidecar = sidecar_of(path)
    for noise in (b"\xff\xff", b"\x01\x7d", b"\x00\x7c"):
        with sidecar.open("r+b") as file:
            file.seek(128)
            file.write(noise * 100)
        freshness._open.clear()
        assert len(search(conn, VECTORS[0], 20)) == 20


@pytest.mark.skipif(os.getuid() == 0, reason="root can write anywhere")
def test_a_folder_that_cannot_be_written_to_costs_time_only(
    path: Path, conn: sqlite3.Connection
) -> None:
    sidecar_of(path).unlink()
    path.parent.chmod(0o555)
    try:
        assert_best(search(conn, VECTORS[3]), numbered(VECTORS), VECTORS[3])
        assert not live(conn).from_sidecar
    finally:
        path.parent.chmod(0o755)


def test_a_sidecar_that_cannot_be_written_is_told_with_a_sentence(path: Path, db: Database) -> None:
    put_a_folder_in_its_place(sidecar_of(path))
    with pytest.raises(SidecarNotWritten, match=r"could not be written \(.*take longer"):
        refresh_sidecars(db, "images")
    assert not list(path.parent.glob("*.tmp"))


def test_vectors_of_another_model_are_not_answered_from_the_old_sidecar(
    db: Database, conn: sqlite3.Connection
) -> None:
    search(conn, VECTORS[0])
    db.execute("update image_search_indexes set fingerprint = 'other'")
    with pytest.raises(SidecarUnusable, match="belongs to another model"):
        open_sidecar(sidecar_of(Path(live_path(conn))), find_index(conn))
    search(conn, VECTORS[0])
    assert live(conn).index.fingerprint == "other"
    assert open_sidecar(sidecar_of(Path(live_path(conn))), find_index(conn))


def live_path(conn: sqlite3.Connection) -> str:
    return conn.execute("pragma database_list").fetchone()[2]


@pytest.mark.parametrize("kept", ["sidecar", "lance"])
@pytest.mark.parametrize("name", ["a b.db", "100%41?mode=x#y.db", "фото.db", "no suffix"])
def test_a_database_may_have_any_file_name(
    tmp_path: Path, name: str, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Database(tmp_path / name, execute_plugins=False)) as db:
        add_images(db, VECTORS)
        with kept_in(kept, db, monkeypatch), closing(sqlite3.connect(tmp_path / name)) as conn:
            assert_best(search(conn, VECTORS[0]), numbered(VECTORS), VECTORS[0])
            assert live(conn).from_sidecar
    beside = {file.name for file in tmp_path.iterdir()}
    assert [each for each in beside if not each.startswith(name)] == []


def test_a_database_in_memory_works_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    db = Database(memory=True, execute_plugins=False)
    add_images(db, VECTORS)
    refresh_sidecars(db, "images")
    assert_best(search(db.conn, VECTORS[5]), numbered(VECTORS), VECTORS[5])
    db.execute("delete from images where id = 6")
    assert 6 not in dict(search(db.conn, VECTORS[5]))
    other = Database(memory=True, execute_plugins=False)
    add_images(other, -VECTORS)
    assert_best(search(other.conn, VECTORS[5]), numbered(-VECTORS), VECTORS[5])
    assert list(tmp_path.iterdir()) == []


@over_engines
def test_a_database_file_that_another_replaced_is_not_answered_from_the_old_one(
    path: Path,
) -> None:
    new = path.with_name("new.db")
    with closing(Database(new, execute_plugins=False)) as db:
        add_images(db, -VECTORS)
    with closing(sqlite3.connect(path)) as conn:
        assert_best(search(conn, VECTORS[0]), numbered(VECTORS), VECTORS[0])
    new.replace(path)
    with closing(sqlite3.connect(path)) as conn:
        assert_best(search(conn, VECTORS[0]), numbered(-VECTORS), VECTORS[0])


# --- What is committed is searchable at once -----------------------------------------------------


@pytest.fixture
def journal(request: pytest.FixtureRequest, db: Database) -> str:
    """Either way in which a database may be written."""
    db.execute(f"pragma journal_mode = {request.param}")
    return request.param


@over_journals
def test_new_images_are_found_at_once_by_who_was_already_searching(
    path: Path, db: Database, conn: sqlite3.Connection, journal: str
) -> None:
    vector = random_vectors(1, seed=7)[0]
    search(conn, vector)
    before = sidecar_of(path).read_bytes()
    add_images(db, vector[None])
    assert search(conn, vector)[0] == (101, pytest.approx(1, abs=1e-5))
    add_images(db, random_vectors(3, seed=8))
    assert_best(
        search(conn, vector, 20),
        numbered(np.concatenate([VECTORS, vector[None], random_vectors(3, seed=8)])),
        vector,
    )
    assert sidecar_of(path).read_bytes() == before


@over_engines
def test_what_is_not_committed_is_not_found(db: Database, conn: sqlite3.Connection) -> None:
    vector = random_vectors(1, seed=7)[0]
    db.execute("pragma journal_mode = wal")
    db.begin()
    add_images(db, vector[None])
    assert_best(search(conn, vector), numbered(VECTORS), vector)
    db.rollback()
    assert_best(search(conn, vector), numbered(VECTORS), vector)
    add_images(db, -vector[None])
    assert search(conn, -vector)[0] == (101, pytest.approx(1, abs=1e-5))


@over_journals
def test_a_deleted_image_is_gone_at_once_whichever_tool_deleted_it(
    path: Path, db: Database, conn: sqlite3.Connection, journal: str
) -> None:
    assert search(conn, VECTORS[3])[0][0] == 4
    db.execute("delete from images where id = 4")
    left = {id: vector for id, vector in numbered(VECTORS).items() if id != 4}
    assert_best(search(conn, VECTORS[3], 20), left, VECTORS[3])
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("delete from images where id > 10")
    left = {id: vector for id, vector in left.items() if id <= 10}
    found = search(conn, VECTORS[3], 20)
    assert len(found) == 9
    assert_best(found, left, VECTORS[3])


@over_engines
def test_a_replaced_image_is_found_by_its_new_vector_only(
    db: Database, conn: sqlite3.Connection
) -> None:
    search(conn, VECTORS[3])
    db.execute("update images set sha256 = 'other' where id = 4")
    assert 4 not in dict(search(conn, VECTORS[3], 100))
    index = find_index(db.conn)
    vector = {"sha256": "other", "vector": vector_to_blob(-VECTORS[3])}
    db["_images_vectors"].insert({"index_id": index.id, "image_id": 4, **vector})
    assert search(conn, -VECTORS[3])[0] == (4, pytest.approx(1, abs=1e-5))


@over_engines
def test_a_renumbered_image_is_found_under_its_new_id(
    db: Database, conn: sqlite3.Connection
) -> None:
    search(conn, VECTORS[3])
    db.execute("update images set id = 1000 where id = 4")
    images = numbered(VECTORS)
    images[1000] = images.pop(4)
    assert_best(search(conn, VECTORS[3]), images, VECTORS[3])


@over_engines
def test_what_another_process_wrote_is_found(path: Path, conn: sqlite3.Connection) -> None:
    vector = random_vectors(1, seed=7)[0]
    search(conn, vector)
    program = """
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1])
conn.execute("delete from images where id = 1")
conn.execute("insert into images (id, root_id, path) values (500, 1, 'other process.jpg')")
conn.execute(
    "insert into _images_vectors (index_id, image_id, vector) values (1, 500, ?)",
    [bytes.fromhex(sys.argv[2])],
)
conn.commit()
"""
    blob = vector_to_blob(vector).hex()
    subprocess.run([sys.executable, "-c", program, path, blob], check=True)
    assert search(conn, vector)[0] == (500, pytest.approx(1, abs=1e-5))
    assert 1 not in dict(search(conn, VECTORS[0], 200))


@over_engines
def test_vacuum_changes_no_answer(db: Database, conn: sqlite3.Connection) -> None:
    db.execute("delete from images where id < 50")
    vector = random_vectors(1, seed=3)[0]
    before = search(conn, vector, 20)
    db.vacuum()
    assert search(conn, vector, 20) == before


@over_engines
def test_an_empty_table_has_no_hits(db: Database, conn: sqlite3.Connection) -> None:
    db.execute("delete from images")
    assert search(conn, VECTORS[0]) == []
    refresh_sidecars(db, "images")
    assert search(conn, VECTORS[0]) == []
    add_images(db, VECTORS[:2])
    assert len(search(conn, VECTORS[0])) == 2


# --- Opened once ---------------------------------------------------------------------------------


@over_engines
def test_all_connections_of_a_process_share_one_index(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    with (
        closing(sqlite3.connect(path)) as one,
        closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as two,
        closing(sqlite3.connect(link)) as three,
    ):
        assert live(one) is live(one)
        assert live(one) is live(two)
        assert live(one) is live(three)
        assert search(one, VECTORS[0]) == search(two, VECTORS[0]) == search(three, VECTORS[0])


@over_engines
def test_a_commit_reads_the_new_rows_and_not_the_old_ones_again(
    db: Database, conn: sqlite3.Connection
) -> None:
    before = live(conn)
    add_images(db, random_vectors(2, seed=4))
    after = live(conn)
    assert after.segments[0] is before.segments[0]
    assert after.segments[1].vector_ids.tolist() == [101, 102]
    assert len(before) == 100
    assert len(after) == 102
    assert len(search(conn, VECTORS[0], 200)) == 102


@over_engines
def test_an_index_may_be_asked_for_by_many_threads_at_first(path: Path) -> None:
    def ask(_: int) -> tuple[LiveIndex, list[tuple[int, float]]]:
        with closing(sqlite3.connect(path)) as conn:
            return live(conn), search(conn, VECTORS[0])

    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(ask, range(16)))
    assert all(index is found[0][0] for index, _ in found)
    assert all(hits == found[0][1] for _, hits in found)


# --- When a sidecar is worth writing -------------------------------------------------------------


@pytest.mark.parametrize(
    ("added", "deleted", "rewritten"),
    [(0, 0, False), (5, 0, False), (0, 5, False), (3, 2, False), (6, 0, True), (0, 6, True),
     (3, 3, True)],
)  # fmt: skip
def test_a_sidecar_is_written_anew_after_more_than_a_few_changes(
    path: Path, db: Database, added: int, deleted: int, rewritten: bool
) -> None:
    before: Index = find_index(db.conn)
    content = sidecar_of(path).read_bytes()
    if added:
        add_images(db, random_vectors(added, seed=5))
    db.execute("delete from images where id <= ?", [deleted])
    refresh_sidecars(db, "images")
    after = find_index(db.conn)
    assert (after.sidecar != before.sidecar) == rewritten
    assert (sidecar_of(path).read_bytes() != content) == rewritten
    expected = 100 + added - deleted if rewritten else 100
    assert len(open_sidecar(sidecar_of(path), after).vector_ids) == expected


def test_an_unusable_sidecar_is_written_anew(path: Path, db: Database) -> None:
    truncate(sidecar_of(path))
    refresh_sidecars(db, "images")
    assert len(open_sidecar(sidecar_of(path), find_index(db.conn)).vector_ids) == 100


@over_engines
def test_the_new_sidecar_is_taken_up_by_who_was_already_searching(
    db: Database, conn: sqlite3.Connection
) -> None:
    search(conn, VECTORS[0])
    more = random_vectors(50, seed=6)
    add_images(db, more)
    assert live(conn).newer == 50
    refresh_sidecars(db, "images")
    assert live(conn).newer == 0
    assert live(conn).from_sidecar
    assert_best(search(conn, more[0]), numbered(np.concatenate([VECTORS, more])), more[0])


# --- While others write --------------------------------------------------------------------------


@over_journals
def test_many_threads_search_while_another_commits(path: Path, db: Database, journal: str) -> None:
    more = random_vectors(120, seed=9).reshape(12, 10, 8)
    images = numbered(np.concatenate([VECTORS, *more]))
    written = threading.Event()

    def search_on(seed: int) -> int:
        searches = 0
        with closing(sqlite3.connect(path, timeout=30)) as conn:
            for vector in random_vectors(1000, seed=seed):
                last = written.is_set()
                count = count_vectors(conn, find_index(conn))
                found = search(conn, vector, 10)
                assert len({id for id, _ in found}) == 10
                for id, score in found:
                    assert score == pytest.approx(images[id] @ vector, abs=1e-5)
                # Of those committed before the search, none is missing that is better.
                worst = found[-1][1] + 1e-5
                better = {id for id in range(1, count + 1) if images[id] @ vector > worst}
                assert better <= {id for id, _ in found}
                searches += 1
                if last:
                    return searches
                # Else sixteen threads leave the writer hardly any time.
                time.sleep(0.01)
        return searches

    with ThreadPoolExecutor(16) as threads:
        searching = [threads.submit(search_on, seed) for seed in range(16)]
        try:
            db.execute("pragma busy_timeout = 30000")
            for number, batch in enumerate(more):
                add_images(db, batch)
                if number % 5 == 4:
                    refresh_sidecars(db, "images")
        finally:
            written.set()
        assert all(each.result() >= 1 for each in searching)
    with closing(sqlite3.connect(path)) as conn:
        assert_best(search(conn, more[-1][-1], 20), images, more[-1][-1])


STEPS = 20


@pytest.mark.parametrize(("mode", "kept"), [("delete", "sidecar"), ("wal", "lance")])
def test_sixteen_threads_find_what_another_process_commits(
    tmp_path: Path, mode: str, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer is that of one state which was committed while the search went on."""
    monkeypatch.setattr(places, "_served", [])
    path = tmp_path / "photos.db"
    with closing(Database(path, execute_plugins=False)) as db:
        db.execute(f"pragma journal_mode = {mode}")
        committing.prepare(db, kept)
    states = committing.states(STEPS)
    writer = subprocess.Popen([sys.executable, "-m", "tests.committing", path, str(STEPS)])
    ways = [by_planner, by_function, by_aggregate, by_similarity]

    def search_on(number: int) -> int:
        searches = 0
        by = ways[number % len(ways)]
        with closing(sqlite3.connect(path, timeout=60)) as conn:
            register_functions(conn)
            for vector in random_vectors(10_000, seed=number):
                ended = writer.poll() is not None
                first = step_of(conn)
                found = by(conn, vector)
                last = step_of(conn)
                assert is_of_one(states[first : last + 1], vector, found, exact=by in EXACT), (
                    by, first, last, found,
                )  # fmt: skip
                searches += 1
                if ended:
                    assert last == STEPS
                    return searches
                # While one thread of a process reads, SQLite lets the others join, and without a WAL a writer of
                # another process would wait for ever.
                time.sleep(0.2 if mode == "delete" else 0.1)
        return searches

    try:
        with ThreadPoolExecutor(16) as threads:
            searching = [threads.submit(search_on, number) for number in range(16)]
            assert all(each.result() >= 1 for each in searching)
    finally:
        writer.kill()
    assert writer.wait() == 0


def step_of(conn: sqlite3.Connection) -> int:
    return conn.execute("select number from step").fetchone()[0]


def by_planner(conn: sqlite3.Connection, vector: np.ndarray) -> list[tuple[int, float]]:
    hits = search_one(conn, find_index(conn), vector, 8, exact=True).hits
    return [(hit.id, hit.score) for hit in hits]


def by_function(conn: sqlite3.Connection, vector: np.ndarray) -> list[tuple[int, float]]:
    return hits_of(conn, "select image_search(?, 8)", vector)


def by_aggregate(conn: sqlite3.Connection, vector: np.ndarray) -> list[tuple[int, float]]:
    return hits_of(conn, "select image_search_agg(id, ?, 8) from images", vector)


def hits_of(conn: sqlite3.Connection, sql: str, vector: np.ndarray) -> list[tuple[int, float]]:
    (hits,) = conn.execute(sql, [vector_to_blob(vector)]).fetchone()
    return [(hit["id"], hit["score"]) for hit in json.loads(hits)]


def by_similarity(conn: sqlite3.Connection, vector: np.ndarray) -> list[tuple[int, float]]:
    sql = "select id, image_similarity(id, ?) from images order by 2 desc limit 8"
    return conn.execute(sql, [vector_to_blob(vector)]).fetchall()


EXACT = (by_planner, by_aggregate, by_similarity)
"""All but that which may ask the approximate index."""


def is_of_one(
    states: list[committing.State], vector: np.ndarray, found: list[tuple[int, float]], exact: bool
) -> bool:
    """Whether these are the best 8 of one of the states, or (not exact) some 8 that were there."""
    for state in states:
        scores = {id: float(each @ vector) for id, each in state.items()}
        if len(found) != 8 or any(id not in scores for id, _ in found):
            continue
        best = sorted(scores.values(), reverse=True)[:8]
        right = [scores[id] for id, _ in found]
        # image_similarity() rounds as codes do.
        given = [score for _, score in found]
        if np.allclose(right, given, atol=CODE_ERROR) and (
            not exact or np.allclose(right, best, atol=2 * CODE_ERROR)
        ):
            return True
    return False


@pytest.mark.parametrize("damage", ["truncated", "overwritten", "deleted"])
def test_a_sidecar_that_is_damaged_while_it_is_open_changes_no_answer(
    path: Path, db: Database, conn: sqlite3.Connection, damage: str
) -> None:
    """A mapped file that shrinks would end the process at the next look at it."""
    before = search(conn, VECTORS[0])
    sidecar = sidecar_of(path)
    if damage == "truncated":
        os.truncate(sidecar, 100)
    elif damage == "overwritten":
        with sidecar.open("r+b") as file:
            file.write(b"\xff" * sidecar.stat().st_size)
    else:
        sidecar.unlink()
    assert search(conn, VECTORS[0]) == before


def test_the_sidecar_of_a_private_database_is_private(path: Path, db: Database) -> None:
    path.chmod(0o600)
    sidecar_of(path).unlink()
    refresh_sidecars(db, "images")
    assert sidecar_of(path).stat().st_mode & 0o777 == 0o600


def test_what_a_killed_writer_left_behind_is_cleared_away(path: Path, db: Database) -> None:
    left = path.with_name(f"{sidecar_of(path).name}.abcdefgh.tmp")
    written_now = path.with_name(f"{sidecar_of(path).name}.12345678.tmp")
    for file in (left, written_now):
        file.write_bytes(b"half")
    os.utime(left, (0, 0))
    sidecar_of(path).unlink()
    refresh_sidecars(db, "images")
    assert not left.exists()
    assert written_now.exists()


@over_engines
def test_an_index_that_gave_way_to_another_is_let_go(
    path: Path, db: Database, conn: sqlite3.Connection
) -> None:
    """Its sidecar is deleted, but would take up the disk for as long as it is open."""
    old = find_index(conn)
    assert_best(search(conn, VECTORS[0]), dict(enumerate(VECTORS, start=1)), VECTORS[0])
    opened = weakref.ref(live_index(conn, old))
    table = store.find_image_table(db.conn, "images")
    ensure_index(
        db, table, model="other", weights=None, fingerprint="other", dimensions=old.dimensions
    )
    delete_index(db, table, old)
    live_index(conn, find_index(conn))
    gc.collect()
    assert opened() is None


# --- What takes the place of what is open -----------------------------------------------------------


def reads_of_all(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows each time that codes are made of all vectors in the database."""
    reads: list[None] = []
    real = freshness.read_segment

    def rebuild(*args: object) -> object:
        reads.append(None)
        return real(*args)

    monkeypatch.setattr(freshness, "read_segment", rebuild)
    return reads


@over_engines
def test_a_file_that_is_there_before_the_database_names_it_costs_nothing(
    path: Path, db: Database, conn: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In between, searches go on with what they have open, and do not write the old one again."""
    before = search(conn, VECTORS[0])
    reads = reads_of_all(monkeypatch)
    add_images(db, random_vectors(20, seed=3))
    real = record_sidecar

    def record(db: Database, index: Index) -> None:
        assert search(conn, VECTORS[0])[0] == before[0]
        real(db, index)

    monkeypatch.setattr(indexing, "record_sidecar", record)
    refresh_sidecars(db, "images")
    assert search(conn, VECTORS[0])[0] == before[0]
    assert live(conn).newer == 0
    assert live(conn).from_sidecar
    assert not reads


def test_an_approximate_index_is_taken_up_by_who_was_already_searching(
    path: Path, db: Database, conn: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where both files were in place for a moment before the database named them."""
    search(conn, VECTORS[0])
    reads = reads_of_all(monkeypatch)
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        result = real(self, target)
        assert_best(search(conn, VECTORS[0]), numbered(VECTORS), VECTORS[0])
        return result

    db.execute("pragma journal_mode = wal")
    monkeypatch.setattr(Path, "replace", replace)
    index_images(db, "images", type="IVF2,SQ8", target=1.0)
    assert_best(search(conn, VECTORS[0]), numbered(VECTORS), VECTORS[0])
    assert live(conn).approximate.tuning.factory == "IVF2,SQ8"
    index_images(db, "images", type="flat")
    search(conn, VECTORS[0])
    assert live(conn).approximate is None
    assert not reads


def test_an_approximate_index_that_comes_later_is_taken_up(
    path: Path, db: Database, conn: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after embed-images, which writes it when the sidecar is searched already."""
    index, *_ = index_images(db, "images", type="SQ8")
    approximate_path(path.resolve(), index).unlink()
    search(conn, VECTORS[0])
    assert live(conn).approximate is None
    reads = reads_of_all(monkeypatch)
    before = live(conn)
    refresh_sidecars(db, "images")
    assert_best(search(conn, VECTORS[0]), numbered(VECTORS), VECTORS[0])
    assert live(conn).approximate is not None
    assert live(conn).segments is before.segments
    assert live(conn) is live(conn)
    assert not reads


@pytest.mark.parametrize("damage", [*DAMAGES[:6], "as the sidecar", "of an older version"])
def test_an_approximate_index_that_is_unusable_is_left_aside(
    path: Path, db: Database, conn: sqlite3.Connection, damage
) -> None:
    index, *_ = index_images(db, "images", type="SQ8")
    file = approximate_path(path.resolve(), index)
    if damage == "as the sidecar":
        shutil.copy(sidecar_of(path), file)
    elif damage == "of an older version":
        file.write_bytes(file.read_bytes()[: -len(MAGIC)] + b"IMGSRCH1")
    else:
        damage(file)
    for vector in random_vectors(3, seed=1):
        assert_best(search(conn, vector), numbered(VECTORS), vector)
    assert (live(conn).approximate is not None) == (damage is keep)
    assert live(conn).from_sidecar


def test_an_approximate_index_in_place_of_the_sidecar_is_no_sidecar(
    path: Path, db: Database, conn: sqlite3.Connection
) -> None:
    """It has the same token, and SQ8 is of the same class as float16 to FAISS."""
    index, *_ = index_images(db, "images", type="SQ8")
    shutil.copy(approximate_path(path.resolve(), index), sidecar_of(path))
    assert_best(search(conn, VECTORS[7]), numbered(VECTORS), VECTORS[7])
    assert not live(conn).from_sidecar


@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_an_approximate_index_that_is_cut_while_it_is_open_changes_no_answer(
    path: Path, db: Database, conn: sqlite3.Connection, share: float
) -> None:
    index, *_ = index_images(db, "images", type="SQ8")
    before = search(conn, VECTORS[0])
    file = approximate_path(path.resolve(), index)
    os.truncate(file, int(file.stat().st_size * share))
    assert search(conn, VECTORS[0]) == before


# --- What a connection sees ------------------------------------------------------------------------


@over_engines
def test_a_statement_that_began_before_finds_what_was_there_then(
    path: Path, db: Database, conn: sqlite3.Connection
) -> None:
    db.execute("pragma journal_mode = wal")
    search(conn, VECTORS[0])
    conn.execute("begin")
    assert conn.execute("select count(*) from images").fetchone() == (100,)
    db.execute("delete from images where id <= 30")
    add_images(db, VECTORS[:1])
    refresh_sidecars(db, "images")
    with closing(sqlite3.connect(path)) as other:
        assert 101 in dict(search(other, VECTORS[0]))
    assert_best(search(conn, VECTORS[0], 20), numbered(VECTORS), VECTORS[0])
    conn.rollback()
    assert 101 in dict(search(conn, VECTORS[0]))


@over_engines
def test_what_is_written_and_not_committed_is_found_by_who_wrote_it(db: Database) -> None:
    vector = random_vectors(1, seed=7)[0]
    with db.atomic():
        add_images(db, vector[None])
        assert search(db.conn, vector)[0] == (101, pytest.approx(1, abs=1e-5))
        db.execute("delete from images where id = 101")
        assert 101 not in dict(search(db.conn, vector))


@over_engines
def test_vectors_that_are_none_are_not_found(db: Database, conn: sqlite3.Connection) -> None:
    """Another program can write anything."""
    for id, values in enumerate(
        ([np.nan] * 8, [np.inf] * 8, [0] * 8, [1e30] * 8, [1] * 9, []), 200
    ):
        db.execute("insert into images (id, root_id, path) values (?, 1, ?)", [id, f"{id}.jpg"])
        blob = np.array(values, "<f4").tobytes()
        db.execute(
            "insert into _images_vectors (index_id, image_id, vector) values (1, ?, ?)", [id, blob]
        )
    for refreshed in (False, True):
        if refreshed:
            refresh_sidecars(db, "images")
        found = search(conn, VECTORS[0], 200)
        assert len(found) == 100
        assert_best(found, numbered(VECTORS), VECTORS[0])
        assert image_vector(conn, find_index(conn), 200) is None


def test_only_the_database_was_published(path: Path, tmp_path: Path) -> None:
    """As `datasette publish` does it, into a folder that nobody can write to."""
    folder = tmp_path / "published"
    folder.mkdir()
    shutil.copy(path, folder / "photos.db")
    folder.chmod(0o555)
    try:
        with closing(sqlite3.connect(f"file:{folder}/photos.db?immutable=1", uri=True)) as conn:
            assert_best(search(conn, VECTORS[3]), numbered(VECTORS), VECTORS[3])
            problem = status(conn)["problem"]
    finally:
        folder.chmod(0o755)
    assert "-1.faiss is missing, so this process searches a copy in memory" in problem
