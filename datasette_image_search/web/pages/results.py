"""The answer to a search request: the images of one page, how many match, and how they were found."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar, cast

from ... import store
from ...api import Images
from ...embedders.protocol import EmbedderError
from ...search.asked import Within
from ...search.fusion import Search, likeness_in, with_matched
from ...search.hits import Count, Extent, Found, Hit, Step, least_extent, page_in_order
from ...search.sorting import all_shown
from ...store.filters import IdSet, naming_the_filter
from ...store.ordering import first_in_order, in_order, sorted_ids
from ...store.reads import most_images, newest_ids
from ..access.requested_table import RequestedTable
from ..configuration import configured_weights
from ..errors import told_when_too_long
from ..facets.counting import Facets, count_facets
from ..reading import statements_limited
from .counts import count_in_time, count_without_vector
from .search_request import DEEPEST, SORTED, SearchRequest
from .shown_images import ShownImage, shown_images
from .timed_reads import Interrupted, in_time, interrupted

LOOK_UP = 3
"""To look at an image in the order of dates takes as long as to sort so many by date."""

WITHOUT_TEXTS = (
    "to search the texts took too long, so this is by likeness alone; try again, or add a filter"
)

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """
    `next_offset` is where the next page begins, None on the last. `count` are the rows that match the filters, `matches` are how many of all images with the
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
    """
    `wanted` has all that the query leaves out as filters, if it leaves any out; it may leave out more, by its `extent`. `matches` is the least that it can be until it `has_counted` them.
    """

    images: tuple[ShownImage, ...]
    matches: Count | None = None
    plan: tuple[Step, ...] = ()
    warnings: tuple[str, ...] = ()
    query_vector_ms: float = 0.0
    wanted: SearchRequest | None = None
    extent: Extent = "all"
    has_counted: bool = True


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
    told = partial(told_when_too_long, requested.datasette, is_filtered=bool(wanted.filter_words))

    async def timed(name: str, work: Awaitable[T]) -> T:
        started = time.perf_counter()
        try:
            return await work
        finally:
            milliseconds[name] = (time.perf_counter() - started) * 1000

    async def count_and_search() -> tuple[Count, _Page]:
        counting = timed("count", count_in_time(requested, wanted))
        if page is not None:
            return await counting, page
        if not wanted.query and wanted.order is None and wanted.filter is not None:
            # The count decides how best to look for the newest.
            count = await counting
            return count, await timed("search", _without_query(requested, wanted, count))
        searching = _closest if wanted.query else _without_query
        return await asyncio.gather(counting, timed("search", searching(requested, wanted)))

    page = None
    if wanted.is_limited or (wanted.query and wanted.order):
        # What is counted is what is found.
        with told(), naming_the_filter(requested.table, wanted.filter):
            page = await timed("search", _closest(requested, wanted))
        wanted = page.wanted or wanted
    counting = count_facets(
        requested,
        partial(wanted.rows_beside, requested),
        patient=patient_facets,
        with_usual=usual_facets,
    )
    with told(), naming_the_filter(requested.table, wanted.filter):
        # The search says best what is wrong with a filter, whichever of these is the first to fail.
        done = await asyncio.gather(
            count_and_search(),
            timed("facets", counting),
            count_without_vector(requested, wanted),
            return_exceptions=True,
        )
        for each in done:
            if isinstance(each, BaseException):
                raise each
    (count, page), facets, without_vector = cast(
        tuple[tuple[Count, _Page], Facets, int | None], done
    )
    milliseconds["query vector"] = page.query_vector_ms
    count = replace(count, extent=least_extent(count.extent, page.extent))
    if wanted.matches_only and page.matches is not None and page.matches.is_exact:
        # The last of them is on this page, however far others were looked for.
        count = page.matches
    if page.images:
        count = count.but_not_below(wanted.offset + len(page.images[: wanted.size]))
    end = wanted.offset + wanted.size
    more = len(page.images) > wanted.size > 0
    allowed = not wanted.query or end + wanted.size <= DEEPEST
    if wanted.end is not None:
        more = more and end < wanted.end
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
    """The images of `find` alone, without a count of its matches."""
    filtered = bool(wanted.filter_words)
    with (
        told_when_too_long(requested.datasette, is_filtered=filtered),
        naming_the_filter(requested.table, wanted.filter),
    ):
        if wanted.query:
            page = await _closest(requested, wanted, counts_matches=False)
        else:
            page = await _without_query(requested, wanted)
    return page.images[: wanted.size]


