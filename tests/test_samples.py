"""Samples of all numbers of bits, and of all meanings, have the brightness that they stand for."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from .test_decode import RED, decode, middle, png_chunk, png_of, saved, tiff_of

BITS, PHOTOMETRIC, SAMPLES, PLANAR = 258, 262, 277, 284

LIGHT = 58_000


def tiff_of_planes(values: tuple[int, ...], size: tuple[int, int] = (40, 30)) -> bytes:
    """Of 16 bits, without compression, a strip for each plane."""
    width, height = size
    planes = [struct.pack("<H", value) * width * height for value in values]
    tags = {BITS: (16,) * len(values), PHOTOMETRIC: (2,), SAMPLES: (len(values),), PLANAR: (2,)}
    if len(values) == 4:
        tags[338] = (2,)
    offsets, counts = (0,) * len(values), (len(planes[0]),) * len(values)
    tags |= {273: offsets, 279: counts}
    whole = {256: (width,), 257: (height,), 259: (1,), 278: (height,)} | tags
    start = 8 + 2 + 12 * len(whole) + 4
    place = start + sum(2 * len(value) for value in whole.values() if len(value) > 2)
    whole[273] = tuple(place + number * len(planes[0]) for number in range(len(values)))
    entries = content = b""
    for tag, value in sorted(whole.items()):
        packed = struct.pack(f"<{len(value)}H", *value)
        if len(packed) > 4:
            content += packed
            packed = struct.pack("<I", start + len(content) - len(packed))
        entries += struct.pack("<HHI", tag, 3, len(value)) + packed.ljust(4, b"\0")
    return (
        b"II*\0"
        + struct.pack("<IH", 8, len(whole))
        + entries
        + bytes(4)
        + content
        + b"".join(planes)
    )


def test_a_tiff_of_12_bits_is_as_bright_as_one_of_16():
    row = bytes([0xE2, 0x8E, 0x28]) * 20  # Two samples of 0xE28 each.
    twelve = tiff_of((40, 30), {BITS: (12,), PHOTOMETRIC: (1,), SAMPLES: (1,)}, row * 30)
    assert middle(decode(twelve)) == pytest.approx([0xE2] * 3, abs=1)


@pytest.mark.parametrize(("photometric", "value"), [(1, LIGHT), (0, 65_535 - LIGHT)])
def test_white_may_be_zero_or_the_most_in_16_bits(photometric: int, value: int):
    pixels = struct.pack("<H", value) * 40 * 30
    data = tiff_of((40, 30), {BITS: (16,), PHOTOMETRIC: (photometric,), SAMPLES: (1,)}, pixels)
    assert middle(decode(data)) == pytest.approx([LIGHT >> 8] * 3, abs=1)


@pytest.mark.parametrize(
    ("bits", "photometric", "row"),
    [
        (1, 0, b"\xff\x00\xff\x00\xff"),
        (1, 1, b"\xff\x00\xff\x00\xff"),
        (4, 0, b"\xc8" * 20),
        (4, 1, b"\xc8" * 20),
        (8, 0, bytes(range(40))),
        (8, 1, bytes(range(40))),
        (12, 1, b"\xe2\x8e\x28" * 20),
        (16, 0, b"\x90\xe2" * 40),
        (16, 1, b"\x90\xe2" * 40),
    ],
)
def test_a_single_plane_is_as_pixels(bits: int, photometric: int, row: bytes):
    tags = {BITS: (bits,), PHOTOMETRIC: (photometric,), SAMPLES: (1,)}
    as_pixels, as_plane = (
        decode(tiff_of((40, 30), tags | {PLANAR: (planar,)}, row * 30)) for planar in (1, 2)
    )
    assert (as_plane.model_input == as_pixels.model_input).all()


@pytest.mark.parametrize("alpha", [(), (65_535,)])
def test_planes_of_16_bits_are_as_pixels_of_16_bits(alpha: tuple[int, ...]):
    decoded = decode(tiff_of_planes((60_000, 30_000, 1_000, *alpha)))
    assert middle(decoded) == pytest.approx([234, 117, 4], abs=1)
    assert np.ptp(decoded.model_input, axis=(0, 1)).max() == 0


@pytest.mark.parametrize(
    ("depth", "colour_type", "value", "transparent"),
    [
        (2, 0, b"\x55" * 10, struct.pack(">H", 1)),
        (4, 0, b"\x55" * 20, struct.pack(">H", 5)),
        (8, 0, b"\x55" * 40, struct.pack(">H", 0x55)),
        (16, 0, b"\x12\x34" * 40, struct.pack(">H", 0x1234)),
        (8, 2, b"\x01\x02\x03" * 40, struct.pack(">3H", 1, 2, 3)),
        (16, 2, b"\x12\x34\x56\x78\x9a\xbc" * 40, struct.pack(">3H", 0x1234, 0x5678, 0x9ABC)),
    ],
)
def test_a_colour_that_is_declared_transparent_is_white_in_any_number_of_bits(
    depth: int, colour_type: int, value: bytes, transparent: bytes
):
    rows = (b"\0" + value) * 30
    other = bytes(byte ^ 2 for byte in transparent)
    white = png_of((40, 30), depth, colour_type, rows, png_chunk(b"tRNS", transparent))
    opaque = png_of((40, 30), depth, colour_type, rows)
    assert middle(decode(white)) == [255, 255, 255]
    assert middle(decode(opaque)) != [255, 255, 255]
    kept = png_of((40, 30), depth, colour_type, rows, png_chunk(b"tRNS", other))
    assert middle(decode(kept)) == middle(decode(opaque))
    if depth == 16:
        # Only the lower 8 bits are others.
        near = bytes(byte ^ (number % 2) for number, byte in enumerate(transparent))
        kept = png_of((40, 30), depth, colour_type, rows, png_chunk(b"tRNS", near))
        assert middle(decode(kept)) == middle(decode(opaque))


@pytest.mark.parametrize("colours", [2, 256])
def test_a_first_picture_that_is_smaller_than_its_gif_has_white_around_it(colours: int):
    small = saved(RED.quantize(colours), "GIF")
    # The size of the canvas, and the place of the picture in it.
    place = small.index(b",", 13 + 3 * (2 << (small[10] & 7)) if small[10] & 0x80 else 13)
    data = bytearray(small)
    data[6:10] = struct.pack("<HH", 100, 80)
    data[place + 1 : place + 5] = struct.pack("<HH", 20, 10)
    decoded = decode(bytes(data))
    pixels = decoded.model_input
    assert (decoded.width, decoded.height) == (100, 80)
    assert pixels[25, 40].tolist() == [250, 10, 10]
    assert (pixels[:10] == 255).all()
    assert (pixels[:, 61:] == 255).all()


def test_a_gif_that_fills_its_canvas_is_as_it_was():
    picture = Image.new("P", (40, 30), 1)
    picture.putpalette([0, 0, 0, 200, 0, 0])
    assert middle(decode(saved(picture, "GIF"))) == [200, 0, 0]
