"""
The SQL functions, the same in Datasette and in sqlite-utils.

Registering them is cheap and imports no torch, faiss or numpy, because sqlite-utils does it on every
run; the first call imports what it needs. No function opens a file that its caller names, or reaches
another database than its connection's own.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from .errors import ImageSearchError

if TYPE_CHECKING:
    from .search.query import QueryVector
    from .store import Index, Key

Report = Callable[[str], None]
"""Takes a sentence meant for the person: of an exception, SQLite passes on only that there was one."""


def register_functions(conn: sqlite3.Connection, report: Report = lambda sentence: None) -> None:
    """Make all functions known to a connection; `report` gets what went wrong, and warnings."""
    prepare = _remembering(conn, report)

    def image_search(query: str | bytes | None, k: int | None, table: str | None = None):
        """The best k images of the whole table, as JSON: [{"id": 7, "score": 0.31}, ...]."""
        if query is None or k is None:
            return None
        return _search(conn, prepare(query, table), _count(k))

    def image_similarity(id: Key | None, query: str | bytes | None, table: str | None = None):
        """The score of one image, or NULL for an image that has no vector."""
        if id is None or query is None:
            return None
        from . import store

        index, query_vector = prepare(query, table)
        vector = store.image_vector(conn, index, id)
        return None if vector is None else float(vector @ query_vector.vector)

    def image_vector(query: str | bytes | None, table: str | None = None):
        """The vector of a query as a BLOB, which every function here takes as a query."""
        if query is None:
            return None
        from .store import vector_to_blob

        return vector_to_blob(prepare(query, table)[1].vector)

    def image_search_status(table: str | None = None):
        """What is indexed and what is wrong, as JSON."""
        return json.dumps(_status(conn, table))

    class ImageSearchAgg:
        """Aggregate: the best k of the images whose ids it is fed, as JSON."""

        def __init__(self) -> None:
            self.ids: list[Key] = []
            self.arguments: tuple[Any, ...] = (None, None)

        def step(self, id: Key | None, *arguments: Any) -> None:
            self.arguments = arguments
            if id is not None:
                self.ids.append(id)

        @_reporting(report)
        def finalize(self):
            query, k, *table = self.arguments
            if query is None or k is None:
                return None
            return _search(conn, prepare(query, *table), _count(k), among=self.ids)

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


def _remembering(
    conn: sqlite3.Connection, report: Report
) -> Callable[..., tuple[Index, QueryVector]]:
    """
    (query, table) -> the index and the vector, remembered until the database changes: a function
    in a SELECT is called once per row with the same query.
    """
    remembered: dict[Any, tuple[Index, QueryVector]] = {}

    def prepare(query: str | bytes, table: str | None = None) -> tuple[Index, QueryVector]:
        from . import store
        from .search.query import query_vector

        if not isinstance(query, str | bytes):
            raise ImageSearchError(
                f"the query is {query!r}; it must be text, or a vector as a BLOB"
            )
        (version,) = conn.execute("pragma data_version").fetchone()
        key = (version, conn.total_changes, query, table)
        if key not in remembered:
            index = store.find_index(conn, table)
            vector = query_vector(conn, index, query)
            for warning in vector.warnings:
                report(warning)
            remembered.clear()
            remembered[key] = index, vector
        return remembered[key]

    return prepare


def _search(
    conn: sqlite3.Connection,
    prepared: tuple[Index, QueryVector],
    k: int,
    among: list[Key] | None = None,
) -> str:
    from . import store
    from .search import planner

    index, query_vector = prepared
    filter = None
    if among is not None:
        filter = store.filter_of_ids(store.find_image_table(conn, index.image_table), among)
    found = planner.search(conn, index, query_vector.vector, k, filter)
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
    return {
        "table": index.image_table,
        "model": index.model,
        "dimensions": index.dimensions,
        "images": store.count_images(conn, table),
        "vectors": store.count_vectors(conn, index),
        "sidecar": "in use" if live.from_sidecar else "not in use",
        "newer_than_sidecar": len(live.tail_ids),
        "problem": live.problem,
    }