async def within_limits(
    requested: RequestedTable, wanted: SearchRequest, *, is_bounded: bool = True
) -> tuple[SearchRequest, Extent]:
    """
    The same with what fits the query as one more filter, so that all that is shown and counted agree; and whether that is
    all that fits: it may not be if the search `is_bounded`.
    """

    def within(conn: sqlite3.Connection) -> tuple[SearchRequest, Extent]:
        with _searching(conn, requested, wanted, 0) as search:
            options = replace(search.options, bounded=is_bounded)
            return _limited(requested, wanted, replace(search, options=options))

    return await in_time(requested, within)


@contextmanager
def _searching(
    conn: sqlite3.Connection, requested: RequestedTable, wanted: SearchRequest, offset: int
) -> Iterator[Search]:
    """The search that is wanted, while the database stays as it is."""
    weights_of = configured_weights(requested.datasette)
    images = Images(conn, requested.table.name, weights_of=weights_of, raw_errors=True)
    model = requested.index.model
    # Before the snapshot, which keeps others from writing for as long as it lasts.
    images.open(model=model)
    # The image to search by, the ranking and the rows must be of one state of one file.
    with store.snapshot(conn):
        options = replace(wanted.options, offset=offset, with_matched=False)
        ask = partial(images.ask, model=model)
        yield Search(conn, images.index_of(model), wanted.query, wanted.filter, options, ask)


async def _closest(
    requested: RequestedTable, wanted: SearchRequest, *, counts_matches: bool = True
) -> _Page:
    limit = requested.datasette.setting("sql_time_limit_ms")

    def read(conn: sqlite3.Connection, wanted: SearchRequest) -> _Page:
        with _searching(conn, requested, wanted, 0 if wanted.order else wanted.offset) as search:
            started = time.perf_counter()
            if wanted.by == "likeness":
                search = replace(search, query=search.ask(wanted.query))
            query_vector_ms = (time.perf_counter() - started) * 1000
            page = (_sorted if wanted.order else _ranked)(requested, wanted, search)
            page = replace(page, query_vector_ms=query_vector_ms)
            if page.has_counted or not counts_matches:
                return page
            # Last, as the images are there by then, and SQLite keeps to this limit from now on.
            with suppress(Interrupted), interrupted(), statements_limited(conn, limit):
                seen = 0 if page.matches is None else page.matches.number or 0
                return replace(page, matches=search.count_matches().but_not_below(seen))
            return page

    def read_without_texts(conn: sqlite3.Connection) -> _Page:
        alike = likeness_in(wanted.query) if wanted.by == "both" else ""
        if alike:
            with suppress(EmbedderError):
                page = read(conn, replace(wanted, by="likeness", query=alike))
                return replace(page, warnings=(*page.warnings, WITHOUT_TEXTS))
        return read(conn, wanted)

    return await in_time(requested, lambda conn: read(conn, wanted), read_without_texts)


def _ranked(requested: RequestedTable, wanted: SearchRequest, search: Search) -> _Page:
    limited: SearchRequest | None = None
    extent: Extent = "all"
    if wanted.is_limited:
        limited, extent = _limited(requested, wanted, search)
    if not wanted.size:
        return _Page((), wanted=limited, extent=extent)
    found = search.find(wanted.size + 1)
    matches, has_counted = _known_matches(found, wanted, search)
    hits = page_in_order(found.hits, wanted.size)
    page = _page(requested, search, found, hits, matches, limited)
    return replace(page, extent=extent, has_counted=has_counted)


def _limited(
    requested: RequestedTable, wanted: SearchRequest, search: Search
) -> tuple[SearchRequest, Extent]:
    """As within_limits()."""
    within = search.within()
    if within is None:
        return wanted.among(requested, None, search.rest()), "all"
    return wanted.among(requested, within.ids, search.rest()), within.extent


def _sorted(requested: RequestedTable, wanted: SearchRequest, search: Search) -> _Page:
    """What is sorted is all that is shown, on this page and others."""
    assert wanted.order is not None
    limit, every = wanted.limit, replace(search, options=all_shown(search.options))
    found, limited = None, None
    extent: Extent = "all"
    within = every.within() if limit is None else None
    page = None if within is None else _matches_in_order(requested, wanted, every, within)
    if page is not None:
        return page
    if limit is None:
        # No more are looked for than there are.
        most = DEEPEST if within is None else min(len(within.ids.ids), DEEPEST)
        found = every.find(max(most, 1))
    if found is not None and found.knows_matches and found.hits:
        ids = None if within is None else within.ids
        limited = wanted.among(requested, ids, search.rest())
        extent = "all" if within is None else within.extent
    else:
        found = search.find(limit or SORTED)
    has_counted = len(found.hits) < DEEPEST
    matches = None
    if found.knows_matches:
        matches = Count(found.matches, extent if has_counted else "at least")
    hits = {hit.id: hit for hit in found.hits}
    if limited is None:
        limited = wanted.among(requested, IdSet(list(hits)), search.rest())
    end = wanted.offset + wanted.size + 1
    # The hits pass the filter; of a view with several rows of an image not all do.
    rows = None if requested.view is None else wanted.rows
    in_turn = in_order(
        search.conn, requested.table, list(hits), wanted.order, rows, view=requested.view, most=end
    )
    shown = [hits[id] for id in in_turn[wanted.offset : end]]
    page = _page(requested, search, found, shown, matches, limited)
    return replace(page, extent=extent, has_counted=has_counted or matches is None)


