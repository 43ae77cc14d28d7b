"""
Codes once more with a byte for each component, which a search of all vectors reads in place of those of two bytes:
half of the memory, and half of the time.

Their scores are not those that people see. They tell which codes are worth a look, by an error that is known for
each query and holds for every vector:

    v = low + step * u + r               u: 0 to 255;  |r| <= residual
    step * q = least + width * y + d     y: 0 to 255;  |d| <= half of width in each component
    q . v = q . low + least * sum(u) + width * (u . y) + 127.5 * sum(d) + d . (u - 127.5) + q . r

The last two parts are not computed. By Cauchy-Schwarz they are at most |d| * spread and |q| * residual, where
`spread` and `residual` are the greatest norms of u - 127.5 and of r, measured of all vectors. The product u . y is
one of whole numbers, for which processors have instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import faiss
import numpy as np

from ..progress import Report
from .faiss_files import NotOurs
from .scanning import all_scores

ALIGNMENT = 64
"""FAISS multiplies bytes fast if a code has a multiple of so many."""

SMALLEST = 25_000_000
"""Bytes of codes that are worth it, those of 50,000 vectors of 512 dimensions: fewer are compared as fast in half precision."""

MOST_DIMENSIONS = 32_768
"""FAISS adds the products of bytes up in 32 bits, which hold those of 33,025 dimensions."""

LARGEST_RESIDUAL = 0.03
"""Above it, as where vectors have nothing in common, too many codes would have to be looked at."""

MIDDLE = 127.5

IN_CACHE = 65_536
"""Scores that are worked on at once, which a processor has near it."""

Blocks = Callable[[], Iterator[np.ndarray]]
"""The vectors of an index, float32, some at a time; as often as it is called."""


@dataclass(frozen=True)
class ByteCodes:
    """
    Of n vectors of so many dimensions: `low` and `step` of each component, float32; the `rows` of codes, shape (n, width),
    uint8, zeros at the end; the `sums` of each, float32; and what the error of a score comes of.
    """

    low: np.ndarray
    step: np.ndarray
    rows: np.ndarray
    sums: np.ndarray
    residual: float
    spread: float

    def scores(self, vector: np.ndarray) -> tuple[np.ndarray, float]:
        """
        The score of every position with a query, shape (dimensions,), float32: shape (n,). And the largest difference
        between one of them and the product of the query and the vector.
        """
        query = np.zeros(len(self.low))
        query[: len(vector)] = vector
        steps = query * self.step
        least = steps.min()
        width = (steps.max() - least) / 255 or 1.0
        rounded = np.rint((steps - least) / width)
        left = steps - least - width * rounded
        asked = np.zeros(self.rows.shape[1], dtype=np.float32)
        asked[: len(rounded)] = rounded
        scores = all_scores(_products(len(asked)), asked, self.rows)
        constant = query @ self.low + MIDDLE * left.sum()
        for start in range(0, len(scores), IN_CACHE):
            part = scores[start : start + IN_CACHE]
            part *= np.float32(width)
            part += np.float32(least) * self.sums[start : start + IN_CACHE]
            part += np.float32(constant)
        largest = 255 * (width * rounded.sum() + abs(least) * len(query)) + abs(constant)
        # Each number of these sums is rounded to 24 bits, and so is each of a score of the longer codes.
        rounding = largest * 2**-21 + len(query) * 2**-23 * np.linalg.norm(query)
        error = self.residual * np.linalg.norm(query) + self.spread * np.linalg.norm(left)
        return scores, float(error + rounding)

    def bytes_per_vector(self) -> int:
        return self.rows.shape[1] * self.rows.itemsize + self.sums.itemsize


@dataclass
class Encoder:
    """Makes byte codes of vectors a block at a time, and measures what the error comes of."""

    low: np.ndarray
    step: np.ndarray
    residual: float = 0.0
    spread: float = 0.0

    def encode(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(rows, sums) of some vectors, shape (n, dimensions)."""
        codes = vectors - self.low
        codes *= np.divide(1, self.step, out=np.zeros_like(self.step), where=self.step > 0)
        np.clip(np.rint(codes, out=codes), 0, 255, out=codes)
        rows = np.zeros((len(vectors), width_of(len(self.low))), dtype=np.uint8)
        rows[:, : codes.shape[1]] = codes
        sums = codes.sum(axis=1)
        self.residual = max(self.residual, _longest(codes * self.step + self.low - vectors))
        codes -= MIDDLE
        self.spread = max(self.spread, _longest(codes))
        return rows, sums


def encoder_for(blocks: Blocks, count: int, dimensions: int) -> Encoder | None:
    """What encodes these vectors, so many of so many dimensions; None if it is not worth it."""
    if count * width_of(dimensions) < SMALLEST or dimensions > MOST_DIMENSIONS:
        return None
    parts = [(block.min(axis=0), block.max(axis=0)) for block in blocks()]
    low = np.min([part[0] for part in parts], axis=0)
    step = (np.max([part[1] for part in parts], axis=0) - low) / 255
    # Evenly rounded, as a variance of step^2 / 12 in each component.
    expected = np.sqrt(np.square(step, dtype=np.float64).sum() / 12)
    return Encoder(low, step) if expected <= LARGEST_RESIDUAL else None


def written(encoder: Encoder, blocks: Blocks) -> Iterator[np.ndarray]:
    """The parts of a file, one after the other: as read_byte_codes() takes them."""
    yield encoder.low
    yield encoder.step
    sums = []
    for block in blocks():
        rows, of_rows = encoder.encode(block)
        sums.append(of_rows)
        yield rows
    yield np.concatenate(sums)


def encoded(
    blocks: Blocks, count: int, dimensions: int, report: Report
) -> tuple[Encoder, Iterator[np.ndarray]] | None:
    """
    What encodes these vectors, as encoder_for() has it, and the parts of a file of them, as written() has them. Of the
    `blocks`, which are read for each of the two, it is told how far they are.
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
    return None if encoder is None else (encoder, written(encoder, reported))


def read_byte_codes(
    data: np.ndarray, dimensions: int, count: int, residual: float, spread: float
) -> ByteCodes:
    """The byte codes that bytes begin with, and stay in. Raises NotOurs."""
    width = width_of(dimensions)
    sizes = [4 * dimensions, 4 * dimensions, count * width, 4 * count]
    if sum(sizes) > len(data):
        raise NotOurs
    low, step, rows, sums = np.split(data[: sum(sizes)], np.cumsum(sizes)[:-1])
    low, step = low.view("<f4"), step.view("<f4")
    if not (np.isfinite(low).all() and np.isfinite(step).all()):
        raise NotOurs
    return ByteCodes(low, step, rows.reshape(count, width), sums.view("<f4"), residual, spread)


def width_of(dimensions: int) -> int:
    """The bytes of a code of so many components."""
    return -(-dimensions // ALIGNMENT) * ALIGNMENT


def _longest(vectors: np.ndarray) -> float:
    """The greatest norm, with what a sum of float32 may lack."""
    return float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors).max(initial=0)) * (1 + 2**-12))


@cache
def _products(width: int) -> faiss.IndexScalarQuantizer:
    """An empty index, of the kind of the codes."""
    return faiss.IndexScalarQuantizer(
        width, faiss.ScalarQuantizer.QT_8bit_direct, faiss.METRIC_INNER_PRODUCT
    )
