"""
The correction for hubs: some pictures are close to every text, and crowd out the ones that are meant.

What a picture scores with reference queries, texts of all kinds, tells how close it is to any text, and a
part of that is subtracted from its score for words:

    corrected score = score - WEIGHT * words * bias
    bias            = mean of the NEAREST highest scores of the picture with the reference queries

`words` is the weight of the words in the query, 1 if it has nothing else. After Querybank Normalisation
(Bogolin et al., CVPR 2022) and Nearest Neighbor Normalization (Chowdhury et al., EMNLP 2024), where the two
numbers are from.

A corrected score is an inner product too, if codes have the bias of their picture as one more component.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from ..store import Index
from ..store.code_dimensions import code_dimensions
from ..store.references import References

Rank = Literal["corrected", "cosine"]
"""The order of hits: by the corrected score, or by the score alone."""

WEIGHT = 0.5

NEAREST = 16

BLOCK = 2**22
"""Scores with reference queries that are in memory at once."""


def biases(references: References, vectors: np.ndarray) -> np.ndarray:
    """The bias of n vectors, shape (n, dimensions): shape (n,), in their precision, -1 to 1."""
    is_precise = vectors.dtype == np.float64
    texts = (references.precise if is_precise else references.vectors).T
    nearest = min(NEAREST, texts.shape[1])
    found = np.empty(len(vectors), dtype=vectors.dtype)
    rows = max(1, BLOCK // texts.shape[1])
    for start in range(0, len(vectors), rows):
        scores = vectors[start : start + rows] @ texts
        highest = np.partition(scores, texts.shape[1] - nearest, axis=1)[:, -nearest:]
        found[start : start + rows] = highest.mean(axis=1)
    return found


def with_biases(index: Index, references: References | None, vectors: np.ndarray) -> np.ndarray:
    """
    n vectors, shape (n, dimensions), as they are encoded: (n, code_dimensions), the bias and zeros last. If
    the references that an index names are lost, the bias is zero too, and nobody asks for it.
    """
    if not index.references_token:
        return vectors
    n, dimensions = vectors.shape
    widened = np.zeros((n, code_dimensions(index)), dtype=np.float32)
    widened[:, :dimensions] = vectors
    if references is not None:
        widened[:, dimensions] = biases(references, vectors)
    return widened


def ranking_vectors(
    index: Index, references: References | None, vectors: np.ndarray, words: np.ndarray
) -> np.ndarray:
    """
    m queries, shape (m, dimensions), as they are compared with codes: the inner product is the corrected
    score. `words` is the weight of the words in each, shape (m,). Without references, or words, the queries.
    """
    if references is None or not words.any():
        return vectors
    m, dimensions = vectors.shape
    widened = np.zeros((m, code_dimensions(index)), dtype=np.float32)
    widened[:, :dimensions] = vectors
    widened[:, dimensions] = -WEIGHT * words
    return widened


def corrected_scores(
    references: References | None, vectors: np.ndarray, scores: np.ndarray, ranking: np.ndarray
) -> np.ndarray:
    """
    The corrected scores of n vectors, shape (n, dimensions), with these scores, for one query, a row of
    ranking_vectors().
    """
    n, dimensions = vectors.shape
    if references is None or len(ranking) == dimensions or not n:
        return scores
    # Twice the precision that is kept: BLAS rounds a row as its place in the matrix has it, and copies must tie.
    of_any = biases(references, vectors.astype(np.float64)).astype(np.float32)
    return scores + ranking[dimensions] * of_any
