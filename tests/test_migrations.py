"""
A database as it was before there were migrations, made by embed-images, import-image-vectors, tag-images and
find-duplicates of that time: `before_migrations.sql`.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sqlite_utils import Database

from datasette_image_search import store
from datasette_image_search.search.freshness import live_index
from datasette_image_search.search.query import QueryError, image_term, query_vector
from datasette_image_search.sql.functions import register_functions
from datasette_image_search.store import migrations, schema_version
from datasette_image_search.store.migrations import migrate
from datasette_image_search.store.reads import newest_ids
from datasette_image_search.store.schema_version import MIGRATIONS, applied
from datasette_image_search.store.side_schema import ADDED_COLUMNS
from datasette_image_search.store.tables import SIDE_TABLES
from datasette_image_search.store.vectors import image_vector

from .commands import change, command, query
from .faults.forked import Forker
from .planning import search_one
from .serving import datasette_of, get, query_page
from .vector_files import write_npy

DUMP = Path(__file__).with_name("before_migrations.sql")

TABLES = ("images", "files", "scans", "cards")
"""From folders, and of a person's own with paths, with BLOBs, and with BLOBs and texts for keys."""

TEXTS = tuple(name for kind, name in SIDE_TABLES.items() if kind.startswith("texts"))

SENTENCE = "this database was written by a newer version of datasette-image-search; install that"

LINE = "from an older version to this one"

Rows = dict[str, list[tuple]]
Hits = dict[tuple[str, str, str], list[tuple[store.Key, float]]]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return make_old(tmp_path)


def make_old(folder: Path) -> Path:
    database = folder / "photos.db"
    pictures = folder / "the folder"
    (pictures / "trip").mkdir(parents=True)
    with closing(sqlite3.connect(database)) as conn:
        conn.executescript(DUMP.read_text(encoding="utf-8"))
        with conn:
            conn.execute("update image_search_roots set path = ?", [str(pictures)])
            conn.execute("pragma user_version = 7")
        scans = dict(conn.execute("select title, scan from scans"))
        images = conn.execute("select path, unixepoch(mtime) from images").fetchall()
    for path, when in images:
        name = Path(path).name.removesuffix(".bmp").removesuffix(" again")
        (pictures / path).write_bytes(scans[name])
        os.utime(pictures / path, (when, when))
    (pictures / "broken.bmp").write_bytes(b"BM nothing")
    os.utime(pictures / "broken.bmp", (1_600_000_010, 1_600_000_010))
    return database


def rows_of(database: Path) -> Rows:
    """All rows, but for the state of the sidecars, which each run may write anew."""
    columns = "id, image_table, model, fingerprint, dimensions, generation, identity, unfinished"
    with closing(sqlite3.connect(database)) as conn:
        names = conn.execute(
            "select name from sqlite_master where type = 'table' "
            "and name not in ('image_search_migrations', 'image_search_indexes')"
        ).fetchall()
        selects = {name: f'select * from "{name}" order by 1, 2' for (name,) in names}
        selects["indexes"] = f"select {columns} from image_search_indexes"
        return {name: conn.execute(sql).fetchall() for name, sql in selects.items()}


def answers_of(conn: sqlite3.Connection) -> Hits:
    """(table, model, query) -> hits, by each image and, for palette, by words."""
    hits = {}
    for table in TABLES:
        for index in store.read_indexes(conn, table):
            image_table = store.find_image_table(conn, table)
            queries = [image_term(key) for key in newest_ids(conn, image_table, 10)]
            for each in [*queries, *(["dark red"] if index.model == "palette" else [])]:
                try:
                    vector = query_vector(conn, index, each).vector
                except QueryError:
                    continue
                found = search_one(conn, index, vector, 10)
                hits[table, index.model, each] = [(hit.id, hit.score) for hit in found.hits]
    return hits


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Hits:
    """Those of a database that was not brought up to date."""
    old = make_old(tmp_path_factory.mktemp("old"))
    with closing(sqlite3.connect(f"file:{old}?immutable=1", uri=True)) as conn:
        return answers_of(conn)


