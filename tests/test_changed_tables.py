"""What people do to an image table with other tools: each works, or is told what to do about."""

from __future__ import annotations

import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from datasette.app import Datasette
from sqlite_utils import Database

from datasette_image_search import store
from datasette_image_search.search import planner
from datasette_image_search.store.vectors import image_vector

from .commands import command
from .conftest import draw_picture, query_json
from .serving import ask, datasette_of

pytestmark = pytest.mark.datasette

PAGE = "/-/image-search/photos/images"


def carry_out(advice: str, database: Path, **names: str) -> None:
    """The command that a sentence ends with."""
    line = advice.partition("with: ")[2].strip()
    for name, value in {"PATH": str(database), **names}.items():
        line = line.replace(name, value)
    result = command(*shlex.split(line)[1:])
    assert result.exit_code == 0, result.output


def found(database: Path, table: str = "images") -> str:
    result = command("search-images", database, table, "red", "-k", 1)
    assert result.exit_code == 0, result.output
    return result.output


# --- Columns ---------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_without_its_path_an_image_is_searched_mapped_and_shown_all_the_same(
    database: Path,
) -> None:
    command("transform", database, "images", "--rename", "path", "file")
    assert "#6" in found(database)
    datasette = datasette_of(database)
    for page in ("", ".json", ".csv", "/map", "/map.json", "/6/thumbnail"):
        assert (await ask(datasette, f"{PAGE}{page}?q=red")).status_code == 200
    assert (await ask(datasette, f"{PAGE}/6/image")).status_code == 404
    names = (await ask(datasette, f"{PAGE}/map.json")).json()["images"]["name"]
    assert sorted(names) == [f"#{number}" for number in range(1, 9)]


@pytest.mark.parametrize("column", ["path", "root_id", "mtime"])
def test_the_next_run_says_how_a_column_is_given_back_its_name(
    database: Path, folder: Path, column: str
) -> None:
    command("transform", database, "images", "--rename", column, "mine")
    result = command("embed-images", database, "images", folder)
    assert result.exit_code == 1
    assert f"has no column {column!r} any more" in result.output
    carry_out(result.output, database, COLUMN="mine")
    again = command("embed-images", database, "images", folder)
    assert again.output.startswith("0 embedded, 8 unchanged")


@pytest.mark.asyncio
async def test_columns_about_the_files_may_be_dropped_for_searching(database: Path) -> None:
    command("transform", database, "images", "--drop", "size", "--drop", "mtime")
    datasette = datasette_of(database)
    found = (await ask(datasette, f"{PAGE}.json?q=red")).json()
    assert len(found["hits"]) == 8, found
    assert (await ask(datasette, f"{PAGE}?q=red")).status_code == 200
    assert command("find-duplicates", database, "images", "--threshold", "0.1").exit_code == 0


