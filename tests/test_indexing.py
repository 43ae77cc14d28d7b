"""Sidecars are written where that is worth it, and keep what a person asked for."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from sqlite_utils import Database

from datasette_image_search import store
from datasette_image_search.progress import Report
from datasette_image_search.search import (
    approximate,
    byte_codes,
    codes,
    codes_on_disk,
    indexing,
    sidecar,
)
from datasette_image_search.search.approximate import Approximate, IndexTypeError
from datasette_image_search.search.codes import Codes
from datasette_image_search.search.freshness import live_index
from datasette_image_search.search.indexing import (
    index_images,
    refresh_sidecars,
)
from datasette_image_search.search.not_written import SidecarNotWritten
from datasette_image_search.search.sidecar import (
    approximate_path,
    file_state,
    open_approximate,
    sidecar_path,
    sidecar_paths,
)
from datasette_image_search.store import Index, find_index
from datasette_image_search.store.indexes import ensure_index, record_sidecar
from datasette_image_search.store.replacements import delete_index
from datasette_image_search.store.stored_vectors import vector_to_blob
from datasette_image_search.store.vectors import vector_batches

from .made_codes import BUILDABLE, REFUSED
from .planning import search_one
from .random_tables import add_images, copy_images, random_vectors

VECTORS = random_vectors(400, 16)


@pytest.fixture
def db(path: Path) -> Iterator[Database]:
    """400 images, and no sidecars."""
    with closing(Database(path, execute_plugins=False)) as db:
        copy_images(db, VECTORS)
        yield db


def states(path: Path) -> dict[str, tuple | None]:
    return {file.name: file_state(file) for file in sidecar_paths(path)}


def approximate_of(path: Path, db: Database) -> approximate.Approximate:
    index = find_index(db.conn)
    return open_approximate(approximate_path(path, index), index)


def test_what_was_made_is_given_back_written_and_searched(path: Path, db: Database) -> None:
    index, codes, made = index_images(db, "images", type="IVF8,SQ8")
    assert index == find_index(db.conn)
    assert index.index_type == "IVF8,SQ8"
    assert len(codes) == len(made.vector_ids) == 400
    live = live_index(db.conn, index)
    assert live.from_sidecar
    assert live.approximate.tuning == made.tuning
    assert search_one(db.conn, index, VECTORS[7], 1).steps[0].name == "propose"


@pytest.mark.parametrize("factory", BUILDABLE[:4])
def test_any_factory_string_is_searched_by(path: Path, db: Database, factory: str) -> None:
    index_images(db, "images", type=factory)
    found = search_one(db.conn, find_index(db.conn), VECTORS[7], 5)
    assert found.hits[0].id == 8
    assert found.steps[0].name == "propose"


@pytest.fixture(scope="module")
def indexed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with an approximate index, for what leaves all as it is."""
    path = tmp_path_factory.mktemp("indexed") / "photos.db"
    with closing(Database(path, execute_plugins=False)) as db:
        copy_images(db, VECTORS)
        index_images(db, "images", type="SQ8")
    return path


@pytest.mark.parametrize("factory", [*REFUSED, "IVF401,Flat"])
def test_what_is_refused_changes_nothing(indexed_once: Path, factory: str) -> None:
    with closing(Database(indexed_once, execute_plugins=False)) as db:
        before, before_index = states(indexed_once), find_index(db.conn)
        assert before_index.index_type == "SQ8"
        with pytest.raises(IndexTypeError):
            index_images(db, "images", type=factory)
        assert states(indexed_once) == before
        assert find_index(db.conn) == before_index
        assert not list(indexed_once.parent.glob("*.tmp"))


@pytest.mark.parametrize(("former", "type"), [("hnsw", "HNSW32_SQ8"), ("ivfpq", "ivf")])
def test_a_type_of_an_earlier_version_is_made_by_its_name_of_today(
    db: Database, former: str, type: str
) -> None:
    index_images(db, "images", type="SQ8")
    db.execute("update image_search_indexes set index_type = ?", [former])
    index, _, made = index_images(db, "images")
    assert index.index_type == made.tuning.type == type
    assert search_one(db.conn, index, VECTORS[7], 1).hits[0].id == 8
    db.execute("update image_search_indexes set index_type = ?", [former])
    add_images(db, random_vectors(400, VECTORS.shape[1], seed=1))
    refresh_sidecars(db, "images")
    index = find_index(db.conn)
    assert len(live_index(db.conn, index).approximate.vector_ids) == 800
    assert search_one(db.conn, index, VECTORS[7], 1).steps[0].name == "propose"


