"""A part of the vectors of an index, by position: what ranks them is known to itself only."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ..store.stored_vectors import Rows
from .byte_codes import ByteCodes
from .tuning import Tuning


class Segment(Protocol):
    """
    n vectors with their ids and, if keys are integers, those of their images, in the order of positions (0 to n - 1);
    vector ids ascend, and those of one film are the same. `rows` are the rows of the database that were read for them,
    None if these have no tokens, and `file` is the state of the file that they are mapped from, if any.

    If it `ranks_all`, the scores of all positions cost about as much as the highest few; otherwise it proposes some, as
    `tuning` says, which is None if all its searches are exact.
    """

    @property
    def vector_ids(self) -> np.ndarray: ...
    @property
    def image_ids(self) -> np.ndarray | None: ...
    @property
    def rows(self) -> Rows | None: ...
    @property
    def file(self) -> tuple[int, ...] | None: ...
    @property
    def in_bytes(self) -> ByteCodes | None:
        """The same vectors, compared in half the time; None if they are not kept so."""

    @property
    def ranks_all(self) -> bool: ...
    @property
    def tuning(self) -> Tuning | None: ...
    @property
    def engine_name(self) -> str: ...
    @property
    def repeats_ids(self) -> bool:
        """Whether an image has several vectors, which have the same id."""

    def __len__(self) -> int: ...

    def nearest(
        self, vectors: np.ndarray, n: int, chosen: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        For each of m vectors, shape (m, dimensions), the min(n, len) positions of the highest scores:
        (scores, positions), shape (m, min(n, len)), best first. `chosen`, a bool per position, limits the
        search to those; if they are too few, positions end in -1.
        """

    def propose(self, vectors: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        """As nearest(), but some may be missed."""

    def scores(self, vector: np.ndarray) -> np.ndarray:
        """The score of every position, shape (n,), float32."""

    def scores_at(self, positions: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """The scores of a few positions, shape (len(positions),), float32."""

    def error(self, vector: np.ndarray) -> float:
        """The largest difference between the score of a vector and that of its code, for one query."""

    def decoded(self, positions: np.ndarray) -> np.ndarray:
        """The vectors at some positions, float32, one a row, with what codes have besides."""

    def bytes_per_vector(self) -> float:
        """Where it is kept."""

    def unusable(self) -> np.ndarray:
        """The ids of rows that hold no vector, as far as that is known."""
