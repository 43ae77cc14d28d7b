"""Files of some bytes that make a program take all memory or all time, written byte by byte."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image


def saved(size: tuple[int, int], format: str, **options) -> bytes:
    """Of one colour."""
    return _in_memory(Image.new("RGB", size, "red"), format, **options)


def noise(size: tuple[int, int], format: str, **options) -> bytes:
    """An honest photo, which takes as much as one of its size can."""
    return _in_memory(Image.effect_noise(size, 50).convert("RGB"), format, **options)


def _in_memory(picture: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg_of_scans(width: int, height: int, scans: int = 3, *, frame: int = 0xC0) -> bytes:
    """Each scan has one colour, so the decoder has to keep all of them until the last."""
    small = saved((16, 16), "JPEG")
    tables, position = b"", 2
    while small[position + 1] != 0xDA:
        end = position + 2 + int.from_bytes(small[position + 2 : position + 4], "big")
        if small[position + 1] in (0xDB, 0xC4):
            tables += small[position:end]
        position = end
    components = bytes([1, 0x11, 0, 2, 0x11, 1, 3, 0x11, 1])
    header = segment(frame, struct.pack(">BHHB", 8, height, width, 3) + components)
    data = b"\xff\xd8" + tables + header
    for scan in range(scans):
        colour = scan % 3
        data += segment(0xDA, bytes([1, colour + 1, 0x11 if colour else 0, 0, 63, 0])) + b"\0"
    return data + b"\xff\xd9"


def jpeg_of_segments(count: int, marker: int = 0xE1, content: bytes = b"Exif\0\0AA") -> bytes:
    whole = saved((16, 16), "JPEG")
    return whole[:2] + segment(marker, content) * count + whole[2:]


def jpeg_of_padding(count: int, byte: bytes = b"\xff") -> bytes:
    """After its first segment."""
    whole = saved((16, 16), "JPEG")
    return whole[:20] + byte * count + whole[20:]


def tiff_of_a_tile(width: int, length: int, order: str = "<", *, big: bool = False) -> bytes:
    """A picture of 100 x 100 pixels, which are part of one tile."""
    pixels = zlib.compress(bytes(100))
    longs = {256: 100, 257: 100, 322: width, 323: length, 325: len(pixels)}
    shorts = {258: 8, 259: 8, 262: 1, 277: 1, 284: 1, 339: 1}
    entry = 20 if big else 12
    start = 16 if big else 8
    directory = (8 if big else 2) + (len(longs) + len(shorts) + 1) * entry + (8 if big else 4)
    longs[324] = start + directory
    magic = {"<": b"II", ">": b"MM"}[order]
    if big:
        data = magic + struct.pack(f"{order}HHHQ", 43, 8, 0, start)
        data += struct.pack(f"{order}Q", len(longs) + len(shorts))
    else:
        data = magic + struct.pack(f"{order}HL", 42, start)
        data += struct.pack(f"{order}H", len(longs) + len(shorts))
    for tag, value in sorted({**longs, **shorts}.items()):
        kind = 3 if tag in shorts else 4
        data += struct.pack(f"{order}HH" + ("Q" if big else "L"), tag, kind, 1)
        data += struct.pack(order + ("H" if kind == 3 else "L"), value).ljust(
            8 if big else 4, b"\0"
        )
    return data + bytes(8 if big else 4) + pixels


def pgm_of_comments(count: int, *, as_text: bool = False) -> bytes:
    comments = b"#\n" * count
    if as_text:
        return b"P2\n8 8 255\n" + comments + b"1 " * 64
    return b"P5\n" + comments + b"8 8 255\n" + bytes(64)


def gif_of_blocks(count: int) -> bytes:
    header = b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0x80, 0, 0) + bytes(6)
    return header + b"!\xfe" + b"\x01a" * count + b"\0" + saved((8, 8), "GIF")[13:]


def avif_that_lies(width: int, height: int, said: tuple[int, int] = (64, 64)) -> bytes:
    """The box around the picture says another size than the picture."""
    data = bytearray(saved((width, height), "AVIF", speed=10, quality=1))
    position = data.index(b"ispe")
    data[position + 8 : position + 16] = struct.pack(">LL", *said)
    return bytes(data)


def png_of_chunks(count: int) -> bytes:
    whole = saved((8, 8), "PNG")
    empty = struct.pack(">L4sL", 0, b"abCd", zlib.crc32(b"abCd"))
    return whole[:33] + empty * count + whole[33:]


def png_bomb(width: int, height: int, megabytes: int = 100) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(name + content)
        return struct.pack(">L", len(content)) + name + content + struct.pack(">L", crc)

    header = struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(megabytes * 1_000_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def bmp_of_runs(count: int) -> bytes:
    """Of a pixel each. Pillow reads each run by itself."""
    width, height = 3000, -(-count // 3000)
    start = 14 + 40 + 1024
    header = struct.pack("<LllHHLLllLL", 40, width, height, 1, 8, 1, 2 * count, 0, 0, 256, 0)
    file = b"BM" + struct.pack("<LLL", start + 2 * count, 0, start)
    return file + header + bytes(1024) + b"\x01\x00" * count


def tiff_with_profile(size: int) -> bytes:
    """A profile that is good, and filled up with zeros."""
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = struct.pack(">L", size) + profile[4:].ljust(size - 4, b"\0")
    return saved((64, 64), "TIFF", icc_profile=profile)


def jpeg2000_that_lies(width: int, height: int) -> bytes:
    """A box of 64 x 64 pixels with a code stream that says it has others."""
    data = bytearray(saved((64, 64), "JPEG2000"))
    position = data.index(b"\xff\x4f\xff\x51") + 8
    data[position : position + 8] = struct.pack(">LL", width, height)
    return bytes(data)
