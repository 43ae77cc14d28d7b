"""What a search finds: images with their scores, and the steps to them."""

from __future__ import annotations

from dataclasses import dataclass

from ..store import Key

LINE = 0.95
"""The relevance from which on images are matches."""


def is_match(relevance: float | None) -> bool:
    """Whether an image with this relevance is a match; nobody can tell if it is None."""
    return relevance is not None and relevance >= LINE


@dataclass(frozen=True)
class Hit:
    """
    `score` is the cosine similarity, -1 to 1. `corrected` is what hits are in the order of: the score, less
    what the picture has with any words. `relevance`, 0 to 1, is comparable between queries; None if nothing
    is known to compare with. All three are those of the best scene of a film, and `at` are its seconds from the
    beginning; None of a picture.
    """

    id: Key
    score: float
    corrected: float
    relevance: float | None = None
    at: float | None = None


@dataclass(frozen=True)
class Step:
    """One step of the plan: its name, the vectors it looked at, and how many of them passed."""

    name: str
    looked_at: int
    passed: int
    milliseconds: float


@dataclass(frozen=True)
class Found:
    """
    Hits, best first (equal scores by id), the steps that found them, and warnings, such as words that the
    model does not know.
    """

    hits: tuple[Hit, ...]
    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()

    @property
    def matches(self) -> int:
        """How many of the hits are matches, which come first unless they are ordered by the score alone."""
        return sum(is_match(hit.relevance) for hit in self.hits)
