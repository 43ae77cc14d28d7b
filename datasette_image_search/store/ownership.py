"""Whether what a side table knows is of the picture that its image has, and not of one before it."""

from __future__ import annotations

import sqlite3

from .tables import IMAGE_EVENTS, ImageTable, trigger_name


def has_triggers(conn: sqlite3.Connection, table: ImageTable) -> bool:
    """Whether the triggers on an image table are there, without which its vectors may be stale."""
    events = [*IMAGE_EVENTS, *(["content_changed"] if table.is_ours else [])]
    names = [trigger_name(table, event) for event in events]
    wanted = ", ".join("?" * len(names))
    sql = f"select count(*) from sqlite_master where type = 'trigger' and name in ({wanted})"
    return conn.execute(sql, names).fetchone()[0] == len(names)


def compares_content(conn: sqlite3.Connection, table: ImageTable) -> bool:
    """
    Whether a reader has to compare the sha256 of an image with that beside its vector. With the triggers
    in place there is no other, and who serves a database may hide that column.
    """
    return table.is_ours and not has_triggers(conn, table)


def owned(conn: sqlite3.Connection, table: ImageTable, side: str) -> str:
    """SQL: whether a row of a side table, by its alias, is of the picture that its image has."""
    return table.owns(side, by_content=compares_content(conn, table))
