"""The map of a collection: every image that has a vector once, none that is gone, at places of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from datasette_image_search.maps import collection
from datasette_image_search.maps.collection import (
    CollectionMap,
    MapError,
    collection_map,
    evened,
    scaled,
)
from datasette_image_search.maps.page import one_per_cell
from datasette_image_search.maps.picture import apart
from datasette_image_search.search.freshness import live_index
from datasette_image_search.search.indexing import refresh_sidecars
from datasette_image_search.search.projection import pca
from datasette_image_search.store import Filter, FilterError, StoreError, find_index
from datasette_image_search.store.reads import LONGEST_VALUE

from .random_tables import add_images, make_index, make_own_table, random_vectors

COUNT = 40


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(tmp_path / "photos.db", execute_plugins=False)) as db:
        add_images(db, random_vectors(COUNT))
        refresh_sidecars(db, "images")
        yield db


def map_of(conn: sqlite3.Connection, table: str = "images", **options) -> CollectionMap:
    index = find_index(conn, table)
    return collection_map(conn, index, live_index(conn, index), pca, **options)


def places(placed: CollectionMap) -> dict:
    return dict(zip(placed.image_ids, placed.points.tolist(), strict=True))


def test_each_image_once_with_its_name_its_value_and_its_place(db: Database) -> None:
    db.execute("update images set camera_model = 'camera ' || id")
    placed = map_of(db.conn, column="camera_model")
    assert sorted(placed.image_ids) == list(range(1, COUNT + 1))
    assert placed.count == len(placed) == len(placed.points) == COUNT
    assert placed.values == [f"camera {id}" for id in placed.image_ids]
    rows = dict(db.execute("select id, path from images"))
    assert placed.names == [rows[id].rsplit("/", 1)[-1] for id in placed.image_ids]
    assert placed.points.min(axis=0).tolist() == [-1, -1]
    assert placed.points.max(axis=0).tolist() == [1, 1]


def test_a_film_is_at_the_place_of_its_first_vector(db: Database) -> None:
    """And is one of so many, however many scenes it has."""
    scenes = random_vectors(9, seed=5)
    (film,) = add_images(db, [scenes])
    placed = map_of(db.conn, most=COUNT + 1)
    assert sorted(placed.image_ids) == list(range(1, COUNT + 2))
    (still,) = add_images(db, scenes[:1])
    both = places(map_of(db.conn))
    assert both[film] == pytest.approx(both[still], abs=1e-4)
    assert map_of(db.conn, most=COUNT).count == COUNT + 2


@settings(
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    gone=st.sets(st.integers(1, 20)),
    without_triggers=st.booleans(),
    added=st.integers(0, 5),
    passing=st.none() | st.sets(st.integers(1, 30)),
)
def test_exactly_the_images_that_are_there_and_pass(
    tmp_path_factory: pytest.TempPathFactory,
    gone: set[int],
    without_triggers: bool,
    added: int,
    passing: set[int] | None,
) -> None:
    """Whatever was deleted and added since the index was opened, and by which tool."""
    path = tmp_path_factory.mktemp("map") / "photos.db"
    with closing(Database(path, execute_plugins=False)) as db:
        add_images(db, random_vectors(20))
        refresh_sidecars(db, "images")
        before = live_index(db.conn, find_index(db.conn))
        if without_triggers:
            for trigger in db.triggers:
                db.execute(f'drop trigger "{trigger.name}"')
        with db.conn:
            db.execute(f"delete from images where id in ({','.join(map(str, gone)) or 'null'})")
        if added and not without_triggers:
            add_images(db, random_vectors(added, seed=1))
        filter = None
        if passing is not None:
            filter = Filter(f"id in ({','.join(map(str, passing)) or 'null'})")
        expected = {id for (id,) in db.execute("select id from images")}
        expected &= expected if passing is None else passing
        assert sorted(map_of(db.conn, filter=filter).image_ids) == sorted(expected)
        # An index that was opened earlier knows none that came later, and shows none that is gone.
        index = find_index(db.conn)
        earlier = collection_map(db.conn, index, before, pca, filter)
        assert set(earlier.image_ids) <= expected
        assert len(set(earlier.image_ids)) == len(earlier)


def test_a_file_that_has_another_picture_is_not_there(db: Database) -> None:
    for trigger in db.triggers:
        db.execute(f'drop trigger "{trigger.name}"')
    with db.conn:
        db.execute("update images set sha256 = 'another' where id = 3")
    assert 3 not in map_of(db.conn).image_ids


def test_with_a_filter_images_keep_their_order_on_both_axes(db: Database) -> None:
    all_points = places(map_of(db.conn))
    index = find_index(db.conn)
    live = live_index(db.conn, index)
    points = pca(live, np.arange(len(live)))
    placed = collection_map(
        db.conn, index, live, lambda live, at: points[at], Filter("id <= :last", {"last": 20})
    )
    some = places(placed)
    assert sorted(some) == list(range(1, 21))
    for axis in (0, 1):
        ranks = sorted(some, key=lambda id: some[id][axis])
        assert ranks == sorted(some, key=lambda id: all_points[id][axis])


def test_of_too_many_some_are_taken_evenly(db: Database) -> None:
    placed = map_of(db.conn, most=10)
    assert (len(placed), placed.count) == (10, COUNT)
    ids = sorted(placed.image_ids)
    assert (ids[0], ids[-1]) == (1, COUNT)
    assert max(np.diff(ids)) <= 5


def test_of_too_many_that_pass_some_are_taken_evenly(db: Database) -> None:
    placed = map_of(db.conn, filter=Filter("id > :least", {"least": 10}), most=10)
    assert (len(placed), placed.count) == (10, COUNT - 10)
    ids = sorted(placed.image_ids)
    assert (ids[0], ids[-1]) == (11, COUNT)
    assert max(np.diff(ids)) <= 4


def test_of_values_that_are_documents_the_beginning_is_read(db: Database) -> None:
    db.execute("update images set camera_model = printf('%05000d', id)")
    placed = map_of(db.conn, column="camera_model")
    assert set(placed.values) == {"0" * LONGEST_VALUE}
    db.execute("update images set camera_model = zeroblob(9), height = id + 0.5")
    assert set(map_of(db.conn, column="camera_model").values) == {None}
    placed = map_of(db.conn, column="height")
    assert placed.values == [id + 0.5 for id in placed.image_ids]


def test_tables_of_ones_own_with_keys_that_are_texts(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "own.db", execute_plugins=False)) as db:
        make_own_table(db, "own", "name", str)
        vectors = random_vectors(3)
        for name in ("a, b", "ü/1", "{c}"):
            db["own"].insert({"name": name, "rating": 5})
        index = make_index(db, "own")[1].id
        for name, vector in zip(("a, b", "ü/1", "{c}"), vectors, strict=True):
            db.execute(
                'insert into "_own_vectors" (index_id, image_id, vector) values (?, ?, ?)',
                [index, name, vector.tobytes()],
            )
        db.conn.commit()
        placed = map_of(db.conn, "own", column="rating")
        assert sorted(placed.image_ids) == ["a, b", "{c}", "ü/1"]
        assert placed.values == [5, 5, 5]


def test_what_is_wrong_is_said_in_a_sentence(db: Database) -> None:
    with pytest.raises(MapError, match="'images' has no column 'nope' to colour by; it has id"):
        map_of(db.conn, column="nope")
    with pytest.raises(FilterError, match="the filter 'nope = 1' does not work on 'images'"):
        map_of(db.conn, filter=Filter("nope = 1"))
    with pytest.raises(StoreError):
        map_of(db.conn, "nowhere")


def test_a_map_of_nothing(db: Database) -> None:
    placed = map_of(db.conn, filter=Filter("0"))
    assert (len(placed), placed.count, placed.points.shape) == (0, 0, (0, 2))


points = st.lists(st.tuples(st.floats(-1, 1, width=32), st.floats(-1, 1, width=32)), max_size=80)


@given(points)
def test_scaled_points_fill_the_map(drawn: list[tuple[float, float]]) -> None:
    array = np.array(drawn, dtype=np.float32).reshape(-1, 2)
    result = scaled(array)
    assert result.shape == array.shape
    assert (np.abs(result) <= 1 + 1e-4).all()


@given(points)
@example([(0.0, 0.5), (0.0, 0.512668788433075)])
def test_evened_points_fill_the_map_in_the_same_order(drawn: list[tuple[float, float]]) -> None:
    array = np.array(drawn, dtype=np.float32).reshape(-1, 2)
    result = evened(array)
    assert (result.shape, result.dtype) == (array.shape, array.dtype)
    for axis, before in zip(result.T, array.T, strict=True):
        assert (np.diff(axis[np.argsort(before, kind="stable")]) >= -1e-5).all()
        if len(before) and np.ptp(before) > 1e-3:
            assert (axis.min(), axis.max()) == pytest.approx((-1, 1))


@pytest.mark.parametrize("duplicates", [3, 1000])
def test_what_is_far_from_all_others_does_not_squeeze_them(duplicates: int) -> None:
    others = np.random.default_rng(0).normal(0, 0.05, (500, 2)).astype(np.float32)
    far = np.ones((duplicates, 2), dtype=np.float32)

    def room_of_others(scale: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The share of each axis."""
        ends = np.quantile(scale(np.vstack([others, far]))[:500], [0.05, 0.95], axis=0)
        return (ends[1] - ends[0]) / 2

    assert (room_of_others(scaled) < 0.15).all()
    assert (room_of_others(evened) > 0.35).all()


