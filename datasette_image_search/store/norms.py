"""Whether vectors are unit vectors, as all of an index must be."""

from __future__ import annotations

import numpy as np

NORM_ERROR = 0.01
"""A vector whose squared norm is farther from 1 is none, and its scores would be no similarities."""

ROUNDED_NORM_ERROR = NORM_ERROR + 0.002
"""The same for one that was rounded to half precision."""


def are_unit(vectors: np.ndarray, error: float = NORM_ERROR) -> np.ndarray:
    """Whether each has unit norm, as far as float16 can tell: not what holds NaN or infinity."""
    return np.abs(np.einsum("...i,...i", vectors, vectors) - 1) < error
