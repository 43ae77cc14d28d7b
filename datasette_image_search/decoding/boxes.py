"""The positions of the items in an ISO media file, such as AVIF and HEIF."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from ..metadata.boxes import boxes

MAX_BOXES = 10_000
"""The most boxes, of all kinds and at all depths."""

MAX_ITEMS = 2_000
"""Pictures are cut into tiles of some hundred pixels: 1,000 of them are half a gigapixel."""

_DEEPER = (b"moov", b"trak", b"mdia", b"minf", b"stbl")


@dataclass(frozen=True)
class _Extent:
    start: int
    length: int


@dataclass(frozen=True)
class Boxes:
    """The boxes of a file. `problem` names a thing that it has too many of; then there are no items."""

    data: bytes

    @property
    def problem(self) -> str | None:
        return self._read[1]

    def items(self) -> Iterator[bytes]:
        """The bytes of each item, and of each track of a film from its first picture on."""
        for extents in self._read[0]:
            yield b"".join(self.data[each.start : each.start + each.length] for each in extents)

    @cached_property
    def _read(self) -> tuple[list[list[_Extent]], str | None]:
        items: list[list[_Extent]] = []
        waiting = [(0, len(self.data))]
        seen = 0
        while waiting:
            start, end = waiting.pop()
            for kind, inner, stop in boxes(self.data, start, end):
                seen += 1
                if seen > MAX_BOXES or len(items) > MAX_ITEMS:
                    return [], "it has too many parts"
                if kind in _DEEPER:
                    waiting.append((inner, stop))
                elif kind == b"meta":
                    items += _items(self.data, inner + 4, stop)
                elif kind in (b"stco", b"co64"):
                    form, size = (">L", 4) if kind == b"stco" else (">Q", 8)
                    if inner + 8 + size <= stop:
                        (first,) = struct.unpack_from(form, self.data, inner + 8)
                        items.append([_Extent(first, len(self.data))])
        copied = sum(min(each.length, len(self.data)) for item in items for each in item)
        if len(items) > MAX_ITEMS or copied > 4 * len(self.data):
            return [], "its parts repeat the same bytes many times"
        return items, None


def _items(data: bytes, start: int, end: int) -> Iterator[list[_Extent]]:
    """The positions of the items, from a "meta" box."""
    inside = {kind: (inner, stop) for kind, inner, stop in boxes(data, start, end)}
    if b"iloc" not in inside:
        return
    position, stop = inside[b"iloc"]
    reader = _Reader(data, position, stop)
    version = reader.number(4) >> 24
    sizes = reader.number(2)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version in (1, 2) else 0
    for _ in range(min(reader.number(2 if version < 2 else 4), MAX_ITEMS + 1)):
        reader.number(2 if version < 2 else 4)
        method = reader.number(2) & 15 if version in (1, 2) else 0
        reader.number(2)
        base = reader.number(base_size)
        if method == 1:
            base += inside.get(b"idat", (0, 0))[0]
        extents = []
        for _ in range(reader.number(2)):
            reader.number(index_size)
            offset, length = reader.number(offset_size), reader.number(length_size)
            if reader.is_at_the_end:
                return
            extents.append(_Extent(base + offset, length or len(data)))
        if method in (0, 1):
            yield extents


class _Reader:
    """Numbers of any width, one after the other; 0 after the end."""

    def __init__(self, data: bytes, position: int, end: int) -> None:
        self._data, self._position, self._end = data, position, end
        self.is_at_the_end = False

    def number(self, size: int) -> int:
        start, self._position = self._position, self._position + size
        if self._position > self._end:
            self.is_at_the_end = True
            return 0
        return int.from_bytes(self._data[start : self._position], "big")
