"""The SQL functions: in sqlite-utils, in Datasette, and in any connection that registers them."""

from __future__ import annotations

import gc
import json
import sqlite3
import tracemalloc
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakSet

import numpy as np
import pytest
from click.testing import CliRunner
from datasette.app import Datasette
from sqlite_utils import Database
from sqlite_utils.cli import cli

from datasette_image_search import store
from datasette_image_search.embedders.palette import PaletteEmbedder
from datasette_image_search.search import freshness, planner, similarity
from datasette_image_search.search.freshness import live_index
from datasette_image_search.search.hits import Found
from datasette_image_search.search.live import LiveIndex
from datasette_image_search.search.query import vector_to_term
from datasette_image_search.sql import register_functions
from datasette_image_search.store import find_index
from datasette_image_search.store.stored_vectors import vector_to_blob
from datasette_image_search.store.tables import EmbeddedImage
from datasette_image_search.store.vectors import image_vector
from datasette_image_search.store.writes import ensure_roots, write_batch

from .conftest import draw_picture, query_json
from .random_tables import add_images, make_index, make_own_table, make_record, random_vectors

AGREE = 1e-3

DIMENSIONS = PaletteEmbedder().dimensions

# Datasette turns tracebacks of SQL functions on, for its log; here they are expected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def conn(database: Path):
    conn = sqlite3.connect(database)
    register_functions(conn)
    yield conn
    conn.close()


def value(conn: sqlite3.Connection, sql: str, *params: object):
    return conn.execute(sql, params).fetchone()[0]


def hits(conn: sqlite3.Connection, sql: str, *params: object) -> list[dict]:
    return json.loads(value(conn, sql, *params))


def failure(conn: sqlite3.Connection, sql: str, *params: object) -> str:
    """The sentence that `report` gets, where SQLite only says that there was an exception."""
    said: list[str] = []
    register_functions(conn, tell=said.append)
    with pytest.raises(sqlite3.OperationalError, match="user-defined"):
        conn.execute(sql, params).fetchall()
    return said[-1]


# --- image_search --------------------------------------------------------------------------------


def test_the_best_k_first(conn: sqlite3.Connection) -> None:
    found = hits(conn, "select image_search('red', 3)")
    assert found[0]["id"] == 6
    assert [hit["score"] for hit in found] == sorted((hit["score"] for hit in found), reverse=True)
    assert len(found) == 3


def test_more_than_there_are_gives_all(conn: sqlite3.Connection) -> None:
    assert len(hits(conn, "select image_search('red', 1000)")) == 8


def test_an_attached_database_is_named_and_not_looked_into(database: Path) -> None:
    """As in the _memory of `datasette --crossdb`. What others are attached to searches as before."""
    with closing(sqlite3.connect(":memory:")) as conn:
        conn.execute("attach ? as photos", [str(database)])
        for sql in ("select image_search('red', 3)", "select image_search('red', 3, 'images')"):
            assert "attached database 'photos'" in failure(conn, sql)
    with closing(sqlite3.connect(database)) as conn:
        register_functions(conn)
        conn.execute("attach ':memory:' as other")
        assert len(hits(conn, "select image_search('red', 3)")) == 3


def test_joined_to_the_rows_as_the_documentation_does(conn: sqlite3.Connection) -> None:
    rows = conn.execute(
        """
        select images.path, json_extract(hit.value, '$.score')
        from json_each(image_search('#2 + red', 2)) hit
        cross join images on images.id = json_extract(hit.value, '$.id')
        """
    ).fetchall()
    assert {path for path, _ in rows} <= {"blue.jpg", "red.jpg", "purple.jpg"}
    assert rows[0][1] >= rows[1][1]


def test_two_tables_have_to_be_named(
    conn: sqlite3.Connection, tmp_path: Path, embed, database: Path
) -> None:
    draw_picture(tmp_path / "other" / "lime.png", "lime")
    embed(tmp_path / "other", table="other images")
    assert "name one of 'images', 'other images'" in failure(conn, "select image_search('red', 1)")
    assert hits(conn, "select image_search('red', 5, 'other images')")[0]["id"] == 1


# --- image_similarity ----------------------------------------------------------------------------


def test_an_image_is_as_similar_to_itself_as_can_be(conn: sqlite3.Connection) -> None:
    assert value(conn, "select image_similarity(6, '#6')") == pytest.approx(1, abs=1e-5)


def test_scores_are_python_floats_and_agree_with_image_search(conn: sqlite3.Connection) -> None:
    by_search = {
        hit["id"]: hit["score"] for hit in hits(conn, "select image_search('dark green', 8)")
    }
    rows = conn.execute("select id, image_similarity(id, 'dark green') from images").fetchall()
    assert all(isinstance(score, float) for _, score in rows)
    assert dict(rows) == pytest.approx(by_search, abs=AGREE)


