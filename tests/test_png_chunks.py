"""A PNG is read whatever else is in it than its picture."""

from __future__ import annotations

import struct
import zlib

import pytest

from datasette_image_search.decoding import png_chunks
from datasette_image_search.decoding.png_chunks import MAX_TEXTS, ReadablePng, readable_png

from .test_decode import decode, four_corners, middle, png_chunk, png_of, rgb_profile, saved

PLAIN = png_of((8, 8), 8, 2, (b"\0" + bytes([200, 10, 10]) * 8) * 8)
RED = [200, 10, 10]


def png_with(*chunks: bytes) -> bytes:
    return PLAIN[:33] + b"".join(chunks) + PLAIN[33:]


def wrong(chunk: bytes) -> bytes:
    return chunk[:-4] + b"oops"


LARGE = zlib.compress(b"".join(b"step %d\n" % number for number in range(200_000)))


@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"zTXt", b"Comment\0\0" + LARGE),
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LARGE),
        png_chunk(b"tEXt", b"Comment\0" + b"x" * 1_500_000),
        png_chunk(b"zTXt", b"Comment\0\7" + LARGE),
        png_chunk(b"zTXt", b"Comment\0\0rubbish"),
        png_chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(9_000_000))),
        png_chunk(b"iCCP", b"name\0\0rubbish"),
        png_chunk(b"iCCP", b"name\0\x01" + zlib.compress(b"profile")),
        wrong(png_chunk(b"tEXt", b"a\0b")),
        wrong(png_chunk(b"pHYs", bytes(9))),
        wrong(png_chunk(b"eXIf", b"II*\0\x08\0\0\0")),
        png_chunk(b"sRGB", b""),
        png_chunk(b"gAMA", b"ab"),
        png_chunk(b"cHRM", bytes(8)),
        png_chunk(b"pHYs", bytes(4)),
        png_chunk(b"tRNS", b"a"),
        png_chunk(b"acTL", bytes(8)),
        png_chunk(b"acTL", b"") + png_chunk(b"fcTL", b""),
    ],
)
def test_a_chunk_beside_the_picture_that_is_large_or_wrong_is_left_out(chunk: bytes):
    assert readable_png(png_with(chunk)) == ReadablePng(PLAIN, {})
    assert middle(decode(png_with(chunk))) == RED


def test_what_is_well_is_not_copied():
    well = png_with(png_chunk(b"tEXt", b"a\0b"), png_chunk(b"pHYs", bytes(9)))
    assert readable_png(well).data is well


def test_a_chunk_behind_the_pixels_is_left_out_too():
    chunk = png_chunk(b"zTXt", b"Comment\0\0" + LARGE)
    assert middle(decode(PLAIN[:-12] + chunk + PLAIN[-12:])) == RED


def test_all_texts_together_are_limited():
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1_000_000)))
    left = readable_png(png_with(*[text] * 50))
    assert left.data.count(b"zTXt") == MAX_TEXTS // 1_000_000


def test_a_profile_of_more_than_a_megabyte_is_applied():
    """The profiles of printers are that large; this one is filled up with zeros."""
    size = 1_500_000
    profile = rgb_profile("b", "g", "r")
    profile = struct.pack(">I", size) + profile[4:].ljust(size - 4, b"\0")
    chunk = png_chunk(b"iCCP", b"name\0\0" + zlib.compress(profile))
    assert middle(decode(png_with(chunk))) == pytest.approx([10, 10, 200], abs=12)


def test_of_many_profiles_the_first_is_read_alone(monkeypatch: pytest.MonkeyPatch):
    first, another = (
        png_chunk(b"iCCP", b"name\0\0" + zlib.compress(rgb_profile(*colours)))
        for colours in ("bgr", "rgb")
    )
    assert readable_png(png_with(first, *[another] * 9)).data == png_with(first)
    assert middle(decode(png_with(first, another))) == pytest.approx([10, 10, 200], abs=12)
    read = []
    monkeypatch.setattr(png_chunks, "_profile", read.append)
    readable_png(png_with(*[first] * 100))
    assert len(read) == 1


def test_of_an_animation_the_picture_counts_that_all_programs_show():
    red, blue = four_corners(8, 8), four_corners(8, 8).rotate(90)
    moving = saved(red, save_all=True, append_images=[blue], default_image=True)
    assert b"acTL" in moving
    assert (decode(moving).model_input == decode(saved(red)).model_input).all()


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        PLAIN[-12:-3],
        png_chunk(b"IDAT", bytes(100))[:50],
        png_chunk(b"tEXt", b"a\0" + bytes(100))[:50],
        png_chunk(b"IHDR", b"") + PLAIN[-12:],
        b"\0" * 20,
    ],
    ids=["nothing", "half an end", "more pixels", "half a text", "another header", "zeros"],
)
def test_damage_behind_the_pixels_is_none_of_the_picture(tail: bytes):
    decoded = decode(PLAIN[:-12] + tail)
    assert middle(decoded) == RED
    assert decoded.warning is None


@pytest.mark.parametrize("length", [9, 20, 40, 60])
def test_a_file_that_ends_early_is_left_to_pillow(length: int):
    assert readable_png(PLAIN[:length]) == ReadablePng(PLAIN[:length], {})
