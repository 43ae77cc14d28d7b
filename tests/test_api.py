"""The Python API says the same as the commands; docs/python-api.md runs from top to bottom."""

from __future__ import annotations

import io
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlite_utils import Database

from datasette_image_search import Images, ImageSearchError
from datasette_image_search.store.stored_vectors import vector_to_blob

from .commands import command
from .conftest import draw_picture
from .documents import PROJECT, blocks_of

PAGE = PROJECT / "docs" / "python-api.md"


@pytest.fixture
def images(database: Path) -> Iterator[Images]:
    with Images(database) as images:
        yield images


def ids(hits: list[Any]) -> list[int]:
    return [hit.id for hit in hits]


# --- The package -------------------------------------------------------------------------------------


def test_the_package_loads_nothing_large():
    code = """
import sys, datasette_image_search
print({"torch", "faiss", "datasette", "numpy"} & sys.modules.keys())
from datasette_image_search import Images
print({"torch", "faiss", "datasette"} & sys.modules.keys())
"""
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\nset()\n"


def test_another_name_is_an_attribute_error():
    import datasette_image_search

    with pytest.raises(AttributeError, match="has no attribute 'Picture'"):
        _ = datasette_image_search.Picture


# --- The database ------------------------------------------------------------------------------------


def test_a_path_a_connection_and_a_database_find_the_same(database: Path):
    with Images(str(database), "images") as images:
        found = images.search("red", 3)
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    with closing(sqlite3.connect(database)) as conn:
        assert Images(conn).search("red", 3) == found
        assert Images(conn, None).search("red", 3) == found
    with closing(Database(database)) as db:
        assert Images(db).search("red", 3) == found


def test_only_what_was_opened_here_is_closed(database: Path):
    with closing(sqlite3.connect(database)) as conn:
        with Images(conn) as images:
            images.search("red")
        assert conn.execute("select count(*) from images").fetchone() == (8,)
    with Images(database) as images:
        opened = images.conn
    with pytest.raises(sqlite3.ProgrammingError):
        opened.execute("select 1")
    assert len(images.search("red", 2)) == 2
    images.close()


def test_what_is_not_there_is_one_sentence(tmp_path: Path, database: Path):
    with pytest.raises(ImageSearchError, match="there is no database"):
        Images(tmp_path / "none.db").search("red")
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(ImageSearchError, match="'others' is not an image table"):
        Images(database, "others").search("red")
    with (
        closing(sqlite3.connect(":memory:")) as conn,
        pytest.raises(ImageSearchError, match="in memory; open one that is a file"),
    ):
        Images(conn).embed(tmp_path)


def test_changes_that_are_not_committed_do_not_make_a_run_wait(database: Path, folder: Path):
    with closing(sqlite3.connect(database)) as conn:
        conn.execute("update images set filename = 'another'")
        with pytest.raises(ImageSearchError, match="commit them first"):
            Images(conn).embed(folder)
        conn.commit()
        assert Images(conn).embed(folder).unchanged == 8


