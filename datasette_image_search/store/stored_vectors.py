"""Vectors as they are stored: the blob of one, and the values in which many travel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import xor

import numpy as np

from .tables import Key


@dataclass(frozen=True)
class Rows:
    """
    Rows of the table of vectors, also those that hold no vector: ids, ascending, and the tokens of these, int64. By these it
    is proven which rows a state of the database has.
    """

    ids: np.ndarray
    tokens: np.ndarray

    def state(self) -> int:
        """The generation of an index with these rows and no others."""
        return int(np.bitwise_xor.reduce(self.tokens))

    @staticmethod
    def state_of(parts: Sequence[Rows]) -> int:
        """That of an index with the rows of all parts."""
        return reduce(xor, (part.state() for part in parts), 0)


@dataclass(frozen=True)
class StoredVectors:
    """
    Some vectors of an index in the order of their ids; `vectors` has shape (n, dimensions). Those of one film have
    the same id, and stand side by side. `rows` are all that were read for them, None in a database without tokens.
    """

    vector_ids: np.ndarray
    image_ids: list[Key]
    vectors: np.ndarray
    rows: Rows | None = None

    def starts(self) -> np.ndarray:
        """The position of the first vector of each image."""
        return starts_of(self.vector_ids)

    def highest(self, scores: np.ndarray) -> np.ndarray:
        """Of scores with these vectors, shape (n, ...), the highest of each image."""
        starts = self.starts()
        return np.maximum.reduceat(scores, starts, axis=0) if len(starts) < len(scores) else scores


def starts_of(ids: np.ndarray) -> np.ndarray:
    """The positions at which another id begins, of ids that stand side by side if they are the same."""
    return np.flatnonzero(np.append([True], ids[1:] != ids[:-1])[: len(ids)])


def vector_to_blob(vector: np.ndarray) -> bytes:
    """Little-endian float32, the format that llm, sqlite-vec and datasette-faiss share."""
    return np.ascontiguousarray(vector, dtype="<f4").tobytes()


def vector_from_blob(blob: bytes) -> np.ndarray:
    return np.frombuffer(blob, dtype="<f4")
