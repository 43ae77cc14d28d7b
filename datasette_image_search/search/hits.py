"""What a search finds: images with their scores, and the steps to them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence, Sized
from dataclasses import dataclass, replace
from typing import Literal, get_args

from ..store import Key
from ..store.text_search import TextMatch

LINE = 0.95
"""The relevance from which on images are matches by likeness."""


def is_relevant(relevance: float | None) -> bool:
    """Whether an image with this relevance is a match by likeness; nobody can tell if it is None."""
    return relevance is not None and relevance >= LINE


def written_relevance(relevance: float) -> str:
    """With two digits, rounded down, so that what reads 0.95 is a match."""
    return f"{math.floor(relevance * 100) / 100:.2f}"


@dataclass(frozen=True)
class Hit:
    """
    `score` is the cosine similarity, -1 to 1; None if the image has no vector, or the query none. `corrected` is what
    hits by likeness are in the order of: the score, less what the picture has with any words. `relevance`, 0 to 1, is
    comparable between queries; None if nothing is known to compare with. All three are those of the best scene of a
    film, and `at` are its seconds from the beginning; None of a picture. `matched` are the words of the query that are
    written about the image, and where; `is_written` is whether some are, and `by_text` whether they alone make it a match.
    """

    id: Key
    score: float | None
    corrected: float | None
    relevance: float | None = None
    at: float | None = None
    matched: tuple[TextMatch, ...] = ()
    is_written: bool = False
    by_text: bool = False

    @property
    def is_match(self) -> bool:
        """By likeness or by text."""
        return self.by_text or is_relevant(self.relevance)


def best_first(hit: Hit) -> tuple[float, Key]:
    """The order of hits that have a vector."""
    assert hit.corrected is not None
    return -hit.corrected, hit.id


def page_in_order(hits: Sequence[Hit], size: int) -> list[Hit]:
    """
    The hits of a page, and then those of the next one. By likeness alone the best of each comes first: parts of the page may
    have been looked for one after the other.
    """
    page = list(hits[:size])
    if all(hit.corrected is not None and not hit.is_written for hit in page):
        page.sort(key=best_first)
    return [*page, *hits[size:]]


def clock(seconds: float) -> str:
    """A time of a film as players show it: "0:12", "1:02:03"."""
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


@dataclass(frozen=True)
class Step:
    """One step of the plan: its name, the vectors it looked at, and how many of them passed."""

    name: str
    looked_at: int
    passed: int
    milliseconds: float

    @classmethod
    def since(cls, started: float, name: str, looked_at: Sized, passed: Sized) -> Step:
        """One that began at this time of time.perf_counter() and ends now."""
        return cls(name, len(looked_at), len(passed), (time.perf_counter() - started) * 1000)


Extent = Literal["all", "at least", "more than", "about"]
"""What of all that there are some are, by themselves or by their number; "about" is an estimate."""


def least_extent(*extents: Extent) -> Extent:
    """Of some that are put together."""
    return max(extents, key=get_args(Extent).index)


@dataclass(frozen=True)
class Count:
    """How many there are, None if unknown: all, at least so many, more than that, or about as many."""

    number: int | None
    extent: Extent = "all"

    @property
    def is_exact(self) -> bool:
        return self.extent == "all"

    def but_not_below(self, number: int) -> Count:
        """The same, of which so many were seen."""
        is_below = self.number is not None and self.number < number
        return replace(self, number=number) if is_below and not self.is_exact else self


@dataclass(frozen=True)
class Found:
    """
    Hits, best first (equal scores by id), the steps that found them, and warnings, such as words that the
    model does not know. Only if `knows_matches` can anybody tell which of them are matches. By the `extent` of
    what was looked at, others may be better.
    """

    hits: tuple[Hit, ...]
    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()
    knows_matches: bool = False
    extent: Extent = "all"

    @property
    def matches(self) -> int:
        """How many of the hits are matches, which come first unless they are sorted by a column."""
        return sum(hit.is_match for hit in self.hits)
