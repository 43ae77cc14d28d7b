"""
Groups of images that are near-duplicates: the same bytes, or vectors with a score of at least a
threshold. Groups are stars: every image of a group is that similar to its best one, which is the one to
keep. If A is like B and B like C, but A is not like C, then C is in another group or in none.

Each pair is compared, in blocks, and none is missed. A bound makes this fast: the score on the leading
principal axes is known, and the rests of two vectors add at most the product of their lengths
(Cauchy-Schwarz). So one vector of HEAD axes and one length stands for each, and only the few pairs whose
bound reaches the threshold are looked at in full.

Films are compared with films only: a picture is no copy of a film that shows it. One vector stands for a film, the
mean of its scenes, with one more component that makes it of unit length: films with equal means have an equal variety
of scenes, or a lower score.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..checked import check_share
from ..progress import Report, silent
from ..store import Filter, Index
from ..store.duplicates import ImageFile, image_files
from ..store.filters import vectors_by_content
from ..store.tables import DuplicateRow
from ..store.vectors import film_ids, vectors_by_id

HEAD = 95
"""Axes on which all pairs are compared. They hold nine tenths of the length of CLIP vectors, and let few
pairs with a much lower score pass."""

ROWS, COLUMNS = 2048, 4096
"""A block of pairs: 32 MiB of bounds."""

SAMPLE = 8192
"""Vectors that the axes are computed from. Any axes give a true bound, good ones a tight one."""

CHUNK = 10_000
"""Vectors that are read at once."""

ROUNDING = 1e-5
"""An upper limit for the rounding error of a bound in float32."""

VectorsAt = Callable[[np.ndarray], np.ndarray]
"""Positions, shape (n,) -> their vectors, shape (n, dimensions), float32."""

Reader = Callable[[np.ndarray], VectorsAt]
"""The ids of vectors -> what reads them by their positions among these."""


@dataclass(frozen=True)
class Duplicate:
    """An image of a group, its score to the first one, and whether it has the same bytes as that."""

    image: ImageFile
    score: float
    exact: bool


@dataclass(frozen=True)
class DuplicateGroups:
    """
    Groups of two images or more, in the order of the paths of their first ones; no image is in two. The
    first of a group is the one to keep: the most pixels, then the most bytes, then the oldest. The others
    follow by score, which is at least the threshold. `images` is the number compared. `chained` is the
    length of the largest chain in which each is like the next but not all are like one. `written` is the
    table that has the groups, None if they were not written.
    """

    groups: tuple[tuple[Duplicate, ...], ...]
    images: int
    chained: int = 0
    written: str | None = None


def find_duplicates(
    conn: sqlite3.Connection,
    index: Index,
    threshold: float,
    filter: Filter | None = None,
    report: Report = silent,
) -> DuplicateGroups:
    """
    All groups among the images that pass the filter. A threshold of 1 is for exact copies only.

    Takes time with the square of the number of images, and about 0.5 kB of memory for each.

    Raises ImageSearchError for another threshold, and FilterError if SQLite refuses the filter.
    """
    check_share("the threshold", threshold, such_as=0.95)
    copies = vectors_by_content(conn, index, filter)
    ids = np.array([id for id, _ in copies], dtype=np.int64)
    is_first = np.array([not is_copy for _, is_copy in copies], dtype=bool)
    content = np.cumsum(is_first) - 1
    labels = np.arange(is_first.sum())
    firsts = ids[is_first]
    is_film = np.isin(firsts, film_ids(conn, index) if threshold < 1 else [])
    reader: Reader = partial(_reader, conn, index, dimensions=index.dimensions + int(is_film.any()))
    if threshold < 1:
        for kind in (~is_film, is_film):
            # In the order of their ids, the order in which the database has the vectors.
            order = np.flatnonzero(kind)
            order = order[np.argsort(firsts[order])]
            labels[order] = order[connected(reader(firsts[order]), len(order), threshold, report)]
    labels = labels[content]
    _, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    several = sizes[inverse] > 1
    images = image_files(conn, index, ids[several].tolist())
    groups, chained = _groups(
        reader, images, ids[several], content[several], labels[several], threshold
    )
    return DuplicateGroups(groups, len(ids), chained)


def scores_of(
    conn: sqlite3.Connection, index: Index, pairs: Sequence[tuple[int, int]]
) -> list[float]:
    """The scores of pairs of vectors by their ids, at most 1, and 0 if a vector is gone; up to CHUNK // 2 pairs."""
    if not pairs:
        return []
    ids, at = np.unique(np.array(pairs, dtype=np.int64), return_inverse=True)
    vectors = _reader(conn, index, ids, dimensions=index.dimensions + 1)(np.arange(len(ids)))
    first, second = vectors[at.reshape(-1, 2)].transpose(1, 0, 2)
    scores: list[float] = np.minimum(np.einsum("ij,ij->i", first, second), 1).tolist()
    return scores


