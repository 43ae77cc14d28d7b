"""
The source of each picture: the file or BLOB that it was made of, as it was when it was read.

All image tables have sources of one form: image_id, size in bytes, mtime (ISO 8601, "" for a BLOB), and sha256. A
person's own table has them in a table beside it. A table made from folders has them in columns of its own,
because people query these; its sources are a view of the columns, written into each statement. A copy would
take 112 MB for a million images, and could differ from the row that a person sees and changes. A view in the file
would forbid `alter table images drop column mtime`, and no reader trusts a view.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence

from sqlite_utils import Database
from sqlite_utils.db import quote_identifier

from .content_values import content_of
from .soundness import is_stored_table
from .tables import ImageTable, Key, column_names, folded

SOURCE_COLUMNS = {"size": int, "mtime": str, "sha256": str}


def sources_of(conn: sqlite3.Connection, table: ImageTable) -> str:
    """SQL, for the place of a table: the sources of the images that have one. A column that was dropped is NULL."""
    if table.hash_column is not None:
        there = {folded(name) for name in column_names(conn, table.name)}
        columns = (name if name in there else f"null as {name}" for name in SOURCE_COLUMNS)
        return "(select {key} as image_id, {columns} from {images})".format(
            columns=", ".join(columns), **table.quoted()
        )
    if is_stored_table(conn, table.sources):
        return quote_identifier(table.sources)
    return "(select null as image_id, null as size, null as mtime, null as sha256 where 0)"


def record_files(db: Database, table: ImageTable, states: Sequence[tuple[Key, int, str]]) -> None:
    """Write the id, size and mtime of files if nothing is known of their images yet; otherwise keep what is."""
    if table.hash_column is not None:
        sql = "update {images} set size = ?2, mtime = ?3 where {key} = ?1 and size is null and sha256 is null"
    else:
        sql = "insert or ignore into {sources} (image_id, size, mtime) values (?, ?, ?)"
    db.conn.executemany(sql.format(**table.quoted()), states)


def replaced_contents(conn: sqlite3.Connection, table: ImageTable, column: str) -> list[Key]:
    """
    The images of a person's own table whose content is not the one that was embedded. This reads all, one at a
    time, so it is for tables whose triggers, which notice each change, were gone.
    """
    if column not in column_names(conn, table.name):
        return []
    sql = (
        "select _source.image_id, _source.sha256, _image.{column} from {state} as _source "
        "join {images} as _image on _image.{key} = _source.image_id where _source.mtime = ''"
    ).format(column=quote_identifier(column), state=sources_of(conn, table), **table.quoted())
    return [
        image_id
        for image_id, sha256, content in conn.execute(sql)
        if hashlib.sha256(content_of(content)).hexdigest() != sha256
    ]
