"""Vectors in the order of their scores by codes, as a step of a search looks at them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .live import LiveIndex


@dataclass(frozen=True)
class Ranking:
    """Vectors, of a film with one id, by their scores. `complete` is True if no vector is missing that could pass."""

    scores: np.ndarray
    positions: np.ndarray
    vector_ids: np.ndarray
    complete: bool

    def ids(self) -> list[int]:
        return once(self.vector_ids)

    def without(self, left_out: np.ndarray) -> Ranking:
        """Those at other positions than these, a bool for each."""
        rest = ~left_out[self.positions]
        ranked = self.scores[rest], self.positions[rest], self.vector_ids[rest]
        return Ranking(*ranked, self.complete)


def ranking_of(
    live: LiveIndex, scores: np.ndarray, positions: np.ndarray, *, complete: bool
) -> Ranking:
    """The positions of -1 are left out, by which a ranking ends if it has fewer than were asked for."""
    scores, positions = scores[positions >= 0], positions[positions >= 0]
    return Ranking(scores, positions, live.vector_ids(positions), complete)


def once(ids: np.ndarray) -> list[int]:
    """Each where it comes first."""
    return list(dict.fromkeys(ids.tolist()))
