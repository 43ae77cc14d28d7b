"""Vectors -> points: what varies most is what is seen, the same each time and in whatever order."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasette_image_search.search import projection
from datasette_image_search.search.codes import encode
from datasette_image_search.search.live import LiveIndex
from datasette_image_search.search.projection import (
    known_pca_of_all,
    pca,
    pca_of_all,
    umap,
)
from datasette_image_search.search.umap_process import ProjectionError
from datasette_image_search.store.stored_vectors import StoredVectors

from .made_codes import INDEX
from .serving import HANGS


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def spread_vectors(n: int, dimensions: int = 16, seed: int = 0) -> np.ndarray:
    """Unit vectors, shape (n, dimensions), that differ less and less from axis to axis."""
    drawn = np.random.default_rng(seed).standard_normal((n, dimensions))
    return unit(drawn * 0.5 ** np.arange(dimensions) + np.eye(dimensions)[-1])


def live_of(*segments: np.ndarray) -> LiveIndex:
    """An index with these vectors, whose ids count from 1."""
    dimensions = segments[0].shape[1]
    index = replace(INDEX, dimensions=dimensions)
    parts, last = [], 0
    for vectors in segments:
        ids = np.arange(last + 1, last + 1 + len(vectors))
        last += len(vectors)
        stored = StoredVectors(ids, ids.tolist(), vectors)
        parts.append(encode(index, [stored]))
    return LiveIndex(index, tuple(parts), from_sidecar=False)


def everything(live: LiveIndex) -> np.ndarray:
    return np.arange(len(live))


# --- PCA ------------------------------------------------------------------------------------------


def test_the_points_are_those_of_numpys_own_decomposition() -> None:
    vectors = spread_vectors(200)
    points = pca(live_of(vectors), everything(live_of(vectors)))
    assert (points.shape, points.dtype) == ((200, 2), np.float32)
    _, _, axes = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    expected = (vectors - vectors.mean(axis=0)) @ axes[:2].T
    # The signs are not numpy's, and the codes are float16.
    assert np.abs(points) == pytest.approx(np.abs(expected), abs=2e-3)
    assert points.var(axis=0)[0] > points.var(axis=0)[1]


@settings(max_examples=30)
@given(st.integers(2, 60), st.integers(0, 2**32 - 1))
def test_the_order_of_the_vectors_is_nothing(n: int, seed: int) -> None:
    vectors = spread_vectors(n, seed=seed)
    order = np.random.default_rng(seed).permutation(n)
    one, other = live_of(vectors), live_of(vectors[order])
    # Of very few, the second axis may be any of several.
    axes = slice(0, 2 if n > 20 else 1)
    points, shuffled = pca(one, everything(one))[:, axes], pca(other, everything(other))[:, axes]
    assert shuffled == pytest.approx(points[order], abs=5e-3)


def test_segments_are_one_collection() -> None:
    vectors = spread_vectors(50)
    whole, parts = live_of(vectors), live_of(vectors[:30], vectors[30:30], vectors[30:])
    assert pca(parts, everything(parts)) == pytest.approx(pca(whole, everything(whole)), abs=1e-5)
    some = np.array([40, 3, 29, 30])
    assert parts.decoded(some) == pytest.approx(vectors[some], abs=1e-3)
    assert parts.positions_of(some + 1).tolist() == some.tolist()
    assert parts.positions_of(np.array([51, 0, 7])).tolist() == [-1, -1, 6]


def test_only_some_of_the_images() -> None:
    """Then the axes are theirs."""
    vectors = spread_vectors(60)
    some = np.arange(5, 60, 2)
    alone = live_of(vectors[some])
    points = pca(live_of(vectors), some)
    assert points == pytest.approx(pca(alone, everything(alone)), abs=1e-5)


def test_a_sample_of_many_has_the_same_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    live = live_of(spread_vectors(5000))
    points = pca(live, everything(live))
    monkeypatch.setattr(projection, "SAMPLE", 1000)
    sampled = pca(live, everything(live))
    for axis in (0, 1):
        assert np.corrcoef(points[:, axis], sampled[:, axis])[0, 1] > 0.99


@pytest.mark.parametrize(
    "vectors",
    [
        np.empty((0, 4), dtype=np.float32),
        unit(np.ones((1, 4))),
        unit(np.ones((9, 4))),
        np.ones((5, 1), dtype=np.float32),
    ],
    ids=["none", "one", "all the same", "one dimension"],
)
def test_what_does_not_differ_is_at_one_place(vectors: np.ndarray) -> None:
    points = pca(live_of(vectors), np.arange(len(vectors)))
    assert points.shape == (len(vectors), 2)
    assert points == pytest.approx(0, abs=1e-3)
    assert len(np.unique(points, axis=0)) <= 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -60_000, 0])
@pytest.mark.parametrize("damaged", [1, 20], ids=["one", "all"])
def test_damaged_codes_are_in_the_middle_and_move_no_other(value: float, damaged: int) -> None:
    vectors = spread_vectors(20)
    live = live_of(vectors)
    live.segments[0]._rows().view("<f2")[:damaged] = value
    points = pca(live, everything(live))
    assert points[:damaged] == pytest.approx(0, abs=1)
    sound = np.arange(damaged, 20)
    assert points[damaged:] == pytest.approx(pca(live_of(vectors), sound), abs=1e-5)


def test_a_projection_is_remembered_by_its_index_and_not_for_ever() -> None:
    live = live_of(spread_vectors(20))
    points = pca_of_all(live)
    assert pca_of_all(live) is points
    for _ in range(projection.KEPT_INDEXES):
        pca_of_all(replace(live, name=f"another {_}"))
    assert pca_of_all(live) is not points
    assert (pca_of_all(live) == points).all()


def test_a_projection_in_work_is_waited_for_by_those_who_want_it_and_by_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow, known, new = (live_of(spread_vectors(20, seed=seed)) for seed in range(3))
    pca_of_all(known)
    begun, may_end, computed = threading.Event(), threading.Event(), []

    def waiting(live: LiveIndex, positions: np.ndarray) -> np.ndarray:
        computed.append(live.name)
        if live is slow:
            begun.set()
            may_end.wait(HANGS)
        return pca(live, positions)

    monkeypatch.setattr(projection, "pca", waiting)
    with ThreadPoolExecutor(4) as threads:
        try:
            same = [threads.submit(pca_of_all, slow) for _ in range(2)]
            assert begun.wait(HANGS)
            for other in (known, new):
                threads.submit(pca_of_all, other).result(HANGS)
            assert known_pca_of_all(slow) is None
        finally:
            may_end.set()
    assert same[0].result() is same[1].result() is known_pca_of_all(slow)
    assert computed == [slow.name, new.name]


# --- UMAP -----------------------------------------------------------------------------------------


def test_umap_keeps_neighbours_together() -> None:
    pytest.importorskip("umap", exc_type=ImportError)
    rng = np.random.default_rng(0)
    centres = np.repeat(np.eye(3, 16), 5, axis=0)
    live = live_of(unit(centres + 0.05 * rng.standard_normal((15, 16))))
    told: list[tuple[str, int, int]] = []
    points = umap(live, everything(live), lambda *progress: told.append(progress))
    assert (points.shape, points.dtype) == ((15, 2), np.float32)
    doing, done, total = told[-1]
    assert (doing, done) == ("Placing", total)
    assert told[:2] == [("Finding neighbours", 0, 1), ("Placing", 0, total)]
    groups = points.reshape(3, 5, 2)
    within = np.linalg.norm(groups - groups.mean(axis=1, keepdims=True), axis=2).max()
    middles = groups.mean(axis=1)
    between = min(np.linalg.norm(middles[a] - middles[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert between > 2 * within
    assert (umap(live, everything(live)) == points).all()
    few = np.arange(5)
    assert umap(live, few) == pytest.approx(pca(live, few))
    assert umap(live, few[:0]).shape == (0, 2)


def test_umap_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    live = live_of(spread_vectors(20))
    with pytest.raises(ProjectionError, match=r"pip install 'datasette-image-search\[umap\]'"):
        umap(live, everything(live))
