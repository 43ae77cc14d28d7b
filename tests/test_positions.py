"""Images gathered in the cells of a grid over the earth."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlite_utils import Database

from datasette_image_search.store import Filter, find_index
from datasette_image_search.store.positions import Box, Cell, cells

from .commands import change

EUROPE = Box(30, -20, 60, 20)


@pytest.fixture
def table(database: Path, db: Database):
    change(
        database,
        "update images set latitude = 38.7, longitude = -9.1 where id in (1, 2)",
        "update images set latitude = 38.9, longitude = -9.3 where id = 3",
        "update images set latitude = 48.9, longitude = 2.3 where id = 4",
        "update images set latitude = -33.9, longitude = 151.2 where id = 5",
        "update images set latitude = 'north', longitude = 2 where id = 6",
        "update images set latitude = 95, longitude = 2 where id = 7",
    )
    return find_index(db.conn, "images").table


def counts(found: list[Cell]) -> list[int]:
    return [cell.count for cell in found]


def test_cells_are_those_of_the_box_the_fullest_first(db: Database, table) -> None:
    lisbon, paris, sydney = cells(db.conn, table, None, Box(), 32)
    assert (lisbon.count, lisbon.image_id) == (3, 1)
    assert lisbon.box == Box(38.7, -9.3, 38.9, -9.1)
    assert lisbon.latitude == pytest.approx((38.7 + 38.7 + 38.9) / 3)
    assert {paris.image_id, sydney.image_id} == {4, 5}
    assert counts(cells(db.conn, table, None, EUROPE, 8)) == [3, 1]
    assert counts(cells(db.conn, table, None, EUROPE, 1000)) == [2, 1, 1]
    assert counts(cells(db.conn, table, None, EUROPE, 1)) == [4]
    assert cells(db.conn, table, None, Box(0, 0, 1, 1), 8) == []


def test_a_filter_and_a_box_of_one_point(db: Database, table) -> None:
    assert counts(cells(db.conn, table, Filter("id > :least", {"least": 1}), EUROPE, 8)) == [2, 1]
    assert counts(cells(db.conn, table, None, Box(38.7, -9.1, 38.7, -9.1), 8)) == [2]
