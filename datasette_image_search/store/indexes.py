"""The rows of the table of indexes, read and written: which image tables there are, and by which models."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from .connections import database_path
from .schema_version import check_version
from .soundness import MOST_INDEXES, sound_index, stored_columns
from .tables import (
    INDEXES,
    ImageTable,
    Index,
    StoreError,
    find_image_table,
    table_exists,
)
from .transactions import transaction

BESIDE = {"table", "database"}
"""What an Index has that is no column of its row."""

WeightsOf = Callable[[Index], Path | None]
"""Index -> the file to load its model from, None for the cache."""


def recorded_weights(index: Index) -> Path | None:
    """
    The file that the database names. A server must not use this, because anybody may have made its
    database.
    """
    return Path(index.weights) if index.weights is not None else None


def image_table_names(conn: sqlite3.Connection) -> list[str]:
    """
    The tables that have an index, in alphabetical order; none where nothing was embedded. Raises
    NewerVersion.
    """
    check_version(conn)
    columns = stored_columns(conn, INDEXES)
    if not columns:
        return []
    # A database of an older version has no such column.
    serving = "and not unfinished" if "unfinished" in columns else ""
    sql = (
        f"select distinct image_table from (select * from {INDEXES} limit {MOST_INDEXES}) "
        f"where {sound_index(columns)} {serving} order by 1"
    )
    return [name for (name,) in conn.execute(sql) if table_exists(conn, name)]


def read_indexes(
    conn: sqlite3.Connection, table: str, *, with_unfinished: bool = False
) -> list[Index]:
    """
    The indexes of a table that it is searched with, the oldest first; none where nothing was embedded,
    or the table was dropped since. A row that cannot be one of ours is left out. Raises NewerVersion, and
    StoreError for a table without a key.
    """
    check_version(conn)
    # A database of an older version lacks some.
    there = stored_columns(conn, INDEXES)
    if not there or not table_exists(conn, table):
        return []
    columns = [field.name for field in fields(Index) if field.name in {*there} - BESIDE]
    rows = conn.execute(
        f"select {', '.join(columns)} from (select * from {INDEXES} limit {MOST_INDEXES}) "
        f"where image_table = ? collate nocase and {sound_index(there)} order by id",
        [table],
    )
    found: list[dict[str, Any]] = [dict(zip(columns, row, strict=True)) for row in rows]
    if not found:
        return []
    image_table = find_image_table(conn, table)
    database = database_path(conn) if any(row.get("text_tower") for row in found) else None
    indexes = [Index(**row, table=image_table, database=database) for row in found]
    return [index for index in indexes if with_unfinished or not index.unfinished]


def all_indexes(conn: sqlite3.Connection) -> list[Index]:
    """The indexes of all image tables that can be searched: those of a table without a key cannot."""
    indexes: list[Index] = []
    for name in image_table_names(conn):
        with suppress(StoreError):
            indexes += read_indexes(conn, name)
    return indexes


def ensure_index(
    db: Database,
    table: ImageTable,
    *,
    model: str,
    weights: str | None,
    fingerprint: str,
    dimensions: int,
    path_column: str | None = None,
    content_column: str | None = None,
    unfinished: bool = False,
) -> Index:
    """
    The index of a table by a model, made if there is none; or the unfinished one that is to come in
    place of others. The caller has checked the fingerprint: one that was IMPORTED may be an embedder's
    now. Weights that have moved are remembered at their new place, and so are the columns of this run.
    """
    wanted = model, unfinished
    known = _find(db, table, wanted)
    now = {
        "weights": weights,
        "fingerprint": fingerprint,
        "path_column": path_column,
        "content_column": content_column,
    }
    if known is not None:
        update_index(db, known, {**now, "weights": weights or known.weights})
    else:
        new = {"image_table": table.name, "model": model, "dimensions": dimensions}
        identity = {"identity": secrets.token_hex(8), "unfinished": unfinished}
        db.table(INDEXES).insert({**new, **now, **identity})
    index = _find(db, table, wanted)
    assert index is not None
    return index


def _find(db: Database, table: ImageTable, wanted: tuple[str, bool]) -> Index | None:
    for index in read_indexes(db.conn, table.name, with_unfinished=True):
        if (index.model, bool(index.unfinished)) == wanted:
            return index
    return None


def check_index(conn: sqlite3.Connection, index: Index) -> None:
    """
    Raises StoreError where the row of an index is gone, which no command of ours leaves behind. Within
    a transaction, so that it stays until that is committed.
    """
    rows = read_indexes(conn, index.image_table, with_unfinished=True)
    if not any((row.id, row.identity) == (index.id, index.identity) for row in rows):
        raise StoreError(
            f"the index of {index.image_table!r} by {index.model} was removed meanwhile by another "
            "program; run this again"
        )


def made_of_same(conn: sqlite3.Connection, index: Index) -> list[Index]:
    """
    The other indexes of a table that are of the same pictures: of a person's own table, those of
    another column may be of others.
    """
    return [
        each
        for each in read_indexes(conn, index.image_table, with_unfinished=True)
        if each.id != index.id
        and (each.path_column, each.content_column) == (index.path_column, index.content_column)
    ]


def update_index(db: Database, index: Index, now: dict[str, Any]) -> None:
    """Write to the row of an index. Raises StoreError where that is gone."""
    check_index(db.conn, index)
    db.table(INDEXES).update(index.id, now)


def record_sidecar(db: Database, index: Index) -> None:
    """Believe, from now on, the sidecar that `index` names, and its engine. Raises StoreError where it is gone."""
    with transaction(db):
        now = {
            "sidecar": index.sidecar,
            "sidecar_vector_id": index.sidecar_vector_id,
            "engine": index.engine,
            "engine_uri": index.engine_uri,
            "engine_only": index.engine_only,
        }
        update_index(db, index, now)


def record_index_type(db: Database, index: Index) -> None:
    """Remember the type that a person chose."""
    with transaction(db):
        update_index(db, index, {"index_type": index.index_type})


def record_text_tower(db: Database, index: Index, sha256: str) -> None:
    """Believe, from now on, the exported file with this content. Raises StoreError where the index is gone."""
    with transaction(db):
        update_index(db, index, {"text_tower": sha256})