def test_an_exact_search_has_nothing_to_build(path: Path, db: Database) -> None:
    with pytest.raises(IndexTypeError, match="there is nothing to build for 400"):
        index_images(db, "images", gpu=True)
    assert states(path) == {}


def test_a_table_without_vectors_has_nothing_to_index(db: Database) -> None:
    db.execute("delete from images")
    with pytest.raises(IndexTypeError, match="'images' has no vectors to index"):
        index_images(db, "images", type="ivf")


def test_a_table_with_vectors_that_are_none_has_nothing_to_index(db: Database) -> None:
    db.execute("delete from images where id > 1")
    db.execute("drop trigger _images_image_search_vector_changed")
    db.execute("update _images_vectors set vector = zeroblob(64)")
    with pytest.raises(IndexTypeError, match="'images' has no vectors to index"):
        index_images(db, "images", type="ivf")


def test_a_database_in_memory_has_no_place_for_an_index() -> None:
    db = Database(memory=True, execute_plugins=False)
    add_images(db, VECTORS)
    with pytest.raises(SidecarNotWritten, match="in memory"):
        index_images(db, "images")


# --- What embed-images does at its end ----------------------------------------------------------------


def test_small_commits_rewrite_no_file(path: Path, db: Database) -> None:
    index_images(db, "images", type="IVF8,SQ8")
    before = states(path)
    for seed in range(4):
        add_images(db, random_vectors(5, 16, seed=seed))
        refresh_sidecars(db, "images")
        assert states(path) == before
    assert live_index(db.conn, find_index(db.conn)).newer == 20


def test_many_new_images_are_folded_into_both_files(path: Path, db: Database) -> None:
    index_images(db, "images", type="IVF8,SQ8", target=0.9)
    searched_before = live_index(db.conn, find_index(db.conn))
    more = random_vectors(100, 16, seed=5)
    add_images(db, more)
    refresh_sidecars(db, "images")
    index = find_index(db.conn)
    live = live_index(db.conn, index)
    assert live is not searched_before
    assert live.newer == 0
    assert len(live.approximate.vector_ids) == 500
    # It grew, and was not trained again.
    assert live.approximate.tuning == searched_before.approximate.tuning
    assert search_one(db.conn, index, more[50], 1).hits[0].id == 451


def test_what_grew_is_built_anew_where_most_of_it_is_new(path: Path, db: Database) -> None:
    index_images(db, "images", type="ivf", target=0.9)
    add_images(db, random_vectors(800, 16, seed=5))
    refresh_sidecars(db, "images")
    tuning = approximate_of(path, db).tuning
    assert (tuning.type, tuning.factory, tuning.target) == ("ivf", "IVF30,SQ8", 0.9)


def test_an_approximate_index_that_was_lost_is_built_again(path: Path, db: Database) -> None:
    index, *_ = index_images(db, "images", type="IVF8,SQ8")
    sidecar = file_state(sidecar_path(path, index))
    approximate_path(path, index).unlink()
    refresh_sidecars(db, "images")
    assert approximate_of(path, db).tuning.factory == "IVF8,SQ8"
    assert file_state(sidecar_path(path, index)) == sidecar


def test_of_too_few_vectors_there_is_no_approximate_index_any_more(
    path: Path, db: Database
) -> None:
    index, *_ = index_images(db, "images", type="IVF64,SQ8")
    db.execute("delete from images where id > 30")
    refresh_sidecars(db, "images")
    assert not approximate_path(path, index).exists()
    assert len(search_one(db.conn, find_index(db.conn), VECTORS[0], 50).hits) == 30
    add_images(db, random_vectors(300, 16, seed=5))
    refresh_sidecars(db, "images")
    assert approximate_of(path, db).tuning.factory == "IVF64,SQ8"


