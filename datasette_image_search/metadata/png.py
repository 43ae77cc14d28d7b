"""The texts and the EXIF of a PNG, also of those behind its pixels, where most programs write them."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

SIGNATURE = b"\x89PNG\r\n\x1a\n"

MOST_TEXT = 4_000_000
"""Bytes of one text, and of all of them, unpacked."""

_XMP = "XML:com.adobe.xmp"

_PROFILE = re.compile(r"Raw profile type (exif|APP1|xmp|iptc|8bim)")
"""ImageMagick's texts in hexadecimal digits."""


@dataclass
class PngMetadata:
    """
    EXIF as TIFF, XMP packets, Photoshop's resources, and texts by their names in small letters without blanks.
    """

    exif: list[bytes] = field(default_factory=list)
    xmp: list[bytes] = field(default_factory=list)
    photoshop: list[bytes] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)


def png_metadata(data: bytes) -> PngMetadata:
    """All that a PNG has; the rest is left out if a chunk is damaged or MOST_TEXT is reached."""
    found = PngMetadata()
    left = MOST_TEXT
    for kind, content in _chunks(data):
        if kind == b"eXIf":
            found.exif.append(content)
            continue
        named = _text(kind, content, left)
        if named is None:
            continue
        name, text = named
        left -= len(text)
        _sort_in(found, name, text, kind)
    return found


def _sort_in(found: PngMetadata, name: str, text: bytes, kind: bytes) -> None:
    profile = _PROFILE.fullmatch(name)
    if name == _XMP:
        found.xmp.append(text)
    elif profile is None:
        words = text.decode("utf-8" if kind == b"iTXt" else "latin-1", "replace")
        found.texts.setdefault(name.lower().replace(" ", ""), words)
    else:
        content = _unpacked_profile(text)
        if content.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            found.xmp.append(content.partition(b"\0")[2])
        elif profile[1] in ("exif", "APP1"):
            found.exif.append(content)
        elif profile[1] == "xmp":
            found.xmp.append(content)
        else:
            found.photoshop.append(content)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the chunks that may have metadata."""
    position = len(SIGNATURE)
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        start = position + 8
        if start + length > len(data):
            return
        if kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
            yield kind, data[start : start + length]
        position = start + length + 4


def _text(kind: bytes, content: bytes, most: int) -> tuple[str, bytes] | None:
    """Name and text of a chunk, None if it has more than `most` bytes or cannot be unpacked."""
    name, _, rest = content.partition(b"\0")
    packed = False
    if kind == b"zTXt":
        packed, rest = True, rest[1:]
    elif kind == b"iTXt":
        packed, rest = rest[:1] == b"\1", rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    if packed:
        unpacking = zlib.decompressobj()
        try:
            rest = unpacking.decompress(rest, most + 1)
        except zlib.error:
            return None
    return None if len(rest) > most else (name.decode("latin-1"), rest)


def _unpacked_profile(text: bytes) -> bytes:
    """A name, a number of bytes, and as many of them in hexadecimal digits; empty if they are something else."""
    parts = text.split(maxsplit=2)
    try:
        return bytes.fromhex(parts[2].decode("ascii")) if len(parts) == 3 else b""
    except ValueError:
        return b""
