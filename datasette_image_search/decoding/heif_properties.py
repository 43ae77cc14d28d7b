"""What an AVIF or HEIF says beside its pixels of how they are to be shown."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from ..metadata.boxes import boxes

MAX_PROPERTIES = 2_000
"""The most properties, and the most items that have some."""

Box = tuple[int, int, int, int]
"""Left, upper, right and lower edge, as in Pillow."""


@dataclass(frozen=True)
class _Property:
    kind: bytes
    content: bytes


@dataclass(frozen=True)
class ShownAs:
    """
    `cicp` are the codes of the primaries and the transfer of the colours, None if the file has none; `aperture` is
    width, height, and the shift of its centre to the right and down, in pixels.
    """

    cicp: tuple[int, int] | None = None
    aperture: tuple[float, float, float, float] | None = None

    def crop(self, size: tuple[int, int]) -> Box | None:
        """The part of a picture of this size that is shown; None for all of it, or if it is no part of it."""
        if self.aperture is None:
            return None
        (width, height), (wide, high, right, down) = size, self.aperture
        left, upper = (width - wide) / 2 + right, (height - high) / 2 + down
        edges = (left, upper, left + wide, upper + high)
        inside = left >= 0 and upper >= 0 and edges[2] <= width and edges[3] <= height
        if not inside or wide < 1 or high < 1 or any(edge != int(edge) for edge in edges):
            return None
        return int(left), int(upper), int(edges[2]), int(edges[3])


def shown_as(data: bytes) -> ShownAs:
    """The properties of the picture that counts. Never raises."""
    try:
        found = {each.kind: each.content for each in _of_primary(data)}
        return ShownAs(_cicp(found.get(b"colr", b"")), _aperture(found.get(b"clap", b"")))
    except (struct.error, ZeroDivisionError, IndexError):
        return ShownAs()


def _cicp(colr: bytes) -> tuple[int, int] | None:
    return struct.unpack_from(">HH", colr, 4) if colr.startswith(b"nclx") else None


def _aperture(clap: bytes) -> tuple[float, float, float, float] | None:
    if len(clap) < 32:
        return None
    numbers = struct.unpack_from(">4I2i2i", clap)
    wide, high, right, down = (numbers[i] / numbers[i + 1] for i in range(0, 8, 2))
    return wide, high, right, down


def _of_primary(data: bytes) -> Iterator[_Property]:
    """The properties of the primary item; of two kinds of colr, the one with codes comes last."""
    top = _inside(data, 0, len(data))
    meta = _inside(data, top[b"meta"][0] + 4, top[b"meta"][1]) if b"meta" in top else {}
    if not {b"pitm", b"iprp"} <= meta.keys():
        return
    start, _ = meta[b"pitm"]
    (primary,) = struct.unpack_from(">H" if data[start] == 0 else ">L", data, start + 4)
    iprp = _inside(data, *meta[b"iprp"])
    if not {b"ipco", b"ipma"} <= iprp.keys():
        return
    every = [
        _Property(kind, data[inner : min(stop, inner + 64)])
        for kind, inner, stop in islice(boxes(data, *iprp[b"ipco"]), MAX_PROPERTIES)
    ]
    own = [every[number - 1] for number in _numbers(data, iprp[b"ipma"][0], primary) if number]
    yield from sorted(own, key=lambda each: each.content.startswith(b"nclx"))


def _inside(data: bytes, start: int, end: int) -> dict[bytes, tuple[int, int]]:
    return {
        kind: (inner, stop) for kind, inner, stop in islice(boxes(data, start, end), MAX_PROPERTIES)
    }


def _numbers(data: bytes, position: int, item: int) -> list[int]:
    """The numbers of the properties of an item, from an "ipma" box; they begin with 1."""
    version, wide = data[position], data[position + 3] & 1
    (count,) = struct.unpack_from(">L", data, position + 4)
    position += 8
    form = struct.Struct(">H" if version == 0 else ">L")
    for _ in range(min(count, MAX_PROPERTIES)):
        (found,) = form.unpack_from(data, position)
        position += form.size
        many = data[position]
        position += 1
        if found == item:
            numbers = struct.unpack_from(f">{many}{'H' if wide else 'B'}", data, position)
            return [number & (0x7FFF if wide else 0x7F) for number in numbers]
        position += many * (2 if wide else 1)
    return []