def test_no_vector_no_score(conn: sqlite3.Connection) -> None:
    conn.execute("delete from _images_vectors where image_id = 3")
    assert value(conn, "select image_similarity(3, 'red')") is None
    assert value(conn, "select image_similarity(99, 'red')") is None
    assert value(conn, "select image_similarity(null, 'red')") is None


@pytest.mark.parametrize(
    "call",
    [
        "image_similarity(path, 'red')",
        "image_relevance(path, 'red')",
        """image_classify(path, '["red", "blue"]')""",
    ],
)
def test_a_column_that_holds_no_ids_is_an_error(conn: sqlite3.Connection, call: str) -> None:
    sentence = (
        "'black.jpg' is not the id of an image of 'images', whose ids are whole numbers; "
        "name the column 'id'"
    )
    assert failure(conn, f"select {call} from images order by path") == sentence
    assert value(conn, f"select {call.replace('path', 'cast(id as text)')} from images") is not None


def test_a_score_follows_a_change_within_the_same_connection(conn: sqlite3.Connection) -> None:
    before = value(conn, "select image_similarity(1, '#2')")
    conn.execute("delete from images where id = 2")
    assert "no image #2" in failure(conn, "select image_similarity(1, '#2')")
    assert before is not None


def scores_of(conn: sqlite3.Connection, query: str) -> dict[int, float]:
    return dict(conn.execute("select id, image_similarity(id, ?) from images", [query]))


def test_what_another_connection_commits_counts_from_the_next_statement_on(
    conn: sqlite3.Connection, db: Database
) -> None:
    before = scores_of(conn, "red")
    assert scores_of(conn, "red") == pytest.approx(before, abs=1e-6)
    db["images"].delete(3)
    assert value(conn, "select image_similarity(3, 'red')") is None
    picture = image_vector(db.conn, store.find_index(db.conn), 4)
    with db.conn:
        db.execute("insert into images (id, root_id, path, sha256) values (3, 1, 'new.jpg', 'x')")
        db.execute(
            "insert into _images_vectors (index_id, image_id, sha256, vector) values (1, 3, 'x', ?)",
            [vector_to_blob(picture)],
        )
    assert scores_of(conn, "red") == pytest.approx({**before, 3: before[4]}, abs=AGREE)


def test_a_statement_that_writes_scores_what_it_has_not_deleted_yet(
    conn: sqlite3.Connection,
) -> None:
    best = max(scores_of(conn, "red").items(), key=lambda item: item[1])[0]
    conn.execute("delete from images where image_similarity(id, 'red') < 0.5")
    assert list(scores_of(conn, "red")) == [best]


def test_two_statements_that_are_read_in_turns_do_not_disturb_each_other(
    conn: sqlite3.Connection,
) -> None:
    red, blue = scores_of(conn, "red"), scores_of(conn, "blue")
    sql = "select id, image_similarity(id, ?) from images"
    for one, other in zip(conn.execute(sql, ["red"]), conn.execute(sql, ["blue"]), strict=True):
        assert one[1] == pytest.approx(red[one[0]], abs=AGREE)
        assert other[1] == pytest.approx(blue[other[0]], abs=AGREE)


def test_images_with_text_keys_or_ids_far_apart_have_scores_too(tmp_path: Path) -> None:
    vectors = random_vectors(3)
    query = vector_to_blob(vectors[1])
    for kind, keys in ((str, ["a", "b", "#c"]), (int, [-5, 3, 2**40])):
        db = Database(tmp_path / f"{kind.__name__}.db", execute_plugins=False)
        table = make_own_table(db, "mine", "key", kind)
        _, index = make_index(db, "mine")
        root_id = ensure_roots(db, ["/photos"])["/photos"]
        images = [
            EmbeddedImage(key, make_record(root_id), vector, None)
            for key, vector in zip(keys, vectors, strict=True)
        ]
        db["mine"].insert_all({"key": key} for key in keys)
        write_batch(db, table, index, images)
        register_functions(db.conn)
        for _ in range(3):
            found = dict(db.execute("select key, image_similarity(key, ?) from mine", [query]))
            for key, vector in zip(keys, vectors, strict=True):
                assert found[key] == pytest.approx(float(vector @ vectors[1]), abs=AGREE)
        db.close()


def test_without_the_triggers_a_replaced_picture_has_no_score(
    conn: sqlite3.Connection, db: Database
) -> None:
    assert scores_of(conn, "red")[6] is not None
    db["images"].transform(rename={"lens": "optics"})
    db["images"].update(6, {"sha256": "another"})
    assert scores_of(conn, "red")[6] is None


