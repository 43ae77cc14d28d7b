"""The size of a JPEG XL is known before it is decoded."""

from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.ExifTags import Base

from datasette_image_search.decoding.decode import decode_bytes, stored_size
from datasette_image_search.decoding.jxl_size import CONTAINER, jxl_pixels
from datasette_image_search.decoding.opening import JXL, DecodeError, DecodeSettings, TooLarge

from .test_decode import decode, saved


@pytest.mark.skipif(not JXL, reason="pillow-jxl-plugin is not installed")
class TestWritten:
    @pytest.mark.parametrize(
        "size",
        [(8, 8), (256, 256), (7, 9), (300, 200), (640, 480), (1, 3000), (1920, 1080), (3000, 1)],
    )
    @pytest.mark.parametrize("use_container", [False, True])
    def test_the_size_in_the_header(self, size: tuple[int, int], use_container: bool):
        data = saved(Image.new("RGB", size), "JXL", use_container=use_container)
        assert data.startswith(CONTAINER) == use_container
        assert jxl_pixels(data) == size[0] * size[1]

    def test_one_above_the_limit_is_not_decoded(self):
        data = saved(Image.new("RGB", (1000, 1000)), "JXL")
        limited = DecodeSettings(np.asarray, image_size=32, max_pixels=999_999)
        with pytest.raises(TooLarge, match="more than the limit"):
            decode_bytes(data[:20], "", limited)

    @pytest.mark.parametrize("cut", [1, 3])
    def test_one_in_parts_is_read_within_the_limit_only(self, cut: int):
        kind = box(b"ftyp", b"jxl \0\0\0\0jxl ")
        data = CONTAINER + kind + parts(saved(Image.new("RGB", (1000, 1000)), "JXL"), cut)
        assert decode(data).width == 1000
        limited = DecodeSettings(np.asarray, image_size=32, max_pixels=999_999)
        with pytest.raises(TooLarge, match="more than the limit"):
            decode_bytes(data, "", limited)
        assert stored_size(data, 1_000_000) == ("JXL", (1000, 1000))
        with pytest.raises(TooLarge, match="more than the limit"):
            stored_size(data, 999_999)

    def test_what_exif_says_of_its_orientation_does_not_count(self):
        exif = Image.Exif()
        exif[Base.Orientation] = 6
        decoded = decode(saved(Image.new("RGB", (96, 64)), "JXL", exif=exif.tobytes()))
        assert (decoded.width, decoded.height) == (96, 64)


def bits(*fields: tuple[int, int]) -> bytes:
    """Values with their numbers of bits, the lowest first."""
    number = place = 0
    for value, count in fields:
        number |= value << place
        place += count
    return b"\xff\x0a" + number.to_bytes(16, "little")


def test_the_largest_sides_that_a_header_can_say():
    data = bits((0, 1), (3, 2), (2**30 - 1, 30), (0, 3), (3, 2), (2**30 - 1, 30))
    assert jxl_pixels(data) == 2**60


@pytest.mark.parametrize("ratio", range(1, 8))
def test_a_width_by_its_ratio(ratio: int):
    wide, high = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    assert jxl_pixels(bits((0, 1), (1, 2), (899, 13), (ratio, 3))) == 900 * (900 * wide // high)


def box(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def parts(stream: bytes, *cuts: int) -> bytes:
    """A code stream in a part up to each cut, and a last one."""
    places = [0, *cuts, len(stream)]
    return b"".join(
        box(b"jxlp", struct.pack(">I", number | (end == len(stream)) << 31) + stream[start:end])
        for number, (start, end) in enumerate(itertools.pairwise(places))
    )


STREAM = bits((0, 1), (1, 2), (899, 13), (0, 3), (1, 2), (699, 13))


@pytest.mark.parametrize("cuts", [(), (1,), (3,), (0, 0, 2, 5), tuple(range(1, 14))])
def test_a_code_stream_in_parts(cuts: tuple[int, ...]):
    assert jxl_pixels(CONTAINER + box(b"free") + parts(STREAM, *cuts)) == 900 * 700


def test_the_bytes_behind_a_part_are_none_of_it():
    junk = box(b"free", b"\xff" * 20)
    split = CONTAINER + parts(STREAM[:3]) + junk + box(b"jxlc", STREAM[3:])
    assert jxl_pixels(split) == 900 * 700


@pytest.mark.parametrize("size", [0, 1000, 2**31])
def test_a_box_may_end_with_the_file_or_behind_it(size: int):
    assert jxl_pixels(CONTAINER + struct.pack(">I4s", size, b"jxlc") + STREAM) == 900 * 700


@pytest.mark.parametrize(
    "content",
    [
        b"",
        box(b"free"),
        box(b"jxlc"),
        box(b"jxlp", b"\0"),
        box(b"jxlc", b"\0" + STREAM),
        box(b"free") * 1_001 + box(b"jxlc", STREAM),
        struct.pack(">I4sQ", 1, b"jxlc", 2**64 - 1) + STREAM,
    ],
    ids=["nothing", "no code stream", "empty", "half a part", "rubbish", "many boxes", "endless"],
)
def test_a_file_without_a_size_is_never_opened(content: bytes):
    """The decoder decodes all of it when it is opened."""
    assert jxl_pixels(CONTAINER + content) is None
    with pytest.raises(DecodeError, match="the picture is damaged: its header is invalid"):
        decode(CONTAINER + content)


@given(st.binary(max_size=100))
def test_damage_is_none_or_a_size(data: bytes):
    for pixels in (jxl_pixels(CONTAINER + data), jxl_pixels(b"\xff\x0a" + data)):
        assert pixels is None or pixels > 0
    assert jxl_pixels(data[:1]) is None
