"""The answer to queries that are vectors already, ranked as they ask for."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from ..checked import check_choice
from ..store import Filter, Index
from ..store.filters import IdSet
from ..store.ordering import Order
from . import planner
from .correction import Rank
from .query import QueryVector

By = Literal["likeness", "text", "both"]


@dataclass(frozen=True)
class SearchOptions:
    """
    `offset` leaves out so many of the best, and `min_score` the images with a lower score. `exact` leaves an
    approximate index aside. `rank` "cosine" orders by the score alone, without the correction for pictures that
    are close to any words. `by` is "likeness", or "text" for the images that the words are written about, or "both":
    a hit then has the texts that `matched`, and no `score` if there is none; `min_score` leaves out none without.
    """

    offset: int = 0
    min_score: float | None = None
    exact: bool = False
    rank: Rank = "corrected"
    by: By = "likeness"

    def __post_init__(self) -> None:
        check_choice("by", self.by, get_args(By))
        check_choice("rank", self.rank, get_args(Rank))


def find_images(
    conn: sqlite3.Connection,
    index: Index,
    asked: Sequence[QueryVector],
    k: int,
    filter: Filter | IdSet | None,
    options: SearchOptions,
    order: Order | None = None,
) -> list[planner.Found]:
    """For each query the best k images, as planner.search_many() has them, in the order of a column if there is one."""
    is_corrected = options.rank == "corrected"
    all_found = planner.search_many(
        conn,
        index,
        np.stack([query.vector for query in asked]),
        k,
        filter,
        offset=options.offset,
        min_score=options.min_score,
        exact=options.exact,
        words=np.array([query.words for query in asked]) if is_corrected else None,
    )
    if order is not None:
        all_found = planner.sorted_by(conn, index, order, all_found)
    pairs = zip(all_found, asked, strict=True)
    return [replace(found, warnings=query.warnings) for found, query in pairs]
