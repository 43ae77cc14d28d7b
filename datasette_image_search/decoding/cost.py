"""
The cost of opening a file that may be hostile, read from its headers before Pillow and its decoders see
it. They trust sizes that a tiny file can claim, and parse in Python parts of which a file can have
millions.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from .av1_size import av1_pixels
from .boxes import Boxes
from .jpeg_data import SCAN, markers
from .jxl_size import CONTAINER, jxl_pixels
from .png_chunks import SIGNATURE

MAX_SCANS = 50
"""The most scans of a JPEG that is decoded scan by scan. 10 are usual; thousands, of a few bytes each, would
take minutes."""

MAX_SEGMENTS = 2_000
"""The most segments of a JPEG before its pixels. A colour profile has a few hundred at most, as XMP has."""

MAX_EXIF_SEGMENTS = 100
"""The most EXIF segments. Pillow copies all earlier ones for each of them."""

MAX_JUNK = 100_000
"""The most bytes between the segments of a JPEG. Pillow reads them one by one."""

LONGEST_HEADER = 10_000
"""The most bytes of a PPM before its pixels, with comments. Pillow reads them one by one."""

MAX_COMMENTS = 100
"""The most comments of a PPM that is a text. Half a megabyte is copied for each."""

MAX_BLOCKS = 20_000
"""The most blocks, of up to 255 bytes, of a GIF before its pixels. Each takes Pillow a round of a loop."""

MAX_CHUNKS = 10_000
"""The most chunks of a PNG besides those of its pixels: texts, colours, times. Pillow reads them one by
one."""


@dataclass(frozen=True)
class Cost:
    """
    `pixels` is what the decoder will hold in memory, whatever size the picture claims. `problem` says why
    reading the file would take too long, `unsupported` of what kind it is if no decoder reads that.
    """

    pixels: int = 0
    problem: str | None = None
    unsupported: str | None = None


def cost_of(data: bytes) -> Cost:
    """Reads only headers, and no more of them than a real picture has."""
    if data.startswith(b"\xff\xd8\xff"):
        return _of_jpeg(data)
    if data[:2] in (b"II", b"MM"):
        return _of_tiff(data)
    if data.startswith(SIGNATURE):
        return _of_png(data)
    if data.startswith(b"GIF8"):
        return _of_gif(data)
    if re.match(rb"P[0-9fy]", data[:2]):
        return _of_ppm(data)
    if data.startswith((b"\xff\x0a", CONTAINER)):
        pixels = jxl_pixels(data)
        return Cost(problem="its header is invalid") if pixels is None else Cost(pixels)
    if data[4:8] == b"ftyp":
        return _of_boxes(data)
    if data.startswith(_JPEG2000):
        return Cost(_jpeg2000_pixels(data[:1_000_000]))
    return Cost()


# --- JPEG ------------------------------------------------------------------------------------------


def _of_jpeg(data: bytes) -> Cost:
    """
    Walks over the segments as Pillow does. If each scan has only one colour, the decoder holds
    coefficients until the last scan, as for a progressive picture: two bytes for each colour of each
    pixel.
    """
    position, junk, exifs = 2, 0, 0
    width = height = components = 0
    progressive = False
    for _ in range(MAX_SEGMENTS):
        start = data.find(b"\xff", position)
        if start < 0:
            return Cost()
        after = start
        while data[after : after + 1] == b"\xff" and after - start <= MAX_JUNK:
            after += 1
        junk += after - position - 1
        if junk > MAX_JUNK:
            return Cost(problem="its header is mostly padding")
        marker = data[after : after + 1]
        position = after + 1
        if marker in _ALONE:
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        segment = data[position + 2 : position + length]
        if marker == b"\xe1" and segment.startswith(b"Exif\0\0"):
            exifs += 1
            if exifs > MAX_EXIF_SEGMENTS:
                return Cost(problem=f"it has more than {MAX_EXIF_SEGMENTS} parts of EXIF")
        elif marker in _FRAMES and len(segment) >= 6:
            depth, height, width, components = struct.unpack_from(">BHHB", segment)
            if depth in _JPEG_DEPTHS:
                return Cost(unsupported=f"JPEG with {depth} bits")
            progressive = marker in _PROGRESSIVE
        elif marker == b"\xda":
            if not (progressive or segment[:1] < bytes([components])):
                return Cost()
            if _has_many_scans(data, start):
                return Cost(problem=f"it has more than {MAX_SCANS} scans")
            return Cost(width * height // 2)
        position += length
    return Cost(problem=f"it has more than {MAX_SEGMENTS:,} segments before its pixels")


def _has_many_scans(data: bytes, position: int) -> bool:
    """
    Whether a JPEG has more than MAX_SCANS from a position on, up to its end. Profiles, EXIF, and what lies
    behind the picture, such as a film, may have the bytes of the marker by chance.
    """
    scans = 0
    for number, (marker, _) in enumerate(markers(data, position)):
        scans += marker == SCAN
        if scans > MAX_SCANS or number > MAX_SEGMENTS:
            return True
    return False


_ALONE = {bytes([marker]) for marker in (0x00, 0x01, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE))}
"""Markers without a length after them."""

_FRAMES = {bytes([marker]) for marker in range(0xC0, 0xD0) if marker not in (0xC4, 0xC8, 0xCC)}

_JPEG_DEPTHS = (12, 16)
"""Bits of a sample, of cameras in medicine and the like; all other JPEG has 8."""

_PROGRESSIVE = {b"\xc2", b"\xc6", b"\xca", b"\xce"}


# --- TIFF ------------------------------------------------------------------------------------------


_TILE_WIDTH, _TILE_LENGTH = 322, 323

_NUMBERS = {3: "H", 4: "L", 16: "Q"}
"""Type of a tag -> the form of its number, at the begin of its place."""


def _of_tiff(data: bytes) -> Cost:
    """Counts whole tiles, because a tile is decoded whole even if little of it is in the picture."""
    tags = dict(_numbers(data))
    return Cost(tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_LENGTH, 0))


def _numbers(tiff: bytes) -> Iterator[tuple[int, int]]:
    """The tags of the first directory, with their values."""
    order = "<" if tiff.startswith(b"II") else ">"
    is_big = b"+" in tiff[2:4]
    offset, count, entry, value_size = (
        ("8xQ", "Q", "HH8x", 8) if is_big else ("4xL", "H", "HH4x", 4)
    )
    try:
        (directory,) = struct.unpack_from(order + offset, tiff)
        (tags,) = struct.unpack_from(order + count, tiff, directory)
        position = directory + struct.calcsize(order + count)
        for _ in range(tags):
            tag, kind = struct.unpack_from(order + entry, tiff, position)
            position += struct.calcsize(order + entry)
            (number,) = struct.unpack_from(order + _NUMBERS.get(kind, "L"), tiff, position)
            position += value_size
            yield tag, number
    except struct.error:
        return  # The file ends here, which Pillow will say.


# --- Other formats ---------------------------------------------------------------------------------


def _of_png(data: bytes) -> Cost:
    position, others = len(SIGNATURE), 0
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">L4s", data, position)
        position += 12 + length
        if kind in (b"IDAT", b"fdAT") and length:
            continue
        others += 1
        if others > MAX_CHUNKS:
            return Cost(problem=f"it has more than {MAX_CHUNKS:,} chunks beside its pixels")
    return Cost()


def _of_gif(data: bytes) -> Cost:
    """Reads comments and application blocks, up to the picture."""
    position, is_in_extension = 13, False
    if len(data) > 10 and data[10] & 0x80:
        position += 3 << (data[10] & 7) + 1
    for _ in range(MAX_BLOCKS):
        if position >= len(data):
            return Cost()
        byte = data[position]
        if is_in_extension:
            position += 1 + byte
            is_in_extension = byte > 0
        elif byte == 0x21:
            position += 2
            is_in_extension = True
        elif byte in (0x2C, 0x3B):
            return Cost()
        else:
            position += 1
    return Cost(problem=f"it has more than {MAX_BLOCKS:,} blocks before its pixels")


def _of_ppm(data: bytes) -> Cost:
    header = re.sub(rb"#[^\r\n]*", b"", data[:LONGEST_HEADER])
    if len(data) > LONGEST_HEADER and len(header.split(maxsplit=4)) < 4:
        return Cost(problem=f"its header has more than {LONGEST_HEADER:,} bytes")
    if data[1:2] in (b"1", b"2", b"3") and data.count(b"#") > MAX_COMMENTS:
        return Cost(problem=f"it has more than {MAX_COMMENTS} comments")
    return Cost()


def _of_boxes(data: bytes) -> Cost:
    """Reads AVIF and HEIF: the decoder allocates memory for the size in the data, not for the picture's."""
    boxes = Boxes(data)
    if boxes.problem is not None:
        return Cost(problem=boxes.problem)
    return Cost(max(map(av1_pixels, boxes.items()), default=0))


def _jpeg2000_pixels(data: bytes) -> int:
    """The pixels by its code streams, which count, not by the box around them."""
    return max(
        (
            (width - left) * (height - top) * max(components, 3) // 3
            for match in _STREAM.finditer(data)
            for width, height, left, top, components in [_SIZE.unpack(match[1])]
        ),
        default=0,
    )


_JPEG2000 = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
_SIZE = struct.Struct(">4L16xH")
_STREAM = re.compile(rb"\xff\x4f\xff\x51.{4}(.{34})", re.DOTALL)
