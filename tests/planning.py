"""A search for one vector, as most tests make."""

from __future__ import annotations

import sqlite3
from typing import Any

import numpy as np

from datasette_image_search.search import planner
from datasette_image_search.store import Filter, Index
from datasette_image_search.store.filters import IdSet


def search_one(
    conn: sqlite3.Connection,
    index: Index,
    vector: np.ndarray,
    k: int,
    filter: Filter | IdSet | None = None,
    **options: Any,
) -> planner.Found:
    if "words" in options:
        options["words"] = np.array([options["words"]])
    (found,) = planner.search_many(conn, index, vector[None], k, filter, **options)
    return found
