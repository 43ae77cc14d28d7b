"""What is written about images is found, and only that, whichever tool writes."""

from __future__ import annotations

import random
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database
from sqlite_utils.db import quote_identifier

from datasette_image_search.store import StoreError
from datasette_image_search.store.imports import ImportedImage, add_imported
from datasette_image_search.store.indexes import ensure_index
from datasette_image_search.store.metadata import write_keywords
from datasette_image_search.store.migrations import migrate
from datasette_image_search.store.schema import ensure_keywords, ensure_tables
from datasette_image_search.store.tables import ImageTable, find_image_table
from datasette_image_search.store.text_search import TextMatch, Words, text_hits, text_matches
from datasette_image_search.store.triggers import without_triggers
from datasette_image_search.store.written_texts import TEXT_COLUMNS, TEXT_TABLES, text_columns

from .commands import change, query
from .random_tables import AWKWARD_NAMES

OUR_NAMES = (
    *("id", "image_id", "vector_id", "key", "value", "keyword", "_text", "_image", "few"),
    *("oid", "_rowid_", "docid", 'an "id"', "it's [id]"),
)
"""Columns of our tables, and of those of SQLite, that a person may have too."""

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
        # The example of docs/text.md.
        ("IMG_2041-lisbon2019.jpg", ["img", "2041", "lisbon", "2019", "jpg", "lisbon2019"]),
        ("IMG-20190715-WA0012.jpg", ["img", "20190715", "wa", "0012", "WA0012", '"WA 0012"']),
        ("Zürich2019.jpg", ["zurich", "2019", "Zürich2019"]),
        ("a1b2c3 2  04", ["a", "1", "b", "2", "c", "3", "04", '"2 04"', "a1b2c3"]),
        ("Łódź12年.jpg", ["łodz", "12", "年", "jpg"]),
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
    assert found(path, "isbon OR urich OR 4 OR 204 OR 201") == []


@pytest.mark.parametrize(
    ("text", "expected", "as_typed"),
    [
        ("東京", [1, 2], "東京"),
        ("東京*", [1, 2], "東京"),
        ("タワー", [2], "タワー"),
        ("ﾀﾜｰ", [4], "ﾀﾜｰ"),
        ("서울", [3], "서울"),
        ("ไทย", [4], "ไทย"),
        ("lis", [], "lis"),
        ("lis*", [3], "lis*"),
    ],
)
def test_words_that_are_written_without_spaces(
    path: Path, text: str, expected: list[int], as_typed: str
):
    add(path, 1, "東京タワー.jpg")
    add(path, 2, "2019年 東京-タワー.jpg")
    add(path, 3, "서울에서 lisbon.jpg")
    add(path, 4, "ﾀﾜｰﾏﾝ ไทยแลนด์.jpg")
    with closing(sqlite3.connect(path)) as conn:
        table = find_image_table(conn, "images")
        # In quotes a star is a star.
        for words in [Words(text), *([Words(text, is_phrase=True)] if "*" not in text else [])]:
            hits = text_hits(conn, table, [words]).hits
            assert sorted(hit.id for hit in hits) == expected
            matches = text_matches(conn, table, [words], expected)
            assert matches == {id: (TextMatch(as_typed, "filename"),) for id in expected}


def test_keywords_are_split_as_names_are(path: Path):
    add(path, 1)
    change(path, "insert into images_keywords values (1, 'lisbon2019'), (1, 'tram 28E')")
    assert found(path, "lisbon 2019 28 e lisbon2019") == [1]
    assert found(path, "0 OR 2 OR 201") == []


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


@pytest.mark.parametrize(
    ("change_of_image", "words", "expected"),
    [
        ("update images set id = 2, title = 'new'", "rose7 sky lisbon new", [2]),
        ("update images set sha256 = 'other'", "lisbon", [1]),
        ("update images set sha256 = 'other'", "rose7 OR sky", []),
        ("update images set id = 2, sha256 = 'other'", "lisbon", [2]),
        ("update images set id = 2, sha256 = 'other'", "rose7 OR sky", []),
        (
            "insert or replace into images (id, root_id, path, filename) values (1, 1, 'b', 'porto')",
            "porto",
            [1],
        ),
        (
            "insert or replace into images (id, root_id, path, filename) values (1, 1, 'b', 'porto')",
            "rose7 OR sky",
            [],
        ),
        ("delete from images", "rose7 OR sky OR lisbon", []),
    ],
)
def test_the_side_rows_of_an_image_that_changes(
    path: Path, change_of_image: str, words: str, expected: list[int]
):
    add(path, 1, "lisbon.jpg")
    change(path, "insert into images_keywords values (1, 'rose7'), (1, 'sky')", change_of_image)
    assert found(path, words) == expected
    assert is_whole(path)


MANY = [f"word{at}" for at in range(500)]


