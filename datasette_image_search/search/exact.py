"""The scores of the vectors themselves, as the database has them, for those that codes leave in doubt."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import numpy as np

from ..store.references import References
from ..store.vectors import vectors_by_id
from .all_scores import AllScores
from .bounded import is_large, reaching_in_lists
from .correction import corrected_scores
from .live import LiveIndex

EXACT_CHUNK = 10_000
"""Vectors that are in memory at once while their exact scores are computed."""


def reaching(
    conn: sqlite3.Connection,
    live: LiveIndex,
    vector: np.ndarray,
    least: float,
    *,
    bounded: bool = False,
) -> np.ndarray:
    """
    A bool per position: whether any vector of its image has, in the database, at least this score with a query, a
    row of ranking_vectors(), corrected if that is. If that is `bounded`, some that have are left out, see
    reaching_in_lists().
    """
    if bounded and is_large(live):
        found = np.zeros(len(live), dtype=bool)
        found[reaching_in_lists(live, vector, least)] = True
        return live.of_any_vector(found)
    error = live.error(vector)
    found, unsure = AllScores(live, vector).divided(least - error, least + error)
    for positions, exact in exact_at(conn, live, unsure, vector):
        found[positions[exact >= least]] = True
    return live.of_any_vector(found)


def exact_at(
    conn: sqlite3.Connection, live: LiveIndex, positions: np.ndarray, vector: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """
    For the images of some positions that are still in the database, a part of them at a time: the position of the
    first vector, and the highest score of all with a query, a row of ranking_vectors(), corrected if that is.
    """
    for start in range(0, len(positions), EXACT_CHUNK):
        ids = live.vector_ids(positions[start : start + EXACT_CHUNK]).tolist()
        stored = vectors_by_id(conn, live.index, ids)
        _, corrected = exact_scores(live.references, stored.vectors, vector)
        first = live.positions_of(stored.vector_ids[stored.starts()])
        yield first, stored.highest(corrected)


def exact_scores(
    references: References | None, vectors: np.ndarray, vector: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The scores and the corrected scores of n vectors, shape (n, dimensions), with a row of ranking_vectors()."""
    # Row by row, where BLAS rounds a row as its place in the matrix has it: copies must tie.
    scores = np.einsum("ij,j->i", vectors, vector[: vectors.shape[1]])
    return scores, corrected_scores(references, vectors, scores, vector)
