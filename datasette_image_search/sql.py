"""
The SQL functions, the same in Datasette and in sqlite-utils.

Registering them is cheap and imports no torch, faiss or numpy, because sqlite-utils does it on every
run; the first call imports what it needs. No function opens a file that its caller names, or reaches
another database than its connection's own.
"""

from __future__ import annotations

import ctypes
import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

from .errors import ImageSearchError

if TYPE_CHECKING:
    import numpy as np

    from .search.query import WeightsOf
    from .store import ImageTable, Index, Key

REMEMBERED = 128
"""Queries per connection."""

Report = Callable[[str], None]
"""Takes a sentence meant for the person: of an exception, SQLite passes on only that there was one."""


class _Borrowed:
    """
    A connection that is not kept alive. Its functions would do that: SQLite owns them, Python cannot
    see the circle, and every Database that is dropped without close() would stay open for ever.
    A function runs only while its connection lives, so the address is good whenever it is used.
    """

    def __init__(self, conn: sqlite3.Connection) -> None:
        self.address = id(conn)

    def __call__(self) -> sqlite3.Connection:
        return ctypes.cast(self.address, ctypes.py_object).value


def register_functions(
    conn: sqlite3.Connection,
    report: Report = lambda sentence: None,
    weights_of: WeightsOf | None = None,
) -> None:
    """
    Make all functions known to a connection; `report` gets what went wrong, and warnings.
    `weights_of` says where weights are, None that the database is to be believed about it.
    """
    borrowed = _Borrowed(conn)
    prepare = _remembering(borrowed, report, weights_of)

    def image_search(query: str | bytes | None, k: int | None, table: str | None = None):
        """The best k images of the whole table, as JSON: [{"id": 7, "score": 0.31}, ...]."""
        if query is None or k is None:
            return None
        return _search(borrowed(), prepare(query, table), _count(k))

    def image_similarity(id: Key | None, query: str | bytes | None, table: str | None = None):
        """The score of one image, or NULL for an image that has no vector."""
        if id is None or query is None:
            return None
        from . import store

        prepared = prepare(query, table)
        vector = store.image_vector(borrowed(), prepared.index, id, prepared.table)
        return None if vector is None else float(vector @ prepared.vector)

    def image_vector(query: str | bytes | None, table: str | None = None):
        """The vector of a query as a BLOB, which every function here takes as a query."""
        if query is None:
            return None
        from .store import vector_to_blob

        return vector_to_blob(prepare(query, table).vector)

    def image_search_status(table: str | None = None):
        """What is indexed and what is wrong, as JSON."""
        return json.dumps(_status(borrowed(), table))

    class ImageSearchAgg:
        """Aggregate: the best k of the images whose ids it is fed, as JSON."""

        def __init__(self) -> None:
            self.ids: list[Key] = []
            self.arguments: tuple[Any, ...] = (None, None)

        def step(self, id: Key | None, *arguments: Any) -> None:
            self.arguments = arguments
            if isinstance(id, int | str):
                self.ids.append(id)

        @_reporting(report)
        def finalize(self):
            query, k, *table = self.arguments
            if query is None or k is None:
                return None
            return _search(borrowed(), prepare(query, *table), _count(k), among=self.ids)

    for function, counts in (
        (image_search, (2, 3)),
        (image_similarity, (2, 3)),
        (image_vector, (1, 2)),
        (image_search_status, (0, 1)),
    ):
        for count in counts:
            # Deterministic within a statement, which lets SQLite call it once for constants.
            conn.create_function(
                function.__name__, count, _reporting(report)(function), deterministic=True
            )
    for count in (3, 4):
        conn.create_aggregate("image_search_agg", count, ImageSearchAgg)


def has_functions(conn: sqlite3.Connection) -> bool:
    """Whether the functions were made known to this connection before."""
    try:
        conn.execute("explain select image_search_status()")
    except sqlite3.Error:
        return False
    return True


def _reporting(report: Report) -> Callable[[Callable], Callable]:
    def decorate(function: Callable) -> Callable:
        @wraps(function)
        def reporting(*args: Any) -> Any:
            try:
                return function(*args)
            except ImageSearchError as error:
                report(str(error))
                raise

        return reporting

    return decorate


@dataclass(frozen=True)
class _Prepared:
    """What a query comes to in one state of the database; `vector` has shape (dimensions,)."""

    index: Index
    table: ImageTable
    vector: np.ndarray


def _remembering(
    borrowed: _Borrowed, report: Report, weights_of: WeightsOf | None
) -> Callable[..., _Prepared]:
    """
    (query, table) -> what it comes to, remembered until the database changes: a function in a
    SELECT is called once per row with the same few queries.
    """
    remembered: dict[tuple[str | bytes, str | None], _Prepared] = {}
    state: tuple[int, int] | None = None

    def prepare(query: str | bytes, name: str | None = None) -> _Prepared:
        nonlocal state
        from . import store
        from .search.query import query_vector, recorded_weights

        if not isinstance(query, str | bytes):
            raise ImageSearchError(
                f"the query is {query!r}; it must be text, or a vector as a BLOB"
            )
        conn = borrowed()
        (version,) = conn.execute("pragma data_version").fetchone()
        if state != (version, conn.total_changes) or len(remembered) >= REMEMBERED:
            state = version, conn.total_changes
            remembered.clear()
        if (query, name) not in remembered:
            index = store.find_index(conn, name)
            found = query_vector(conn, index, query, weights_of or recorded_weights)
            for warning in found.warnings:
                report(warning)
            table = store.find_image_table(conn, index.image_table)
            remembered[query, name] = _Prepared(index, table, found.vector)
        return remembered[query, name]

    return prepare


def _search(
    conn: sqlite3.Connection, prepared: _Prepared, k: int, among: list[Key] | None = None
) -> str:
    from . import store
    from .search import planner

    filter = None if among is None else store.IdSet(among)
    found = planner.search(conn, prepared.index, prepared.vector, k, filter)
    return json.dumps([{"id": hit.id, "score": hit.score} for hit in found.hits])


def _count(k: Any) -> int:
    if not isinstance(k, int):
        raise ImageSearchError(f"k is {k!r}; it must be a whole number")
    return k


def _status(conn: sqlite3.Connection, name: str | None) -> dict[str, Any]:
    from . import store
    from .search.live import live_index

    try:
        index = store.find_index(conn, name)
        live = live_index(conn, index)
    except ImageSearchError as error:
        return {"problem": str(error)}
    table = store.find_image_table(conn, index.image_table)
    images, vectors = store.count_images(conn, table), store.count_vectors(conn, index)
    problems = [live.problem] if live.problem else []
    if images > vectors:
        problems.append(
            f"{images - vectors:,} images have no vector; embed them with sqlite-utils embed-images"
        )
    return {
        "table": index.image_table,
        "model": index.model,
        "dimensions": index.dimensions,
        "images": images,
        "vectors": vectors,
        "sidecar": "in use" if live.from_sidecar else "not in use",
        "newer_than_sidecar": live.newer,
        "problem": "; ".join(problems) or None,
    }
