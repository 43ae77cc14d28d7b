"""A query alone takes one thread."""

from __future__ import annotations

import faiss
import pytest

from datasette_image_search.engines.faiss_threads import threads_for

from .random_tables import random_vectors


@pytest.mark.parametrize(("queries", "threads"), [(1, 1), (2, 3)])
def test_a_query_alone_takes_one_thread(queries: int, threads: int) -> None:
    """In a server others wait; and of whoever called, nothing is changed."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    try:
        with threads_for(random_vectors(queries)):
            assert faiss.omp_get_max_threads() == threads
        assert faiss.omp_get_max_threads() == 3
        with pytest.raises(KeyError), threads_for(random_vectors(1)):
            raise KeyError
        assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)
