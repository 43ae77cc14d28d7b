"""All that one command searches for -> vectors: texts as people type them, and pictures that are files."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..decoding.decode import decode_file
from ..decoding.formats import is_image_name
from ..decoding.opening import DecodeError, DecodeSettings, TooLarge, default_max_pixels
from ..errors import ImageSearchError
from ..store import Index
from .query import QueryError, QueryVector, embedder_of, query_vector


@dataclass(frozen=True)
class Queries:
    """m unit vectors, shape (m, dimensions), and what each was asked for as; warnings for all."""

    names: tuple[str, ...]
    vectors: np.ndarray
    warnings: tuple[str, ...]


def read_queries(
    conn: sqlite3.Connection, index: Index, texts: Sequence[str], pictures: Sequence[Path]
) -> Queries:
    """
    The texts first, then the pictures.

    Raises QueryError or EmbedderError, where there are several with the one that it is about.
    """
    names = (*texts, *map(str, pictures))
    if not names:
        raise QueryError(
            "there is nothing to search for; type a QUERY, or name a file with --image"
        )
    found = [_read(conn, index, text, alone=len(names) == 1) for text in texts]
    found += [QueryVector(picture_vector(index, picture)) for picture in pictures]
    warnings = dict.fromkeys(warning for query in found for warning in query.warnings)
    return Queries(names, np.stack([query.vector for query in found]), tuple(warnings))


def _read(conn: sqlite3.Connection, index: Index, text: str, *, alone: bool) -> QueryVector:
    # Not Path.is_file(), which raises OSError for words that are too long for a name.
    if is_image_name(text) and os.path.isfile(text):  # noqa: PTH113
        raise QueryError(
            f"{text!r} is a file; to search with the picture, name it with --image, and to search for "
            f"""these words, put quotes around them: '"{text}"'"""
        )
    try:
        return query_vector(conn, index, text)
    except ImageSearchError as error:
        if alone or (text and text in str(error)):
            raise
        raise type(error)(f"{text!r}: {error}") from error


def picture_vector(index: Index, picture: Path) -> np.ndarray:
    """
    The vector that embedding the file would give it, shape (dimensions,), float32, unit norm.

    Raises QueryError for a file that is no usable picture, EmbedderError where the model is not here.
    """
    if not picture.exists():
        raise QueryError(f"there is no file {str(picture)!r} to search with")
    embedder = embedder_of(index)
    settings = DecodeSettings(
        embedder.preprocess,
        embedder.image_size,
        thumbnail_size=None,
        max_pixels=default_max_pixels(workers=1),
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
