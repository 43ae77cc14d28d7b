"""A camera RAW that is small enough to be made in a test: a DNG of one grey, with a preview."""

from __future__ import annotations

import struct
from collections.abc import Mapping

BYTE, ASCII, SHORT, LONG, RATIONAL, SIGNED_RATIONAL = 1, 2, 3, 4, 5, 10

FORMATS = {BYTE: "B", SHORT: "H", LONG: "I", RATIONAL: "II", SIGNED_RATIONAL: "ii"}

IDENTITY = [(int(row == column), 1) for row in range(3) for column in range(3)]

Tags = Mapping[int, tuple[int, list]]
"""Tag -> type and values; ASCII values are one str."""


def tiny_dng(
    size: tuple[int, int] = (96, 64),
    preview: bytes = b"",
    orientation: int = 1,
    dated: bool = True,
    crop: tuple[int, int] | None = None,
    camera: tuple[str, str] | None = None,
) -> bytes:
    """
    A DNG with a sensor of `size`, dark on the left and bright on the right. `preview` is a JPEG of
    any size, `orientation` what EXIF says of how the camera was held, `crop` the size of the picture if it is
    a part of the sensor. `camera` is a make and model whose RAW is no DNG, but else the same, such as a NEF.
    """
    width, height = size
    row = struct.pack(f"<{width}H", *(40_000 * (x >= width // 2) for x in range(width)))
    pixels = row * height
    main = {
        271: (ASCII, ["Example"]),
        272: (ASCII, ["E1"]),
        274: (SHORT, [orientation]),
        50706: (BYTE, [1, 4, 0, 0]),
        50708: (ASCII, ["Example E1"]),
        50721: (SIGNED_RATIONAL, IDENTITY),
        50728: (RATIONAL, [(1, 1)] * 3),
    }
    if camera is not None:
        main = {271: (ASCII, [camera[0]]), 272: (ASCII, [camera[1]]), 274: (SHORT, [orientation])}
    sensor = {
        254: (LONG, [0]),
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [16]),
        259: (SHORT, [1]),
        262: (SHORT, [32803]),
        277: (SHORT, [1]),
        278: (LONG, [height]),
        279: (LONG, [len(pixels)]),
        33421: (SHORT, [2, 2]),
        33422: (BYTE, [0, 1, 1, 2]),
        50717: (LONG, [65535]),
    }
    if crop is not None:
        sensor |= {50719: (LONG, [8, 8]), 50720: (LONG, list(crop))}
    photo = {33434: (RATIONAL, [(1, 250)]), 34855: (SHORT, [400]), 42036: (ASCII, ["50mm F1.2"])}
    if dated:
        photo[36867] = (ASCII, ["2021:07:14 18:03:11"])
    if preview:
        main |= {
            254: (LONG, [1]),
            256: (LONG, [64]),  # LibRaw reads the true size from the JPEG.
            257: (LONG, [48]),
            258: (SHORT, [8, 8, 8]),
            259: (SHORT, [7]),
            262: (SHORT, [6]),
            277: (SHORT, [3]),
            279: (LONG, [len(preview)]),
        }
    return _assemble(main, sensor, photo, preview, pixels)


def _assemble(main: Tags, sensor: Tags, photo: Tags, preview: bytes, pixels: bytes) -> bytes:
    """Twice: an offset takes as many bytes as the 0 that stands in for it."""
    offsets = dict.fromkeys(("sensor", "photo", "preview", "pixels"), 0)
    for _ in range(2):
        directories = {
            "main": main
            | {330: (LONG, [offsets["sensor"]]), 34665: (LONG, [offsets["photo"]])}
            | ({273: (LONG, [offsets["preview"]])} if preview else {}),
            "sensor": sensor | {273: (LONG, [offsets["pixels"]])},
            "photo": photo,
        }
        content = b"II*\0" + struct.pack("<I", 8)
        for name, tags in directories.items():
            offsets[name] = len(content)
            content += _directory(tags, len(content))
        offsets["preview"] = len(content)
        offsets["pixels"] = len(content) + len(preview)
    return content + preview + pixels


def _directory(tags: Tags, offset: int) -> bytes:
    entries, values = struct.pack("<H", len(tags)), b""
    after = offset + 2 + 12 * len(tags) + 4
    for tag, (kind, items) in sorted(tags.items()):
        value = _value(kind, items)
        count = len(value) if kind == ASCII else len(items)
        if len(value) <= 4:
            entries += struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")
        else:
            entries += struct.pack("<HHII", tag, kind, count, after + len(values))
            values += value + b"\0" * (len(value) % 2)
    return entries + struct.pack("<I", 0) + values


def _value(kind: int, items: list) -> bytes:
    if kind == ASCII:
        return items[0].encode() + b"\0"
    parts = [item if isinstance(item, tuple) else (item,) for item in items]
    return b"".join(struct.pack(f"<{FORMATS[kind]}", *part) for part in parts)
