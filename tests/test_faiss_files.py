"""FAISS sees only what is written here, whatever a file says that it is."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasette_image_search.search.faiss_files import (
    NotOurs,
    flat_prefix,
    is_readable,
    read_approximate,
    read_flat,
)

from .random_tables import random_vectors

DIMENSIONS = 8
VECTORS = random_vectors(1500, DIMENSIONS)

KINDS = (
    "IVF4,SQ8", "IVF64,SQ8", "IVF4,Flat", "IVF4,SQfp16", "IVF4,PQ4np", "OPQ4,IVF4,PQ4x4",
    "PCA4,IVF4,Flat", "PCAR4,IVF4,SQ8", "RR4,IVF4,SQ8", "L2norm,IVF4,Flat", "IVF4_HNSW8,Flat", "HNSW8",
    "HNSW8_SQ8", "Flat", "SQ4", "SQ6", "PQ4x4", "PQ1x2", "IVF4,PQ4x4,RFlat",
)  # fmt: skip

OTHERS = ("PQ4x4fs", "IVF4,PQ4x4fs", "NSG16", "RQ2x4", "IVF4,RaBitQ")


@cache
def trained(factory: str) -> faiss.Index:
    index = faiss.index_factory(DIMENSIONS, factory, faiss.METRIC_INNER_PRODUCT)
    index.train(VECTORS)
    index.add(VECTORS)
    return index


def made(factory: str) -> faiss.Index:
    """A copy that may be changed: training takes up to a second, and FAISS does not clone all of them."""
    return faiss.deserialize_index(faiss.serialize_index(trained(factory)))


def written(index: faiss.Index) -> np.ndarray:
    """With padding behind it, as in a file."""
    return np.concatenate([faiss.serialize_index(index), np.zeros(24, dtype=np.uint8)])


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("factory", KINDS)
def test_what_is_written_is_read_again(factory: str, mapped: bool) -> None:
    index = made(factory)
    assert is_readable(faiss.index_factory(DIMENSIONS, factory, faiss.METRIC_INNER_PRODUCT))
    # What is mapped stays in these bytes.
    data = written(index)
    again = read_approximate(data, DIMENSIONS, len(VECTORS), mapped=mapped)
    for one, other in zip(index.search(VECTORS[:9], 5), again.search(VECTORS[:9], 5), strict=True):
        assert np.array_equal(one, other)
    if not mapped:
        again.add(VECTORS[:10])
        assert again.ntotal == len(VECTORS) + 10


@pytest.mark.parametrize("factory", OTHERS)
def test_no_other_kind_is_read(factory: str) -> None:
    index = made(factory)
    with pytest.raises(NotOurs):
        read_approximate(written(index), DIMENSIONS, len(VECTORS), mapped=True)
    assert not is_readable(faiss.index_factory(DIMENSIONS, factory, faiss.METRIC_INNER_PRODUCT))


def test_lists_on_a_disk_are_never_opened(tmp_path: Path) -> None:
    """They name a file, which FAISS opens to read and to write before anybody can look at its type."""
    index, file = made("IVF4,Flat"), tmp_path / "lists"
    lists = faiss.OnDiskInvertedLists(index.nlist, index.code_size, str(file))
    lists.merge_from(index.invlists, 0)
    index.replace_invlists(lists, False)
    data = written(index)
    del lists
    file.write_bytes(b"somebody's")
    before = file.stat()
    with pytest.raises(NotOurs):
        read_approximate(data, DIMENSIONS, len(VECTORS), mapped=True)
    assert file.stat() == before
    assert file.read_bytes() == b"somebody's"


@pytest.mark.parametrize(
    ("factory", "change"),
    [
        ("HNSW8_SQ8", lambda graph: graph.hnsw.neighbors),
        ("HNSW8_SQ8", lambda graph: graph.hnsw.offsets),
        ("HNSW8_SQ8", lambda graph: graph.hnsw.levels),
    ],
)
def test_a_graph_that_leads_out_of_memory_is_none(factory: str, change) -> None:
    index = made(factory)
    array = faiss.vector_to_array(change(index))
    array[3] = len(VECTORS) + 5
    faiss.copy_array_to_vector(array, change(index))
    with pytest.raises(NotOurs):
        read_approximate(written(index), DIMENSIONS, len(VECTORS), mapped=True)


def test_an_index_of_more_or_fewer_or_longer_vectors_is_another() -> None:
    data = written(made("IVF4,SQ8"))
    for dimensions, count in (
        (DIMENSIONS, len(VECTORS) + 1),
        (DIMENSIONS + 1, len(VECTORS)),
        (8, 0),
    ):
        with pytest.raises(NotOurs):
            read_approximate(data, dimensions, count, mapped=True)


@settings(max_examples=150)
@given(st.data())
def test_whatever_bytes_are_changed_nothing_but_an_index_comes_of_it(data: st.DataObject) -> None:
    changed = written(
        trained(data.draw(st.sampled_from(["HNSW8_SQ8", "IVF4,SQ8", "OPQ4,IVF4,PQ4x4"])))
    )
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, 400) | st.integers(0, len(changed) - 9))
        noise = data.draw(st.binary(min_size=1, max_size=8))
        changed[at : at + len(noise)] = np.frombuffer(noise, dtype=np.uint8)
    try:
        index = read_approximate(changed, DIMENSIONS, len(VECTORS), mapped=True)
    except NotOurs:
        return
    assert (index.d, index.ntotal) == (DIMENSIONS, len(VECTORS))
    index.search(VECTORS[:3], 10)


def flat(count: int = 5) -> np.ndarray:
    index = faiss.IndexScalarQuantizer(
        DIMENSIONS, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    if count:
        index.add(VECTORS[:count])
    return written(index)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_flat_codes_stay_where_they_are(count: int) -> None:
    data = flat(count)
    index = read_flat(data, DIMENSIONS, count)
    assert index.ntotal == count
    if count:
        codes = faiss.rev_swig_ptr(index.codes.data(), 1)
        assert codes.ctypes.data - data.ctypes.data == len(flat_prefix(DIMENSIONS, count))
        assert index.search(VECTORS[:1], 1)[1].tolist() == [[0]]


@pytest.mark.parametrize("at", range(len(flat_prefix(DIMENSIONS, 5))))
def test_a_flat_index_of_any_other_beginning_is_none(at: int) -> None:
    data = flat()
    data[at] ^= 1
    with pytest.raises(NotOurs):
        read_flat(data, DIMENSIONS, 5)


def test_flat_codes_that_were_cut_short_are_none() -> None:
    with pytest.raises(NotOurs):
        read_flat(flat()[:100], DIMENSIONS, 5)
