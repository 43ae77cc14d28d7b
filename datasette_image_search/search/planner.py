"""
Vector + filter -> hits: never fewer than asked for while that many rows match, and the best ones.

Rank first, filter in order, widen, and only then enumerate:

1. rank: the best few hundred of the whole index; SQLite is asked which of those pass the filter.
2. widen: some times as many, when too few passed. A larger k is nearly free in FAISS.
3. enumerate: the filter is narrow, so list what passes it, once, and rank exactly that.

FAISS ranks by float16 codes. A hit's score is computed from the float32 vector in the database, and
the ranking is widened until no code that was not looked at could belong among the hits.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sized
from dataclasses import dataclass

import numpy as np

from .. import store
from ..errors import ImageSearchError
from ..store import Filter, Index, Key
from .live import LiveIndex, live_index

FIRST = 256
"""Candidates of the first step."""

WIDEN = 8
"""Each step has this many times the candidates of the one before ..."""

WIDEST = 16_384
"""... up to about here, where listing the rows that pass a narrow filter costs less."""

EXACT_CHUNK = 10_000
"""Vectors that are in memory at once while their exact scores are computed."""

CODE_ERROR = 5e-4
"""float16 rounds each of the components of a unit vector by at most 2^-11 of itself, so by
Cauchy-Schwarz the error of a score is at most 2^-11."""


class PlanError(ImageSearchError):
    """A search that asks for something impossible."""


@dataclass(frozen=True)
class Hit:
    """`score` is the cosine similarity, -1 to 1."""

    id: Key
    score: float


@dataclass(frozen=True)
class Step:
    """One step of the plan: its name, how many vectors it let pass, of how many it looked at."""

    name: str
    looked_at: int
    passed: int
    milliseconds: float


@dataclass(frozen=True)
class Found:
    """Hits, best first (equal scores by id), and how they were found."""

    hits: tuple[Hit, ...]
    steps: tuple[Step, ...]


def search(
    conn: sqlite3.Connection,
    index: Index,
    vector: np.ndarray,
    k: int,
    filter: Filter | None = None,
    *,
    offset: int = 0,
    min_score: float | None = None,
) -> Found:
    """
    The min(k, matching) images whose vectors are closest to a unit vector, after the first `offset`
    of them, and less those with a score below `min_score`.

    Raises FilterError where SQLite does not take the filter, PlanError for k below 1 or a negative
    offset.
    """
    if k < 1:
        raise PlanError(f"k is {k}; ask for at least 1 image")
    if offset < 0:
        raise PlanError(f"the offset is {offset}; it must be 0 or more")
    k += offset
    live = live_index(conn, index)
    steps: list[Step] = []
    n = max(FIRST, 2 * k)
    while True:
        started = time.perf_counter()
        scores, ids = live.nearest(vector, n)
        passed = store.passing(conn, index, ids.tolist(), filter)
        steps.append(_step("widen" if steps else "rank", ids, passed, started))
        closest = _closest(scores, ids, passed, k, complete=n >= len(live))
        if closest is None and (n >= WIDEST or not passed):
            if len(passed) >= k:
                closest = _closest(scores, ids, passed, k, complete=True)
            elif filter is not None:
                # Also where none of the first ones passed: a wider look would be as vain.
                closest = _enumerate(conn, index, live, vector, k, filter, steps)
        if closest is not None:
            hits = _exact(conn, index, vector, closest, k)[offset:]
            if min_score is not None:
                hits = tuple(hit for hit in hits if hit.score >= min_score)
            return Found(hits, tuple(steps))
        n *= WIDEN


def _enumerate(
    conn: sqlite3.Connection,
    index: Index,
    live: LiveIndex,
    vector: np.ndarray,
    k: int,
    filter: Filter,
    steps: list[Step],
) -> list[int]:
    started = time.perf_counter()
    among = np.array(store.matching(conn, index, filter), dtype=np.int64)
    n = max(FIRST, 2 * k)
    while True:
        scores, ids = live.nearest(vector, n, among)
        passed = store.passing(conn, index, ids.tolist(), None)
        closest = _closest(scores, ids, passed, k, complete=len(ids) < n)
        if closest is not None:
            steps.append(_step("enumerate", among, ids, started))
            return closest
        n *= WIDEN


def _closest(
    scores: np.ndarray, ids: np.ndarray, passed: list[int], k: int, *, complete: bool
) -> list[int] | None:
    """
    Those of the ranked ids that passed and may be among the best k; None where an id below the
    ranking may be one too. `complete` says that there is nothing below, or that it is given up on:
    where thousands of near-copies tie, one may stand for another whose score is within 1e-3.
    """
    if len(passed) < k:
        return passed if complete else None
    score_of = dict(zip(ids.tolist(), scores.tolist(), strict=True))
    least = score_of[passed[k - 1]] - 2 * CODE_ERROR
    if scores[-1] > least and not complete:
        return None
    return [id for id in passed if score_of[id] >= least]


def _exact(
    conn: sqlite3.Connection, index: Index, vector: np.ndarray, ids: list[int], k: int
) -> tuple[Hit, ...]:
    hits = []
    for start in range(0, len(ids), EXACT_CHUNK):
        stored = store.vectors_by_id(conn, index, ids[start : start + EXACT_CHUNK])
        scores = (stored.vectors @ vector).tolist()
        hits += [Hit(id, score) for id, score in zip(stored.image_ids, scores, strict=True)]
    return tuple(sorted(hits, key=lambda hit: (-hit.score, hit.id))[:k])


def _step(name: str, looked_at: np.ndarray, passed: Sized, started: float) -> Step:
    return Step(name, len(looked_at), len(passed), (time.perf_counter() - started) * 1000)
