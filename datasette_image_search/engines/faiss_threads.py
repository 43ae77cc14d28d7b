"""The threads that FAISS takes for a search."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import faiss
import numpy as np


@contextmanager
def threads_for(vectors: np.ndarray) -> Iterator[None]:
    """
    Uses one thread for a single query, shape (1, dimensions), and all for many. One thread does all the
    work of an exact query anyway. An approximate one reads so little that several threads wait for each
    other longer than they read, and several times as long on a busy machine. It affects only the calling
    thread.
    """
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1 if len(vectors) == 1 else before)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
