"""
What a search needs that can take seconds: a model that is loaded, an index that is open.

That happens in threads of our own. Datasette has three for the SQL of everybody, and none of them may
wait for a model.
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

from ... import store
from ...api import Images
from ...errors import ImageSearchError
from ...search.live import LiveIndex, open_index
from ...search.locks import read_without_locks, reading
from ...search.projection import known_pca_of_all, placed
from ...search.query import prepare_words
from ...store import Index
from ..access.requested_table import ViewedTable
from ..configuration import configured_weights
from .threads import DaemonThreads

T = TypeVar("T")

THREADS = 2

MAP_THREADS = 1
"""Of their own, so that no search waits for a map."""

MOST_RUNNING = 64
"""Different preparations that may wait for these threads."""


class TooBusy(ImageSearchError):
    """More searches wait for a model than will have patience for it."""


class Gone(ImageSearchError):
    """Whoever asked has left, and nobody hears the answer."""


_running: dict[tuple[str, int, Callable[..., Any], str], Future[Any]] = {}
"""What is being prepared, by database, index, and by which function of what: those who ask for the same
wait together."""

_waiting: Counter[Future[Any]] = Counter()
"""How many requests wait for each of them."""


@cache
def _threads() -> DaemonThreads:
    return DaemonThreads(THREADS, "image-search")


@cache
def _map_threads() -> DaemonThreads:
    return DaemonThreads(MAP_THREADS, "image-search-map")


def start_preparing(datasette: Datasette, viewed: ViewedTable, query: str = "") -> Future[None]:
    """
    Begin with what a query needs; without one, with what the first of them will. Raises TooBusy.
    """
    weights_of = configured_weights(datasette)

    def prepare() -> None:
        _open_index(viewed.database, viewed.index)
        prepare_words(viewed.index, query, weights_of)

    return _start(_threads(), viewed, prepare, start_preparing, query)


Placed = tuple[LiveIndex, np.ndarray]
"""An index and the places of all its vectors, shape (len, 2)."""


async def placed_vectors(viewed: ViewedTable) -> Placed | None:
    """
    The index as committed now, and its PCA, which is remembered; None for a database that can only
    be read by the connections of Datasette. Raises TooBusy.
    """
    if viewed.database.path is None:
        return None
    path = Path(viewed.database.path)
    known = open_index(path.resolve(), viewed.index)
    points = None if known is None else known_pca_of_all(known)
    if known is not None and points is not None:
        return known, points

    def project() -> Placed | None:
        # A database that is locked just now is something for the map itself to say.
        with suppress(sqlite3.Error), closing(connection_of_our_own(path)) as conn:
            return placed(conn, viewed.table.name, viewed.index.model)
        return None

    # Who asks after a commit must not be given what was begun before it.
    state = f"{viewed.index.identity} {viewed.index.generation}"
    running = _start(_map_threads(), viewed, project, placed_vectors, state)
    placing = asyncio.wrap_future(running)
    # Unlike to await it, this lets it go on for the others when one of them leaves.
    await asyncio.wait([placing])
    return placing.result()


def _start(
    threads: DaemonThreads,
    viewed: ViewedTable,
    work: Callable[[], T],
    purpose: Callable[..., Any],
    what: str,
) -> Future[T]:
    key = viewed.database.name, viewed.index.id, purpose, what
    if key in _running:
        return _running[key]
    if len(_running) >= MOST_RUNNING:
        raise TooBusy("too many searches wait for a model to load; try again in a moment")
    _running[key] = running = threads.submit(work)
    running.add_done_callback(lambda _: _running.pop(key, None))
    return running


async def is_prepared(
    datasette: Datasette,
    request: Request,
    viewed: ViewedTable,
    query: str,
    patience: float | None = None,
) -> bool:
    """
    Prepare for a query; False where that takes longer than `patience`, in seconds, and goes on. What
    has not begun when the last leaves who waits for it is forgotten: others wait behind it.

    Raises ImageSearchError for a query that cannot be searched for, Gone where whoever asked has left.
    """
    running = start_preparing(datasette, viewed, query)
    preparing = asyncio.wrap_future(running)
    leaving = asyncio.ensure_future(_left(request))
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
            # Whoever asks again will hear what went wrong.
            preparing.add_done_callback(lambda late: late.cancelled() or late.exception())
    if preparing.done():
        preparing.result()
        return True
    if not leaving.done():
        return False
    if not is_wanted:
        running.cancel()
    raise Gone("whoever asked has left")


async def _left(request: Request) -> None:
    """Returns when whoever asked has left."""
    if request.receive is None:
        # Made up by another plugin, with nobody behind it.
        await asyncio.Event().wait()
    # Of a GET, all else that is received is an empty body.
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _open_index(database: Database, index: Index) -> None:
    if database.path is None:
        return
    # A database that is locked just now is something for the search itself to say.
    with suppress(sqlite3.Error), closing(connection_of_our_own(Path(database.path))) as conn:
        Images(conn, index.image_table).open(model=index.model)


def read_like_datasette(datasette: Datasette, database: str) -> None:
    """Connections of our own to a database are opened as those of Datasette are."""
    served = datasette.databases.get(database)
    if datasette.nolock and served is not None and served.path is not None and served.is_mutable:
        read_without_locks(Path(served.path))


def connection_of_our_own(database: Path) -> sqlite3.Connection:
    """Read-only. Those of Datasette are for requests, and have a time limit."""
    uri = f"{database.resolve().as_uri()}?{reading(database)}"
    conn = sqlite3.connect(uri, uri=True)
    store.read_any_text(conn)
    return conn
