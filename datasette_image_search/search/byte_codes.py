"""
Codes once more with a byte for each component, which a search of all vectors reads in place of those of two bytes:
half of the memory, and half of the time.

Their scores are not those that people see. They tell which codes are worth a look, by an error that is known for
each query and holds for every vector:

    v = low + step * u + r              u: 0 to 255;  |r| <= residual
    step * q = width * (y - zero) + d   y: 0 to 255, zero: 0 to 127;  |d| <= half of width in each component
    q . v = q . low + width * (u . y - zero * sum(u)) + 127.5 * sum(d) + d . (u - 127.5) + q . r

The last two parts are not computed. By Cauchy-Schwarz they are at most |d| * spread and |q| * residual, where
`spread` and `residual` are the greatest norms of u - 127.5 and of r, measured of all vectors. The product u . y is
one of whole numbers, none below 0, for which processors have instructions.

So that this product alone tells which scores are high, each code ends in bytes f that make sum(u) the same for all:

    sum(u) + 2 * sum(f) = total - e     |e| <= uneven
    u . y - zero * sum(u) = (u, f) . (y, 2 * zero) - zero * (total - e)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from math import ceil

import faiss
import numpy as np

from ..progress import Report
from .faiss_files import NotOurs
from .scanning import scores_above, scores_at

ALIGNMENT = 32
"""FAISS multiplies bytes fast if a code has a multiple of so many."""

EVENING = 1 / 16
"""Bytes for each component that make sums the same: of 512 components those of a million vectors lie within half of what they can."""

SMALLEST = 27_200_000
"""Bytes of codes that are worth it, those of 50,000 vectors of 512 dimensions: fewer are compared as fast in half precision."""

MOST_DIMENSIONS = 30_000
"""FAISS adds the products of bytes up in 32 bits, which hold those of 33,025."""

LARGEST_RESIDUAL = 0.03
"""Above it, as where vectors have nothing in common, too many codes would have to be looked at."""

MIDDLE = 127.5

Blocks = Callable[[], Iterator[np.ndarray]]
"""The vectors of an index, float32, some at a time; as often as it is called."""


@dataclass(frozen=True)
class ByteCodes:
    """
    Of n vectors of so many dimensions: `low` and `step` of each component, float32; the `rows` of codes, shape (n, width),
    uint8; the `total` of each; and what the error of a score comes of.
    """

    low: np.ndarray
    step: np.ndarray
    rows: np.ndarray
    residual: float
    spread: float
    total: float
    uneven: float

    def asked(self, vector: np.ndarray) -> Asked:
        """For a query, shape (dimensions,), float32; what it has less is zero."""
        query = np.zeros(len(self.low))
        query[: len(vector)] = vector
        steps = query * self.step
        lowest, highest = min(0.0, steps.min()), max(0.0, steps.max())
        width = max((highest - lowest) / 254, -lowest / 127) or 1.0
        rounded = np.rint(steps / width)
        left = steps - width * rounded
        zero = -np.rint(lowest / width)
        multiplied = np.full(self.rows.shape[1], 2 * zero, dtype=np.float32)
        multiplied[: len(rounded)] = rounded + zero
        constant = query @ self.low - width * zero * self.total + MIDDLE * left.sum()
        length = np.linalg.norm(query)
        error = self.residual * length + self.spread * np.linalg.norm(left)
        error += width * zero * self.uneven
        # Each number of these sums is rounded to 24 bits, and so is each of a score of the longer codes.
        largest = 255 * width * float(multiplied.sum()) + abs(constant)
        error += largest * 2**-21 + len(query) * 2**-23 * length
        return Asked(self.rows, multiplied, float(width), float(constant), float(error))

    def bytes_per_vector(self) -> int:
        return self.rows.shape[1] * self.rows.itemsize


@dataclass(frozen=True)
class Asked:
    """
    A query of some byte codes: `error` is the largest difference between the score that a code has here and the product
    of the query and the vector.
    """

    rows: np.ndarray
    multiplied: np.ndarray
    width: float
    constant: float
    error: float

    def scores_at(self, positions: np.ndarray) -> np.ndarray:
        """Shape (len(positions),), float32."""
        return self._scores(scores_at(self._products(), self.multiplied, self.rows, positions))

    def reaching(self, least: float) -> tuple[np.ndarray, np.ndarray]:
        """(positions, scores) of all codes with a score of at least this, and of some just below, by position."""
        product = (least - self.constant) / self.width
        # Of large products the last bit is rounded.
        product = max(-1.0, product - 1 - abs(product) * 2**-22)
        positions, products = scores_above(self._products(), self.multiplied, self.rows, product)
        return positions, self._scores(products)

    def _scores(self, products: np.ndarray) -> np.ndarray:
        products *= np.float32(self.width)
        products += np.float32(self.constant)
        return products

    def _products(self) -> faiss.IndexScalarQuantizer:
        return _products(self.rows.shape[1])


@dataclass
class Encoder:
    """Makes byte codes of vectors a block at a time, and measures what the error comes of."""

    low: np.ndarray
    step: np.ndarray
    total: float
    residual: float = 0.0
    spread: float = 0.0
    uneven: float = 0.0

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """The rows of some vectors, shape (n, dimensions)."""
        codes = vectors - self.low
        codes *= _inverse(self.step)
        np.clip(np.rint(codes, out=codes), 0, 255, out=codes)
        rows = np.empty((len(vectors), width_of(len(self.low))), dtype=np.uint8)
        rows[:, : codes.shape[1]] = codes
        lacking = self.total - codes.sum(axis=1)
        fill = rows[:, codes.shape[1] :]
        fill[:] = np.clip(lacking[:, None] // 2 - 255 * np.arange(fill.shape[1]), 0, 255)
        lacking -= 2 * fill.sum(axis=1, dtype=np.float32)
        self.uneven = max(self.uneven, float(np.abs(lacking).max(initial=0)))
        self.residual = max(self.residual, _longest(codes * self.step + self.low - vectors))
        codes -= MIDDLE
        self.spread = max(self.spread, _longest(codes))
        return rows


def encoder_for(blocks: Blocks, count: int, dimensions: int) -> Encoder | None:
    """What encodes these vectors, so many of so many dimensions; None if it is not worth it."""
    width = width_of(dimensions)
    if count * width < SMALLEST or dimensions > MOST_DIMENSIONS:
        return None
    parts = [
        (block.min(axis=0), block.max(axis=0), block.sum(axis=0, dtype=np.float64))
        for block in blocks()
    ]
    low = np.min([part[0] for part in parts], axis=0)
    step = (np.max([part[1] for part in parts], axis=0) - low) / 255
    # Evenly rounded, as a variance of step^2 / 12 in each component.
    expected = np.sqrt(np.square(step, dtype=np.float64).sum() / 12)
    if not expected <= LARGEST_RESIDUAL:
        return None
    mean = sum(part[2] for part in parts) / count
    # The mean sum lies in the middle of what can be made the same.
    total = (mean - low) @ _inverse(step) + 255 * (width - dimensions)
    return Encoder(low, step, float(np.rint(total)))


def written(encoder: Encoder, blocks: Blocks) -> Iterator[np.ndarray]:
    """The parts of a file, one after the other: as read_byte_codes() takes them."""
    yield encoder.low
    yield encoder.step
    for block in blocks():
        yield encoder.encode(block)
    yield np.array([encoder.residual, encoder.spread, encoder.total, encoder.uneven])


def encoded(
    blocks: Blocks, count: int, dimensions: int, report: Report
) -> Iterator[np.ndarray] | None:
    """
    The parts of a file of these vectors, as written() has them; None if it is not worth it. Of the `blocks`, which
    are read twice, it is told how far they are.
    """
    done = 0

    def reported() -> Iterator[np.ndarray]:
        nonlocal done
        for block in blocks():
            report("Encoding", done // 2, count)
            yield block
            done += len(block)
        report("Encoding", done // 2, count)

    encoder = encoder_for(reported, count, dimensions)
    return None if encoder is None else written(encoder, reported)


def read_byte_codes(data: np.ndarray, dimensions: int, count: int) -> ByteCodes:
    """The byte codes that bytes begin with, and stay in. Raises NotOurs."""
    width = width_of(dimensions)
    sizes = [4 * dimensions, 4 * dimensions, count * width, 4 * 8]
    if sum(sizes) > len(data):
        raise NotOurs
    low, step, rows, measured = np.split(data[: sum(sizes)], np.cumsum(sizes)[:-1])
    low, step, measured = low.view("<f4"), step.view("<f4"), measured.view("<f8")
    if not all(np.isfinite(part).all() for part in (low, step, measured)) or measured.min() < 0:
        raise NotOurs
    return ByteCodes(low, step, rows.reshape(count, width), *measured.tolist())


def width_of(dimensions: int) -> int:
    """The bytes of a code of so many components."""
    return ceil(dimensions * (1 + EVENING) / ALIGNMENT) * ALIGNMENT


def _inverse(step: np.ndarray) -> np.ndarray:
    """Of components that are all the same, 0."""
    return np.divide(1, step, out=np.zeros_like(step), where=step > 0)


def _longest(vectors: np.ndarray) -> float:
    """The greatest norm, with what a sum of float32 may lack."""
    return float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors).max(initial=0)) * (1 + 2**-12))


@cache
def _products(width: int) -> faiss.IndexScalarQuantizer:
    """An empty index, of the kind of the codes."""
    return faiss.IndexScalarQuantizer(
        width, faiss.ScalarQuantizer.QT_8bit_direct, faiss.METRIC_INNER_PRODUCT
    )
