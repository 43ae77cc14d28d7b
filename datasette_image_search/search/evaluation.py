"""A comparison of the ways to search a collection, by recall and cost, for this collection only."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from ..progress import Report, silent
from ..store import Index
from ..store.indexes import WeightsOf, recorded_weights
from ..store.vectors import count_vectors, vector_batches, vector_ids, vectors_by_id
from .all_scores import AllScores
from .approximate import IndexTypeError
from .codes_on_disk import byte_codes_on_disk
from .correction import with_biases
from .freshness import live_index
from .indexing import check_asked, count_to_search, make_index
from .live import LiveIndex
from .lost_engines import survives_engines
from .not_written import room_in
from .references import references_of
from .sample_queries import of_both_kinds, own_queries, sample_queries
from .tuning import RECALL_AT

DEEPEST = max(RECALL_AT)

TIMED = 9
"""Queries that are timed by brute force, which takes long."""

ROUNDING = 1e-5
"""An upper limit for the rounding error of a score in float32."""

Ranking = tuple[np.ndarray, np.ndarray]
"""Scores and positions, best first."""


@dataclass(frozen=True)
class Evaluated:
    """
    `recalls` has, for each k of RECALL_AT, the share of the k hits that are as good as the best by brute
    force, with copies as good as each other; `milliseconds` is the median of a query, one at a time.
    """

    name: str
    recalls: tuple[float, ...]
    milliseconds: float
    bytes_per_vector: float


@survives_engines
def evaluate_index(
    conn: sqlite3.Connection,
    index: Index,
    report: Report = silent,
    weights_of: WeightsOf = recorded_weights,
    queries: np.ndarray | Path | None = None,
    **asked: Any,
) -> list[Evaluated]:
    """
    evaluate() for the current index or, if more is asked for, for one that make_index() makes and that is
    not written. Queries have shape (n, dimensions); the default is samples. Raises IndexTypeError if the
    index cannot be made, or if there are no vectors, and SidecarNotWritten if the temporary folder has no room for it.
    """
    check_asked(**asked)
    count_to_search(conn, index)
    queries = own_queries(queries, index)
    if any(asked.values()) and index.engine is not None:
        raise IndexTypeError(
            f"the vectors are in the engine {index.engine}; leave the other options out, which are of FAISS"
        )
    if any(asked.values()):
        # Nothing is written beside the database, whose folder may be read-only.
        folder = Path(tempfile.gettempdir())
        index, references = references_of(conn, index, weights_of, report)
        index, codes, made = make_index(
            conn,
            index,
            references,
            queries=queries,
            folder=folder,
            report=report,
            weights_of=weights_of,
            **asked,
        )
        with room_in(folder, index):
            in_bytes = byte_codes_on_disk(
                folder, codes.blocks, len(codes), codes.faiss_index.d, report
            )
        codes = replace(codes, in_bytes=in_bytes)
        live = LiveIndex(
            index, (codes,), from_sidecar=False, approximate=made, references=references
        )
    else:
        live = live_index(conn, index, report)
    if queries is None:
        segment = max(live.segments, key=len)
        queries = sample_queries(live.index, segment, live.references, weights_of)
    else:
        queries = of_both_kinds(live.index, live.references, queries)
    return evaluate(conn, live, queries, report)


def evaluate(
    conn: sqlite3.Connection, live: LiveIndex, queries: np.ndarray, report: Report = silent
) -> list[Evaluated]:
    """
    Brute force in numpy over the vectors of the database, the codes, and the approximate index if
    there is one, for queries of shape (n, dimensions). Like a search for DEEPEST images, the two rank
    twice as many candidates and compute the scores of the best from the vectors in the database.
    """
    lowest, milliseconds = _brute_force(conn, live, queries, report)
    first_segment = live.segments[0]
    code_size = first_segment.bytes_per_vector()
    # A search ranks more if it meets deleted vectors; here it may meet all of them.
    first = 2 * DEEPEST + int((~_there(conn, live)).sum())
    dimensions = live.index.dimensions
    rows = [Evaluated("numpy brute force", (1.0,) * len(RECALL_AT), milliseconds, 4.0 * dimensions)]

    def measure(
        name: str,
        rank: Callable[[np.ndarray], Ranking],
        bytes_per_vector: float,
        ranked: Iterable[Ranking | None] = repeat(None),
    ) -> None:
        measured = _measured(conn, live, rank, queries, lowest, report, ranked)
        rows.append(Evaluated(name, *measured, bytes_per_vector))

    if live.ranks_all:
        name = "flat float16 and bytes" if first_segment.in_bytes else "flat float16"
        measure(name, lambda vector: _nearest(live, vector, first), code_size)
    else:
        # An engine reads all that it holds for each call.
        ranked = zip(*live.nearest(queries, first), strict=True)
        name = f"{first_segment.engine_name}, exact"
        measure(name, lambda vector: _nearest(live, vector, first), code_size, ranked)
    if live.tuning is not None:
        own_size = 0.0 if live.approximate is None else live.approximate.bytes_per_vector()
        name = f"{live.tuning.factory} {live.tuning.parameters}".strip()
        measure(name, lambda vector: live.propose(vector)[0], code_size + own_size)
    return rows


def _there(conn: sqlite3.Connection, live: LiveIndex) -> np.ndarray:
    """A bool per position: whether the vector is still in the database."""
    there = live.there()
    return live.chosen_vectors(vector_ids(conn, live.index)) if there is None else there


def _nearest(live: LiveIndex, vector: np.ndarray, n: int) -> Ranking:
    """For a vector of shape (1, dimensions), as a search ranks the whole index."""
    if live.segments[0].in_bytes is not None:
        return AllScores(live, vector[0]).best(n)
    (scores,), (positions,) = live.nearest(vector, n)
    return scores, positions


def _brute_force(
    conn: sqlite3.Connection, live: LiveIndex, queries: np.ndarray, report: Report
) -> tuple[np.ndarray, float]:
    """
    The lowest of the best k scores of each query, shape (n, len(RECALL_AT)), and the milliseconds of
    one query without reading the vectors, the median of some.
    """
    count = count_vectors(conn, live.index)
    best = np.empty((len(queries), 0), dtype=np.float32)
    timed = queries[:TIMED]
    seconds = np.zeros(len(timed))
    done = 0
    for batch in vector_batches(conn, live.index):
        report("Brute force", done, count)
        vectors = _compared(live, batch.vectors, queries)
        for at, query in enumerate(timed):
            started = time.perf_counter()
            _highest((vectors @ query)[None])
            seconds[at] += time.perf_counter() - started
        best = _highest(np.hstack([best, queries @ vectors.T]))
        done += len(batch.vector_ids)
    report("Brute force", count, count)
    lowest = [best[:, -min(k, best.shape[1])] for k in RECALL_AT]
    return np.stack(lowest, axis=1), float(np.median(seconds)) * 1000


def _compared(live: LiveIndex, vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The vectors with their biases, if the queries are corrected by them."""
    is_plain = queries.shape[-1] == live.index.dimensions
    return vectors if is_plain else with_biases(live.index, live.references, vectors)