def test_a_statement_may_search_for_so_many_texts_and_no_more(database: Path) -> None:
    said: list[str] = []
    with closing(sqlite3.connect(database)) as conn:
        register_functions(conn, tell=said.append, most_texts=3)
        colours = 'select value from json_each(\'["red", "blue", "green", "red"]\')'
        for _ in range(3):
            assert len(conn.execute(f"select image_vector(value) from ({colours})").fetchall()) == 4
        with pytest.raises(sqlite3.OperationalError):
            conn.execute(
                f"select image_vector(value) from ({colours} union all select 'pink')"
            ).fetchall()
    assert said == [
        "a statement may search for 3 different texts of 300 letters together, and this one has more; "
        "search with a column only in sqlite-utils, where nobody else waits"
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "select image_vector(:long), image_vector(:longer)",
        "select image_vector(:long || ' + ' || :longer)",
        "select image_classify(1, json_array(:long, :longer))",
        "select image_vector(:long), image_classify(1, json_array(:longer))",
    ],
)
def test_the_letters_of_a_statement_are_limited_together(database: Path, sql: str) -> None:
    """A model takes longer for longer texts, and nobody can interrupt it."""
    with closing(sqlite3.connect(database)) as conn:
        register_functions(conn, most_texts=3)
        long = "red " * 40
        assert None not in conn.execute(sql, {"long": long, "longer": "blue"}).fetchone()
        with pytest.raises(sqlite3.OperationalError):
            conn.execute(sql, {"long": long, "longer": "blue " * 40}).fetchall()


@pytest.mark.parametrize(
    "sql",
    [
        "select image_vector('#' || value) from json_each(:ids)",
        "select image_search('#' || value, 1) from json_each(:ids)",
        "select image_similarity(1, '#' || value) from json_each(:ids)",
        "select value, image_search_agg(value, '#' || value, 1) from json_each(:ids) group by 1",
        "select image_search('#' || value, 1), image_search_status() from json_each(:ids)",
    ],
)
def test_no_function_searches_for_more_texts_than_a_statement_may(database: Path, sql: str) -> None:
    with closing(sqlite3.connect(database)) as conn:
        register_functions(conn, most_texts=3)
        for _ in range(2):
            assert len(conn.execute(sql, {"ids": "[1, 2, 3]"}).fetchall()) == 3
        with pytest.raises(sqlite3.OperationalError):
            conn.execute(sql, {"ids": "[1, 2, 3, 4]"}).fetchall()


@pytest.mark.parametrize(
    ("statement", "encoded"),
    [
        ("select image_vector('red + blue - 0.5:green + #1')", 3),
        ("select image_vector('red + blue'), image_vector('blue + 2:red - green')", 3),
        ("""select image_classify(1, '["red", "blue"]'), image_vector('green')""", 3),
        ("select image_search('#1', 1), image_search('#2', 1), image_search('#3', 1)", 3),
    ],
)
def test_the_texts_of_a_statement_are_those_that_a_model_encodes(
    database: Path, statement: str, encoded: int
) -> None:
    with closing(sqlite3.connect(database)) as conn:
        register_functions(conn, most_texts=encoded)
        assert None not in conn.execute(statement).fetchone()
        register_functions(conn, most_texts=encoded - 1)
        with pytest.raises(sqlite3.OperationalError):
            conn.execute(statement).fetchone()


@pytest.mark.parametrize("tables", ["images a, images b", "images b, images a"])
def test_queries_of_a_column_find_what_each_of_them_would(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tables: str
) -> None:
    vectors = random_vectors(60)
    monkeypatch.setattr("datasette_image_search.sql.statement.KEPT_QUERIES", 25)
    monkeypatch.setattr("datasette_image_search.sql.statement.KEPT_BYTES", 10 * 61 * 4)
    with closing(Database(tmp_path / "many.db", execute_plugins=False)) as db:
        ids = add_images(db, vectors)
        register_functions(db.conn)
        rows = db.execute(
            f"select a.id, b.id, image_similarity(a.id, '#' || b.id) from {tables}"
        ).fetchall()
    places = {id: place for place, id in enumerate(ids)}
    scores = np.zeros((60, 60))
    for one, other, score in rows:
        scores[places[one], places[other]] = score
    assert scores == pytest.approx(vectors @ vectors.T, abs=AGREE)


