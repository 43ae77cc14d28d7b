"""Gradient orientations per cell, after Dalal & Triggs, "Histograms of Oriented Gradients", 2005."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

FINE_CELLS = 12
"""Cells a side in which gradients are counted before they are pooled."""
CELLS = 6
"""Cells a side of the result."""
ORIENTATIONS = 9
"""Bins over 0..180 degrees: a dark thing before a light wall is like a light one before a dark."""
FLOOR = 0.01
"""Gradient, of a lightness 0..1 per two pixels, below which a cell counts as plain."""
CEILING = 0.4
"""One edge must not drown all others of its block."""
SIZE = CELLS * CELLS * ORIENTATIONS
LUMA = np.array([0.299, 0.587, 0.114], np.float32) / 255
"""ITU-R BT.601, of 8-bit channels, to 0..1."""


def texture(pixels: np.ndarray) -> np.ndarray:
    """uint8 pixels, shape (n, side, side, 3) -> orientations, (n, SIZE) float32 in 0..CEILING."""
    across, down = gradients(pixels @ LUMA)
    counted = count_orientations(np.hypot(across, down), np.arctan2(down, across))
    pool = pooling()
    pooled = np.einsum("cf,nfgo,dg->ncdo", pool, counted, pool, optimize=True)
    return normalise_blocks(pooled).reshape(len(pixels), SIZE)


def gradients(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Central differences of pictures, shape (n, side, side), across and down; 0 at the border."""
    across, down = np.zeros_like(grey), np.zeros_like(grey)
    across[:, :, 1:-1] = grey[:, :, 2:] - grey[:, :, :-2]
    down[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    return across, down


def count_orientations(strength: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """
    Gradients, shape (n, side, side), angles in radians -> mean strength per fine cell and
    orientation, shape (n, FINE_CELLS, FINE_CELLS, ORIENTATIONS) float32.

    Each gradient is shared between the two nearest orientations, as Dalal & Triggs do.
    """
    n, side = strength.shape[:2]
    turn = angle * np.float32(ORIENTATIONS / np.pi) % ORIENTATIONS
    lower = turn.astype(np.intp)
    upper_share = turn - lower
    lower %= ORIENTATIONS  # the remainder can round up to ORIENTATIONS itself
    row = np.arange(side) * FINE_CELLS // side
    cell = (np.arange(n)[:, None, None] * FINE_CELLS + row[:, None]) * FINE_CELLS + row
    counted = np.zeros(n * FINE_CELLS * FINE_CELLS * ORIENTATIONS)
    for orientation, share in (
        (lower, 1 - upper_share),
        ((lower + 1) % ORIENTATIONS, upper_share),
    ):
        bins = cell * ORIENTATIONS + orientation
        counted += np.bincount(bins.ravel(), (strength * share).ravel(), len(counted))
    counted /= (side / FINE_CELLS) ** 2
    return counted.astype(np.float32).reshape(n, FINE_CELLS, FINE_CELLS, ORIENTATIONS)


@lru_cache(maxsize=1)
def pooling() -> np.ndarray:
    """The share of each fine cell in each coarse one along one side, (CELLS, FINE_CELLS)."""
    # Triangles that overlap, so that a thing a little aside still falls into the same cells.
    step = FINE_CELLS / CELLS
    centres = (np.arange(CELLS) + 0.5) * step - 0.5
    taken = np.clip(1 - np.abs(np.arange(FINE_CELLS) - centres[:, None]) / step, 0, None)
    return (taken / taken.sum(axis=1, keepdims=True)).astype(np.float32)


def normalise_blocks(cells: np.ndarray) -> np.ndarray:
    """
    Each cell by the strength of the four blocks of 2x2 cells that it is in, clipped, averaged.

    Dalal & Triggs keep all four; their mean is a quarter as long and nearly as good.
    """
    energy = np.pad(np.square(cells).sum(axis=3), ((0, 0), (1, 1), (1, 1)), mode="edge")
    blocks = energy[:, 1:, 1:] + energy[:, 1:, :-1] + energy[:, :-1, 1:] + energy[:, :-1, :-1]
    length = np.sqrt(blocks + FLOOR**2)[..., None]
    corners = (length[:, 1:, 1:], length[:, 1:, :-1], length[:, :-1, 1:], length[:, :-1, :-1])
    return sum(np.minimum(cells / corner, CEILING) for corner in corners) / np.float32(4)
