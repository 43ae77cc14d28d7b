"""
How relevant an image is to a query, from 0 to 1, and where the matches end.

A score alone says little: what is high for one model or collection is low for another. So scores are compared
with a background, those that any queries of the kind have with any images of the collection: for words the
reference queries, for pictures the other pictures. Its median and its spread below the median tell how far a
score stands out; above the median are the matches of these queries too. From that

    relevance = (1 - P(z)) ** n        z = (score - median) / spread

is the chance that of n images which have nothing to do with the query not one has such a score, if scores are
distributed normally, where P(z) is the share above z and n the images of the collection, but at most AMONG.
It rises with the score, depends on nothing else, and is the same whoever asks.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from .correction import WEIGHT, biases
from .live import LiveIndex
from .query import QueryVector

AMONG = 1_000
"""Unrelated images of which not one should be a match. In a larger collection there may be one in each so many,
beside more images that are meant."""

COMPARED = 500
"""Images whose scores with other queries are the background."""

FEWEST = 16
"""Scores that a background is made of; of fewer nobody can tell what chance brings."""

NARROWEST = 1e-3
"""A spread below which all scores are the same."""

NEGLIGIBLE = 1e-6
"""A relevance below this is 0, so that most images need no exact one."""

KEPT = 64
"""Backgrounds that a process remembers."""

FARTHEST = 40.0
"""A z with a relevance of 1, or of 0 below the median, whatever n."""

STEPS = 70
"""Halvings that find the score of a relevance, to its last bit."""


@dataclass(frozen=True)
class Background:
    """The `middle` of some scores, and their `spread` below it, as that of a normal distribution."""

    middle: float
    spread: float


@dataclass(frozen=True)
class Relevance:
    """The relevance of scores with one query, of a collection of n images."""

    background: Background
    n: int

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Of some scores, shape (m,): shape (m,), 0 to 1."""
        z = (np.asarray(scores, dtype=np.float64) - self.background.middle) / self.background.spread
        found = (1 - _above(z)) ** min(self.n, AMONG)
        return np.where(found < NEGLIGIBLE, 0.0, found)

    def score_of(self, relevance: float) -> float:
        """The lowest score with at least this relevance, above 0 and at most 1."""
        away = FARTHEST * self.background.spread
        low, high = self.background.middle - away, self.background.middle + away
        for _ in range(STEPS):
            middle = (low + high) / 2
            low, high = (
                (low, middle) if self(np.array([middle]))[0] >= relevance else (middle, high)
            )
        return high


def _above(z: np.ndarray) -> np.ndarray:
    """The share of a normal distribution above z."""
    return np.array([math.erfc(each / math.sqrt(2)) / 2 for each in np.ravel(z)])


_backgrounds: OrderedDict[tuple[object, ...], Background | None] = OrderedDict()
_lock = threading.Lock()
"""By live index, its generation and the kind of query, the last used at the end; and their lock."""


def relevance_of(live: LiveIndex, ranking: np.ndarray, query: QueryVector) -> Relevance | None:
    """
    For a query, and the row that ranking_vectors() makes of it. None if the collection is too small for a
    background, or nothing is known of other queries of the kind.
    """
    dimensions = live.index.dimensions
    # A row may be wider for the sake of others that are ranked with it.
    is_corrected = len(ranking) > dimensions and bool(ranking[dimensions])
    background = _mixed(live, query, is_corrected=is_corrected)
    if background is None:
        return None
    return Relevance(background, len(live) - (0 if live.gone is None else len(live.gone)))


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
    key = live.name, live.index.generation, kind, is_corrected
    with _lock:
        if key in _backgrounds:
            _backgrounds.move_to_end(key)
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
    """Positions of images that are there, evenly spread."""
    # Of millions of images, the ids are not read from the disk in order to find that none is gone.
    there = live.there() if live.gone is not None and len(live.gone) else None
    count = len(live) if there is None else int(there.sum())
    chosen = np.linspace(0, count - 1, min(COMPARED, count)).astype(np.int64)
    return chosen if there is None else np.flatnonzero(there)[chosen]
