"""The answer to a search request: the images of one page, how many match, and how they were found."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar, cast

from datasette.utils import sqlite_timelimit

from ... import store
from ...api import Images
from ...embedders.protocol import EmbedderError
from ...search.fusion import Search, likeness_in, with_matched
from ...search.hits import Count, Extent, Found, Hit, Step, least_extent, page_in_order
from ...search.sorting import all_shown
from ...store import reads
from ...store.filters import IdSet, naming_the_filter
from ...store.ordering import in_order, sorted_ids
from ...store.reads import count_images, image_rows, most_images, newest_ids
from ...store.sampling import sample_of
from ...store.text_search import TextMatch
from ...store.transactions import is_interrupted
from ...store.vectors import count_with_vector
from ...store.views import view_rows
from ..access.requested_table import RequestedTable
from ..configuration import configured_weights
from ..errors import told_when_too_long
from ..facets.counting import Facets, count_facets
from ..reading import read_bounded, statements_limited
from .search_request import DEEPEST, SORTED, SearchRequest

LARGEST_VALUE = 1_000_000
"""Characters or bytes of a value in an image's row; larger values are left out."""

COUNTED = 10_000
"""If matching rows cannot be counted in time, the page says whether there are more than these."""

LOOK_UP = 3
"""To look at an image in the order of dates takes as long as to sort so many by date."""

WITHOUT_TEXTS = (
    "to search the texts took too long, so this is by likeness alone; try again, or add a filter"
)

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
            _without_vector(requested, wanted),
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


async def shown_image(requested: RequestedTable, image_id: store.Key) -> ShownImage | None:
    """One image, of the view if the URL names one; None if it is not there."""
    shown = await in_time(requested, lambda conn: _shown_images(conn, requested, [image_id], {}))
    return shown[0] if shown else None


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
            with suppress(_Interrupted), _interrupted(), statements_limited(conn, limit):
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
    in_turn = in_order(
        search.conn, requested.table, list(hits), wanted.order, wanted.rows, view=requested.view
    )
    shown = [hits[id] for id in in_turn[wanted.offset : wanted.offset + wanted.size + 1]]
    page = _page(requested, search, found, shown, matches, limited)
    return replace(page, extent=extent, has_counted=has_counted or matches is None)


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
    shown = _shown_images(search.conn, requested, list(by_id), by_id)
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
            return _Page(_shown_images(conn, requested, ids, {}))
        few = other_way
        if count is not None and count.number is not None and count.extent in ("all", "about"):
            looked_at = most_images(conn, table) * (wanted.offset + size) / max(count.number, 1)
            few = (count.number < LOOK_UP * looked_at) ^ other_way
        ids = newest_ids(conn, table, size, wanted.filter, offset=wanted.offset, few_match=few)
        return _Page(_shown_images(conn, requested, ids, {}))

    if not wanted.size:
        return _Page(())
    # Those that pass may be among the oldest: the other way may be the faster one.
    return await in_time(requested, read, partial(read, other_way=True))


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


async def count_in_time(requested: RequestedTable, wanted: SearchRequest) -> Count:
    """How many images pass the filters, as far as facet_time_limit_ms lets them be counted; else about how many."""
    patience = requested.datasette.setting("facet_time_limit_ms")
    table, filter = requested.table, wanted.filter

    def count(conn: sqlite3.Connection) -> Count:
        sample = sample_of(conn, table)
        if sample is None or filter is not None or not sample.is_needed(patience):
            with suppress(_Interrupted), _no_longer_than(conn, patience):
                return Count(count_images(conn, table, filter))
        if sample is not None:
            # It takes no longer than it takes.
            limit = requested.datasette.setting("sql_time_limit_ms")
            with suppress(_Interrupted), _no_longer_than(conn, limit):
                estimated = sample.estimated(count_images(conn, table, filter, sample=sample))
                if estimated is not None:
                    return Count(estimated, "about")
        with suppress(_Interrupted), _no_longer_than(conn, patience):
            number = count_images(conn, table, filter, limit=COUNTED + 1)
            return Count(min(number, COUNTED), "more than" if number > COUNTED else "all")
        return Count(None)

    return await read_bounded(requested.database, count)


async def _without_vector(requested: RequestedTable, wanted: SearchRequest) -> int | None:
    patience = requested.datasette.setting("facet_time_limit_ms")

    def count(conn: sqlite3.Connection) -> int | None:
        sample = sample_of(conn, requested.table)
        if sample is not None and sample.is_needed(patience):
            return None
        with suppress(_Interrupted), _no_longer_than(conn, patience), store.snapshot(conn):
            images = count_images(conn, requested.table)
            return images - count_with_vector(conn, requested.index)
        return None

    return await read_bounded(requested.database, count) if wanted.query else None


class _Interrupted(Exception):
    """Statements ran into their time limit."""


@contextmanager
def _interrupted() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if not is_interrupted(error):
            raise
        raise _Interrupted from error


@contextmanager
def _no_longer_than(conn: sqlite3.Connection, milliseconds: int) -> Iterator[None]:
    with _interrupted(), sqlite_timelimit(conn, milliseconds):
        yield


async def in_time(
    requested: RequestedTable,
    read: Callable[[sqlite3.Connection], T],
    otherwise: Callable[[sqlite3.Connection], T] | None = None,
) -> T:
    """Calls `read`, whose statements have sql_time_limit_ms; if they take longer, once more, or `otherwise` instead."""
    limit = requested.datasette.setting("sql_time_limit_ms")

    def read_in_time(conn: sqlite3.Connection) -> T:
        with suppress(_Interrupted), _interrupted(), statements_limited(conn, limit):
            return read(conn)
        # Perhaps the filter was quick, and reading rows from a cold disk was slow: try once more.
        with statements_limited(conn, limit):
            return (otherwise or read)(conn)

    return await read_bounded(requested.database, read_in_time)