def _matches_in_order(
    requested: RequestedTable, wanted: SearchRequest, every: Search, within: Within
) -> _Page | None:
    """
    As _sorted(), for matches by likeness without a filter: of those alone that are shown, or come before, and of those of
    which it is not clear whether they are among the closest DEEPEST, the vectors are read. None for other searches.
    """
    order, options, ids = wanted.order, every.options, within.ids
    are_hits = options.matches_only and options.min_score is None and every.is_by_likeness
    is_whole = requested.view is None and wanted.filter is None and every.rest() is None
    if order is None or not (len(ids.ids) and are_hits and is_whole):
        return None
    # Of more matches the closest are sorted, though a bounded search finds them by chance anyway. Nothing here may depend on
    # the page, or an image would be on two of them, or on none.
    is_bounded = within.extent == "at least"
    sorted_ids: IdSet | None = ids
    if len(ids.ids) > (2 * DEEPEST if is_bounded else DEEPEST):
        sorted_ids = None if is_bounded else every.closest(ids, DEEPEST)
    if sorted_ids is None:
        return None
    end = wanted.offset + wanted.size + 1
    first = first_in_order(every.conn, requested.table, sorted_ids.keys(), order, end)
    found = replace(every, filter=IdSet(first)).find(max(len(first), 1))
    hits = {hit.id: hit for hit in found.hits}
    in_turn = in_order(every.conn, requested.table, list(hits), order)
    shown = [hits[id] for id in in_turn[wanted.offset : end]]
    matches, limited = Count(len(ids.ids), within.extent), wanted.among(requested, ids, None)
    page = _page(requested, every, found, shown, matches, limited)
    return replace(page, extent=within.extent)


def _page(
    requested: RequestedTable,
    search: Search,
    found: Found,
    hits: Sequence[Hit],
    matches: Count | None,
    limited: SearchRequest | None,
) -> _Page:
    hits = with_matched(search.conn, search.index, search.query, hits)
    by_id = {hit.id: hit for hit in hits}
    shown = shown_images(search.conn, requested, list(by_id), by_id)
    return _Page(shown, matches, found.steps, found.warnings, wanted=limited)


def _known_matches(
    found: Found, wanted: SearchRequest, search: Search
) -> tuple[Count | None, bool]:
    """
    How many matches there are in all, and True, if the hits of a page tell: the last of them is among these. Else how many
    there are at least, as far as that is known.
    """
    if not found.knows_matches:
        return None, True
    is_last = found.matches < len(found.hits) or len(found.hits) <= wanted.size
    is_here = found.matches > 0 or wanted.offset == 0
    if is_last and is_here:
        extent = least_extent(found.extent, search.extent_of_texts)
        return Count(wanted.offset + found.matches, extent), True
    return (None if is_last else Count(wanted.offset + wanted.size, "more than")), False


async def _without_query(
    requested: RequestedTable, wanted: SearchRequest, count: Count | None = None
) -> _Page:
    size, table = wanted.size + 1, requested.table

    def read(conn: sqlite3.Connection, *, other_way: bool = False) -> _Page:
        if wanted.order is not None:
            ids = sorted_ids(
                conn,
                table,
                wanted.order,
                size,
                wanted.rows,
                offset=wanted.offset,
                view=requested.view,
                in_turn=other_way,
            )
            return _Page(shown_images(conn, requested, ids, {}))
        few = other_way
        if count is not None and count.number is not None and count.extent in ("all", "about"):
            looked_at = most_images(conn, table) * (wanted.offset + size) / max(count.number, 1)
            few = (count.number < LOOK_UP * looked_at) ^ other_way
        ids = newest_ids(conn, table, size, wanted.filter, offset=wanted.offset, few_match=few)
        return _Page(shown_images(conn, requested, ids, {}))

    if not wanted.size:
        return _Page(())
    # Those that pass may be among the oldest: the other way may be the faster one.
    return await in_time(requested, read, partial(read, other_way=True))
