"""Images in the order of a column."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from datasette_image_search import Images, ImageSearchError
from datasette_image_search.store import Filter, ImageTable, find_image_table
from datasette_image_search.store.ordering import Order, in_order, order_of, sorted_ids

from .commands import change

COUNTED = Path("/proc/self/io")
"""It begins with the bytes that this process has read, of files in the system's memory too."""

TABLE = ImageTable("images", "id", key_is_integer=True)
NEWEST = Order("taken_at", descending=True)
ALL = range(1_000)


@pytest.fixture
def numbered(database: Path) -> Path:
    """The eight pictures with the numbers 2, NULL, 1, 2, NULL, 1, 2 and 3."""
    change(
        database,
        "alter table images add column number integer",
        *(
            f"update images set number = {number} where id = {id}"
            for id, number in {1: 2, 3: 1, 4: 2, 6: 1, 7: 2, 8: 3}.items()
        ),
    )
    return database


@pytest.mark.parametrize(
    ("order", "wanted"),
    [
        (Order("number"), [6, 3, 7, 4, 1, 8, 5, 2]),
        (Order("number", descending=True), [8, 7, 4, 1, 6, 3, 5, 2]),
    ],
)
def test_equal_values_stay_in_their_order_and_those_without_one_come_last(
    numbered: Path, order: Order, wanted: list[int]
):
    conn = sqlite3.connect(numbered)
    table = find_image_table(conn, "images")
    assert in_order(conn, table, [8, 7, 6, 5, 4, 3, 2, 1], order) == wanted
    assert in_order(conn, table, [2, 99, 1], order) == [1, 2]
    assert in_order(conn, table, [], order) == []


@pytest.mark.parametrize("index", ["", "create index by_number on images (number)"])
def test_all_images_in_order_page_by_page(numbered: Path, index: str):
    change(numbered, *filter(None, [index]))
    conn = sqlite3.connect(numbered)
    table = find_image_table(conn, "images")
    for order, wanted in (
        (Order("number"), [3, 6, 1, 4, 7, 8, 2, 5]),
        (Order("number", descending=True), [8, 1, 4, 7, 3, 6, 2, 5]),
    ):
        assert sorted_ids(conn, table, order, 20) == wanted
        for offset in (0, 3, 6):
            page = sorted_ids(conn, table, order, 3, offset=offset)
            assert page == wanted[offset : offset + 3]
        some = sorted_ids(conn, table, order, 20, Filter("number < :most", {"most": 3}))
        assert some == [id for id in wanted if id in (1, 3, 4, 6, 7)]


def test_texts_are_keys_too(database: Path):
    conn = sqlite3.connect(":memory:")
    conn.execute("create table images (name text primary key, path text, size integer)")
    table = find_image_table(sqlite3.connect(database), "images")
    own = type(table)(**{**vars(table), "key": "name", "key_is_integer": False})
    conn.executemany("insert into images values (?, '', ?)", [("7", 2), ("a b", 1), ('"', None)])
    assert in_order(conn, own, ['"', "7", "a b"], Order("size")) == ["a b", "7", '"']
    assert sorted_ids(conn, own, Order("size", descending=True), 5) == ["7", "a b", '"']


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"sort": "pahth"}, "'images' has no column 'pahth' to sort by; did you mean 'path'?"),
        ({"sort": "id", "sort_desc": "id"}, "there are two columns to sort by; name one of them"),
        ({"sort_desc": 7}, "sort_desc is 7; it must be a text"),
    ],
)
def test_an_order_that_cannot_be_is_refused(database: Path, asked: dict, said: str):
    with Images(database) as images, pytest.raises(ImageSearchError) as refused:
        images.search("red", **asked)
    assert str(refused.value) == said


def test_no_order_is_none():
    assert order_of(None, None) is None


@pytest.mark.parametrize("descending", [False, True])
def test_going_through_an_index_gives_the_same(numbered: Path, descending: bool):
    change(numbered, "update images set taken_at = 2000 + number where id != 3")
    conn = sqlite3.connect(numbered)
    table, order = find_image_table(conn, "images"), Order("taken_at", descending)
    for some in (None, Filter("id > 1"), Filter("id in (2, 3, 4)"), Filter("taken_at < '2002'")):
        for offset in (0, 2):
            sorted_anyhow = sorted_ids(conn, table, order, 3, some, offset=offset)
            assert (
                sorted_ids(conn, table, order, 3, some, offset=offset, in_turn=True)
                == sorted_anyhow
            )


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("collation", ["", "collate nocase"])
def test_the_first_of_many_images_are_those_of_all_in_order(
    tmp_path: Path, collation: str, descending: bool
):
    """Some values are of many images, and others of none, or no text that Python reads."""
    conn = sqlite3.connect(tmp_path / "photos.db")
    conn.executescript(
        f"create table images (id integer primary key, path text, taken_at text {collation});"
        "create index by_date on images (taken_at collate BINARY)"
    )
    values = [None, "2019", "2020", "a", "A", *(str(year) for year in range(2100, 2300))]
    rng = np.random.default_rng(0)
    dates = [values[at] for at in rng.integers(0, len(values), 2_000)]
    conn.executemany("insert into images values (?, '', ?)", enumerate(dates))
    for rest, value in enumerate(("cast(x'ff' as text)", "cast(x'fe' as text)", "x'fe'")):
        conn.execute(f"update images set taken_at = {value} where id % 50 = {rest}")
    order = Order("taken_at", descending)
    for ids in (rng.permutation(2_100), rng.permutation(2_000)[:700], np.arange(1_900, 2_100)):
        wanted = in_order(conn, TABLE, ids.tolist(), order)
        for most in (1, 2, 11, 60, 400, 3_000):
            first = in_order(conn, TABLE, ids.tolist(), order, most=most)
            assert first[:most] == wanted[:most]


@pytest.mark.skipif(not COUNTED.exists(), reason="the system does not say what a process reads")
def test_the_first_in_order_are_found_without_a_look_at_the_other_rows(tmp_path: Path):
    path = tmp_path / "photos.db"
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("create table images (id integer primary key, path text, taken_at text)")
        conn.execute("create index by_date on images (taken_at)")
        rows = ((id, "x" * 3_000, f"{id * 37 % 1_000:04}") for id in range(1_000))
        conn.executemany("insert into images values (?, ?, ?)", rows)
    every, first = (
        bytes_read(path, lambda conn, most=most: in_order(conn, TABLE, ALL, NEWEST, most=most))
        for most in (None, 5)
    )
    assert first < every / 20


def bytes_read(database: Path, read: Callable[[sqlite3.Connection], object]) -> int:
    """By a connection that has read nothing yet."""
    before = COUNTED.read_text()
    with closing(sqlite3.connect(database)) as conn:
        read(conn)
    counts = (int(text.split()[1]) for text in (before, COUNTED.read_text()))
    return -next(counts) + next(counts)
