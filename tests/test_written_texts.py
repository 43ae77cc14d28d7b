"""What is written about images is found, and only that, whichever tool writes."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from datasette_image_search.store import StoreError
from datasette_image_search.store.imports import ImportedImage, add_imported
from datasette_image_search.store.schema import ensure_keywords, ensure_tables
from datasette_image_search.store.tables import ImageTable, find_image_table
from datasette_image_search.store.triggers import without_triggers
from datasette_image_search.store.written_texts import TEXT_COLUMNS, text_columns

from .commands import change, query
from .random_tables import AWKWARD_NAMES

OF_OURS = (*TEXT_COLUMNS, "images_keywords", "images_tags", "images_text")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty image table, made as embed-images does."""
    path = tmp_path / "photos.db"
    with closing(Database(path)) as db:
        ensure_keywords(db, ensure_tables(db, "images"))
    return path


def add(
    path: Path, id: int, filename: str = "a.jpg", folder: str = "", verb: str = "insert"
) -> None:
    """By another program, which knows nothing of this one."""
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute(
            f"{verb} into images (id, root_id, path, folder, filename) values (?, 1, ?, ?, ?)",
            [id, f"{folder}/{filename}", folder, filename],
        )


def found(path: Path, words: str, table: str = "images") -> list[int]:
    """The keys of the images, by FTS5 itself."""
    return [
        key
        for (key,) in query(
            path,
            f'select image_id from "_{table}_texts" where id in (select rowid from '
            f""""_{table}_texts_fts" where "_{table}_texts_fts" match '{words}') order by image_id""",
        )
    ]


def is_whole(path: Path, table: str = "images") -> bool:
    """Whether the table of FTS5 agrees with itself and has a row for each image."""
    change(
        path,
        f"""insert into "_{table}_texts_fts"("_{table}_texts_fts") values ('integrity-check')""",
    )
    rows = query(path, f'select count(*) from "_{table}_texts_fts"')
    return (
        rows
        == query(path, f'select count(*) from "_{table}_texts"')
        == query(path, f'select count(*) from "{table}"')
    )


@pytest.mark.parametrize(
    ("filename", "words"),
    [
        ("IMG_2041-lisbon.jpg", ["img", "2041", "lisbon"]),
        ("Łódź.2019.jpg", ["łodz", "ŁÓDŹ", "2019"]),
        ("lisbon2019.jpg", ["lisbon", "2019", "lisbon2019"]),
        ("DSC01234.JPG", ["dsc", "01234", "dsc01234", "jpg"]),
        ("Ünal 3.png", ["unal", "3"]),
    ],
)
def test_the_words_of_a_name(path: Path, filename: str, words: list[str]):
    add(path, 1, filename)
    for word in words:
        assert found(path, word) == [1], word
    assert found(path, "isbon OR 04") == []


def test_whatever_is_written(path: Path):
    add(path, 7, "a.jpg", "2019/Sintra trip")
    assert found(path, "sintra") == [7]
    change(
        path, "update images set title = 'Palácio', description = 'the yellow castle' where id = 7"
    )
    assert found(path, "palacio yellow") == [7]
    change(path, "insert into images_keywords values (7, 'roses'), (7, 'blue sky')")
    assert found(path, "roses sky sintra") == [7]
    change(path, "update images_keywords set keyword = 'tulips' where keyword = 'roses'")
    assert (found(path, "roses"), found(path, "tulips")) == ([], [7])
    change(path, "delete from images_keywords where keyword = 'tulips'")
    assert (found(path, "tulips"), found(path, "sky")) == ([], [7])
    change(path, "update images set title = null, folder = 'Porto' where id = 7")
    assert (found(path, "palacio OR sintra"), found(path, "porto")) == ([], [7])
    assert is_whole(path)


def test_places_are_found_as_soon_as_there_are_some(path: Path):
    add(path, 1)
    change(path, "alter table images add column city", "alter table images add column country")
    change(path, "update images set city = 'Évora', country = 'Portugal'")
    assert found(path, "evora portugal") == [1]


def test_what_is_deleted_or_replaced_is_gone(path: Path):
    add(path, 1, "lisbon.jpg")
    add(path, 2, "porto.jpg")
    change(path, "insert into images_keywords values (1, 'roses')")
    add(path, 1, "faro.jpg", verb="insert or replace")
    assert (found(path, "lisbon OR roses"), found(path, "faro")) == ([], [1])
    change(path, "delete from images where id = 2")
    assert found(path, "porto") == []
    assert is_whole(path)


def test_words_follow_a_row_that_is_renumbered(path: Path):
    add(path, 1, "lisbon.jpg")
    change(path, "insert into images_keywords values (1, 'roses')")
    change(path, "update images set id = 9")
    assert found(path, "lisbon roses") == [9]
    assert is_whole(path)


