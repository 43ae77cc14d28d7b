"""Vectors that an engine alone has: all is as if the database had them, or a sentence says that they are away."""

from __future__ import annotations

import errno
import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import lance
import numpy as np
import pytest
from sqlite_utils import Database

from datasette_image_search import runs
from datasette_image_search.api import Images
from datasette_image_search.engines import places
from datasette_image_search.engines.lance import LanceEngine
from datasette_image_search.engines.protocol import EngineError, EngineRequest
from datasette_image_search.search import indexing
from datasette_image_search.search.approximate import IndexTypeError
from datasette_image_search.search.indexing import (
    index_images,
    refresh_sidecars,
)
from datasette_image_search.search.not_written import SidecarNotWritten
from datasette_image_search.search.status import status
from datasette_image_search.sql import register_functions
from datasette_image_search.store import find_index, held_vectors
from datasette_image_search.store.held_vectors import VectorsAway
from datasette_image_search.store.schema import ensure_tables
from datasette_image_search.store.tables import TagRow
from datasette_image_search.store.vectors import image_vectors

from .commands import change, command, vectors_of
from .kept import forget_what_was_opened
from .planning import search_one
from .random_tables import add_images, random_vectors, stored_vectors
from .test_engines import (
    KILLED,
    change_numbers,
    cut_the_data,
    cut_the_manifests,
    dataset_of,
    flip_a_bit,
    zero_the_data,
)
from .vector_files import write_npy

VECTORS = random_vectors(60)

FILM = random_vectors(3, seed=7)
"""The vectors of image 61."""


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is no server, and has opened nothing."""
    monkeypatch.setattr(places, "_served", [])
    monkeypatch.setattr(places, "_named", set())
    forget_what_was_opened()


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is copied for each test."""
    folder = tmp_path_factory.mktemp("held")
    with (
        mock.patch.multiple(places, _served=[], _named=set()),
        closing(Database(folder / "photos.db", execute_plugins=False)) as db,
    ):
        add_images(db, [*VECTORS, FILM])
        index_images(db, "images", engine="lance", stored_vectors=False)
    return folder


@pytest.fixture
def path(made_once: Path, tmp_path: Path) -> Path:
    """A database whose vectors are in a dataset of Lance only."""
    shutil.copytree(made_once, tmp_path, dirs_exist_ok=True)
    return tmp_path / "photos.db"


@pytest.fixture
def db(path: Path) -> Iterator[Database]:
    with closing(Database(path, execute_plugins=False)) as db:
        yield db


def cells(conn: sqlite3.Connection) -> dict[str, int]:
    """How many rows have a vector, "blob", and how many say where it is, "integer"."""
    return dict(conn.execute("select typeof(vector), count(*) from _images_vectors group by 1"))


def assert_all_there(conn: sqlite3.Connection, images: dict[int, np.ndarray]) -> None:
    """That each of these images has its vector, and is found by it."""
    found = stored_vectors(conn)
    assert found.keys() == images.keys()
    for id, vector in images.items():
        assert np.abs(found[id] - vector).max() < 1e-3
    for id in list(images)[::7]:
        assert search_one(conn, find_index(conn), images[id], 1).hits[0].id == id


def images_of(vectors: np.ndarray = VECTORS) -> dict[int, np.ndarray]:
    return {**dict(enumerate(vectors, start=1)), 61: FILM[0]}


# --- All is as it was ----------------------------------------------------------------------------


def similarities(images: Images) -> list[Any]:
    return [images.similarity(id, "#1 + #61 - #3") for id in (1, 17, 61)]


def similar(images: Images) -> list[Any]:
    found = images.duplicates(threshold=0.8)
    copies = [each for group in found.groups for each in group]
    return [number for each in copies for number in (each.image.image_id, each.score)]


