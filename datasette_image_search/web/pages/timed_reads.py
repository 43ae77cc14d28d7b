"""Reads of a page within Datasette's time limits, and once more if a cold disk was what took so long."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from datasette.utils import sqlite_timelimit

from ...store.transactions import is_interrupted
from ..access.requested_table import RequestedTable
from ..reading import read_bounded, statements_limited

T = TypeVar("T")


class Interrupted(Exception):
    """Statements ran into their time limit."""


@contextmanager
def interrupted() -> Iterator[None]:
    """What SQLite raises for a time limit, as Interrupted; other errors stay what they are."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if not is_interrupted(error):
            raise
        raise Interrupted from error


@contextmanager
def no_longer_than(conn: sqlite3.Connection, milliseconds: int) -> Iterator[None]:
    with interrupted(), sqlite_timelimit(conn, milliseconds):
        yield


async def in_time(
    requested: RequestedTable,
    read: Callable[[sqlite3.Connection], T],
    otherwise: Callable[[sqlite3.Connection], T] | None = None,
) -> T:
    """Calls `read`, whose statements have sql_time_limit_ms; if they take longer, once more, or `otherwise` instead."""
    limit = requested.datasette.setting("sql_time_limit_ms")

    def read_in_time(conn: sqlite3.Connection) -> T:
        with suppress(Interrupted), interrupted(), statements_limited(conn, limit):
            return read(conn)
        # Perhaps the filter was quick, and reading rows from a cold disk was slow: try once more.
        with statements_limited(conn, limit):
            return (otherwise or read)(conn)

    return await read_bounded(requested.database, read_in_time)