def test_memory_does_not_grow_with_the_queries_of_a_statement(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("datasette_image_search.sql.functions.REMEMBERED", 10)
    monkeypatch.setattr("datasette_image_search.sql.statement.KEPT_QUERIES", 10)
    vectors = random_vectors(120, dimensions=512)
    with closing(Database(tmp_path / "many.db", execute_plugins=False)) as db:
        add_images(db, vectors)
        register_functions(db.conn)
        rows = db.execute("select image_similarity(1, '#' || id) from images")
        for _ in range(20):
            rows.fetchone()
        tracemalloc.start(20)
        try:
            for _ in range(99):
                rows.fetchone()
            # Python keeps tuples that nobody has any more, a few for each query, until such a collection.
            gc.collect()
            # Not what threads of other tests are about.
            ours = tracemalloc.Filter(True, __file__, all_frames=True)
            traces = tracemalloc.take_snapshot().filter_traces([ours]).traces
            held = sum(trace.size for trace in traces)
        finally:
            tracemalloc.stop()
    # Of 99 queries, some dozen are kept.
    assert held < 40 * vectors[0].nbytes


@pytest.mark.parametrize("savepoint", [False, True])
def test_what_was_rolled_back_is_not_remembered(conn: sqlite3.Connection, savepoint: bool) -> None:
    red = value(conn, "select image_vector('#6')")
    conn.execute("savepoint before" if savepoint else "begin")
    conn.execute("update images set id = 60 where id = 6")
    conn.execute("update images set id = 6 where id = 1")
    assert value(conn, "select image_vector('#6')") != red
    conn.execute("rollback to before" if savepoint else "rollback")
    assert value(conn, "select image_vector('#6')") == red


def test_a_statement_that_is_carried_out_for_many_rows_sees_each_change(
    conn: sqlite3.Connection,
) -> None:
    conn.execute("create table scores (id integer, score real)")
    before = scores_of(conn, "red")
    conn.executemany(
        "insert into scores select ?, image_similarity(?, 'red')", [(id, id) for id in before]
    )
    assert dict(conn.execute("select * from scores")) == pytest.approx(before, abs=AGREE)
    conn.executemany("delete from images where id = ?", [(1,), (2,)])
    conn.execute("delete from scores")
    conn.executemany(
        "insert into scores select ?, image_similarity(?, 'red')", [(id, id) for id in before]
    )
    after = {**before, 1: None, 2: None}
    assert dict(conn.execute("select * from scores")) == pytest.approx(after, abs=AGREE)


def test_an_update_that_fires_triggers_scores_every_row(conn: sqlite3.Connection) -> None:
    conn.execute("alter table images add column redness real")
    conn.execute("create table log (id integer, score real)")
    conn.execute(
        "create trigger logged after update of redness on images begin "
        "insert into log select new.id, image_similarity(new.id, 'blue'); end"
    )
    red, blue = scores_of(conn, "red"), scores_of(conn, "blue")
    conn.execute("update images set redness = image_similarity(id, 'red')")
    assert dict(conn.execute("select id, redness from images")) == pytest.approx(red, abs=AGREE)
    assert dict(conn.execute("select * from log")) == pytest.approx(blue, abs=AGREE)


def test_a_function_of_a_person_may_ask_within_a_statement(conn: sqlite3.Connection) -> None:
    blue = scores_of(conn, "blue")

    def nested(id: int) -> float:
        return conn.execute("select image_similarity(?, 'blue')", [id]).fetchone()[0]

    conn.create_function("nested", 1, nested)
    red = scores_of(conn, "red")
    for id, of_red, of_blue in conn.execute(
        "select id, image_similarity(id, 'red'), nested(id) from images"
    ):
        assert of_red == pytest.approx(red[id], abs=AGREE)
        assert of_blue == pytest.approx(blue[id], abs=AGREE)


def test_a_trace_of_a_person_changes_no_score(conn: sqlite3.Connection) -> None:
    traced: list[str] = []
    conn.set_trace_callback(traced.append)
    before = scores_of(conn, "red")
    assert "from images" in traced[0]
    conn.execute("delete from images where id = 6")
    after = {id: score for id, score in before.items() if id != 6}
    assert scores_of(conn, "red") == pytest.approx(after, abs=AGREE)
    assert value(conn, "select image_similarity(6, 'red')") is None


def test_who_takes_the_trace_between_statements_changes_no_score(
    conn: sqlite3.Connection, db: Database
) -> None:
    before = scores_of(conn, "red")
    assert scores_of(conn, "red") == pytest.approx(before, abs=1e-6)
    traced: list[str] = []
    conn.set_trace_callback(traced.append)
    db["images"].delete(6)
    assert value(conn, "select image_similarity(6, 'red')") is None
    assert scores_of(conn, "red") == pytest.approx(
        {id: score for id, score in before.items() if id != 6}, abs=AGREE
    )


# --- What SQLite makes of them --------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "create index by_red on images (image_similarity(id, 'red'))",
        "create index red on images (path) where image_similarity(id, 'red') > 0.5",
        "alter table images add column red real as (image_similarity(id, 'red')) virtual",
        "create table reds (id integer, red text as (image_search('red', id)) stored)",
        """create index kinds on images (image_classify(id, '["red", "blue"]'))""",
        "create index vectors on images (image_vector('#' || id))",
        "create index status on images (image_search_status())",
    ],
)
def test_sqlite_is_not_to_keep_what_depends_on_other_tables(
    conn: sqlite3.Connection, sql: str
) -> None:
    with pytest.raises(sqlite3.OperationalError, match="non-deterministic functions prohibited"):
        conn.execute(sql)


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("create index by_red on images (image_similarity(id, 'red'))", "an index, 'by_red',"),
        ("create index some on images (path) where image_similarity(id, 'red') > 0.5", "'some'"),
        (
            "alter table images add column red real as (image_similarity(id, 'red')) virtual",
            "a column of 'images'",
        ),
    ],
)
def test_a_database_that_has_such_an_index_already_can_be_read_and_mended(
    database: Path, sql: str, named: str
) -> None:
    with closing(sqlite3.connect(database)) as conn:
        conn.create_function("image_similarity", 2, lambda id, query: 0.5, deterministic=True)
        conn.execute(sql)
    with closing(sqlite3.connect(database)) as conn:
        problem = register_functions(conn)
        assert problem is not None
        assert named in problem
        assert len(hits(conn, "select image_search('red', 3)")) == 3
        undo = "alter table images drop column red" if "add column" in sql else None
        conn.execute(undo or f"drop index {sql.split()[2]}")
    with closing(sqlite3.connect(database)) as conn:
        assert register_functions(conn) is None
        assert len(hits(conn, "select image_search('red', 3)")) == 3


