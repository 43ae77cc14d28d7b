"""The answer to a search request: the images of one page, how many match, and how they were found."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from datasette.utils import sqlite_timelimit

from ... import store
from ...api import Images
from ...search.planner import Step
from ...search.queries import Query
from ...store import reads
from ...store.filters import naming_the_filter
from ...store.ordering import in_order, sorted_ids
from ...store.reads import count_images, image_rows, newest_ids
from ...store.text_search import TextMatch
from ...store.transactions import is_interrupted
from ...store.vectors import count_with_vector
from ...store.views import view_rows
from ..access.requested_table import RequestedTable
from ..configuration import configured_weights
from ..errors import told_when_too_long
from ..facets.counting import Facets, count_facets
from ..reading import read_bounded
from .search_request import DEEPEST, SearchRequest

LARGEST_VALUE = 1_000_000
"""Characters or bytes of a value in an image's row; larger values are left out."""

COUNTED = 10_000
"""If matching rows cannot be counted in time, the page says whether there are more than these."""

FEW = 0.1
"""A share of the table below which matching rows are looked up first and sorted by time after."""

T = TypeVar("T")


@dataclass(frozen=True)
class ShownImage:
    """
    An image as a page shows it, with its row. `score` is None without a query, or if there is no vector, `version` if
    nothing is known of the picture. `matched` are the words of the query that are written about it.
    """

    id: store.Key
    row: dict[str, Any]
    score: float | None
    version: str | None
    matched: tuple[TextMatch, ...] = ()


@dataclass(frozen=True)
class Count:
    """How many rows match the filters; more than that if not `is_exact`. None if unknown."""

    number: int | None
    is_exact: bool = True


@dataclass(frozen=True)
class Answer:
    """
    `next_offset` is where the next page begins, None on the last. `without_vector` is the number of
    images of the table that no query finds, None without a query or if it could not be counted in time.
    `milliseconds` are by part.
    """

    images: tuple[ShownImage, ...]
    next_offset: int | None
    count: Count
    facets: Facets
    without_vector: int | None = None
    plan: tuple[Step, ...] = ()
    warnings: tuple[str, ...] = ()
    milliseconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Page:
    images: tuple[ShownImage, ...]
    plan: tuple[Step, ...] = ()
    warnings: tuple[str, ...] = ()
    query_vector_ms: float = 0.0


async def find(
    requested: RequestedTable, wanted: SearchRequest, *, patient_facets: bool = False
) -> Answer:
    """
    Search, count and facet side by side. `is_prepared` must have been awaited for the query.

    Raises an ImageSearchError with a sentence for the person.
    """
    milliseconds: dict[str, float] = {}

    async def timed(name: str, work: Awaitable[T]) -> T:
        started = time.perf_counter()
        try:
            return await work
        finally:
            milliseconds[name] = (time.perf_counter() - started) * 1000

    async def count_and_search() -> tuple[Count, _Page]:
        counting = timed("count", _count(requested, wanted))
        if not wanted.query and wanted.order is None and wanted.filter is not None:
            # The count decides how best to look for the newest.
            count = await counting
            return count, await timed("search", _without_query(requested, wanted, count))
        searching = _closest if wanted.query else _without_query
        return await asyncio.gather(counting, timed("search", searching(requested, wanted)))

    counting = count_facets(requested, wanted.rows, patient=patient_facets)
    with told_when_too_long(requested.datasette), naming_the_filter(requested.table, wanted.filter):
        (count, page), facets, without_vector = await asyncio.gather(
            count_and_search(),
            timed("facets", counting),
            _without_vector(requested, wanted),
        )
    milliseconds["query vector"] = page.query_vector_ms
    end = wanted.offset + wanted.size
    more = len(page.images) > wanted.size > 0
    allowed = not wanted.query or end + wanted.size <= DEEPEST
    return Answer(
        images=page.images[: wanted.size],
        next_offset=end if more and allowed else None,
        count=count,
        facets=facets,
        without_vector=without_vector,
        plan=page.plan,
        warnings=page.warnings,
        milliseconds=milliseconds,
    )


