"""
What is read for a page: on a connection of Datasette's, in bounded time, and no value without a bound.

Datasette limits the queries that it runs itself. Who made the database may have made it so that reading
a row of it takes for ever, or gigabytes.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from datasette.database import Database
from datasette.utils import sqlite_timelimit

from ..search.sidecar import file_state

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


@dataclass(frozen=True)
class _Known(Generic[T]):
    schema: tuple[int, ...]
    value: T
    checked_at: float


class SchemaCache(Generic[T]):
    """
    What one function reads, by database: read once, and again when the schema has changed or another file
    is in its place.
    """

    def __init__(self, read: Callable[[sqlite3.Connection], T]) -> None:
        self._read = read
        self._known: WeakKeyDictionary[Database, _Known[T]] = WeakKeyDictionary()
        _caches.append(self)

    def last(self, database: Database, *, within: float | None = None) -> T | None:
        """What was read last, without a look at the database; None if that was not `within` so many seconds."""
        known = self._known.get(database)
        if known is None or (within is not None and time.monotonic() > known.checked_at + within):
            return None
        return known.value

    async def get(self, database: Database) -> T:
        """As of now. Raises sqlite3.Error if the database cannot be read."""
        known = await read_bounded(database, lambda conn: self._look(conn, database))
        self._known[database] = known
        return known.value

    def _look(self, conn: sqlite3.Connection, database: Database) -> _Known[T]:
        schema = _schema_of(conn, database.path)
        known = self._known.get(database)
        value = known.value if known is not None and known.schema == schema else self._read(conn)
        return _Known(schema, value, time.monotonic())

    def forget(self, database: Database) -> None:
        self._known.pop(database, None)


_caches: list[SchemaCache[Any]] = []
"""All there are."""


def forget_schema(database: Database) -> None:
    """Another file took the database's place."""
    for cache in _caches:
        cache.forget(database)


def _schema_of(conn: sqlite3.Connection, path: str | None) -> tuple[int, ...]:
    """Another one for another schema, or another file: two that were made alike have the same version."""
    (version,) = conn.execute("pragma schema_version").fetchone()
    file = file_state(Path(path)) if path is not None else None
    return (version, *(file[:2] if file else ()))
