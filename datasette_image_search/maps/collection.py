"""An index and a filter -> a map of the images, with the place, name and colour value of each."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np

from ..errors import ImageSearchError
from ..search.live import LiveIndex
from ..store import Filter, Index, Key
from ..store.filters import matching, matching_images
from ..store.reads import images_of_vectors, images_with_vectors
from ..store.stored_vectors import starts_of
from ..store.tables import LAST, column_names
from ..store.vectors import count_vectors

Project = Callable[[LiveIndex, np.ndarray], np.ndarray]
"""A live index and positions -> points, shape (len(positions), 2): see search/projection.py."""


class MapError(ImageSearchError):
    """The map cannot be drawn."""


AT_ONCE = 1_000
"""Images whose rows are read before the next look at the clock: from a slow disk, a tenth of a second."""

STEPS = 256
"""Of an axis: what lies in the same one is seen as one place."""


@dataclass(frozen=True)
class CollectionMap:
    """
    n images in random order, so that a part of them is a fair sample; all fields have the same order.
    `points` has shape (n, 2), float32, and reaches from -1 to 1 on both axes, the second upwards.
    `values` come from a column. `vectors` are positions in the live index. `count` is the number of
    images to show, of which these n are an even selection.
    """

    image_ids: list[Key]
    names: list[str]
    values: list[Any]
    points: np.ndarray
    vectors: np.ndarray
    count: int

    def __len__(self) -> int:
        return len(self.image_ids)


def collection_map(
    conn: sqlite3.Connection,
    index: Index,
    live: LiveIndex,
    project: Project,
    filter: Filter | None = None,
    column: str | None = None,
    most: int = LAST,
    seconds: float = math.inf,
) -> CollectionMap:
    """
    The map of at most `most` images that have a vector and pass the filter, each once. If their rows are not read in so
    many seconds, as from a disk that nobody read from yet, it has an even selection of fewer.

    Raises MapError if there is no such column, FilterError if SQLite refuses the filter.
    """
    if column is not None:
        check_column(conn, index, column)
    if filter is None:
        # The ids from the index: SQLite would need half of its time limit to list a million.
        positions = np.arange(len(live))
    else:
        positions = np.flatnonzero(_passing(conn, index, live, filter))
    # Of a film, the first of its vectors.
    positions = positions[starts_of(live.vector_ids(positions))]
    count = len(positions)
    if filter is None and live.gone is not None:
        # Nor does it count ten million of a disk in that time.
        count -= len(live.gone)
    elif filter is None:
        count = count_vectors(conn, index)
    if too_many := len(positions) > most:
        # Evenly, because vectors are in the order in which folders were embedded.
        positions = positions[np.linspace(0, len(positions) - 1, most).astype(int)]
    if live.has_image_ids:
        # If a picture replaced another one, both may be there.
        keys = np.unique(live.image_ids(positions)).tolist()
    else:
        keys = images_of_vectors(conn, index, live.vector_ids(positions).tolist())
    rows, looked_at = _rows_in_time(conn, index, keys, column, seconds)
    vectors = live.positions_of(np.array([row[0] for row in rows], dtype=np.int64))
    order = np.random.default_rng(0).permutation(len(rows))
    # Later commits come with the next map.
    order = order[vectors[order] >= 0]
    rows, vectors = [rows[at] for at in order], vectors[order]
    if not too_many:
        count = len(keys) if looked_at < len(keys) else len(rows)
    return CollectionMap(
        image_ids=[row[1] for row in rows],
        names=[_name(row[1], row[2]) for row in rows],
        values=[row[3] for row in rows],
        points=evened(project(live, vectors)),
        vectors=vectors,
        count=count,
    )


def _rows_in_time(
    conn: sqlite3.Connection, index: Index, keys: list[Key], column: str | None, seconds: float
) -> tuple[list[tuple[int, Key, Any, Any]], int]:
    """As images_with_vectors() has them, in the order of vectors, and of how many of the images, evenly chosen."""
    until, rows, done = time.monotonic() + seconds, [], 0
    mixed = np.random.default_rng(0).permutation(len(keys)).tolist()
    while done < len(keys) and (not done or time.monotonic() < until):
        # In the order of the table, whose pages are then read once.
        part = sorted(mixed[done : done + AT_ONCE])
        rows += images_with_vectors(conn, index, [keys[at] for at in part], column)
        done = min(done + AT_ONCE, len(keys))
    return sorted(rows, key=itemgetter(0)), done


def _passing(conn: sqlite3.Connection, index: Index, live: LiveIndex, filter: Filter) -> np.ndarray:
    """A bool per position: whether the image passes the filter."""
    if live.has_image_ids:
        # Asking SQLite for their vectors would take several times as long; the index knows them.
        return live.chosen_images(matching_images(conn, index, filter))
    return live.chosen_vectors(matching(conn, index, filter))


def check_column(conn: sqlite3.Connection, index: Index, column: str) -> None:
    """Raises MapError if the image table has no such column."""
    columns = column_names(conn, index.image_table)
    if column not in columns:
        raise MapError(
            f"{index.image_table!r} has no column {column[:100]!r} to colour by; "
            f"it has {', '.join(columns)}"
        )


def scaled(points: np.ndarray) -> np.ndarray:
    """Scales each axis to -1 to 1; all points are at 0 if they are at one place."""
    if not len(points):
        return points
    # In float32, what is close together and far from 0 would not reach the edges.
    exact = points.astype(np.float64)
    low, high = exact.min(axis=0), exact.max(axis=0)
    half = (high - low) / 2
    return ((exact - (low + high) / 2) / np.where(half > 0, half, 1)).astype(points.dtype)


def evened(points: np.ndarray) -> np.ndarray:
    """
    Scales each axis to -1 to 1 in the same order, with half of the room by distance and half by how many of STEPS
    steps are taken at all. Some hundred near-duplicates, or a few images that are like no other, are far from all
    others on the principal axes: by distance alone these others would share a third of each axis.
    """
    result = scaled(points)
    for axis in result.T if len(points) else ():
        steps = np.round((axis + 1) / 2 * STEPS)
        taken = np.unique(steps)
        if len(taken) > 1:
            even = np.interp(axis, taken / STEPS * 2 - 1, np.linspace(-1, 1, len(taken)))
            axis += (even - axis) / 2
    return result


def _name(image_id: Key, path: str | None) -> str:
    return str(path).rsplit("/", 1)[-1] if path else f"#{image_id}"
