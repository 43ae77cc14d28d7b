"""
What the picture of each image was made of: its source, a file or a BLOB, as it was when it was read.

All image tables have their sources in one form: image_id, size in bytes, mtime (ISO 8601, "" for a BLOB), and sha256. A
person's own table has them in a table beside it. A table that was made from folders has them as columns of its
own, because people query these; there the sources are a view of them, written into each statement. A copy would
take 112 MB of a million images, and could come to say something else than the row that a person sees and
changes. A view in the file would forbid `alter table images drop column mtime`, and readers believe no view.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence

from sqlite_utils import Database
from sqlite_utils.db import quote_identifier

from .soundness import is_stored_table
from .tables import ImageTable, Key, column_names


def sources_of(conn: sqlite3.Connection, table: ImageTable) -> str:
    """SQL, for the place of a table: the sources of the images that have one."""
    if table.is_ours:
        return "(select {key} as image_id, size, mtime, sha256 from {images})".format(
            **table.quoted()
        )
    if is_stored_table(conn, table.sources):
        return quote_identifier(table.sources)
    return "(select null as image_id, null as size, null as mtime, null as sha256 where 0)"


def record_files(db: Database, table: ImageTable, states: Sequence[tuple[Key, int, str]]) -> None:
    """Id, size and mtime of the files of images of which nothing was known; else what is known stays."""
    if table.is_ours:
        sql = "update {images} set size = ?2, mtime = ?3 where {key} = ?1 and size is null and sha256 is null"
    else:
        sql = "insert or ignore into {sources} (image_id, size, mtime) values (?, ?, ?)"
    db.conn.executemany(sql.format(**table.quoted()), states)


def replaced_contents(conn: sqlite3.Connection, table: ImageTable, column: str) -> list[Key]:
    """
    The images of a person's own table whose BLOB is another one than that which was embedded. All are read, one at
    a time: only for where triggers, which notice each change, were gone.
    """
    if table.is_ours or column not in column_names(conn, table.name):
        return []
    sql = (
        "select image_id, source.sha256, case typeof({images}.{column}) when 'blob' then {images}.{column} end "
        "from {state} as source join {images} on {images}.{key} = image_id where source.mtime = ''"
    ).format(column=quote_identifier(column), state=sources_of(conn, table), **table.quoted())
    return [
        image_id
        for image_id, sha256, content in conn.execute(sql)
        if hashlib.sha256(content or b"").hexdigest() != sha256
    ]
