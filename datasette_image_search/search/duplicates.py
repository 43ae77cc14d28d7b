"""
Groups of images that are near-duplicates: the same bytes, or vectors with a score of at least a
threshold. Groups are connected components: where A is like B and B like C, all three are one group,
however little A is like C.

Each pair is compared, in blocks, and none is missed. What makes that fast is a bound: on the
leading principal axes of the vectors a score is known, and what is left of two vectors adds at most
the product of their lengths (Cauchy-Schwarz). So one vector of HEAD axes and one length stands for
each, and only the few pairs whose bound reaches the threshold are looked at in full.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import store
from ..errors import ImageSearchError
from ..store import DuplicateRow, Filter, Index, Picture

HEAD = 95
"""Axes on which all pairs are compared: of CLIP vectors these hold nine tenths of the length, and
few pairs pass whose score is far below."""

ROWS, COLUMNS = 2048, 4096
"""A block of pairs: 32 MiB of bounds."""

SAMPLE = 8192
"""Vectors that the axes are computed from. Any axes give a true bound, good ones a tight one."""

CHUNK = 10_000
"""Vectors that are read at once."""

ROUNDING = 1e-5
"""More than float32 can be wrong about a bound."""

VectorsAt = Callable[[np.ndarray], np.ndarray]
"""Positions, shape (n,) -> their vectors, shape (n, dimensions), float32."""


class ThresholdError(ImageSearchError):
    """A threshold that is no score."""


@dataclass(frozen=True)
class Compared:
    """How many pairs of images are done, of how many."""

    done: int
    total: int


@dataclass(frozen=True)
class Duplicate:
    """An image of a group, its score to the first one, and whether it has the same bytes as that."""

    picture: Picture
    score: float
    exact: bool


@dataclass(frozen=True)
class Found:
    """
    Groups of two images or more, in the order of the paths of their first ones. The first of a group
    is the one to keep: the most pixels, then the most bytes, then the oldest. The others follow by
    score. `images` is how many were compared.
    """

    groups: tuple[tuple[Duplicate, ...], ...]
    images: int


def find_duplicates(
    conn: sqlite3.Connection,
    index: Index,
    threshold: float,
    filter: Filter | None = None,
    show: Callable[[Compared], None] = lambda compared: None,
) -> Found:
    """
    All groups among the images that pass the filter. A threshold of 1 is for exact copies only.

    Takes time with the square of the number of images, and about 0.5 kB of memory for each.

    Raises ThresholdError, and FilterError where SQLite does not take the filter.
    """
    if not 0 < threshold <= 1:
        raise ThresholdError(
            f"the threshold is {threshold:g}; it must be above 0 and at most 1, such as 0.95"
        )
    copies = store.vectors_by_content(conn, index, filter)
    ids = np.array([id for id, _ in copies], dtype=np.int64)
    is_first = np.array([not is_copy for _, is_copy in copies], dtype=bool)
    content = np.cumsum(is_first) - 1
    labels = np.arange(is_first.sum())
    if threshold < 1:
        # In the order of their ids, the order in which the database has the vectors.
        order = np.argsort(ids[is_first])
        vectors_at = _reader(conn, index, ids[is_first][order])
        labels[order] = connected(vectors_at, len(order), threshold, show)
    labels = labels[content]
    _, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    several = sizes[inverse] > 1
    return Found(_groups(conn, index, ids[several], labels[several]), len(ids))


def rows_of(found: Found) -> Iterator[DuplicateRow]:
    """As the table of duplicates has them."""
    for number, group in enumerate(found.groups, start=1):
        for duplicate in group:
            picture = duplicate.picture
            yield DuplicateRow(
                group_id=number,
                image_id=picture.image_id,
                score=duplicate.score,
                exact=duplicate.exact,
                keep=duplicate is group[0],
                sha256=picture.sha256,
            )


def _reader(conn: sqlite3.Connection, index: Index, vector_ids: np.ndarray) -> VectorsAt:
    """Reads vectors by their position in `vector_ids`, which ascend."""

    def vectors_at(positions: np.ndarray) -> np.ndarray:
        ids = vector_ids[positions]
        stored = store.vectors_by_id(conn, index, ids.tolist())
        # One that was deleted meanwhile stays zero, and is like nothing.
        vectors = np.zeros((len(ids), index.dimensions), dtype=np.float32)
        order = np.argsort(ids)
        vectors[order[np.searchsorted(ids, stored.vector_ids, sorter=order)]] = stored.vectors
        return vectors

    return vectors_at


# --- Vectors -> connected components ---------------------------------------------------------------


def connected(
    vectors_at: VectorsAt,
    n: int,
    threshold: float,
    show: Callable[[Compared], None] = lambda compared: None,
) -> np.ndarray:
    """
    The connected components of n vectors, two of which are joined by a score of at least
    `threshold`. Shape (n,), int64: for each position the lowest one of its component.

    `vectors_at` must answer up to CHUNK positions, without repetition, in any order.
    """
    parents = np.arange(n)
    heads = _heads(vectors_at, n)
    memory = np.empty(ROWS * COLUMNS, dtype=np.float32)
    total = n * (n - 1) // 2
    for start in range(0, n, ROWS):
        rows = np.arange(start, min(start + ROWS, n))
        for first in range(0, rows[-1] + 1, COLUMNS):
            columns = np.arange(first, min(first + COLUMNS, rows[-1] + 1))
            # Into the same memory each time: new memory costs more than the product itself.
            bounds = memory[: len(rows) * len(columns)].reshape(len(rows), len(columns))
            np.matmul(heads[start : rows[-1] + 1], heads[first : columns[-1] + 1].T, out=bounds)
            of_rows = bounds.max(axis=1) >= threshold - ROUNDING
            if of_rows.any():
                near = bounds[of_rows] >= threshold - ROUNDING
                _join_block(parents, rows[of_rows], columns, near, vectors_at, threshold)
            done = start * (start - 1) // 2 + len(rows) * int(columns[-1] + 1)
            show(Compared(min(done, total), total))
    return _roots(parents, np.arange(n))


def _heads(vectors_at: VectorsAt, n: int) -> np.ndarray:
    """
    Shape (n, up to HEAD + 1): each vector on the leading axes, and the length of the rest of it. The
    product of two is at least their score.
    """
    sample = np.sort(np.random.default_rng(0).permutation(n)[:SAMPLE])
    known = vectors_at(sample)
    # Eigenvectors come in the order of their eigenvalues, the largest last.
    axes = np.linalg.eigh(known.T @ known)[1][:, -HEAD:]
    heads = np.empty((n, axes.shape[1] + 1), dtype=np.float32)
    for start in range(0, n, CHUNK):
        vectors = vectors_at(np.arange(start, min(start + CHUNK, n)))
        head = vectors @ axes
        rest = np.einsum("ij,ij->i", vectors, vectors) - np.einsum("ij,ij->i", head, head)
        heads[start : start + CHUNK, :-1] = head
        # A rest of nearly nothing is mostly rounding, which the root of it would magnify.
        heads[start : start + CHUNK, -1] = np.sqrt(np.maximum(rest, 0) + 1e-6)
    return heads


def _join_block(
    parents: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    near: np.ndarray,
    vectors_at: VectorsAt,
    threshold: float,
) -> None:
    """
    Join what the full vectors say is alike, of the pairs `near`, shape (rows, columns), that are not
    in one component yet.
    """
    rows, columns, near = _trim(rows, columns, near)
    near &= _roots(parents, rows)[:, None] != _roots(parents, columns)[None, :]
    rows, columns, near = _trim(rows, columns, near)
    if not len(rows):
        return
    scores = vectors_at(rows) @ vectors_at(columns).T
    at_rows, at_columns = np.nonzero(near & (scores >= threshold))
    # In parts: of a million pairs that are all alike, the first few thousand join the most.
    for start in range(0, len(at_rows), CHUNK):
        part = slice(start, start + CHUNK)
        _join(parents, rows[at_rows[part]], columns[at_columns[part]])


def _trim(
    rows: np.ndarray, columns: np.ndarray, pairs: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Less the rows and columns of `pairs`, shape (rows, columns), in which none is true."""
    of_rows, of_columns = pairs.any(axis=1), pairs.any(axis=0)
    return rows[of_rows], columns[of_columns], pairs[np.ix_(of_rows, of_columns)]


