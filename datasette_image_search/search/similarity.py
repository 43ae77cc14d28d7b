"""The scores of all images for one query, to be looked up one by one: for SQL, which asks per row."""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict

import numpy as np

from .. import store
from ..store import Index
from .live import SPARSE, LiveIndex, live_index

KEPT_BYTES = 128 * 2**20
"""Of the scores that are remembered in a process: 32 queries over 1,000,000 images."""

_remembered: OrderedDict[tuple[str, bytes], memoryview] = OrderedDict()
_lock = threading.Lock()
"""Scores by live index and query, the last used last, and a lock for them."""


def scores_by_image(
    conn: sqlite3.Connection, index: Index, vector: np.ndarray, *, compute: bool = True
) -> memoryview | None:
    """
    A score as a float at the id of every image, NaN where it has no vector; of the codes, so with an
    error of up to CODE_ERROR. `vector` is a unit vector, shape (dimensions,).

    None where it cannot be had: where keys are texts or very sparse, and where the triggers are
    missing without which a vector may be of a picture that is not there any more. Without `compute`,
    also where they are not remembered.
    """
    table = store.find_image_table(conn, index.image_table)
    live = live_index(conn, index)
    if not live.has_image_ids or not store.has_triggers(conn, table):
        return None
    key = live.name, vector.tobytes()
    with _lock:
        if key in _remembered:
            _remembered.move_to_end(key)
            return _remembered[key]
    if not compute:
        return None
    scores = _scores(conn, index, live, vector)
    if scores is None:
        return None
    with _lock:
        _remembered[key] = scores
        while sum(each.nbytes for each in _remembered.values()) > KEPT_BYTES:
            _remembered.popitem(last=False)
    return scores


def _scores(
    conn: sqlite3.Connection, index: Index, live: LiveIndex, vector: np.ndarray
) -> memoryview | None:
    ids = live.image_ids(np.arange(len(live)))
    if not len(ids) or ids.min() < 0 or ids.max() > SPARSE * len(ids):
        return None
    scores = live.scores(vector)
    if store.count_vectors(conn, index) != len(live):
        there = live.chosen_vectors(store.vector_ids(conn, index))
        ids, scores = ids[there], scores[there]
    by_id = np.full(int(ids.max(initial=0)) + 1, np.nan, dtype=np.float32)
    by_id[ids] = scores
    return memoryview(by_id)
