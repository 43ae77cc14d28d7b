"""Tables of texts that somebody made or damaged to do harm, and words that are meant as syntax: one sentence, and likeness goes on."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from urllib.parse import quote_plus

import pytest
from datasette.app import Datasette

from datasette_image_search import Images, ImageSearchError

from ..commands import change
from ..serving import ask, datasette_of

pytestmark = pytest.mark.datasette

PAGE = "/-/image-search/photos/images"

ENDLESS = "with recursive more(x) as (select 1 union all select x + 1 from more)"

FTS5 = "using fts5(filename, folder, title, description, city, state, country"


def replaced(table: str, by: str) -> list[str]:
    return [f"drop table if exists {table}", by]


FOREIGN: dict[str, list[str]] = {
    "a view without an end": replaced(
        "_images_texts",
        f"create view _images_texts as {ENDLESS} select x as id, x as image_id from more",
    ),
    "gigabytes that are computed": replaced(
        "_images_texts",
        "create table _images_texts (id integer primary key, image_id as (zeroblob(900000000)))",
    ),
    "a table that is none of FTS5": replaced(
        "_images_texts_fts", "create table _images_texts_fts (filename, folder)"
    ),
    "content of another table": replaced(
        "_images_texts_fts",
        f"create virtual table _images_texts_fts {FTS5}, content='image_search_roots')",
    ),
    "another tokenizer": replaced(
        "_images_texts_fts", f"create virtual table _images_texts_fts {FTS5}, tokenize='trigram')"
    ),
    "a rank of its own": [
        "insert into _images_texts_fts (_images_texts_fts, rank) values ('rank', 'evil(1)')"
    ],
    "a version that there is not": [
        "update _images_texts_fts_config set v = 999 where k = 'version'"
    ],
    "no words": ["delete from _images_texts_fts_data"],
    "numbers without sizes": ["delete from _images_texts_fts_docsize"],
    "sizes of another kind": ["update _images_texts_fts_docsize set sz = 'x'"],
    "numbers without images": ["update _images_texts set image_id = -image_id"],
    "words without rows": ["delete from _images_texts_fts_content"],
    "blobs for words": ["update _images_texts_fts_content set c0 = zeroblob(2000000)"],
}


def spoil(database: Path, statements: list[str]) -> None:
    """As somebody would who needs neither triggers nor limits."""
    with closing(sqlite3.connect(database)) as conn, conn:
        for (trigger,) in conn.execute(
            "select name from sqlite_master where type = 'trigger'"
        ).fetchall():
            conn.execute(f'drop trigger "{trigger}"')
        for statement in statements:
            conn.execute(statement)


async def answers(database: Path) -> None:
    """All of them in a sentence or with images, and likeness as ever."""
    with closing(sqlite3.connect(database)) as conn:
        try:
            conn.execute("pragma table_xinfo(_images_texts_fts)")
        except sqlite3.Error:
            if hasattr(Datasette, "allowed"):
                pytest.skip("Datasette 1.0 itself does not start with such a table of FTS5")
    datasette = datasette_of(database)
    for query in ("q=red", "q=text:red", "q=red+re*&_matches_only=1&_sort=id"):
        found = await ask(datasette, f"{PAGE}.json?{query}")
        assert found.status_code in (200, 400), (query, found.text)
        if query == "q=red":
            assert found.json()["hits"][0]["row"]["filename"] == "red.jpg"
    assert (await ask(datasette, f"{PAGE}?q=red")).status_code == 200


@pytest.mark.asyncio
@pytest.mark.parametrize("name", FOREIGN)
async def test_tables_of_somebody_else(database: Path, name: str):
    spoil(database, FOREIGN[name])
    await answers(database)


SHADOWS = {
    "data": ("id", "block"),
    "idx": ("term", "pgno"),
    "docsize": ("id", "sz"),
    "config": ("k", "v"),
}
"""Tables of FTS5, each with a key and a value."""


@pytest.mark.asyncio
@pytest.mark.parametrize("shadow", SHADOWS)
async def test_tables_that_are_damaged(database: Path, shadow: str):
    rng = Random(shadow)
    table, (key, value) = f"_images_texts_fts_{shadow}", SHADOWS[shadow]
    with closing(sqlite3.connect(database)) as conn, conn:
        for where, stored in conn.execute(f"select {key}, {value} from {table}").fetchall():
            damaged: bytes | int = rng.randrange(1000)
            if isinstance(stored, bytes):
                at = rng.randrange(len(stored))
                damaged = stored[:at] + rng.randbytes(rng.randint(1, 4)) + stored[at + 1 :]
            conn.execute(f"update {table} set {value} = ? where {key} = ?", [damaged, where])
    await answers(database)


def test_a_trigger_that_calls_a_function_is_not_run_by_a_search(database: Path):
    change(
        database,
        "create trigger evil after update on _images_texts begin select load_extension('/tmp/evil'); end",
    )
    with Images(database) as images:
        assert images.search("red", by="text")[0].id == 6


@pytest.mark.parametrize(
    "words",
    [
        'text:" OR NOT NEAR(a b, 5) ^ {filename} : x',
        "text:filename:red",
        "text:-filename : red",
        "text:* AND *",
        'text:"""" OR """',
        "text:a*b*c*",
        "text:\x00red",
        "text:" + "(" * 900,
        "text:" + "\U0001f3f0" * 300,
        " + ".join(f"text:{letter}*" for letter in "abcdefghijklmnopqrstuvwxyz"),
        "text:" + " ".join("ab" for _ in range(300)),
    ],
)
def test_no_words_are_syntax(database: Path, words: str):
    """No error of SQLite comes out, which is no ImageSearchError."""
    with Images(database) as images, suppress(ImageSearchError):
        assert len(images.search(words, 8, by="both")) <= 8


@pytest.mark.asyncio
async def test_a_search_by_text_keeps_to_the_time_limit(database: Path):
    """The scan of texts has the filter in it."""
    # A count that goes on would read a database that is closed by then.
    limits = {"sql_time_limit_ms": 200, "facet_time_limit_ms": 50}
    datasette = datasette_of(database, settings=limits)
    where = quote_plus(f"({ENDLESS} select count(*) from more) > 0")
    found = await ask(datasette, f"{PAGE}.json?q=text:red&_where={where}")
    assert found.status_code in (400, 503)
    assert "took more than the 200 ms" in found.json()["error"]
