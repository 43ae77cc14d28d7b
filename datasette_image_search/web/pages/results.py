"""The answer to a search request: pictures of one page, how many match, and how they were found."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from datasette.app import Datasette
from datasette.database import QueryInterrupted
from datasette.utils import sqlite_timelimit
from datasette.utils.asgi import Request

from ... import store
from ...api import Images
from ...errors import ImageSearchError
from ...search.planner import Step
from ..access.requested_table import ViewedTable
from ..configuration import configured_weights
from ..facets.counting import Facets, count_facets
from ..reading import read_bounded
from .search_request import DEEPEST, SearchRequest

LARGEST_VALUE = 1_000_000
"""Characters or bytes of a value of an image's row: a larger one is left out."""

COUNTED = 10_000
"""Where all matching rows cannot be counted in time, it is told whether there are more than these."""

FEW = 0.1
"""A share of the table below which matching rows are looked up first and sorted by time after."""

T = TypeVar("T")


class TooLong(ImageSearchError):
    """A filter that the time limit of Datasette does not allow."""


@dataclass(frozen=True)
class Picture:
    """
    A row of the image table; `score` is None where there was no query, `version` where nothing is known
    of the picture.
    """

    id: store.Key
    row: dict[str, Any]
    score: float | None
    version: str | None


@dataclass(frozen=True)
class Count:
    """Rows that match the filters: so many, or more than that; None where that was not to be had."""

    number: int | None
    is_exact: bool = True


@dataclass(frozen=True)
class Answer:
    """
    `next_offset` is where the next page begins, None on the last. `without_vector` is how many images
    of the table no query finds, None without a query, or where that was not to be had in time.
    `milliseconds` by part.
    """

    pictures: tuple[Picture, ...]
    next_offset: int | None
    count: Count
    facets: Facets
    without_vector: int | None = None
    plan: tuple[Step, ...] = ()
    warnings: tuple[str, ...] = ()
    milliseconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Found:
    pictures: tuple[Picture, ...]
    plan: tuple[Step, ...] = ()
    warnings: tuple[str, ...] = ()
    query_vector_ms: float = 0.0


async def find(
    datasette: Datasette,
    request: Request,
    viewed: ViewedTable,
    wanted: SearchRequest,
    *,
    patient_facets: bool = False,
) -> Answer:
    """
    Search, count and facet side by side. The query must have been prepared for.

    Raises an ImageSearchError with a sentence for the person.
    """
    milliseconds: dict[str, float] = {}

    async def timed(name: str, work: Awaitable[T]) -> T:
        started = time.perf_counter()
        try:
            return await work
        finally:
            milliseconds[name] = (time.perf_counter() - started) * 1000

    async def count_and_search() -> tuple[Count, _Found]:
        counting = timed("count", _count(datasette, viewed, wanted))
        if wanted.query:
            return await asyncio.gather(
                counting, timed("search", _closest(datasette, viewed, wanted))
            )
        if wanted.filter is None:
            return await asyncio.gather(
                counting, timed("search", _newest(datasette, viewed, wanted))
            )
        # How many there are decides how the newest of them are best looked for.
        count = await counting
        return count, await timed("search", _newest(datasette, viewed, wanted, count))

    counting = count_facets(datasette, request, viewed, wanted.rows, patient=patient_facets)
    with in_one_sentence(datasette, viewed, wanted):
        (count, found), facets, without_vector = await asyncio.gather(
            count_and_search(),
            timed("facets", counting),
            _without_vector(datasette, viewed, wanted),
        )
    milliseconds["query vector"] = found.query_vector_ms
    end = wanted.offset + wanted.size
    more = len(found.pictures) > wanted.size > 0
    allowed = not wanted.query or end + wanted.size <= DEEPEST
    return Answer(
        pictures=found.pictures[: wanted.size],
        next_offset=end if more and allowed else None,
        count=count,
        facets=facets,
        without_vector=without_vector,
        plan=found.plan,
        warnings=found.warnings,
        milliseconds=milliseconds,
    )


@contextmanager
def in_one_sentence(
    datasette: Datasette, viewed: ViewedTable, wanted: SearchRequest
) -> Iterator[None]:
    """What a person can put right about a filter, as a TooLong or FilterError."""
    try:
        yield
    except (sqlite3.Error, OverflowError, UnicodeEncodeError, QueryInterrupted) as error:
        if isinstance(error, QueryInterrupted) or str(error) == "interrupted":
            limit = datasette.setting("sql_time_limit_ms")
            raise TooLong(
                f"this search took more than the {limit:,} ms that sql_time_limit_ms allows; "
                "leave a filter out, or filter by a column with an index"
            ) from error
        with store.naming_the_filter(viewed.table, wanted.filter):
            raise


