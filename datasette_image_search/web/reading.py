"""
What is read for a page: on a connection of Datasette's, in bounded time, and no value without a bound.

Datasette limits the queries that it runs itself. Who made the database may have made it so that reading
a row of it takes for ever, or gigabytes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from datasette.database import Database
from datasette.utils import sqlite_timelimit

T = TypeVar("T")

MILLISECONDS = 5_000
"""For what takes some of them as a rule. Searches and counts have limits of their own, which are shorter."""

MAX_VALUE_BYTES = 100_000_000
"""Of one value. Python has a way to limit them since version 3.11."""


async def read_bounded(database: Database, work: Callable[[sqlite3.Connection], T]) -> T:
    """What `work` reads. Raises sqlite3.OperationalError, "interrupted", if that takes too long."""

    def in_bounds(conn: sqlite3.Connection) -> T:
        with bounded_values(conn), sqlite_timelimit(conn, MILLISECONDS):
            return work(conn)

    return await database.execute_fn(in_bounds)


@contextmanager
def bounded_values(conn: sqlite3.Connection) -> Iterator[None]:
    """SQLite refuses larger values meanwhile, as a DataError, before it makes any room for them."""
    if not hasattr(conn, "setlimit"):
        yield
        return
    before = conn.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    try:
        yield
    finally:
        conn.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, before)
