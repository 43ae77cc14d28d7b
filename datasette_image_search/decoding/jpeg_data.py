"""The markers of a JPEG, up to its end: it may have anything behind it, or no end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

END = b"\xff\xd9"

SCAN = b"\xff\xda"

PROGRESSIVE = (b"\xff\xc2", b"\xff\xc6", b"\xff\xca", b"\xff\xce")
"""Markers of a frame whose scans bring its coefficients bit by bit."""

COEFFICIENTS = 64

MAX_MARKERS = 5_000
"""The most markers that are looked at for the end."""

_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
"""A marker outside the data of a scan, in which there are only those that the pattern leaves out. Any number of FF may
stand before it; to match them too would take the square of their number."""

_WITHOUT_LENGTH = (b"\x01", b"\xd8", b"\xd9")


def markers(jpeg: bytes, position: int) -> Iterator[tuple[bytes, int]]:
    """Each marker from a position on, with its own; END is the last. What a segment holds is none."""
    while match := _MARKER.search(jpeg, position):
        yield b"\xff" + match[1], match.start()
        position = match.end()
        if match[1] == END[1:]:
            return
        if match[1] not in _WITHOUT_LENGTH:
            position += int.from_bytes(jpeg[position : position + 2], "big")


def end_of_data(jpeg: bytes) -> int:
    """The position of the marker that ends the data of the last scan, or the length of the file without one."""
    end, is_scan = len(jpeg), False
    for marker, start in islice(markers(jpeg, 2), MAX_MARKERS):
        if is_scan:
            end = start
        elif marker == SCAN:
            end = len(jpeg)
        is_scan = marker == SCAN
    return len(jpeg) if is_scan else end


def lacks_scans(jpeg: bytes) -> bool:
    """
    Whether a progressive JPEG ends before its scans have brought the last bit of each coefficient of each
    component. False for other JPEG, whose scans have whole coefficients.
    """
    lowest: dict[int, bytearray] = {}
    for marker, start in islice(markers(jpeg, 2), MAX_MARKERS):
        segment = jpeg[start + 4 : start + 4 + 1024]
        if marker in PROGRESSIVE and len(segment) > 5:
            components = segment[6 : 6 + 3 * segment[5] : 3]
            lowest = {component: bytearray(b"\xff" * COEFFICIENTS) for component in components}
        elif marker == SCAN and segment:
            after = 1 + 2 * segment[0]
            for component in segment[1:after:2]:
                if component in lowest and len(segment) > after + 2:
                    first, last, bits = segment[after : after + 3]
                    brought = slice(first, min(last + 1, COEFFICIENTS))
                    number = len(range(*brought.indices(COEFFICIENTS)))
                    lowest[component][brought] = bytes([bits & 15]) * number
    return any(any(bits) for bits in lowest.values())
