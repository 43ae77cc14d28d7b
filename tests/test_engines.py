"""Vectors in an engine: whatever became of it, and whoever writes, searches answer from what is committed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow
import pytest
import s3fs
from sqlite_utils import Database

from datasette_image_search.engines import lance as lance_module
from datasette_image_search.engines import places, registry
from datasette_image_search.engines.lance import LanceEngine
from datasette_image_search.engines.protocol import EngineError, EngineRequest
from datasette_image_search.search import (
    bounded,
    feeding,
    freshness,
    held,
    held_files,
    lost_engines,
    planner,
)
from datasette_image_search.search.evaluation import evaluate_index
from datasette_image_search.search.freshness import live_index
from datasette_image_search.search.hits import best_first
from datasette_image_search.search.indexing import (
    index_images,
    refresh_sidecars,
)
from datasette_image_search.search.live import LiveIndex
from datasette_image_search.search.lost_engines import EngineLost
from datasette_image_search.search.not_written import SidecarNotWritten
from datasette_image_search.search.status import status
from datasette_image_search.store import Filter, find_index
from datasette_image_search.store.filters import IdSet

from .commands import command
from .conftest import sidecar_of
from .documents import PROJECT
from .kept import lists_of_few
from .planning import search_one
from .random_tables import add_images, random_vectors
from .s3_server import s3_server
from .test_planner import CHANGES, TINY, Changing

VECTORS = random_vectors(100)


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is no server, and nobody has named a place, as when a command begins."""
    monkeypatch.setattr(places, "_served", [])
    monkeypatch.setattr(places, "_named", set())


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is copied for each test."""
    folder = tmp_path_factory.mktemp("engines")
    with mock.patch.multiple(places, _served=[], _named=set()):
        make_database(folder / "photos.db")
    return folder


@pytest.fixture
def path(made_once: Path, tmp_path: Path) -> Path:
    """A database with VECTORS in a dataset of Lance, which this process has never searched."""
    return shutil.copytree(made_once, tmp_path, dirs_exist_ok=True) / "photos.db"


def make_database(path: Path, vectors: np.ndarray = VECTORS, **options: str) -> None:
    with closing(Database(path, execute_plugins=False)) as db:
        add_images(db, vectors)
        index_images(db, "images", engine="lance", **options)
    freshness._open.clear()


def dataset_of(path: Path) -> Path:
    return path.with_name("photos.db-image-search-1.lance")


@pytest.fixture
def db(path: Path) -> Iterator[Database]:
    with closing(Database(path, execute_plugins=False)) as db:
        yield db


def live(conn: sqlite3.Connection) -> LiveIndex:
    return live_index(conn, find_index(conn, "images"))


def assert_best(conn: sqlite3.Connection, images: dict[int, np.ndarray], k: int = 5) -> None:
    """That searches find the best of these images and no others."""
    for vector in random_vectors(2, seed=1):
        hits = search_one(conn, find_index(conn, "images"), vector, k).hits
        scores = {id: float(image @ vector) for id, image in images.items()}
        assert [hit.id for hit in hits] == sorted(scores, key=scores.get, reverse=True)[:k]


def numbered(vectors: np.ndarray) -> dict[int, np.ndarray]:
    return dict(enumerate(vectors, start=1))


# --- The engine is a cache -----------------------------------------------------------------------


def keep(path: Path) -> None:
    pass


def remove(path: Path) -> None:
    shutil.rmtree(dataset_of(path))


def forget_the_commit(path: Path) -> None:
    """As if a copy of a dataset was not complete."""
    shutil.rmtree(dataset_of(path) / "_refs")


def put_that_of_another_database_in_its_place(path: Path) -> None:
    (path.parent / "other").mkdir()
    make_database(path.parent / "other" / "photos.db", -VECTORS)
    remove(path)
    shutil.copytree(dataset_of(path.parent / "other" / "photos.db"), dataset_of(path))


def lose_rows(path: Path) -> None:
    """Another program deletes from it, and claims that it was the commit that the database names."""
    import lance

    dataset = lance.dataset(dataset_of(path))
    dataset.delete("id < 640")
    (tag,) = dataset.tags.list()
    dataset.tags.update(tag, dataset.version)


def remove_the_sidecar(path: Path) -> None:
    sidecar_of(path).unlink()


def remove_both(path: Path) -> None:
    remove(path)
    remove_the_sidecar(path)


DAMAGES = [
    keep,
    remove,
    forget_the_commit,
    put_that_of_another_database_in_its_place,
    lose_rows,
    remove_the_sidecar,
    remove_both,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_answers_are_the_same_whatever_became_of_the_dataset(path: Path, damage: Callable):
    damage(path)
    with closing(sqlite3.connect(path)) as conn:
        assert_best(conn, numbered(VECTORS))
        assert live(conn).from_sidecar == (damage is keep)
        assert (status(conn)["problem"] is None) == (damage is keep)


@pytest.mark.parametrize(
    "damage", [remove, forget_the_commit, lose_rows, remove_the_sidecar, remove_both]
)
def test_the_next_run_makes_a_lost_dataset_again(path: Path, db: Database, damage: Callable):
    damage(path)
    refresh_sidecars(db, "images")
    assert status(db.conn)["problem"] is None
    assert live(db.conn).segments[0].engine_name == "lance"
    assert_best(db.conn, numbered(VECTORS))


def test_a_place_that_another_database_took_is_taken_over_only_if_a_person_says_so(
    path: Path, db: Database
):
    put_that_of_another_database_in_its_place(path)
    with pytest.raises(SidecarNotWritten, match="holds the vectors of another index"):
        refresh_sidecars(db, "images")
    assert_best(db.conn, numbered(VECTORS))
    index_images(db, "images", engine="lance")
    assert status(db.conn)["problem"] is None
    assert_best(db.conn, numbered(VECTORS))


def test_copies_of_a_database_that_both_write_are_told_so(
    path: Path, db: Database, caplog: pytest.LogCaptureFixture
):
    uri, copy = str(path.with_name("shared.lance")), path.with_name("copy.db")
    index_images(db, "images", uri=uri)
    db.execute(f"vacuum into '{copy}'")
    shutil.copy(sidecar_of(path), sidecar_of(copy))
    for database, vectors in ((path, -VECTORS), (copy, -VECTORS[:50])):
        assert "written by another copy" not in caplog.text
        with closing(Database(database, execute_plugins=False)) as each:
            add_images(each, vectors)
            index_images(each, "images")
    assert "only one should write there" in caplog.text
    # Neither misses anything of its own.
    with closing(sqlite3.connect(copy)) as conn:
        assert_best(conn, numbered(np.concatenate([VECTORS, -VECTORS[:50]])))
    assert_best(db.conn, numbered(np.concatenate([VECTORS, -VECTORS])))


def test_a_new_database_takes_no_place_of_another(path: Path, db: Database):
    uri = str(path.with_name("shared.lance"))
    index_images(db, "images", uri=uri)
    with pytest.raises(SidecarNotWritten, match="another index; name another place with"):
        make_database(path.with_name("new.db"), -VECTORS, uri=uri)
    assert status(db.conn)["problem"] is None
    assert_best(db.conn, numbered(VECTORS))


def test_a_dataset_that_was_moved_is_searched_without_being_made_again(path: Path, db: Database):
    dataset_of(path).rename(path.with_name("moved.lance"))
    with mock.patch.object(LanceEngine, "clear") as cleared:
        index_images(db, "images", uri=path.with_name("moved.lance"))
    assert not cleared.called
    assert_best(db.conn, numbered(VECTORS))
    assert status(db.conn)["problem"] is None


def test_only_the_list_of_the_vectors_is_made_again_if_that_alone_is_lost(path: Path):
    remove_the_sidecar(path)
    with closing(sqlite3.connect(path)) as conn:
        assert live(conn).segments[0].engine_name == "lance"
        freshness._open.clear()
        assert live(conn).from_sidecar


def test_a_dataset_of_another_program_is_left_alone(tmp_path: Path):
    import lance

    lance.write_dataset(pyarrow.table({"x": [1, 2]}), tmp_path / "theirs.lance")
    with pytest.raises(SidecarNotWritten, match="is a dataset of another program"):
        make_database(tmp_path / "photos.db", uri=str(tmp_path / "theirs.lance"))
    assert lance.dataset(tmp_path / "theirs.lance").count_rows() == 2


@pytest.mark.parametrize("name", ["photo.jpg", "data/photo.lance"])
def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, name: str):
    file = tmp_path / "pictures" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"a photo")
    with pytest.raises(SidecarNotWritten, match="has other files than a dataset; name an empty"):
        make_database(tmp_path / "photos.db", uri=str(tmp_path / "pictures"))
    assert [each for each in (tmp_path / "pictures").rglob("*") if each.is_file()] == [file]


def test_a_copy_of_a_database_reads_the_same_dataset(tmp_path: Path):
    uri = tmp_path / "shared" / "vectors.lance"
    make_database(tmp_path / "photos.db", uri=str(uri))
    copy = tmp_path / "copy.db"
    shutil.copy(tmp_path / "photos.db", copy)
    with closing(sqlite3.connect(copy)) as conn:
        assert_best(conn, numbered(VECTORS))
        assert live(conn).segments[0].engine_name == "lance"
    assert not dataset_of(tmp_path / "photos.db").exists()


def test_a_folder_of_any_name_has_a_dataset_and_nothing_beside_it(tmp_path: Path):
    """Not even what would be made in a folder above, which may be another person's."""
    folder = tmp_path / "Фото 100%41" / "a?b#c"
    folder.mkdir(parents=True)
    for vectors in (VECTORS, -VECTORS):
        make_database(folder / "photos.db", vectors)
    assert [each.name for each in tmp_path.iterdir()] == ["Фото 100%41"]
    assert [each.name for each in folder.parent.iterdir()] == ["a?b#c"]
    with closing(sqlite3.connect(folder / "photos.db")) as conn:
        assert_best(conn, numbered(np.concatenate([VECTORS, -VECTORS])))
        assert live(conn).segments[0].engine_name == "lance"
        assert status(conn)["problem"] is None


