"""Scores by float16 codes are those of the vectors, to within what float16 can tell."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasette_image_search.search import scanning
from datasette_image_search.search.codes import (
    CODE_ERROR,
    Codes,
    joined,
)
from datasette_image_search.search.scanning import LOWEST
from datasette_image_search.search.sidecar import open_sidecar, write_sidecar

from .made_codes import INDEX, make_codes
from .random_tables import random_vectors

DIMENSIONS = 24
VECTORS = random_vectors(1000, DIMENSIONS)
QUERIES = random_vectors(5, DIMENSIONS, seed=1)


def in_memory(folder: Path) -> Codes:
    return make_codes(VECTORS)


def mapped(folder: Path) -> Codes:
    index = replace(INDEX, dimensions=DIMENSIONS)
    write_sidecar(folder / "sidecar", index, make_codes(VECTORS))
    return open_sidecar(folder / "sidecar", index)


def joined_from_two(folder: Path) -> Codes:
    return joined(make_codes(VECTORS[:300]), make_codes(VECTORS[300:], first=301))


def joined_from_none_and_all(folder: Path) -> Codes:
    return joined(make_codes(VECTORS[:0]), make_codes(VECTORS))


@pytest.fixture(params=[in_memory, mapped, joined_from_two, joined_from_none_and_all])
def codes(request: pytest.FixtureRequest, tmp_path: Path) -> Codes:
    return request.param(tmp_path)


@pytest.mark.parametrize("parallel", [1, 7, 333, 999, 1000, 10**6])
def test_all_scores_are_the_products_however_they_are_shared_out(
    codes: Codes, monkeypatch: pytest.MonkeyPatch, parallel: int
) -> None:
    monkeypatch.setattr(scanning, "PARALLEL", parallel)
    for query in QUERIES:
        assert np.abs(codes.scores(query) - VECTORS @ query).max() < codes.error(query)


@pytest.mark.parametrize("parallel", [1, 333, 10**6])
def test_only_higher_scores_are_kept(monkeypatch: pytest.MonkeyPatch, parallel: int) -> None:
    monkeypatch.setattr(scanning, "PARALLEL_ABOVE", parallel)
    codes = make_codes(VECTORS)
    all_scores = codes.scores(QUERIES[0])
    for least in (-2.0, float(np.median(all_scores)), 2.0):
        positions, scores = scanning.scores_above(
            codes.faiss_index, QUERIES[0], scanning.rows_of(codes.faiss_index), least
        )
        assert positions.tolist() == np.flatnonzero(all_scores > least).tolist()
        assert np.array_equal(scores, all_scores[positions])


def test_the_nearest_are_those_of_the_highest_scores(codes: Codes) -> None:
    scores, positions = codes.nearest(QUERIES, 50)
    exact = QUERIES @ VECTORS.T
    assert np.abs(np.take_along_axis(exact, positions, axis=1) - scores).max() < CODE_ERROR
    assert np.abs(scores - -np.sort(-exact, axis=1)[:, :50]).max() < CODE_ERROR


def test_the_nearest_of_a_few_are_those(codes: Codes) -> None:
    chosen = np.zeros(len(codes), dtype=bool)
    chosen[[3, 500, 999]] = True
    _, positions = codes.nearest(QUERIES, 5, chosen)
    for row in positions:
        assert sorted(row[:3].tolist()) == [3, 500, 999]
        assert row[3:].tolist() == [-1, -1]


def test_what_is_decoded_is_what_was_encoded(codes: Codes) -> None:
    positions = np.array([999, 0, 0, 412])
    assert np.array_equal(codes.decoded(positions), VECTORS[positions].astype("<f2").astype("<f4"))
    scores = codes.scores_at(positions, QUERIES[0])
    assert np.abs(scores - VECTORS[positions] @ QUERIES[0]).max() < CODE_ERROR
    assert np.array_equal(codes.scores_at(positions[:0], QUERIES[0]), np.empty(0, np.float32))
    assert np.array_equal(codes.vector_ids, np.arange(1, 1001))
    assert np.array_equal(codes.image_ids, np.arange(1, 1001))


def test_the_scores_of_some_are_those_of_all_however_many_are_read_at_once(
    codes: Codes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "PARALLEL", 70)
    monkeypatch.setattr(scanning, "PICKED", 7 * codes.faiss_index.code_size)
    positions = np.arange(999, 0, -3)
    assert np.array_equal(
        codes.scores_at(positions, QUERIES[0]), codes.scores(QUERIES[0])[positions]
    )


def test_no_vectors_have_no_scores() -> None:
    none = make_codes(VECTORS[:0])
    assert len(none) == len(none.scores(QUERIES[0])) == 0
    scores, positions = none.nearest(QUERIES, 5)
    assert scores.shape == positions.shape == (5, 0)
    assert joined(none, none).vector_ids.tolist() == []


@pytest.mark.parametrize("dimensions", [1, 2, 3, 7, 8, 33, 512])
def test_any_number_of_dimensions_is_scored(dimensions: int) -> None:
    vectors, query = random_vectors(90, dimensions), random_vectors(1, dimensions, seed=2)[0]
    assert np.abs(make_codes(vectors).scores(query) - vectors @ query).max() < CODE_ERROR


def test_a_code_that_is_no_number_disturbs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a bit of the file was lost."""
    monkeypatch.setattr(scanning, "PARALLEL", 300)
    vectors = VECTORS.copy()
    vectors[[0, 450, 999]] = np.nan
    scores = make_codes(vectors).scores(QUERIES[0])
    sound = np.isfinite(vectors).all(axis=1)
    assert (scores[~sound] == LOWEST).all()
    assert np.abs(scores[sound] - vectors[sound] @ QUERIES[0]).max() < CODE_ERROR


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is measured by /proc")
def test_hundreds_of_searches_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "PARALLEL", 20_000)
    codes = make_codes(random_vectors(40_000, 8))
    chosen = np.arange(len(codes)) % 2 == 0

    def megabytes_after(searches: int) -> float:
        for _ in range(searches):
            codes.scores(QUERIES[0, :8])
            codes.nearest(QUERIES[:, :8], 3, chosen)
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

    before = megabytes_after(50)
    # One search has 0.6 MB in hand.
    assert megabytes_after(300) - before < 20
