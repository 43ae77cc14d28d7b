"""The size of a JPEG XL is known before it is decoded."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.ExifTags import Base

from datasette_image_search.decoding.decode import decode_bytes
from datasette_image_search.decoding.jxl_size import CONTAINER, jxl_pixels
from datasette_image_search.decoding.opening import JXL, DecodeSettings, TooLarge

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


def test_a_code_stream_in_parts():
    stream = bits((1, 1), (3, 5), (1, 3))
    parts = struct.pack(">I4sI", 12 + len(stream), b"jxlp", 0) + stream
    assert jxl_pixels(CONTAINER + struct.pack(">I4s", 8, b"free") + parts) == 32 * 32


@given(st.binary(max_size=100))
def test_damage_has_no_size(data: bytes):
    assert jxl_pixels(CONTAINER + data) >= 0
    assert jxl_pixels(b"\xff\x0a" + data) >= 0
    assert jxl_pixels(data[:1]) == 0