@pytest.mark.asyncio
async def test_a_content_hash_that_the_server_hides_hides_no_picture(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As datasette-mask-columns does it: the column reads as NULL."""
    prepare = Datasette._prepare_connection

    def masked(self: Datasette, conn: sqlite3.Connection, name: str) -> None:
        prepare(self, conn, name)
        conn.set_authorizer(
            lambda action, table, column, *_: (
                sqlite3.SQLITE_IGNORE
                if (action, table, column) == (sqlite3.SQLITE_READ, "images", "sha256")
                else sqlite3.SQLITE_OK
            )
        )

    monkeypatch.setattr(Datasette, "_prepare_connection", masked)
    datasette = datasette_of(database)
    hits = (await ask(datasette, f"{PAGE}.json?q=red")).json()["hits"]
    assert (len(hits), hits[0]["id"], hits[0]["row"]["sha256"]) == (8, 6, None)
    assert (await ask(datasette, f"{PAGE}/6/thumbnail")).status_code == 200
    filtered = await ask(datasette, f"{PAGE}.json?q=%236&id__gt=3")
    assert len(filtered.json()["hits"]) == 5
    sql = "select count(image_similarity(id, '#6')) as n from images"
    assert await query_json(datasette, sql) == [{"n": 8}]


def test_without_the_triggers_a_vector_of_another_picture_is_none(database: Path) -> None:
    with closing(Database(database, execute_plugins=False)) as db:
        index = store.find_index(db.conn)
        vector = image_vector(db.conn, index, 6)
        db["images"].transform(rename={"lens": "optics"})
        db["images"].update(6, {"sha256": "another"})
        hits = planner.search(db.conn, index, vector, 8).hits
        assert 6 not in [hit.id for hit in hits]
        assert image_vector(db.conn, index, 6) is None


@pytest.mark.asyncio
async def test_a_filter_by_rowid_stays_in_the_form(database: Path) -> None:
    page = await ask(datasette_of(database), f"{PAGE}?rowid__gt=5")
    assert "<option selected>rowid</option>" in page.text.replace(' value="rowid"', "")


# --- Keys and names --------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["path", "size"])
def test_another_primary_key_is_told_by_all_that_would_look_for_vectors(
    database: Path, folder: Path, key: str
) -> None:
    if key == "size":
        with closing(Database(database, execute_plugins=False)) as db:
            db.execute("update images set size = id * 10")
            db.conn.commit()
    command("transform", database, "images", "--pk", key)
    said = command("search-images", database, "images", "red")
    assert said.exit_code == 1
    assert f"the primary key of 'images' is now {key!r}" in said.output
    for run in (
        ("embed-images", database, "images", folder),
        ("embed-images", database, "images", folder, "--replace-model"),
        ("tag-images", database, "images", "red", "blue"),
        ("find-duplicates", database, "images"),
        ("index-images", database, "images"),
    ):
        result = command(*run)
        assert (result.exit_code, result.output) == (1, said.output)
    status = command("query", database, "select image_search_status() as s").output
    assert f"is now {key!r}" in status
    carry_out(said.output, database)
    assert "red.jpg" in found(database)
    assert command("embed-images", database, "images", folder).exit_code == 0


def test_a_key_of_another_kind_of_a_persons_own_table(tmp_path: Path, folder: Path) -> None:
    database = tmp_path / "own.db"
    with closing(Database(database, execute_plugins=False)) as db:
        db["mine"].insert_all(
            ({"id": n, "file": str(file)} for n, file in enumerate(sorted(folder.iterdir()))),
            pk="id",
        )
    run = ("embed-images", database, "mine", "--path-column", "file", "--model", "palette")
    assert command(*run).exit_code == 0
    command("transform", database, "mine", "--pk", "file")
    for again in (run, ("search-images", database, "mine", "red")):
        result = command(*again)
        assert result.exit_code == 1
        assert "the primary key of 'mine' is now 'file'" in result.output
    carry_out(result.output, database, COLUMN="id")
    assert "red.jpg" in found(database, "mine")


def test_a_key_that_has_another_name_only_is_the_same_key(database: Path, folder: Path) -> None:
    command("transform", database, "images", "--rename", "id", "number")
    assert "red.jpg" in found(database)
    result = command("embed-images", database, "images", folder)
    assert result.output.startswith("0 embedded, 8 unchanged")


@pytest.fixture
def renamed(database: Path) -> Path:
    assert command("rename-table", database, "images", "pictures").exit_code == 0
    return database


@pytest.mark.parametrize(
    "arguments",
    [
        ("search-images", "{}", "pictures", "red"),
        ("search-images", "{}", "images", "red"),
        ("embed-images", "{}", "pictures", "{folder}"),
        ("embed-images", "{}", "images", "{folder}"),
        ("embed-images", "{}", "pictures", "{folder}", "--dry-run"),
        ("find-duplicates", "{}", "pictures"),
        ("plot-images", "{}", "pictures", "map.png"),
    ],
)
def test_a_table_that_was_renamed_is_told_by_either_name(
    renamed: Path, folder: Path, arguments: tuple[str, ...]
) -> None:
    before = renamed.read_bytes()
    result = command(*(each.format(renamed, folder=folder) for each in arguments))
    assert result.exit_code == 1
    assert "the image table 'images' was renamed to 'pictures'" in result.output
    assert renamed.read_bytes() == before
    carry_out(result.output, renamed)
    assert "red.jpg" in found(renamed)


def test_embedded_again_under_the_new_name_nothing_is_left_of_the_old(
    renamed: Path, folder: Path
) -> None:
    run = ("embed-images", renamed, "pictures", folder, "--model", "palette")
    result = command(*run, "--replace-model")
    assert result.output.startswith("8 embedded")
    assert "red.jpg" in found(renamed, "pictures")
    with closing(Database(renamed, execute_plugins=False)) as db:
        names = [name for (name,) in db.execute("select name from sqlite_master")]
        assert [name for name in names if name.startswith("_images_")] == []
    assert command(*run).output.startswith("0 embedded, 8 unchanged")


# --- Tables of a person's own ----------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "sql",
    [
        "create table images_tags (image_id integer, tag text)",
        "create view images_tags as select id as image_id, 'x' as tag from images",
        "create table images_duplicates (id integer primary key, note text)",
    ],
)
async def test_a_persons_own_table_of_such_a_name_is_left_alone(
    database: Path, folder: Path, sql: str
) -> None:
    with closing(sqlite3.connect(database)) as conn:
        conn.execute(sql)
    name = sql.split()[2]
    assert command("embed-images", database, "images", folder).exit_code == 0
    wanted = ("tag-images", "red", "blue") if name == "images_tags" else ("find-duplicates",)
    options = () if name == "images_tags" else ("--write",)
    result = command(wanted[0], database, "images", *wanted[1:], *options)
    assert result.exit_code == 1
    assert f"{name!r} was not made by" in result.output
    datasette = datasette_of(database)
    page = await ask(datasette, f"{PAGE}?q=red&_facet=folder")
    assert page.status_code == 200
    tagged = await ask(datasette, f"{PAGE}.json?_image_tag=red")
    assert tagged.status_code == 400
    with closing(sqlite3.connect(database)) as conn:
        conn.execute("delete from images where id = 6")
        conn.commit()
    assert "red.jpg" not in found(database)


@pytest.mark.parametrize(
    "sql",
    [
        "create trigger mine after insert on _images_vectors begin "
        "update images set lens = image_similarity(new.image_id, 'red') where id = new.image_id; end",
        "create trigger mine after update of sha256 on images begin "
        "update images set lens = image_search('red', 1) where id = new.id; end",
        "create view mine as select id, image_similarity(id, 'red') as score from images",
    ],
)
def test_triggers_and_views_of_a_person_may_use_the_functions(
    database: Path, folder: Path, sql: str
) -> None:
    with closing(sqlite3.connect(database)) as conn:
        conn.execute(sql)
    draw_picture(folder / "pink.jpg", "pink")
    draw_picture(folder / "red.jpg", "crimson")
    result = command("embed-images", database, "images", folder)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("2 embedded")
    assert command("tag-images", database, "images", "red", "blue").exit_code == 0
    if "create view" not in sql:
        with closing(sqlite3.connect(database)) as conn:
            ((written,),) = conn.execute("select count(*) from images where lens is not null")
        assert written >= 1
    filtered = ("search-images", database, "images", "red", "--where")
    assert command(*filtered, "image_similarity(id, 'red') > 0").exit_code == 0


# --- What browsers ask first ---------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("page", ["", ".json", ".csv", "/map.json", "/6/thumbnail", "/upload"])
async def test_a_browser_is_told_what_it_may_ask(database: Path, page: str) -> None:
    answer = await ask(datasette_of(database, cors=True), f"{PAGE}{page}?q=red", method="OPTIONS")
    assert (answer.status_code, answer.text) == (200, "ok")
    assert answer.headers["access-control-allow-origin"] == "*"
    answer = await ask(datasette_of(database), f"{PAGE}{page}?q=red", method="OPTIONS")
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers
