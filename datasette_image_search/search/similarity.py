"""
The scores and the relevances of all images for one query, to be looked up one by one: for SQL, which asks per row.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..store import Index
from ..store.ownership import has_triggers
from ..store.vectors import vector_ids
from .asked import all_relevances
from .freshness import live_index
from .ids import SPARSE
from .live import LiveIndex
from .lost_engines import survives_engines
from .query import QueryVector

KEPT_BYTES = 128 * 2**20
"""Memory for the scores that a process remembers: 32 queries over 1,000,000 images."""

KEPT_INDEXES = 8

_remembered: OrderedDict[tuple[str, tuple[object, ...]], memoryview] = OrderedDict()
_images: OrderedDict[str, _Images] = OrderedDict()
_lock = threading.Lock()
"""Values by live index and query, and images by live index, the last used at the end; and a lock for both."""


@dataclass(frozen=True)
class _Images:
    """
    The ids of the images that have a vector, and the positions of those in a live index. `several` are places in both
    of images that have several.
    """

    ids: np.ndarray
    positions: np.ndarray | slice
    several: np.ndarray


def count_scores(conn: sqlite3.Connection, index: Index) -> int:
    """The number of scores that `scores_by_image` computes for one query."""
    return len(live_index(conn, index))


@survives_engines
def scores_by_image(
    conn: sqlite3.Connection, index: Index, vector: np.ndarray, *, compute: bool = True
) -> memoryview | None:
    """
    The score at the id of every image, NaN if it has no vector; from the codes, so with an error of up to
    CODE_ERROR. `vector` is a unit vector, shape (dimensions,).

    None if keys are texts or very sparse, if `conn` does not see the last commit, or if triggers are
    missing, because then a vector may be of an earlier picture. Without `compute`, also None if they are
    not remembered.
    """
    asked = ("score", vector.tobytes())
    return _by_image(conn, index, asked, compute and (lambda live: live.scores(vector)))


@survives_engines
def relevances_by_image(
    conn: sqlite3.Connection, query: QueryVector, *, compute: bool = True
) -> memoryview | None:
    """The same with relevances, as relevance_of_image() has them."""
    asked = ("relevance", query.vector.tobytes(), query.words, query.pictures)
    return _by_image(
        conn, query.index, asked, compute and (lambda live: all_relevances(conn, live, query))
    )


def _by_image(
    conn: sqlite3.Connection,
    index: Index,
    asked: tuple[object, ...],
    compute: Literal[False] | Callable[[LiveIndex], np.ndarray],
) -> memoryview | None:
    live = live_index(conn, index)
    if live.index != index:
        # The statement sees an older state, or one that is not committed, and others the live one.
        return None
    if not live.has_image_ids or not has_triggers(conn, index.table):
        return None
    key = live.name, asked
    with _lock:
        if key in _remembered:
            _remembered.move_to_end(key)
            return _remembered[key]
    if not compute:
        return None
    images = _images_of(conn, index, live)
    highest = int(images.ids.max(initial=0))
    if images.ids.min(initial=0) < 0 or highest > SPARSE * len(images.ids):
        return None
    values = compute(live)
    by_id = np.full(highest + 1, np.nan, dtype=values.dtype)
    values = values[images.positions]
    by_id[images.ids] = values
    # Of several, any is there now.
    np.fmax.at(by_id, images.ids[images.several], values[images.several])
    kept = by_id.data
    with _lock:
        _remembered[key] = kept
        while sum(each.nbytes for each in _remembered.values()) > KEPT_BYTES:
            _remembered.popitem(last=False)
    return kept


def _images_of(conn: sqlite3.Connection, index: Index, live: LiveIndex) -> _Images:
    """Known per live index, for that is replaced with every change."""
    with _lock:
        if live.name in _images:
            return _images[live.name]
    there = live.there()
    if there is None:
        there = live.chosen_vectors(vector_ids(conn, index))
    positions = slice(None) if there.all() else np.flatnonzero(there)
    ids = live.all_image_ids()[positions]
    is_next = ids[1:] == ids[:-1]
    several = np.flatnonzero(np.append(is_next, [False]) | np.append([False], is_next))
    images = _Images(ids, positions, several[: len(ids)])
    with _lock:
        _images[live.name] = images
        while len(_images) > KEPT_INDEXES:
            _images.popitem(last=False)
    return images
