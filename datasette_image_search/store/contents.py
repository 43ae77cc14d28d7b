"""The pictures that a person's own image table holds, BLOBs without a copy of them in memory."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from typing import BinaryIO

from sqlite_utils.db import quote_identifier

from .own_rows import own_content
from .tables import ImageTable, Key

PIECE = 256 * 1024
"""Bytes."""


def copy_content(
    conn: sqlite3.Connection,
    table: ImageTable,
    column: str,
    image_id: Key,
    target: BinaryIO,
    *,
    at_most: int,
) -> tuple[int, str]:
    """
    Write the picture of an image into a file: how many bytes it has, and their SHA-256. None are written
    if the row is gone, or holds no picture or one of more bytes.
    """
    digest, size = hashlib.sha256(), 0
    try:
        for piece in _pieces(conn, table, column, image_id, at_most):
            digest.update(piece)
            target.write(piece)
            size += len(piece)
    except (AttributeError, sqlite3.Error):
        # Python 3.10, a view, a table without rowid, a text: so as a whole.
        target.seek(0)
        target.truncate()
        content = own_content(conn, table, column, image_id, at_most=at_most)
        digest, size = hashlib.sha256(content), target.write(content)
    return size, digest.hexdigest()


def _pieces(
    conn: sqlite3.Connection, table: ImageTable, column: str, image_id: Key, at_most: int
) -> Iterator[bytes]:
    if conn.execute(
        "select 1 from pragma_table_xinfo(?) where lower(name) = '_rowid_'", [table.name]
    ).fetchone():
        raise sqlite3.NotSupportedError("a column hides the rowid")
    found = conn.execute(
        "select {images}._rowid_, typeof({images}.{column}), length({images}.{column}) "
        "from {images} where {key} = ?".format(column=quote_identifier(column), **table.quoted()),
        [image_id],
    ).fetchone()
    if found is not None and found[1] == "text":
        raise sqlite3.NotSupportedError("a text stands for other bytes than its own")
    if found is not None and found[1] == "blob" and found[2] <= at_most:
        with conn.blobopen(table.name, column, found[0], readonly=True) as blob:
            while piece := blob.read(PIECE):
                yield piece