def test_an_old_database_is_searched_as_it_is(old: Path, answers: Hits) -> None:
    """From a file that nobody may write to: of each image itself first, and the cosines of what is stored."""
    before = old.read_bytes()
    with closing(sqlite3.connect(f"file:{old}?mode=ro", uri=True)) as conn:
        register_functions(conn)
        assert answers_of(conn) == answers
        assert len(answers) > 15
        for (table, model, query), hits in answers.items():
            assert len(hits) >= 4
            index = store.find_index(conn, table, model)
            asked = query_vector(conn, index, query).vector
            for key, score in hits:
                assert score == pytest.approx(
                    float(image_vector(conn, index, key) @ asked), abs=1e-6
                )
        status = conn.execute("select image_search_status('scans')").fetchone()[0]
        assert '"vectors": 4' in status
    for table in TABLES:
        assert command("search-images", old, table, "red", "--model", "palette").exit_code == 0
    assert old.read_bytes() == before


@pytest.mark.datasette
@pytest.mark.asyncio
async def test_datasette_serves_an_old_database_as_it_is(old: Path, answers: Hits) -> None:
    before = old.read_bytes()
    datasette = datasette_of(old)
    for table in TABLES:
        page = f"/-/image-search/photos/{table}"
        found = (await get(datasette, f"{page}.json", q="dark red")).json()["hits"]
        expected = answers[table, "palette", "dark red"]
        assert [hit["score"] for hit in found] == pytest.approx(
            [score for _, score in expected], abs=1e-4
        )
        key = str(expected[0][0]).replace(" ", "~20")
        assert (await get(datasette, f"{page}/{key}/thumbnail")).status_code == 200
    assert old.read_bytes() == before


COMMANDS = {
    "embed a folder": ("embed-images", "images", "the folder", "--model", "palette", "-s"),
    "embed paths": ("embed-images", "files", "-s"),
    "embed BLOBs": ("embed-images", "scans", "-s"),
    "embed BLOBs by texts": ("embed-images", "cards", "-s"),
    "tag": ("tag-images", "scans", "-s"),
    "index": ("index-images", "files", "-s"),
    "find duplicates": (
        *("find-duplicates", "images", "--model", "palette"),
        *("--threshold", "0.95", "--write", "-s"),
    ),
    "import": ("import-image-vectors", "images", "new/vectors.npy", "--model", "my/model", "-s"),
}


@pytest.fixture(params=COMMANDS)
def line(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch) -> tuple[str, ...]:
    """A command and its arguments, less the database."""
    monkeypatch.chdir(tmp_path)
    name, table, *options = COMMANDS[request.param]
    if name == "import-image-vectors":
        (tmp_path / "new").mkdir()
        paths = ["red.bmp", "green.bmp", "trip/blue.bmp", "trip/white.bmp"]
        write_npy(tmp_path / "new", paths, np.eye(4, 6, dtype=np.float32))
        options += ["--paths", "new/paths.txt", "--root", "the folder"]
    if name == "tag-images":
        options += ["red", "blue"]
    return name, table, *options


def run(database: Path, line: tuple[str, ...]):
    name, *rest = line
    return command(name, database, *rest)


def test_the_first_command_that_writes_brings_it_to_this_version(
    old: Path, answers: Hits, line: tuple[str, ...]
) -> None:
    before = rows_of(old)
    done = run(old, line)
    assert done.exit_code == 0, done.output
    assert done.output.count(LINE) == 1
    now = rows_of(old)
    made = {"scans_tags"} if line[0] == "tag-images" else set()
    texts = {name.format(table) for table in TABLES for name in TEXTS}
    scenes = {f"_{table}_scenes" for table in TABLES}
    assert now.keys() - before.keys() == made | texts | scenes | {"_images_beside"}
    added = len(ADDED_COLUMNS)
    assert all(row[-added:] == (None,) * added for row in now["images"])
    now["images"] = [row[:-added] for row in now["images"]]
    for table in before.keys() - {"image_search_label_sets", "sqlite_sequence"}:
        # What failed was not embedded, so that none of it is a warning. There were no films.
        added = (0,) if table.endswith("_failures") else ()
        added = (None,) if table.endswith("_vectors") else added
        assert now[table] == [(*row, *added) for row in before[table]], table
    with closing(sqlite3.connect(old)) as conn:
        assert answers_of(conn) == answers
    names = query(old, "select name from image_search_migrations order by name")
    assert [name for (name,) in names] == list(MIGRATIONS)
    assert query(old, "pragma user_version") == [(7,)]
    again = run(old, line)
    assert again.exit_code == 0, again.output
    assert LINE not in again.output


