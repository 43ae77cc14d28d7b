"""The answer to a search request: the images of one page, how many match, and how they were found."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from datasette.utils import sqlite_timelimit

from ... import store
from ...api import Images
from ...search.fusion import images_within
from ...search.hits import Found, Hit, Step
from ...search.queries import Query
from ...store import Filter, reads
from ...store.filters import IdSet, naming_the_filter
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
from .search_request import DEEPEST, SORTED, SearchRequest

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
    An image as a page shows it, with its row. `score` is None without a query or a vector, `relevance` if nothing is
    known to compare with, and `version` if nothing is known of the picture. `matched` are the words of the query that are
    written about it, and `at` the seconds of the best scene of a film.
    """

    id: store.Key
    row: dict[str, Any]
    score: float | None
    version: str | None
    relevance: float | None = None
    matched: tuple[TextMatch, ...] = ()
    is_match: bool = False
    at: float | None = None


@dataclass(frozen=True)
class Count:
    """How many rows match the filters; more than that if not `is_exact`. None if unknown."""

    number: int | None
    is_exact: bool = True


@dataclass(frozen=True)
class Answer:
    """
    `next_offset` is where the next page begins, None on the last. `matches` are how many of all images with the
    filters are relevant enough to be matches, None without a query or if nothing is known to compare with.
    `without_vector` is the number of images of the table that no query finds, None without a query or if it could
    not be counted in time. `milliseconds` are by part.
    """

    images: tuple[ShownImage, ...]
    next_offset: int | None
    count: Count
    facets: Facets
    matches: Count | None = None
    without_vector: int | None = None
    plan: tuple[Step, ...] = ()
    warnings: tuple[str, ...] = ()
    milliseconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Page:
    images: tuple[ShownImage, ...]
    matches: Count | None = None
    plan: tuple[Step, ...] = ()
    warnings: tuple[str, ...] = ()
    query_vector_ms: float = 0.0


async def find(
    requested: RequestedTable,
    wanted: SearchRequest,
    *,
    patient_facets: bool = False,
    usual_facets: bool = False,
) -> Answer:
    """
    Search, count and facet side by side; with the usual facets if `usual_facets` and the URL names none. `is_prepared` must have been awaited for the query.

    Raises an ImageSearchError with a sentence for the person.
    """
    milliseconds: dict[str, float] = {}
    if wanted.is_limited:
        with told_when_too_long(requested.datasette):
            wanted = await within_limits(requested, wanted)

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

    counting = count_facets(
        requested,
        partial(wanted.rows_beside, requested),
        patient=patient_facets,
        with_usual=usual_facets,
    )
    with told_when_too_long(requested.datasette), naming_the_filter(requested.table, wanted.filter):
        (count, page), facets, without_vector = await asyncio.gather(
            count_and_search(),
            timed("facets", counting),
            _without_vector(requested, wanted),
        )
    milliseconds["query vector"] = page.query_vector_ms
    if wanted.is_limited and page.matches is not None and page.matches.number == count.number:
        # What is left are the matches, of which texts have more than are looked at.
        count = replace(count, is_exact=count.is_exact and page.matches.is_exact)
    end = wanted.offset + wanted.size
    more = len(page.images) > wanted.size > 0
    allowed = not wanted.query or end + wanted.size <= DEEPEST
    if wanted.limit is not None and not (wanted.query and wanted.order):
        more = more and end < wanted.limit
    return Answer(
        images=page.images[: wanted.size],
        next_offset=end if more and allowed else None,
        count=count,
        facets=facets,
        matches=page.matches,
        without_vector=without_vector,
        plan=page.plan,
        warnings=page.warnings,
        milliseconds=milliseconds,
    )


async def found_images(requested: RequestedTable, wanted: SearchRequest) -> tuple[ShownImage, ...]:
    """The images of `find` alone."""
    with told_when_too_long(requested.datasette), naming_the_filter(requested.table, wanted.filter):
        if wanted.is_limited:
            wanted = await within_limits(requested, wanted)
        searching = _closest if wanted.query else _without_query
        page = await searching(requested, wanted)
    return page.images[: wanted.size]


