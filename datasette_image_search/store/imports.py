"""Vectors that another program made, written by the million, within one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from sqlite_utils import Database
from sqlite_utils.db import quote_identifier

from .held_vectors import HALF_PRECISION, SMALLEST, VectorsAway, as_blobs
from .sources import sources_of
from .stored_vectors import vector_from_blob
from .tables import ImageTable, Index, Key, column_names, generated_columns
from .tokens import give_tokens, take_tokens
from .writes import folder_of


@dataclass(frozen=True, slots=True)
class ImportedImage:
    """A file that is known by its vector only; `size` and `mtime` are None where it is not there."""

    root_id: int
    path: str
    size: int | None = None
    mtime: str | None = None


def add_imported(db: Database, table: ImageTable, images: Iterable[ImportedImage]) -> range:
    """
    Rows for files that have none; their ids, in the same order. For `without_triggers`.

    Raises StoreError for a table whose keys are texts.
    """
    table.check_takes_rows()
    names = table.quoted()
    (last,) = db.execute("select coalesce(max({key}), 0) from {images}".format(**names)).fetchone()
    # An id that is used again inherits nothing.
    take_tokens(db, table, "image_id > ?", [[last]])
    for side in ("vectors", "thumbnails"):
        db.execute(f"delete from {{{side}}} where image_id > ?".format(**names), [last])
    # A person may have dropped or renamed columns that nothing here depends on.
    there = set(column_names(db.conn, table.name)) - generated_columns(db.conn, table.name)
    columns = [column for column in _ROW if column in there]
    sql = "insert into {images} ({columns}) values ({values})".format(
        columns=", ".join([names["key"], *map(quote_identifier, columns)]),
        values=", ".join("?" * (1 + len(columns))),
        images=names["images"],
    )
    read = [_ROW[column] for column in columns]
    cursor = db.conn.executemany(
        sql,
        (
            (key, *(value(image) for value in read))
            for key, image in zip(count(last + 1), images, strict=False)
        ),
    )
    return range(last + 1, last + 1 + cursor.rowcount)


_ROW = {
    "root_id": lambda image: image.root_id,
    "path": lambda image: image.path,
    "folder": lambda image: folder_of(image.path),
    "filename": lambda image: image.path.rpartition("/")[2],
    "size": lambda image: image.size,
    "mtime": lambda image: image.mtime,
}
"""What is known of a file by its name: column -> value."""


def write_imported(
    db: Database,
    table: ImageTable,
    index: Index,
    ids: Sequence[Key],
    vectors: Sequence[np.ndarray],
    scenes: Mapping[Key, Sequence[float]],
) -> int:
    """
    The vectors of n images, each float32 of shape (m, dimensions), in place of others that they have; of films with the
    seconds of their `scenes`. Equal ones stay. How many images were written. For `without_triggers`.
    """
    sql = (
        "insert into {vectors} (index_id, image_id, sha256, vector, times) values (?, ?, ?, ?, ?)"
    ).format(**table.quoted())
    there = _stored(db.conn, table, index, ids)
    held = _held(db.conn, index, [old for *_, old, _ in there.values() if isinstance(old, int)])
    changed = []
    outdated = []
    for image_id, each in zip(ids, vectors, strict=True):
        if image_id not in there:
            continue  # Deleted since the survey.
        blob = each.tobytes()
        times = json.dumps(list(scenes[image_id])) if image_id in scenes else None
        sha256, old_sha256, old, old_times = there[image_id]
        is_same = old == blob or _are_near(held.get(old), each)
        if old_sha256 == sha256 and is_same and old_times == times:
            continue
        changed.append((index.id, image_id, sha256, blob, times))
        if old is not None:
            outdated.append((index.id, image_id))
    names = table.quoted()
    (last,) = db.execute("select coalesce(max(id), 0) from {vectors}".format(**names)).fetchone()
    take_tokens(db, table, "index_id = ? and image_id = ?", outdated)
    db.conn.executemany(
        "delete from {vectors} where index_id = ? and image_id = ?".format(**names), outdated
    )
    db.conn.executemany(sql, changed)
    give_tokens(db, table, after=last)
    return len(changed)


def _held(conn: sqlite3.Connection, index: Index, lasts: Sequence[int]) -> Mapping[Any, bytes]:
    """The vectors that only an engine has; none if they are away, and whoever imports them brings them back."""
    try:
        return dict(zip(lasts, as_blobs(conn, index, lasts), strict=True))
    except VectorsAway:
        return {}


def _are_near(held: bytes | None, vector: np.ndarray) -> bool:
    """Whether a vector may be the one that an engine has in half precision."""
    if held is None or len(held) != vector.nbytes:
        return False
    vector = vector.ravel()
    changes = np.abs(vector_from_blob(held) - vector)
    return bool((changes <= HALF_PRECISION * np.abs(vector) + SMALLEST).all())


def _stored(
    conn: sqlite3.Connection, table: ImageTable, index: Index, ids: Sequence[Key]
) -> dict[Key, tuple[str | None, str | None, Any, Any]]:
    """Id -> (sha256 of the picture, sha256 that its vector carries, cells of its vector and times), for images that exist."""
    sql = (
        "select {images}.{key}, source.sha256, side.sha256, side.vector, side.times "
        "from json_each(?) as wanted "
        "cross join {images} on {images}.{key} = wanted.value "
        "left join {state} as source on source.image_id = {images}.{key} "
        "left join {vectors} as side on side.image_id = {images}.{key} and side.index_id = ?"
    ).format(state=sources_of(conn, table), **table.quoted())
    rows = conn.execute(sql, [json.dumps(list(ids)), index.id])
    return {image_id: rest for image_id, *rest in rows}
