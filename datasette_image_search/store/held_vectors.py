"""
Vectors that the database has not itself: if a person wants them in an engine only, the row of each has, in their place, the
id by which the engine knows the last of them.

That is true for the commit of the engine that the same state of the database names, because both are written in one
transaction. Before it, the vectors are in the database as ever: so a run that is killed loses none. A row that is copied
or renumbered takes the id along, and is fed again under its own.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from cachetools import TTLCache
from sqlite_utils import Database

from ..engines.protocol import EngineError, EngineRequest, VectorEngine
from ..engines.registry import open_engine
from .code_dimensions import code_dimensions
from .connections import database_path
from .indexes import read_indexes, update_index
from .norms import ROUNDED_NORM_ERROR, are_unit
from .stored_vectors import vector_to_blob
from .tables import MOST_VECTORS, Index
from .transactions import transaction
from .triggers import without_vector_triggers

SCENES = MOST_VECTORS
"""An engine knows a vector by SCENES times the id of its row, and the number of the scene, 0 for a picture."""

LONG = 3.0
PAUSE = 30.0
"""Seconds after which a read that fails took long, and until it is tried again."""

HALF_PRECISION = 2**-10
"""The share that half precision changes a component of a unit vector by, at most, and ..."""

SMALLEST = 2**-24
"""... what it changes one by that is too small for that."""

ROWS = 10_000
"""Rows that are written anew at once."""


class VectorsAway(EngineError):
    """The engine that alone has the vectors cannot be read: nothing can be searched, and nothing is lost."""


def place_of_engine(database: Path, index: Index) -> str:
    """Of an engine that was given none, a folder beside the database."""
    # Of any name that a database may give an engine, also one that no file can have.
    return index.engine_uri or f"{database}-image-search-{index.id}.{index.engine}"


def engine_of(
    index: Index, database: Path, *, token: str | None, builds_on_cluster: bool = False
) -> VectorEngine:
    """The engine that an index names, at the commit of a token. Raises EngineError."""
    place = place_of_engine(database, index)
    request = EngineRequest(place, code_dimensions(index), token, builds_on_cluster)
    return open_engine(str(index.engine), request, is_beside=index.engine_uri is None)


@lru_cache(maxsize=8)
def _opened(name: str, request: EngineRequest, identity: str, *, is_beside: bool) -> VectorEngine:
    engine = open_engine(name, request, is_beside=is_beside)
    try:
        state = json.loads(engine.state() or "")
        is_its = (state["token"], state["index"]) == (request.token, identity)
    except (ValueError, TypeError, KeyError):
        is_its = False
    if not is_its:
        raise EngineError(f"what {name} holds is missing, or not what the database names")
    return engine


def source_of(conn: sqlite3.Connection, index: Index) -> VectorEngine:
    """The engine that alone has vectors of an index, as this connection sees it. Raises VectorsAway."""
    named = _named(conn, index)
    database = database_path(conn)
    try:
        if database is None or named.engine is None or named.sidecar is None:
            raise EngineError("the database does not name it")
        place = place_of_engine(database, named)
        request = EngineRequest(place, named.dimensions, named.sidecar)
        is_beside = named.engine_uri is None
        return _opened(named.engine, request, named.identity, is_beside=is_beside)
    except EngineError as error:
        raise _away(named, error) from error


def _named(conn: sqlite3.Connection, index: Index) -> Index:
    """The row of an index as this connection sees it."""
    rows = read_indexes(conn, index.image_table, with_unfinished=True)
    return next((each for each in rows if each.id == index.id), index)


def lacks_vectors(conn: sqlite3.Connection, index: Index) -> bool:
    """Whether only an engine has some of the vectors of an index."""
    sql = (
        "select exists (select 1 from {vectors} where index_id = ? and typeof(vector) = 'integer')"
    )
    (lacks,) = conn.execute(sql.format(**index.table.quoted()), [index.id]).fetchone()
    return bool(lacks)


def _away(index: Index, error: EngineError) -> VectorsAway:
    return VectorsAway(
        f"the vectors of {index.image_table!r} are in {index.engine} only, not in the database, and {error}; bring it back, "
        "or name where it is, with index-images --uri; if it is lost, import an export of them with import-image-vectors, or embed "
        "the images anew with embed-images --replace-model",
        error.details,
    )


def as_blobs(conn: sqlite3.Connection, index: Index, cells: Sequence[Any]) -> list[Any]:
    """
    The column `vector` of some rows, read from the engine where only that has them. A number that somebody wrote into a
    database that has its vectors stays as it is. Raises VectorsAway.
    """
    lasts = sorted({cell for cell in cells if type(cell) is int})
    if not lasts or not _named(conn, index).engine_only:
        return list(cells)
    with _not_again((database_path(conn), index.id)):
        blobs = _read(conn, index, lasts)
    return [blobs[cell] if type(cell) is int else cell for cell in cells]


_failures: TTLCache[tuple[Path | None, int], VectorsAway] = TTLCache(64, PAUSE)
_lock = threading.Lock()


@contextmanager
def _not_again(key: tuple[Path | None, int]) -> Iterator[None]:
    """What took long to fail, as storage elsewhere does, fails at once for a while: a server has many searches, and few threads."""
    with _lock:
        known = _failures.get(key)
    if known is not None:
        raise VectorsAway(str(known), known.details)
    started = time.monotonic()
    try:
        yield
    except VectorsAway as error:
        if time.monotonic() - started > LONG:
            with _lock:
                _failures[key] = error
        raise


def _read(conn: sqlite3.Connection, index: Index, lasts: Sequence[int]) -> Mapping[int, bytes]:
    """The vectors by the ids of the last ones, ascending."""
    engine = source_of(conn, index)
    ends = np.array(lasts, dtype=np.int64)
    counts = ends % SCENES + 1
    starts = np.cumsum(counts) - counts
    ids = np.repeat(ends - counts + 1 - starts, counts) + np.arange(counts.sum())
    try:
        vectors = engine.vectors(ids).astype(np.float64)
        is_whole = are_unit(vectors, ROUNDED_NORM_ERROR)
        if not is_whole.all():
            first = ids[~is_whole][0] // SCENES
            raise EngineError(
                "vectors are missing or damaged there",
                f"that of row {first} of {index.table.vectors}",
            )
    except EngineError as error:
        raise _away(index, error) from error
    # Half precision leaves them a little too long or short.
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors.astype(np.float32)
    return {
        last: vector_to_blob(vectors[start : start + count])
        for last, start, count in zip(lasts, starts.tolist(), counts.tolist(), strict=True)
    }


def hand_over(db: Database, index: Index, vector_ids: np.ndarray) -> None:
    """
    Take out of the database the vectors with these ids, ascending, each as often as it has scenes: the engine has them, by
    the commit that is recorded in the same transaction.
    """
    ids, counts = np.unique(vector_ids, return_counts=True)
    lasts = dict(zip(ids.tolist(), (ids * SCENES + counts - 1).tolist(), strict=True))
    # A row that was copied has the id of another. One that is no vector stays as it is.
    _write_anew(
        db,
        index,
        f"typeof(vector) = 'blob' or vector / {SCENES} != id",
        lambda rows: [lasts.get(row_id) for row_id, _ in rows],
    )


def take_back(db: Database, index: Index) -> None:
    """All vectors that only an engine has are in the database again, in half precision. Raises VectorsAway."""
    if not _named(db.conn, index).engine_only:
        return
    with transaction(db):
        _write_anew(
            db,
            index,
            "typeof(vector) = 'integer'",
            lambda rows: as_blobs(db.conn, index, [cell for _, cell in rows]),
        )
        update_index(db, index, {"engine_only": 0})


def _write_anew(
    db: Database,
    index: Index,
    which: str,
    cells_of: Callable[[Sequence[tuple[int, Any]]], Sequence[bytes | int | None]],
) -> None:
    """
    The rows for which some SQL is true, with other cells by their ids and cells, None for those that stay. A row that got
    shorter in its place would leave its page as empty as that is.
    """
    names, after = index.table.quoted(), 0
    chosen = (
        f"select id, case when typeof(vector) = 'integer' then vector end from {names['vectors']} "
        f"where id > ? and index_id = ? and ({which}) order by id limit {ROWS}"
    )
    with without_vector_triggers(db, index.table):
        while rows := db.execute(chosen, [after, index.id]).fetchall():
            after = rows[-1][0]
            cells = {id: cell for (id, _), cell in zip(rows, cells_of(rows), strict=True)}
            ids = [(id,) for id, cell in cells.items() if cell is not None]
            rest = db.execute(
                f"select id, index_id, image_id, sha256, times from {names['vectors']} "
                "where id in (select value from json_each(?))",
                [json.dumps([id for (id,) in ids])],
            ).fetchall()
            db.conn.executemany(f"delete from {names['vectors']} where id = ?", ids)
            db.conn.executemany(
                f"insert into {names['vectors']} (id, index_id, image_id, sha256, times, vector) "
                "values (?, ?, ?, ?, ?, ?)",
                [(*row, cells[row[0]]) for row in rest],
            )
