"""
Hits in the order of a column: all matches of a query, or its best if none is a match or nobody can tell.

With a least relevance, all that have it are sorted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace

from ..checked import check_whole
from ..store import Filter, Index
from ..store.filters import IdSet
from ..store.ordering import Order, in_order
from . import fusion
from .asked import SearchOptions
from .fusion import Ask
from .hits import Found
from .queries import Query

DEEPEST = 10_000
"""Images that are sorted, the closest if there are more: as far as a query can be followed."""


def find_images(
    conn: sqlite3.Connection,
    index: Index,
    queries: Sequence[Query],
    k: int,
    filter: Filter | IdSet | None,
    options: SearchOptions,
    ask: Ask,
    order: Order | None,
) -> list[Found]:
    """
    What fusion.find_images() finds; with an order, for each query the first k of its matches by a column, after the
    first `offset`, or else the k best, sorted. Of equal values, and of images without one, the best comes first.
    """
    if order is None:
        return fusion.find_images(conn, index, queries, k, filter, options, ask)
    check_whole("k", k, 1)
    check_whole("offset", options.offset, 0)
    silent = replace(options, with_matched=False)
    result = []
    shown = fusion.find_images(conn, index, queries, DEEPEST, filter, all_shown(silent), ask)
    for query, found in zip(queries, shown, strict=True):
        start = options.offset
        if not (found.knows_matches and found.hits):
            (found,) = fusion.find_images(conn, index, [query], k, filter, silent, ask)
            start = 0
        by_id = {hit.id: hit for hit in found.hits}
        ids = in_order(conn, index.table, list(by_id), order, most=start + k)
        hits = tuple(by_id[id] for id in ids[start : start + k])
        if options.with_matched:
            hits = fusion.with_matched(conn, index, query, hits)
        result.append(replace(found, hits=hits))
    return result


def all_shown(options: SearchOptions) -> SearchOptions:
    """How to ask for all that is sorted: what is as relevant as a person says, or else the matches."""
    matches_only = options.matches_only or options.min_relevance is None
    return replace(options, offset=0, matches_only=matches_only)
