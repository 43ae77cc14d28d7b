"""The scores of byte codes are those of the vectors, to within the error that they tell, whatever the vectors are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasette_image_search.search import byte_codes
from datasette_image_search.search.byte_codes import (
    ByteCodes,
    encoder_for,
    read_byte_codes,
    width_of,
    written,
)
from datasette_image_search.search.faiss_files import NotOurs

from .random_tables import random_vectors


@pytest.fixture(autouse=True)
def of_any_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_codes, "SMALLEST", 1)
    monkeypatch.setattr(byte_codes, "LARGEST_RESIDUAL", 9.0)


def as_file(vectors: np.ndarray, block: int = 7) -> np.ndarray:
    """The bytes."""

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, len(vectors), block):
            yield vectors[start : start + block]

    encoder = encoder_for(blocks, *vectors.shape)
    content = b"".join(part.tobytes() for part in written(encoder, blocks))
    return np.frombuffer(content, np.uint8)


def byte_codes_of(vectors: np.ndarray) -> ByteCodes:
    n, dimensions = vectors.shape
    return read_byte_codes(as_file(vectors), dimensions, n)


def scores_of(vectors: np.ndarray, query: np.ndarray) -> tuple[np.ndarray, float]:
    """All scores by byte codes, and their error."""
    asked = byte_codes_of(vectors).asked(query)
    return asked.scores_at(np.arange(len(vectors))), asked.error


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def one_cone(n: int, dimensions: int) -> np.ndarray:
    return unit(random_vectors(n, dimensions) * 0.3 + random_vectors(1, dimensions, seed=8))


def along_the_axes(n: int, dimensions: int) -> np.ndarray:
    return np.eye(dimensions, dtype=np.float32)[np.arange(n) % dimensions] * np.float32(-1)


def copies(n: int, dimensions: int) -> np.ndarray:
    return np.repeat(random_vectors(1, dimensions), n, axis=0)


def uneven(n: int, dimensions: int) -> np.ndarray:
    """Few of so many that their sums lie far from the mean, farther than the bytes at the end can make up for."""
    vectors = one_cone(n, dimensions)
    vectors[::25] = np.float32(dimensions**-0.5)
    return vectors


def nearly_copies(n: int, dimensions: int) -> np.ndarray:
    return unit(copies(n, dimensions) + 1e-4 * random_vectors(n, dimensions))


@settings(max_examples=60, deadline=None)
@given(
    draw=st.sampled_from([random_vectors, one_cone, along_the_axes, copies, nearly_copies, uneven]),
    dimensions=st.sampled_from([1, 2, 7, 30, 31, 64, 65, 200]),
    n=st.integers(1, 60),
    seed=st.integers(0, 99),
    longer=st.booleans(),
)
def test_no_score_is_off_by_more_than_the_error(draw, dimensions, n, seed, longer) -> None:
    vectors = draw(n, dimensions)
    query = random_vectors(1, dimensions, seed=seed)[0]
    if longer:
        # As of words, with a bias.
        query[-1] = -0.7
    if seed % 5 == 0:
        query = vectors[0].copy()
    scores, error = scores_of(vectors, query)
    assert np.abs(scores - vectors.astype(np.float64) @ query).max() <= error


@settings(max_examples=30, deadline=None)
@given(
    draw=st.sampled_from([random_vectors, one_cone, copies, uneven]),
    n=st.integers(1, 60),
    seed=st.integers(0, 99),
    least=st.sampled_from([-9.0, -0.1, 0.0, 0.05, 0.3, 9.0]) | st.floats(-1, 1),
)
def test_all_that_reach_a_score_are_found(draw, n, seed, least) -> None:
    query = random_vectors(1, 65, seed=seed)[0]
    asked = byte_codes_of(draw(n, 65)).asked(query)
    all_scores = asked.scores_at(np.arange(n))
    if seed % 3 == 0:
        least = float(all_scores[seed % n])
    positions, scores = asked.reaching(least)
    assert np.array_equal(scores, all_scores[positions])
    assert np.isin(np.flatnonzero(all_scores >= least), positions).all()
    assert (scores >= least - 4 * asked.width).all()


def test_the_error_is_small_for_vectors_like_those_of_models() -> None:
    vectors = one_cone(500, 512)
    _, error = scores_of(vectors, random_vectors(1, 512, seed=1)[0])
    assert error < 0.02


def test_all_codes_have_the_same_sum_unless_some_lie_far_from_the_others() -> None:
    rows = byte_codes_of(one_cone(200, 512)).rows.astype(int)
    sums = rows[:, :512].sum(axis=1)
    assert np.ptp(sums) > 500
    assert np.ptp(sums + 2 * rows[:, 512:].sum(axis=1)) <= 1
    assert byte_codes_of(one_cone(200, 512)).uneven <= 1
    assert byte_codes_of(uneven(200, 512)).uneven > 1


def test_a_query_without_a_bias_leaves_the_last_components_aside() -> None:
    vectors = random_vectors(50, 80)
    query = random_vectors(1, 70, seed=1)[0]
    scores, error = scores_of(vectors, query)
    assert np.abs(scores - vectors[:, :70] @ query).max() <= error
    scores, error = scores_of(vectors, np.zeros(80, np.float32))
    assert np.abs(scores).max() <= error


@pytest.mark.parametrize(
    ("dimensions", "width"), [(1, 32), (30, 32), (31, 64), (512, 544), (528, 576), (768, 832)]
)
def test_a_code_has_a_multiple_of_32_bytes_and_some_for_its_sum(
    dimensions: int, width: int
) -> None:
    assert width_of(dimensions) == width
    assert byte_codes_of(random_vectors(3, dimensions)).rows.shape == (3, width)


def test_few_vectors_and_those_that_have_nothing_in_common_are_not_worth_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(byte_codes, "SMALLEST", 9600)
    monkeypatch.setattr(byte_codes, "LARGEST_RESIDUAL", 0.03)

    def worth(vectors: np.ndarray) -> bool:
        return encoder_for(lambda: iter([vectors]), *vectors.shape) is not None

    assert worth(one_cone(100, 64))
    assert not worth(one_cone(99, 64))
    assert not worth(np.concatenate([along_the_axes(512, 512), -along_the_axes(512, 512)]))
    # FAISS would add so many products up wrongly.
    monkeypatch.setattr(byte_codes, "MOST_DIMENSIONS", 64)
    assert not worth(one_cone(100, 65))
    assert worth(one_cone(100, 64))
    # As where a bit of a file was lost.
    assert not worth(np.full((100, 64), np.nan, np.float32))


def test_bytes_that_cannot_be_such_are_not_read() -> None:
    data = as_file(random_vectors(9, 70))
    assert len(read_byte_codes(data, 70, 9).rows) == 9
    nan = data.copy()
    nan[: 4 * 70].view("<f4")[3] = np.nan
    endless = data.copy()
    endless[4 * 70 : 8 * 70].view("<f4")[3] = np.inf
    measured = []
    for value in (np.nan, np.inf, -1.0):
        for at in range(-4, 0):
            measured.append(data.copy())
            measured[-1][-32:].view("<f8")[at] = value
    for damaged in (data[:-1], nan, endless, *measured):
        with pytest.raises(NotOurs):
            read_byte_codes(damaged, 70, 9)
    with pytest.raises(NotOurs):
        read_byte_codes(data, 70, 10)
