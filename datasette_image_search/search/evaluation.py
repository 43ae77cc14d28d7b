"""What the ways to search a collection find, and what they cost: for this collection, not in general."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import store
from ..store import Index
from .approximate import Report
from .codes import CODE_ERROR
from .indexing import count_to_search, make_index, silent
from .live import LiveIndex, live_index
from .planner import FIRST
from .sample_queries import sample_queries

RECALL_AT = 10

TIMED = 9
"""Queries that are timed by brute force, which takes long."""

ROUNDING = 1e-5
"""More than float32 can be wrong about a score."""

Ranking = tuple[np.ndarray, np.ndarray]
"""Scores and positions, best first."""


@dataclass(frozen=True)
class Evaluated:
    """
    `recall` is the share of RECALL_AT hits that are as good as the best by brute force, among which
    copies are as good as each other; `milliseconds` the median of a query, one at a time.
    """

    name: str
    recall: float
    milliseconds: float
    bytes_per_vector: float


def evaluate_index(
    conn: sqlite3.Connection,
    index: Index,
    queries: np.ndarray | None = None,
    report: Report = silent,
    **asked: Any,
) -> list[Evaluated]:
    """
    evaluate() for the index that is there, or where more is asked, as make_index() takes it, for the
    one that this makes; which is not written. Without queries, shape (n, dimensions), for samples.

    Raises IndexTypeError for what cannot be made, and where there are no vectors.
    """
    count_to_search(conn, index)
    if any(asked.values()):
        index, codes, made = make_index(conn, index, queries=queries, report=report, **asked)
        live = LiveIndex(index, (codes,), from_sidecar=False, approximate=made)
    else:
        live = live_index(conn, index, report)
    if queries is None:
        queries = sample_queries(index, max(live.segments, key=len))
    return evaluate(conn, live, queries, report)


def evaluate(
    conn: sqlite3.Connection, live: LiveIndex, queries: np.ndarray, report: Report = silent
) -> list[Evaluated]:
    """
    Brute force in numpy over the vectors of the database, the codes, and the approximate index if
    there is one, for queries of shape (n, dimensions). Like a search, the two rank FIRST candidates
    and compute the scores of the best from the vectors in the database.
    """
    lowest, milliseconds = _brute_force(conn, live.index, queries, report)
    code_size = live.segments[0].faiss_index.code_size
    # A search ranks more where it meets vectors that were deleted since; here all of them may be met.
    first = FIRST + int((~_there(conn, live)).sum())
    rows = [
        Evaluated("numpy brute force", 1.0, milliseconds, 4.0 * live.index.dimensions),
        Evaluated(
            "flat float16",
            *_measured(
                conn, live, lambda vector: _nearest(live, vector, first), queries, lowest, report
            ),
            code_size,
        ),
    ]
    if live.approximate is not None:
        rows.append(
            Evaluated(
                f"{live.approximate.tuning.factory} {live.approximate.tuning.parameters}".strip(),
                *_measured(
                    conn, live, lambda vector: live.propose(vector)[0], queries, lowest, report
                ),
                code_size + live.approximate.bytes_per_vector(),
            )
        )
    return rows


def _there(conn: sqlite3.Connection, live: LiveIndex) -> np.ndarray:
    """A bool per position: whether the vector is still in the database."""
    there = live.there()
    return live.chosen_vectors(store.vector_ids(conn, live.index)) if there is None else there


def _nearest(live: LiveIndex, vector: np.ndarray, n: int) -> Ranking:
    (scores,), (positions,) = live.nearest(vector, n)
    return scores, positions


def _brute_force(
    conn: sqlite3.Connection, index: Index, queries: np.ndarray, report: Report
) -> tuple[np.ndarray, float]:
    """
    The lowest of the best RECALL_AT scores of each query, shape (n,), and the milliseconds of one
    query without reading the vectors, the median of some.
    """
    count = store.count_vectors(conn, index)
    best = np.empty((len(queries), 0), dtype=np.float32)
    timed = queries[:TIMED]
    seconds = np.zeros(len(timed))
    done = 0
    for batch in store.vector_batches(conn, index):
        report("Brute force", done, count)
        for at, query in enumerate(timed):
            started = time.perf_counter()
            _highest((batch.vectors @ query)[None])
            seconds[at] += time.perf_counter() - started
        best = _highest(np.hstack([best, queries @ batch.vectors.T]))
        done += len(batch.vector_ids)
    report("Brute force", count, count)
    return best.min(axis=1), float(np.median(seconds)) * 1000


def _highest(scores: np.ndarray) -> np.ndarray:
    """The min(RECALL_AT, n) highest of each row of shape (m, n)."""
    n = scores.shape[1]
    k = min(RECALL_AT, n)
    return np.partition(scores, n - k, axis=1)[:, n - k :]


def _measured(
    conn: sqlite3.Connection,
    live: LiveIndex,
    rank: Callable[[np.ndarray], Ranking],
    queries: np.ndarray,
    lowest: np.ndarray,
    report: Report,
) -> tuple[float, float]:
    """(recall, milliseconds) of a way to rank vectors for one query, shape (1, dimensions)."""
    there = _there(conn, live)
    found, seconds = 0, []
    # The first one makes threads, and reads a file that nobody has read yet.
    rank(queries[:1])
    for at, query in enumerate(queries):
        report("Measuring", at, len(queries))
        started = time.perf_counter()
        scores = _best(conn, live, *rank(query[None]), query, there)
        seconds.append(time.perf_counter() - started)
        found += int((scores >= lowest[at] - ROUNDING).sum())
    report("Measuring", len(queries), len(queries))
    recall = found / (len(queries) * min(RECALL_AT, int(there.sum())))
    return recall, float(np.median(seconds)) * 1000


def _best(
    conn: sqlite3.Connection,
    live: LiveIndex,
    scores: np.ndarray,
    positions: np.ndarray,
    query: np.ndarray,
    there: np.ndarray,
) -> np.ndarray:
    """The scores of the RECALL_AT best of a ranking; `there`, a bool per position, is false for those deleted since."""
    scores, positions = scores[there[positions]], positions[there[positions]]
    if len(scores) > RECALL_AT:
        close = scores >= scores[RECALL_AT - 1] - 2 * CODE_ERROR
        positions = positions[close]
    stored = store.vectors_by_id(conn, live.index, live.vector_ids(positions).tolist())
    return _highest((stored.vectors @ query)[None])[0]
