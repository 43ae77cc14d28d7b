"""What export_vectors() writes, import_vectors() makes the same vectors of; and what an engine lost comes back by it."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from sqlite_utils import Database

from datasette_image_search import Images, ImageSearchError
from datasette_image_search.engines import places
from datasette_image_search.ingest import vector_export
from datasette_image_search.ingest.vector_export import ExportSummary
from datasette_image_search.search.indexing import index_images

from . import drawn_films
from .commands import change, command, query
from .kept import forget_what_was_opened
from .random_tables import add_images, random_vectors
from .vector_files import unit, write_npy

PICTURES = unit(20, 64)
FILM = unit(3, 64, seed=1)


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is no server, and has opened nothing."""
    monkeypatch.setattr(places, "_served", [])
    forget_what_was_opened()


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Where the vectors go, and their paths."""
    return tmp_path / "vectors.npy", tmp_path / "paths.txt"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with PICTURES of a model that is not here, and a film with FILM, at 0, 2.5 and 1e-05 s."""
    lines = [f"{number}.jpg" for number in range(20)]
    lines += [f"trip/film.mp4#t={at}" for at in (0.0, 2.5, 1e-05)]
    source = write_npy(tmp_path, lines, np.concatenate([PICTURES, FILM]))
    bring(tmp_path / "photos.db", *source, "--root", tmp_path / "photos")
    return tmp_path / "photos.db"


def bring(
    database: Path,
    source: Path,
    paths: Path,
    *options: object,
    model: str = "mine",
    table: str = "images",
) -> str:
    given = (source, "--paths", paths, "--model", model, *options, "-s")
    done = command("import-image-vectors", database, table, *given)
    assert done.exit_code == 0, done.output
    return done.stdout


def export(database: Path, files: tuple[Path, Path]) -> ExportSummary:
    with closing(Images(database, "images")) as images:
        return images.export_vectors(*files)


def rows(database: Path) -> list[tuple]:
    """The vectors by path, and the seconds of the scenes."""
    return query(
        database,
        "select path, vector, times from _images_vectors join images on images.id = image_id order by 1",
    )


def test_another_database_gets_the_same_vectors_bit_for_bit(
    path: Path, tmp_path: Path, files: tuple[Path, Path]
):
    assert export(path, files).vectors == 23
    assert np.load(files[0]).dtype == np.float32
    assert np.load(files[0]).shape == (23, 64)
    assert files[1].read_text().splitlines()[-3:] == [
        f"{tmp_path}/photos/trip/film.mp4#t={at}" for at in (0.0, 2.5, 1e-05)
    ]
    said = bring(tmp_path / "other.db", *files, "--root", tmp_path / "photos")
    assert "21 vectors imported, 21 rows added" in said
    assert rows(tmp_path / "other.db") == rows(path)
    assert len(rows(path)[-1][1]) == 4 * FILM.size
    assert rows(path)[-1][2] == "[0.0, 2.5, 1e-05]"


def test_the_same_database_has_them_already(path: Path, files: tuple[Path, Path]):
    export(path, files)
    assert "0 vectors imported, 21 unchanged" in bring(path, *files)


@pytest.mark.parametrize("block", [1, 2, 5, 22])
def test_a_film_may_begin_in_one_block_and_end_in_another(
    path: Path,
    tmp_path: Path,
    files: tuple[Path, Path],
    block: int,
    monkeypatch: pytest.MonkeyPatch,
):
    export(path, files)
    monkeypatch.setattr("datasette_image_search.ingest.vector_sources.BLOCK", block)
    bring(tmp_path / "other.db", *files, "--root", tmp_path / "photos")
    assert rows(tmp_path / "other.db") == rows(path)


def test_a_picture_whose_name_looks_like_a_scene_is_a_picture(tmp_path: Path):
    source = write_npy(tmp_path, ["film.mp4", "film.mp4#t=3"], PICTURES[:2])
    database = tmp_path / "photos.db"
    with closing(Database(database, execute_plugins=False)) as db:
        add_images(db, PICTURES[:2])
        with db.conn:
            db.execute("update images set path = 'film.mp4' || substr('#t=3', 1, 4 * (id - 1))")
    options = ("--root", "/pictures", "--add-model")
    assert "2 vectors imported" in bring(database, *source, *options)


def test_more_scenes_than_a_film_may_have_are_refused(path: Path, tmp_path: Path):
    source, paths = write_npy(tmp_path, [f"a.mp4#t={at}" for at in range(33)], unit(33, 64))
    done = command(
        "import-image-vectors", path, "images", source, "--paths", paths, "--model", "mine"
    )
    assert "'a.mp4' has 33 scenes in vectors.npy, more than 32" in done.output


