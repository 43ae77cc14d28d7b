"""
What a search needs that can take seconds: a model that is loaded, an index that is open.

That happens in threads of our own. Datasette has three for the SQL of everybody, and none of them may
wait for a model.
"""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from functools import cache
from pathlib import Path

from datasette.app import Datasette
from datasette.database import Database

from ..errors import ImageSearchError
from ..search.live import live_index
from ..search.query import prepare_words
from ..store import Index
from .access import ViewedTable
from .configuration import configured_weights

THREADS = 2

MOST_RUNNING = 64
"""Different preparations that may wait for these threads."""


class TooBusy(ImageSearchError):
    """More searches wait for a model than will have patience for it."""


_running: dict[tuple[str, int, str], Future[None]] = {}
"""What is being prepared, by database, index and query: those who ask for the same wait together."""


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="image-search")


def start_preparing(datasette: Datasette, viewed: ViewedTable, query: str = "") -> Future[None]:
    """
    Begin with what a query needs; without one, with what the first of them will. Raises TooBusy.
    """
    key = viewed.database.name, viewed.index.id, query
    if key in _running:
        return _running[key]
    if len(_running) >= MOST_RUNNING:
        raise TooBusy("too many searches wait for a model to load; try again in a moment")
    weights_of = configured_weights(datasette)

    def prepare() -> None:
        _open_index(viewed.database, viewed.index)
        prepare_words(viewed.index, query, weights_of)

    _running[key] = running = _threads().submit(prepare)
    running.add_done_callback(lambda _: _running.pop(key, None))
    return running


async def is_prepared(
    datasette: Datasette, viewed: ViewedTable, query: str, patience: float | None = None
) -> bool:
    """
    Prepare for a query; False where that takes longer than `patience`, in seconds, and goes on.

    Raises ImageSearchError for a query that cannot be searched for.
    """
    preparing = asyncio.wrap_future(start_preparing(datasette, viewed, query))
    done, _ = await asyncio.wait([preparing], timeout=patience)
    for finished in done:
        finished.result()
    if not done:
        # Whoever asks again will hear what went wrong.
        preparing.add_done_callback(lambda late: late.cancelled() or late.exception())
    return bool(done)


def _open_index(database: Database, index: Index) -> None:
    if database.path is None:
        return
    # A database that is locked just now is something for the search itself to say.
    with suppress(sqlite3.Error), closing(connection_of_our_own(Path(database.path))) as conn:
        live_index(conn, index)


def connection_of_our_own(database: Path) -> sqlite3.Connection:
    """Read-only. Those of Datasette are for requests, and have a time limit."""
    return sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)
