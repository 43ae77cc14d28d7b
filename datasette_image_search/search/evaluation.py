"""What the ways to search a collection find, and what they cost: for this collection, not in general."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass

import numpy as np

from .. import store
from ..store import Index
from .approximate import Approximate
from .codes import Codes

RECALL_AT = 10


@dataclass(frozen=True)
class Evaluated:
    """
    `recall` is the share of the best RECALL_AT by brute force that was found, `milliseconds` the
    median of a query, one at a time.
    """

    name: str
    recall: float
    milliseconds: float
    bytes_per_vector: float


def evaluate(
    conn: sqlite3.Connection,
    index: Index,
    codes: Codes,
    approximate: Approximate | None,
    queries: np.ndarray,
) -> list[Evaluated]:
    """
    Brute force in numpy over the vectors of the database, the codes, and the approximate index if
    there is one, for queries of shape (n, dimensions).
    """
    truth, milliseconds = _brute_force(conn, index, queries)
    rows = [Evaluated("numpy brute force", 1.0, milliseconds, 4.0 * index.dimensions)]
    found, milliseconds = _timed(lambda query: _by_codes(codes, query), queries)
    rows.append(Evaluated("flat", _recall(truth, found), milliseconds, codes.faiss_index.code_size))
    if approximate is not None:
        found, milliseconds = _timed(lambda query: _proposed(approximate, codes, query), queries)
        rows.append(
            Evaluated(
                f"{approximate.tuning.factory} {approximate.tuning.parameters}".strip(),
                _recall(truth, found),
                milliseconds,
                codes.faiss_index.code_size + approximate.bytes_per_vector(),
            )
        )
    return rows


def _brute_force(
    conn: sqlite3.Connection, index: Index, queries: np.ndarray
) -> tuple[list[np.ndarray], float]:
    """(ids of the best for each query, milliseconds of one query without reading the vectors)."""
    best = [(np.empty(0, np.float32), np.empty(0, np.int64)) for _ in queries]
    seconds = 0.0
    for batch in store.vector_batches(conn, index):
        started = time.perf_counter()
        _best(batch.vectors @ queries[0], batch.vector_ids)
        seconds += time.perf_counter() - started
        for row, scores in enumerate(queries @ batch.vectors.T):
            so_far, ids = best[row]
            best[row] = _best(
                np.concatenate([so_far, scores]), np.concatenate([ids, batch.vector_ids])
            )
    return [ids for _, ids in best], seconds * 1000


def _best(scores: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n = min(RECALL_AT, len(scores))
    chosen = np.argpartition(scores, len(scores) - n)[len(scores) - n :]
    return scores[chosen], ids[chosen]


def _by_codes(codes: Codes, query: np.ndarray) -> np.ndarray:
    _, positions = codes.nearest(query[None], RECALL_AT)
    return codes.vector_ids[positions[0]]


def _proposed(approximate: Approximate, codes: Codes, query: np.ndarray) -> np.ndarray:
    (ids,) = approximate.propose(query[None])
    scores = codes.scores_at(np.searchsorted(codes.vector_ids, ids), query)
    return _best(scores, ids)[1]


def _timed(search, queries: np.ndarray) -> tuple[list[np.ndarray], float]:
    found, seconds = [], []
    search(queries[0])
    for query in queries:
        started = time.perf_counter()
        found.append(search(query))
        seconds.append(time.perf_counter() - started)
    return found, float(np.median(seconds)) * 1000


def _recall(truth: list[np.ndarray], found: list[np.ndarray]) -> float:
    hits = sum(len(np.intersect1d(best, ids)) for best, ids in zip(truth, found, strict=True))
    return hits / sum(map(len, truth))
