"""
FAISS indexes as bytes, read from our own memory and only after every byte of their description was
checked: FAISS itself reads any type that a file names, and one of these opens other files for writing.
The layout is that of faiss/impl/index_write.cpp.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

MOST_INDEXES = 4
"""Indexes within each other: a transformation of an index with lists whose quantizer is a graph."""

MOST_EFFORT = 2**16
"""The most neighbours that a graph looks at; FAISS allocates memory for them before a search."""

CODE_BITS = {0: 8, 1: 4, 2: 8, 3: 4, 4: 16, 5: 8, 6: 6}
"""Bits of a component by the qtype of a scalar quantizer: 8bit, 4bit, both uniform, fp16, 8bit_direct, 6bit."""


class NotOurs(Exception):
    """The bytes are not a complete index of a kind that is written here."""


def flat_prefix(dimensions: int, count: int) -> bytes:
    """The bytes before the codes of a flat float16 index: these two numbers determine them."""
    empty = faiss.IndexScalarQuantizer(
        dimensions, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    prefix = bytearray(faiss.serialize_index(empty).tobytes())
    struct.pack_into("<q", prefix, 8, count)
    struct.pack_into("<Q", prefix, len(prefix) - 8, count * 2 * dimensions)
    return bytes(prefix)


def read_flat(data: np.ndarray, dimensions: int, count: int) -> faiss.IndexScalarQuantizer:
    """
    A flat float16 index whose codes stay in `data`, bytes that must live as long. What comes after it may
    be padding. Raises NotOurs.
    """
    prefix = flat_prefix(dimensions, count)
    length = len(prefix) + count * 2 * dimensions
    if len(data) < length or data[: len(prefix)].tobytes() != prefix:
        raise NotOurs
    return _read(data[:length])


def read_approximate(data: np.ndarray, dimensions: int, count: int, *, mapped: bool) -> faiss.Index:
    """
    An index of any kind that is written here; its large parts stay in `data`, if that is mapped. Raises
    NotOurs.
    """
    cursor = _Cursor(data.data)
    if _shape(cursor) != (dimensions, count):
        raise NotOurs
    data = data[: cursor.at]
    if mapped:
        return _read(data)
    left = data.data

    def read(size: int) -> bytes:
        nonlocal left
        block, left = left[:size], left[size:]
        return bytes(block)

    return _given(faiss.PyCallbackIOReader(read))


def is_readable(index: faiss.Index) -> bool:
    """Whether an index that is still empty is of a kind that read_approximate() reads."""
    try:
        _shape(_Cursor(faiss.serialize_index(index).data, is_trained=False))
    except NotOurs:
        return False
    return True


def _shape(cursor: _Cursor) -> _Shape:
    try:
        return _index(cursor)
    except (struct.error, KeyError, ValueError, OverflowError) as error:
        raise NotOurs from error


def _read(data: np.ndarray) -> faiss.Index:
    return _given(faiss.ZeroCopyIOReader(faiss.swig_ptr(data), len(data)))


def _given(reader: faiss.IOReader) -> faiss.Index:
    try:
        return faiss.read_index(reader)
    except RuntimeError as error:
        raise NotOurs from error


# --- The parts of an index -------------------------------------------------------------------------


_Shape = tuple[int, int]
"""Dimensions, and the number of vectors."""


@dataclass
class _Cursor:
    """A cursor over bytes; it raises struct.error or NotOurs if they end too early."""

    data: memoryview
    at: int = 0
    is_trained: bool = True
    indexes: int = 0

    def take(self, format: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{format}", self.data, self.at)
        self.at += struct.calcsize(f"<{format}")
        return values

    def number(self, format: str) -> int:
        return self.take(format)[0]

    def name(self) -> str:
        return self.take("4s")[0].decode("latin-1")

    def skip(self, length: int) -> memoryview:
        if length < 0 or length > len(self.data) - self.at:
            raise NotOurs
        self.at += length
        return self.data[self.at - length : self.at]

    def array(self, type: str, length: int | None = None) -> np.ndarray:
        """A vector with its length before it, which must be `length` if that is known."""
        found = self.number("Q")
        _check(length is None or found == length)
        return np.frombuffer(self.skip(found * np.dtype(type).itemsize), dtype=type)


def _check(is_so: object) -> None:
    if not is_so:
        raise NotOurs


def _index(cursor: _Cursor) -> _Shape:
    cursor.indexes += 1
    _check(cursor.indexes <= MOST_INDEXES)
    name = cursor.name()
    dimensions, count, _, _, _, metric = cursor.take("iqqqBi")
    _check(dimensions > 0 and count >= 0 and metric in (0, 1))
    _KINDS[name](cursor, dimensions, count)
    return dimensions, count


def _flat(cursor: _Cursor, dimensions: int, count: int) -> None:
    cursor.array("<f4", count * dimensions)


def _scalar(cursor: _Cursor, dimensions: int, count: int) -> None:
    cursor.array("u1", count * _scalar_quantizer(cursor, dimensions))


def _product(cursor: _Cursor, dimensions: int, count: int) -> None:
    cursor.array("u1", count * _product_quantizer(cursor, dimensions))
    cursor.take("iBi")


def _lists_header(cursor: _Cursor, dimensions: int) -> int:
    lists, probes = cursor.take("QQ")
    _check(0 < probes < 2**31)
    _check(_index(cursor) == (dimensions, lists if cursor.is_trained else 0))
    _check(cursor.number("B") == 0)
    cursor.array("<i8", 0)
    return lists


def _flat_lists(cursor: _Cursor, dimensions: int, count: int) -> None:
    lists = _lists_header(cursor, dimensions)
    _inverted_lists(cursor, lists, 4 * dimensions, count)


def _scalar_lists(cursor: _Cursor, dimensions: int, count: int) -> None:
    lists = _lists_header(cursor, dimensions)
    size = _scalar_quantizer(cursor, dimensions)
    _check(cursor.take("QB")[0] == size)
    _inverted_lists(cursor, lists, size, count)


def _product_lists(cursor: _Cursor, dimensions: int, count: int) -> None:
    lists = _lists_header(cursor, dimensions)
    _, size = cursor.take("BQ")
    _check(_product_quantizer(cursor, dimensions) == size)
    _inverted_lists(cursor, lists, size, count)


def _graph(cursor: _Cursor, dimensions: int, count: int) -> None:
    cursor.array("<f8")
    # The neighbours of a vector up to a level, its levels, and the position of its first neighbour.
    up_to = cursor.array("<i4").astype(np.int64)
    levels = cursor.array("<i4", count)
    starts = cursor.array("<u8", count + 1).astype(np.int64)
    neighbours = cursor.array("<i4")
    entry, highest, effort_to_build, effort, _ = cursor.take("iiiii")
    _check(0 < effort_to_build <= MOST_EFFORT and 0 < effort <= MOST_EFFORT)
    _check(len(up_to) and up_to[0] == 0 and (np.diff(up_to) >= 0).all())
    _check(-1 <= entry < count and -1 <= highest < len(up_to))
    if count:
        _check(entry >= 0 and levels.min() >= 1 and levels.max() < len(up_to))
        _check(highest < levels[entry])
        _check(starts[0] == 0 and (np.diff(starts) == up_to[levels]).all())
        _check(neighbours.min(initial=-1) >= -1 and neighbours.max(initial=-1) < count)
        _check(_stay_on_their_levels(up_to, levels, starts, neighbours))
    _check(starts[-1] == len(neighbours))
    _check(_index(cursor) == (dimensions, count))


def _stay_on_their_levels(
    up_to: np.ndarray, levels: np.ndarray, starts: np.ndarray, neighbours: np.ndarray
) -> bool:
    """Whether all neighbours on a level above the lowest are on that level themselves, as FAISS assumes."""
    for level in range(1, int(levels.max())):
        on_it = np.flatnonzero(levels > level)
        for at in range(int(up_to[level]), int(up_to[level + 1])):
            near = neighbours[starts[on_it] + at]
            if (levels[near[near >= 0]] <= level).any():
                return False
    return True


def _refined(cursor: _Cursor, dimensions: int, count: int) -> None:
    _check(_index(cursor) == (dimensions, count))
    _check(_index(cursor) == (dimensions, count))
    cursor.take("f")


def _transformed(cursor: _Cursor, dimensions: int, count: int) -> None:
    (chain,) = cursor.take("i")
    _check(0 <= chain < MOST_INDEXES)
    for _ in range(chain):
        dimensions = _transform(cursor, dimensions)
    _check(_index(cursor) == (dimensions, count))


def _transform(cursor: _Cursor, dimensions: int) -> int:
    name = cursor.name()
    if name == "VNrm":
        _, before, after, _ = cursor.take("fiiB")
        _check(before == after == dimensions)
        return after
    _check(name in ("LTra", "rrot", "Pcam"))
    if name == "Pcam":
        cursor.take("ffBi")
        for _ in range(3):
            cursor.array("<f4")
    has_bias = cursor.number("B")
    matrix, bias = cursor.array("<f4"), cursor.array("<f4")
    before, after, _ = cursor.take("iiB")
    _check(before == dimensions and after > 0)
    _check(len(matrix) == before * after or not cursor.is_trained)
    _check(len(bias) == after or not has_bias or not cursor.is_trained)
    return after


def _scalar_quantizer(cursor: _Cursor, dimensions: int) -> int:
    """The bytes of a code."""
    qtype, _, _, own_dimensions, size = cursor.take("iifQQ")
    bits = CODE_BITS[qtype]
    _check(own_dimensions == dimensions and size == (dimensions * bits + 7) // 8)
    trained = {0: 2 * dimensions, 1: 2 * dimensions, 6: 2 * dimensions, 2: 2, 3: 2}.get(qtype, 0)
    cursor.array("<f4", trained if cursor.is_trained else None)
    return size


def _product_quantizer(cursor: _Cursor, dimensions: int) -> int:
    """The bytes of a code."""
    own_dimensions, parts, bits = cursor.take("QQQ")
    _check(
        own_dimensions == dimensions and parts > 0 and dimensions % parts == 0 and 0 < bits <= 16
    )
    cursor.array("<f4", dimensions << bits)
    return (parts * bits + 7) // 8


def _inverted_lists(cursor: _Cursor, lists: int, size: int, count: int) -> None:
    # Only lists in memory: other kinds name a file, or are read by a plugin.
    _check(cursor.name() == "ilar" and cursor.take("QQ") == (lists, size))
    kind = cursor.name()
    if kind == "full":
        sizes = cursor.array("<u8", lists)
    else:
        _check(kind == "sprs")
        pairs = cursor.array("<u8").reshape(-1, 2)
        _check((np.diff(pairs[:, 0].astype(np.int64)) > 0).all() and (pairs[:, 0] < lists).all())
        sizes = pairs[:, 1]
    lengths = sizes.tolist()
    _check(sum(lengths) == count)
    for length in lengths:
        cursor.skip(length * (size + 8))


_KINDS: dict[str, Callable[[_Cursor, int, int], None]] = {
    "IxFI": _flat,
    "IxF2": _flat,
    "IxSQ": _scalar,
    "IxPq": _product,
    "IwFl": _flat_lists,
    "IwSq": _scalar_lists,
    "IwPQ": _product_lists,
    "IHNf": _graph,
    "IHNs": _graph,
    "IHNp": _graph,
    "IxPT": _transformed,
    "IxRF": _refined,
}
