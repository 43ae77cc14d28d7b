"""
The highest inner products with vectors in half precision. FAISS takes these as they are, which for one query is a tenth of the
time that it takes to make float32 of them.
"""

from __future__ import annotations

import faiss
import numpy as np

from .faiss_threads import threads_for


def best_of(vectors: np.ndarray, halves: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """
    For each of m vectors, float32 of shape (m, dimensions), the min(n, rows) highest inner products with rows of `halves`,
    float16 of shape (rows, dimensions), and which rows these are; -1 for what is no number.
    """
    n = min(n, len(halves))
    if not n:
        return np.empty((len(vectors), 0), np.float32), np.empty((len(vectors), 0), np.int64)
    codes = faiss.IndexScalarQuantizer(
        halves.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    codes.add_sa_codes(np.ascontiguousarray(halves, "<f2").view(np.uint8))
    with threads_for(vectors):
        return codes.search(vectors, n)
