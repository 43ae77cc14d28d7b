"""
A look at no more vectors than an approximate index looks at: for pages, which have no time for millions of them.
"""

from __future__ import annotations

from collections.abc import Iterator

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


def proposed(
    live: LiveIndex, vector: np.ndarray, least: int, most: int
) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
    """
    Scores and positions, best first, of the first `least` vectors that the approximate index, or an engine, proposes for a
    query, then of twice as many, and so on; and whether they are all, or `most`. Each time the best newer ones are among them.
    """
    n, is_last = min(least, most), False
    if live.approximate is None:
        (every,) = live.propose(vector[None], most)
    else:
        (ids,) = live.approximate.propose(vector[None], most)
    while not is_last:
        if live.approximate is None:
            scores, positions = every[0][:n], every[1][:n]
            is_last = n >= len(every[0])
        else:
            scores, positions = live.ranked(vector, ids[:n], n)
            is_last = n >= len(ids)
        yield scores, positions, is_last
        n *= 2


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
    lowest = ids[:CHECKED]
    checked = positions_among(first.vector_ids, np.unique(lowest))
    scores = first.scores_at(checked, vector)
    found = [checked[scores >= sure]]
    sides = (np.searchsorted(first.vector_ids[checked], lowest, side) for side in ("left", "right"))
    # Of the scenes of a film, which have one id, the nearest is the one with this code.
    differences = [
        np.abs(scores[start:end] - code).min()
        for code, start, end in zip(rough, *sides, strict=False)
        if start < end
    ]
    high = ids[CHECKED:][rough[CHECKED:] >= sure + max(differences, default=0)]
    found.append(positions_among(first.vector_ids, np.unique(high)))
    for start, part in list(zip(live.starts(), live.segments, strict=True))[1:]:
        found.append(np.flatnonzero(part.scores(vector) >= sure) + start)
    return np.concatenate(found)
