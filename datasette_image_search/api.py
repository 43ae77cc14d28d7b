"""
The Python API. `Images` is one image table; commands, SQL functions and pages search through it too.

torch, faiss and the rooms that need them are imported by the methods that use them: SQL functions come
here in programs that only want a vector.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import store
from .errors import ImageSearchError
from .search.query import QueryError, QueryVector, WeightsOf, query_vector, recorded_weights
from .store import Filter, Index, Key, reads
from .store.filters import IdSet
from .store.tables import Location, vector_to_blob

if TYPE_CHECKING:
    from .search.planner import Found, Hit

Query = str | bytes | np.ndarray | Path | QueryVector
"""Text in the grammar of queries, a vector as a BLOB or as an array, the file of a picture, or what
`Images.ask` made of one of these."""

Where = str | Filter | IdSet
"""SQL that is true for the rows to search among, or the ids of these."""


class Images:
    """
    The images of one table of a database.

    `table` None is the only image table that the database has. `weights_of` says which file has the
    weights of an index; by default the database does. A server names files of its own.
    """

    def __init__(
        self,
        conn: sqlite3.Connection,
        table: str | None = "images",
        weights_of: WeightsOf | None = None,
    ) -> None:
        self.conn = conn
        self.table = table
        self._weights_of = weights_of or recorded_weights

    def index_of(self, model: str | None = None) -> Index:
        """The index by a model, None being the oldest. Raises StoreError if there is none."""
        return store.find_index(self.conn, self.table, model)

    def open(
        self,
        query: Query | None = None,
        *,
        model: str | None = None,
        on_progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        """
        Do now what the next search would wait for: read the index, and load the model for the words of
        a query. Call it before a snapshot or a time limit begins.

        Raises ImageSearchError as `search` does.
        """
        from .search.live import live_index

        index = self.index_of(model)
        if query is not None:
            self._ask(index, query)
        live_index(self.conn, index, on_progress)

    def ask(self, query: Query, *, model: str | None = None) -> QueryVector:
        """A query as a vector of an index, with warnings. Raises ImageSearchError that names the term."""
        return self._ask(self.index_of(model), query)

    def vector(self, query: Query, *, model: str | None = None) -> np.ndarray:
        """The vector of a query, shape (dimensions,), float32, unit norm."""
        return self.ask(query, model=model).vector

    def find(
        self,
        queries: Sequence[Query],
        k: int = 20,
        *,
        where: Where | None = None,
        params: Mapping[str, Any] | None = None,
        model: str | None = None,
        offset: int = 0,
        min_score: float | None = None,
        exact: bool = False,
        on_progress: Callable[[str, int, int], None] | None = None,
    ) -> list[Found]:
        """
        For each query the hits, the steps to them, and warnings.

        `where` is SQL with `params`; `offset` leaves out so many of the best, `min_score` those with a
        lower score; `exact` leaves an approximate index aside. Raises ImageSearchError with a sentence
        that names the query, the filter or the number that is wrong.
        """
        from .search import planner
        from .search.live import live_index

        if not queries:
            raise QueryError(
                "there is nothing to search for; name a query or the file of a picture"
            )
        first = queries[0]
        index = first.index if isinstance(first, QueryVector) else self.index_of(model)
        asked = [self._ask(index, query, alone=len(queries) == 1) for query in queries]
        if on_progress is not None:
            live_index(self.conn, index, on_progress)
        all_found = planner.search_many(
            self.conn,
            index,
            np.stack([query.vector for query in asked]),
            k,
            Filter(where, params or {}) if isinstance(where, str) else where,
            offset=offset,
            min_score=min_score,
            exact=exact,
        )
        return [
            replace(found, warnings=query.warnings)
            for found, query in zip(all_found, asked, strict=True)
        ]

    def search(self, query: Query, k: int = 20, **options: Any) -> list[Hit]:
        """
        The min(k, matching) images that are closest to a query, best first, each with its `id` and its
        `score`, the cosine similarity, -1 to 1. The options are those of `find`.
        """
        (found,) = self.find([query], k, **options)
        return list(found.hits)

    def search_many(self, queries: Sequence[Query], k: int = 20, **options: Any) -> list[list[Hit]]:
        """`search` for each of some queries, all of them ranked at once."""
        return [list(found.hits) for found in self.find(queries, k, **options)]

    def locations(self, ids: Sequence[Key], *, model: str | None = None) -> dict[Key, Location]:
        """Id -> where the original is, for those of the ids that exist."""
        return reads.locations(self.conn, self.index_of(model), ids)

    def status(self) -> dict[str, Any]:
        """For JSON: what is indexed and how it is searched; `problem` is None if all is well."""
        from .search.status import status

        return status(self.conn, self.table)

    def _ask(self, index: Index, query: Query, *, alone: bool = True) -> QueryVector:
        if isinstance(query, QueryVector):
            return query
        if isinstance(query, Path):
            from .search.queries import picture_vector

            return QueryVector(index, picture_vector(index, query, self._weights_of))
        if isinstance(query, np.ndarray):
            query = vector_to_blob(query)
        try:
            return query_vector(self.conn, index, query, self._weights_of)
        except ImageSearchError as error:
            if alone or isinstance(query, bytes) or (query and query in str(error)):
                raise
            raise type(error)(f"{query!r}: {error}") from error
