"""The answer to queries that are vectors already: the ranking that they ask for, and what there is to tell of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import numpy as np

from ..checked import check_choice
from ..store import Filter, Index
from ..store.filters import IdSet
from . import planner
from .correction import Rank
from .query import QueryVector


def find_images(
    conn: sqlite3.Connection,
    index: Index,
    asked: Sequence[QueryVector],
    k: int,
    filter: Filter | IdSet | None,
    *,
    rank: Rank,
    offset: int,
    min_score: float | None,
    exact: bool,
) -> list[planner.Found]:
    """For each query the best k images, as planner.search_many() has them."""
    check_choice("rank", rank, get_args(Rank))
    all_found = planner.search_many(
        conn,
        index,
        np.stack([query.vector for query in asked]),
        k,
        filter,
        offset=offset,
        min_score=min_score,
        exact=exact,
        words=np.array([query.words for query in asked]) if rank == "corrected" else None,
    )
    pairs = zip(all_found, asked, strict=True)
    return [replace(found, warnings=query.warnings) for found, query in pairs]
