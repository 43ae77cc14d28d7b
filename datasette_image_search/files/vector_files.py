"""Vectors in files of numpy, of any float type and length -> unit norm."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import ImageSearchError


class VectorSourceError(ImageSearchError):
    """The vectors cannot be read, or are not vectors."""


def mapped_array(path: Path) -> np.ndarray:
    """The vectors of a .npy file, shape (n, dimensions), of any float type. Raises VectorSourceError."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise VectorSourceError(f"{str(path)!r} is damaged, or contains no numbers") from error
    return checked_array(repr(str(path)), array)


def checked_array(name: str, array: np.ndarray) -> np.ndarray:
    """Raises VectorSourceError if an array does not hold vectors, shape (n, dimensions), of floats."""
    if array.dtype.kind != "f" or array.dtype.itemsize not in (2, 4, 8):
        raise VectorSourceError(
            f"{name} holds {array.dtype}, not vectors in float16, float32 or float64"
        )
    if array.ndim != 2 or not array.shape[1]:
        raise VectorSourceError(f"{name} has the shape {array.shape}, not a row for each vector")
    return array


class NoDirection(Exception):
    """The vector at a position cannot have unit norm; the message is what it does instead."""

    def __init__(self, at: int, what: str) -> None:
        super().__init__(what)
        self.at = at


SINGLE_PRECISION = 5e-7
"""How far the norm of a unit vector in float32 may be from 1."""


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """Of any float type and any length -> float32 of unit norm; those that are it stay as they are. Raises NoDirection."""
    # In float64, where the squares of tiny and huge numbers are still numbers.
    exact = vectors.astype(np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", exact, exact))
    wrong = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
    if len(wrong):
        what = "is all zeros" if norms[wrong[0]] == 0 else "holds NaN or infinity"
        raise NoDirection(int(wrong[0]), what)
    if vectors.dtype.itemsize == 4:
        norms[np.abs(norms - 1) < SINGLE_PRECISION] = 1
    exact /= norms[:, None]
    return exact.astype("<f4")