def test_what_an_engine_alone_had_comes_back_from_a_file(path: Path, files: tuple[Path, Path]):
    with closing(Database(path, execute_plugins=False)) as db:
        index_images(db, "images", engine="lance", stored_vectors=False)
        export(path, files)
        with closing(Images(db, "images")) as images:
            before = {id: images.vector(f"#{id}").tobytes() for id in (1, 20, 21)}
    exported = np.load(files[0])
    assert np.abs(exported - np.concatenate([PICTURES, FILM])).max() < 1e-3
    shutil.rmtree(path.with_name("photos.db-image-search-1.lance"))
    forget_what_was_opened()
    with pytest.raises(ImageSearchError, match="import an export of them"):
        export(path, files)
    # What was exported before is as it was.
    assert (np.load(files[0]) == exported).all()
    bring(path, *files, "--replace-model")
    with closing(Database(path, execute_plugins=False)) as db:
        index_images(db, "images", engine="lance", stored_vectors=False)
        with closing(Images(db, "images")) as images:
            assert before == {id: images.vector(f"#{id}").tobytes() for id in before}
            assert images.search("#21", 1)[0].at == 0.0
    export(path, files)
    assert (np.load(files[0]) == exported).all()


def test_an_engine_that_was_lost_is_fed_again_by_an_import_of_its_model(
    database: Path, files: tuple[Path, Path]
):
    with closing(Database(database, execute_plugins=False)) as db:
        index_images(db, "images", engine="lance", stored_vectors=False)
        export(database, files)
        shutil.rmtree(database.with_name("photos.db-image-search-1.lance"))
        forget_what_was_opened()
        assert "8 vectors imported" in bring(database, *files, model="palette")
        assert query(database, "select distinct typeof(vector) from _images_vectors") == [
            ("integer",)
        ]
        with closing(Images(db, "images")) as images:
            assert images.status()["problem"] is None
            assert images.search("#3", 1)[0].id == 3


def test_files_elsewhere_are_named_by_their_urls(
    bucket: MemoryFileSystem, tmp_path: Path, files: tuple[Path, Path]
):
    database = tmp_path / "photos.db"
    command("embed-images", database, "images", "memory://photos", "--model", "palette", "-s")
    export(database, files)
    assert "memory://photos/2020/blue.jpg" in files[1].read_text().splitlines()
    assert "0 vectors imported, 8 unchanged" in bring(database, *files, model="palette")


@pytest.fixture
def own(tmp_path: Path, folder: Path) -> Iterator[Database]:
    """Tables of a person: with paths, three of which are the same, and with BLOBs."""
    with closing(Database(tmp_path / "photos.db", execute_plugins=False)) as db:
        names = ["red.jpg", "blue.jpg", "red.jpg", "../pictures/red.jpg"]
        db["by_path"].create({"key": str, "file": str}, pk="key")
        db["by_path"].insert_all(
            {"key": f"k{n}", "file": f"pictures/{name}"} for n, name in enumerate(names)
        )
        pictures = [(folder / name).read_bytes() for name in names[:2]]
        db["blobs"].insert_all(
            ({"id": n, "picture": each} for n, each in enumerate(pictures, 5)), pk="id"
        )
        yield db


def test_own_tables_are_exported_by_path_or_by_id(
    own: Database, tmp_path: Path, files: tuple[Path, Path]
):
    path = tmp_path / "photos.db"
    for table, column in (
        ("by_path", "--path-column file"),
        ("blobs", "--content-column picture"),
    ):
        done = command("embed-images", path, table, *column.split(), "--model", "palette", "-s")
        assert done.exit_code == 0, done.output
        with closing(Images(path, table)) as images:
            summary = images.export_vectors(*files)
        lines = files[1].read_text().splitlines()
        if table == "blobs":
            assert lines == ["#5", "#6"]
        else:
            assert lines == [f"{tmp_path}/pictures/{name}.jpg" for name in ("red", "blue")]
        assert summary.vectors == 2
        before = query(path, f"select image_id, vector from _{table}_vectors order by 1")
        with own.conn:
            own.execute(f"delete from _{table}_vectors where image_id in (5, 'k0', 'k2', 'k3')")
        bring(path, *files, model="palette", table=table)
        after = query(path, f"select image_id, vector from _{table}_vectors order by 1")
        assert after == before


def test_vectors_of_blobs_come_back_as_those_of_the_model_that_made_them(
    own: Database, tmp_path: Path, files: tuple[Path, Path], folder: Path
):
    """So that a run adds others to them."""
    path = tmp_path / "photos.db"
    command(
        "embed-images", path, "blobs", "--content-column", "picture", "--model", "palette", "-s"
    )
    index_images(own, "blobs", engine="lance", stored_vectors=False)
    with closing(Images(path, "blobs")) as images:
        images.export_vectors(*files)
    shutil.rmtree(path.with_name("photos.db-image-search-1.lance"))
    forget_what_was_opened()
    assert "2 vectors imported" in bring(path, *files, model="palette", table="blobs")
    with own.conn:
        own["blobs"].insert({"id": 7, "picture": (folder / "green.jpg").read_bytes()})
    done = command("embed-images", path, "blobs", "-s")
    assert done.output.startswith("1 embedded, 2 unchanged"), done.output
    # Of a table of imported vectors, whose model is not known yet.
    change(
        path,
        "update image_search_indexes set fingerprint = 'imported'",
        "delete from blobs where id = 7",
    )
    with own.conn:
        own["blobs"].insert({"id": 8, "picture": (folder / "green.jpg").read_bytes()})
    done = command("embed-images", path, "blobs", "-s")
    assert done.output.startswith("1 embedded, 2 unchanged"), done.output


