"""IPTC's records, as newspapers had them before XMP -> metadata."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from .columns import Metadata
from .dates import iptc_time
from .texts import MOST_KEYWORDS, joined, keywords_of, text_of

_TITLE, _KEYWORD, _DATE, _TIME, _BYLINE, _COPYRIGHT, _CAPTION = 5, 25, 55, 60, 80, 116, 120

MOST_RECORDS = 10_000
"""All that are read, of which MOST_KEYWORDS of one kind count."""

MOST_BYTES = 2**16
"""Of one record; the rest of a text is left out."""

_RESOURCE = 0x0404
"""Photoshop's number for IPTC among its resources."""


def iptc_metadata(data: bytes) -> Metadata:
    """What the records say; those after a damaged one are left out."""
    values: dict[int, list[bytes]] = {}
    for number, value in islice(_application_records(data), MOST_RECORDS):
        known = values.setdefault(number, [])
        if len(known) < MOST_KEYWORDS:
            known.append(value)

    def text(number: int) -> str | None:
        return next((text for each in values.get(number, []) if (text := text_of(each))), None)

    def texts(number: int) -> list[str]:
        return [text for each in values.get(number, []) if (text := text_of(each))]

    taken_at, offset = iptc_time(text(_DATE), text(_TIME)) or (None, None)
    return Metadata(
        taken_at=taken_at,
        taken_at_offset=offset,
        title=text(_TITLE),
        description=text(_CAPTION),
        artist=joined(texts(_BYLINE)),
        copyright=text(_COPYRIGHT),
        keywords=keywords_of(texts(_KEYWORD)),
    )


def _application_records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and value of each record that is about the picture (2:n)."""
    position = 0
    while data[position : position + 1] == b"\x1c" and position + 5 <= len(data):
        record, number = data[position + 1], data[position + 2]
        length = int.from_bytes(data[position + 3 : position + 5], "big")
        position += 5
        if length & 0x8000:
            size = length & 0x7FFF
            length = int.from_bytes(data[position : position + min(size, 4)], "big")
            position += size
        if record == 2:
            yield number, data[position : position + min(length, MOST_BYTES)]
        position += length


def iptc_of_photoshop(resources: bytes) -> bytes:
    """The IPTC among Photoshop's resources ("8BIM", as TIFF and PNG have them); empty if there is none."""
    position = resources.find(b"8BIM")
    while position >= 0 and resources[position : position + 4] == b"8BIM":
        number = int.from_bytes(resources[position + 4 : position + 6], "big")
        name = resources[position + 6] + 1 if position + 6 < len(resources) else 0
        start = position + 6 + name + name % 2
        size = int.from_bytes(resources[start : start + 4], "big")
        if number == _RESOURCE:
            return resources[start + 4 : start + 4 + size]
        position = start + 4 + size + size % 2
    return b""