def test_a_vacuum_changes_nothing(path: Path):
    for id in (5, 6, 7):
        add(path, id, f"place{id}.jpg")
    change(path, "delete from images where id = 5")
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("vacuum")
    assert found(path, "place7") == [7]


def test_a_person_may_drop_and_rename_columns(path: Path):
    add(path, 1, "lisbon.jpg")
    change(path, "update images set title = 'Tejo', description = 'river'")
    change(path, "alter table images drop column description")
    change(path, "alter table images rename column title to caption")
    change(path, "update images set caption = 'Douro'")
    assert (found(path, "tejo OR river"), found(path, "douro")) == ([], [1])
    change(path, "alter table images add column description")
    change(path, "update images set description = 'boats'")
    assert found(path, "boats") == [1]


@pytest.mark.parametrize(
    "harm",
    [
        lambda db: db["images"].transform(drop={"iso"}),
        lambda db: db.execute("drop table _images_texts_fts"),
        lambda db: db.execute("drop table _images_texts"),
    ],
)
def test_what_nobody_kept_meanwhile_is_made_up_for(path: Path, harm: Callable[[Database], None]):
    add(path, 1, "lisbon.jpg")
    with closing(Database(path)) as db:
        harm(db)
        for (trigger,) in db.execute(
            "select name from sqlite_master where type = 'trigger'"
        ).fetchall():
            db.execute(f'drop trigger "{trigger}"')
    change(
        path,
        "update images set filename = 'porto.jpg'",
        "insert into images_keywords values (1, 'roses')",
    )
    add(path, 2, "faro.jpg")
    with closing(Database(path)) as db:
        ensure_tables(db, "images")
    assert found(path, "lisbon") == []
    assert (found(path, "porto roses"), found(path, "faro")) == ([1], [2])
    assert is_whole(path)


@pytest.mark.parametrize("side", ["_images_texts", "_images_texts_fts"])
def test_a_table_that_was_dropped_keeps_nobody_from_updating_what_is_no_text(path: Path, side: str):
    add(path, 1, "lisbon.jpg")
    change(path, f"drop table {side}", "update images set rating = 3")
    with closing(Database(path)) as db:
        ensure_tables(db, "images")
    change(path, "update images set title = 'Tejo', id = 30")
    assert found(path, "lisbon tejo") == [30]


def test_to_make_the_tables_again_rewrites_nothing(path: Path):
    add(path, 1, "lisbon.jpg")
    change(path, "insert into images_keywords values (1, 'roses')")
    before = query(path, "select * from _images_texts_fts_data")
    with closing(Database(path)) as db:
        ensure_tables(db, "images")
    assert query(path, "select * from _images_texts_fts_data") == before


def test_images_that_are_added_by_the_million(path: Path):
    add(path, 1, "lisbon.jpg")
    with closing(Database(path)) as db:
        table = find_image_table(db.conn, "images")
        with without_triggers(db, table):
            add_imported(
                db, table, [ImportedImage(1, "trip/porto.jpg"), ImportedImage(1, "faro.jpg")]
            )
    assert (found(path, "porto trip"), found(path, "faro"), found(path, "lisbon")) == (
        [2],
        [3],
        [1],
    )
    assert is_whole(path)


def test_a_table_that_was_dropped_leaves_no_words(path: Path):
    add(path, 1, "lisbon.jpg")
    with closing(Database(path)) as db:
        db["image_search_indexes"].insert(
            {"image_table": "images", "model": "palette", "fingerprint": "1", "dimensions": 1}
        )
        db["images"].drop()
        ensure_tables(db, "images")
    assert found(path, "lisbon") == []


# --- Tables of a person's own --------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(tmp_path / "own.db")) as db:
        db["cards"].insert_all(
            [
                {
                    "code": "a b",
                    "file": "x/lisbon.jpg",
                    "title": "Tejo",
                    "notes": "by Ana",
                    "tags": "one",
                    "scan": b"roses",
                },
                {
                    "code": "c",
                    "file": None,
                    "title": 7,
                    "notes": "roses",
                    "tags": "two",
                    "scan": b"",
                },
            ],
            pk="code",
        )
        yield db


def of_own(db: Database, words: str) -> list[str]:
    rows = db.execute(
        "select image_id from _cards_texts where id in (select rowid from _cards_texts_fts where "
        "_cards_texts_fts match ?) order by image_id",
        [words],
    )
    return [key for (key,) in rows]


def test_the_usual_columns_of_a_persons_own_table(own: Database):
    ensure_tables(own, "cards", "file")
    assert text_columns(own.conn, find_image_table(own.conn, "cards"))[:2] == ("file", "title")
    assert (of_own(own, "lisbon tejo"), of_own(own, "7"), of_own(own, "ana OR roses")) == (
        ["a b"],
        ["c"],
        [],
    )
    own.execute("update cards set code = 'z' where code = 'c'")
    own.execute("update cards set title = 'Douro' where code = 'a b'")
    assert (of_own(own, "7"), of_own(own, "douro"), of_own(own, "tejo")) == (["z"], ["a b"], [])