def test_films_in_a_column_of_blobs_are_exported_by_id(tmp_path: Path, files: tuple[Path, Path]):
    path = tmp_path / "photos.db"
    film = drawn_films.draw_film(tmp_path / "film.mp4", [("red", 1), ("blue", 2)])
    with closing(Database(path, execute_plugins=False)) as db:
        db["blobs"].insert_all(({"id": n, "film": film.read_bytes()} for n in (7, 8)), pk="id")
    command("embed-images", path, "blobs", "--content-column", "film", "--model", "palette", "-s")
    with closing(Images(path, "blobs")) as images:
        assert images.export_vectors(*files).vectors == 4
    sql = "select image_id, vector, times from _blobs_vectors order by 1"
    before = query(path, sql)
    lines = [f"#{n}#t={at}" for n in (7, 8) for at in json.loads(before[0][2])]
    assert files[1].read_text().splitlines() == lines
    change(path, "delete from _blobs_vectors where image_id = 7")
    bring(path, *files, model="palette", table="blobs")
    assert query(path, sql) == before


def test_a_person_s_own_table_is_offered_no_new_rows(
    own: Database, tmp_path: Path, files: tuple[Path, Path]
):
    path = tmp_path / "photos.db"
    command(
        "embed-images", path, "blobs", "--content-column", "picture", "--model", "palette", "-s"
    )
    with closing(Images(path, "blobs")) as images:
        images.export_vectors(*files)
    change(path, "delete from blobs where id = 6")
    done = command(
        *("import-image-vectors", path, "blobs", files[0], "--paths", files[1]),
        *("--model", "palette"),
    )
    assert "such as '#6'; check --root, or choose --unknown skip; nothing was" in done.output


def test_an_export_that_is_stopped_leaves_no_vectors_with_the_paths_of_others(
    path: Path, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
):
    export(path, files)
    change(path, "update images set path = 'another.jpg' where id = 1")

    def once(temporary: Path, place: Path) -> None:
        temporary.replace(place)
        raise KeyboardInterrupt

    monkeypatch.setattr(vector_export, "put_in_place", once)
    with pytest.raises(KeyboardInterrupt):
        export(path, files)
    assert [file.exists() for file in files] == [True, False]


def test_a_folder_that_is_not_there_is_named(path: Path, tmp_path: Path, files: tuple[Path, Path]):
    for named in ((tmp_path / "no" / "a.npy", files[1]), (files[0], tmp_path / "no" / "a.txt")):
        with pytest.raises(ImageSearchError, match=r"there is no folder '.*/no'; make it"):
            export(path, named)


def test_only_what_is_searched_is_exported(path: Path, files: tuple[Path, Path]):
    """Not the vector of a row that is gone, or of another picture; and a path with a line break is told."""
    with closing(sqlite3.connect(path)) as conn, conn:
        for (name,) in conn.execute(
            "select name from sqlite_master where type = 'trigger'"
        ).fetchall():
            conn.execute(f'drop trigger "{name}"')
        conn.execute("delete from images where id = 1")
        conn.execute("update images set sha256 = 'another' where id = 2")
        conn.execute("update images set path = 'a' || char(10) || 'b.jpg' where id = 3")
        conn.execute("update images set path = 'a' || char(13) || 'b.jpg' where id = 4")
    done = command("export-image-vectors", path, "images", files[0], "--paths", files[1], "-s")
    assert done.exit_code == 0, done.output
    assert "2 images could not be written as a line of text, such as '" in done.stderr
    assert done.stdout.startswith("19 vectors of 17 images exported in ")
    assert np.array_equal(np.load(files[0])[:16], PICTURES[4:])


def test_other_files_are_not_replaced(path: Path, tmp_path: Path):
    before = path.read_bytes()
    for file, paths in ((path, tmp_path / "a.txt"), (tmp_path / "a.npy", path)):
        done = command("export-image-vectors", path, "images", file, "--paths", paths)
        assert done.exit_code == 1
        assert "photos.db' does not end in ." in done.output
    assert path.read_bytes() == before
    assert not (tmp_path / "a.npy").exists()


def test_a_table_without_vectors_has_nothing_to_export(tmp_path: Path, files: tuple[Path, Path]):
    with closing(Database(tmp_path / "photos.db", execute_plugins=False)) as db:
        add_images(db, random_vectors(2))
        with db.conn:
            db.execute("delete from images")
        with (
            closing(Images(db, "images")) as images,
            pytest.raises(ImageSearchError, match="'images' has no vectors to export"),
        ):
            images.export_vectors(*files)
