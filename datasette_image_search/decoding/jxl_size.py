"""The size of a JPEG XL, read from its header: its decoder decodes all of it before it tells."""

from __future__ import annotations

import struct
import sys
from contextlib import suppress
from itertools import islice

from ..metadata.boxes import boxes

CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"

_CODE_STREAM = b"\xff\x0a"

_MAX_BOXES = 1_000

_LONGEST = 14
"""Bytes of a code stream that have its size."""

_SIZES = (9, 13, 18, 30)
"""Bits of a side, by the number before it."""

_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def jxl_pixels(data: bytes) -> int | None:
    """Width times height; None if the header is not there, of a file that must not be decoded then."""
    header = _in_boxes(data) if data.startswith(CONTAINER) else data[:_LONGEST]
    if not header.startswith(_CODE_STREAM):
        return None
    bits = _Bits(header[len(_CODE_STREAM) :])
    is_small = bits.take(1)
    height = bits.side(is_small)
    ratio = bits.take(3)
    if ratio == 0:
        return height * bits.side(is_small)
    wide, high = _RATIOS[ratio - 1]
    return height * (height * wide // high)


def _in_boxes(data: bytes) -> bytes:
    """The begin of the code stream of a container, which may be in many parts."""
    found = b""
    # The decoder reads a box that ends behind the file, too.
    with suppress(struct.error):
        for kind, inner, end in islice(boxes(data, 0, sys.maxsize), _MAX_BOXES):
            if kind in (b"jxlc", b"jxlp"):
                start = inner + (4 if kind == b"jxlp" else 0)
                found += data[start : min(end, start + _LONGEST)]
            if len(found) >= _LONGEST:
                break
    return found


class _Bits:
    """The bits of some bytes, the lowest of each byte first; 0 after the end."""

    def __init__(self, data: bytes) -> None:
        self._number = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        taken = self._number & ((1 << count) - 1)
        self._number >>= count
        return taken

    def side(self, is_small: int) -> int:
        if is_small:
            return 8 * (1 + self.take(5))
        return 1 + self.take(_SIZES[self.take(2)])