def rows_of(found: DuplicateGroups) -> Iterator[DuplicateRow]:
    """The rows for the table of duplicates."""
    for number, group in enumerate(found.groups, start=1):
        for duplicate in group:
            image = duplicate.image
            yield DuplicateRow(
                group_id=number,
                image_id=image.image_id,
                score=duplicate.score,
                exact=duplicate.exact,
                keep=duplicate is group[0],
                sha256=image.sha256,
            )


def _reader(
    conn: sqlite3.Connection, index: Index, vector_ids: np.ndarray, *, dimensions: int
) -> VectorsAt:
    """Reads vectors by their position in `vector_ids`; zeros fill those of an index of fewer dimensions."""

    def vectors_at(positions: np.ndarray) -> np.ndarray:
        ids = vector_ids[positions]
        stored = vectors_by_id(conn, index, ids.tolist())
        # A vector that was deleted meanwhile stays zero, and is like no other.
        vectors = np.zeros((len(ids), dimensions), dtype=np.float32)
        order = np.argsort(ids)
        starts = stored.starts()
        there = stored.vector_ids[starts]
        at = order[np.searchsorted(ids, there, sorter=order)]
        if len(starts) == len(stored.vectors):
            vectors[at, : index.dimensions] = stored.vectors
        else:
            vectors[at] = _of_films(stored.vectors, starts)
        return vectors

    return vectors_at