def test_a_relative_path_is_of_the_folder_at_the_time(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(database.parent)
    images = Images(database.name)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert images.path == database
    assert len(images.search("red", 2)) == 2
    images.close()


def test_what_fails_writes_nothing_to_a_database_of_something_else(tmp_path: Path):
    path = tmp_path / "other.db"
    Database(path)["notes"].insert({"note": "mine"})
    before = path.read_bytes()
    with Images(path) as images:
        for write in (
            lambda: images.index("flat"),
            lambda: images.tag(["a", "b"]),
            lambda: images.duplicates(write=True),
        ):
            with pytest.raises(ImageSearchError, match="no image table"):
                write()
    assert path.read_bytes() == before


def test_a_connection_waits_for_others_as_long_as_before(database: Path):
    with closing(sqlite3.connect(database, timeout=30)) as conn:
        conn.execute("pragma journal_mode = wal")
        Images(conn).index("flat")
        assert conn.execute("pragma busy_timeout").fetchone() == (30_000,)


def test_an_unfinished_tagging_does_not_keep_its_connection(images: Images):
    tagging = images.tagging(["red", "blue"])
    next(tagging)
    images.close()
    tagging.close()
    assert len(images.search("red", 2)) == 2


def dict_row(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> dict[str, Any]:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


@pytest.mark.parametrize("row_factory", [sqlite3.Row, dict_row], ids=["Row", "dict"])
def test_rows_of_any_kind_are_those_of_the_caller_again(
    database: Path, folder: Path, row_factory: Any
):
    with closing(sqlite3.connect(database)) as conn, Images(database) as images:
        conn.row_factory = row_factory
        theirs = Images(conn)
        assert theirs.search("red", 3) == images.search("red", 3)
        assert theirs.similarity(1, "#2") == images.similarity(1, "#2")
        assert theirs.status() == images.status()
        assert theirs.files([1, 2]) == images.files([1, 2])
        assert theirs.duplicates(0.5, write=True).images == 8
        for _ in theirs.tagging(["red", "blue"]):
            assert conn.execute("select 1 as one").fetchone()["one"] == 1
        assert theirs.index("flat").vectors == 8
        assert theirs.embed(folder).unchanged == 8
        with pytest.raises(ImageSearchError, match="no image #99"):
            theirs.search("#99")
        assert conn.row_factory is row_factory
        found = conn.execute("select image_similarity(1, '#2') as score").fetchone()
        assert found["score"] == pytest.approx(theirs.similarity(1, "#2"), abs=1e-3)


# --- Errors of SQLite and of files -------------------------------------------------------------------


def test_errors_of_sqlite_are_sentences_with_a_cause(database: Path, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("a text that is no database, and long enough for one")
    with pytest.raises(ImageSearchError, match="is not a database; give the path") as refused:
        Images(tmp_path / "notes.txt").search("red")
    assert isinstance(refused.value.__cause__, sqlite3.DatabaseError)
    with pytest.raises(ImageSearchError, match="is not a database"):
        _ = Images(tmp_path / "notes.txt").index_of()
    with closing(sqlite3.connect(database, timeout=0)) as conn, closing(Database(database)) as db:
        db.execute("begin exclusive")
        for read in (Images(conn).status, Images(conn).index_of, Images(conn).duplicates):
            with pytest.raises(ImageSearchError) as refused:
                read()
            assert str(refused.value) == (
                f"{str(database)!r}: database is locked; another program is writing to it; "
                "try again when it has finished"
            )
            assert isinstance(refused.value.__cause__, sqlite3.OperationalError)
    with pytest.raises(ImageSearchError, match="closed database"):
        Images(conn).search("red")


def test_errors_of_files_are_sentences_with_a_cause(images: Images, monkeypatch: Any):
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", "codes.tmp")

    monkeypatch.setattr("datasette_image_search.search.duplicates.find_duplicates", full)
    with pytest.raises(ImageSearchError, match=r"'codes.tmp': No space left on device") as refused:
        images.duplicates()
    assert isinstance(refused.value.__cause__, OSError)


def test_a_server_gets_the_errors_as_they_are(database: Path):
    with closing(sqlite3.connect(database, timeout=0)) as conn, closing(Database(database)) as db:
        db.execute("begin exclusive")
        with pytest.raises(sqlite3.OperationalError, match=r"^database is locked$"):
            Images(conn, raw_errors=True).status()


# --- Embedding ---------------------------------------------------------------------------------------


def test_embedding_makes_a_database_that_is_searched_at_once(tmp_path: Path, folder: Path):
    told: list[Any] = []
    with Images(tmp_path / "new.db", "pictures") as images:
        assert images.embed([folder], model="palette", dry_run=True).embedded == 8
        assert not images.path.exists()
        summary = images.embed(str(folder), model="palette", on_progress=told.append)
        assert (summary.embedded, summary.interrupted, summary.not_written) == (8, False, None)
        assert [(each.doing, each.total) for each in told if each.done == each.total] == [
            ("Embedding", 8),
            ("Reading", 8),
        ]
        assert images.status()["sidecar"] == "in use"
        draw_picture(folder / "new.jpg", "darkred")
        assert images.embed(folder, exclude=["new.*"]).embedded == 0
        assert images.embed(folder).embedded == 1
        assert len(images.search("red", 20)) == 9


def test_a_home_folder_is_found_in_a_text(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with Images("~/home.db") as images:
        assert images.embed(f"~/{folder.name}", model="palette").embedded == 8
        assert images.path == tmp_path / "home.db"
    with pytest.raises(ImageSearchError, match="'~'"):
        images.embed(Path("~"))


def test_vectors_are_imported(tmp_path: Path, images: Images):
    np.save(tmp_path / "v.npy", np.stack([images.vector(f"#{id}") for id in range(1, 9)]))
    names = [f"{id}.jpg" for id in range(1, 9)]
    (tmp_path / "paths.txt").write_text("\n".join(names))
    with Images(tmp_path / "imported.db") as imported:
        summary = imported.import_vectors(
            tmp_path / "v.npy", paths=tmp_path / "paths.txt", roots=[tmp_path], model="palette"
        )
        assert (summary.imported, summary.not_written, summary.interrupted) == (8, None, False)
        assert ids(imported.search("#3", 8)) == ids(images.search("#3", 8))


# --- Searching ---------------------------------------------------------------------------------------


def test_a_search_is_that_of_the_command(database: Path, images: Images):
    printed = command("search-images", database, "images", "red", "-k", 3, "--json")
    rows = [(row["id"], row["score"]) for row in json.loads(printed.stdout)]
    assert rows == [(hit.id, hit.score) for hit in images.search("red", 3)]


def test_the_rows_to_search_among(images: Images):
    everything = images.search("red", 8)
    some = images.search("red", 8, where="id > :id", params={"id": 4})
    assert some == [hit for hit in everything if hit.id > 4]
    assert images.search("red", 2, offset=1) == everything[1:3]
    least = everything[2].score
    assert images.search("red", 8, min_score=least) == everything[:3]
    assert images.search("red", 8, exact=True) == everything
    with pytest.raises(ImageSearchError, match="no_column"):
        images.search("red", where="no_column = 1")


def test_a_query_is_text_a_vector_or_a_picture(images: Images, folder: Path):
    vector = images.vector("#7")
    assert (vector.shape, vector.dtype) == ((images.index_of().dimensions,), np.float32)
    assert np.linalg.norm(vector) == pytest.approx(1)
    of_image = images.search("#7", 3)
    for query in (vector, vector_to_blob(vector), images.ask("#7")):
        hits = images.search(query, 3)
        assert ids(hits) == ids(of_image)
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in of_image])
    name = Database(images.conn)["images"].get(7)["filename"]
    assert ids(images.search(folder / name, 1)) == [7]
    with pytest.raises(ImageSearchError, match="there is no file"):
        images.search(folder / "none.jpg")


def test_a_query_of_one_index_is_not_searched_in_another(images: Images, folder: Path):
    others = Images(images.path, "others")
    others.embed(folder, model="palette")
    asked = others.ask("blue")
    for queries in ([asked], ["blue", asked], [asked, "blue"]):
        with pytest.raises(ImageSearchError, match="asked of 'others' by palette"):
            images.find(queries)
    others.close()


def test_several_queries_are_answered_one_by_one(images: Images):
    queries = ["red", "#3", "blue"]
    assert images.search_many(queries, 3) == [images.search(query, 3) for query in queries]
    with pytest.raises(ImageSearchError, match="there is nothing to search for"):
        images.search_many([])
    with pytest.raises(ImageSearchError, match="there is no image #99 "):
        images.search_many(["red", "#99"])
    with pytest.raises(ImageSearchError, match="'': the query is empty"):
        images.search_many(["red", ""])


def test_what_was_found_comes_with_warnings_and_steps(images: Images):
    (found,) = images.find(["red zeppelin"], 2)
    assert "zeppelin" in found.warnings[0]
    assert found.steps[0].looked_at == 8


def test_the_score_of_one_image(images: Images):
    for hit in images.search("red", 8):
        assert images.similarity(hit.id, "red") == pytest.approx(hit.score, abs=1e-6)
    assert images.similarity(99, "red") is None


def test_a_server_says_which_weights_are_opened(database: Path, folder: Path):
    draw_picture(folder / "new.jpg", "darkred")

    def refuse(index: Any) -> Path:
        raise ImageSearchError("no weights of this database")

    with Images(database, weights_of=refuse) as images:
        assert len(images.search("#1", 3)) == 3
        for query in ("red", database):
            with pytest.raises(ImageSearchError, match="no weights of this database"):
                images.search(query)
        with pytest.raises(ImageSearchError, match="no weights of this database"):
            images.tag(["a", "b"])
        for use in (
            lambda: images.embed(retry_failed=True, paths=folder),
            lambda: images.index("IVF1,Flat"),
            images.evaluate,
        ):
            with pytest.raises(ImageSearchError, match="no weights of this database"):
                use()


def test_files_are_where_the_originals_are(images: Images, folder: Path):
    files = images.files([1, 2, 99])
    assert set(files) == {1, 2}
    assert all(file.parent == folder and file.exists() for file in files.values())


def test_blobs_are_no_files(tmp_path: Path, folder: Path):
    database = tmp_path / "own.db"
    with closing(Database(database)) as db:
        content = (folder / "red.jpg").read_bytes()
        db["stickers"].insert({"id": 1, "content": content}, pk="id")
    with Images(database, "stickers") as images:
        assert images.embed(content_column="content", model="palette").embedded == 1
        with pytest.raises(ImageSearchError, match="in the database, not in files"):
            images.files([1])


# --- Tags, duplicates, maps, indexes -----------------------------------------------------------------


def test_tags_and_what_is_new(images: Images, folder: Path):
    told: list[Any] = []
    with pytest.raises(ImageSearchError, match="there are no labels"):
        images.tag()
    (tagged,) = images.tag(["red", "blue"], templates=["{}"], on_progress=told.append)
    assert (tagged.tagged, tagged.without) == (8, 0)
    assert [(each.doing, each.done, each.total) for each in told] == [
        ("Tagging", 0, 8),
        ("Tagging", 8, 8),
    ]
    draw_picture(folder / "new.jpg", "darkred")
    images.embed(folder)
    assert [each.total for each in images.tag()] == [1]


def test_duplicates_are_found_and_written(images: Images, folder: Path):
    assert images.duplicates(1).groups == ()
    (folder / "copy.jpg").write_bytes((folder / "red.jpg").read_bytes())
    images.embed(folder)
    found = images.duplicates(1)
    assert [len(group) for group in found.groups] == [2]
    assert found.written is None
    ((_, copy),) = found.groups
    assert list(images.dispensable(found)) == list(images.files([copy.image.image_id]).values())
    assert images.duplicates(1, write=True).written == "images_duplicates"
    assert images.conn.execute("select count(*) from images_duplicates").fetchone() == (2,)


def test_an_index_is_made_and_measured(images: Images):
    told: list[Any] = []
    summary = images.index("flat", on_progress=told.append)
    assert (summary.vectors, summary.approximate) == (8, None)
    assert told[-1].doing == "Writing"
    rows = images.evaluate(queries=np.stack([images.vector("#1")]))
    assert [row.recalls[0] for row in rows] == [1, 1]
    assert images.status()["problem"] is None


def test_a_map_is_drawn(images: Images, tmp_path: Path):
    plotted = images.plot(tmp_path / "map.png", page=tmp_path / "map.html", where="id < 5")
    assert plotted.images == 4
    assert (tmp_path / "map.png").stat().st_size > 0
    assert "<html" in (tmp_path / "map.html").read_text(encoding="utf-8")


def test_models_are_listed():
    assert [model.id for model in Images.models("palette")] == ["palette"]


# --- Values that are refused -------------------------------------------------------------------------

EMBED = [
    ({"thumbnail_size": 0}, "thumbnail_size is 0; it must be a whole number, from 16 to 4,096"),
    ({"thumbnail_size": "300"}, "thumbnail_size is '300'; it must be a whole number"),
    ({"limit": -1}, "limit is -1; it must be a whole number, at least 1"),
    ({"limit": "2"}, "limit is '2'; it must be a whole number"),
    ({"batch_size": 0}, "batch_size is 0; it must be a whole number, at least 1"),
    ({"batch_size": "x"}, "batch_size is 'x'; it must be a whole number"),
    ({"batch_size": True}, "batch_size is True; it must be a whole number"),
    ({"max_pixels": 0}, "max_pixels is 0; it must be a whole number, at least 1"),
    ({"max_pixels": "a"}, "max_pixels is 'a'; it must be a whole number"),
    ({"workers": -1}, "workers is -1; it must be a whole number, at least 1"),
    ({"copies": "yes"}, "copies is 'yes'; it must be True or False"),
    ({"follow_symlinks": 1}, "follow_symlinks is 1; it must be True or False"),
    ({"precision": "int4"}, "precision is 'int4'; it must be one of float32, float16, bfloat16"),
    ({"model": 1}, "model is 1; it must be a text"),
    ({"weights": 1}, "1 is not a path; give a text or a Path"),
    ({"exclude": [1]}, "one of the exclude is 1; it must be str"),
    ({"exclude": 1}, "exclude is 1; it must be a list of str"),
    ({"paths": [1]}, "one of the paths is 1; it must be str or PathLike"),
]


@pytest.mark.parametrize(("options", "sentence"), EMBED)
def test_a_wrong_value_embeds_nothing(
    database: Path, folder: Path, options: dict[str, Any], sentence: str
):
    draw_picture(folder / "new.jpg", "darkred")
    new = database.with_name("new.db")
    before = database.read_bytes()
    for path in (database, new):
        with Images(path) as images, pytest.raises(ImageSearchError) as refused:
            images.embed(**{"paths": folder, "model": "palette", **options})
        assert sentence in str(refused.value)
    assert database.read_bytes() == before
    assert not new.exists()


LETTERS = np.array(["a"] * 449)
MAP = Path("map.png")
ONE = np.ones((1, 449), np.float32)

REFUSED = [
    (
        "import_vectors",
        ("v.npy",),
        {"unknown": "all"},
        "unknown is 'all'; it must be one of refuse",
    ),
    ("import_vectors", ("v.npy",), {"roots": None}, "roots is None; it must be a list of str"),
    ("import_vectors", ("v.npy",), {"wal": "no"}, "wal is 'no'; it must be True or False"),
    ("import_vectors", (3,), {}, "3 is not a path"),
    ("tag", (["a", "b"],), {"top": 0}, "top is 0; it must be a whole number, at least 1"),
    ("tag", (["a", "b"],), {"top": "1"}, "top is '1'; it must be a whole number"),
    ("tag", (["a", "b"],), {"top": 1.5}, "top is 1.5; it must be a whole number"),
    ("tag", (["a", "b"],), {"threshold": "1"}, "threshold is '1'; it must be above 0"),
    ("tag", (["a", "b"],), {"replace": "no"}, "replace is 'no'; it must be True or False"),
    ("tag", (["a", "b"],), {"templates": [1]}, "one of the templates is 1; it must be str"),
    ("tag", ([1, 2],), {}, "one of the labels is 1; it must be str"),
    ("tag", ("red",), {}, "'red' is the only label"),
    ("tag", ([],), {"top": 0}, "there are no labels"),
    ("index", ("flat",), {"target": 2}, "target is 2; it must be above 0 and at most 1"),
    ("index", ("ivf",), {"target": 0}, "target is 0; it must be above 0 and at most 1"),
    ("index", ("ivf",), {"gpu": "no"}, "gpu is 'no'; it must be True or False"),
    ("index", (5,), {}, "type is 5; it must be a text"),
    ("index", ("ivf",), {"queries": ONE[:, :5]}, "the queries in the array have 5 dimensions"),
    ("evaluate", (), {"target": 5}, "target is 5; it must be above 0 and at most 1"),
    ("evaluate", (), {"target": 0}, "target is 0; it must be above 0 and at most 1"),
    ("evaluate", (), {"queries": ONE[0]}, "the array has the shape (449,), not a row"),
    ("evaluate", (), {"queries": ONE[:0]}, "there are no queries in the array"),
    ("evaluate", (), {"queries": ONE * 0}, "query number 1 of the array is all zeros"),
    ("evaluate", (), {"queries": LETTERS[None]}, "the array holds <U1, not vectors"),
    ("search", ("red", "3"), {}, "k is '3'; it must be a whole number, at least 1"),
    ("search", ("red", 2.5), {}, "k is 2.5; it must be a whole number"),
    ("search", ("red",), {"offset": -1}, "offset is -1; it must be a whole number, at least 0"),
    ("search", ("red",), {"min_score": "x"}, "min_score is 'x'; it must be a number"),
    ("search", ("red",), {"exact": "x"}, "exact is 'x'; it must be True or False"),
    ("search", (None,), {}, "the query is None; it must be a text, the Path of a picture"),
    ("search", ([1.0] * 449,), {}, "the query is [1.0, 1.0"),
    ("search", (LETTERS,), {}, "the vector holds <U1 in the shape (449,); it must hold numbers"),
    ("search", (ONE,), {}, "the vector holds float32 in the shape (1, 449)"),
    ("search", ("red",), {"where": 1}, "where is 1; it must be SQL"),
    ("search", ("red",), {"params": {"a": 1}}, "params sets the :names in where; add where"),
    (
        "search",
        ("red",),
        {"where": "folder = ?", "params": ["lotus"]},
        "params is ['lotus']; it must be a dict of the :names in where",
    ),
    ("similarity", ([1], "red"), {}, "id is [1]; it must be a whole number"),
    ("files", ([1.5],), {}, "id is 1.5; it must be a whole number"),
    ("duplicates", ("x",), {"write": True}, "the threshold is 'x'; it must be above 0"),
    ("duplicates", (), {"where": 1, "write": True}, "where is 1; it must be SQL"),
    ("plot", (MAP,), {"method": "nope"}, "method is 'nope'; it must be one of pca, umap"),
    ("plot", (MAP,), {"size": (0, 10)}, "the width is 0; it must be a whole number, from 100"),
    ("plot", (MAP,), {"size": -1}, "size is -1; it must be a width and a height"),
    ("plot", (MAP,), {"thumbnail_size": -5}, "thumbnail_size is -5; it must be a whole number"),
    ("plot", (MAP,), {"thumbnails": -1}, "thumbnails is -1; it must be a whole number, at least 0"),
    ("plot", (MAP,), {"column": 1}, "column is 1; it must be a text"),
]


@pytest.mark.parametrize(("method", "given", "options", "sentence"), REFUSED)
def test_a_wrong_value_is_one_sentence_and_changes_nothing(
    database: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    given: tuple[Any, ...],
    options: dict[str, Any],
    sentence: str,
):
    monkeypatch.chdir(database.parent)
    before = database.read_bytes(), set(database.parent.iterdir())
    with Images(database) as images, pytest.raises(ImageSearchError) as refused:
        getattr(images, method)(*given, **options)
    assert sentence in str(refused.value)
    assert (database.read_bytes(), set(database.parent.iterdir())) == before


def test_one_text_is_a_list_of_one(images: Images, folder: Path):
    assert images.search_many("red", 3) == [images.search("red", 3)]
    assert len(images.find(np.stack([images.vector("red")] * 2))) == 2
    draw_picture(folder / "ball.jpg", "darkred")
    assert images.embed(folder, exclude="ball.jpg", dry_run=True).embedded == 0
    (tagged,) = images.tag(["red", "blue"], templates="{}")
    assert tagged.label_set.templates == ("{}",)
    assert images.files([np.int64(3)]) == images.files([3])


@pytest.mark.parametrize("table", ["sqlite_x", "SQLITE_x", " "])
def test_a_name_that_no_table_can_have_makes_no_file(tmp_path: Path, folder: Path, table: str):
    with (
        Images(tmp_path / "x.db", table) as images,
        pytest.raises(ImageSearchError, match="cannot be an image table; choose another name"),
    ):
        images.embed(folder, model="palette")
    assert not (tmp_path / "x.db").exists()


def test_what_writes_refuses_changes_that_are_not_committed(database: Path):
    with closing(sqlite3.connect(database)) as conn:
        conn.execute("update images set filename = 'another'")
        images = Images(conn)
        for write in (
            lambda: images.index("flat"),
            lambda: images.tag(["red", "blue"]),
            lambda: next(images.tagging(["red", "blue"])),
            lambda: images.duplicates(write=True),
        ):
            with pytest.raises(ImageSearchError, match="commit them first"):
                write()
        conn.rollback()
        assert images.status()["sidecar"] == "in use"


def test_the_status_of_no_image_table_is_an_error(database: Path):
    with pytest.raises(ImageSearchError, match="'nope' is not an image table"):
        Images(database, "nope").status()


# --- The documentation -------------------------------------------------------------------------------


def test_the_page_of_the_api_prints_what_it_shows(
    demo_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(demo_photos, tmp_path / "demo" / "photos")
    monkeypatch.chdir(tmp_path)
    blocks = blocks_of(PAGE.read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        if block.language == "python":
            printed = io.StringIO()
            with redirect_stdout(printed):
                exec(block.text, names)
            shown = after.text if after is not None and after.is_output else ""
            assert printed.getvalue() == shown, block.text


def test_the_page_has_every_method_and_each_has_an_example():
    text = PAGE.read_text(encoding="utf-8")
    methods = [name for name in vars(Images) if not name.startswith("_")]
    for name in methods:
        if callable(getattr(Images, name)):
            assert f"\n### {name}(" in text
            assert re.search(r"\n    .*images\b", getattr(Images, name).__doc__, re.IGNORECASE)
