"""The best by codes in bytes are those that the longer codes have for the best, in the same order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasette_image_search.search import all_scores, byte_codes
from datasette_image_search.search.all_scores import AllScores
from datasette_image_search.search.byte_codes import Asked
from datasette_image_search.search.live import LiveIndex
from datasette_image_search.search.sidecar import open_sidecar, write_sidecar

from .made_codes import INDEX, make_codes
from .random_tables import random_vectors

DIMENSIONS = 48
QUERIES = random_vectors(12, DIMENSIONS, seed=1)


def alike(n: int, apart: float) -> np.ndarray:
    """Vectors of which hundreds have scores closer than the error of a byte code."""
    near = np.repeat(random_vectors(8, DIMENSIONS), -(-n // 8), axis=0)[:n]
    vectors = near + apart * random_vectors(n, DIMENSIONS, seed=2)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(params=[None, 1e-6, 3e-4, 1e-3], ids=str)
def live(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LiveIndex]:
    """From a sidecar with 900 vectors, and 100 that are newer."""
    monkeypatch.setattr(byte_codes, "SMALLEST", 1)
    monkeypatch.setattr(byte_codes, "LARGEST_RESIDUAL", 9.0)
    vectors = alike(1000, request.param) if request.param else random_vectors(1000, DIMENSIONS)
    index = replace(INDEX, dimensions=DIMENSIONS)
    write_sidecar(tmp_path / "sidecar", index, make_codes(vectors[:900]))
    first = open_sidecar(tmp_path / "sidecar", index)
    assert first.in_bytes is not None
    return LiveIndex(index, (first, make_codes(vectors[900:], first=901)), from_sidecar=True)


@pytest.mark.parametrize(("costly", "hopeless"), [(0.0, 0.0), (0.1, 0.02), (0.1, 1.0), (1.0, 1.0)])
@pytest.mark.parametrize("n", [1, 5, 100, 1000, 5000])
def test_the_best_are_the_best(
    live: LiveIndex, n: int, costly: float, hopeless: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(all_scores, "COSTLY", costly)
    monkeypatch.setattr(all_scores, "HOPELESS", hopeless)
    for query in QUERIES:
        right = live.scores(query)
        scores, positions = AllScores(live, query).best(n)
        assert np.array_equal(scores, np.sort(right)[::-1][:n])
        assert np.array_equal(right[positions], scores)
        assert len(set(positions.tolist())) == min(n, 1000)


def test_the_best_among_some_are_the_best_of_these(live: LiveIndex) -> None:
    among = np.arange(0, 1000, 3)
    for query in QUERIES:
        right = live.scores(query)
        of_all = AllScores(live, query)
        for few in (among, among[::40], among[:0], np.argsort(right)[:300]):
            for n in (1, 20, 2000):
                scores, positions = of_all.best(n, few)
                assert np.array_equal(scores, np.sort(right[few])[::-1][:n])
                assert np.isin(positions, few).all()


def test_of_a_few_no_others_are_looked_at(live: LiveIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LiveIndex, "scores", lambda *_: pytest.fail("all were"))
    monkeypatch.setattr(Asked, "reaching", lambda *_: pytest.fail("the bytes of all were"))
    AllScores(live, QUERIES[0]).best(20, np.arange(0, 1000, 8))


@pytest.mark.filterwarnings("error")
def test_a_longer_code_that_is_no_number_comes_last(live: LiveIndex) -> None:
    """A large file is not read as a whole before it is searched: bytes do not tell that something else is damaged."""
    damaged = alike(900, 1e-3)
    damaged[::2] = np.nan
    first = replace(live.segments[0], faiss_index=make_codes(damaged).faiss_index)
    damaged_live = replace(live, segments=(first, live.segments[1]))
    for query in QUERIES:
        right = np.sort(damaged_live.scores(query))[::-1]
        for n in (1, 20, 1000):
            scores, positions = AllScores(damaged_live, query).best(n)
            assert len(set(positions.tolist())) == n
            if n == 1000:
                assert np.array_equal(scores, right)


@pytest.mark.parametrize("sample", [1, 3, 5000])
def test_more_and_more_of_the_best_are_the_best_whatever_a_sample_tells(
    live: LiveIndex, sample: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(all_scores, "COSTLY", 1.0)
    monkeypatch.setattr(all_scores, "HOPELESS", 1.0)
    monkeypatch.setattr(all_scores, "SAMPLE", sample)
    for query in QUERIES:
        right = np.sort(live.scores(query))[::-1]
        of_all = AllScores(live, query)
        for n in (1, 20, 100, 7, 600):
            scores, positions = of_all.best(n)
            assert np.array_equal(scores, right[:n])
            assert len(set(positions.tolist())) == n


@pytest.mark.parametrize("costly", [0.0, 0.1, 1.0])
def test_scores_are_divided_as_the_longer_codes_have_them(
    live: LiveIndex, costly: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(all_scores, "COSTLY", costly)
    for query in QUERIES[:4]:
        right = live.scores(query)
        for high in (*np.quantile(right, [0.0, 0.3, 0.97]).tolist(), right[7], 2.0):
            found, between = AllScores(live, query).divided(high - 1e-3, high)
            assert np.array_equal(found, right >= high)
            assert (
                between.tolist() == np.flatnonzero((right < high) & (right >= high - 1e-3)).tolist()
            )


def test_only_codes_that_may_be_among_the_best_are_looked_at(
    live: LiveIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LiveIndex, "scores", lambda *_: pytest.fail("all were"))
    monkeypatch.setattr(all_scores, "COSTLY", 1.0)
    for query in QUERIES:
        AllScores(live, query).best(20)


def test_bytes_are_not_read_if_too_many_are_asked_for(
    live: LiveIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Asked, "reaching", lambda *_: pytest.fail("they were"))
    for n in (21, 1000):
        AllScores(live, QUERIES[0]).best(n)
    monkeypatch.setattr(all_scores, "MOST", 5)
    AllScores(live, QUERIES[0]).best(6)