ANSWERS: dict[str, Callable[[Images], Any]] = {
    "search": lambda images: [hit.id for hit in images.search("#5 + #9", 20)],
    "filter": lambda images: [hit.id for hit in images.search("#5", 20, where="id % 2")],
    "score": lambda images: [hit.score for hit in images.search("#61", 5, min_score=0.1)],
    "second": lambda images: [hit.at for hit in images.search("#61", 3)],
    "similarity": similarities,
    "vector": lambda images: images.vector("#61").tolist(),
    "duplicates": similar,
    "recall": lambda images: [each for row in images.evaluate() for each in row.recalls],
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_answers_are_those_of_vectors_in_the_database(
    path: Path, db: Database, answer: Callable[[Images], Any]
):
    with closing(Images(path, "images")) as images:
        without = answer(images)
        index_images(db, "images", stored_vectors=True)
        assert cells(db.conn) == {"blob": 61}
        assert without
        assert answer(images) == pytest.approx(without, abs=1e-3)


def test_the_database_keeps_no_vectors_and_says_so(path: Path, db: Database):
    assert cells(db.conn) == {"integer": 61}
    assert_all_there(db.conn, images_of())
    assert np.allclose(image_vectors(db.conn, find_index(db.conn), 61), FILM, atol=1e-3)
    found = status(db.conn)
    assert found["stored_vectors"] is False
    assert found["problem"] is None


def test_the_database_is_as_small_as_it_says(tmp_path: Path):
    with closing(Database(tmp_path / "photos.db", execute_plugins=False)) as db:
        add_images(db, random_vectors(600, 512))
        index_images(db, "images", engine="lance", stored_vectors=False)
        sql = "select sum(pgsize) from dbstat where name = '_images_vectors'"
        (size,) = db.execute(sql).fetchone()
        assert size < 600 * 200


def test_new_deleted_renumbered_and_copied_images_are_handed_over(path: Path, db: Database):
    images = images_of()
    db["images_tags"].insert(asdict(TagRow(30, "dog", None, None, None, 30)))
    db["images_tags"].insert(asdict(TagRow(20, "cat", None, None, None, 20)))
    ensure_tables(db, "images")
    with db.conn:
        db.execute("delete from images where id <= 10")
        db.execute("update images set id = 1000 where id = 20")
        db.execute("update images set id = 2000 where id = 61")
    added = dict(enumerate(random_vectors(5, seed=3), start=2001))
    assert list(added) == add_images(db, np.stack(list(added.values())))
    images = {id: vector for id, vector in images.items() if id > 10} | added
    images[1000], images[2000] = images.pop(20), images.pop(61)
    assert_all_there(db.conn, images)
    index_images(db, "images")
    assert cells(db.conn) == {"integer": 56}
    assert_all_there(db.conn, images)
    assert np.allclose(image_vectors(db.conn, find_index(db.conn), 2000), FILM, atol=1e-3)
    tags = "select image_id, tag from images_tags order by 1"
    assert db.execute(tags).fetchall() == [(30, "dog"), (1000, "cat")]


def test_a_row_that_holds_no_vector_stays_as_it_is(path: Path, db: Database):
    with db.conn:
        db.execute("delete from _images_vectors where id = 3")
        db.execute(
            "insert into _images_vectors (index_id, image_id, vector, sha256) "
            "select 1, 3, 'no vector', sha256 from images where id = 3"
        )
    index_images(db, "images")
    assert cells(db.conn) == {"integer": 60, "text": 1}
    assert status(db.conn)["vectors"] == 60


def test_what_is_partly_in_the_database_is_all_there(path: Path, db: Database, tmp_path: Path):
    """As before the end of a run, and after one that was killed."""
    images = images_of() | dict(enumerate(-VECTORS[:20], start=62))
    add_images(db, -VECTORS[:20])
    assert cells(db.conn) == {"integer": 61, "blob": 20}
    found = status(db.conn)
    assert (found["vectors"], found["newer_than_sidecar"]) == (81, 20)
    assert found["stored_vectors"] is False
    assert (
        "20 vectors are newer than the sidecar and are kept in memory; the next" in found["problem"]
    )
    assert_all_there(db.conn, images)
    with closing(Images(db, "images")) as opened:
        opened.export_vectors(tmp_path / "vectors.npy", tmp_path / "paths.txt")
    whole = np.concatenate([VECTORS, FILM, -VECTORS[:20]])
    assert np.abs(np.load(tmp_path / "vectors.npy") - whole).max() < 1e-3
    assert (np.load(tmp_path / "vectors.npy")[63:] == -VECTORS[:20]).all()
    refresh_sidecars(db, "images")
    assert cells(db.conn) == {"integer": 81}
    assert status(db.conn)["problem"] is None
    assert_all_there(db.conn, images)


# --- Runs ----------------------------------------------------------------------------------------


def test_a_run_hands_vectors_over_while_it_embeds(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runs, "FED_AT_ONCE", 2)
    database = tmp_path / "photos.db"
    one = next(iter(sorted(folder.iterdir())))
    command("embed-images", database, "images", one, "--model", "palette", "-s")
    done = command(
        "index-images", database, "images", "--engine", "lance", "--no-stored-vectors", "-s"
    )
    assert done.exit_code == 0, done.output
    with mock.patch.object(indexing, "feed_meanwhile", side_effect=indexing.feed_meanwhile) as fed:
        done = command("embed-images", database, "images", folder, "--batch-size", "2", "-s")
    assert done.exit_code == 0, done.output
    assert fed.call_count > 1
    with closing(sqlite3.connect(database)) as conn:
        assert cells(conn)["integer"] > 1
        assert status(conn)["problem"] is None
    found = command("search-images", database, "images", "red", "-k", "1", "--json")
    assert '"red.jpg"' in found.output


def test_vectors_that_are_imported_again_stay_where_they_are(tmp_path: Path):
    database, names = tmp_path / "photos.db", [f"{number}.jpg" for number in range(9)]
    vectors = random_vectors(9)

    def bring() -> str:
        source, paths = write_npy(tmp_path, names, vectors)
        arguments = ("--paths", paths, "--root", "/photos", "--model", "mine", "-s")
        done = command("import-image-vectors", database, "images", source, *arguments)
        assert done.exit_code == 0, done.output
        return done.stdout

    bring()
    with closing(Database(database, execute_plugins=False)) as db:
        index_images(db, "images", engine="lance", stored_vectors=False)
        assert "0 vectors imported, 9 unchanged" in bring()
        vectors[0] *= -1
        # More than rounding, for components of this size.
        vectors[1] += np.where(vectors[1] == vectors[1][np.abs(vectors[1]).argmin()], 9e-4, 0)
        assert "2 vectors imported, 7 unchanged" in bring()
        assert np.abs(stored_vectors(db.conn)[1] - vectors[0]).max() < 1e-3


def test_a_kill_between_engine_and_database_loses_no_vector(path: Path, db: Database):
    with db.conn:
        db.execute("delete from images where id <= 10")
    add_images(db, -VECTORS[:20])
    images = {id: vector for id, vector in images_of().items() if id > 10}
    images |= dict(enumerate(-VECTORS[:20], start=62))
    killed = subprocess.run([sys.executable, "-c", KILLED, path, "commit"], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert cells(db.conn) == {"integer": 51, "blob": 20}
    assert_all_there(db.conn, images)
    refresh_sidecars(db, "images")
    assert cells(db.conn) == {"integer": 71}
    assert_all_there(db.conn, images)


@pytest.mark.parametrize("after", ["clear", "add", "commit"])
def test_a_kill_while_all_is_fed_anew_loses_no_vector(path: Path, db: Database, after: str):
    """As after triggers were away, when nothing proves any more what the engine has."""
    db.execute("drop trigger _images_image_search_vector_added")
    real = getattr(LanceEngine, after)

    def then_die(self: LanceEngine, *given: Any) -> None:
        real(self, *given)
        raise KeyboardInterrupt

    with mock.patch.object(LanceEngine, after, then_die), pytest.raises(KeyboardInterrupt):
        index_images(db, "images")
    assert_all_there(db.conn, images_of())
    index_images(db, "images")
    assert_all_there(db.conn, images_of())
    assert status(db.conn)["problem"] is None


def clear_it(path: Path) -> None:
    """As a copy of the database does that begins anew."""
    LanceEngine(EngineRequest(str(dataset_of(path)), 8)).clear()


def add_to_it(path: Path) -> None:
    LanceEngine(EngineRequest(str(dataset_of(path)), 8)).add(np.array([10**9]), VECTORS[:1])


@pytest.mark.parametrize("meanwhile", [clear_it, add_to_it])
@pytest.mark.parametrize("step", ["add", "update_config"])
def test_who_writes_while_another_writes_loses_no_vector(
    path: Path, db: Database, meanwhile: Callable[[Path], None], step: str
):
    """The other one comes just before vectors are added, or before all of them are said to be whole."""
    add_images(db, -VECTORS)
    images = images_of() | dict(enumerate(-VECTORS, start=62))
    whose, name = (lance, "write_dataset") if step == "add" else (lance.LanceDataset, step)
    real, asked = getattr(whose, name), []

    def first_the_other(*given: Any, **options: Any) -> Any:
        asked.append(given)
        if len(asked) == 1:
            meanwhile(path)
        return real(*given, **options)

    with (
        mock.patch.object(whose, name, first_the_other),
        pytest.raises(SidecarNotWritten, match="another program"),
    ):
        index_images(db, "images")
    assert cells(db.conn) == {"integer": 61, "blob": 60}
    assert_all_there(db.conn, images)
    index_images(db, "images")
    assert cells(db.conn) == {"integer": 121}
    assert_all_there(db.conn, images)


@pytest.mark.parametrize("written", [0.9, np.nan, None])
def test_what_an_engine_does_not_give_back_stays_in_the_database(
    path: Path, db: Database, written: float | None
):
    """It writes another number than it was given, or leaves a vector out and has another twice."""
    add_images(db, -VECTORS)
    real = LanceEngine.add

    def add(self: LanceEngine, ids: np.ndarray, vectors: np.ndarray) -> None:
        ids, vectors = ids.copy(), vectors.copy()
        if written is None:
            ids[7] = ids[8]
        else:
            vectors[7, 3] = written
        real(self, ids, vectors)

    with (
        mock.patch.object(LanceEngine, "add", add),
        pytest.raises(SidecarNotWritten, match="lance has not what it was fed"),
    ):
        index_images(db, "images")
    assert cells(db.conn) == {"integer": 61, "blob": 60}
    assert_all_there(db.conn, images_of() | dict(enumerate(-VECTORS, start=62)))


class Killed(BaseException):
    """As a signal ends a process: nothing that is written is told it."""


STEPS = [
    *((LanceEngine, name) for name in ("clear", "add", "remove", "optimize", "commit", "clean_up")),
    *((indexing, name) for name in ("hand_over", "take_back", "put_in_place", "record_sidecar")),
]
"""After each of them a run can be killed."""


@contextmanager
def killed_after(number: int) -> Iterator[None]:
    """A run that is killed after so many STEPS, or comes to its end before."""
    done = 0

    def then_perhaps_die(step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **options: Any) -> Any:
            nonlocal done
            answer = step(*given, **options)
            done += 1
            if done == number:
                raise Killed
            return answer

        return call

    with ExitStack() as stack, suppress(Killed):
        for whose, name in STEPS:
            step = then_perhaps_die(getattr(whose, name))
            stack.enter_context(mock.patch.object(whose, name, step))
        yield


@pytest.mark.parametrize("seed", range(3))
def test_runs_in_any_order_that_are_killed_anywhere_lose_no_vector(
    path: Path, db: Database, seed: int
):
    """With vectors in the database, or in the engine at one place or another, and restored backups."""
    random, images, backup = Random(f"{seed} killed"), images_of(), path.with_name("backup")
    backed_up = {}
    places_of_it = [dataset_of(path), path.with_name("a.lance"), path.with_name("b.lance")]
    for at in range(9):
        if random.random() < 0.3:
            db.conn.backup(copy := sqlite3.connect(backup))
            copy.close()
            backed_up = dict(images)
        gone = random.sample(sorted(images), 3)
        with db.conn:
            db.execute(f"delete from images where id in ({', '.join(map(str, gone))})")
        new = random_vectors(4, seed=1000 + 100 * seed + at)
        images = {id: each for id, each in images.items() if id not in gone}
        images |= dict(zip(add_images(db, new), new, strict=True))
        asked = random.choice(
            [
                *({}, {}, {"stored_vectors": False}, {"stored_vectors": True}),
                *({"uri": each} for each in places_of_it),
            ]
        )
        with killed_after(random.randrange(1, 14)):
            index_images(db, "images", engine="lance", **asked)
        held_vectors._opened.cache_clear()
        assert_all_there(db.conn, images)
        if backed_up and random.random() < 0.3:
            with closing(sqlite3.connect(backup)) as copy:
                copy.backup(db.conn)
            images = dict(backed_up)
            assert_all_there(db.conn, images)
    index_images(db, "images", engine="lance", stored_vectors=True)
    assert cells(db.conn) == {"blob": len(images)}
    assert_all_there(db.conn, images)


def test_what_is_handed_over_and_what_says_so_are_written_together(path: Path, db: Database):
    add_images(db, -VECTORS)
    real = held_vectors.hand_over

    def then_fail(*given: Any) -> None:
        real(*given)
        raise sqlite3.OperationalError("disk I/O error")

    with (
        mock.patch.object(indexing, "hand_over", then_fail),
        pytest.raises(sqlite3.OperationalError),
    ):
        refresh_sidecars(db, "images")
    images = images_of() | dict(enumerate(-VECTORS, start=62))
    assert cells(db.conn) == {"integer": 61, "blob": 60}
    assert_all_there(db.conn, images)
    refresh_sidecars(db, "images")
    assert_all_there(db.conn, images)


def age(path: Path) -> None:
    """All commits up to now are two months old."""
    for tag in (path / "_refs" / "tags").iterdir():
        said = json.loads(tag.read_text())
        then = said["createdAt"].replace(said["createdAt"][:4], "2001")
        tag.write_text(json.dumps({**said, "createdAt": then, "updatedAt": then}))


def test_a_backup_finds_its_vectors_for_days_however_old_they_are_and_often_others_are_fed(
    path: Path, db: Database
):
    age(dataset_of(path))
    with db.conn:
        db.execute("update image_search_indexes set engine_uri = ?", [str(dataset_of(path))])
    backup = path.with_name("backup.db")
    db.execute(f"vacuum into '{backup}'")
    for seed in range(2):
        add_images(db, random_vectors(3, seed=seed))
        index_images(db, "images", uri=dataset_of(path))
    with closing(sqlite3.connect(backup)) as conn:
        assert_all_there(conn, images_of())
        # The days are over.
        age(dataset_of(path))
        add_images(db, random_vectors(3, seed=2))
        index_images(db, "images")
        held_vectors._opened.cache_clear()
        with pytest.raises(VectorsAway):
            assert_all_there(conn, images_of())


@pytest.mark.parametrize("fails", ["_write_all", "hand_over"])
def test_nothing_is_forgotten_before_the_database_names_what_is_new(
    path: Path, db: Database, fails: str
):
    """As a restored backup names a version of long ago, and a full disk ends its first run."""
    age(dataset_of(path))
    before = path.read_bytes()
    add_images(db, -VECTORS)
    index_images(db, "images")
    db.close()
    path.write_bytes(before)
    held_vectors._opened.cache_clear()
    age(dataset_of(path))
    with closing(Database(path, execute_plugins=False)) as restored:
        full = mock.patch.object(indexing, fails, side_effect=OSError(errno.ENOSPC, "full"))
        with full, pytest.raises((SidecarNotWritten, OSError)):
            index_images(restored, "images")
        held_vectors._opened.cache_clear()
        assert_all_there(restored.conn, images_of())
        index_images(restored, "images")
        assert_all_there(restored.conn, images_of())


def test_a_copy_of_the_database_that_lags_some_feeds_has_its_vectors(path: Path, db: Database):
    copy = path.with_name("copy.db")
    uri = path.with_name("shared.lance")
    index_images(db, "images", uri=uri)
    db.execute(f"vacuum into '{copy}'")
    for seed in range(3):
        with db.conn:
            db.execute("delete from images where id between ? and ?", [10 * seed, 10 * seed + 9])
        add_images(db, random_vectors(9, seed=seed))
        index_images(db, "images")
    with closing(sqlite3.connect(copy)) as conn:
        assert_all_there(conn, images_of())


# --- Away ----------------------------------------------------------------------------------------

ASKS: dict[str, Callable[[sqlite3.Connection], Any]] = {
    "search": lambda conn: search_one(conn, find_index(conn), VECTORS[10], 5),
    "vector": lambda conn: image_vectors(conn, find_index(conn), 11),
}


def remove(path: Path) -> None:
    shutil.rmtree(dataset_of(path))


def forget_the_commit(path: Path) -> None:
    shutil.rmtree(dataset_of(path) / "_refs")


DAMAGES = [remove, forget_the_commit, cut_the_data, zero_the_data, cut_the_manifests]


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_engine_that_is_away_is_a_sentence_and_never_an_empty_answer(
    path: Path, db: Database, damage: Callable[[Path], None]
):
    shutil.copytree(dataset_of(path), path.with_name("kept"))
    damage(path)
    for ask in ASKS.values():
        with pytest.raises(VectorsAway, match="are in lance only, not in the database, and"):
            ask(db.conn)
    register_functions(db.conn)
    (said,) = db.execute("select image_search_status() ->> 'problem'").fetchone()
    assert (
        "bring it back, or name where it is, with index-images --uri; if it is lost, import" in said
    )
    assert str(path.parent) not in said
    # New images stay in the database until it is back.
    add_images(db, -VECTORS[:20])
    with pytest.raises(SidecarNotWritten, match="in lance only"):
        refresh_sidecars(db, "images")
    assert cells(db.conn) == {"integer": 61, "blob": 20}
    shutil.rmtree(dataset_of(path), ignore_errors=True)
    path.with_name("kept").rename(dataset_of(path))
    forget_what_was_opened()
    refresh_sidecars(db, "images")
    assert cells(db.conn) == {"integer": 81}
    assert_all_there(db.conn, images_of() | dict(enumerate(-VECTORS[:20], start=62)))


def test_an_engine_that_takes_long_to_fail_is_not_asked_by_each_search(
    path: Path, db: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(held_vectors, "LONG", -1.0)
    remove(path)
    with mock.patch.object(held_vectors, "open_engine", side_effect=EngineError("away")) as opened:
        for _ in range(3):
            with pytest.raises(VectorsAway, match="and away; bring it back"):
                ASKS["vector"](db.conn)
        assert opened.call_count == 1
        held_vectors._failures.clear()
        with pytest.raises(VectorsAway):
            ASKS["vector"](db.conn)
        assert opened.call_count == 2


@pytest.mark.parametrize("to", [3.0, np.nan])
def test_numbers_that_are_no_vector_are_none(path: Path, db: Database, to: float):
    change_numbers(path, to)
    asks = [ASKS["vector"], stored_vectors]
    if np.isnan(to):
        # Its score is no number either, whatever is looked for.
        asks.append(ASKS["search"])
    for ask in asks:
        with pytest.raises(VectorsAway, match="vectors are missing or damaged"):
            ask(db.conn)
    assert len(image_vectors(db.conn, find_index(db.conn), 12)) == 1
    with pytest.raises(SidecarNotWritten, match="vectors are missing or damaged"):
        index_images(db, "images")


def test_a_bit_that_flips_is_noticed_and_costs_one_vector(
    path: Path, db: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    flip_a_bit(path, VECTORS[10])
    for ask in (*ASKS.values(), stored_vectors):
        with pytest.raises(VectorsAway, match="vectors are missing or damaged there") as raised:
            ask(db.conn)
        assert raised.value.details == "that of row 11 of _images_vectors"
    with pytest.raises(SidecarNotWritten, match="that of row 11 of _images_vectors"):
        index_images(db, "images")
    with closing(Images(db, "images")) as images, pytest.raises(VectorsAway):
        images.export_vectors(tmp_path / "vectors.npy", tmp_path / "paths.txt")
    # Then that image is to be embedded again.
    with db.conn:
        db.execute("delete from _images_vectors where id = 11")
    index_images(db, "images")
    assert_all_there(db.conn, {id: each for id, each in images_of().items() if id != 11})


def test_an_image_whose_vector_is_damaged_is_embedded_again(database: Path, folder: Path):
    before = vectors_of(database)
    command("index-images", database, "images", "--engine", "lance", "--no-stored-vectors", "-s")
    flip_a_bit(database, np.frombuffer(before["red.jpg"], "<f4"))
    done = command("index-images", database, "images", "-s")
    (row,) = re.findall(r"that of row (\d+) of _images_vectors", done.output)
    change(database, f"delete from _images_vectors where id = {row}")
    done = command("embed-images", database, "images", folder, "-s")
    assert done.output.startswith("1 embedded, 7 unchanged")
    with closing(sqlite3.connect(database)) as conn:
        assert status(conn)["problem"] is None
        assert cells(conn) == {"integer": 8}
        for number, name in enumerate(sorted(before), 1):
            vector = np.frombuffer(before[name], "<f4")
            assert np.abs(stored_vectors(conn)[number] - vector).max() < 1e-3


def test_a_dataset_that_a_person_moved_is_found_by_its_new_place(path: Path, db: Database):
    with db.conn:
        db.execute("update images set id = 1000 where id = 61")
    dataset_of(path).rename(path.with_name("moved.lance"))
    index_images(db, "images", uri=path.with_name("moved.lance"))
    images = images_of()
    images[1000] = images.pop(61)
    assert_all_there(db.conn, images)
    assert not dataset_of(path).exists()


def test_a_place_whose_last_version_is_damaged_is_no_place_for_others(path: Path, db: Database):
    """As a power cut may leave it: what the database names is whole."""
    last = max(lance.dataset(dataset_of(path)).versions(), key=lambda each: each["version"])
    name = f"{2**64 - 2 - last['version']:020}.manifest"
    (dataset_of(path) / "_versions" / name).write_bytes(b"")
    add_images(db, -VECTORS[:20])
    images = images_of() | dict(enumerate(-VECTORS[:20], start=62))
    other = path.with_name("other.db")
    with closing(Database(other, execute_plugins=False)) as others:
        add_images(others, VECTORS)
        with pytest.raises(SidecarNotWritten, match="may be all that somebody has"):
            index_images(others, "images", engine="lance", uri=dataset_of(path))
    with pytest.raises(SidecarNotWritten, match="or name another place with index-images --uri"):
        index_images(db, "images")
    assert_all_there(db.conn, images)
    index_images(db, "images", uri=path.with_name("whole.lance"))
    shutil.rmtree(dataset_of(path))
    assert_all_there(db.conn, images)


def test_vectors_go_to_another_place_without_the_database(path: Path, db: Database):
    index_images(db, "images", uri=path.with_name("other.lance"))
    shutil.rmtree(dataset_of(path))
    forget_what_was_opened()
    assert cells(db.conn) == {"integer": 61}
    assert_all_there(db.conn, images_of())


def test_a_server_reads_vectors_only_where_its_configuration_says_so(path: Path, db: Database):
    places.allow_only([])
    with pytest.raises(VectorsAway, match="the server may not read the place of its lance"):
        ASKS["vector"](db.conn)
    places.allow_only(["beside"])
    assert len(ASKS["vector"](db.conn)) == 1


@pytest.mark.parametrize("odd", [-1, 5, 31, 2**63 - 1, -(2**63)])
def test_a_number_that_nobody_wrote_is_a_sentence(path: Path, db: Database, odd: int):
    with db.conn:
        db.execute("delete from _images_vectors where id = 3")
        db.execute(
            "insert into _images_vectors (index_id, image_id, vector, sha256) "
            "select 1, 3, ?, sha256 from images where id = 3",
            [odd],
        )
    with pytest.raises(VectorsAway, match="are in lance only"):
        image_vectors(db.conn, find_index(db.conn), 3)


# --- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"engine": "sidecar"}, "are in lance only; bring them back into the database with"),
        (
            {"engine": "sidecar", "stored_vectors": False},
            "--no-stored-vectors needs an engine that has the vectors",
        ),
    ],
)
def test_a_sidecar_is_not_made_of_vectors_that_are_not_there(
    path: Path, db: Database, options: dict[str, Any], sentence: str
):
    with pytest.raises(EngineError, match=sentence):
        index_images(db, "images", **options)
    assert_all_there(db.conn, images_of())
    index_images(db, "images", engine="sidecar", stored_vectors=True)
    shutil.rmtree(dataset_of(path))
    assert_all_there(db.conn, images_of())


def test_what_fails_brings_no_vectors_back(path: Path, db: Database):
    with pytest.raises(IndexTypeError, match="FAISS makes no index of 8 dimensions by 'nonsense'"):
        index_images(db, "images", type="nonsense", engine="sidecar", stored_vectors=True)
    with pytest.raises(SidecarNotWritten, match="lance makes no index of type 'nonsense'"):
        index_images(db, "images", type="nonsense", stored_vectors=True)
    assert cells(db.conn) == {"integer": 61}
    assert_all_there(db.conn, images_of())


def test_a_number_in_a_database_that_has_its_vectors_is_no_vector(path: Path, db: Database):
    index_images(db, "images", engine="sidecar", stored_vectors=True)
    with db.conn:
        db.execute("delete from _images_vectors where id = 3")
        db.execute(
            "insert into _images_vectors (index_id, image_id, vector, sha256) "
            "select 1, 3, 0, sha256 from images where id = 3"
        )
    assert_all_there(db.conn, {id: each for id, each in images_of().items() if id != 3})
    index_images(db, "images", engine="lance")
    assert_all_there(db.conn, {id: each for id, each in images_of().items() if id != 3})


@pytest.mark.parametrize("taken_before", [True, False])
def test_nobody_takes_the_place_of_an_only_copy_over(path: Path, db: Database, taken_before: bool):
    """Another database names the place as its own, which is what a person who takes it over says."""
    uri, other = path.with_name("shared.lance"), path.with_name("other.db")
    index_images(db, "images", uri=uri, stored_vectors=True)
    with closing(Database(other, execute_plugins=False)) as others:
        add_images(others, -VECTORS)
        with others.conn:
            named = "update image_search_indexes set engine = 'lance', engine_uri = ?"
            others.execute(named, [str(uri)])
        if taken_before:
            index_images(others, "images", engine="lance")
            add_images(db, -VECTORS[:1])
            with pytest.raises(SidecarNotWritten, match="take it back with index-images --engine"):
                index_images(db, "images", stored_vectors=False)
            with db.conn:
                db.execute("delete from images where id > 61")
        index_images(db, "images", engine="lance", stored_vectors=False)
        with pytest.raises(SidecarNotWritten, match="holds the only copy of the vectors of anoth"):
            index_images(others, "images", engine="lance")
        assert len(stored_vectors(others.conn)) == 60
    assert_all_there(db.conn, images_of())


@pytest.mark.parametrize("uri", [None, "elsewhere.lance"])
def test_a_model_that_comes_in_place_of_another_is_in_its_engine(
    folder: Path, tmp_path: Path, uri: str | None, caplog: pytest.LogCaptureFixture
):
    database = tmp_path / "photos.db"
    command("embed-images", database, "images", folder, "--model", "palette", "-s")
    place = [] if uri is None else ["--uri", tmp_path / uri]
    engine = ("--engine", "lance", "--no-stored-vectors", *place)
    command("index-images", database, "images", *engine, "-s")
    done = command("embed-images", database, "images", folder, "--replace-model", "-s")
    assert done.exit_code == 0, done.output
    with closing(sqlite3.connect(database)) as conn:
        found = status(conn)
        assert found["problem"] is None
        assert found["engine"] == ("sidecar" if uri else "lance")
        assert cells(conn).keys() == {"blob" if uri else "integer"}
    assert ("name an empty place with index-images --engine lance --uri" in caplog.text) == bool(
        uri
    )


def test_an_engine_that_forgets_former_commits_is_no_only_copy(tmp_path: Path):
    with (
        closing(Database(tmp_path / "photos.db", execute_plugins=False)) as db,
        mock.patch.object(LanceEngine, "keeps_commits", False),
    ):
        add_images(db, VECTORS)
        with pytest.raises(SidecarNotWritten, match="leave --no-stored-vectors out"):
            index_images(db, "images", engine="lance", stored_vectors=False)
        assert cells(db.conn) == {"blob": 60}


def test_who_has_only_an_engine_is_told_how_to_move_to_one_that_forgets(path: Path, db: Database):
    with (
        mock.patch.object(LanceEngine, "keeps_commits", False),
        pytest.raises(SidecarNotWritten, match="must be in the database too; add --stored-vectors"),
    ):
        index_images(db, "images", uri=path.with_name("other.lance"))
    assert cells(db.conn) == {"integer": 61}
