"""
The compressed pixels of a PNG: whether all are there. Pillow takes data that ends early for the whole, and refuses all
pixels for a wrong checksum behind them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from .png_chunks import header_of, pixels_of, with_pixels

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Colour type -> samples of a pixel."""

_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""Of an interlaced picture: the first column and row of a pass, and the steps to the next ones."""

_HEADER = struct.Struct(">LLBB2xB")

_READ, _INFLATED = 1 << 16, 1 << 20
"""Bytes that are in memory at once, compressed and not."""


def has_all_pixels(data: bytes) -> bool:
    """Whether a PNG has data for all of its pixels, in bounded memory."""
    needed = _needed(data)
    return sum(map(len, _inflated(data, needed))) == needed


def whole_png(data: bytes) -> bytes | None:
    """
    The pixels of a PNG with a right checksum and nothing behind them; None if some are missing.
    """
    needed, size = _needed(data), 0
    compressor = zlib.compressobj(1)
    parts = []
    for part in _inflated(data, needed):
        size += len(part)
        parts.append(compressor.compress(part))
    parts.append(compressor.flush())
    return with_pixels(data, b"".join(parts)) if size == needed else None


def _needed(data: bytes) -> int:
    """The bytes of all rows. Each row begins with a byte for its filter."""
    width, height, depth, colour_type, interlaced = _HEADER.unpack_from(header_of(data))
    bits = depth * _SAMPLES[colour_type]
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    sizes = [
        (-(-(width - left) // right), -(-(height - top) // down))
        for left, top, right, down in passes
    ]
    return sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in sizes if columns > 0)


def _inflated(data: bytes, most: int) -> Iterator[bytes]:
    """The first bytes of all rows, up to what is missing or damaged."""
    # Without the header of zlib there is no checksum to compare.
    inflater, header = zlib.decompressobj(-zlib.MAX_WBITS), 2
    try:
        for piece in _pieces(data):
            skipped = min(header, len(piece))
            header -= skipped
            part = inflater.decompress(piece[skipped:], _INFLATED)
            while part:
                yield part[:most]
                most -= min(most, len(part))
                if not most:
                    return
                part = inflater.decompress(inflater.unconsumed_tail, _INFLATED)
            if inflater.eof:
                return
    except zlib.error:
        return


def _pieces(data: bytes) -> Iterator[memoryview]:
    for content in pixels_of(data):
        for start in range(0, len(content), _READ):
            yield content[start : start + _READ]