def _join(parents: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
    """Union of each left[i] with right[i], in `parents` (union-find); the lower root stays."""
    while True:
        left, right = _roots(parents, left), _roots(parents, right)
        apart = left != right
        if not apart.any():
            return
        left, right = left[apart], right[apart]
        np.minimum.at(parents, np.maximum(left, right), np.minimum(left, right))


def _roots(parents: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """The root of each node; paths are halved on the way."""
    while True:
        above = parents[nodes]
        if (above == nodes).all():
            return nodes
        parents[nodes] = parents[above]
        nodes = above


# --- Components -> groups --------------------------------------------------------------------------


def _groups(
    conn: sqlite3.Connection, index: Index, ids: np.ndarray, labels: np.ndarray
) -> tuple[tuple[Duplicate, ...], ...]:
    pictures = store.pictures(conn, index, ids.tolist())
    members: dict[int, list[Picture]] = {}
    for id, label in zip(ids.tolist(), labels.tolist(), strict=True):
        # A row may have been deleted since its vector was compared.
        if id in pictures:
            members.setdefault(label, []).append(pictures[id])
    ranked = [sorted(group, key=_worth) for group in members.values() if len(group) > 1]
    ranked.sort(key=lambda group: (group[0].location.path, group[0].location.root))
    scores = _scores_to_the_first(conn, index, ranked)
    return tuple(
        tuple(sorted(_duplicates(group, scores), key=lambda one: one.score, reverse=True))
        for group in ranked
    )


def _worth(picture: Picture) -> tuple[Any, ...]:
    """Sorts the picture to keep first."""
    area = (picture.width or 0) * (picture.height or 0)
    return -area, -(picture.size or 0), picture.mtime or "", picture.image_id


def _duplicates(group: list[Picture], scores: dict[int, float]) -> list[Duplicate]:
    first = group[0]
    duplicates = [Duplicate(first, 1.0, exact=False)]
    for picture in group[1:]:
        exact = first.sha256 is not None and picture.sha256 == first.sha256
        # A rounded score of more than 1 would sort before the first.
        score = 1.0 if exact else min(1.0, scores[picture.vector_id])
        duplicates.append(Duplicate(picture, score, exact))
    return duplicates


def _scores_to_the_first(
    conn: sqlite3.Connection, index: Index, groups: list[list[Picture]]
) -> dict[int, float]:
    """Vector id -> score to the first picture of its group."""
    pairs = [(one.vector_id, group[0].vector_id) for group in groups for one in group[1:]]
    scores: dict[int, float] = {}
    for start in range(0, len(pairs), CHUNK):
        ids, inverse = np.unique(pairs[start : start + CHUNK], return_inverse=True)
        vectors = _reader(conn, index, ids)(np.arange(len(ids)))
        left, right = inverse.reshape(-1, 2).T
        products = np.einsum("ij,ij->i", vectors[left], vectors[right])
        scores.update(zip(ids[left].tolist(), products.tolist(), strict=True))
    return scores
