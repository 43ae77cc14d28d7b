"""
Vectors -> points of a plane, with similar images near each other.

PCA shows the two directions in which the vectors differ most, in about a second for some hundred thousand.
UMAP keeps neighbours together and shows groups, in about a minute for ten thousand: McInnes, Healy and
Melville, "UMAP: Uniform Manifold Approximation and Projection for Dimension Reduction" (2018).
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import numpy as np

from .. import store
from ..progress import Report, silent
from ..store.norms import are_unit
from .freshness import live_index
from .live import LiveIndex
from .lost_engines import survives_engines
from .umap_process import check_umap, umap_of

SAMPLE = 50_000
"""Vectors that the principal axes are computed from. Those of more are the same to three digits."""

CHUNK = 10_000
"""Vectors of the sample that are in memory at once."""

UMAP_AXES = 50
"""Principal axes that UMAP is given: the rest costs time and memory, and is mostly noise."""

FEWEST_FOR_UMAP = 10
"""Images below which there are no neighbourhoods to keep, and PCA does."""

KEPT_INDEXES = 8

_projected: OrderedDict[str, np.ndarray] = OrderedDict()
_projecting: dict[str, threading.Lock] = {}
_lock = threading.Lock()
"""The points of whole indexes by live index, the last used at the end; a lock for each that is being
computed; and a short lock for both."""


def pca(live: LiveIndex, positions: np.ndarray) -> np.ndarray:
    """The vectors at some positions on their two principal axes, shape (len(positions), 2), float32."""
    return _on_principal_axes(live, positions, 2)


def umap(live: LiveIndex, positions: np.ndarray, report: Report = silent) -> np.ndarray:
    """
    The places by UMAP of the vectors at some positions, shape (len(positions), 2), float32. The same each
    time. `report` hears of the rounds that move them, nine tenths of the work once numba has compiled it.

    Raises ProjectionError if umap-learn is not installed, or fails.
    """
    check_umap()
    vectors = _on_principal_axes(live, positions, UMAP_AXES)
    if len(vectors) < FEWEST_FOR_UMAP:
        return vectors[:, :2]
    # Starting from PCA keeps distant groups in their places (Kobak and Linderman, Nature Biotechnology,
    # 2021).
    start = vectors[:, :2] / max(float(np.abs(vectors[:, :2]).max()), 1e-6) * 10
    return umap_of(vectors, start, report)


METHODS = ("pca", "umap")


def projecting(method: str, report: Report) -> Callable[[LiveIndex, np.ndarray], np.ndarray]:
    """The function of one of METHODS."""
    return partial(umap, report=report) if method == "umap" else pca


@survives_engines
def placed(conn: sqlite3.Connection, table: str, model: str) -> tuple[LiveIndex, np.ndarray]:
    """The vectors of an index as committed now, and pca_of_all() of them."""
    live = live_index(conn, store.find_index(conn, table, model))
    return live, pca_of_all(live)


def pca_of_all(live: LiveIndex) -> np.ndarray:
    """pca() of every position, shape (len(live), 2), remembered as long as the index is the same."""
    with _lock:
        projecting = _projecting.setdefault(live.name, threading.Lock())
    # Other threads that ask meanwhile want the same.
    with projecting:
        points = known_pca_of_all(live)
        try:
            if points is None:
                points = pca(live, np.arange(len(live)))
            with _lock:
                _projected[live.name] = points
                while len(_projected) > KEPT_INDEXES:
                    _projected.popitem(last=False)
        finally:
            with _lock:
                _projecting.pop(live.name, None)
    return points


def known_pca_of_all(live: LiveIndex) -> np.ndarray | None:
    """The same if it is remembered, otherwise None."""
    with _lock:
        if live.name in _projected:
            _projected.move_to_end(live.name)
        return _projected.get(live.name)


def _on_principal_axes(live: LiveIndex, positions: np.ndarray, count: int) -> np.ndarray:
    """
    Shape (len(positions), count), float32: on the eigenvectors of the covariance, that with the most
    variance first. On axes that there are not, all are at 0.
    """
    points = np.zeros((len(positions), count), dtype=np.float32)
    if not len(positions):
        return points
    mean, covariance = _moments(live, positions)
    # Eigenvectors come in the order of their eigenvalues, the largest last.
    axes = np.linalg.eigh(covariance)[1].T[::-1][:count]
    for at, axis in enumerate(axes):
        # The sign of an eigenvector is left open, and must not depend on the machine.
        axis = axis * np.sign(axis[np.argmax(np.abs(axis))])
        offsets = live.scores(axis.astype(np.float32))[positions] - mean @ axis
        # No two unit vectors are farther apart. A damaged code may be, and goes to the middle, where it
        # takes no room from the others.
        points[:, at] = np.where(np.abs(offsets) <= 2, offsets, 0)
    return points


def _moments(live: LiveIndex, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Mean, shape (dimensions,), and covariance of an even sample of the vectors, float64. Damaged codes
    are left out.
    """
    sample = positions
    if len(positions) > SAMPLE:
        sample = positions[np.linspace(0, len(positions) - 1, SAMPLE).astype(int)]
    dimensions = live.index.dimensions
    count, total, squares = 0, np.zeros(dimensions), np.zeros((dimensions, dimensions))
    for start in range(0, len(sample), CHUNK):
        vectors = live.decoded(sample[start : start + CHUNK])
        vectors = vectors[are_unit(vectors)]
        count += len(vectors)
        total += vectors.sum(axis=0)
        squares += vectors.T @ vectors
    mean = total / max(count, 1)
    return mean, squares / max(count, 1) - np.outer(mean, mean)
