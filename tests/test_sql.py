"""The SQL functions: in sqlite-utils, in Datasette, and in any connection that registers them."""

from __future__ import annotations

import gc
import json
import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner
from datasette.app import Datasette
from sqlite_utils import Database
from sqlite_utils.cli import cli

from datasette_image_search.search.live import live_index
from datasette_image_search.sql import register_functions
from datasette_image_search.store import find_index

from .conftest import draw_picture, query_json

AGREE = 1e-3

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
    register_functions(conn, report=said.append)
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


def test_joined_to_the_rows_as_the_documentation_does(conn: sqlite3.Connection) -> None:
    rows = conn.execute(
        """
        select images.path, hit.value ->> 'score'
        from json_each(image_search('#2 + red', 2)) hit
        cross join images on images.id = hit.value ->> 'id'
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
    assert dict(rows) == pytest.approx(by_search, abs=1e-6)


def test_no_vector_no_score(conn: sqlite3.Connection) -> None:
    conn.execute("delete from _images_vectors where image_id = 3")
    assert value(conn, "select image_similarity(3, 'red')") is None
    assert value(conn, "select image_similarity(99, 'red')") is None
    assert value(conn, "select image_similarity(null, 'red')") is None


def test_a_score_follows_a_change_within_the_same_connection(conn: sqlite3.Connection) -> None:
    before = value(conn, "select image_similarity(1, '#2')")
    conn.execute("delete from images where id = 2")
    assert "no image #2" in failure(conn, "select image_similarity(1, '#2')")
    assert before is not None


# --- image_search_agg ----------------------------------------------------------------------------


def test_the_aggregate_is_the_filtered_search(conn: sqlite3.Connection) -> None:
    found = hits(conn, "select image_search_agg(id, 'red', 2) from images where id in (1, 2, 3)")
    scores = dict(
        conn.execute("select id, image_similarity(id, 'red') from images where id in (1, 2, 3)")
    )
    best = sorted(scores.items(), key=lambda item: -item[1])[:2]
    assert [hit["id"] for hit in found] == [id for id, _ in best]
    assert [hit["score"] for hit in found] == pytest.approx([s for _, s in best], abs=1e-6)


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
        "sidecar": "in use",
        "newer_than_sidecar": 0,
        "problem": None,
    }


def test_status_says_what_to_do_where_there_is_nothing() -> None:
    conn = sqlite3.connect(":memory:")
    register_functions(conn)
    status = json.loads(value(conn, "select image_search_status()"))
    assert "make one with: sqlite-utils embed-images" in status["problem"]


# --- What is wrong is said ------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["image_search(null, 5)", "image_search('red', null)"])
def test_null_in_null_out(conn: sqlite3.Connection, function: str) -> None:
    assert value(conn, f"select {function}") is None


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("image_search('', 5)", "the query is empty"),
        ("image_search('sports car', 5)", "palette does not know 'sports car'"),
        ("image_search('red', 0)", "k is 0; ask for at least 1 image"),
        ("image_search('red', 'many')", "k is 'many'; it must be a whole number"),
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
    register_functions(conn, report=said.append)
    conn.execute("select image_similarity(id, 'red sports car') from images").fetchall()
    assert said == [
        "palette does not know 'sports car'; it understands colours, light and positions. "
        "For meaning, embed with a CLIP model."
    ]


# --- The same everywhere ---------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("query", ["red", "dark blue - #3", "2:#1 + 0.5:bright left"])
async def test_three_ways_to_search_agree(database: Path, query: str) -> None:
    """Datasette, `sqlite-utils query` and `sqlite-utils search-images`: same ids, same scores."""
    sql = "select value ->> 'id' as id, value ->> 'score' as score from json_each(image_search(:q, 5))"

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


@pytest.mark.asyncio
async def test_what_is_committed_is_found_by_a_datasette_that_is_running(
    tmp_path: Path, folder: Path, embed, database: Path
) -> None:
    datasette = Datasette([str(database)])

    async def ids(query: str) -> list[int]:
        sql = "select value ->> 'id' as id from json_each(image_search(:q, 3))"
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