def _highest(scores: np.ndarray) -> np.ndarray:
    """The min(DEEPEST, n) highest of each row of shape (m, n), the best last."""
    n = scores.shape[1]
    k = min(DEEPEST, n)
    return np.sort(np.partition(scores, n - k, axis=1)[:, n - k :], axis=1)


def _measured(
    conn: sqlite3.Connection,
    live: LiveIndex,
    rank: Callable[[np.ndarray], Ranking],
    queries: np.ndarray,
    lowest: np.ndarray,
    report: Report,
    ranked: Iterable[Ranking | None],
) -> tuple[tuple[float, ...], float]:
    """
    (recalls, milliseconds) of a way to rank vectors for one query, shape (1, dimensions). Of queries that are `ranked` already,
    TIMED are ranked again.
    """
    there = _there(conn, live)
    found, seconds = np.zeros(len(RECALL_AT)), []
    # The first one makes threads, and reads a file that nobody has read yet.
    rank(queries[:1])
    for at, (query, ranking) in enumerate(zip(queries, ranked, strict=False)):
        report("Measuring", at, len(queries))
        started = time.perf_counter()
        if ranking is None or at < TIMED:
            scores = _best(conn, live, *rank(query[None]), query, there)
            seconds.append(time.perf_counter() - started)
        else:
            scores = _best(conn, live, *ranking, query, there)
        for number, k in enumerate(RECALL_AT):
            found[number] += (scores[-k:] >= lowest[at, number] - ROUNDING).sum()
    report("Measuring", len(queries), len(queries))
    recalls = found / (len(queries) * np.minimum(RECALL_AT, int(there.sum())))
    return tuple(recalls.tolist()), float(np.median(seconds)) * 1000


def _best(
    conn: sqlite3.Connection,
    live: LiveIndex,
    scores: np.ndarray,
    positions: np.ndarray,
    query: np.ndarray,
    there: np.ndarray,
) -> np.ndarray:
    """
    The scores of the DEEPEST best of a ranking, the best last; `there`, a bool per position, is false
    for those deleted since.
    """
    scores, positions = scores[there[positions]], positions[there[positions]]
    if len(scores) > DEEPEST:
        close = scores >= scores[DEEPEST - 1] - 2 * live.error(query)
        positions = positions[close]
    stored = vectors_by_id(conn, live.index, live.vector_ids(positions).tolist())
    return _highest((_compared(live, stored.vectors, query) @ query)[None])[0]