async def shown_image(requested: RequestedTable, image_id: store.Key) -> ShownImage | None:
    """One image, of the view if the URL names one; None if it is not there."""
    shown = await in_time(requested, lambda conn: _shown_images(conn, requested, [image_id], {}))
    return shown[0] if shown else None


async def within_limits(requested: RequestedTable, wanted: SearchRequest) -> SearchRequest:
    """The same with what fits the query as one more filter, so that all that is shown and counted agree."""
    weights_of = configured_weights(requested.datasette)

    def within(conn: sqlite3.Connection) -> IdSet | None:
        images = Images(conn, requested.table.name, weights_of=weights_of, raw_errors=True)
        images.open(model=requested.index.model)
        with store.snapshot(conn):
            ask = partial(images.ask, model=requested.index.model)
            index = images.index_of(requested.index.model)
            return images_within(conn, index, wanted.query, wanted.filter, wanted.options, ask)

    ids = await in_time(requested, within)
    return wanted if ids is None else wanted.among(requested, ids)


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
                return _Page((), None, (), warnings, query_vector_ms)
            order, size, offset = wanted.order, wanted.size + 1, wanted.offset
            if order is None:
                found = _best(images, wanted, query, size, wanted.filter, offset=offset)
                matches = _known_matches(found, wanted)
                if matches is None and found.knows_matches:
                    matches = _count_of(_all_matches(images, wanted, query))
                ids = [hit.id for hit in found.hits]
            else:
                found = _all_matches(images, wanted, query)
                matches = _count_of(found) if found.knows_matches else None
                if wanted.limit is not None or not (matches and matches.number):
                    k = wanted.limit or SORTED
                    found = _best(images, wanted, query, k, wanted.filter, with_matched=False)
                best = [hit.id for hit in found.hits]
                ids = in_order(conn, requested.table, best, order, wanted.rows, view=requested.view)
                ids = ids[offset : offset + size]
                if ids:
                    found = replace(
                        found, hits=_best(images, wanted, query, len(ids), IdSet(ids)).hits
                    )
            shown = _shown_images(conn, requested, ids, {hit.id: hit for hit in found.hits})
        return _Page(shown, matches, found.steps, found.warnings, query_vector_ms)

    return await in_time(requested, search)


def _best(
    images: Images,
    wanted: SearchRequest,
    query: Query,
    k: int,
    among: Filter | IdSet | None,
    **options: Any,
) -> Found:
    (found,) = images.find([query], k, where=among, rank=wanted.rank, by=wanted.by, **options)
    return found


def _all_matches(images: Images, wanted: SearchRequest, query: Query) -> Found:
    """As far as a query can be followed."""
    options = {"matches_only": True, "with_matched": False}
    return _best(images, wanted, query, DEEPEST, wanted.filter, **options)


def _count_of(matches: Found) -> Count:
    return Count(len(matches.hits), len(matches.hits) < DEEPEST)


def _known_matches(found: Found, wanted: SearchRequest) -> Count | None:
    """How many matches there are in all, if the hits of a page tell: the last of them is among these."""
    is_last = found.matches < len(found.hits) or len(found.hits) <= wanted.size
    is_here = found.matches > 0 or wanted.offset == 0
    if found.knows_matches and is_last and is_here:
        return Count(wanted.offset + found.matches)
    return None


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
    hits: Mapping[store.Key, Hit],
) -> tuple[ShownImage, ...]:
    """Rows without the column of BLOBs, which are the pictures themselves."""
    if requested.view is not None:
        rows = view_rows(conn, requested.view, ids)
    else:
        without = requested.index.content_column
        rows = image_rows(conn, requested.table, ids, without=without, largest=LARGEST_VALUE)
    versions = reads.versions(conn, requested.table, ids)
    shown = []
    for id in ids:
        if id in rows:
            image = ShownImage(id, rows[id], None, versions.get(id))
            if (hit := hits.get(id)) is not None:
                image = replace(
                    image,
                    score=hit.score,
                    relevance=hit.relevance,
                    matched=hit.matched,
                    is_match=hit.is_match,
                    at=hit.at,
                )
            shown.append(image)
    return tuple(shown)


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
