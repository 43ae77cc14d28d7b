"""
Vectors as FAISS keeps them for a search: float16 codes, in memory or mapped from a sidecar.

Half the memory of float32, and half the time, for an error in a score of at most CODE_ERROR.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import faiss
import numpy as np

from ..engines.faiss_threads import threads_for
from ..engines.registry import BUILT_IN
from ..store import Index
from ..store.code_dimensions import code_dimensions
from ..store.references import References
from ..store.stored_vectors import Rows, StoredVectors
from .byte_codes import ByteCodes
from .codes_on_disk import MOST_IN_MEMORY, CodesOnDisk
from .correction import with_biases
from .read_ahead import read_ahead
from .scanning import all_scores, rows_of, score_of_code, scores_at
from .segment import Segment

CODE_ERROR = 5e-4
"""float16 rounds each of the components of a unit vector by at most 2^-11 of itself, so by
Cauchy-Schwarz the error of a score is at most 2^-11."""

BLOCK = 16_384
"""Vectors that are in memory at once while all are decoded."""


@dataclass(frozen=True)
class Codes:
    """
    n vectors with their ids and, if keys are integers, those of their images. All have the same order of
    positions (0 to n - 1); vector ids ascend, and those of one film are the same. If it `has_biases`, correction.py has added components. `rows` are
    the rows of the database that were read for them, None if these have no tokens. `file` is the state of the
    file that they are mapped from, and `memory` the mapping; None if they are in memory. Only files have them `in_bytes`.
    """

    faiss_index: faiss.IndexScalarQuantizer
    vector_ids: np.ndarray
    image_ids: np.ndarray | None
    rows: Rows | None = None
    file: tuple[int, ...] | None = None
    memory: np.ndarray | None = None
    has_biases: bool = False
    in_bytes: ByteCodes | None = None

    ranks_all = True
    tuning = None
    engine_name = BUILT_IN

    def __len__(self) -> int:
        return len(self.vector_ids)

    def nearest(
        self, vectors: np.ndarray, n: int, chosen: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        For each of m vectors, shape (m, dimensions), the min(n, len) positions of the highest scores:
        (scores, positions), shape (m, min(n, len)), best first. `chosen`, a bool per position, limits the
        search to those; if they are too few, positions end in -1.
        """
        n = min(n, len(self))
        vectors = fitted(vectors, self.faiss_index.d)
        if n == 0:
            return np.empty((len(vectors), 0), np.float32), np.empty((len(vectors), 0), np.int64)
        selected = {}
        if chosen is not None:
            bitmap = np.packbits(chosen, bitorder="little")
            selected["params"] = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bitmap))
        with threads_for(vectors):
            return self.faiss_index.search(np.ascontiguousarray(vectors), n, **selected)

    def propose(self, vectors: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        return self.nearest(vectors, n)

    def bytes_per_vector(self) -> float:
        in_bytes = 0 if self.in_bytes is None else self.in_bytes.bytes_per_vector()
        return self.faiss_index.code_size + in_bytes

    def scores(self, vector: np.ndarray) -> np.ndarray:
        """The score of every position, shape (n,), float32."""
        return all_scores(self.faiss_index, self._fitted(vector), self._rows())

    def scores_at(self, positions: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """The scores of a few positions, shape (len(positions),), float32."""
        rows = self._rows()
        read_ahead(self.memory, rows, positions)
        return scores_at(self.faiss_index, self._fitted(vector), rows, positions)

    def _fitted(self, vector: np.ndarray) -> np.ndarray:
        return fitted(vector[None], self.faiss_index.d)[0]

    def error(self, vector: np.ndarray) -> float:
        """
        The largest difference between the score of a vector and that of its code, for one query: six
        standard deviations, but at most CODE_ERROR.

        A component is rounded by up to half of the spacing of float16 there, evenly, so by a variance
        of spacing^2 / 12, and those of a score add up, times the components of the query squared. Of
        10^6 scores of CLIP-like vectors none was off by more than 3.4 standard deviations.
        """
        squares = np.square(vector, dtype=np.float64)
        variance = squares @ self._spacing_squared[: len(vector)] / 12
        return min(bound_of_error(vector), 6 * float(np.sqrt(variance)))

    @cached_property
    def _spacing_squared(self) -> np.ndarray:
        """The mean for each component, shape (dimensions,), of a few blocks of the codes."""
        if not len(self):
            return np.zeros(self.faiss_index.d)
        starts = np.linspace(0, max(0, len(self) - 32), 16).astype(int)
        positions = np.unique(starts[:, None] + np.arange(32)).clip(max=len(self) - 1)
        values = np.abs(self._picked(positions))
        # Damaged codes may not be numbers; then error() falls back on the bound for all.
        with np.errstate(invalid="ignore"):
            return np.square(np.spacing(values), dtype=np.float64).mean(axis=0)

    def decoded(self, positions: np.ndarray) -> np.ndarray:
        """
        The vectors at some positions, shape (len(positions), dimensions), float32, with what codes have
        besides.
        """
        return self._picked(positions).astype(np.float32)

    def _picked(self, positions: np.ndarray) -> np.ndarray:
        """The components of the codes at some positions, float16."""
        rows = self._rows()
        read_ahead(self.memory, rows, positions)
        return rows.view("<f2")[positions]

    def blocks(self, first: int = 0) -> Iterator[np.ndarray]:
        """Those from a position on, decoded a block at a time."""
        for start in range(first, len(self), BLOCK):
            yield self.decoded(np.arange(start, min(start + BLOCK, len(self))))

    def as_bytes(self) -> np.ndarray:
        """The codes one after the other, shape (bytes,)."""
        return self._rows().reshape(-1)

    @cached_property
    def repeats_ids(self) -> bool:
        """Whether an image has several vectors, which have the same id."""
        return bool((self.vector_ids[1:] == self.vector_ids[:-1]).any())

    def unusable(self) -> np.ndarray:
        return unusable(self)

    def _rows(self) -> np.ndarray:
        return rows_of(self.faiss_index)


def bound_of_error(vector: np.ndarray) -> float:
    """The most that float16 can change of a score with a query, whatever the vectors are."""
    # A query longer than 1 is one of words, and what is more of it is multiplied by a bias of up to 1.
    of_bias = np.sqrt(max(0.0, np.square(vector, dtype=np.float64).sum() - 1))
    return CODE_ERROR * (1 + float(of_bias))


def unusable(segment: Segment) -> np.ndarray:
    """The ids of rows of a segment that hold no vector, as far as that is known."""
    if segment.rows is None or (len(segment.rows.ids) == len(segment) and not segment.repeats_ids):
        return segment.vector_ids[:0]
    return np.setdiff1d(segment.rows.ids, segment.vector_ids)


def score_of_one(index: Index, image: np.ndarray, vector: np.ndarray) -> float:
    """The score of an image by its vector, the same to the last bit as `Codes.scores` has of its code."""
    coder = _no_codes(code_dimensions(index))
    code = coder.sa_encode(with_biases(index, None, image[None]))
    (query,) = fitted(vector[None], coder.d)
    return score_of_code(coder, query, code)


def encode(
    index: Index,
    batches: Iterable[StoredVectors],
    references: References | None = None,
    *,
    folder: Path | None = None,
    expected: int = 0,
) -> Codes:
    """
    The codes of all batches of vectors of an index, with their biases by its references, and with the ids of
    the images if their keys are integers. They are in memory, or if there is a folder and they are, or are `expected`
    to be, more than MOST_IN_MEMORY, in a file without a name in it; then it raises OSError if there is no room.
    """
    begun = _no_codes(code_dimensions(index))
    most = MOST_IN_MEMORY // begun.code_size
    taken: faiss.IndexScalarQuantizer | CodesOnDisk = begun

    def add(batch: StoredVectors) -> None:
        nonlocal taken
        vectors = with_biases(index, references, batch.vectors)
        # Films have several vectors a row, so that nobody knows before how many there are.
        if (
            folder is not None
            and not isinstance(taken, CodesOnDisk)
            and max(expected, taken.ntotal + len(vectors)) > most
        ):
            taken = CodesOnDisk(folder, taken)
        taken.add(vectors)

    ids = ids_of(index, batches, add)
    codes, memory = taken.mapped() if isinstance(taken, CodesOnDisk) else (taken, None)
    return Codes(codes, *ids, memory=memory, has_biases=bool(index.references_token))


Ids = tuple[np.ndarray, np.ndarray | None, Rows | None]
"""Of some vectors: their ids, those of their images, and the rows that were read for them."""


def ids_of(
    index: Index, batches: Iterable[StoredVectors], take: Callable[[StoredVectors], object]
) -> Ids:
    """Those of batches of vectors of an index, each of which is taken; of images, if their keys are integers."""
    vector_ids = [np.empty(0, dtype=np.int64)]
    image_ids = [np.empty(0, dtype=np.int64)]
    rows: list[Rows | None] = []
    for batch in batches:
        rows.append(batch.rows)
        take(batch)
        vector_ids.append(batch.vector_ids)
        if index.table.key_is_integer:
            image_ids.append(np.array(batch.image_ids, dtype=np.int64))
    images = np.concatenate(image_ids) if index.table.key_is_integer else None
    return np.concatenate(vector_ids), images, all_rows(rows)


def all_rows(parts: Iterable[Rows | None]) -> Rows | None:
    """Of all parts, None if one has none."""
    ids, tokens = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for part in parts:
        if part is None:
            return None
        ids.append(part.ids)
        tokens.append(part.tokens)
    return Rows(np.concatenate(ids), np.concatenate(tokens))


def fitted(vectors: np.ndarray, dimensions: int) -> np.ndarray:
    """m vectors with zeros at the end, shape (m, dimensions): queries that leave biases aside."""
    missing = dimensions - vectors.shape[1]
    return np.pad(vectors, ((0, 0), (0, missing))) if missing else vectors


def joined(first: Segment, second: Segment) -> Codes:
    """The codes of two segments of codes, in memory; all ids of `second` are higher."""
    assert isinstance(first, Codes)
    codes = _no_codes(first.faiss_index.d)
    for part in (first, second):
        assert isinstance(part, Codes)
        if len(part):
            codes.add_sa_codes(part._rows())
    image_ids = None
    if first.image_ids is not None and second.image_ids is not None:
        image_ids = np.concatenate([first.image_ids, second.image_ids])
    return Codes(
        codes,
        np.concatenate([first.vector_ids, second.vector_ids]),
        image_ids,
        all_rows([first.rows, second.rows]),
        has_biases=first.has_biases,
    )


def _no_codes(dimensions: int) -> faiss.IndexScalarQuantizer:
    return faiss.IndexScalarQuantizer(
        dimensions, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