def test_auto_makes_one_of_many_vectors_and_none_of_few(
    path: Path, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh_sidecars(db, "images")
    assert len(states(path)) == 1
    monkeypatch.setattr(approximate, "AUTO_EXACT", 399)
    refresh_sidecars(db, "images")
    assert approximate_of(path, db).tuning.type == "auto"
    assert find_index(db.conn).index_type is None


def test_flat_takes_an_approximate_index_away(path: Path, db: Database) -> None:
    index_images(db, "images", type="SQ8")
    index, _, made = index_images(db, "images", type="flat")
    assert made is None
    assert index.index_type == "flat"
    assert list(states(path)) == [sidecar_path(path, index).name]


def test_positions_of_deleted_vectors_point_to_no_other(path: Path, db: Database) -> None:
    """The sidecar was written again, from fewer vectors than the approximate index has."""
    index, *_ = index_images(db, "images", type="IVF2,SQ8", target=1.0)
    db.execute("delete from images where id % 3 = 0")
    sidecar_path(path, index).unlink()
    left = {id: v for id, v in enumerate(VECTORS, start=1) if id % 3}
    with closing(sqlite3.connect(path)) as conn:
        for vector in random_vectors(10, 16, seed=8):
            found = search_one(conn, find_index(conn), vector, 10)
            assert found.steps[0].name == "propose"
            best = sorted(left, key=lambda id: -float(left[id] @ vector))
            assert len({hit.id for hit in found.hits} & set(best[:10])) >= 8
            for hit in found.hits:
                assert hit.score == pytest.approx(float(left[hit.id] @ vector), abs=1e-5)


def test_two_models_of_a_table_have_files_of_their_own(path: Path, db: Database) -> None:
    first = find_index(db.conn)
    table = store.find_image_table(db.conn, "images")
    second = ensure_index(db, table, model="other", weights=None, fingerprint="other", dimensions=4)
    for id, vector in enumerate(random_vectors(50, 4), start=1):
        blob = vector_to_blob(vector)
        (sha256,) = db.execute("select sha256 from images where id = ?", [id]).fetchone()
        row = {"index_id": second.id, "image_id": id, "sha256": sha256, "vector": blob}
        db["_images_vectors"].insert(row)
    index_images(db, "images", model="other", type="SQ8", queries=random_vectors(5, 4))
    refresh_sidecars(db, "images")
    assert len(states(path)) == 3
    delete_index(db, table, second)
    refresh_sidecars(db, "images")
    assert list(states(path)) == [sidecar_path(path, first).name]


@pytest.mark.parametrize("failing", [Codes, Approximate])
def test_a_disk_that_is_full_is_said_and_costs_no_answer(
    path: Path, db: Database, monkeypatch: pytest.MonkeyPatch, failing: type
) -> None:
    index_images(db, "images", type="SQ8")
    write = sidecar._write

    def fail(file: BinaryIO, index: Index, made: Codes | Approximate, report: Report) -> None:
        if isinstance(made, failing):
            raise OSError(28, os.strerror(28))
        write(file, index, made, report)

    monkeypatch.setattr(sidecar, "_write", fail)
    with pytest.raises(SidecarNotWritten, match="No space left on device"):
        index_images(db, "images", type="IVF8,SQ8")
    index: Index = find_index(db.conn)
    found = search_one(db.conn, index, VECTORS[3], 3)
    exact = np.sort(VECTORS @ VECTORS[3])[::-1][:3]
    assert [hit.score for hit in found.hits] == pytest.approx(exact.tolist(), abs=1e-5)


# --- Others at work ------------------------------------------------------------------------------


def test_more_codes_than_memory_should_hold_are_made_on_the_disk(
    path: Path, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = partial(indexing.make_index, db.conn, find_index(db.conn), None, folder=path.parent)
    monkeypatch.setattr(codes, "MOST_IN_MEMORY", 0)
    _, on_disk, _ = made(type="IVF8,SQ8")
    assert on_disk.memory is not None
    monkeypatch.undo()
    _, in_memory, _ = made(type="IVF8,SQ8")
    assert in_memory.memory is None
    np.testing.assert_array_equal(on_disk.as_bytes(), in_memory.as_bytes())
    np.testing.assert_array_equal(on_disk.vector_ids, in_memory.vector_ids)


def test_films_of_more_scenes_than_memory_should_hold_move_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codes, "MOST_IN_MEMORY", 60 * 16 * 2)
    for scenes, is_on_disk in ((1, False), (3, True)):
        films = VECTORS[: 50 * scenes].reshape(50, scenes, 16)
        with closing(Database(tmp_path / f"{scenes}.db", execute_plugins=False)) as db:
            add_images(db, list(films))
            index = find_index(db.conn)
            # Two batches, so that some are in memory before they are too many.
            batches = vector_batches(db.conn, index, size=15)
            made = codes.encode(index, batches, folder=tmp_path, expected=50)
            assert (made.memory is not None) == is_on_disk
            right = films.reshape(-1, 16).astype("<f2")
            np.testing.assert_array_equal(made.as_bytes().view("<f2").reshape(-1, 16), right)


def test_codes_that_the_disk_has_no_room_for_are_said(
    path: Path, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **options: object) -> BinaryIO:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(codes, "MOST_IN_MEMORY", 0)
    monkeypatch.setattr(codes_on_disk.tempfile, "TemporaryFile", full)
    with pytest.raises(
        SidecarNotWritten, match=r"could not be written \(No space left on device\)"
    ):
        refresh_sidecars(db, "images")


def test_how_far_codes_in_bytes_are_is_told(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_codes, "SMALLEST", 1)
    monkeypatch.setattr(byte_codes, "LARGEST_RESIDUAL", 9.0)
    monkeypatch.setattr(codes, "BLOCK", 100)
    told = []
    index_images(db, "images", report=lambda *phase: told.append(phase))
    steps = [(done, total) for doing, done, total in told if doing == "Encoding"]
    assert steps[0] == (0, 400)
    assert steps[-1] == (400, 400)
    assert len(set(steps)) == 9
    assert steps == sorted(steps)


def test_a_type_that_a_person_chooses_meanwhile_is_not_forgotten(path: Path, db: Database) -> None:
    """A run that ends read the row of its index before index-images wrote to it."""
    before = find_index(db.conn)
    index_images(db, "images", type="IVF8,SQ8")
    indexing._write_codes(db, path, before, None, indexing.silent)
    assert find_index(db.conn).index_type == "IVF8,SQ8"


def test_an_index_that_is_gone_is_a_sentence_and_leaves_no_file(path: Path, db: Database) -> None:
    index = find_index(db.conn)
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("delete from image_search_indexes")
    with pytest.raises(store.StoreError, match=r"'images' by .* was removed meanwhile"):
        record_sidecar(db, index)
    made = indexing.make_index(db.conn, index, None)
    with pytest.raises(store.StoreError, match="was removed meanwhile"):
        indexing._write_all(db, path, index, None, *made[1:])
    assert sidecar_paths(path) == []


def test_another_index_of_the_same_id_is_not_written_to(path: Path, db: Database) -> None:
    index = find_index(db.conn)
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("update image_search_indexes set identity = 'another'")
    with pytest.raises(store.StoreError, match="was removed meanwhile"):
        record_sidecar(db, index)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders")
def test_a_pipe_in_the_place_of_a_sidecar_is_told_and_stays(path: Path, db: Database) -> None:
    index = find_index(db.conn)
    file = sidecar_path(path, index)
    os.mkfifo(file)
    for write in (refresh_sidecars, index_images):
        with pytest.raises(SidecarNotWritten, match=r"\(it is a named pipe; remove it\)"):
            write(db, "images")
    live = live_index(db.conn, find_index(db.conn))
    assert live.problem == f"{file.name} is a named pipe"
    assert file.is_fifo()
    assert len(live) == 400


def test_files_that_are_only_named_like_sidecars_stay(path: Path, db: Database) -> None:
    names = ["photos.db-image-search-1.backup.faiss", "photos.db-image-search-1.faiss.notes.tmp"]
    for name in names:
        path.with_name(name).write_bytes(b"mine")
        os.utime(path.with_name(name), (0, 0))
    ours = path.with_name("photos.db-image-search-7.faiss")
    ours.write_bytes(b"of an index that is no more")
    refresh_sidecars(db, "images")
    assert not ours.exists()
    assert all(path.with_name(name).read_bytes() == b"mine" for name in names)
