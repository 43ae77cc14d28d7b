"""How the tables are written to, all of a batch or none of it, and read from in one state."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlite_utils import Database


def read_any_text(conn: sqlite3.Connection) -> None:
    """SQLite keeps texts that are not UTF-8 as well: read them as Datasette does, and fail over none."""
    conn.text_factory = lambda text: text.decode(errors="replace")


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
def transaction(db: Database) -> Iterator[None]:
    """
    All that is written, or nothing. The lock is taken at once, where waiting for other writers is
    possible; SQLite refuses at once to turn a read lock into one for writing.
    """
    if db.conn.in_transaction:
        with db.atomic():
            yield
        return
    db.execute("begin immediate")
    try:
        yield
    except BaseException:
        db.rollback()
        raise
    else:
        db.commit()


def insert_row(db: Database, table: str, row: dict[str, Any]) -> Any:
    """The primary key that a new row got."""
    return db.table(table).insert(row).last_pk