def test_who_reads_goes_on_while_another_feeds(path: Path, db: Database):
    with closing(sqlite3.connect(path)) as conn:
        before = live(conn).segments[0]
        add_images(db, -VECTORS)
        index_images(db, "images")
        assert len(before.nearest(VECTORS[:1], 200)[0][0]) == 100
        assert len(live(conn).segments[0]) == 200
        assert_best(conn, numbered(np.concatenate([VECTORS, -VECTORS])))


def test_the_vectors_go_back_into_the_sidecar(path: Path, db: Database):
    index_images(db, "images", engine="sidecar")
    shutil.rmtree(dataset_of(path))
    assert status(db.conn)["engine"] == "sidecar"
    assert status(db.conn)["problem"] is None
    assert_best(db.conn, numbered(VECTORS))


# --- While somebody searches ---------------------------------------------------------------------


def cut_the_data(path: Path) -> None:
    for file in (dataset_of(path) / "data").iterdir():
        file.write_bytes(file.read_bytes()[:50])


def zero_the_data(path: Path) -> None:
    for file in (dataset_of(path) / "data").iterdir():
        file.write_bytes(bytes(file.stat().st_size))


def remove_the_data(path: Path) -> None:
    shutil.rmtree(dataset_of(path) / "data")


def exchange_rows(path: Path) -> None:
    """Another program deletes some and appends as many, and claims that it was the commit that the database names."""
    lose_rows(path)
    dataset = lance_module._imported().dataset(dataset_of(path))
    rows = dataset.to_table(limit=19)
    ids = pyarrow.array(range(10**9, 10**9 + 19), pyarrow.int64())
    dataset.insert(rows.set_column(0, "id", ids))
    (tag,) = dataset.tags.list()
    dataset.tags.update(tag, dataset.latest_version)


