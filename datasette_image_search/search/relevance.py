"""
How relevant an image is to a query, from 0 to 1, and where the matches end.

A score alone says little: what is high for one model or collection is low for another. So scores are compared
with a background, those that any queries of the kind have with any images of the collection: for words the
reference queries, for pictures the other pictures. Its median and its spread below the median tell how far a
score stands out; above the median are the matches of these queries too. From that

    relevance = 1 - of the images with such a score or a higher one, the share that chance would bring

which is one less the false discovery rate of Benjamini and Hochberg, and falls with the score. So a query that
many images match has many matches, and one that none matches has none.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .correction import WEIGHT, biases
from .live import LiveIndex
from .query import QueryVector

SAMPLED = 16_384
"""Images whose scores are looked at for a query, evenly spread over the collection."""

COMPARED = 1_000
"""Images whose scores with other queries are the background."""

FEWEST = 16
"""Scores that a background is made of; of fewer nobody can tell what chance brings."""

NARROWEST = 1e-3
"""A spread below which all scores are the same."""

KEPT = 256
"""Relevances, and backgrounds, that a process remembers."""

STEPS = 60
"""Halvings that find the score of a relevance, as many as a score has bits."""


@dataclass(frozen=True)
class Background:
    """The `middle` of some scores, and their `spread` below it, as that of a normal distribution."""

    middle: float
    spread: float


@dataclass(frozen=True)
class Relevance:
    """
    The relevance of each score with one query. `scores` are some of those of the collection, ascending, each
    of them for `weight` images.
    """

    background: Background
    scores: np.ndarray
    weight: float

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Of some scores, shape (n,), 0 to 1."""
        higher = len(self.scores) - np.searchsorted(self.scores, scores, side="left")
        own = self._rate(scores, higher)
        # What is not found by chance at a lower score is not at a higher one.
        lower = np.searchsorted(self.scores, scores, side="right")
        return 1 - np.minimum(own, np.append(1.0, self._lowest)[lower])

    @cached_property
    def _lowest(self) -> np.ndarray:
        """The lowest rate of each of the scores and those below it, shape (len(scores),)."""
        higher = np.arange(len(self.scores), 0, -1)
        return np.minimum.accumulate(self._rate(self.scores, higher))

    def _rate(self, scores: np.ndarray, higher: np.ndarray) -> np.ndarray:
        """Of so many of the scores, the share that chance brings."""
        z = (np.asarray(scores, dtype=np.float64) - self.background.middle) / self.background.spread
        by_chance = len(self.scores) * self.weight * _above(z)
        return np.minimum(1, by_chance / np.maximum(1, higher * self.weight))

    def score_of(self, relevance: float) -> float:
        """The lowest score with at least this relevance; infinity if there is none up to 2."""
        low, high = -2.0, 2.0
        if self(np.array([high]))[0] < relevance:
            return math.inf
        for _ in range(STEPS):
            middle = (low + high) / 2
            low, high = (
                (low, middle) if self(np.array([middle]))[0] >= relevance else (middle, high)
            )
        return high


def _above(z: np.ndarray) -> np.ndarray:
    """The share of a normal distribution above z."""
    return np.array([math.erfc(each / math.sqrt(2)) / 2 for each in np.ravel(z)])


_relevances: OrderedDict[tuple[object, ...], Relevance] = OrderedDict()
_backgrounds: OrderedDict[tuple[object, ...], Background | None] = OrderedDict()
_lock = threading.Lock()
"""By live index and query, or kind of query, the last used at the end; and a lock for both."""


def relevance_of(live: LiveIndex, ranking: np.ndarray, query: QueryVector) -> Relevance | None:
    """
    For a query, and the row that ranking_vectors() makes of it. None if the collection is too small for a
    background, or nothing is known of other queries of the kind.
    """
    key = live.name, ranking.tobytes()
    with _lock:
        if key in _relevances:
            _relevances.move_to_end(key)
            return _relevances[key]
    is_corrected = len(ranking) > live.index.dimensions
    background = _mixed(live, query, is_corrected=is_corrected)
    if background is None:
        return None
    n = len(live)
    if n <= SAMPLED:
        scores = live.scores(ranking)
    else:
        positions = np.linspace(0, n - 1, SAMPLED).astype(np.int64)
        scores = _scores_at(live, positions, ranking)
    relevance = Relevance(background, np.sort(scores), n / len(scores))
    with _lock:
        _relevances[key] = relevance
        while len(_relevances) > KEPT:
            _relevances.popitem(last=False)
    return relevance


def _scores_at(live: LiveIndex, positions: np.ndarray, ranking: np.ndarray) -> np.ndarray:
    """The scores of a few positions, ascending, shape (len(positions),)."""
    starts = np.cumsum([0, *map(len, live.segments)])[:-1]
    parts = zip(
        live.segments,
        starts,
        np.split(positions, np.searchsorted(positions, starts[1:])),
        strict=True,
    )
    return np.concatenate([part.scores_at(at - start, ranking) for part, start, at in parts])


def _mixed(live: LiveIndex, query: QueryVector, *, is_corrected: bool) -> Background | None:
    """The background of a weighted sum of words and pictures, whose scores chance has independent."""
    middle = variance = 0.0
    for weights, kind in ((query.words, "words"), (query.pictures, "pictures")):
        if not weights:
            continue
        background = _background(live, kind, query.bank, is_corrected=is_corrected)
        if background is None:
            return None
        middle += sum(weights) * background.middle
        variance += sum(weight**2 for weight in weights) * background.spread**2
    return Background(middle, math.sqrt(variance))


def _background(
    live: LiveIndex, kind: str, bank: np.ndarray | None, *, is_corrected: bool
) -> Background | None:
    key = live.name, kind, is_corrected
    with _lock:
        if key in _backgrounds:
            return _backgrounds[key]
    pool = _of_pictures(live) if kind == "pictures" else _of_words(live, bank, is_corrected)
    background = _of_pool(pool)
    with _lock:
        _backgrounds[key] = background
        while len(_backgrounds) > KEPT:
            _backgrounds.popitem(last=False)
    return background


def _of_pool(pool: np.ndarray) -> Background | None:
    if len(pool) < FEWEST:
        return None
    # One standard deviation below the median, as far as a normal distribution goes.
    low, middle = np.quantile(pool, [_above(np.array([1.0]))[0], 0.5])
    spread = float(middle - low)
    return Background(float(middle), spread) if spread > NARROWEST else None


def _of_words(live: LiveIndex, bank: np.ndarray | None, is_corrected: bool) -> np.ndarray:
    """The scores of reference queries with some images, corrected if those of the query are."""
    texts = live.references.vectors if live.references is not None else bank
    if texts is None:
        return np.empty(0)
    vectors = live.decoded(_some(live))
    scores = vectors @ texts.T
    if is_corrected and live.references is not None:
        scores -= WEIGHT * biases(live.references, vectors)[:, None]
    return scores.ravel()


def _of_pictures(live: LiveIndex) -> np.ndarray:
    """The scores of some images with each other."""
    vectors = live.decoded(_some(live))
    return (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]


def _some(live: LiveIndex) -> np.ndarray:
    """Positions, evenly spread."""
    return np.linspace(0, len(live) - 1, min(COMPARED, len(live))).astype(np.int64)
