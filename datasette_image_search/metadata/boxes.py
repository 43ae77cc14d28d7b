"""The boxes that ISO media files are made of, such as HEIC, AVIF, JPEG 2000 and CR3."""

from __future__ import annotations

import struct
from collections.abc import Iterator


def boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The kind, and the begin and end of the content, of each box between two positions."""
    while start + 8 <= end:
        size, kind = struct.unpack_from(">L4s", data, start)
        inner = start + 8
        if size == 1 and start + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, inner)
            inner = start + 16
        stop = end if size == 0 else start + size
        if stop < inner or stop > end:
            return
        yield kind, inner, stop
        start = stop
