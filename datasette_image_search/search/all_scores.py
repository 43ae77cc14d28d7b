"""
The best of all vectors of an index, or of many, by their codes: from the scores of all, which are computed once.

Codes in bytes tell which few hundred may be among the best, and only the longer codes of these are read.
"""

from __future__ import annotations

import numpy as np

from .live import LiveIndex

SAMPLED = 16
"""Every so many scores tell which are high."""

COSTLY = 1 / 10
"""The share of the codes that take as long to look at one by one as all of them do in a row ..."""

MOST = 200_000
"""... and no more than so many."""

HOPELESS = 1 / 50
"""The share of the codes above which, if so many are the best, bytes leave too many to look at."""


class AllScores:
    """
    The scores of all positions with a query, a row of ranking_vectors(), of which the best n are asked for first: each
    to within `_error` of what its code has.
    """

    def __init__(self, live: LiveIndex, vector: np.ndarray, n: int) -> None:
        self._live, self._vector = live, vector
        self._most = min(COSTLY * len(live), MOST)
        self._best_by_bytes = min(HOPELESS * len(live), self._most)
        scores, errors = [], []
        for part in live.segments:
            if part.in_bytes is None or n > self._best_by_bytes:
                scores.append(part.scores(vector))
            else:
                rough, error = part.in_bytes.scores(vector)
                scores.append(rough)
                errors.append(error)
        self._scores = scores[0] if len(scores) == 1 else np.concatenate(scores)
        self._error = max(errors, default=0.0)

    def best(self, n: int, among: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """
        The min(n, len(among)) positions of the highest scores, all or `among` some, and these as the codes have
        them: (scores, positions), best first.
        """
        scores = self._scores if among is None else self._scores[among]
        best = _top(scores, n)
        if not self._error or not len(best):
            return scores[best], _positions(best, among)
        if len(best) <= self._best_by_bytes:
            # No other is among the best if its score, as high as it can be, is below all of these.
            least = self._exactly(_positions(best, among)).min() - self._error
            close = np.flatnonzero(scores >= least)
            if len(close) <= self._most:
                positions = _positions(close, among)
                exactly = self._exactly(positions)
                order = np.argsort(-exactly, kind="stable")[:n]
                return exactly[order], positions[order]
        self._scores, self._error = self._live.scores(self._vector), 0.0
        return self.best(n, among)

    def divided(self, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        """
        By the scores as the codes have them: a bool per position, whether that is at least `high`, and the positions of
        those with at least `low` and less than that.
        """
        if self._error:
            found = self._scores >= high + self._error
            unsure = np.flatnonzero((self._scores >= low - self._error) & ~found)
            if len(unsure) <= self._most:
                exactly = self._exactly(unsure)
                found[unsure[exactly >= high]] = True
                return found, unsure[(exactly >= low) & (exactly < high)]
            self._scores, self._error = self._live.scores(self._vector), 0.0
        found = self._scores >= high
        return found, np.flatnonzero((self._scores >= low) & ~found)

    def _exactly(self, positions: np.ndarray) -> np.ndarray:
        """The scores of some positions by their longer codes."""
        scores = np.empty(len(positions), dtype=np.float32)
        for start, part in zip(self._live.starts(), self._live.segments, strict=True):
            inside = (positions >= start) & (positions < start + len(part))
            scores[inside] = part.scores_at(positions[inside] - start, self._vector)
        return scores


def _positions(chosen: np.ndarray, among: np.ndarray | None) -> np.ndarray:
    return chosen if among is None else among[chosen]


def _top(scores: np.ndarray, n: int) -> np.ndarray:
    """The positions of the n highest scores, the best first."""
    positions = _about_top(scores, n)
    if n < len(positions):
        ranks = np.argpartition(scores[positions], len(positions) - n)
        positions = positions[ranks[len(positions) - n :]]
    return positions[np.argsort(-scores[positions], kind="stable")]


def _about_top(scores: np.ndarray, n: int) -> np.ndarray:
    """
    Positions that the n highest scores are among: those above a bound that twice as many pass in a
    sample. To compare a million scores takes a tenth of the time that ordering them does.
    """
    sample = scores[::SAMPLED]
    rank = len(sample) - 2 * (n // SAMPLED + 1)
    if rank > 0:
        positions = np.flatnonzero(scores >= np.partition(sample, rank)[rank])
        if len(positions) >= n:
            return positions
    return np.arange(len(scores))
