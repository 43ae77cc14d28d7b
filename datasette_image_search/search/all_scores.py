"""
The best of all vectors of an index, or of many, by their codes.

Codes in bytes tell which few hundred may be among the best, and only the longer codes of these are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .byte_codes import Asked
from .live import LiveIndex
from .segment import Segment

SAMPLED = 16
"""Every so many scores tell which are high."""

KEPT = 1 / 50
"""The share of the codes whose scores by bytes are kept, the highest ..."""

KEPT_OF_FEW = 20_000
"""... or so many, if these are more ..."""

EACH = 4
"""... or so many for each that is asked for: others may be as good as it, by what bytes err."""

SAMPLE = 40
"""So many of those that are kept are in a sample of all codes, which tells how low they go."""

COSTLY = 1 / 8
"""The share of the codes that take as long to look at one by one as all of them do in a row ..."""

MOST = 200_000
"""... and no more than so many."""

HOPELESS = 1 / 50
"""The share of the codes above which, if so many are the best, bytes leave too many to look at."""

MORE_IF_READ = 2
"""So many times that share is not hopeless for a search that has read all bytes already."""


@dataclass(frozen=True)
class _Kept:
    """
    All `positions` with a score of at least `least`, ascending, and perhaps others; their `scores` are of bytes, unless
    they `are_longer`.
    """

    least: float
    positions: np.ndarray
    scores: np.ndarray
    are_longer: np.ndarray


class AllScores:
    """The scores of all positions with a query, a row of ranking_vectors()."""

    def __init__(self, live: LiveIndex, vector: np.ndarray) -> None:
        self._live, self._vector = live, vector
        self._most = min(COSTLY * len(live), MOST)
        self._best_by_bytes = min(HOPELESS * len(live), self._most)
        self._kept: _Kept | None = None
        self._longer: np.ndarray | None = None

    def best(self, n: int, among: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """
        The min(n, len(among)) positions of the highest scores, all or `among` some, and these as the longer
        codes have them: (scores, positions), best first.
        """
        if among is not None and self._longer is None and len(among) <= self._most:
            scores = self._scores_at(among, by_bytes=False)
            best = _top(scores, n)
            return scores[best], among[best]
        found = self._best_by_bytes_of(n, among) if self._uses_bytes() else None
        if found is not None:
            return found
        scores = self._all_longer() if among is None else self._all_longer()[among]
        best = _top(scores, n)
        return scores[best], best if among is None else among[best]

    def divided(self, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        """
        By the scores as the longer codes have them: a bool per position, whether that is at least `high`, and the
        positions of those with at least `low` and less than that.
        """
        if self._uses_bytes():
            kept = self._reaching(low - self._error, None)
            is_sure = kept.scores >= high + self._error
            unsure = np.flatnonzero(~is_sure)
            if len(unsure) <= self._most:
                exactly = self._exactly(kept, unsure)
                found = np.zeros(len(self._live), dtype=bool)
                found[kept.positions[is_sure]] = True
                found[kept.positions[unsure[exactly >= high]]] = True
                return found, kept.positions[unsure[(exactly >= low) & (exactly < high)]]
        scores = self._all_longer()
        found = scores >= high
        return found, np.flatnonzero((scores >= low) & ~found)

    @cached_property
    def _asked(self) -> list[Asked | None]:
        """What the query is to the bytes of each segment, if it has any."""
        parts = [part.in_bytes for part in self._live.segments]
        return [None if part is None else part.asked(self._vector) for part in parts]

    @cached_property
    def _error(self) -> float:
        return max((each.error for each in self._asked if each), default=0.0)

    def _uses_bytes(self) -> bool:
        return self._longer is None and any(self._asked)

    def _all_longer(self) -> np.ndarray:
        """Once they are read, nothing is faster."""
        if self._longer is None:
            self._longer = self._live.scores(self._vector)
        return self._longer

    def _best_by_bytes_of(
        self, n: int, among: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """As best(); None if too many codes would have to be looked at one by one."""
        n = min(n, len(self._live) if among is None else len(among))
        kept = self._kept if among is None else None
        if n > self._best_by_bytes * (1 if kept is None else MORE_IF_READ):
            return None
        if kept is None or len(kept.positions) < n:
            kept = self._reaching(self._about(n, among), among)
            if len(kept.positions) < n:
                return None
        # No other is among the best if its score, as high as it can be, is below all of these.
        least = float(self._exactly(kept, _top(kept.scores, n)).min()) - self._error
        if least < kept.least:
            kept = self._reaching(least, among)
        if among is None:
            self._kept = kept
        close = np.flatnonzero(kept.scores >= least)
        if len(close) > self._most:
            return None
        exactly = self._exactly(kept, close)
        order = np.argsort(-exactly, kind="stable")[:n]
        return exactly[order], kept.positions[close[order]]

    def _about(self, n: int, among: np.ndarray | None) -> float:
        """A score that those which may be among the n best have, by a sample."""
        count = len(self._live) if among is None else len(among)
        kept = int(max(KEPT * count, KEPT_OF_FEW, EACH * n))
        sample = np.arange(0, count, max(1, kept // SAMPLE))
        rank = len(sample) - len(sample) * kept // count
        if rank <= 0:
            return -np.inf
        scores = self._scores_at(sample if among is None else among[sample], by_bytes=True)
        return float(np.partition(scores, rank)[rank])

    def _reaching(self, least: float, among: np.ndarray | None) -> _Kept:
        """All with this score at least, or those `among` some."""
        parts = []
        for start, part, asked in self._parts():
            if asked is None:
                scores = part.scores(self._vector)
                positions = np.flatnonzero(scores >= least)
                scores = scores[positions]
            else:
                positions, scores = asked.reaching(least)
            parts.append((positions + start, scores, np.full(len(scores), asked is None)))
        positions, scores, are_longer = map(np.concatenate, zip(*parts, strict=True))
        if among is not None:
            chosen = np.zeros(len(self._live), dtype=bool)
            chosen[among] = True
            inside = chosen[positions]
            positions, scores, are_longer = positions[inside], scores[inside], are_longer[inside]
        return _Kept(least, positions, scores, are_longer)

    def _exactly(self, kept: _Kept, chosen: np.ndarray) -> np.ndarray:
        """The scores of some of those kept by their longer codes, which are read once."""
        new = chosen[~kept.are_longer[chosen]]
        kept.scores[new] = self._scores_at(kept.positions[new], by_bytes=False)
        kept.are_longer[new] = True
        return kept.scores[chosen]

    def _scores_at(self, positions: np.ndarray, *, by_bytes: bool) -> np.ndarray:
        """The scores of some positions, shape (len(positions),), float32, by their longer codes or, if there are any, by bytes."""
        scores = np.empty(len(positions), dtype=np.float32)
        for at, (start, part) in enumerate(
            zip(self._live.starts(), self._live.segments, strict=True)
        ):
            inside = (positions >= start) & (positions < start + len(part))
            within = positions[inside] - start
            asked = self._asked[at] if by_bytes else None
            if asked is not None:
                scores[inside] = asked.scores_at(within)
            else:
                scores[inside] = part.scores_at(within, self._vector)
        return scores

    def _parts(self) -> Iterator[tuple[int, Segment, Asked | None]]:
        """The segments: where they begin, and what the query is to their bytes, if they have any."""
        return zip(self._live.starts(), self._live.segments, self._asked, strict=True)


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