@given(points, st.integers(1, 50))
def test_thumbnails_do_not_touch_and_none_is_left_out_that_has_room(
    drawn: list[tuple[float, float]], distance: int
) -> None:
    pixels = np.round(np.array(drawn).reshape(-1, 2) * 100).astype(int)
    chosen = pixels[list(apart(pixels, distance))]

    def touch(one: np.ndarray, others: np.ndarray) -> np.ndarray:
        return (np.abs(others - one) < distance).all(axis=1)

    for at, place in enumerate(chosen):
        assert not touch(place, np.delete(chosen, at, axis=0)).any()
    for place in pixels:
        assert touch(place, chosen).any()


@given(points, st.integers(1, 60))
def test_thumbnails_of_a_page_are_spread_over_it(
    drawn: list[tuple[float, float]], most: int
) -> None:
    array = np.array(drawn).reshape(-1, 2)
    chosen = one_per_cell(array, most)
    assert len(chosen) <= most
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    if len(array) <= most:
        assert len(chosen) == len(array)
    elif len(array):
        assert len(chosen)


def test_of_rows_that_are_not_read_in_time_some_are_left_out_evenly(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "AT_ONCE", 10)
    placed = map_of(db.conn, seconds=0)
    assert (len(placed), placed.count) == (10, COUNT)
    ids = sorted(placed.image_ids)
    assert (ids[0], ids[-1]) != (1, 10)
    monkeypatch.setattr(collection, "AT_ONCE", COUNT)
    whole = map_of(db.conn, seconds=0)
    assert (len(whole), whole.count) == (COUNT, COUNT)