BREAKS = [remove, cut_the_data, zero_the_data, remove_the_data]


@pytest.mark.parametrize("damage", BREAKS)
def test_a_search_that_meets_a_broken_dataset_answers_from_a_copy_in_memory(
    path: Path, damage: Callable
):
    with closing(sqlite3.connect(path)) as conn:
        assert live(conn).from_sidecar
        damage(path)
        assert_best(conn, numbered(VECTORS))
        assert not live(conn).from_sidecar
        assert "so this process searches a copy in memory" in status(conn)["problem"]


def cut_the_manifests(path: Path) -> None:
    for file in (dataset_of(path) / "_versions").iterdir():
        file.write_bytes(file.read_bytes()[:50])


def change_numbers(path: Path, to: float = 3.0) -> None:
    """The numbers of some vectors are others: as float16, each pair of bytes is one."""
    some = VECTORS[10].astype("<f2").tobytes()
    for file in (dataset_of(path) / "data").iterdir():
        written = file.read_bytes()
        file.write_bytes(written.replace(some, np.full(8, to, "<f2").tobytes()))
        assert file.read_bytes() != written


def flip_a_bit(path: Path, of: np.ndarray = VECTORS[10]) -> None:
    """As a disk may, which changes a vector too little to be none."""
    some = of.astype("<f2").tobytes()
    (file,) = (each for each in (dataset_of(path) / "data").iterdir() if some in each.read_bytes())
    written = bytearray(file.read_bytes())
    # The highest bit of the fraction of its first component.
    written[written.index(some) + 1] ^= 2
    file.write_bytes(written)


def test_a_score_that_is_no_number_is_the_lowest_of_no_vector(path: Path):
    change_numbers(path, np.nan)
    with closing(sqlite3.connect(path)) as conn, pytest.raises(EngineLost, match="damaged"):
        live(conn).scores(VECTORS[0])


@pytest.mark.parametrize("damage", [*BREAKS, exchange_rows, change_numbers, flip_a_bit])
def test_the_next_run_makes_a_broken_dataset_again(path: Path, db: Database, damage: Callable):
    damage(path)
    refresh_sidecars(db, "images")
    assert status(db.conn)["problem"] is None
    assert live(db.conn).from_sidecar
    assert_best(db.conn, numbered(VECTORS), k=100)


def test_what_is_damaged_so_that_nobody_knows_whose_it_is_stays_until_a_person_deletes_it(
    path: Path, db: Database
):
    cut_the_manifests(path)
    with pytest.raises(SidecarNotWritten, match="delete it only if nobody needs it, or name"):
        refresh_sidecars(db, "images")
    assert_best(db.conn, numbered(VECTORS))
    remove(path)
    refresh_sidecars(db, "images")
    assert status(db.conn)["problem"] is None


def test_a_broken_dataset_of_another_program_is_left_alone(tmp_path: Path):
    lance_module._imported().write_dataset(pyarrow.table({"x": [1, 2]}), tmp_path / "their.lance")
    versions = sorted((tmp_path / "their.lance" / "_versions").iterdir())
    for file in versions:
        file.write_bytes(b"damaged")
    with pytest.raises(SidecarNotWritten, match="cannot be used; versions of it may be"):
        make_database(tmp_path / "photos.db", uri=str(tmp_path / "their.lance"))
    assert sorted((tmp_path / "their.lance" / "_versions").iterdir()) == versions


def test_rows_that_another_program_exchanged_are_not_missed(path: Path):
    exchange_rows(path)
    with closing(sqlite3.connect(path)) as conn:
        assert live(conn).from_sidecar
        index = find_index(conn)
        found = search_one(conn, index, VECTORS[0], 20, Filter("id <= 10"))
        assert {hit.id for hit in found.hits} == set(range(1, 11))
        assert_best(conn, numbered(VECTORS), k=100)
        assert "vectors are missing" in status(conn)["problem"]


