"""A search for one vector, as most tests make."""

from __future__ import annotations

import sqlite3
from typing import Any

import numpy as np

from datasette_image_search.search import planner
from datasette_image_search.search.correction import ranking_vectors
from datasette_image_search.search.hits import Found
from datasette_image_search.store import Filter, Index
from datasette_image_search.store.filters import IdSet


def search_one(
    conn: sqlite3.Connection,
    index: Index,
    vector: np.ndarray,
    k: int,
    filter: Filter | IdSet | None = None,
    **options: Any,
) -> Found:
    words, least = np.array([options.pop("words", 0)]), options.pop("min_score", None)
    with planner.live_snapshot(conn, index) as live:
        if least is not None:
            options["among"] = [planner.reaching(conn, live, vector, least)]
        ranking = ranking_vectors(live.index, live.references, vector[None], words)
        (found,) = planner.search_live(conn, live, ranking, k, filter, **options)
    return found
