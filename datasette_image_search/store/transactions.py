"""How the tables are written to, all of a batch or none of it, and read from in one state."""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlite_utils import Database
from sqlite_utils.db import quote_identifier

WAIT_MILLISECONDS = 100
"""SQLite waits for other programs within one call, in which Python notices no Ctrl-C: so for no longer at
once, and again and again."""


@contextmanager
def snapshot(conn: sqlite3.Connection) -> Iterator[None]:
    """
    What is read meanwhile is of one state of the database: a statement that has not come to its end
    keeps it, also within another statement, where no transaction can be begun.
    """
    statement = conn.execute("select 1 from sqlite_master, (values (1), (2), (3))")
    try:
        yield
    finally:
        statement.close()


@contextmanager
def transaction(db: Database, committed: Callable[[], None] = lambda: None) -> Iterator[None]:
    """
    All that is written, or nothing; no Ctrl-C comes between the commit and `committed`. The lock is
    taken at once, where waiting for other writers is possible; SQLite refuses at once to turn a read
    lock into one for writing.
    """
    if db.conn.in_transaction:
        with db.atomic():
            yield
        committed()
        return
    _patiently(db, lambda: db.execute("begin immediate"))
    try:
        yield
        _patiently(db, lambda: _commit(db, committed))
    except BaseException:
        db.rollback()
        raise


def _commit(db: Database, committed: Callable[[], None]) -> None:
    with _uninterrupted():
        db.commit()
        committed()


def _patiently(db: Database, act: Callable[[], object]) -> None:
    """Wait for other programs as long as the connection is set to, and end with a Ctrl-C."""
    (patience,) = db.execute("pragma busy_timeout").fetchone()
    deadline = time.monotonic() + patience / 1000
    db.execute(f"pragma busy_timeout = {min(patience, WAIT_MILLISECONDS)}")
    try:
        while True:
            try:
                act()
                return
            except sqlite3.OperationalError as error:
                if not is_locked(error) or time.monotonic() >= deadline:
                    raise
    finally:
        db.execute(f"pragma busy_timeout = {patience}")


def is_locked(error: sqlite3.Error) -> bool:
    """Whether another program has the database, which passes."""
    # Word for word: the names of tables and columns are in other messages.
    return str(error) == "database is locked"


def is_interrupted(error: Exception) -> bool:
    """Whether a statement was ended from outside, as by a time limit."""
    return str(error) == "interrupted"


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold a Ctrl-C back for a moment."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupts: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: interrupts.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if interrupts:
            raise KeyboardInterrupt


def insert_row(db: Database, table: str, row: dict[str, Any]) -> Any:
    """The primary key that a new row got."""
    return db.table(table).insert(row).last_pk


def upsert_rows(
    db: Database, table: str, rows: Iterable[Mapping[str, Any]], key: Sequence[str]
) -> None:
    """
    Rows of the same columns, new or in place of those columns of the rows with the same `key`. sqlite-utils would try first whether
    SQLite can do it; if the disk fails then, in the middle of a transaction, it goes on without that.
    """
    cells = list(rows)
    if not cells:
        return
    names = {name: quote_identifier(name) for name in cells[0]}
    changes = ", ".join(
        f"{each} = excluded.{each}" for name, each in names.items() if name not in key
    )
    db.conn.executemany(
        f"insert into {quote_identifier(table)} ({', '.join(names.values())}) "
        f"values ({', '.join('?' * len(names))}) on conflict ({', '.join(names[each] for each in key)}) do update set {changes}",
        [tuple(row.values()) for row in cells],
    )
