"""The sentence of a SQL function that failed, on the page of whoever ran it, and on no other."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlite_utils

from datasette_image_search.web.sql_errors import hear

from .serving import datasette_of, get, query_page

pytestmark = [pytest.mark.asyncio, pytest.mark.datasette]

DUMB = "user-defined"


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("select image_search('sports car', 3)", "palette does not know 'sports car'"),
        ("select image_similarity(id, '#99') from images", "there is no image #99"),
        ("select image_search_agg(id, 'zebra', 3) from images", "palette does not know 'zebra'"),
        ("select IMAGE_SEARCH('red', 3, 'nope')", "'nope' is not an image table"),
    ],
)
async def test_the_page_of_a_query_says_what_is_wrong(database, sql: str, sentence: str) -> None:
    page = await query_page(datasette_of(database), sql)
    assert sentence in page.text.replace("&#39;", "'")
    assert DUMB not in page.text


async def test_parameters_are_those_of_the_request(database: Path) -> None:
    page = await query_page(datasette_of(database), "select image_search(:q, 3)", q="zebra")
    assert "palette does not know &#39;zebra&#39;" in page.text


async def test_eight_at_once_hear_only_their_own(database: Path) -> None:
    """More than there are SQL threads, again and again, among queries that work or fail otherwise."""
    datasette = datasette_of(database)
    await datasette.invoke_startup()

    async def fails(word: str) -> None:
        page = await query_page(datasette, f"select image_search('{word}', 3)")
        assert f"palette does not know &#39;{word}&#39;" in page.text
        for other in words:
            assert other == word or f"know &#39;{other}&#39;" not in page.text

    async def works() -> None:
        assert "palette" not in (await query_page(datasette, "select image_search('red', 3)")).text

    async def is_no_sql() -> None:
        assert "palette" not in (await query_page(datasette, "select image_nope('x', 3)")).text

    words = ["zebra", "giraffe", "lion", "kangaroo", "tortoise", "penguin", "otter", "badger"]
    for _ in range(3):
        await asyncio.gather(*(f for word in words for f in (fails(word), works(), is_no_sql())))


async def test_nothing_is_kept_for_later(database: Path) -> None:
    datasette = datasette_of(database)
    await query_page(datasette, "select image_search('zebra', 3)")
    page = await query_page(datasette, "select image_search(")
    assert "zebra" not in page.text
    hear("a sentence that nobody waits for")
    page = await query_page(datasette, "select image_nope('red')")
    assert "nobody waits for" not in page.text


@pytest.mark.parametrize("extension", ["", ".json"])
async def test_a_where_that_fails_says_so_on_the_table_page(database: Path, extension) -> None:
    response = await get(
        datasette_of(database),
        "/photos/images" + extension,
        _where="image_similarity(id, 'zebra') > 0",
        format="JPEG",
    )
    assert response.status_code == 400
    assert "palette does not know 'zebra'" in response.text.replace("&#39;", "'")


SAVED = {
    "databases": {
        "photos": {
            "allow_sql": {"id": "anna"},
            "queries": {
                "find": {"sql": "select image_search(:q, 3)"},
                "like": {"sql": "select value from json_each(image_search('#' || :id, :k))"},
                "mine": {"sql": "select image_search(:_cookie_liked, :k)"},
            },
        }
    }
}


async def test_a_saved_query_tells_those_who_may_run_sql(database: Path) -> None:
    """For others the sentence could hold what the query would not show them: a value from a row."""
    datasette = datasette_of(database, rules=SAVED)
    page = await get(datasette, "/photos/find", actor="anna", q="zebra")
    assert "palette does not know &#39;zebra&#39;" in page.text
    page = await get(datasette, "/photos/find", q="zebra")
    assert "palette" not in page.text


@pytest.mark.parametrize("query", ["find", "like"])
async def test_a_saved_query_shows_its_form_before_it_is_filled_in(
    database: Path, query: str
) -> None:
    page = await get(datasette_of(database, rules=SAVED), f"/photos/{query}", actor="anna")
    assert page.status_code == 200
    assert "message-error" not in page.text
    assert 'name="q"' in page.text or 'name="k"' in page.text


async def test_a_saved_query_takes_numbers_from_its_form(database: Path) -> None:
    datasette = datasette_of(database, rules=SAVED)
    answer = await get(datasette, "/photos/like.json", actor="anna", id="6", k="2")
    assert len(answer.json()["rows"]) == 2


async def test_magic_parameters_are_in_the_sentence(database: Path) -> None:
    datasette = datasette_of(database, rules=SAVED)
    await datasette.invoke_startup()
    cookies = {"liked": "zebra", "ds_actor": datasette.sign({"a": {"id": "anna"}}, "actor")}
    page = await datasette.client.get("/photos/mine?k=3", cookies=cookies)
    assert "palette does not know &#39;zebra&#39;" in page.text


async def test_the_first_requests_may_come_together(database: Path) -> None:
    """In a new process, where nothing is loaded yet."""
    script = f"""
import asyncio, sys
from datasette.app import Datasette
from tests.only_ours import forget_other_plugins

async def main():
    forget_other_plugins()
    datasette = Datasette([{str(database)!r}])
    answers = await asyncio.gather(*(
        datasette.client.get("/photos/images.json") for _ in range(20)
    ))
    print({{answer.status_code for answer in answers}})

asyncio.run(main())
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert run.stdout == "{200}\n", run.stderr


async def test_a_connection_that_core_wraps_keeps_the_functions_of_datasette(
    database: Path,
) -> None:
    """
    Datasette 1.0 makes a sqlite_utils.Database of its own connection, and sqlite-utils then runs
    its plugins: this one, whose functions believe the database about which files to open.
    """
    datasette = datasette_of(database)
    await datasette.invoke_startup()

    def functions_after(conn: sqlite3.Connection) -> str:
        sqlite_utils.Database(conn)
        conn.execute("update image_search_indexes set weights = '/etc/passwd'")
        try:
            conn.execute("select image_search('red', 3)").fetchall()
        except sqlite3.OperationalError as error:
            return str(error)
        finally:
            conn.rollback()
        return "searched"

    assert DUMB in await datasette.get_database("photos").execute_write_fn(functions_after)