def _of_films(vectors: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The mean of each part of some vectors, which begin at `starts`, and what it lacks of the length 1."""
    counts = np.diff(np.append(starts, len(vectors)))
    means = np.add.reduceat(vectors, starts) / counts[:, None]
    lacking = np.maximum(1 - np.einsum("ij,ij->i", means, means), 0)
    return np.column_stack([means, np.sqrt(lacking)])


# --- Vectors -> connected components ---------------------------------------------------------------


def connected(
    vectors_at: VectorsAt,
    n: int,
    threshold: float,
    report: Report = silent,
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
            # Reuses the memory, because allocating costs more than the product itself.
            bounds = memory[: len(rows) * len(columns)].reshape(len(rows), len(columns))
            np.matmul(heads[start : rows[-1] + 1], heads[first : columns[-1] + 1].T, out=bounds)
            of_rows = bounds.max(axis=1) >= threshold - ROUNDING
            if of_rows.any():
                near = bounds[of_rows] >= threshold - ROUNDING
                _join_block(parents, rows[of_rows], columns, near, vectors_at, threshold)
            done = start * (start - 1) // 2 + len(rows) * int(columns[-1] + 1)
            report("Comparing", min(done, total), total)
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
    Join the pairs of `near`, shape (rows, columns), that are not in one component yet and are alike by
    their full vectors.
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


# --- Components -> stars ---------------------------------------------------------------------------


def stars(vectors_at: VectorsAt, n: int, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """
    For each of n vectors, the best first, the position of the one that it is a copy of, and its score
    to that: the first one that is no copy itself and to which it has a score of at least `threshold`,
    or else itself.

    `vectors_at` must answer up to CHUNK positions, without repetition, in any order.
    """
    kept = np.full(n, -1)
    scores = np.ones(n)
    for start in range(0, n, ROWS):
        free = start + np.flatnonzero(kept[start : start + ROWS] < 0)
        if not len(free):
            continue
        vectors = vectors_at(free)
        among = vectors @ vectors.T
        centres = []
        for at, position in enumerate(free.tolist()):
            if kept[position] < 0:
                near = (kept[free] < 0) & (among[at] >= threshold)
                kept[free[near]], scores[free[near]] = position, among[at, near]
                kept[position], scores[position] = position, 1
                centres.append(at)
        for first in range(start + ROWS, n, CHUNK):
            later = first + np.flatnonzero(kept[first : first + CHUNK] < 0)
            if len(later):
                to_centres = vectors_at(later) @ vectors[centres].T
                near = to_centres >= threshold
                nearest = near.argmax(axis=1)
                found = near.any(axis=1)
                kept[later[found]] = free[centres][nearest[found]]
                scores[later[found]] = to_centres[found, nearest[found]]
    return kept, scores


# --- Stars -> groups -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Content:
    """Images of the same bytes, the best first, so with the same vector."""

    images: list[ImageFile]

    @property
    def vector_id(self) -> int:
        return self.images[0].vector_id


def _groups(
    reader: Reader,
    images: Mapping[int, ImageFile],
    ids: np.ndarray,
    contents: np.ndarray,
    labels: np.ndarray,
    threshold: float,
) -> tuple[tuple[tuple[Duplicate, ...], ...], int]:
    """
    The groups of some vectors, of which those of one content, and of one component, have a number; and
    how many images the largest component has that is more than one star.
    """
    members: dict[int, dict[int, list[ImageFile]]] = {}
    for id, content, label in zip(ids.tolist(), contents.tolist(), labels.tolist(), strict=True):
        # A row may have been deleted since its vector was compared.
        if id in images:
            members.setdefault(label, {}).setdefault(content, []).append(images[id])
    components = [
        sorted(
            (_Content(sorted(each, key=_worth)) for each in component.values()),
            key=lambda content: _worth(content.images[0]),
        )
        for component in members.values()
    ]
    groups: list[tuple[Duplicate, ...]] = []
    chained = 0
    for component, kept, scores in _stars_of(reader, components, threshold):
        groups += (group for group in _of_component(component, kept, scores) if len(group) > 1)
        if kept.any():
            chained = max(chained, sum(len(content.images) for content in component))
    places = [group[0].image.location for group in groups]
    order = sorted(range(len(groups)), key=lambda at: (places[at].path, places[at].root))
    return tuple(groups[at] for at in order), chained


def _stars_of(
    reader: Reader,
    components: Sequence[Sequence[_Content]],
    threshold: float,
) -> Iterator[tuple[Sequence[_Content], np.ndarray, np.ndarray]]:
    """Each component with its stars(). Those that are small, as nearly all are, are read together."""
    for component in components:
        if len(component) == 1:
            yield component, np.zeros(1, dtype=np.int64), np.ones(1)
    components = [component for component in components if len(component) > 1]
    at = 0
    while at < len(components):
        end, size = at + 1, len(components[at])
        while end < len(components) and size + len(components[end]) <= CHUNK:
            size += len(components[end])
            end += 1
        part = components[at:end]
        ids = np.array([content.vector_id for component in part for content in component])
        vectors_at = reader(ids)
        if size <= CHUNK:
            vectors_at = vectors_at(np.arange(size)).__getitem__
        start = 0
        for component in part:
            yield component, *stars(_shifted(vectors_at, start), len(component), threshold)
            start += len(component)
        at = end


def _shifted(vectors_at: VectorsAt, by: int) -> VectorsAt:
    return lambda positions: vectors_at(positions + by)


def _of_component(
    component: Sequence[_Content], kept: np.ndarray, scores: np.ndarray
) -> Iterator[tuple[Duplicate, ...]]:
    """The groups of a component, also of one image: the one to keep, its copies, and the rest by score."""
    groups: dict[int, list[Duplicate]] = {}
    for at in np.lexsort([np.arange(len(component)), -scores, kept]).tolist():
        centre = int(kept[at])
        if at == centre:
            continue
        # A rounded score of more than 1 would sort before the first.
        score = min(1.0, float(scores[at]))
        others = [Duplicate(image, score, exact=False) for image in component[at].images]
        groups.setdefault(centre, []).extend(others)
    for centre in np.flatnonzero(kept == np.arange(len(component))).tolist():
        first, *copies = component[centre].images
        yield (
            Duplicate(first, 1.0, exact=False),
            *(Duplicate(copy, 1.0, exact=True) for copy in copies),
            *groups.get(centre, ()),
        )


def _worth(image: ImageFile) -> tuple[Any, ...]:
    """A sort key that puts the image to keep first."""
    area = (image.width or 0) * (image.height or 0)
    return not image.has_companions, -area, -(image.size or 0), image.mtime or "", image.image_id
