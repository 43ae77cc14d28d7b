"""The database file of a connection, and connections of our own to it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from .. import store
from .locks import reading


def database_path(conn: sqlite3.Connection) -> Path | None:
    """The file of a connection; None for a database in memory."""
    # As bytes, because the name of a folder need not be UTF-8.
    sql = "select cast(file as blob) from pragma_database_list where name = 'main'"
    row = conn.execute(sql).fetchone()
    return Path(os.fsdecode(row[0])).resolve() if row and row[0] else None


_CANNOT_WRITE = ("unable to open database file", "attempt to write a readonly database")
"""Messages of SQLite about a WAL that it may not create."""


@contextmanager
def reader(database: Path) -> Iterator[sqlite3.Connection]:
    """
    A connection of our own to the same file, for long reads: Datasette interrupts a query after its time
    limit, and half an index is useless.
    """
    uri = database.as_uri()
    conn = sqlite3.connect(f"{uri}?{reading(database)}", uri=True, check_same_thread=False)
    try:
        conn.execute("select 1 from sqlite_master").fetchone()
    except sqlite3.Error as error:
        conn.close()
        # Without its journal, a database that a killed program left half written would be read as it is.
        if not str(error).startswith(_CANNOT_WRITE) or journal_is_left(database):
            raise
        # This is the only way to open a WAL database in a read-only folder.
        conn = sqlite3.connect(f"{uri}?immutable=1", uri=True, check_same_thread=False)
    store.read_any_text(conn)
    try:
        yield conn
    finally:
        conn.close()


def journal_is_left(database: Path) -> bool:
    """Whether there is a journal, left by a program that is writing or was killed while it wrote."""
    with suppress(OSError):
        return database.with_name(f"{database.name}-journal").stat().st_size > 0
    return False


def is_left_half_written(database: Path) -> bool:
    """Whether only a program with write access can read it, because another was killed during a commit."""
    if not journal_is_left(database):
        return False
    try:
        with closing(at_once(database, "ro")) as conn:
            conn.execute("select 1 from sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        return "locked" not in str(error)
    return False


def at_once(database: Path, mode: str) -> sqlite3.Connection:
    """
    A connection that does not wait: a program that holds a lock is alive, and has left nothing half
    written.
    """
    return sqlite3.connect(f"{database.resolve().as_uri()}?mode={mode}", uri=True, timeout=0)


def recover(database: Path) -> bool:
    """
    Roll back the half-written commit of a killed program, as SQLite does for any reader with write
    access. Returns whether the database can be read now.
    """
    try:
        with closing(at_once(database, "rw")) as conn:
            conn.execute("select count(*) from sqlite_master").fetchone()
    except sqlite3.Error:
        return False
    return True