async def _closest(requested: RequestedTable, wanted: SearchRequest) -> _Page:
    weights_of = configured_weights(requested.datasette)

    def search(conn: sqlite3.Connection) -> _Page:
        images = Images(conn, requested.table.name, weights_of=weights_of, raw_errors=True)
        model = requested.index.model
        # Before the snapshot, which keeps others from writing for as long as it lasts.
        images.open(model=model)
        # The image to search by, the ranking and the rows must be of one state of one file.
        with store.snapshot(conn):
            started = time.perf_counter()
            query: Query = wanted.query
            warnings: tuple[str, ...] = ()
            if wanted.by == "likeness":
                query = asked = images.ask(wanted.query, model=model)
                warnings = asked.warnings
            query_vector_ms = (time.perf_counter() - started) * 1000
            if not wanted.size:
                return _Page((), (), warnings, query_vector_ms)
            order, size, offset = wanted.order, wanted.size + 1, wanted.offset
            (found,) = images.find(
                [query],
                wanted.limit if order else size,
                where=wanted.filter,
                offset=0 if order else offset,
                min_score=wanted.min_score,
                model=model,
                by=wanted.by,
                rank=wanted.rank,
            )
            scores = {hit.id: hit.score for hit in found.hits}
            ids = list(scores)
            if order is not None:
                ids = in_order(conn, requested.table, ids, order, requested.view)
                ids = ids[offset : offset + size]
            matched = {hit.id: hit.matched for hit in found.hits}
            shown = tuple(
                replace(image, matched=matched[image.id])
                for image in _shown_images(conn, requested, ids, scores)
            )
        return _Page(shown, found.steps, found.warnings, query_vector_ms)

    return await in_time(requested, search)


async def _without_query(
    requested: RequestedTable, wanted: SearchRequest, count: Count | None = None
) -> _Page:
    def read(conn: sqlite3.Connection) -> _Page:
        size, table = wanted.size + 1, requested.table
        if wanted.order is not None:
            ids = sorted_ids(
                conn,
                table,
                wanted.order,
                size,
                wanted.rows,
                offset=wanted.offset,
                view=requested.view,
            )
            return _Page(_shown_images(conn, requested, ids, {}))
        few = False
        if count is not None and count.is_exact and count.number is not None:
            few = count.number < FEW * count_images(conn, requested.table)
        ids = newest_ids(conn, table, size, wanted.filter, offset=wanted.offset, few_match=few)
        return _Page(_shown_images(conn, requested, ids, {}))

    if not wanted.size:
        return _Page(())
    return await in_time(requested, read)


def _shown_images(
    conn: sqlite3.Connection,
    requested: RequestedTable,
    ids: list[store.Key],
    scores: Mapping[store.Key, float | None],
) -> tuple[ShownImage, ...]:
    """Rows without the column of BLOBs, which are the pictures themselves."""
    if requested.view is not None:
        rows = view_rows(conn, requested.view, ids)
    else:
        without = requested.index.content_column
        rows = image_rows(conn, requested.table, ids, without=without, largest=LARGEST_VALUE)
    versions = reads.versions(conn, requested.table, ids)
    return tuple(
        ShownImage(id, rows[id], scores.get(id), versions.get(id)) for id in ids if id in rows
    )


async def _count(requested: RequestedTable, wanted: SearchRequest) -> Count:
    patience = requested.datasette.setting("facet_time_limit_ms")

    def count(conn: sqlite3.Connection) -> Count:
        for limit in (None, COUNTED + 1):
            with suppress(_Interrupted), _no_longer_than(conn, patience):
                number = count_images(conn, requested.table, wanted.filter, limit=limit)
                return Count(min(number, limit - 1 if limit else number), limit != number)
        return Count(None)

    return await read_bounded(requested.database, count)


async def _without_vector(requested: RequestedTable, wanted: SearchRequest) -> int | None:
    patience = requested.datasette.setting("facet_time_limit_ms")

    def count(conn: sqlite3.Connection) -> int | None:
        with suppress(_Interrupted), _no_longer_than(conn, patience), store.snapshot(conn):
            images = count_images(conn, requested.table)
            return images - count_with_vector(conn, requested.index)
        return None

    return await read_bounded(requested.database, count) if wanted.query else None


class _Interrupted(Exception):
    """A statement ran into its time limit."""


@contextmanager
def _no_longer_than(conn: sqlite3.Connection, milliseconds: int) -> Iterator[None]:
    try:
        with sqlite_timelimit(conn, milliseconds):
            yield
    except sqlite3.OperationalError as error:
        if not is_interrupted(error):
            raise
        raise _Interrupted from error


async def in_time(requested: RequestedTable, read: Callable[[sqlite3.Connection], T]) -> T:
    """Calls `read` within sql_time_limit_ms."""
    limit = requested.datasette.setting("sql_time_limit_ms")

    def read_in_time(conn: sqlite3.Connection) -> T:
        with suppress(_Interrupted), _no_longer_than(conn, limit):
            return read(conn)
        # Perhaps the filter was quick, and reading the index from a cold disk was slow: try once more.
        with sqlite_timelimit(conn, limit):
            return read(conn)

    return await read_bounded(requested.database, read_in_time)