async def _closest(datasette: Datasette, viewed: ViewedTable, wanted: SearchRequest) -> _Found:
    weights_of = configured_weights(datasette)

    def search(conn: sqlite3.Connection) -> _Found:
        images = Images(conn, viewed.table.name, weights_of)
        model = viewed.index.model
        # Before, because a snapshot keeps others from writing for as long as it lasts.
        images.open(model=model)
        # An image to search by, the ranking and the rows are of one state of one file.
        with store.snapshot(conn):
            started = time.perf_counter()
            query = images.ask(wanted.query, model=model)
            query_vector_ms = (time.perf_counter() - started) * 1000
            if not wanted.size:
                return _Found((), (), query.warnings, query_vector_ms)
            (found,) = images.find(
                [query],
                wanted.size + 1,
                where=wanted.filter,
                offset=wanted.offset,
                min_score=wanted.min_score,
            )
            scores = {hit.id: hit.score for hit in found.hits}
            pictures = _pictures(conn, viewed, list(scores), scores)
        return _Found(pictures, found.steps, query.warnings, query_vector_ms)

    return await in_time(datasette, viewed, search)


async def _newest(
    datasette: Datasette, viewed: ViewedTable, wanted: SearchRequest, count: Count | None = None
) -> _Found:
    def read(conn: sqlite3.Connection) -> _Found:
        few = False
        if count is not None and count.is_exact and count.number is not None:
            few = count.number < FEW * store.count_images(conn, viewed.table)
        ids = store.newest_ids(
            conn,
            viewed.table,
            wanted.size + 1,
            wanted.filter,
            offset=wanted.offset,
            few_match=few,
        )
        return _Found(_pictures(conn, viewed, ids, {}))

    if not wanted.size:
        return _Found(())
    return await in_time(datasette, viewed, read)


def _pictures(
    conn: sqlite3.Connection,
    viewed: ViewedTable,
    ids: list[store.Key],
    scores: dict[store.Key, float],
) -> tuple[Picture, ...]:
    """Without a column of BLOBs: they are the pictures themselves."""
    if viewed.view is not None:
        rows = store.view_rows(conn, viewed.view, ids)
    else:
        rows = store.image_rows(
            conn, viewed.table, ids, without=viewed.index.content_column, largest=LARGEST_VALUE
        )
    versions = store.versions(conn, viewed.table, ids)
    return tuple(
        Picture(id, rows[id], scores.get(id), versions.get(id)) for id in ids if id in rows
    )


async def _count(datasette: Datasette, viewed: ViewedTable, wanted: SearchRequest) -> Count:
    patience = datasette.setting("facet_time_limit_ms")

    def count(conn: sqlite3.Connection) -> Count:
        for limit in (None, COUNTED + 1):
            with suppress(_Interrupted), _no_longer_than(conn, patience):
                number = store.count_images(conn, viewed.table, wanted.filter, limit=limit)
                return Count(min(number, limit - 1 if limit else number), limit != number)
        return Count(None)

    return await read_bounded(viewed.database, count)


async def _without_vector(
    datasette: Datasette, viewed: ViewedTable, wanted: SearchRequest
) -> int | None:
    def count(conn: sqlite3.Connection) -> int | None:
        with (
            suppress(_Interrupted),
            _no_longer_than(conn, datasette.setting("facet_time_limit_ms")),
            store.snapshot(conn),
        ):
            images = store.count_images(conn, viewed.table)
            return images - store.count_with_vector(conn, viewed.index)
        return None

    return await read_bounded(viewed.database, count) if wanted.query else None


class _Interrupted(Exception):
    """Something took longer than it may."""


@contextmanager
def _no_longer_than(conn: sqlite3.Connection, milliseconds: int) -> Iterator[None]:
    try:
        with sqlite_timelimit(conn, milliseconds):
            yield
    except sqlite3.OperationalError as error:
        if str(error) != "interrupted":
            raise
        raise _Interrupted from error


async def in_time(
    datasette: Datasette, viewed: ViewedTable, read: Callable[[sqlite3.Connection], T]
) -> T:
    """What `read` reads, in the time that SQL has."""
    limit = datasette.setting("sql_time_limit_ms")

    def read_in_time(conn: sqlite3.Connection) -> T:
        with suppress(_Interrupted), _no_longer_than(conn, limit):
            return read(conn)
        # Perhaps the filter was quick, and what took long was to read the index from a cold disk.
        with sqlite_timelimit(conn, limit):
            return read(conn)

    return await read_bounded(viewed.database, read_in_time)
