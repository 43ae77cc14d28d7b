"""
Reads for a page: on a connection of Datasette's, with limits on time and on the size of values.

Datasette limits only the queries that it runs itself, and a database can be made so that reading one of
its rows takes for ever, or gigabytes.
"""

from __future__ import annotations

import math
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
"""Most reads take a few. Searches and counts have shorter limits of their own."""

INSTRUCTIONS, SHORT = 1_000, 20
"""Of SQLite, between two looks at the clock, but one if the limit has no more milliseconds: as Datasette has it."""

BETWEEN = 0.01
"""Seconds."""

PATIENCE = 10
"""The limit of statements, times this, is that of all that is done."""

MAX_VALUE_BYTES = 100_000_000
"""Of one value. Python can limit values since version 3.11."""


async def read_bounded(database: Database, work: Callable[[sqlite3.Connection], T]) -> T:
    """The result of `work`. Raises sqlite3.OperationalError, "interrupted", if it takes too long."""

    def in_bounds(conn: sqlite3.Connection) -> T:
        with bounded_values(conn), sqlite_timelimit(conn, MILLISECONDS):
            return work(conn)

    return await database.execute_fn(in_bounds)


@contextmanager
def statements_limited(conn: sqlite3.Connection, milliseconds: float) -> Iterator[None]:
    """
    Within it, all statements together may take so long; then they raise sqlite3.OperationalError, "interrupted". Of what
    is done before each of them, no more than BETWEEN is counted: FAISS cannot be interrupted while it reads vectors,
    perhaps from a cold disk, and the statement after that is not to pay for it.
    """
    last = time.perf_counter()
    left = milliseconds / 1000
    end = last + PATIENCE * left

    def begins(_: str) -> None:
        nonlocal left, last
        now = time.perf_counter()
        # A statement may run others for each of its rows, in functions.
        left, last = left - min(now - last, BETWEEN), now

    def is_over() -> bool:
        nonlocal left, last
        now = time.perf_counter()
        left, last = left - (now - last), now
        return left < 0 or now > end

    conn.set_trace_callback(begins)
    conn.set_progress_handler(is_over, INSTRUCTIONS if milliseconds > SHORT else 1)
    try:
        yield
    finally:
        conn.set_progress_handler(None, 0)
        conn.set_trace_callback(None)


@contextmanager
def bounded_values(conn: sqlite3.Connection) -> Iterator[None]:
    """Within it SQLite refuses larger values with a DataError, before it allocates memory for them."""
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
    The result of one function by database: read once, and again after the schema changed or another file
    took the place of the database.
    """

    def __init__(self, read: Callable[[sqlite3.Connection], T]) -> None:
        self._read = read
        self._known: WeakKeyDictionary[Database, _Known[T]] = WeakKeyDictionary()
        _caches.append(self)

    def last(self, database: Database, *, within: float | None = None) -> T | None:
        """The last result, without a look at the database; None if it is older than `within` seconds."""
        known = self._known.get(database)
        if known is None or (within is not None and self.age(database) > within):
            return None
        return known.value

    def age(self, database: Database) -> float:
        """Seconds since the last look at the database; infinity if there was none."""
        known = self._known.get(database)
        return math.inf if known is None else time.monotonic() - known.checked_at

    async def get(self, database: Database) -> T:
        """The result as of now. Raises sqlite3.Error if the database cannot be read."""
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
"""All caches, for `forget_schema`."""


def forget_schema(database: Database) -> None:
    """Call this after another file took the place of a database."""
    for cache in _caches:
        cache.forget(database)


def _schema_of(conn: sqlite3.Connection, path: str | None) -> tuple[int, ...]:
    """Differs for every schema and file. The version alone does not: files that were made alike share it."""
    (version,) = conn.execute("pragma schema_version").fetchone()
    file = file_state(Path(path)) if path is not None else None
    return (version, *(file[:2] if file else ()))
