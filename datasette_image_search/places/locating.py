"""Places of images -> columns of their table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from sqlite_utils import Database

from ..checked import check_positive
from ..store import Filter, Index
from ..store.places import (
    PLACE_COLUMNS,
    count_located,
    ensure_place_columns,
    ensure_place_indexes,
    is_located_by_itself,
    points_of,
    unlocated,
    write_places,
)
from ..store.transactions import transaction
from .geonames import NOWHERE, are_positions, geonames, has_towns

BATCH = 10_000
"""Images that are located and committed together."""

MAX_DISTANCE = 100.0
"""Kilometres to the nearest town, further than which there is no place. Half of Greenland and the Sahara have one."""


@dataclass(frozen=True)
class Located:
    """
    Progress of locating: images done and in total, those of them that have a place, and those without a position. `before`
    are images that an earlier run has located, counted if there are no others.
    """

    doing: ClassVar = "Locating"
    done: int
    total: int
    located: int = 0
    without_position: int = 0
    before: int = 0


def locate_images(
    db: Database,
    index: Index,
    *,
    filter: Filter | None = None,
    max_distance: float | None = None,
) -> Iterator[Located]:
    """
    Locate the images that pass the filter and whose latitude and longitude are new, in batches that are committed
    before they are yielded; the first that is yielded has none done. `max_distance` in kilometres is for these, and
    for images that were located with another one; None is MAX_DISTANCE, for the new ones only.

    Raises StoreError if the table has no columns to locate by, or none of ours to write to, and FilterError.
    """
    if max_distance is not None:
        check_positive("max_distance", max_distance)
    with transaction(db):
        columns = ensure_place_columns(db, index)
    kept = [PLACE_COLUMNS.index(name) for name in columns]
    ids = unlocated(db.conn, index.table, filter, max_distance)
    limit = MAX_DISTANCE if max_distance is None else float(max_distance)
    before = 0 if ids else count_located(db.conn, index.table, filter)
    located = Located(0, len(ids), before=before)
    yield located
    for start in range(0, len(ids), BATCH):
        with transaction(db):
            images = points_of(db.conn, index.table, columns, ids[start : start + BATCH])
            points = [image.point for image in images]
            places = _places(points, limit, kept)
            write_places(db, index.table, columns, zip(images, places, strict=True), limit)
        located = replace(
            located,
            done=min(start + BATCH, len(ids)),
            located=located.located + sum(any(place) for place in places),
            without_position=located.without_position
            + int((~are_positions(*_degrees(points))).sum()),
        )
        yield located
    ensure_place_indexes(db, index.table)


def locate_new_images(db: Database, index: Index) -> Iterator[Located]:
    """What a run that embeds does too, if the extra is installed: nothing to a person's own table that never was located."""
    if has_towns() and is_located_by_itself(db.conn, index.table):
        yield from locate_images(db, index)


def _places(
    points: Sequence[tuple[Any, Any]], max_distance: float, kept: Sequence[int]
) -> list[tuple[str | None, ...]]:
    """The values of the columns of PLACE_COLUMNS with these numbers, of each point."""
    towns = geonames()
    numbers = towns.nearest(*_degrees(points), max_distance)
    values = {
        number: tuple(map(towns.towns[number].__getitem__, kept))
        for number in set(numbers.tolist()) - {NOWHERE}
    }
    nowhere = (None,) * len(kept)
    return [values.get(number, nowhere) for number in numbers.tolist()]


def _degrees(points: Sequence[tuple[Any, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes and longitudes."""
    return _numbers([point[0] for point in points]), _numbers([point[1] for point in points])


def _numbers(values: Sequence[Any]) -> np.ndarray:
    """What columns of other people have for degrees, as float64; NaN for no number."""
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return np.array([_number(value) for value in values])


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return np.nan
