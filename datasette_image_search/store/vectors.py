"""What is read from the table of vectors."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import Any

import numpy as np

from .held_vectors import as_blobs
from .indexes import read_indexes
from .norms import are_unit
from .ownership import owned
from .soundness import is_stored_table
from .stored_vectors import Rows, StoredVectors, vector_from_blob
from .tables import LAST, MOST_VECTORS, ImageTable, Index, Key

LONGEST_TIMES = 1_000
"""Characters of the seconds of the scenes of one film."""


def count_vectors(conn: sqlite3.Connection, index: Index, *, up_to: int | None = None) -> int:
    indexes = read_indexes(conn, index.image_table, with_unfinished=True)
    if up_to is None and len(indexes) == 1:
        # SQLite counts all rows of a table by its pages: a million in 3 ms instead of 80.
        return conn.execute(
            "select count(*) from {vectors}".format(**index.table.quoted())
        ).fetchone()[0]
    # The plus keeps SQLite on the index, which has all it needs, and off the vectors themselves.
    sql = "select count(*) from {vectors} where index_id = ? and +id <= ?".format(
        **index.table.quoted()
    )
    return conn.execute(sql, [index.id, LAST if up_to is None else up_to]).fetchone()[0]


def count_with_vector(
    conn: sqlite3.Connection, index: Index, *, unusable: Sequence[int] = ()
) -> int:
    """How many images a search finds: not what has no row any more, nor what is `unusable`."""
    # In this order it takes a third of the time of asking for each image whether there is a vector.
    sql = (
        "select count(*) from {vectors} as side cross join {images} on {images}.{key} = side.image_id "
        "where side.index_id = ? and side.id not in (select value from json_each(?))"
    )
    params = [index.id, json.dumps(list(unusable))]
    return conn.execute(sql.format(**index.table.quoted()), params).fetchone()[0]


def vector_ids(conn: sqlite3.Connection, index: Index) -> np.ndarray:
    """The ids of all vectors of an index, in any order, int64."""
    # The plus keeps SQLite on the index, as in count_vectors, and one long text is read in a third of
    # the time of as many rows.
    sql = "select group_concat(id) from (select +id as id from {vectors} where index_id = ?)"
    ((text,),) = conn.execute(sql.format(**index.table.quoted()), [index.id]).fetchall()
    return np.fromstring(text or "", dtype=np.int64, sep=",")


def vector_batches(
    conn: sqlite3.Connection,
    index: Index,
    *,
    after: int = 0,
    up_to: int | None = None,
    size: int = 10_000,
) -> Iterator[StoredVectors]:
    """The vectors with ids in (after, up_to], in the order of their ids, `size` at a time."""
    cursor = conn.execute(
        _select_vectors(conn, index.table)
        + "where side.id > ? and side.id <= ? and side.index_id = ? order by side.id",
        [after, LAST if up_to is None else up_to, index.id],
    )
    while rows := cursor.fetchmany(size):
        yield _stored_vectors(conn, rows, index, with_tokens=len(rows[0]) > 3)


def _select_vectors(conn: sqlite3.Connection, table: ImageTable) -> str:
    """Id, image, vector and token, of rows of the table that is called `side`."""
    if not is_stored_table(conn, table.tokens):
        return "select side.id, side.image_id, side.vector from {vectors} as side ".format(
            **table.quoted()
        )
    return (
        "select side.id, side.image_id, side.vector, cast(coalesce(token, 0) as integer) from {vectors} as side "
        "left join {tokens} on vector_id = side.id ".format(**table.quoted())
    )


def _stored_vectors(
    conn: sqlite3.Connection,
    rows: Sequence[tuple[Any, ...]],
    index: Index,
    *,
    with_tokens: bool = False,
) -> StoredVectors:
    """
    Without rows that hold no vectors of this index: others can write to the table too. A row has one vector, or those
    of the scenes of a film one after the other.
    """
    read = None
    if with_tokens:
        read = Rows(*(np.array([row[at] for row in rows], dtype=np.int64) for at in (0, 3)))
    size = 4 * index.dimensions
    blobs = as_blobs(conn, index, [row[2] for row in rows])
    rows = [
        (*row[:2], blob)
        for row, blob in zip(rows, blobs, strict=True)
        if isinstance(blob, bytes) and _may_hold(blob, size) and index.table.is_key(row[1])
    ]
    vectors = np.frombuffer(b"".join(row[2] for row in rows), dtype="<f4")
    vectors = vectors.reshape(-1, index.dimensions)
    ids = np.array([row[0] for row in rows], dtype=np.int64)
    image_ids = [row[1] for row in rows]
    if len(vectors) > len(rows):
        counts = [len(row[2]) // size for row in rows]
        ids = np.repeat(ids, counts)
        image_ids = list(chain.from_iterable(map(repeat, image_ids, counts)))
    sound = are_unit(vectors)
    if not sound.all():
        sound = ~np.isin(ids, ids[~sound])
        ids, vectors = ids[sound], vectors[sound]
        image_ids = [key for key, is_sound in zip(image_ids, sound, strict=True) if is_sound]
    return StoredVectors(ids, image_ids, vectors, read)


def _may_hold(blob: bytes, size: int) -> bool:
    """Whether it is as long as some vectors of so many bytes."""
    return len(blob) == size or (0 < len(blob) <= MOST_VECTORS * size and len(blob) % size == 0)


def image_vector(conn: sqlite3.Connection, index: Index, image_id: Key) -> np.ndarray | None:
    """The vector of an image, or None where it has none. Of a film it is that of the scene of its thumbnail."""
    vectors = image_vectors(conn, index, image_id)
    return vectors[0] if len(vectors) else None


def image_vectors(conn: sqlite3.Connection, index: Index, image_id: Key) -> np.ndarray:
    """
    All vectors of an image, shape (n, dimensions): n is above 1 for a film, and 0 where there is none. Raises VectorsAway, as
    all that read vectors do.
    """
    none = np.empty((0, index.dimensions), dtype=np.float32)
    row = conn.execute(
        "select vector from {vectors} as side where image_id = ? and index_id = ? "
        "and {owned}".format(owned=owned(conn, index.table, "side"), **index.table.quoted()),
        [image_id, index.id],
    ).fetchone()
    (blob,) = as_blobs(conn, index, row or [None])
    if not isinstance(blob, bytes) or not _may_hold(blob, 4 * index.dimensions):
        return none
    vectors = vector_from_blob(blob).reshape(-1, index.dimensions)
    return vectors if are_unit(vectors).all() else none


def scene_times(
    conn: sqlite3.Connection, index: Index, ids: Sequence[int]
) -> dict[int, tuple[float, ...]]:
    """Vector id -> the seconds of the scenes in the order of their vectors, for those ids that are of films."""
    if not is_stored_table(conn, index.table.vectors, "times"):
        return {}  # Older versions knew no films.
    rows = conn.execute(
        "select id, times from {vectors} where id in (select value from json_each(?)) "
        "and index_id = ? and typeof(times) = 'text' and length(times) <= ?".format(
            **index.table.quoted()
        ),
        [json.dumps(list(ids)), index.id, LONGEST_TIMES],
    )
    found = {id: _seconds(written) for id, written in rows}
    return {id: times for id, times in found.items() if times is not None}


def film_ids(conn: sqlite3.Connection, index: Index) -> np.ndarray:
    """The ids of the vectors of films, in any order, int64."""
    if not is_stored_table(conn, index.table.vectors, "times"):
        return np.empty(0, dtype=np.int64)
    rows = conn.execute(
        "select id from {vectors} where index_id = ? and times is not null".format(
            **index.table.quoted()
        ),
        [index.id],
    )
    return np.array([id for (id,) in rows], dtype=np.int64)


def _seconds(written: str) -> tuple[float, ...] | None:
    """Those of a JSON array; None if it is none, as others can write to the table too."""
    try:
        times = tuple(map(float, json.loads(written)))
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None
    return times if all(map(math.isfinite, times)) else None


def vectors_by_id(conn: sqlite3.Connection, index: Index, ids: Sequence[int]) -> StoredVectors:
    """Those of the vectors with these ids that are still there, in any order."""
    rows = conn.execute(
        "select id, image_id, vector from {vectors} "
        "where id in (select value from json_each(?)) and index_id = ?".format(
            **index.table.quoted()
        ),
        [json.dumps(list(ids)), index.id],
    ).fetchall()
    return _stored_vectors(conn, rows, index)


def rows_by_id(conn: sqlite3.Connection, index: Index, ids: Sequence[int]) -> StoredVectors:
    """As vectors_by_id() does, in the order of ids, and of a database with tokens these too."""
    has_tokens = is_stored_table(conn, index.table.tokens)
    rows = conn.execute(
        _select_vectors(conn, index.table)
        + "where side.id in (select value from json_each(?)) and side.index_id = ? order by side.id",
        [json.dumps(list(ids)), index.id],
    ).fetchall()
    return _stored_vectors(conn, rows, index, with_tokens=has_tokens)