def test_an_engine_is_tried_again_after_a_pause_that_grows(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    now = 0.0
    monkeypatch.setattr(lost_engines.time, "monotonic", lambda: now)
    away = path.with_name("away")
    with closing(sqlite3.connect(path)) as conn:
        assert_best(conn, numbered(VECTORS))
        dataset_of(path).rename(away)
        assert_best(conn, numbered(VECTORS))
        now = lost_engines.PAUSE + 1
        # It is still away, so it is tried once, and left aside for longer.
        with mock.patch.object(held, "engine_of", side_effect=held.engine_of) as opened:
            assert_best(conn, numbered(VECTORS))
            assert opened.call_count == 1
        away.rename(dataset_of(path))
        now += lost_engines.PAUSE + 1
        assert not live(conn).from_sidecar
        now += lost_engines.PAUSE
        assert live(conn).from_sidecar
        assert_best(conn, numbered(VECTORS))
        assert status(conn)["problem"] is None


# --- Feeding -------------------------------------------------------------------------------------


def test_new_rows_are_searched_beside_the_engine_until_they_are_worth_feeding(
    path: Path, db: Database
):
    engine_added = []
    real = LanceEngine.add

    def add(self: LanceEngine, ids: np.ndarray, vectors: np.ndarray) -> None:
        engine_added.append(len(ids))
        real(self, ids, vectors)

    added = random_vectors(7, seed=3)
    with mock.patch.object(LanceEngine, "add", add):
        add_images(db, added[:2])
        refresh_sidecars(db, "images")
        assert live(db.conn).newer == 2
        add_images(db, added[2:])
        refresh_sidecars(db, "images")
    assert live(db.conn).newer == 0
    assert engine_added == [7]
    assert_best(db.conn, numbered(np.concatenate([VECTORS, added])))


def test_a_run_reads_of_objects_elsewhere_a_sample_and_what_is_new(
    path: Path, db: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(held_files, "is_url", lambda place: True)
    monkeypatch.setattr(held_files, "SAMPLE", 10)
    read = []
    real = LanceEngine.vectors

    def vectors(self: LanceEngine, ids: np.ndarray) -> np.ndarray:
        read.append(len(ids))
        return real(self, ids)

    add_images(db, random_vectors(20, seed=3))
    with mock.patch.object(LanceEngine, "vectors", vectors):
        refresh_sidecars(db, "images")
        refresh_sidecars(db, "images")
        assert read == [10, 20, 10]
        # A person asks.
        index_images(db, "images")
    assert read[3:] == [120]


KILLED = """
import os, signal, sys
from sqlite_utils import Database
from datasette_image_search.engines.lance import LanceEngine
from datasette_image_search.search.indexing import refresh_sidecars

name = sys.argv[2]
real = getattr(LanceEngine, name)

def then_die(self, *given):
    real(self, *given)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(LanceEngine, name, then_die)
refresh_sidecars(Database(sys.argv[1], execute_plugins=False), "images")
"""


@pytest.mark.parametrize("after", ["add", "commit"])
def test_a_kill_in_the_middle_of_feeding_changes_no_answer(path: Path, db: Database, after: str):
    with db.conn:
        db.execute("delete from images where id <= 10")
    add_images(db, random_vectors(20, seed=3))
    images = numbered(np.concatenate([VECTORS, random_vectors(20, seed=3)]))
    for id in range(1, 11):
        del images[id]
    killed = subprocess.run([sys.executable, "-c", KILLED, path, after], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert_best(db.conn, images)
    assert live(db.conn).from_sidecar
    refresh_sidecars(db, "images")
    assert_best(db.conn, images, k=110)
    assert live(db.conn).segments[0].engine.count() == 110


@pytest.mark.parametrize("after", ["clear", "add"])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_feeding_that_began_anew_and_was_killed_is_begun_again(
    tmp_path: Path, after: str, is_first: bool
):
    path = tmp_path / "photos.db"
    if not is_first:
        make_database(path, -VECTORS)
        cut_the_data(path)
    real = getattr(LanceEngine, after)

    def then_die(self: LanceEngine, *given: Any) -> None:
        real(self, *given)
        raise KeyboardInterrupt

    with closing(Database(path, execute_plugins=False)) as db:
        add_images(db, VECTORS)
        with mock.patch.object(LanceEngine, after, then_die), pytest.raises(KeyboardInterrupt):
            index_images(db, "images", engine="lance")
        index_images(db, "images", engine="lance")
        vectors = VECTORS if is_first else np.concatenate([-VECTORS, VECTORS])
        assert live(db.conn).from_sidecar
        assert_best(db.conn, numbered(vectors), k=len(vectors))


@pytest.fixture
def lists() -> Iterator[None]:
    with lists_of_few():
        yield


@pytest.mark.parametrize(
    ("seed", "stored_vectors", "type"),
    [(0, True, "flat"), (1, False, "ivf_rq"), (2, True, "ivf_rq"), (3, False, "flat")],
)
def test_random_writes_are_found_as_brute_force_finds_them(
    tmp_path: Path, lists: None, seed: int, stored_vectors: bool, type: str
):
    """With films, reference queries, deleted, replaced and renumbered rows, and with and without filters."""
    rng = np.random.default_rng(seed)
    images = Changing(tmp_path, random_vectors(200, 12, seed=seed), rng)
    rounding = 1e-5 if stored_vectors else 1e-3
    with closing(images.db) as db, mock.patch.multiple(planner, **TINY):
        images.fill(160)
        how = {"type": type, "target": 0.5, "stored_vectors": stored_vectors}
        index_images(db, "images", engine="lance", **how)
        assert (live(db.conn).tuning is None) == (type == "flat")
        steps, shares, stated = [*CHANGES, *["refresh"] * 3], [], []
        for change in rng.permutation(steps).tolist()[:5]:
            getattr(images, change)()
            vector = random_vectors(1, 12, seed=int(rng.integers(2**32)))[0]
            for filter, passes in (
                (None, lambda size: True),
                (Filter("size < 200"), lambda size: size < 200),
            ):
                for exact in (False, True):
                    found = search_one(
                        db.conn, find_index(db.conn), vector, 20, filter, words=1.0, exact=exact
                    )
                    # Of what is proposed, all is there, and has the right score.
                    is_exact = exact or filter is not None or type == "flat"
                    images.images.check(
                        found,
                        vector,
                        20,
                        passes,
                        1e-3 if is_exact else 2.0,
                        words=1.0,
                        rounding=rounding,
                    )
            if (tuning := live(db.conn).tuning) is not None:
                stated.append(tuning.recall)
                for each in random_vectors(10, 12, seed=int(rng.integers(2**32))):
                    hits = search_one(db.conn, find_index(db.conn), each, 20, words=1.0).hits
                    shares.append(images.images.share_of_best(hits, each, 20, words=1.0))
            ids = images.some(0.3)
            found = search_one(db.conn, find_index(db.conn), vector, 20, IdSet(ids), words=1.0)
            assert {hit.id for hit in found.hits} <= set(ids)
            assert len(found.hits) == min(20, len(ids))
    assert bool(shares) == (type != "flat")
    if shares:
        assert np.mean(shares) > np.mean(stated) - 0.1


WIDE = random_vectors(6000, 8)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> LanceEngine:
    """WIDE in two fragments by their numbers, without every seventh."""
    engine = LanceEngine(EngineRequest(str(tmp_path_factory.mktemp("wide") / "lance"), 8))
    engine.clear()
    for numbers in np.split(np.arange(len(WIDE)), 2):
        engine.add(numbers, WIDE[numbers])
    engine.remove(np.arange(0, len(WIDE), 7))
    return engine


@pytest.mark.parametrize(
    "ids",
    [
        pytest.param(np.arange(0, 6000, 40), id="few"),
        pytest.param(np.r_[500:1500, 2700:3500, 5990:6010], id="together"),
        pytest.param(np.arange(0, 6000, 3), id="scattered"),
        pytest.param(None, id="all"),
    ],
)
def test_however_ids_lie_exactly_their_vectors_are_read(wide: LanceEngine, ids: np.ndarray | None):
    asked = np.arange(6000) if ids is None else ids
    held = asked[(asked % 7 > 0) & (asked < 6000)]
    stored = WIDE[held].astype(np.float16).astype(np.float32)
    for vector in random_vectors(2, 8, seed=1):
        scores = np.full(len(asked), -np.inf, np.float32)
        scores[np.searchsorted(asked, held)] = stored @ vector
        best = held[np.argsort(-stored @ vector)[:20]]

        assert wide.nearest(vector[None], 20, ids)[1][0].tolist() == best.tolist()
        assert wide.scores(asked, vector) == pytest.approx(scores, abs=1e-5)
    assert (wide.vectors(asked)[np.searchsorted(asked, held)] == stored).all()


def test_what_is_removed_and_added_lies_where_it_is_looked_for(tmp_path: Path):
    engine = LanceEngine(EngineRequest(str(tmp_path / "lance"), 8))
    engine.clear()
    engine.add(np.arange(2000), WIDE[:2000])
    asked = np.arange(500, 3500)
    engine.scores(asked, WIDE[0])
    engine.remove(np.arange(400, 700))
    assert np.isfinite(engine.scores(asked, WIDE[0])).sum() == 1300
    engine.add(np.arange(2000, 4000), WIDE[2000:4000])
    assert np.isfinite(engine.scores(asked, WIDE[0])).sum() == 2800
    (best,) = engine.nearest(WIDE[3000:3001], 1, asked)[1].tolist()
    assert best == [3000]


def test_an_evaluation_reads_an_engine_a_few_times_for_many_queries(path: Path, db: Database):
    reads = []
    real = LanceEngine.nearest

    def nearest(self: LanceEngine, vectors: np.ndarray, *given: Any, **options: Any) -> Any:
        reads.append(len(vectors))
        return real(self, vectors, *given, **options)

    with mock.patch.object(LanceEngine, "nearest", nearest):
        rows = evaluate_index(db.conn, find_index(db.conn), queries=random_vectors(50, seed=3))
    assert reads == [50, *[1] * 10]
    assert [row.recalls for row in rows] == [(1, 1), (1, 1)]


MANY = random_vectors(1000)

Many = Callable[[Path, float], None]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Many:
    """many(folder, target) is a database with MANY in lists, of which as few are looked into as the target takes."""
    made: dict[float, Path] = {}

    def many(folder: Path, target: float) -> None:
        if target not in made:
            made[target] = tmp_path_factory.mktemp("many")
            options = {"type": "ivf_rq", "target": target, "queries": random_vectors(100, seed=9)}
            make_database(made[target] / "photos.db", MANY, **options)
        shutil.copytree(made[target], folder, dirs_exist_ok=True)

    return many


def recall(conn: sqlite3.Connection, k: int) -> float:
    """The share of the best k that searches find, on the average of 30."""
    shares = []
    for vector in random_vectors(30, seed=5):
        best = np.argsort(-(MANY @ vector))[:k] + 1
        hits = search_one(conn, find_index(conn), vector, k).hits
        shares.append(np.isin(best, [hit.id for hit in hits]).mean())
    return float(np.mean(shares))


def test_searches_have_the_recall_that_the_status_states(tmp_path: Path, lists: None, many: Many):
    many(tmp_path, 0.6)
    with closing(sqlite3.connect(tmp_path / "photos.db")) as conn:
        tuning = live(conn).tuning
        assert tuning.parameters != "effort=1"
        assert 0.6 <= tuning.recall < 0.95
        for k, stated in tuning.recalls:
            assert recall(conn, k) > stated - 0.15
        found = search_one(conn, find_index(conn), MANY[0], 5)
        assert [step.name for step in found.steps] == ["propose", "score"]
        assert status(conn)["search"].startswith(f"lance {tuning.parameters}, recall@20 ")


def test_copies_of_one_picture_are_as_good_as_each_other(tmp_path: Path, lists: None):
    vectors = np.repeat(random_vectors(1), 600, axis=0)
    queries = random_vectors(20, seed=9)
    make_database(tmp_path / "photos.db", vectors, type="ivf_rq", target=0.9, queries=queries)
    with closing(sqlite3.connect(tmp_path / "photos.db")) as conn:
        assert live(conn).tuning.recall == 1


@pytest.mark.parametrize("grows", [True, False])
def test_small_changes_are_tuned_for_once_they_are_a_tenth(
    tmp_path: Path, lists: None, many: Many, grows: bool
):
    path, tuned_up_to = tmp_path / "photos.db", []
    queries = mock.patch.object(feeding, "sample_queries", return_value=random_vectors(9))
    many(tmp_path, 0.6)
    with closing(Database(path, execute_plugins=False)) as db, queries:
        for step in range(2):
            if not grows:
                with db.conn:
                    db.execute("delete from images where id <= ?", [60 * (step + 1)])
            add_images(db, random_vectors(60, seed=20 + step))
            index_images(db, "images")
            tuned_up_to.append(live(db.conn).segments[0].tuned_for.last_id)
    assert tuned_up_to == [1000, 1120]


def test_pages_under_a_filter_are_exact_however_little_is_looked_into(
    tmp_path: Path, lists: None, many: Many
):
    many(tmp_path, 0.3)
    with closing(sqlite3.connect(tmp_path / "photos.db")) as conn:
        assert recall(conn, 20) < 1
        for share in (2, 40):
            images = {id: each for id, each in numbered(MANY).items() if id % share == 0}
            for vector in random_vectors(3, seed=2):
                pages = [
                    hit.id
                    for offset in range(0, 60, 20)
                    for hit in search_one(
                        conn,
                        find_index(conn),
                        vector,
                        20,
                        Filter(f"id % {share} = 0"),
                        offset=offset,
                    ).hits
                ]
                assert pages == sorted(images, key=lambda id: -float(images[id] @ vector))[:60]


def test_a_bounded_search_reads_the_lists_and_what_passes_a_narrow_filter(
    tmp_path: Path, lists: None, many: Many
):
    """As pages of millions do, and never short."""
    many(tmp_path, 0.6)
    with (
        closing(sqlite3.connect(tmp_path / "photos.db")) as conn,
        mock.patch.object(bounded, "LARGE", 500),
    ):
        index = find_index(conn)
        for vector in random_vectors(3, seed=2):
            ranked = [int(id) for id in np.argsort(-(MANY @ vector)) + 1]
            for where, is_narrow in (("+id % 2 = 0", False), ("+id % 97 = 0", True)):
                found = search_one(conn, index, vector, 20, Filter(where), bounded=True)
                passing = {id for (id,) in conn.execute(f"select id from images where {where}")}
                assert len(found.hits) == min(20, len(passing))
                assert {hit.id for hit in found.hits} <= passing
                if is_narrow:
                    best = [id for id in ranked if id in passing][: len(found.hits)]
                    assert [hit.id for hit in sorted(found.hits, key=best_first)] == best
                else:
                    assert max(step.looked_at for step in found.steps) < len(MANY)


# --- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"engine": "lanse"}, "there is no engine 'lanse'; use one of sidecar, lance"),
        ({"uri": "x.lance", "engine": "sidecar"}, "--uri is the place of another engine"),
        ({"uri": "", "engine": "lance"}, "--uri is empty; name a folder or a URL"),
        *(
            ({"uri": uri, "engine": "lance"}, "there may be a password or a signature")
            for uri in (
                *("s3://key:secret@bucket/x", "s3://key:se/cret@bucket", "s3://bucket/x#secret"),
                *("az://account.blob/x;sig=secret", "https://h/x?sig=secret"),
            )
        ),
        ({"type": "IVF4,SQ8"}, "lance makes no index of type 'IVF4,SQ8'; use one of auto, flat"),
    ],
)
def test_what_no_engine_can_do_is_a_sentence(
    path: Path, db: Database, options: dict, sentence: str
):
    with pytest.raises((EngineError, SidecarNotWritten), match=sentence):
        index_images(db, "images", **options)
    assert_best(db.conn, numbered(VECTORS))


# --- Whose places --------------------------------------------------------------------------------


def begin_anew() -> None:
    freshness._open.clear()
    lost_engines._failures.clear()


def assert_not_opened(path: Path, because: str) -> None:
    """That searches find the best without a look into the dataset, and say why."""
    begin_anew()
    with (
        closing(sqlite3.connect(path)) as conn,
        mock.patch.object(LanceEngine, "_opened") as opened,
    ):
        assert_best(conn, numbered(VECTORS))
        assert because in status(conn)["problem"]
    assert not opened.called


def assert_opened(path: Path) -> None:
    begin_anew()
    with closing(sqlite3.connect(path)) as conn:
        assert_best(conn, numbered(VECTORS))
        assert status(conn)["problem"] is None
        assert live(conn).segments[0].engine_name == "lance"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """The place of the vectors of photos.db, which nobody in this process has named."""
    uri = tmp_path / "elsewhere.lance"
    make_database(tmp_path / "photos.db", uri=str(uri))
    places._named.clear()
    return uri


def test_a_command_opens_no_place_that_only_the_database_names(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "photos.db"
    assert_not_opened(path, f"names {str(elsewhere)!r} as the place of its lance vectors; if it is")
    monkeypatch.setenv("IMAGE_SEARCH_ENGINES", f"s3://bucket/other.lance, {elsewhere}")
    assert_opened(path)


def test_a_run_writes_to_no_place_that_only_the_database_names(tmp_path: Path):
    path, victim = tmp_path / "photos.db", tmp_path / "victim"
    with closing(Database(path, execute_plugins=False)) as db:
        add_images(db, VECTORS)
        index_images(db, "images")
        with db.conn:
            db.execute(
                "update image_search_indexes set engine = 'lance', engine_uri = ?", [str(victim)]
            )
        for run in (refresh_sidecars, partial(index_images, engine="lance")):
            with pytest.raises(SidecarNotWritten, match="name it with index-images --uri"):
                run(db, "images")
        assert not victim.exists()
        index_images(db, "images", engine="lance", uri=str(victim))
    assert_opened(path)


def test_a_server_opens_only_the_places_that_its_configuration_names(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "photos.db"
    monkeypatch.setenv("IMAGE_SEARCH_ENGINES", str(elsewhere))
    for named in ([], ["beside"]):
        places.allow_only(named)
        assert_not_opened(path, "the server may not read the place of its lance vectors; if you")
    places.allow_only([str(elsewhere)])
    assert_opened(path)


def test_a_server_opens_what_is_beside_a_database_only_if_its_configuration_says_so(path: Path):
    places.allow_only([str(dataset_of(path))])
    assert_not_opened(path, "name 'beside', as it is beside the database, in Datasette's config")
    places.allow_only(["beside"])
    assert_opened(path)


def be_a_link(dataset: Path) -> None:
    dataset.rename(dataset.with_name("elsewhere"))
    dataset.symlink_to("elsewhere")


def have_a_link(dataset: Path) -> None:
    (data,) = (dataset / "data").iterdir()
    shutil.move(data, dataset.with_name("elsewhere"))
    data.symlink_to(dataset.with_name("elsewhere"))


def have_a_pipe(dataset: Path) -> None:
    os.mkfifo(dataset / "_versions" / "pipe")


@pytest.mark.parametrize("harm", [be_a_link, have_a_link, have_a_pipe])
def test_a_dataset_beside_a_database_leads_nowhere(path: Path, harm: Callable[[Path], None]):
    harm(dataset_of(path))
    assert_not_opened(path, "photos.db-image-search-1.lance has links or devices in it")


def test_a_clone_that_reads_the_files_of_another_dataset_is_not_searched(path: Path, db: Database):
    """Its manifest names where they are, which may be anywhere."""
    import lance

    secret = path.with_name("secret.lance")
    shutil.move(dataset_of(path), secret)
    tag = f"image-search-{find_index(db.conn, 'images').sidecar}"
    original = lance.dataset(secret, version=tag)
    original.shallow_clone(str(dataset_of(path)), tag)
    clone = lance.dataset(dataset_of(path))
    clone.update_config(original.config())
    clone.tags.create(tag, clone.version)
    assert_best(db.conn, numbered(VECTORS))
    assert "has its files elsewhere, as a clone has" in status(db.conn)["problem"]
    with pytest.raises(SidecarNotWritten, match="as a clone has; copy it as a whole; versions of"):
        refresh_sidecars(db, "images")
    assert lance.dataset(secret, version=tag).count_rows() == len(VECTORS)


class PanicException(BaseException):
    """As pyo3 names what a library in Rust panics with."""


@pytest.mark.parametrize(
    "error", [PanicException("at /home/x"), KeyError("/home/x"), OSError("/home/x")]
)
def test_whatever_an_engine_raises_is_a_sentence_without_places(
    path: Path, db: Database, error: BaseException, caplog: pytest.LogCaptureFixture
):
    held._log.cache_clear()
    with mock.patch.object(LanceEngine, "_described", side_effect=error):
        engine = LanceEngine(EngineRequest(str(dataset_of(path)), 8))
        with pytest.raises(EngineError, match="the engine of its vectors failed") as raised:
            engine.efforts()
        assert "/home/x" in raised.value.in_full()
    with mock.patch.object(LanceEngine, "_opened", side_effect=error):
        assert_best(db.conn, numbered(VECTORS))
        problem = status(db.conn)["problem"]
    assert "the engine of its vectors failed, so this process searches a copy" in problem
    assert "/home/x" not in problem
    assert caplog.text.count("/home/x") == 1


def test_a_person_who_stops_an_engine_stops_it(path: Path):
    engine = LanceEngine(EngineRequest(str(dataset_of(path)), 8))
    with (
        mock.patch.object(LanceEngine, "_described", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        engine.efforts()


@pytest.mark.parametrize("name", ["a/b", "..", "", "lanse"])
def test_an_engine_of_an_odd_name_is_none(path: Path, db: Database, name: str):
    with db.conn:
        db.execute("update image_search_indexes set engine = ?", [name])
    assert_best(db.conn, numbered(VECTORS))
    assert status(db.conn)["problem"]


TUNING = {
    "type": "lance",
    "factory": "lance",
    "parameters": "effort=1",
    "candidates": 256,
    "target": 0.9,
    "recalls": [[20, 1.0], [128, 1.0]],
    "queries": 3,
}


@pytest.mark.parametrize(
    "odd",
    [
        *({"parameters": each} for each in ("effort=abc", "effort=-1", "effort=0", "", None)),
        *({"candidates": each} for each in (0, -1, 10**13, "x")),
        *({"recalls": each} for each in ([], [[10**12, 1.0]], [[20, 10**400]], [[20, 2]], None)),
        {"target": "x"},
        {"more": 1},
    ],
)
def test_a_tuning_that_nobody_wrote_is_not_believed(path: Path, db: Database, odd: dict[str, Any]):
    real = LanceEngine.state

    def state(self: LanceEngine) -> str:
        return json.dumps({**json.loads(real(self)), "tuning": {**TUNING, **odd}})

    begin_anew()
    with mock.patch.object(LanceEngine, "state", state):
        assert_best(db.conn, numbered(VECTORS))
        assert "what lance holds is damaged" in status(db.conn)["problem"]


def test_a_missing_package_is_a_sentence(tmp_path: Path):
    with (
        mock.patch.dict(sys.modules, {"lance": None}),
        pytest.raises(EngineError, match=r"pip install 'datasette-image-search\[lance\]'"),
    ):
        LanceEngine(EngineRequest(str(tmp_path / "x.lance"), 8))


def test_what_an_engine_is_told_names_no_place_and_no_picture(path: Path):
    state = json.loads(LanceEngine(EngineRequest(str(dataset_of(path)), 8)).state())
    assert set(state) == {
        *("format", "token", "vector_id", "index", "fingerprint", "dimensions", "references"),
        *("vectors", "only", "generation", "tuning", "tuned_for"),
    }


# --- Elsewhere -----------------------------------------------------------------------------------


def test_a_command_puts_the_vectors_in_s3_and_keeps_them_up_to_date(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    database, uri = tmp_path / "photos.db", "s3://bucket/photos.lance"
    monkeypatch.setenv("IMAGE_SEARCH_ENGINES", uri)
    with s3_server() as (_, url):
        for name, value in (
            ("AWS_ENDPOINT_URL", url),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "testing"),
            ("AWS_SECRET_ACCESS_KEY", "very-secret"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("bucket")
        command("embed-images", database, "images", folder, "--model", "palette", "-s")
        done = command("index-images", database, "images", "--engine", "lance", "--uri", uri, "-s")
        assert "exact (lance, " in done.output
        (folder / "blue.jpg").unlink()
        command("embed-images", database, "images", folder, "--prune", "-s")
        with closing(sqlite3.connect(database)) as conn:
            assert live(conn).segments[0].engine.count() == 7
            assert status(conn)["problem"] is None
            assert "secret" not in "".join(conn.iterdump())
        found = command("search-images", database, "images", "red", "-k", "1", "--json")
        assert json.loads(found.output)[0]["path"] == "red.jpg"
        s3fs.S3FileSystem().rm("bucket", recursive=True)
        freshness._open.clear()
        with closing(sqlite3.connect(database)) as conn:
            assert "what lance holds is missing" in status(conn)["problem"]


EXAMPLE = PROJECT / "examples" / "milvus-engine" / "image_search_milvus_engine.py"


def test_a_server_is_an_engine_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The example package, with Milvus Lite in the place of a cluster."""
    pytest.importorskip("milvus_lite")
    spec = importlib.util.spec_from_file_location(EXAMPLE.stem, EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(registry._factories(), "milvus", module.MilvusEngine)
    with closing(Database(tmp_path / "photos.db", execute_plugins=False)) as db:
        add_images(db, VECTORS)
        index_images(db, "images", engine="milvus", uri=str(tmp_path / "milvus.db"))
        assert_best(db.conn, numbered(VECTORS))
        assert live(db.conn).segments[0].engine_name == "milvus"
        with db.conn:
            db.execute("delete from images where id <= 20")
        add_images(db, -VECTORS[:20])
        after = {**numbered(VECTORS), **dict(enumerate(-VECTORS[:20], start=101))}
        after = {id: vector for id, vector in after.items() if id > 20}
        assert_best(db.conn, after)
        refresh_sidecars(db, "images")
        assert live(db.conn).newer == 0
        assert_best(db.conn, after)
