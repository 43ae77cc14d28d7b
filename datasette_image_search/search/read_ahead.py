"""Tells the system which parts of a mapped file are about to be read, if they lie far apart."""

from __future__ import annotations

import ctypes
import mmap
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np

SAMPLED = 8
"""Rows that tell whether the others are in memory already, as they mostly are: to ask for each takes longer than its score."""


def read_ahead(memory: np.ndarray | None, rows: np.ndarray, positions: np.ndarray) -> None:
    """
    Asks the system to read the rows at some positions from the disk at once, and no others; `rows`, shape (n, bytes), are in
    the mapping `memory`. Without this a program waits for each of them, with up to megabytes around it. Nothing happens if
    they are in no mapping, or in memory.
    """
    mapped = None if memory is None else memory.base
    if isinstance(mapped, memoryview):
        mapped = mapped.obj
    if memory is None or not isinstance(mapped, mmap.mmap) or not hasattr(mmap, "MADV_WILLNEED"):
        return
    start = rows.ctypes.data - memory.ctypes.data
    if start < 0 or start + rows.nbytes > len(mapped):
        return
    first, last = _pages(start, rows.shape[1], _some(positions))
    if all(_is_in_memory(memory.ctypes.data + page * mmap.PAGESIZE) for page in first.tolist()):
        return
    first, last = _pages(start, rows.shape[1], np.unique(positions))
    # Those that touch are one part.
    apart = np.flatnonzero(first[1:] > last[:-1] + 1) + 1
    begins = first[np.r_[0, apart]] * mmap.PAGESIZE
    ends = np.minimum((last[np.r_[apart - 1, len(last) - 1]] + 1) * mmap.PAGESIZE, len(mapped))
    # Without this the same is read, only later.
    with suppress(OSError):
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            mapped.madvise(mmap.MADV_WILLNEED, begin, end - begin)


def _pages(start: int, size: int, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the first and the last page of each row, if that with position 0 begins at `start`."""
    first = start + positions * size
    return first // mmap.PAGESIZE, (first + size - 1) // mmap.PAGESIZE


def _some(positions: np.ndarray) -> np.ndarray:
    return positions[:: max(1, -(-len(positions) // SAMPLED))]


def _is_in_memory(address: int) -> bool:
    """Whether the system has the page at an address. If it does not tell, nothing is read ahead."""
    mincore, state = _mincore(), ctypes.c_ubyte(1)
    if mincore is None or mincore(address, mmap.PAGESIZE, ctypes.byref(state)) != 0:
        return True
    return bool(state.value & 1)


@cache
def _mincore() -> Any:
    """The function of the C library, which has no counterpart in Python."""
    found = getattr(ctypes.CDLL(None), "mincore", None)
    if found is not None:
        found.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    return found