def test_a_query_that_is_the_same_for_all_rows_is_searched_for_once(
    monkeypatch: pytest.MonkeyPatch, conn: sqlite3.Connection
) -> None:
    searches: list[int] = []
    search = planner.search_live

    def counted(
        conn: sqlite3.Connection, live: LiveIndex, *args: Any, **options: Any
    ) -> list[Found]:
        searches.append(live.index.id)
        return search(conn, live, *args, **options)

    monkeypatch.setattr(planner, "search_live", counted)
    for times in (1, 2):
        rows = conn.execute("select image_search('red', 3), image_search('red', 3) from images")
        assert len({row for both in rows for row in both}) == 1
        assert len(searches) == times


def test_what_was_found_for_all_rows_is_found_anew_by_the_next_statement(
    conn: sqlite3.Connection,
) -> None:
    sql = "select image_search('red', 1), image_search_status() from images limit 1"
    before = conn.execute(sql).fetchone()
    conn.execute("delete from images where id = 6")
    after = conn.execute(sql).fetchone()
    assert json.loads(before[0])[0]["id"] == 6
    assert json.loads(after[0])[0]["id"] != 6
    assert json.loads(after[1])["images"] == 7


def test_equal_pictures_have_equal_scores(tmp_path: Path, embed, folder: Path) -> None:
    for number in range(9):
        draw_picture(folder / f"copy {number}.jpg", "teal", size=(64, 48))
    with closing(sqlite3.connect(embed(folder))) as conn:
        register_functions(conn)
        for call in ("image_similarity(id, 'dark blue')", "image_similarity(id, '#3 + red')"):
            (scores,) = conn.execute(
                f"select count(distinct {call}) from images where path like 'copy%'"
            )
            assert scores == (1,)


def test_statements_of_all_connections_keep_no_more_than_one_may(
    monkeypatch: pytest.MonkeyPatch, database: Path
) -> None:
    """A server has a connection for each thread and database, and each keeps until it is used again."""
    kept = 8 * 9 * 4
    monkeypatch.setattr("datasette_image_search.sql.statement.KEPT_BYTES", kept)
    monkeypatch.setattr("datasette_image_search.sql.statement._statements", statements := WeakSet())
    connections = [sqlite3.connect(database) for _ in range(6)]
    for round in range(2):
        for number, conn in enumerate(connections):
            register_functions(conn) if round == 0 else None
            assert len(scores_of(conn, ("red", "blue", "green")[number % 3])) == 8
            assert sum(statement.bytes_kept for statement in statements) <= max(
                kept, DIMENSIONS * 4 + 9 * 4
            )
    assert len(statements) == 6
    for conn in connections:
        conn.close()


# --- image_search_agg ----------------------------------------------------------------------------


def test_the_aggregate_is_the_filtered_search(conn: sqlite3.Connection) -> None:
    found = hits(conn, "select image_search_agg(id, 'red', 2) from images where id in (1, 2, 3)")
    scores = dict(
        conn.execute("select id, image_similarity(id, 'red') from images where id in (1, 2, 3)")
    )
    best = sorted(scores.items(), key=lambda item: -item[1])[:2]
    assert [hit["id"] for hit in found] == [id for id, _ in best]
    assert [hit["score"] for hit in found] == pytest.approx([s for _, s in best], abs=AGREE)