def test_columns_that_a_person_names(own: Database):
    ensure_tables(own, "cards", "scan", ["notes", "TAGS"])
    assert (of_own(own, "ana one"), of_own(own, "two"), of_own(own, "lisbon OR tejo")) == (
        ["a b"],
        ["c"],
        [],
    )
    ensure_tables(own, "cards", "scan")
    assert of_own(own, "ana") == ["a b"]
    ensure_tables(own, "cards", "scan", ["file", "scan"])
    assert (of_own(own, "lisbon"), of_own(own, "ana OR roses")) == (["a b"], [])


def test_columns_of_a_persons_own_in_a_table_from_folders(path: Path):
    with closing(Database(path)) as db:
        db["images"].add_column("notes", str)
        ensure_tables(db, "images", None, ["notes"])
        ensure_tables(db, "images")
    add(path, 1, "lisbon.jpg")
    change(path, "update images set notes = 'by Ana'")
    assert found(path, "ana lisbon") == [1]


def test_columns_that_there_are_not(own: Database):
    with pytest.raises(StoreError, match="no column 'nots'; it has code, file, title"):
        ensure_tables(own, "cards", "file", ["title", "nots"])
    own["cards"].add_column("rank", str)
    with pytest.raises(StoreError, match="'rank' cannot be searched"):
        ensure_tables(own, "cards", "file", ["rank"])


def test_a_column_that_is_computed_of_others(own: Database):
    own.execute("alter table cards add column label as (title || ' by hand')")
    ensure_tables(own, "cards", "file", ["label"])
    own.execute("update cards set title = 'Sado' where code = 'c'")
    assert of_own(own, "hand sado") == ["c"]


def test_keys_that_are_none(own: Database):
    ensure_tables(own, "cards", "file")
    own.execute("insert into cards (code, title) values (null, 'nothing'), (x'00', 'bytes')")
    own.execute("update cards set title = 'else' where code is null")
    assert (of_own(own, "nothing OR else"), of_own(own, "bytes")) == ([], [b"\0"])


@pytest.mark.parametrize("name", AWKWARD_NAMES)
def test_any_names(tmp_path: Path, name: str):
    with closing(Database(tmp_path / "own.db")) as db:
        db[name].insert({name: "k", "b": "lisbon"}, pk=name)
        table = ensure_tables(db, name, None, ["b", name])
        assert text_columns(db.conn, table)[:2] == ("b", name)
        texts, fts = table.quoted()["texts"], table.quoted()["texts_fts"]
        sql = f"select image_id from {texts} where id in (select rowid from {fts} where {fts} match 'lisbon')"
        assert db.execute(sql).fetchall() == [("k",)]


# --- Tables of anybody ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "harm",
    [
        "drop table _images_texts_fts",
        "drop table _images_texts_fts; create view _images_texts_fts as select 1 as filename",
        "drop table _images_texts_fts; create table _images_texts_fts (filename)",
        "drop table _images_texts_fts; create virtual table _images_texts_fts using fts5(filename, content=images)",
        "drop table _images_texts; create view _images_texts as select 1 as id, 1 as image_id",
        "drop table _images_texts; create table _images_texts (id, image_id as (zeroblob(9)))",
    ],
)
def test_a_table_that_is_not_as_it_is_made_here_is_not_read(path: Path, harm: str):
    table = ImageTable("images", "id", True, "root_id", "path", "sha256")
    with closing(sqlite3.connect(path)) as conn:
        assert text_columns(conn, table) == OF_OURS
        conn.executescript(harm)
        assert text_columns(conn, table) == ()


def test_any_changes_in_any_order(path: Path):
    """What FTS5 finds at the end is what is in the tables."""
    rng = random.Random(5)
    words = ["alba", "bruma", "cedro", "duna"]
    for _ in range(150):
        id, word = rng.randrange(1, 6), rng.choice(words)
        step = rng.choice(["insert", "replace", "title", "keyword", "drop", "delete", "renumber"])
        if step in ("insert", "replace"):
            add(
                path,
                id,
                f"{word}.jpg",
                str(id),
                verb=f"insert or {'ignore' if step == 'insert' else step}",
            )
        statement = {
            "title": f"update images set title = '{word}' where id = {id}",
            "keyword": f"insert or ignore into images_keywords select id, '{word}' from images where id = {id}",
            "drop": f"delete from images_keywords where keyword = '{word}'",
            "delete": f"delete from images where id = {id}",
            "renumber": f"update or ignore images set id = {rng.randrange(1, 6)} where id = {id}",
        }.get(step)
        if statement:
            change(path, statement)
    assert is_whole(path)
    for word in words:
        expected = query(
            path,
            f"select id from images where filename like '{word}%' or title = '{word}' or exists (select 1 "
            f"from images_keywords where image_id = images.id and keyword = '{word}') order by id",
        )
        assert found(path, word) == [id for (id,) in expected]
