"""Where the kinds of files have their metadata, as bytes. Decodes no pixels."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, field

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from .boxes import boxes
from .exif import IPTC_TAG, PHOTOSHOP_TAG, XMP_TAG
from .iptc import iptc_of_photoshop
from .png import SIGNATURE, png_metadata
from .tiff import Tiff

_XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_EXIF_UUID = b"JpgTiffExif->JP2"
_IPTC_UUID = bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38")
_CANON_UUID = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")

_GIF_XMP = b"\x0bXMP DataXMP"
"""Behind it a packet is in one piece, not in blocks as the rest of a GIF."""

_XMP_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
"""Begins each part of what a JPEG has no room for in one segment; the packet in that names the whole."""

_EXTENSION_HEAD = struct.Struct(">32sLL")
"""The name of the whole, its length, and where the part begins in it."""

_TIFFS = (b"II", b"MM")

MOST_BOXES = 10_000

LONGEST_BOX = 4_000_000
"""Bytes of metadata in one."""

MOST_SOURCES = 4
"""Of one kind. Pictures have one or two; reading thousands would take a minute."""

PREVIEW = 1_000_000
"""Bytes from the beginning of a preview, where its EXIF is."""


@dataclass
class Sources:
    """
    TIFFs with EXIF, TIFFs with the GPS alone, XMP packets, IPTC's records, and texts of a PNG by name.
    """

    exif: list[bytes] = field(default_factory=list)
    gps: list[bytes] = field(default_factory=list)
    xmp: list[bytes] = field(default_factory=list)
    iptc: list[bytes] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)


def sources_of(data: bytes, image: Image.Image | None) -> Sources:
    """
    The metadata in the bytes of a file, and in `image`: that file as Pillow opened it, or the preview of a
    RAW.
    """
    found = Sources()
    if data.startswith(SIGNATURE):
        png = png_metadata(data)
        found.exif, found.xmp, found.texts = png.exif, png.xmp, png.texts
        found.iptc = [iptc_of_photoshop(each) or each for each in png.photoshop]
    elif data[:2] in _TIFFS:
        _of_tiff(data, found)
    elif data.startswith(b"FUJIFILMCCD-RAW"):
        _of_raf(data, found)
    elif data.startswith(b"\0MRM"):
        _of_mrw(data, found)
    elif (data[4:8] == b"ftyp" and data[8:12] == b"crx ") or data[4:8] == b"jP  ":
        _of_boxes(data, found)
    elif data.startswith(b"GIF8"):
        _, _, packet = data.partition(_GIF_XMP)
        found.xmp += [packet] if packet else []
    if image is not None:
        _of_pillow(image, found)
    return Sources(
        found.exif[:MOST_SOURCES],
        found.gps[:MOST_SOURCES],
        found.xmp[:MOST_SOURCES],
        found.iptc[:MOST_SOURCES],
        found.texts,
    )


def _of_pillow(image: Image.Image, found: Sources) -> None:
    """JPEG, WebP, AVIF, HEIC and JPEG XL, which Pillow and its plugins take apart."""
    for name, into in (("exif", found.exif), ("xmp", found.xmp)):
        value = image.info.get(name)
        if isinstance(value, bytes) and value not in into:
            into.append(value)
    extension = _xmp_extension(image)
    if extension is not None:
        found.xmp.append(extension)
    resources = image.info.get("photoshop")
    if isinstance(resources, dict) and isinstance(resources.get(0x0404), bytes):
        found.iptc.append(resources[0x0404])


def _xmp_extension(image: Image.Image) -> bytes | None:
    """The second packet of a JPEG whose XMP is above 64 kB; None if a part is missing or there is none."""
    packet = image.info.get("xmp")
    parts: dict[int, bytes] = {}
    whole_length = 0
    start = len(_XMP_EXTENSION) + _EXTENSION_HEAD.size
    for _, segment in getattr(image, "applist", ()):
        if not segment.startswith(_XMP_EXTENSION) or len(segment) < start:
            continue
        name, length, offset = _EXTENSION_HEAD.unpack_from(segment, len(_XMP_EXTENSION))
        if isinstance(packet, bytes) and name in packet and length <= LONGEST_BOX:
            whole_length = length
            parts[offset] = segment[start:]
    whole = bytearray()
    for offset in sorted(parts):
        if offset != len(whole):
            return None
        whole += parts[offset]
    return bytes(whole) if whole and len(whole) == whole_length else None


def _of_tiff(data: bytes, found: Sources) -> None:
    found.exif.append(data)
    tags = Tiff(data).blocks({XMP_TAG, IPTC_TAG, PHOTOSHOP_TAG})
    for tag, into, read in (
        (XMP_TAG, found.xmp, bytes),
        (IPTC_TAG, found.iptc, bytes),
        (PHOTOSHOP_TAG, found.iptc, iptc_of_photoshop),
    ):
        if tag in tags:
            into.append(read(tags[tag]))


def _of_raf(data: bytes, found: Sources) -> None:
    """Fujifilm's RAW begins with a whole JPEG."""
    start, length = struct.unpack_from(">LL", data.ljust(100, b"\0"), 84)
    try:
        with JpegImageFile(io.BytesIO(data[start : start + min(length, PREVIEW)])) as preview:
            _of_pillow(preview, found)
    except Exception:
        return  # Pillow raises SyntaxError, OSError, struct.error and more.


def _of_mrw(data: bytes, found: Sources) -> None:
    """Minolta's RAW has blocks, one of which is a TIFF."""
    position = 8
    for _ in range(MOST_BOXES):
        # A length may say that the next block is gigabytes away.
        if position + 8 > len(data):
            return
        kind, length = struct.unpack_from(">4sL", data, position)
        if kind == b"\0TTW":
            found.exif.append(data[position + 8 : position + 8 + length])
        if not kind.startswith(b"\0"):
            return
        position += 8 + length


def _of_boxes(data: bytes, found: Sources) -> None:
    """Canon's CR3, and JPEG 2000."""
    readers: dict[bytes, list[bytes]] = {
        _XMP_UUID: found.xmp,
        _EXIF_UUID: found.exif,
        _IPTC_UUID: found.iptc,
        b"CMT1": found.exif,
        b"CMT2": found.exif,
        b"CMT4": found.gps,
        b"xml ": found.xmp,
    }
    waiting = [(0, len(data))]
    seen = 0
    while waiting:
        for kind, inner, stop in boxes(data, *waiting.pop()):
            seen += 1
            if seen > MOST_BOXES:
                return
            if kind == b"uuid":
                kind, inner = data[inner : inner + 16], inner + 16
            if kind in (b"moov", _CANON_UUID):
                waiting.append((inner, stop))
            elif kind in readers and stop - inner <= LONGEST_BOX:
                readers[kind].append(data[inner:stop])
