"""Rows of our tables that others wrote, with values of other kinds than ours: each costs nothing but itself."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from datasette.app import Datasette
from sqlite_utils import Database

from .commands import change, command, query
from .random_tables import make_own_table
from .serving import ask

pytestmark = pytest.mark.datasette

TABLE = "/-/image-search/photos/images"

LOOSE_VECTORS = """
create table _images_vectors (
    id integer primary key autoincrement, index_id integer, image_id integer, sha256 text, vector blob
)
"""
"""As a person may make it anew, with no constraint of ours."""

ODD_TEXT = "cast(x'ff' as text)"
"""What SQLite keeps as a text, though it is no UTF-8."""


@pytest.fixture
def odd(database: Path) -> Path:
    """The 8 images of `database`, and rows that are none."""
    with sqlite3.connect(database) as conn:
        vectors = conn.execute("select index_id, image_id, sha256, vector from _images_vectors")
        rows = vectors.fetchall()
        vector = rows[0][3]
        conn.execute("drop table _images_vectors")
        conn.execute(LOOSE_VECTORS)
        odd = [
            *((image_id, vector) for image_id in ("x", None, b"\1", 3.5, 99)),
            *(
                (6, value)
                for value in (None, "text", "v" * len(vector), 7, b"", b"\0" * len(vector))
            ),
        ]
        conn.executemany(
            "insert into _images_vectors (index_id, image_id, sha256, vector) values (?, ?, ?, ?)",
            [*rows, *((1, image_id, None, value) for image_id, value in odd)],
        )
    conn.close()
    change(
        database,
        "insert into images (root_id, path) values (1, x'ff')",
        f"insert into images (root_id, path, taken_at, folder) values (99, {ODD_TEXT}, {ODD_TEXT}, {ODD_TEXT})",
        "insert into images (root_id, path, size, mtime, sha256, width, height, taken_at, latitude, folder) "
        "values ('r', 'odd.jpg', 's', x'00', x'ff', 'w', x'00', x'ff', 'north', x'ff')",
        "insert into image_search_roots (path) values (x'ff')",
        "insert into _images_failures (root_id, path, size, mtime, reason) values (null, x'ff', 's', 5, null)",
        "insert into _images_thumbnails values (12, 5, 'text')",
    )
    return database


def test_every_command_finds_the_images(odd: Path, folder: Path):
    rows = json.loads(command("search-images", odd, "images", "red", "--json", "-k", "20").stdout)
    assert sorted(row["id"] for row in rows) == list(range(1, 9))
    for line in (
        ("search-images", odd, "images", "#6"),
        ("search-images", odd, "images", "red", "--paths"),
        ("find-duplicates", odd, "images", "--threshold", "0.1"),
        ("find-duplicates", odd, "images", "--threshold", "0.1", "--paths"),
        ("find-duplicates", odd, "images", "--threshold", "0.1", "--write"),
        ("tag-images", odd, "images", "red", "blue"),
        ("plot-images", odd, "images", odd.with_name("map.png"), "--color", "folder"),
        ("plot-images", odd, "images", "--html", odd.with_name("map.html"), "--color", "taken_at"),
        ("index-images", odd, "images"),
        ("embed-images", odd, "images", folder),
        ("embed-images", odd, "images", folder, "--prune"),
    ):
        result = command(*line)
        assert result.exit_code == 0, (line, result.output)


def test_every_function_finds_the_images(odd: Path):
    sql = """
        select json_array_length(image_search('red', 20)) as found,
            (select count(image_similarity(id, 'red')) from images) as scored,
            (select json_array_length(image_search_agg(id, 'red', 20)) from images) as among,
            json_extract(image_search_status(), '$.problem') as problem
    """
    (row,) = json.loads(command("query", odd, sql).stdout)
    assert (row["found"], row["scored"], row["among"]) == (8, 8, 8)


@pytest.mark.asyncio
async def test_every_page_shows_the_images(odd: Path):
    assert command("tag-images", odd, "images", "red", "blue").exit_code == 0
    datasette = Datasette([str(odd)])
    for page in (
        TABLE, f"{TABLE}?q=red", f"{TABLE}.json?q=red", f"{TABLE}.csv", f"{TABLE}?_facet=folder",
        f"{TABLE}?_facet_year=taken_at", f"{TABLE}/map", f"{TABLE}/map.json?_color=folder",
        f"{TABLE}/map.json?q=red", "/photos/images", "/photos/images?_image_search=red",
        "/photos/images.images", "/photos/images.images?_image_search=red", "/photos/images_tags",
        "/photos/images?_facet_tag=id", "/photos/images?_facet_year=taken_at",
        *(f"/photos/images/{at}" for at in range(9, 12)),
    ):  # fmt: skip
        response = await ask(datasette, page)
        assert response.status_code == 200, (page, response.text)
    hits = (await ask(datasette, f"{TABLE}.json?q=red")).json()["hits"]
    assert sorted(hit["id"] for hit in hits) == list(range(1, 9))
    for at in range(9, 13):
        assert (await ask(datasette, f"{TABLE}/{at}/thumbnail")).status_code == 404


def test_keys_that_are_made_texts_and_back_name_the_same_images(database: Path):
    before = command("search-images", database, "images", "red", "--json").stdout
    command("transform", database, "images", "--type", "id", "text")
    refused = command("search-images", database, "images", "red")
    assert refused.exit_code == 1
    assert "transform PATH images --type id integer" in refused.stderr
    command("transform", database, "images", "--type", "id", "integer")
    assert command("search-images", database, "images", "red", "--json").stdout == before


def test_a_table_of_texts_gets_no_rows_without_a_key(database: Path, folder: Path):
    make_own_table(Database(database, execute_plugins=False), "pictures", "key", str)
    result = command("embed-images", database, "pictures", folder, "--model", "palette")
    assert result.exit_code == 1
    assert "no rows can be added to it; make them whole numbers" in result.stderr
    assert query(database, "select count(*) from pictures") == [(0,)]
