"""SQL that compares a row of a side table with the picture that its image has now."""

from __future__ import annotations

import sqlite3

from sqlite_utils.db import quote_identifier

from .indexes import read_indexes
from .soundness import is_stored_table
from .tables import IMAGE_EVENTS, ImageTable, column_names, generated_columns, trigger_name


def has_triggers(conn: sqlite3.Connection, table: ImageTable) -> bool:
    """Whether the triggers on an image table are there, without which its vectors may be stale."""
    names = [trigger_name(table, event) for event in IMAGE_EVENTS]
    wanted = ", ".join("?" * len(names))
    sql = f"select count(*) from sqlite_master where type = 'trigger' and name in ({wanted})"
    return conn.execute(sql, names).fetchone()[0] == len(names)


def same_picture(conn: sqlite3.Connection, table: ImageTable, sha256: str) -> str:
    """
    SQL to put after the conditions on a row of the image table: whether its picture is the one of `sha256`, an
    expression. It is empty if the triggers are there: then no other picture can be, and a server may hide
    the column `sha256`.

    A BLOB is too long to be hashed in a search, so its length is compared with that of the embedded one.
    """
    if has_triggers(conn, table):
        return ""
    names = table.quoted()
    if table.hash_column is not None:
        return f" and {names['images']}.{table.hash_column} is {sha256}"
    column = _stored_content(conn, table)
    if column is None:
        return ""
    return (
        " and length({images}.{column}) is "
        "(select size from {sources} where {sources}.image_id = {images}.{key})"
    ).format(column=quote_identifier(column), **names)


def _stored_content(conn: sqlite3.Connection, table: ImageTable) -> str | None:
    """The column of the BLOBs of a person's own table, if nothing else of it was embedded."""
    columns = {(each.path_column, each.content_column) for each in read_indexes(conn, table.name)}
    if len(columns) != 1 or not is_stored_table(conn, table.sources):
        return None
    ((_, column),) = columns
    there = set(column_names(conn, table.name)) - generated_columns(conn, table.name)
    return column if column in there else None


def owned(conn: sqlite3.Connection, table: ImageTable, side: str) -> str:
    """SQL: whether a row of a side table, by its alias, is of the picture that its image has."""
    same = same_picture(conn, table, f"{side}.sha256")
    return "exists (select 1 from {images} where {images}.{key} = {side}.image_id{same})".format(
        side=side, same=same, **table.quoted()
    )
