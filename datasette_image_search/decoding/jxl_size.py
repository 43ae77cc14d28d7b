"""The size of a JPEG XL, read from its header: its decoder decodes all of it before it tells."""

from __future__ import annotations

from itertools import islice

from ..metadata.boxes import boxes

CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"

_CODE_STREAM = b"\xff\x0a"

_MAX_BOXES = 1_000

_SIZES = (9, 13, 18, 30)
"""Bits of a side, by the number before it."""

_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def jxl_pixels(data: bytes) -> int:
    """Width times height; 0 if the header is not there."""
    start = 0
    if data.startswith(CONTAINER):
        found = (
            inner + (4 if kind == b"jxlp" else 0)
            for kind, inner, _ in islice(boxes(data, 0, len(data)), _MAX_BOXES)
            if kind in (b"jxlc", b"jxlp")
        )
        start = next(found, len(data))
    if data[start : start + 2] != _CODE_STREAM:
        return 0
    bits = _Bits(data[start + 2 : start + 14])
    is_small = bits.take(1)
    height = bits.side(is_small)
    ratio = bits.take(3)
    if ratio == 0:
        return height * bits.side(is_small)
    wide, high = _RATIOS[ratio - 1]
    return height * (height * wide // high)


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
