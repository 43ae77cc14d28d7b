"""The part of an AVIF that is shown: its clean aperture."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasette_image_search.decoding.heif_properties import ShownAs, shown_as

from .test_decode import WRITABLE, corners_of, decode, four_corners, saved

pytestmark = pytest.mark.skipif("AVIF" not in WRITABLE, reason="this Pillow cannot write AVIF")


def with_aperture(data: bytes, *numbers: int) -> bytes:
    """An AVIF with a property more: width, height, and the shift of the centre, each as a fraction."""
    clap = struct.pack(">I4s4I4i", 40, b"clap", *numbers)
    ipco = data.index(b"ipco") - 4
    (size,) = struct.unpack_from(">I", data, ipco)
    count = 0
    position = ipco + 8
    while position < ipco + size:
        count += 1
        position += struct.unpack_from(">I", data, position)[0]
    ipma = data.index(b"ipma") - 4
    grown = bytearray(data)
    # One association more, of the first item.
    grown[ipma + 18] += 1
    many = data[ipma + 18]
    grown[ipma + 19 + many : ipma + 19 + many] = bytes([0x80 | count + 1])
    _grow(grown, ipma, 1)
    grown[ipco + size : ipco + size] = clap
    _grow(grown, ipco, 40)
    for name in (b"iprp", b"meta"):
        _grow(grown, data.index(name) - 4, 41)
    return _with_data_moved(bytes(grown), data, 41)


def _grow(data: bytearray, place: int, bytes_more: int) -> None:
    struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + bytes_more)


def _with_data_moved(grown: bytes, before: bytes, more: int) -> bytes:
    """The place of the pixels in "iloc", which is a number of 4 bytes."""
    place = before.index(b"mdat") + 4
    start, end = before.index(b"iloc"), before.index(b"iinf")
    old = struct.pack(">I", place)
    assert before.count(old, start, end) == 1
    return (
        grown[:start] + grown[start:end].replace(old, struct.pack(">I", place + more)) + grown[end:]
    )


AVIF = saved(four_corners(96, 64), "AVIF") if "AVIF" in WRITABLE else b""


def test_an_avif_is_cut_to_its_aperture():
    upper_left = with_aperture(AVIF, 48, 1, 32, 1, -24, 1, -16, 1)
    assert shown_as(upper_left).aperture == (48, 32, -24, -16)
    decoded = decode(upper_left)
    assert (decoded.width, decoded.height) == (48, 32)
    assert corners_of(decoded.model_input) == ["red"] * 4


@pytest.mark.parametrize(
    "numbers",
    [
        (480, 1, 32, 1, 0, 1, 0, 1),
        (48, 1, 32, 1, 40, 1, 0, 1),
        (47, 1, 32, 1, 0, 1, 0, 1),
        (48, 0, 32, 1, 0, 1, 0, 1),
        (0, 1, 0, 1, 0, 1, 0, 1),
    ],
    ids=["larger", "outside", "half a pixel", "divided by zero", "nothing"],
)
def test_an_aperture_that_is_no_part_of_the_picture_is_left_out(numbers: tuple[int, ...]):
    decoded = decode(with_aperture(AVIF, *numbers))
    assert (decoded.width, decoded.height) == (96, 64)


def test_the_codes_of_the_colours_are_read():
    assert shown_as(AVIF).cicp == (1, 13)


@given(data=st.binary(max_size=200), cut=st.integers(0, 400))
def test_damage_is_no_property(data: bytes, cut: int):
    assert shown_as(data) == ShownAs()
    assert isinstance(shown_as(AVIF[:cut] + data), ShownAs)
