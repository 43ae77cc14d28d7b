"""A query of any kind -> the vector to search with: text, a vector, or a picture that is a file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from ..errors import ImageSearchError
from ..store import Index
from ..store.indexes import WeightsOf
from ..store.opened import as_path
from ..store.stored_vectors import vector_to_blob
from ..store.tables import folded
from .query import (
    Kind,
    QueryError,
    QueryVector,
    Term,
    embedder_of,
    parse_query,
    query_vector,
    with_words,
)

PATHS = ("./", "../", "/", "~/")
"""The beginnings of words that are a path, also if there is no such file."""


@dataclass(frozen=True)
class QueryWithFiles:
    """
    Text in the grammar of queries whose terms may be pictures on the disk, as in "./pool.jpg - fruit", and more
    `pictures` to add to it. Only who may read any file may ask this.
    """

    text: str
    pictures: tuple[Path, ...] = ()

    def terms(self) -> tuple[Term, ...]:
        """Raises QueryError as `parse_query` does."""
        added = tuple(Term(Kind.FILE, str(picture)) for picture in self.pictures)
        # The name of a file may have what is a sign between terms.
        if _is_picture(self.text):
            return (*added, Term(Kind.FILE, self.text))
        return added + parse_query(
            self.text, lambda words: words.startswith(PATHS) or _is_picture(words)
        )

    def __str__(self) -> str:
        """As it could be typed."""
        if not self.pictures:
            return self.text
        return with_words(" + ".join(map(str, self.pictures)), self.text)


def _is_picture(words: str) -> bool:
    from ..decoding.formats import is_image_name

    # Not Path.is_file(), which raises OSError for words that are too long for a name.
    return is_image_name(words) and os.path.isfile(as_path(words))  # noqa: PTH113


Query = str | bytes | np.ndarray | Path | QueryVector | QueryWithFiles
"""
Text in the grammar of queries, a vector as a BLOB or as an array of shape (dimensions,), the file of a
picture, the answer of `vector_of`, or text that may name files.
"""


def queries_of(queries: Query | Sequence[Query]) -> list[Query]:
    """Some queries, or the only one. Raises QueryError if there are none."""
    # A matrix has a query in each row.
    if isinstance(queries, Query) and getattr(queries, "ndim", 1) == 1:
        return [queries]
    some = list(cast("Sequence[Query]", queries))
    if not some:
        raise QueryError("there is nothing to search for; name a query or the file of a picture")
    return some


def asked_index(queries: Sequence[Query], table: str | None) -> Index | None:
    """The index that a first query was asked of, so that none is looked for, if it is of this table."""
    # A function of SQL is called for each group of rows: it has the index already.
    index = queries[0].index if isinstance(queries[0], QueryVector) else None
    return index if index and folded(index.image_table) == folded(table or "") else None


def vector_of(
    conn: sqlite3.Connection,
    index: Index,
    query: Query,
    weights_of: WeightsOf,
    *,
    alone: bool = True,
) -> QueryVector:
    """Raises QueryError or EmbedderError, with the query that it is about unless that is `alone`."""
    if isinstance(query, QueryVector):
        if (query.index.id, query.index.identity) != (index.id, index.identity):
            raise QueryError(
                f"the query was asked of {query.index.image_table!r} by {query.index.model}, and the search "
                f"is of {index.image_table!r} by {index.model}; ask it again there"
            )
        return query
    if isinstance(query, Path):
        return QueryVector(index, _picture_vector(index, query, weights_of))
    if isinstance(query, QueryWithFiles):
        with naming_the_query(str(query), alone=alone):
            return query_vector(
                conn,
                index,
                query.terms(),
                weights_of,
                lambda path: _picture_vector(index, as_path(path), weights_of),
            )
    if isinstance(query, np.ndarray):
        if query.ndim != 1 or query.dtype.kind not in "fiu":
            raise QueryError(
                f"the vector holds {query.dtype} in the shape {query.shape}; it must hold numbers in the "
                "shape (dimensions,)"
            )
        query = vector_to_blob(query)
    if not isinstance(query, str | bytes):
        raise QueryError(
            f"the query is {query!r:.60}; it must be a text, the Path of a picture, or a vector"
        )
    with naming_the_query(query, alone=alone or isinstance(query, bytes)):
        return query_vector(conn, index, query, weights_of)


@contextmanager
def naming_the_query(query: object, *, alone: bool) -> Iterator[None]:
    """Puts a query before an error about it that does not have it, unless that is `alone`."""
    try:
        yield
    except ImageSearchError as error:
        if alone or (query and str(query) in str(error)):
            raise
        raise type(error)(f"{query!r}: {error}") from error


def _picture_vector(index: Index, picture: Path, weights_of: WeightsOf) -> np.ndarray:
    """
    The vector that embedding the file would give it, shape (dimensions,), float32, unit norm.

    Raises QueryError if the file is not a usable picture, EmbedderError if the model is not on this
    machine.
    """
    # Not needed for words, which SQL functions ask for.
    from ..decoding.decode import decode_file
    from ..decoding.opening import DecodeError, DecodeSettings, TooLarge, default_max_pixels

    if not picture.exists():
        raise QueryError(f"there is no file {str(picture)!r} to search with")
    embedder = embedder_of(index, weights_of)
    settings = DecodeSettings(
        embedder.preprocess,
        embedder.image_size,
        thumbnail_size=None,
        max_pixels=default_max_pixels(workers=1),
        read_metadata=False,
    )
    try:
        decoded = decode_file(picture, settings)
    except TooLarge as error:
        raise QueryError(
            f"{str(picture)!r} has too many pixels for the memory that is free; make it smaller first"
        ) from error
    except DecodeError as error:
        raise QueryError(f"cannot search with {str(picture)!r}: {error}") from error
    return embedder.encode_images(decoded.model_input[None])[0]
