"""
What of a database is believed. It may have been made to harm whoever serves it: a view in the place of a
table has rows without end, a computed column a gigabyte a row, and the row of an index can hold anything.

Each is refused by what SQLite knows of it, before any value is read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

MOST_INDEXES = 1_000
"""Rows of the list of indexes that are looked at. A database has one for each image table and model."""

MOST_DIMENSIONS = 4_096
"""Of a vector. The models there are make 256 to 2,048; a map computes with the square of it."""

LONGEST_NAME = 1_000
"""Characters of the name of a table, a model, a column, or the path of weights."""

LARGEST_THUMBNAIL = 8_000_000
"""Bytes of a stored thumbnail."""

_TEXTS = ("image_table", "model", "fingerprint")
_TEXTS_OR_NULL = (
    *("weights", "sidecar", "path_column", "content_column", "identity", "index_type"),
    *("references_token", "text_tower", "engine", "engine_uri"),
)
_INTEGERS = ("id", "dimensions", "generation", "sidecar_vector_id")


def is_stored_table(conn: sqlite3.Connection, name: str, *columns: str) -> bool:
    """Whether there is a table of that name, with these columns, whose rows and values are all in the file."""
    there = stored_columns(conn, name)
    return bool(there) and there.keys() >= set(columns)


def stored_columns(conn: sqlite3.Connection, name: str) -> dict[str, str]:
    """
    The columns of a table, in their order, with the types that they are declared with, if its rows and values are all in
    the file; none of a view, a virtual table, or a table with a column that is computed, and none if there is no such table.
    """
    cursor = conn.cursor()
    # Rows of the connection may be dicts, which are unpacked into their keys.
    cursor.row_factory = None
    rows = cursor.execute(
        "select its.name, its.type, its.hidden from sqlite_master as it, pragma_table_xinfo(it.name) as its "
        "where it.type = 'table' and it.name = ? collate nocase and it.sql not like 'create virtual%'",
        [name],
    ).fetchall()
    is_computed = any(hidden for _, _, hidden in rows)
    return {} if is_computed else {column: type_ for column, type_, _ in rows}


def sound_index(columns: Collection[str]) -> str:
    """SQL: whether a row of the list of indexes, which has these columns, can be one of ours."""
    if not {*_INTEGERS, *_TEXTS} <= set(columns):
        return "0"
    text = f"'text' and length({{0}}) <= {LONGEST_NAME}"
    checks = [
        *(f"typeof({name}) = 'integer'" for name in _INTEGERS),
        *(f"typeof({name}) = {text.format(name)}" for name in _TEXTS),
        *(
            f"({name} is null or typeof({name}) = {text.format(name)})"
            for name in _TEXTS_OR_NULL
            if name in columns
        ),
        f"dimensions between 1 and {MOST_DIMENSIONS}",
        *(
            f"typeof({name}) = 'integer' and {name} in (0, 1)"
            for name in ("unfinished", "engine_only")
            if name in columns
        ),
    ]
    return " and ".join(checks)
