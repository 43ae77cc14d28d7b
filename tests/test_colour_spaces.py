"""Colours that a file describes by numbers look as they do in a browser: the values are those of Chromium 156."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from datasette_image_search.decoding.colour_spaces import ColourSpace, apply_space, space_of

from .test_decode import WRITABLE, decode, middle, png_chunk, png_of, rgb_profile, saved

SRGB_CHROMATICITIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


def grey_png(value: int, *chunks: bytes) -> bytes:
    return png_of((40, 30), 8, 2, (b"\0" + bytes([value] * 3) * 40) * 30, *chunks)


def gamma(value: float) -> bytes:
    return png_chunk(b"gAMA", struct.pack(">I", round(value * 100_000)))


def chromaticities(*values: int) -> bytes:
    return png_chunk(b"cHRM", struct.pack(">8I", *values))


def cicp(primaries: int, transfer: int) -> bytes:
    return png_chunk(b"cICP", bytes([primaries, transfer, 0, 1]))


def avif_of(colour: tuple[int, int, int], primaries: int, transfer: int) -> bytes:
    if "AVIF" not in WRITABLE:
        pytest.skip("this Pillow cannot write AVIF")
    data = bytearray(
        saved(Image.new("RGB", (40, 30), colour), "AVIF", quality=100, subsampling="4:4:4")
    )
    codes = data.index(b"colrnclx") + 8
    data[codes : codes + 4] = struct.pack(">HH", primaries, transfer)
    return bytes(data)


# --- PNG -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("exponent", "shown"), [(1.0, 188), (1 / 1.8, 148), (1 / 2.2, 128)])
def test_gamma_of_a_png_is_applied(exponent: float, shown: int):
    assert middle(decode(grey_png(128, gamma(exponent)))) == pytest.approx([shown] * 3, abs=2)


def test_gamma_of_a_grey_png_is_applied():
    data = png_of((40, 30), 8, 0, (b"\0" + bytes([128] * 40)) * 30, gamma(1.0))
    assert middle(decode(data)) == pytest.approx([188] * 3, abs=2)


@pytest.mark.parametrize(
    "chunks",
    [
        [gamma(1.0), png_chunk(b"sRGB", b"\0")],
        [gamma(0)],
        [gamma(1 / 2.2), chromaticities(*SRGB_CHROMATICITIES)],
        [chromaticities(*[0] * 8)],
        [chromaticities(*[33333] * 8)],
        [gamma(1.0), cicp(1, 13)],
    ],
    ids=["sRGB", "zero", "nearly sRGB", "no colours", "all white", "cICP"],
)
def test_colours_stay_if_they_are_those_of_srgb_or_make_no_sense(chunks: list[bytes]):
    data = png_of((40, 30), 8, 2, (b"\0" + bytes([250, 10, 10]) * 40) * 30, *chunks)
    assert middle(decode(data)) == [250, 10, 10]


def test_chromaticities_of_a_png_are_applied():
    swapped = (31270, 32900, 15000, 6000, 30000, 60000, 64000, 33000)
    data = png_of(
        (40, 30), 8, 2, (b"\0" + bytes([250, 10, 10]) * 40) * 30, chromaticities(*swapped)
    )
    assert middle(decode(data)) == pytest.approx([10, 10, 250], abs=2)


def test_a_profile_counts_before_gamma():
    data = saved(Image.new("RGB", (40, 30), (250, 10, 10)), icc_profile=rgb_profile("b", "g", "r"))
    with_gamma = data[:33] + gamma(1.0) + data[33:]
    assert (decode(with_gamma).model_input == decode(data).model_input).all()


# --- CICP ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codes", "grey", "shown"),
    [
        ((9, 16), 64, 30),
        ((9, 16), 96, 70),
        ((9, 16), 128, 132),
        ((9, 16), 160, 213),
        ((9, 16), 192, 255),
        ((9, 18), 96, 71),
        ((9, 18), 160, 135),
        ((9, 18), 224, 228),
        ((9, 14), 128, 128),
        ((1, 8), 96, 165),
        ((1, 1), 96, 96),
        ((2, 2), 96, 96),
    ],
)
@pytest.mark.parametrize("format", ["AVIF", "PNG"])
def test_hdr_is_shown_as_on_a_screen_without_it(format: str, codes, grey: int, shown: int):
    data = avif_of((grey,) * 3, *codes) if format == "AVIF" else grey_png(grey, cicp(*codes))
    assert middle(decode(data)) == pytest.approx([shown] * 3, abs=4)


@pytest.mark.parametrize(
    ("codes", "colour", "shown"),
    [((12, 13), (128, 42, 0), (139, 33, 0)), ((9, 16), (128, 42, 0), (166, 0, 0))],
)
def test_other_primaries_are_brought_to_those_of_srgb(codes, colour, shown):
    assert middle(decode(avif_of(colour, *codes))) == pytest.approx(shown, abs=5)


# --- The transformation ----------------------------------------------------------------------------


def test_white_and_black_stay():
    for space in (
        ColourSpace(gamma=1.0),
        ColourSpace(chromaticities=(0.3457, 0.3585, 0.7, 0.3, 0.2, 0.7, 0.1, 0.05)),
    ):
        picture = Image.new("RGB", (2, 1), "white")
        picture.putpixel((1, 0), (0, 0, 0))
        assert np.asarray(apply_space(picture, space)).tolist() == [[[255] * 3, [0] * 3]]


def test_a_large_picture_is_transformed_in_parts_that_fit_together():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1200, 1500, 3), np.uint8))
    space = ColourSpace(hdr="HLG")
    whole = np.asarray(apply_space(noise, space))
    part = np.asarray(apply_space(noise.crop((0, 900, 1500, 1200)), space))
    assert (whole[900:] == part).all()


def test_a_file_that_does_not_say_has_the_space_of_srgb():
    assert space_of({}) is None
    assert space_of({"gamma": 0.0}) is None
    assert space_of({"cicp": (1, 13)}) is None
    assert space_of({"cicp": (250, 13)}) is None
