"""An index and a filter -> a map of the images: where each is, what it is called, what colours it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import store
from ..errors import ImageSearchError
from ..search.live import LiveIndex
from ..store import LAST, Filter, Index, Key

Project = Callable[[LiveIndex, np.ndarray], np.ndarray]
"""A live index and positions -> points, shape (len(positions), 2): see search/projection.py."""


class MapError(ImageSearchError):
    """A map of what there is not."""


@dataclass(frozen=True)
class CollectionMap:
    """
    n images, shuffled, so that those drawn last, or first where there is room for few, are no others
    than the rest; what is at a position of one is at that of all. `points` has shape (n, 2), float32, and
    reaches from -1 to 1 on both axes, the second upwards. `values` are those of a column. `vectors` are
    the positions in the live index. `count` is how many images there are to show, from which these n
    were taken evenly.
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
) -> CollectionMap:
    """
    The images that have a vector and pass the filter, `most` of them at most, each of them once.

    Raises MapError where there is no such column, FilterError where SQLite does not take the filter.
    """
    if column is not None:
        check_column(conn, index, column)
    if filter is None:
        # Those known already: to list a million takes SQLite half of the time that it has.
        positions, count = np.arange(len(live)), store.count_vectors(conn, index)
    else:
        positions = np.flatnonzero(_passing(conn, index, live, filter))
        count = len(positions)
    if too_many := len(positions) > most:
        # Evenly, for vectors lie in the order in which folders were embedded.
        positions = positions[np.linspace(0, len(positions) - 1, most).astype(int)]
    if live.has_image_ids:
        # Of a picture that took the place of another, both may be there.
        keys = np.unique(live.image_ids(positions)).tolist()
    else:
        keys = store.images_of_vectors(conn, index, live.vector_ids(positions).tolist())
    rows = sorted(store.images_with_vectors(conn, index, keys, column), key=_vector_id)
    vectors = live.positions_of(np.array([row[0] for row in rows], dtype=np.int64))
    order = np.random.default_rng(0).permutation(len(rows))
    # What was committed after the index was read comes with the next map.
    order = order[vectors[order] >= 0]
    rows, vectors = [rows[at] for at in order], vectors[order]
    return CollectionMap(
        image_ids=[row[1] for row in rows],
        names=[_name(row[1], row[2]) for row in rows],
        values=[row[3] for row in rows],
        points=scaled(project(live, vectors)),
        vectors=vectors,
        count=count if too_many else len(rows),
    )


def _passing(conn: sqlite3.Connection, index: Index, live: LiveIndex, filter: Filter) -> np.ndarray:
    """A bool per position: whether the image passes the filter."""
    if live.has_image_ids:
        # To ask which vectors they have takes several times as long, and the index knows.
        return live.chosen_images(store.matching_images(conn, index, filter))
    return live.chosen_vectors(store.matching(conn, index, filter))


def check_column(conn: sqlite3.Connection, index: Index, column: str) -> None:
    """Raises MapError where the image table has no such column."""
    columns = store.column_names(conn, index.image_table)
    if column not in columns:
        raise MapError(
            f"{index.image_table!r} has no column {column[:100]!r} to colour by; "
            f"it has {', '.join(columns)}"
        )


def scaled(points: np.ndarray) -> np.ndarray:
    """Each axis from -1 to 1; all at 0 where they are at one place."""
    if not len(points):
        return points
    low, high = points.min(axis=0), points.max(axis=0)
    half = (high - low) / 2
    return (points - (low + high) / 2) / np.where(half > 0, half, 1)


def _vector_id(row: tuple[Any, ...]) -> int:
    return row[0]


def _name(image_id: Key, path: str | None) -> str:
    return str(path).rsplit("/", 1)[-1] if path else f"#{image_id}"