@pytest.mark.parametrize("values", ["3, 2", "'3', ' 2 '", "3.0, 2.0", "'3.0', '2', null"])
def test_the_aggregate_takes_ids_as_other_programs_write_them(
    conn: sqlite3.Connection, values: str
) -> None:
    rows = ", ".join(f"({value})" for value in values.split(", "))
    found = hits(conn, f"select image_search_agg(column1, 'red', 9) from (values {rows})")
    assert {hit["id"] for hit in found} == {2, 3}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("path", "'black.jpg'"),
        ("3.7", "3.7"),
        ("zeroblob(3)", "a BLOB of 3 bytes"),
        ("9e999", "inf"),
        ("'9223372036854775808'", "'9223372036854775808'"),
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        "image_search_agg({}, 'red', 3)",
        "image_similarity({}, 'red')",
        "image_relevance({}, 'red')",
        """image_classify({}, '["red", "blue"]')""",
    ],
)
def test_what_is_the_id_of_no_image_is_named(
    conn: sqlite3.Connection, call: str, value: str, said: str
) -> None:
    assert failure(conn, f"select {call.format(value)} from images where id = 1") == (
        f"{said} is not the id of an image of 'images', whose ids are whole numbers; "
        "name the column 'id'"
    )


def test_ids_that_are_texts_are_as_good_in_all_functions(conn: sqlite3.Connection) -> None:
    labels = '["red", "blue"]'
    of_one = (f"{name}({{}}, 'red')" for name in ("image_similarity", "image_relevance"))
    for call in (*of_one, f"image_classify({{}}, '{labels}')"):
        sql = f"select {call} from images"
        for _ in range(2):
            for_numbers = conn.execute(sql.format("id")).fetchall()
            assert conn.execute(sql.format("cast(id as text)")).fetchall() == for_numbers
            assert conn.execute(sql.format("id + 0.0")).fetchall() == for_numbers


def test_the_aggregate_keeps_no_blobs(conn: sqlite3.Connection) -> None:
    said: list[str] = []
    register_functions(conn, tell=said.append)
    tracemalloc.start()
    try:
        with pytest.raises(sqlite3.OperationalError):
            conn.execute(
                "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000) "
                "select image_search_agg(randomblob(10000), 'red', 3) from n"
            ).fetchone()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert said[0].startswith("a BLOB of 10,000 bytes is not the id of an image")
    assert peak < 5_000_000


def test_a_join_that_feeds_the_same_ids_again_and_again_takes_no_memory(
    monkeypatch: pytest.MonkeyPatch, conn: sqlite3.Connection
) -> None:
    monkeypatch.setattr("datasette_image_search.sql.gathered.GATHERED", 1000)
    alone = hits(conn, "select image_search_agg(id, 'red', 9) from images")
    tracemalloc.start()
    try:
        found = hits(
            conn,
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000) "
            "select image_search_agg(id, 'red', 9) from images, n",
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == alone
    assert peak < 500_000


def test_texts_that_are_too_long_for_ids_are_refused(
    monkeypatch: pytest.MonkeyPatch, conn: sqlite3.Connection
) -> None:
    monkeypatch.setattr("datasette_image_search.sql.gathered.MOST_CHARACTERS", 100)
    some = "select image_search_agg('0000000000000' || id, 'red', 3) from images where id < {}"
    assert len(hits(conn, some.format(8))) == 3
    assert "more than 100 characters" in failure(conn, some.format(9))


def test_the_aggregate_of_no_rows_is_null(conn: sqlite3.Connection) -> None:
    assert value(conn, "select image_search_agg(id, 'red', 2) from images where 0") is None


# --- image_vector and image_search_status --------------------------------------------------------


def test_a_vector_is_a_query(conn: sqlite3.Connection) -> None:
    by_vector = hits(conn, "select image_search(image_vector('blue'), 8)")
    by_words = {hit["id"]: hit["score"] for hit in hits(conn, "select image_search('blue', 8)")}
    assert {hit["id"]: hit["score"] for hit in by_vector} == pytest.approx(by_words, abs=1e-6)
    blob = value(conn, "select vector from _images_vectors where image_id = 5")
    assert hits(conn, "select image_search(?, 1)", blob)[0]["id"] == 5


def test_status(conn: sqlite3.Connection) -> None:
    status = json.loads(value(conn, "select image_search_status()"))
    assert status == {
        "table": "images",
        "model": "palette",
        "dimensions": status["dimensions"],
        "images": 8,
        "vectors": 8,
        "search": "exact",
        "sidecar": "in use",
        "engine": "sidecar",
        "stored_vectors": True,
        "newer_than_sidecar": 0,
        "problem": None,
    }


def test_status_says_what_to_do_where_there_is_nothing() -> None:
    conn = sqlite3.connect(":memory:")
    register_functions(conn)
    status = json.loads(value(conn, "select image_search_status()"))
    assert "make one with: sqlite-utils embed-images" in status["problem"]


