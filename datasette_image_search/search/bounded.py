"""
A look at no more vectors than an approximate index looks at: for pages, which have no time for millions of them.
"""

from __future__ import annotations

import numpy as np

from .approximate import AUTO_EXACT
from .ids import positions_among
from .live import LiveIndex

LARGE = AUTO_EXACT
"""Vectors above which not all of them are looked at. Fewer are searched exactly in less time than people notice."""

MOST = 16_384
"""Vectors that an engine is asked for, which takes one with its vectors on a disk a quarter of a second."""

CHECKED = 1_000
"""Vectors whose codes in lists are compared with the longer ones."""


def is_large(live: LiveIndex) -> bool:
    """Whether there are lists to look into, and too much beside these."""
    if live.approximate is None:
        return len(live) > LARGE and live.tuning is not None
    return len(live) > LARGE and live.approximate.has_lists


class Proposed:
    """The vectors that the approximate index, or an engine, proposes for a query, up to `most`, and those that are newer."""

    def __init__(self, live: LiveIndex, vector: np.ndarray, most: int) -> None:
        self._live, self._vector = live, vector
        self._propose(most)

    def _propose(self, most: int) -> None:
        self._most = most
        if self._live.approximate is None:
            (self._ranked,) = self._live.propose(self._vector[None], most)
        else:
            (self._ids,) = self._live.approximate.propose(self._vector[None], most)

    def best(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """As AllScores has them; fewer if it does not propose so many."""
        if n > self._most:
            self._propose(n)
        if self._live.approximate is None:
            scores, positions = self._ranked
        else:
            scores, positions = self._live.ranked(self._vector, self._ids[:n], n)
        return scores[:n], positions[:n]


def reaching_in_lists(live: LiveIndex, vector: np.ndarray, least: float) -> np.ndarray:
    """
    Positions, in any order, of vectors with at least this score: of those in the lists that a search of the approximate
    index looks into, of an engine the best MOST, and of all newer ones, but for some that have it by a hair.
    """
    if live.approximate is None:
        ((scores, positions),) = live.propose(vector[None], MOST)
        return positions[scores >= least + live.error(vector)]
    first, sure = live.segments[0], least + live.error(vector)
    rough, ids = live.approximate.reaching(vector, least)
    order = np.argsort(rough)
    rough, ids = rough[order], ids[order]
    # The codes in lists are rough: the longer ones of the lowest tell how much.
    lowest, places = np.unique(ids[:CHECKED], return_index=True)
    checked = positions_among(first.vector_ids, lowest)
    scores = first.scores_at(checked, vector)
    of_lists = rough[places[np.searchsorted(lowest, first.vector_ids[checked])]]
    high = ids[CHECKED:][rough[CHECKED:] >= sure + (of_lists - scores).max(initial=0)]
    found = [checked[scores >= sure], positions_among(first.vector_ids, np.unique(high))]
    for start, part in list(zip(live.starts(), live.segments, strict=True))[1:]:
        found.append(np.flatnonzero(part.scores(vector) >= sure) + start)
    return np.concatenate(found)
