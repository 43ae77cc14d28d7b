"""
The chunks of a PNG that the picture needs. Pillow refuses the whole file for one that is large or wrong; viewers
leave it out.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from PIL.PngImagePlugin import MAX_TEXT_CHUNK

SIGNATURE = b"\x89PNG\r\n\x1a\n"

MAX_TEXTS = 16_000_000
"""The most bytes of all texts together, decompressed."""

MAX_PROFILE = 8_000_000
"""The most bytes of a colour profile, decompressed. Those of printers have a million or two."""

_END = b"\0\0\0\0IEND\xaeB`\x82"

_SHORTEST = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"eXIf": 8}

_SHORTEST_TRANSPARENCY = {0: 2, 2: 6, 3: 1}
"""By the colour type."""

_TRANSPARENT: dict[tuple[int, int], Callable[[bytes], Any]] = {
    (2, 0): lambda content: 85 * content[1],
    (4, 0): lambda content: 17 * content[1],
    (16, 2): lambda content: tuple(content[:6:2]),
}
"""Depth and colour type -> the colour of a tRNS, in the 8 bits to which Pillow brings the samples, but not it."""

LOW_BITS = "transparency, low bits"
"""In the info of an image, for colours of 16 bits: the lower 8 of the colour that is transparent."""

_ANIMATION = (b"acTL", b"fcTL", b"fdAT")
"""Of a picture that moves, the still one counts that all programs show."""


@dataclass(frozen=True)
class _Chunk:
    kind: bytes
    start: int
    content: memoryview
    checksum: bytes

    @property
    def end(self) -> int:
        return self.start + 12 + len(self.content)

    @property
    def is_whole(self) -> bool:
        return self.checksum == struct.pack(">I", zlib.crc32(self.content, zlib.crc32(self.kind)))


@dataclass(frozen=True)
class ReadablePng:
    """
    `data` is the file without the chunks that keep Pillow from reading its picture: the file itself, not a copy, if
    all is well. `info` is for the info of its image: what Pillow does not read, or not right.
    """

    data: bytes
    info: dict[str, Any]


def readable_png(data: bytes) -> ReadablePng:
    left_out: list[_Chunk] = []
    texts, depth, colour_type = 0, 8, 0
    has_profile = False
    info: dict[str, Any] = {}
    for chunk in _chunks(data):
        kind = chunk.kind
        if kind == b"IHDR" and len(chunk.content) >= 13:
            depth, colour_type = chunk.content[8], chunk.content[9]
        if kind[:1].isupper():
            continue  # Without it there is no picture.
        if kind in _ANIMATION or not chunk.is_whole:
            left_out.append(chunk)
        elif kind == b"tRNS":
            if len(chunk.content) < _SHORTEST_TRANSPARENCY.get(colour_type, 0):
                left_out.append(chunk)
            elif (depth, colour_type) in _TRANSPARENT:
                info["transparency"] = _TRANSPARENT[depth, colour_type](bytes(chunk.content))
                if (depth, colour_type) == (16, 2):
                    info[LOW_BITS] = tuple(chunk.content[1:6:2])
        elif kind == b"cICP" and len(chunk.content) == 4:
            info["cicp"] = chunk.content[0], chunk.content[1]
        elif kind == b"iCCP":
            # A picture has one; thousands would be decompressed for nothing.
            profile = None if has_profile else _profile(bytes(chunk.content))
            has_profile = True
            if profile is None or len(profile) > MAX_TEXT_CHUNK:
                left_out.append(chunk)
                if profile is not None:
                    info["icc_profile"] = profile
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            size = _text_size(kind, bytes(chunk.content)) if texts < MAX_TEXTS else None
            texts += MAX_TEXT_CHUNK if size is None else size
            if size is None or texts > MAX_TEXTS:
                left_out.append(chunk)
        elif len(chunk.content) < _SHORTEST.get(kind, 0):
            left_out.append(chunk)
    return ReadablePng(_without(data, left_out), info)


def header_of(data: bytes) -> memoryview:
    """The content of the IHDR of a PNG that has one."""
    return next(chunk.content for chunk in _chunks(data) if chunk.kind == b"IHDR")


def pixels_of(data: bytes) -> Iterator[memoryview]:
    """The contents of the chunks with the compressed pixels; the end of the file may be in the last one."""
    position = len(SIGNATURE)
    for chunk in _chunks(data):
        position = chunk.end
        if chunk.kind == b"IDAT":
            yield chunk.content
    if data[position + 4 : position + 8] == b"IDAT":
        length = int.from_bytes(data[position : position + 4], "big")
        yield memoryview(data)[position + 8 : position + 8 + length]


def with_pixels(data: bytes, pixels: bytes) -> bytes:
    """The file up to its pixels, then other ones, which are compressed, and the end."""
    before = takewhile(lambda chunk: chunk.kind != b"IDAT", _chunks(data))
    start = max((chunk.end for chunk in before), default=len(SIGNATURE))
    checksum = zlib.crc32(pixels, zlib.crc32(b"IDAT"))
    chunk = struct.pack(">L4s", len(pixels), b"IDAT") + pixels + struct.pack(">L", checksum)
    return data[:start] + chunk + _END


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """Up to the first that has no name or no end, which is for Pillow to say."""
    position, view = len(SIGNATURE), memoryview(data)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">L4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data) or not re.fullmatch(rb"[A-Za-z]{4}", kind):
            return
        yield _Chunk(kind, position, view[position + 8 : end], data[end : end + 4])
        position = end + 4


def _without(data: bytes, chunks: list[_Chunk]) -> bytes:
    if not chunks:
        return data
    starts = [0, *(chunk.end for chunk in chunks)]
    ends = [*(chunk.start for chunk in chunks), len(data)]
    return b"".join(data[start:end] for start, end in zip(starts, ends, strict=True))


def _profile(content: bytes) -> bytes | None:
    """The profile of an iCCP; None if it is unreadable or larger than MAX_PROFILE."""
    _, _, rest = content.partition(b"\0")
    return _decompressed(rest[1:], MAX_PROFILE) if rest[:1] == b"\0" else None


def _text_size(kind: bytes, content: bytes) -> int | None:
    """The bytes of a text, decompressed; None if it has more than Pillow allows, or is unreadable."""
    _, _, rest = content.partition(b"\0")
    compressed = None
    if kind == b"zTXt":
        if rest[:1] != b"\0":
            return None
        compressed = rest[1:]
    elif kind == b"iTXt" and rest[:1] != b"\0":
        compressed = rest[2:].split(b"\0", 2)[-1]
    if compressed is None:
        return len(content) if len(content) <= MAX_TEXT_CHUNK else None
    text = _decompressed(compressed, MAX_TEXT_CHUNK)
    return None if text is None else len(text)


def _decompressed(data: bytes, most: int) -> bytes | None:
    try:
        content = zlib.decompressobj().decompress(data, most + 1)
    except zlib.error:
        return None
    return content if len(content) <= most else None