# --- What is wrong is said ------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["null", "''", "' '"])
@pytest.mark.parametrize(
    "function",
    [
        "image_search({}, 5)",
        "image_search('red', {})",
        "image_search('#' || {}, 5)",
        "image_similarity({}, 'red')",
        "image_similarity(1, {})",
        "image_relevance({}, 'red')",
        "image_relevance(1, {})",
        "image_vector({})",
        """image_classify({}, '["red"]')""",
        "image_classify(1, {})",
        "image_search_agg(1, {}, 5)",
        "image_search_agg(1, 'red', {})",
    ],
)
def test_where_nothing_is_given_nothing_comes(
    conn: sqlite3.Connection, function: str, missing: str
) -> None:
    assert value(conn, f"select {function.format(missing)}") is None


def test_a_table_that_is_left_empty_is_left_out(conn: sqlite3.Connection) -> None:
    for call in (
        "image_search('red', 3{})",
        "image_vector('red'{})",
        "image_similarity(1, 'red'{})",
        "image_relevance(1, 'red'{})",
    ):
        assert value(conn, f"select {call.format(', ?')}", "") == value(
            conn, f"select {call.format('')}"
        )


@pytest.mark.parametrize("k", ["3", " 3 ", 3.0, "3.0"])
def test_k_may_be_a_text_as_all_parameters_of_datasette_are(
    conn: sqlite3.Connection, k: object
) -> None:
    assert len(hits(conn, "select image_search('red', ?)", k)) == 3
    assert len(hits(conn, "select image_search_agg(id, 'red', ?) from images", k)) == 3


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("image_search('sports car', 5)", "palette does not know 'sports car'"),
        ("image_search('red', 0)", "k is 0; it must be a whole number, at least 1"),
        ("image_search('red', '-1')", "k is -1; it must be a whole number, at least 1"),
        ("image_search('red', 'many')", "k is 'many'; it must be a whole number"),
        ("image_search('red', 2.5)", "k is 2.5; it must be a whole number"),
        ("image_search(7, 5)", "the query is 7; it must be text, or a vector as a BLOB"),
        ("image_similarity(1, '#77')", "there is no image #77 with a vector in 'images'"),
        ("image_search('red', 5, 'nope')", "'nope' is not an image table"),
        ("image_vector(x'010203')", "not float32"),
    ],
)
def test_wrong_input_is_said_in_a_sentence(
    conn: sqlite3.Connection, function: str, sentence: str
) -> None:
    assert sentence in failure(conn, f"select {function}")


def test_words_that_are_not_known_are_reported_once(conn: sqlite3.Connection) -> None:
    said: list[str] = []
    register_functions(conn, tell=said.append)
    conn.execute("select image_similarity(id, 'red sports car') from images").fetchall()
    assert said == [
        "palette does not know 'sports car'; it understands colours, light and positions, "
        "such as 'dark blue' or 'bright left'. For meaning, embed with --model things (no download) or a CLIP model."
    ]


# --- The same everywhere ---------------------------------------------------------------------------


@pytest.mark.datasette
@pytest.mark.asyncio
@pytest.mark.parametrize("query", ["red", "dark blue - #3", "2:#1 + 0.5:bright left"])
async def test_three_ways_to_search_agree(database: Path, query: str) -> None:
    """Datasette, `sqlite-utils query` and `sqlite-utils search-images`: same ids, same scores."""
    sql = "select json_extract(value, '$.id') as id, json_extract(value, '$.score') as score from json_each(image_search(:q, 5))"

    datasette = Datasette([str(database)])
    in_datasette = await query_json(datasette, sql, q=query)

    run = CliRunner().invoke
    in_query = json.loads(run(cli, ["query", str(database), sql, "-p", "q", query]).stdout)
    search = run(cli, ["search-images", str(database), "images", query, "-k", "5", "--json"])
    in_search = json.loads(search.stdout)

    ids = [row["id"] for row in in_search]
    scores = [row["score"] for row in in_search]
    for rows in (in_datasette, in_query):
        assert [row["id"] for row in rows] == ids
        assert [row["score"] for row in rows] == pytest.approx(scores, abs=AGREE)


@pytest.mark.datasette
@pytest.mark.asyncio
@pytest.mark.parametrize(
    "term",
    [
        vector_to_term(np.ones(7)),
        vector_to_term(np.full(DIMENSIONS, np.nan)),
        vector_to_term(np.r_[np.inf, np.ones(DIMENSIONS - 1)]),
        vector_to_term(np.zeros(DIMENSIONS)),
        "vec:",
        "vec:not base64!",
    ],
    ids=["length", "nan", "infinity", "zeros", "nothing", "no vector"],
)
async def test_a_vector_that_is_none_is_refused_everywhere_with_the_same_sentence(
    database: Path, conn: sqlite3.Connection, term: str
) -> None:
    said = failure(conn, "select image_search(?, 3)", term)
    assert "vec:" in said
    for function in (
        "image_similarity(1, ?)",
        "image_vector(?)",
        "image_search_agg(id, ?, 3) from images",
    ):
        assert failure(conn, f"select {function}", term) == said
    search = CliRunner().invoke(cli, ["search-images", str(database), "images", term])
    assert search.exit_code == 1
    assert search.output == f"Error: {said}\n"
    response = await Datasette([str(database)]).client.get(
        "/-/image-search/photos/images.json", params={"q": term}
    )
    assert response.status_code == 400
    assert response.json()["error"] == said


