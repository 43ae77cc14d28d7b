"""
The vectors of an index as this process searches them: a sidecar, and later commits. A LiveIndex never changes; it is
replaced, so that any number of threads can search one while another thread makes the next. It may still hold vectors
that were deleted since; `planner` asks the database about every candidate, so those are never answered.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np

from ..store import Index
from ..store.references import References
from ..store.stored_vectors import Rows
from .approximate import Approximate
from .ids import is_in, positions_among
from .segment import Segment
from .sidecar import FileState
from .tuning import Tuning


@dataclass(frozen=True)
class LiveIndex:
    """
    `index` is the row of the index when this was read. The first of the `segments` are the codes of the
    sidecar, or the vectors of an engine; the others, in memory, what was committed after it. Positions count through all segments, and
    ids of vectors ascend with them. All vectors of a film have one id, and are in one segment. `approximate`
    proposes vectors of the first.

    `from_sidecar` tells whether the first is mapped from the file, or was made in memory because of
    `problem`. `unused` is the state of the file of an approximate index that could not be used, None if
    there was none.

    `references` are those that the codes have biases by, None if they have none.

    `gone` are the ids of vectors that were deleted since, ascending. Where the generation is no proof of
    what was read, as in a database of version 0.1, whose vectors have no tokens, it is None: then that is
    not known, and what was read holds for the `file` as it was.
    """

    index: Index
    segments: tuple[Segment, ...]
    from_sidecar: bool
    approximate: Approximate | None = None
    problem: str | None = None
    unused: FileState | None = None
    gone: np.ndarray | None = None
    references: References | None = None
    file: tuple[FileState | None, ...] | None = None
    name: str = field(default_factory=lambda: secrets.token_hex(8))
    """A unique name for caches."""

    def __len__(self) -> int:
        return sum(map(len, self.segments))

    @property
    def newer(self) -> int:
        """The number of vectors that are not in the sidecar."""
        return sum(map(len, self.segments[1:]))

    @property
    def rows(self) -> list[Rows]:
        """The rows of the database that were read; empty if they have no tokens."""
        rows = [part.rows for part in self.segments]
        return [part for part in rows if part is not None] if None not in rows else []

    @property
    def last_id(self) -> int:
        """The highest id that was read."""
        ids = [part.vector_ids if part.rows is None else part.rows.ids for part in self.segments]
        return max((int(each[-1]) for each in ids if len(each)), default=0)

    @property
    def has_image_ids(self) -> bool:
        return all(part.image_ids is not None for part in self.segments)

    @property
    def tuning(self) -> Tuning | None:
        return self.segments[0].tuning if self.approximate is None else self.approximate.tuning

    @property
    def ranks_all(self) -> bool:
        return self.segments[0].ranks_all

    def nearest(
        self, vectors: np.ndarray, n: int, chosen: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        For each of m vectors, shape (m, dimensions), the positions of the n highest scores: (scores, positions), shape
        (m, up to n), best first. `chosen`, a bool per position, limits the search to those; if they are too few,
        positions end in -1. Scores of the codes have an error: see error().
        """
        return self._best(vectors, n, chosen, self.segments[0].nearest)

    def _best(
        self, vectors: np.ndarray, n: int, chosen: np.ndarray | None, rank_first: Callable[..., Any]
    ) -> tuple[np.ndarray, np.ndarray]:
        """As nearest(), with another ranking of the first segment."""
        ranks = [rank_first, *(part.nearest for part in self.segments[1:])]
        scores, positions = [], []
        for start, part, rank in zip(self.starts(), self.segments, ranks, strict=True):
            within = None if chosen is None else chosen[start : start + len(part)]
            part_scores, part_positions = rank(vectors, n, within)
            scores.append(part_scores)
            positions.append(np.where(part_positions < 0, -1, part_positions + start))
        if len(self.segments) == 1:
            return scores[0], positions[0]
        all_scores, all_positions = np.hstack(scores), np.hstack(positions)
        order = np.argsort(-all_scores, axis=1, kind="stable")[:, :n]
        return (
            np.take_along_axis(all_scores, order, axis=1),
            np.take_along_axis(all_positions, order, axis=1),
        )

    def propose(
        self, vectors: np.ndarray, most: int | None = None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each of the vectors, as nearest() gives them, what an index proposes, an engine up to `most`, and the best newer ones."""
        first = self.segments[0]
        if self.approximate is None:
            assert first.tuning is not None
            n = most or first.tuning.candidates
            scores, positions = self._best(vectors, n, None, lambda q, n, _: first.propose(q, n))
            return [(row[at >= 0], at[at >= 0]) for row, at in zip(scores, positions, strict=True)]
        n, proposed = self.approximate.tuning.candidates, self.approximate.propose(vectors)
        return [self.ranked(*each, n) for each in zip(vectors, proposed, strict=True)]

    def ranked(self, vector: np.ndarray, ids: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """As propose() has them, of the vectors of the first segment with these ids, and of the n best newer ones."""
        first = self.segments[0]
        positions = positions_among(first.vector_ids, np.sort(ids))
        scores = first.scores_at(positions, vector)
        for start, part in list(zip(self.starts(), self.segments, strict=True))[1:]:
            newer = part.nearest(vector[None], n)
            scores = np.append(scores, newer[0])
            positions = np.append(positions, newer[1] + start)
        order = np.argsort(-scores, kind="stable")
        return scores[order], positions[order]

    def scores(self, vector: np.ndarray) -> np.ndarray:
        """The score of every position, shape (len,), float32."""
        return np.concatenate([part.scores(vector) for part in self.segments])

    def error(self, vector: np.ndarray) -> float:
        """The largest difference between the score of a vector and that of its code, for one query."""
        return max(part.error(vector) for part in self.segments)

    def vector_ids(self, positions: np.ndarray) -> np.ndarray:
        """The ids of the vectors at some positions."""
        return self._at(positions, [part.vector_ids for part in self.segments])

    def image_ids(self, positions: np.ndarray) -> np.ndarray:
        """The ids of the images at some positions, if they are integers."""
        return self._at(positions, self._image_ids())

    def images_of(self, vector_ids: np.ndarray) -> np.ndarray | None:
        """The ids of the images of vectors that are here, if they are integers."""
        return self.image_ids(self.positions_of(vector_ids)) if self.has_image_ids else None

    def all_image_ids(self) -> np.ndarray:
        """The ids of the images at all positions, if they are integers."""
        arrays = self._image_ids()
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    def _image_ids(self) -> list[np.ndarray]:
        return [part.image_ids for part in self.segments if part.image_ids is not None]

    def _at(self, positions: np.ndarray, arrays: list[np.ndarray]) -> np.ndarray:
        if len(arrays) == 1:
            return arrays[0][positions]
        ids = np.empty(len(positions), dtype=np.int64)
        for start, array in zip(self.starts(), arrays, strict=True):
            inside = (positions >= start) & (positions < start + len(array))
            ids[inside] = array[positions[inside] - start]
        return ids

    def positions_of(self, vector_ids: np.ndarray) -> np.ndarray:
        """The first positions of the vectors with these ids, -1 for one that is not here."""
        positions = np.full(len(vector_ids), -1)
        for start, part in zip(self.starts(), self.segments, strict=True):
            if len(part):
                at = np.searchsorted(part.vector_ids, vector_ids).clip(max=len(part) - 1)
                here = part.vector_ids[at] == vector_ids
                positions[here] = at[here] + start
        return positions

    def decoded(self, positions: np.ndarray) -> np.ndarray:
        """The vectors at some positions as their codes have them, (len(positions), dimensions)."""
        vectors = np.empty((len(positions), self.index.dimensions), dtype=np.float32)
        for start, part in zip(self.starts(), self.segments, strict=True):
            inside = (positions >= start) & (positions < start + len(part))
            vectors[inside] = part.decoded(positions[inside] - start)[:, : vectors.shape[1]]
        return vectors

    def unusable(self) -> np.ndarray:
        """The ids of rows that hold no vector, as far as that is known."""
        return np.concatenate([part.unusable() for part in self.segments])

    def there(self) -> np.ndarray | None:
        """A bool per position: whether the vector is still in the database; None if that is not known."""
        return None if self.gone is None else ~self.chosen_vectors(self.gone)

    def not_gone(self, positions: np.ndarray) -> np.ndarray:
        """Those of the positions whose vector is still in the database; all if that is not known."""
        if self.gone is None:
            return positions
        return positions[~np.isin(self.vector_ids(positions), self.gone)]

    def chosen_vectors(self, vector_ids: np.ndarray) -> np.ndarray:
        """A bool per position: whether the vector's id is one of these."""
        return np.concatenate([np.isin(part.vector_ids, vector_ids) for part in self.segments])

    def chosen_images(self, image_ids: np.ndarray) -> np.ndarray:
        """A bool per position: whether the image's id, an integer, is one of these."""
        return np.concatenate([is_in(ids, image_ids) for ids in self._image_ids()])

    def of_any_vector(self, chosen: np.ndarray) -> np.ndarray:
        """A bool per position, as `chosen` is: whether that is true for any vector of the image."""
        if not any(part.repeats_ids for part in self.segments):
            return chosen
        return self.chosen_vectors(self.vector_ids(np.flatnonzero(chosen)))

    def starts(self) -> list[int]:
        """The position at which each segment begins."""
        return list(accumulate(map(len, self.segments[:-1]), initial=0))
