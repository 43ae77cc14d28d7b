"""
Loads models and opens indexes before a search, which can take seconds.

This has threads of its own. Datasette has three for the SQL of everybody, and none of them may wait for a
model.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from datasette.app import Datasette
from datasette.database import Database
from datasette.utils.asgi import Request

from ...api import Images
from ...errors import ImageSearchError
from ...search.freshness import open_index
from ...search.live import LiveIndex
from ...search.projection import known_pca_of_all, placed
from ...search.query import prepare_words
from ...store import Index
from ...store.connections import open_to_read, read_without_locks
from ..access.requested_table import RequestedTable
from ..configuration import configured_weights
from .threads import DaemonThreads

T = TypeVar("T")

THREADS = 2

MAP_THREADS = 1
"""Separate threads, so that no search waits for a map."""

MOST_RUNNING = 64
"""The most different preparations that wait for these threads."""


class TooBusy(ImageSearchError):
    """So many searches wait for a model that a new one would wait too long."""


class Gone(ImageSearchError):
    """The client has left, and nobody will read the answer."""


_running: dict[tuple[str, int, Callable[..., Any], str], Future[Any]] = {}
"""Preparations by database, index, function and query. Requests for the same one wait together."""

_waiting: Counter[Future[Any]] = Counter()
"""How many requests wait for each of them."""


@cache
def _threads() -> DaemonThreads:
    return DaemonThreads(THREADS, "image-search")


@cache
def _map_threads() -> DaemonThreads:
    return DaemonThreads(MAP_THREADS, "image-search-map")


def start_preparing(requested: RequestedTable, query: str = "") -> Future[None]:
    """Begin to prepare for a query; without one, for whichever comes first. Raises TooBusy."""
    weights_of = configured_weights(requested.datasette)

    def prepare() -> None:
        _open_index(requested.database, requested.index)
        prepare_words(requested.index, query, weights_of)

    return _start(_threads(), requested, prepare, start_preparing, query)


Placed = tuple[LiveIndex, np.ndarray]
"""An index and the places of all its vectors, shape (len, 2)."""


async def placed_vectors(requested: RequestedTable) -> Placed | None:
    """
    The index as committed now, and its PCA, which is remembered; None for a database that can only
    be read by the connections of Datasette. Raises TooBusy.
    """
    if requested.database.path is None:
        return None
    path = Path(requested.database.path)
    known = open_index(path.resolve(), requested.index)
    points = None if known is None else known_pca_of_all(known)
    if known is not None and points is not None:
        return known, points

    def project() -> Placed | None:
        # If the database is locked just now, the map itself will say so.
        with suppress(sqlite3.Error), closing(open_to_read(path)) as conn:
            return placed(conn, requested.table.name, requested.index.model)
        return None

    # A request after a commit must not get what was begun before it.
    state = f"{requested.index.identity} {requested.index.generation}"
    running = _start(_map_threads(), requested, project, placed_vectors, state)
    placing = asyncio.wrap_future(running)
    # `await placing` would cancel it for the others if this client leaves.
    await asyncio.wait([placing])
    return placing.result()


def _start(
    threads: DaemonThreads,
    requested: RequestedTable,
    work: Callable[[], T],
    purpose: Callable[..., Any],
    what: str,
) -> Future[T]:
    key = requested.database.name, requested.index.id, purpose, what
    if key in _running:
        return _running[key]
    if len(_running) >= MOST_RUNNING:
        raise TooBusy("too many searches are waiting for a model to load; try again in a moment")
    _running[key] = running = threads.submit(work)
    running.add_done_callback(lambda _: _running.pop(key, None))
    return running


async def is_prepared(requested: RequestedTable, query: str, patience: float | None = None) -> bool:
    """
    Prepare for a query. False if that takes longer than `patience`, in seconds; it goes on then. If all
    clients that wait for it leave before it has begun, it is dropped, because others wait behind it.

    Raises ImageSearchError for a query that cannot be searched for, Gone if the client has left.
    """
    running = start_preparing(requested, query)
    preparing = asyncio.wrap_future(running)
    leaving = asyncio.ensure_future(_left(requested.request))
    _waiting[running] += 1
    try:
        await asyncio.wait(
            [preparing, leaving], timeout=patience, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        _waiting[running] -= 1
        is_wanted = _waiting[running] > 0
        if not is_wanted:
            del _waiting[running]
        leaving.cancel()
        if not preparing.done():
            # The next request for it will get the error.
            preparing.add_done_callback(lambda late: late.cancelled() or late.exception())
    if preparing.done():
        preparing.result()
        return True
    if not leaving.done():
        return False
    if not is_wanted:
        running.cancel()
    raise Gone("the client has left")


async def _left(request: Request) -> None:
    """Returns when the client has left."""
    if request.receive is None:
        # A request that another plugin made, without a client.
        await asyncio.Event().wait()
    # All other messages of a GET are an empty body.
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _open_index(database: Database, index: Index) -> None:
    if database.path is None:
        return
    # If the database is locked just now, the search itself will say so.
    with suppress(sqlite3.Error), closing(open_to_read(Path(database.path))) as conn:
        Images(conn, index.image_table, raw_errors=True).open(model=index.model)


def read_like_datasette(datasette: Datasette, database: str) -> None:
    """Connections of our own to a database are opened as those of Datasette are."""
    served = datasette.databases.get(database)
    if datasette.nolock and served is not None and served.path is not None and served.is_mutable:
        read_without_locks(Path(served.path))