@pytest.mark.datasette
@pytest.mark.asyncio
async def test_what_is_committed_is_found_by_a_datasette_that_is_running(
    tmp_path: Path, folder: Path, embed, database: Path
) -> None:
    datasette = Datasette([str(database)])

    async def ids(query: str) -> list[int]:
        sql = "select json_extract(value, '$.id') as id from json_each(image_search(:q, 3))"
        return await query_json(datasette, sql, "arrayfirst", q=query)

    assert (await ids("cyan"))[0] != 9
    draw_picture(folder / "cyan.jpg", "cyan")
    embed(folder)
    assert (await ids("cyan"))[0] == 9
    Database(database)["images"].delete(9)
    assert 9 not in await ids("cyan")


def test_one_index_per_process_for_all_connections(database: Path) -> None:
    first, second = sqlite3.connect(database), sqlite3.connect(database)
    for conn in (first, second):
        register_functions(conn)
        assert len(hits(conn, "select image_search('red', 3)")) == 3
    assert live_index(first, find_index(first)) is live_index(second, find_index(second))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted by /proc")
def test_functions_do_not_keep_a_connection_open(database: Path) -> None:
    """SQLite owns the functions, so a connection that they held would never be closed."""
    for _ in range(50):
        Database(database).execute("select image_similarity(1, 'red')").fetchall()
    gc.collect()
    open_files = [str(file.resolve()) for file in Path("/proc/self/fd").iterdir() if file.exists()]
    assert open_files.count(str(database)) < 5


def test_status_names_images_without_a_vector(conn: sqlite3.Connection) -> None:
    conn.execute("delete from _images_vectors where image_id = 3")
    conn.commit()
    status = json.loads(value(conn, "select image_search_status()"))
    assert status["problem"].startswith("1 images have no vector; embed them with")


@pytest.mark.datasette
@pytest.mark.asyncio
async def test_one_statement_cannot_hold_a_thread_of_datasette_for_long(database: Path) -> None:
    datasette = Datasette([str(database)])
    numbers = (
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < {}) "
        "select count(image_vector('blue + 0.' || i || ':red')) as n from n"
    )
    assert await query_json(datasette, numbers.format(50)) == [{"n": 50}]
    refused = await query_json(datasette, numbers.format(51))
    assert refused["ok"] is False


# --- The time that a statement has -----------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "select id, image_similarity(id, 'red') from images order by 2 desc limit 3",
        "select image_search('red', 3)",
        "select image_search_agg(id, 'red', 3) from images",
    ],
)
def test_what_took_too_long_is_kept_for_the_next_try(
    conn: sqlite3.Connection, sql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And SQLite itself says that the time was over, as Datasette explains it; no function raises."""
    is_over = False
    slow: list[str] = []

    def takes_long(module: ModuleType, name: str) -> None:
        real = getattr(module, name)

        def take_long(*args: object) -> object:
            nonlocal is_over
            result = real(*args)
            is_over = True
            slow.append(name)
            return result

        monkeypatch.setattr(module, name, take_long)

    wanted = conn.execute(sql).fetchall()
    freshness._open.clear()
    takes_long(freshness, "_opened")
    takes_long(similarity, "_images_of")
    conn.set_progress_handler(lambda: is_over, 1)
    for _ in range(5):
        is_over = False
        done_before = len(slow)
        try:
            found = conn.execute(sql).fetchall()
            break
        except sqlite3.OperationalError as error:
            assert str(error) == "interrupted"  # noqa: PT017
            assert len(slow) == done_before + 1
    assert found == wanted
    assert len(slow) == len(set(slow)) > 0


def test_a_statement_that_ran_out_of_time_gives_no_answer_that_is_none(
    conn: sqlite3.Connection,
) -> None:
    """Not NULL in the place of a score, not even of its first row."""
    steps_left = 0

    def has_ended() -> bool:
        nonlocal steps_left
        steps_left -= 1
        return steps_left < 0

    sql = "select image_similarity(1, 'red'), image_search('red', 1)"
    (wanted,) = conn.execute(sql).fetchall()
    for steps in range(0, 400, 7):
        steps_left = steps
        conn.set_progress_handler(has_ended, 20)
        try:
            (found,) = conn.execute(sql).fetchall()
            assert found == wanted
        except sqlite3.OperationalError as error:
            assert str(error) == "interrupted"  # noqa: PT017
        finally:
            conn.set_progress_handler(None, 0)