@pytest.mark.parametrize(
    "step",
    [
        lambda db, table: write_keywords(db, table, {1: [f"{word}x" for word in MANY]}),
        lambda db, table: write_keywords(db, table, {1: []}),
        lambda db, table: db.execute("update images set id = 2"),
        lambda db, table: db.execute("update images set sha256 = 'other'"),
        lambda db, table: db.execute("replace into images (id, root_id, path) values (1, 1, 'b')"),
        lambda db, table: db.execute("delete from images"),
    ],
)
def test_many_keywords_of_an_image_write_its_text_a_few_times(
    path: Path, step: Callable[[Database, ImageTable], object]
):
    """And not for each of them: a picture of a stranger can have thousands."""
    add(path, 1)
    with closing(Database(path)) as db:
        table = find_image_table(db.conn, "images")
        statements = changes_of_texts(db.conn)
        write_keywords(db, table, {1: MANY})
        step(db, table)
        db.conn.commit()
        assert 1 <= len(statements) <= 6
    assert is_whole(path)


def changes_of_texts(conn: sqlite3.Connection) -> list[str]:
    """Grows by what FTS5 itself writes to its copies of texts, from now on."""
    done: list[str] = []
    writes = re.compile("-- (INSERT|REPLACE|UPDATE|DELETE) .*_images_texts_fts_content")
    conn.set_trace_callback(lambda sql: done.append(sql) if writes.match(sql) else None)
    return done


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
    for name in ("rank", "cards_TAGS", "cards_keywords", "cards_text", "_cards_texts_fts"):
        own["cards"].add_column(name, str)
        with pytest.raises(StoreError, match=f"'{name}' cannot be searched"):
            ensure_tables(own, "cards", "file", [name])
        # Nobody has named it, so its texts are left out.
        columns = text_columns(own.conn, ensure_tables(own, "cards", name))
        assert name not in columns[: -len(TEXT_TABLES)]
    own["cards"].add_column("n" * 1001, str)
    with pytest.raises(StoreError, match="more than 1000 characters"):
        ensure_tables(own, "cards", "file", ["n" * 1001])


def test_more_columns_than_there_may_be(own: Database):
    names = [f"note{at}" for at in range(98)]
    for name in names:
        own["cards"].add_column(name, str)
    with pytest.raises(StoreError, match="name at most 97"):
        ensure_tables(own, "cards", "file", names)
    ensure_tables(own, "cards", "file", names[:97])
    own.execute("update cards set note96 = 'last'")
    assert of_own(own, "last") == ["a b", "c"]


def test_numbers_are_written_as_their_column_has_them_whatever_the_others_hold(own: Database):
    for column in ("price real", "year integer", "number text"):
        own.execute(f"alter table cards add column {column}")
    ensure_tables(own, "cards", "file", ["price", "year", "number"])
    own.execute("update cards set price = 5, year = 2019, number = '007' where code = 'c'")
    own.execute(
        "insert into cards (code, price, year, number) values ('d', 1e5, 12345678901234567, 1)"
    )
    texts = "select price, year, number from _cards_texts_fts where rowid > 1 order by rowid"
    assert own.execute(texts).fetchall() == [
        ("5.0", "2019", "007"),
        ("100000.0", "12345678901234567", "1"),
    ]


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


@pytest.mark.parametrize("column", OUR_NAMES)
def test_a_column_with_a_name_that_our_tables_use(tmp_path: Path, column: str):
    """As a path, beside other columns, and when it was dropped."""
    quoted = quote_identifier(column)
    with closing(Database(tmp_path / "own.db")) as db:
        db["cards"].insert_all(
            [{"code": "a", column: "lisbon", "note": "x"}, {"code": "b", column: "faro"}],
            pk="code",
        )
        for wanted in (None, ["note"], [column, "note"]):
            table = ensure_tables(db, "cards", column, wanted)
        assert text_columns(db.conn, table)[:2] == (column, "note")
        ensure_tables(db, "cards", column)
        db["cards"].insert({"code": "c", column: "porto"})
        db.execute(f"update cards set {quoted} = 'tavira' where code = 'b'")
        assert (of_own(db, "lisbon"), of_own(db, "porto"), of_own(db, "tavira OR faro")) == (
            ["a"],
            ["c"],
            ["b"],
        )
        matches = text_matches(db.conn, table, [Words("porto")], ["a", "c"])
        assert matches == {"c": (TextMatch("porto", column),)}
        # SQLite lets nobody drop the column of the paths.
        ensure_tables(db, "cards", "note")
        db.execute("drop trigger _cards_image_search_content_changed")
        ensure_tables(db, "cards", "note")
        db.execute(f"alter table cards drop column {quoted}")
        db["cards"].insert({"code": "d", "note": "sado"})
        assert (of_own(db, "sado"), of_own(db, "lisbon")) == (["d"], ["a"])


@pytest.mark.parametrize("column", OUR_NAMES)
def test_an_older_database_with_such_a_column(tmp_path: Path, column: str):
    with closing(Database(tmp_path / "own.db")) as db:
        migrate(db)
        db["cards"].insert({"code": "a", column: "lisbon"}, pk="code")
        table = ensure_tables(db, "cards", column)
        ensure_index(
            db,
            table,
            model="palette",
            weights=None,
            fingerprint="1",
            dimensions=1,
            path_column=column,
        )
        for trigger in list(db.triggers):
            db.execute(f'drop trigger "{trigger.name}"')
        for name in (table.texts_fts, table.texts):
            db[name].drop()
        db["image_search_migrations"].delete_where("name = 'm007_texts'")
        assert migrate(db)
        assert of_own(db, "lisbon") == ["a"]


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