def test_a_dry_run_leaves_it_as_it_is(old: Path) -> None:
    before = old.read_bytes()
    done = command("embed-images", old, "scans", "--dry-run")
    assert (done.exit_code, done.output) == (0, "Would be: 0 embedded, 4 unchanged, 0 failed\n")
    assert old.read_bytes() == before


def test_a_new_database_says_nothing_of_older_ones(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    done = command("embed-images", new, "images", tmp_path / "the folder", "--model", "palette")
    assert done.exit_code == 0, done.output
    assert LINE not in done.output
    assert query(new, "select count(*) from image_search_migrations") == [(len(MIGRATIONS),)]


def test_sources_of_images_that_are_gone_go(old: Path) -> None:
    change(old, "delete from scans where id = 10")
    assert len(query(old, "select * from _scans_sources")) == 4
    assert command("index-images", old, "images", "--model", "palette").exit_code == 0
    assert query(old, "select image_id from _scans_sources") == [(20,), (30,), (40,)]


def test_a_table_that_somebody_has_changed_does_not_stop_the_others(old: Path) -> None:
    change(old, "alter table cards rename to faces", "drop table _scans_vectors")
    with closing(Database(old)) as db:
        db["images"].transform(pk="path")
    done = command("index-images", old, "files")
    assert done.exit_code == 0, done.output
    assert LINE in done.output
    for name, vectors in (("cards", 4), ("images", 9)):
        assert query(old, f"select count(*) from _{name}_vectors") == [(vectors,)]


@pytest.mark.parametrize("command_before", [True, False])
def test_a_table_that_lost_its_vectors_gets_all_columns(
    old: Path, tmp_path: Path, command_before: bool
) -> None:
    """The program's own advice, to embed everything again, has to work, whenever the migration was."""
    embed = "embed-images", old, "images", tmp_path / "the folder", "--model", "palette"
    change(old, "drop table _images_vectors")
    if command_before:
        assert command("index-images", old, "files").exit_code == 0
    refused = command(*embed)
    assert refused.exit_code == 1
    assert "--replace-model" in refused.output
    for options in (["--replace-model"], []):
        done = command(*embed, *options)
        assert done.exit_code == 0, done.output
    with closing(Database(old)) as db:
        assert set(ADDED_COLUMNS) <= db["images"].columns_dict.keys()
        assert "_images_own_columns" not in db.table_names()
        assert db["_images_beside"].count == 0


def test_a_table_with_another_key_gets_all_columns(old: Path, tmp_path: Path) -> None:
    with closing(Database(old)) as db:
        db["images"].transform(pk="path")
        assert command("index-images", old, "files").exit_code == 0
        db["images"].transform(pk="id")
    done = command("embed-images", old, "images", tmp_path / "the folder", "--model", "palette")
    assert done.exit_code == 0, done.output
    assert query(old, "select * from _images_beside where files is null") == []
    assert "_images_own_columns" not in Database(old).table_names()


@pytest.mark.parametrize("side", ["_scans_thumbnails", "_scans_failures", "_scans_sources"])
def test_a_lost_side_table_stops_no_table_and_is_made_again(
    old: Path, answers: Hits, side: str
) -> None:
    change(old, f"drop table {side}")
    done = command("index-images", old, "files")
    assert done.exit_code == 0, done.output
    assert query(old, f"select count(*) from {side}") == [(0,)]
    with closing(sqlite3.connect(old)) as conn:
        assert answers_of(conn) == answers
    change(old, "delete from scans where id = 10")
    assert (10,) not in query(old, "select image_id from _scans_vectors")


@pytest.mark.parametrize("side", ["_scans_thumbnails", "_scans_tokens", "_scans_vectors"])
def test_a_view_in_the_place_of_a_side_table_is_named(old: Path, side: str) -> None:
    change(old, f"drop table {side}")
    change(old, f"create view {side} as select 1 as image_id")
    schema = query(old, "select sql from sqlite_master")
    done = command("embed-images", old, "scans")
    assert done.exit_code == 1
    (sentence,) = done.stderr.splitlines()
    assert side in sentence
    assert query(old, "select sql from sqlite_master") == schema


def test_a_renamed_column_can_be_renamed_again(old: Path) -> None:
    """SQLite corrects the column in our trigger, and refuses to rename one of a table with a wrong trigger."""
    change(old, "alter table scans rename column scan to image")
    done = command("index-images", old, "files")
    assert done.exit_code == 0, done.output
    change(old, "alter table scans rename column image to picture")
    change(old, "update scans set picture = null where id = 10")
    assert (10,) not in query(old, "select image_id from _scans_vectors")


def kill(db: Database) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def migrate_and_be_killed(database: Path, step: int) -> None:
    """For a process of its own, which ends before this step, or after the last."""
    steps = [*migrations._STEPS[:step], kill, *migrations._STEPS[step:]]
    migrations._STEPS = tuple(steps)
    names = tuple(map(str, range(len(steps))))
    migrations.MIGRATIONS = schema_version.MIGRATIONS = names
    migrate(Database(database))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no such signal")
@pytest.mark.parametrize("step", range(len(MIGRATIONS) + 1))
def test_a_kill_within_a_migration_leaves_the_old_tables(
    old: Path, forker: Forker, step: int
) -> None:
    """What a kill between any two writes leaves is for tests/faults/."""
    change(old, "delete from scans where id = 10")
    before, schema = rows_of(old), query(old, "select sql from sqlite_master")
    assert forker.begin(migrate_and_be_killed, old, step).wait().killed
    assert rows_of(old) == before
    assert query(old, "select sql from sqlite_master") == schema


# --- Newer versions, and what is none --------------------------------------------------------------


@pytest.fixture(scope="module")
def made_newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a version will leave it that is not written yet, to be copied."""
    made = make_old(tmp_path_factory.mktemp("newer"))
    with closing(Database(made, execute_plugins=False)) as db:
        assert migrate(db)
        db["image_search_migrations"].insert({"name": "m999_to_come"})
    return made


@pytest.fixture
def newer(made_newer: Path, old: Path) -> Path:
    shutil.copy(made_newer, old)
    change(old, f"update image_search_roots set path = '{old.parent / 'the folder'}'")
    return old


def test_a_command_stops_at_a_newer_version(newer: Path, line: tuple[str, ...]) -> None:
    before = newer.read_bytes()
    done = run(newer, line)
    assert done.exit_code == 1
    assert done.output.startswith(f"Error: {SENTENCE}")
    assert done.output.count("\n") == 1
    assert newer.read_bytes() == before


@pytest.mark.parametrize(
    "line",
    [
        ("search-images", "scans", "red"),
        ("find-duplicates", "scans"),
        ("plot-images", "scans", "map.png"),
        ("embed-images", "scans", "--dry-run"),
    ],
)
def test_one_that_only_reads_stops_too(newer: Path, line: tuple[str, ...]) -> None:
    done = run(newer, line)
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert SENTENCE in done.output


def test_sql_functions_say_so(newer: Path) -> None:
    with closing(sqlite3.connect(newer)) as conn:
        register_functions(conn)
        (status,) = conn.execute("select image_search_status()").fetchone()
        assert SENTENCE in status
        with pytest.raises(sqlite3.OperationalError):
            conn.execute("select image_search('red', 3, 'images')").fetchall()


@pytest.mark.datasette
@pytest.mark.asyncio
async def test_datasette_says_so_and_serves_the_others(newer: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    command("embed-images", other, "images", tmp_path / "the folder", "--model", "palette")
    datasette = datasette_of(newer, other)
    page = await get(datasette, "/-/image-search/photos/images", q="red")
    assert page.status_code == 503
    assert SENTENCE in page.text
    assert (await get(datasette, "/-/image-search/photos/images/1/thumbnail")).status_code == 503
    for pages in ("/-/image-search", "/-/image-search/photos"):
        page = await get(datasette, pages)
        assert (page.status_code, SENTENCE in page.text) == (200, True)
    page = await get(datasette, "/photos/images", _image_search="red")
    assert page.status_code == 400
    assert SENTENCE in page.text
    assert (await get(datasette, "/photos/images")).status_code == 200
    asked = await query_page(datasette, "select image_search('red', 3, 'images')")
    assert SENTENCE in asked.text
    assert (await get(datasette, "/-/image-search/other/images", q="red")).status_code == 200


@pytest.mark.datasette
@pytest.mark.asyncio
async def test_the_log_of_datasette_says_so(newer: Path, caplog) -> None:
    from datasette_image_search.web.server.starting import warm_up

    warm_up(datasette_of(newer), {"photos": newer})
    assert caplog.messages == [f"photos is not searched: {caplog.messages[0].partition(': ')[2]}"]
    assert SENTENCE in caplog.text


@pytest.mark.parametrize(
    "made",
    [
        "create view image_search_migrations as select 'm999' as name, 1 as applied_at",
        "create table image_search_migrations (mine text)",
        "create table image_search_migrations as select 'swallows' as name, 1 as mine",
        "create table image_search_migrations (mine, name as (zeroblob(900000000)))",
    ],
    ids=["view", "other columns", "a name", "computed"],
)
def test_something_else_of_that_name_is_neither_believed_nor_written_to(
    old: Path, answers: Hits, made: str
) -> None:
    change(old, made)
    before = old.read_bytes()
    with closing(sqlite3.connect(old)) as conn:
        assert answers_of(conn) == answers
    done = command("index-images", old, "files", "-s")
    assert done.exit_code == 1
    sentence = "the table or view 'image_search_migrations' was not made by this program; rename it"
    assert done.output == f"Error: {sentence}\n"
    assert old.read_bytes() == before


def test_what_is_no_text_is_the_name_of_no_migration(old: Path) -> None:
    change(
        old,
        "create table image_search_migrations (name, applied_at)",
        "insert into image_search_migrations values (null, null), (x'ff', 7), (1e300, '')",
    )
    with closing(sqlite3.connect(old)) as conn, pytest.raises(store.NewerVersion):
        live_index(conn, store.find_index(conn, "images"))


@pytest.mark.parametrize(
    "rows",
    [
        "insert into image_search_migrations select 'm002_tokens', '' from n",
        "insert into image_search_migrations values (hex(zeroblob(10000000)), '')",
    ],
    ids=["many rows", "a long name"],
)
def test_little_of_a_list_that_somebody_else_made_is_read(old: Path, rows: str) -> None:
    numbers = "with n as (select 1 union all select 1 from n limit 300000)"
    change(old, "create table image_search_migrations (name, applied_at)", f"{numbers} {rows}")
    with closing(sqlite3.connect(old)) as conn:
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1

        conn.set_progress_handler(step, 1)
        names = applied(conn)
    assert steps < 5_000
    assert len(names) == 1
    assert max(map(len, names)) <= 1_000


def test_a_list_is_read_whatever_a_connection_makes_of_its_rows(old: Path) -> None:
    change(old, "create table image_search_migrations (name, applied_at)")
    change(old, f"insert into image_search_migrations values ('{MIGRATIONS[0]}', '')")
    with closing(sqlite3.connect(old)) as conn:
        conn.row_factory = lambda cursor, row: {"name": row[0]}
        assert applied(conn) == {MIGRATIONS[0]}
