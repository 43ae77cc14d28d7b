"""Whether all pixels of a PNG are there, by what its compressed data holds."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from itertools import pairwise

import pytest

from datasette_image_search.decoding.opening import DecodeError
from datasette_image_search.decoding.png_chunks import SIGNATURE
from datasette_image_search.decoding.png_pixels import has_all_pixels, whole_png

from .test_decode import decode, photo_like, png_chunk, saved

KINDS = [
    *((depth, 0) for depth in (1, 2, 4, 8, 16)),
    *((depth, 3) for depth in (1, 2, 4, 8)),
    *((depth, colour_type) for depth in (8, 16) for colour_type in (2, 4, 6)),
]
"""All depths and colour types of PNG."""

ROW = b"\0" + bytes([200, 100, 50]) * 100


def png(
    size: tuple[int, int],
    compressed: bytes,
    depth: int = 8,
    colour_type: int = 2,
    interlaced: bool = False,
    pieces: int = 1,
) -> bytes:
    """A PNG with its data in some pieces."""
    header = struct.pack(">LLBBBBB", *size, depth, colour_type, 0, 0, interlaced)
    palette = png_chunk(b"PLTE", bytes(range(256)) * 3) if colour_type == 3 else b""
    edges = [len(compressed) * number // pieces for number in range(pieces + 1)]
    data = b"".join(png_chunk(b"IDAT", compressed[start:end]) for start, end in pairwise(edges))
    return SIGNATURE + png_chunk(b"IHDR", header) + palette + data + png_chunk(b"IEND", b"")


def bytes_of(size: tuple[int, int], depth: int, colour_type: int, interlaced: bool) -> int:
    """Of the rows before they are compressed, counted pixel by pixel in Adam7's pattern of 8 x 8."""
    pattern = [
        "16462646",
        "77777777",
        "56565656",
        "77777777",
        "36463646",
        "77777777",
        "56565656",
        "77777777",
    ]
    width, height = size
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    rows: dict[tuple[str, int], int] = {}
    for y in range(height):
        for x in range(width):
            number = pattern[y % 8][x % 8] if interlaced else "1"
            rows[number, y] = rows.get((number, y), 0) + 1
    return sum(1 + (pixels * bits + 7) // 8 for pixels in rows.values())


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("depth", "colour_type"), KINDS)
@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 3), (5, 5), (9, 4), (17, 11)])
def test_one_byte_less_than_all_rows_is_damage(size, depth, colour_type, interlaced):
    needed = bytes_of(size, depth, colour_type, interlaced)
    whole = png(size, zlib.compress(bytes(needed)), depth, colour_type, interlaced)
    less = png(size, zlib.compress(bytes(needed - 1)), depth, colour_type, interlaced)
    assert (decode(whole).width, decode(whole).height) == size
    with pytest.raises(DecodeError, match="the picture is damaged: its end is missing"):
        decode(less)


@pytest.mark.parametrize("rows", [0, 1, 20, 95, 99])
def test_data_that_ends_early_is_damage(rows: int):
    """Pillow's decoder leaves the other rows black, and raises nothing."""
    with pytest.raises(DecodeError, match="the picture is damaged: its end is missing"):
        decode(png((100, 100), zlib.compress(ROW * rows)))


@pytest.mark.parametrize("rows", [100, 130])
@pytest.mark.parametrize("checksum", [b"oops", b""])
def test_a_wrong_checksum_behind_all_pixels_is_none(rows: int, checksum: bytes):
    data = png((100, 100), zlib.compress(ROW * rows)[:-4] + checksum)
    decoded = decode(data)
    assert decoded.warning is None
    assert (decoded.model_input == [200, 100, 50]).all()


def test_a_wrong_checksum_is_none_of_a_photo_either():
    whole = saved(photo_like((300, 200)))
    end = whole.rindex(b"IEND") - 8
    wrong = whole[: end - 4] + b"oops" + whole[end:]
    assert (decode(wrong).model_input == decode(whole).model_input).all()


@pytest.mark.parametrize("pieces", [2, 7, 100_000])
def test_the_data_may_be_in_many_chunks(pieces: int):
    compressed = zlib.compress(ROW * 100)
    pieces = min(pieces, len(compressed))
    assert has_all_pixels(png((100, 100), compressed, pieces=pieces))
    assert not has_all_pixels(png((100, 101), compressed, pieces=pieces))
    mended = whole_png(png((100, 100), compressed[:-4], pieces=pieces))
    assert mended is not None
    assert (decode(mended).model_input == [200, 100, 50]).all()


def test_all_pixels_may_be_in_a_file_that_is_cut_behind_them():
    """Pillow reads it if no row is missing, and viewers show it."""
    whole = png((100, 100), zlib.compress(bytes(301 * 100) + bytes(range(256)) * 100))
    cut = whole[: whole.index(b"IDAT") + 80]
    assert (decode(cut).model_input == 0).all()


def test_a_black_picture_is_whole():
    assert decode(png((100, 100), zlib.compress(bytes(301 * 100)))).warning is None


def test_little_memory_is_taken_whatever_the_data_unpacks_to():
    data = png((20_000, 20_000), zlib.compress(bytes(100_000_000)))
    tracemalloc.start()
    try:
        assert not has_all_pixels(data)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
