"""
The tags of a TIFF, which EXIF and most kinds of camera RAW are as well. Reads the tags that are asked for and
nothing else, so that the size of a file, or damage in its other tags, never matters.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

T = TypeVar("T")

MOST_ENTRIES = 1_000
"""Of one directory."""

LONGEST_VALUE = 4_000_000
"""Bytes of one tag; no more are believed."""

MOST_BYTES = 2**16
"""Of a text; what comes behind them is left out. All tags may name the same bytes, so this, and not the size of
the file, limits what they are together."""

MOST_NUMBERS = 16
"""Of one tag; a place has three."""

Value = bytes | tuple[float, ...]
"""
Texts and what is of no type, as at most MOST_BYTES bytes; at most MOST_NUMBERS numbers, of which fractions may be
nan.
"""

_NUMBERS = {
    3: "H",
    4: "L",
    6: "b",
    8: "h",
    9: "l",
    11: "f",
    12: "d",
    13: "L",
    16: "Q",
    17: "q",
    18: "Q",
}
_FRACTIONS = {5: "L", 10: "l"}
_ORDERS = {"le": "<", "be": ">"}
_BYTES = (1, 2, 7, 129)
"""129 is the text in UTF-8 of EXIF 3.0."""

_SIZES = {
    **dict.fromkeys(_BYTES, 1),
    **{kind: struct.calcsize(f"={form}") for kind, form in _NUMBERS.items()},
    **dict.fromkeys(_FRACTIONS, 8),
}


@dataclass(frozen=True)
class Tiff:
    """`data` begins with the order of its bytes, "II" or "MM"; the number after that is another in some RAWs."""

    data: bytes

    @property
    def order(self) -> str:
        """Of the bytes: "le" with the little end first, "be" with the big one."""
        return "le" if self.data[:2] == b"II" else "be"

    @cached_property
    def _is_big(self) -> bool:
        """With offsets of 64 bits."""
        return self.data[2:4] in (b"+\0", b"\0+")

    def first(self, tags: Collection[int]) -> Mapping[int, Value]:
        """Some tags of the first directory."""
        return self.directory(self._first, tags)

    def directory(self, start: float, tags: Collection[int]) -> Mapping[int, Value]:
        """Some tags of the directory at a position; whatever is damaged is left out."""
        return self._read(start, tags, self._value)

    def blocks(self, tags: Collection[int]) -> Mapping[int, bytes]:
        """Some tags of the first directory, each with all of its at most LONGEST_VALUE bytes, of whichever type."""
        return self._read(self._first, tags, self._block)

    @property
    def _first(self) -> float:
        """Where the first directory begins: behind the data if there is none."""
        start: tuple[float, ...] = ()
        if self.data[:2] in (b"II", b"MM"):
            start = self._numbers("Q", 8, 1) if self._is_big else self._numbers("L", 4, 1)
        return start[0] if start else len(self.data)

    def _read(
        self, start: float, tags: Collection[int], read: Callable[[int, int, int], T | None]
    ) -> Mapping[int, T]:
        """`read` gets the type of a tag, how many values it has, and their position."""
        found: dict[int, T] = {}
        if not math.isfinite(start):
            return found
        start = int(start)
        count_form, count_size, size = ("Q", 8, 20) if self._is_big else ("H", 2, 12)
        count = self._numbers(count_form, start, 1)
        for number in range(min(int(count[0]), MOST_ENTRIES) if count else 0):
            entry = start + count_size + number * size
            head = self._numbers("H", entry, 2)
            if not head:
                break
            tag, kind = int(head[0]), int(head[1])
            if tag in tags and tag not in found:
                place = self._place(kind, entry + 4)
                value = read(kind, *place) if place else None
                if value:
                    found[tag] = value
        return found

    def _place(self, kind: int, position: int) -> tuple[int, int] | None:
        """How many values a tag has and where; none if they are too many, or of a type that is not known."""
        form, inline = ("Q", 8) if self._is_big else ("L", 4)
        count = self._numbers(form, position, 1)
        each = _SIZES.get(kind)
        if not count or each is None or not 0 < count[0] * each <= LONGEST_VALUE:
            return None
        length = int(count[0])
        start = position + inline
        if length * each > inline:
            where = self._numbers(form, start, 1)
            if not where:
                return None
            start = int(where[0])
        return length, start

    def _block(self, kind: int, length: int, start: int) -> bytes:
        return self.data[start : start + length * _SIZES[kind]]

    def _value(self, kind: int, length: int, start: int) -> Value:
        if kind in _BYTES:
            return self.data[start : start + min(length, MOST_BYTES)]
        length = min(length, MOST_NUMBERS)
        if kind in _NUMBERS:
            return self._numbers(_NUMBERS[kind], start, length)
        parts = self._numbers(_FRACTIONS[kind], start, 2 * length)
        return tuple(map(_fraction, parts[::2], parts[1::2]))

    def _numbers(self, form: str, start: int, count: int) -> tuple[float, ...]:
        """None at all if the data ends before."""
        try:
            return struct.unpack_from(f"{_ORDERS[self.order]}{count}{form}", self.data, start)
        except (struct.error, OverflowError):
            return ()


def _fraction(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else float("nan")
