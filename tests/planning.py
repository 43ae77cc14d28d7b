"""Searches for vectors, as tests of the planner make them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import numpy as np

from datasette_image_search.search import planner
from datasette_image_search.search.correction import ranking_vectors
from datasette_image_search.search.exact import reaching
from datasette_image_search.search.freshness import live_snapshot
from datasette_image_search.search.hits import Found
from datasette_image_search.search.lost_engines import survives_engines
from datasette_image_search.store import Filter, Index
from datasette_image_search.store.filters import IdSet


@survives_engines
def search_one(
    conn: sqlite3.Connection,
    index: Index,
    vector: np.ndarray,
    k: int,
    filter: Filter | IdSet | None = None,
    *,
    words: float = 0,
    min_score: float | None = None,
    **options: Any,
) -> Found:
    if min_score is not None:
        with live_snapshot(conn, index) as live:
            options["among"] = [reaching(conn, live, vector, min_score)]
    (found,) = search_together(conn, index, vector[None], k, filter, words=[words], **options)
    return found


@survives_engines
def search_together(
    conn: sqlite3.Connection,
    index: Index,
    vectors: np.ndarray,
    k: int,
    filter: Filter | IdSet | None = None,
    *,
    words: Sequence[float] | None = None,
    **options: Any,
) -> list[Found]:
    """`words` is the weight of the words in each of the vectors, 0 if it is None."""
    with live_snapshot(conn, index) as live:
        weights = np.zeros(len(vectors)) if words is None else np.array(words)
        ranking = ranking_vectors(live.index, live.references, vectors, weights)
        return planner.search_live(conn, live, ranking, k, filter, **options)
