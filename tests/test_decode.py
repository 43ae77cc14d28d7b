from __future__ import annotations

import hashlib
import io
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version
from PIL import Image, ImageCms, PngImagePlugin, features
from PIL.ExifTags import IFD, Base

from datasette_image_search.decoding import decode as decode_module
from datasette_image_search.decoding import opening, picture
from datasette_image_search.decoding.decode import (
    DecodedImage,
    decode_bytes,
    decode_file,
    decode_picture,
    reduction,
    stored_size,
)
from datasette_image_search.decoding.decode_worker import MAKERS
from datasette_image_search.decoding.formats import THUMBNAIL_SIZE
from datasette_image_search.decoding.opening import (
    DecodeError,
    DecodeSettings,
    TooLarge,
    check_file_size,
    default_max_pixels,
)
from datasette_image_search.decoding.profiles import transform_to_srgb
from datasette_image_search.embedders.palette import PaletteEmbedder
from datasette_image_search.metadata.columns import NOTHING

from .commands import start
from .conftest import SHARED, draw_picture
from .hostile_files import jpeg_of_scans
from .tiny_dng import tiny_dng

SETTINGS = DecodeSettings(preprocess=np.asarray, image_size=32)
"""The model input is the picture itself, so that tests see what an embedder gets."""

SINCE_13 = pytest.mark.skipif(
    Version(PIL.__version__) < Version("13"),
    reason="before version 13, Pillow does not read its own TIFF of YCbCr, and has no limit for WebP",
)

CORNERS = {"red": (0, 0), "lime": (1, 0), "blue": (0, 1), "white": (1, 1)}

WRITABLE = [
    "JPEG",
    "PNG",
    "WEBP",
    "GIF",
    "TIFF",
    "BMP",
    "PPM",
    *(["AVIF"] if features.check("avif") else []),
    *(["JPEG2000"] if features.check("jpg_2000") else []),
    *(["HEIF"] if decode_module.HEIC else []),
    *(["JXL"] if opening.JXL else []),
]

# EXIF orientation -> how a camera that is held so stores an upright picture.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def decode(data: bytes, settings: DecodeSettings = SETTINGS) -> DecodedImage:
    return decode_bytes(data, "", settings)


def four_corners(width: int, height: int) -> Image.Image:
    """A quarter in each colour of CORNERS, so that every turn and mirror image differs."""
    picture = Image.new("RGB", (width, height))
    for colour, (right, below) in CORNERS.items():
        box = (right * width // 2, below * height // 2, width, height)
        picture.paste(colour, box)
    return picture


def saved(picture: Image.Image, format: str = "PNG", **save) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **save)
    return buffer.getvalue()


def saved_turned(picture: Image.Image, orientation: int, format: str = "JPEG") -> bytes:
    """What a camera writes of an upright picture: turned pixels, and EXIF that says so."""
    turn = STORED[orientation]
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    return saved(picture if turn is None else picture.transpose(turn), format, exif=exif)


def make_exif_of(make: str, taken_at: str) -> Image.Exif:
    exif = Image.Exif()
    exif[Base.Make] = make
    exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] = taken_at
    return exif


def corners_of(pixels: np.ndarray) -> list[str]:
    """The names of the colours in the middles of the quarters, in the order of CORNERS."""
    height, width = pixels.shape[:2]
    names = {(255, 0, 0): "red", (0, 255, 0): "lime", (0, 0, 255): "blue", (255,) * 3: "white"}
    found = []
    for right, below in CORNERS.values():
        pixel = pixels[(1 + 2 * below) * height // 4, (1 + 2 * right) * width // 4].astype(int)
        found.append(names[min(names, key=lambda name: np.abs(pixel - name).sum())])
    return found


def thumbnail_of(decoded: DecodedImage) -> Image.Image:
    return Image.open(io.BytesIO(decoded.thumbnail)).convert("RGB")


def middle(decoded: DecodedImage) -> list[int]:
    height, width = decoded.model_input.shape[:2]
    return decoded.model_input[height // 2, width // 2].tolist()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png_of(size: tuple[int, int], depth: int, colour_type: int, pixels: bytes, *chunks) -> bytes:
    """A PNG of what Pillow cannot write. `pixels` are rows, each with a 0 in front."""
    header = struct.pack(">IIBBBBB", *size, depth, colour_type, 0, 0, 0)
    middle = [png_chunk(b"IHDR", header), *chunks, png_chunk(b"IDAT", zlib.compress(pixels))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(middle) + png_chunk(b"IEND", b"")


def tiff_of(size: tuple[int, int], tags: dict[int, tuple[int, ...]], pixels: bytes) -> bytes:
    """An uncompressed TIFF of what Pillow cannot write; all values are SHORT."""
    width, height = size
    tags = {256: (width,), 257: (height,), 259: (1,), 278: (height,)} | tags
    tags |= {273: (0,), 279: (len(pixels) & 0xFFFF,)}
    start = 8 + 2 + 12 * len(tags) + 4
    values = b"".join(struct.pack(f"<{len(v)}H", *v) for v in tags.values() if len(v) > 2)
    tags[273] = (start + len(values),)
    entries = b""
    for tag, value in sorted(tags.items()):
        packed = struct.pack(f"<{len(value)}H", *value)
        if len(packed) > 4:
            place = start + values.index(packed)
            packed = struct.pack("<I", place)
        entries += struct.pack("<HHI", tag, 3, len(value)) + packed.ljust(4, b"\0")
    header = b"II*\0" + struct.pack("<IH", 8, len(tags))
    return header + entries + bytes(4) + values + pixels


def icc_profile(space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile, version 2, for the colours of an input device."""
    offset = 128 + 4 + 12 * len(tags)
    table, content = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", offset + len(content), len(value))
        content += value + b"\0" * (-len(value) % 4)
    size = struct.pack(">I", offset + len(content))
    header = size + bytes(4) + b"\x02\x10\0\0" + b"scnr" + space + connection
    header += bytes(12) + b"acsp" + bytes(28) + xyz(0.9642, 1.0, 0.8249)[8:]
    return header.ljust(128, b"\0") + table + content


def xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


def gamma(exponent: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(exponent * 256))


PRIMARIES = {"r": (0.4361, 0.2225, 0.0139), "g": (0.3851, 0.7169, 0.0971), "b": (0.1431, 0.0606, 0.7141)}  # fmt: skip
"""Of sRGB, as profiles write them."""


def rgb_profile(red: str, green: str, blue: str, exponent: float = 2.2) -> bytes:
    """A profile by which the three channels are the named primaries."""
    tags = {b"wtpt": xyz(0.9642, 1.0, 0.8249)}
    for name, primary in zip("rgb", (red, green, blue), strict=True):
        tags[f"{name}XYZ".encode()] = xyz(*PRIMARIES[primary])
        tags[f"{name}TRC".encode()] = gamma(exponent)
    return icc_profile(b"RGB ", b"XYZ ", tags)


def grey_profile(exponent: float) -> bytes:
    tags = {b"wtpt": xyz(0.9642, 1.0, 0.8249), b"kTRC": gamma(exponent)}
    return icc_profile(b"GRAY", b"XYZ ", tags)


def cmyk_profile(cyan_lab: tuple[int, int, int]) -> bytes:
    """A profile by which full cyan alone has a colour, in Lab of 8 bits; everything else is white."""
    ramp = bytes(range(256))
    corners = [(255, 128, 128)] * 16
    corners[0b1000] = cyan_lab
    identity = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4
    lut += b"".join(map(bytes, corners)) + ramp * 3
    return icc_profile(b"CMYK", b"Lab ", {b"wtpt": xyz(0.9642, 1.0, 0.8249), b"A2B0": lut})


# --- Formats and modes ---------------------------------------------------------------------------


@pytest.mark.parametrize("format", WRITABLE)
def test_every_format_gives_all_of_a_row(format: str):
    decoded = decode(saved(four_corners(96, 64), format), SETTINGS)

    assert decoded.format == format
    assert (decoded.width, decoded.height) == (96, 64)
    assert decoded.model_input.shape == (64, 96, 3)
    assert corners_of(decoded.model_input) == list(CORNERS)
    assert thumbnail_of(decoded).size == (96, 64)


def test_metadata_is_read_only_for_a_row(tmp_path: Path):
    exif = Image.Exif()
    exif[0x010F] = "Example"
    path = draw_picture(tmp_path / "a.jpg", "red", exif=exif)
    assert decode_file(path, SETTINGS).metadata.camera_make == "Example"
    assert decode_file(path, replace(SETTINGS, read_metadata=False)).metadata == NOTHING


def test_the_hash_is_that_of_the_bytes(tmp_path: Path):
    path = draw_picture(tmp_path / "a.jpg", "red")
    assert decode_file(path, SETTINGS).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("mode", "colour", "format", "rgb"),
    [
        ("1", 1, "PNG", 255),
        ("1", 0, "TIFF", 0),
        ("L", 128, "PNG", 128),
        ("L", 128, "JPEG", 128),
        ("LA", (0, 0), "PNG", 255),
        ("LA", (100, 255), "PNG", 100),
        ("RGBA", (0, 0, 0, 0), "PNG", 255),
        ("RGBA", (0, 0, 0, 128), "PNG", 127),
        ("RGBA", (0, 0, 0, 0), "WEBP", 255),
        ("RGBA", (9, 9, 9, 255), "TIFF", 9),
        ("CMYK", (0, 0, 0, 0), "JPEG", 255),
        ("CMYK", (0, 0, 0, 127), "JPEG", 128),
        ("CMYK", (0, 0, 0, 127), "TIFF", 128),
        pytest.param("YCbCr", (128, 128, 128), "TIFF", 128, marks=SINCE_13),
        ("I;16", 32_768, "PNG", 128),
        ("I;16", 65_535, "PNG", 255),
        ("I;16", 0, "PNG", 0),
        ("I;16", 32_768, "TIFF", 128),
        ("I;16B", 32_768, "TIFF", 128),
        ("I", 32_768, "TIFF", 128),
        ("F", 0.5, "TIFF", 128),
    ],
)
@pytest.mark.parametrize("size", [(40, 30), (1800, 1400)], ids=["small", "reduced"])
def test_every_mode_keeps_its_brightness(mode, colour, format: str, rgb: int, size):
    decoded = decode(saved(Image.new(mode, size, colour), format), SETTINGS)
    assert middle(decoded) == pytest.approx([rgb] * 3, abs=2)


def test_the_colours_of_a_palette_are_kept():
    decoded = decode(saved(four_corners(40, 40).quantize(8)), SETTINGS)
    assert corners_of(decoded.model_input) == list(CORNERS)


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_what_is_transparent_in_a_palette_is_white(format: str):
    picture = Image.new("P", (40, 40), 1)
    picture.putpalette([0, 0, 0, 200, 0, 0])
    transparent = decode(saved(picture, format, transparency=1), SETTINGS)
    opaque = decode(saved(picture, format), SETTINGS)
    assert middle(transparent) == [255, 255, 255]
    assert middle(opaque) == [200, 0, 0]


@pytest.mark.parametrize(("mode", "black"), [("L", 0), ("RGB", (0, 0, 0))])
def test_a_colour_that_is_declared_transparent_is_white(mode: str, black):
    decoded = decode(saved(Image.new(mode, (40, 40), black), transparency=black), SETTINGS)
    assert middle(decoded) == [255, 255, 255]


def test_the_first_picture_counts_of_an_animation():
    red, blue = Image.new("RGB", (40, 40), "red"), Image.new("RGB", (40, 40), "blue")
    for format in ("GIF", "WEBP", "TIFF"):
        data = saved(red, format, save_all=True, append_images=[blue])
        assert middle(decode(data, SETTINGS)) == pytest.approx([255, 0, 0], abs=3), format


def test_an_mpo_is_a_jpeg():
    picture = four_corners(96, 64)
    decoded = decode(saved(picture, "MPO", save_all=True, append_images=[picture]))
    assert decoded.format == "JPEG"
    assert corners_of(decoded.model_input) == list(CORNERS)


@pytest.mark.parametrize("depth", [8, 16])
def test_pngs_of_8_and_16_bits_have_the_same_colours(depth: int):
    values = [200, 100, 50] if depth == 8 else [200 * 257, 100 * 257, 50 * 257]
    row = b"\0" + struct.pack(f">{3 * 40}{'B' if depth == 8 else 'H'}", *values * 40)
    decoded = decode(png_of((40, 30), depth, 2, row * 30))
    assert middle(decoded) == pytest.approx([200, 100, 50], abs=1)


def test_a_tiff_of_16_bits_in_colour():
    pixels = struct.pack("<3H", 200 * 257, 100 * 257, 50 * 257) * 40 * 30
    decoded = decode(tiff_of((40, 30), {258: (16, 16, 16), 262: (2,), 277: (3,)}, pixels))
    assert middle(decoded) == pytest.approx([200, 100, 50], abs=1)


@pytest.mark.parametrize(
    ("premultiplied", "stored"), [(True, (100, 0, 0, 128)), (False, (200, 0, 0, 128))]
)
def test_colours_that_are_multiplied_by_alpha_already(premultiplied: bool, stored):
    tags = {258: (8,) * 4, 262: (2,), 277: (4,), 338: (1 if premultiplied else 2,)}
    decoded = decode(tiff_of((40, 30), tags, bytes(stored) * 40 * 30))
    assert middle(decoded) == pytest.approx([227, 127, 127], abs=2)


def test_a_dark_picture_of_16_bits_stays_dark():
    assert middle(decode(saved(Image.new("I;16", (40, 30), 250)))) == [0, 0, 0]


def test_a_lab_tiff_has_its_colour():
    red = Image.new("LAB", (40, 30), (round(53.2 * 2.55), 128 + 80, 128 + 67))
    assert middle(decode(saved(red, "TIFF"))) == pytest.approx([255, 0, 0], abs=12)


def test_the_edge_of_a_transparent_colour_has_none_of_it():
    """A large picture is averaged before it is composed with white."""
    picture = Image.new("RGB", (1400, 1400), (0, 0, 0))
    picture.paste((200, 0, 0), (0, 0, 701, 1400))
    decoded = decode(saved(picture, transparency=(0, 0, 0)))
    assert decoded.model_input.shape[0] == 700
    assert decoded.model_input[..., 0].min() >= 198


# --- Colour profiles -----------------------------------------------------------------------------

RED = Image.new("RGB", (40, 30), (250, 10, 10))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_profile_of_other_primaries_is_applied(format: str):
    swapped = decode(saved(RED, format, icc_profile=rgb_profile("b", "g", "r")))
    assert middle(swapped) == pytest.approx([10, 10, 250], abs=12)


def test_a_profile_for_a_picture_with_alpha_is_applied():
    picture = Image.new("RGBA", (40, 30), (250, 10, 10, 255))
    decoded = decode(saved(picture, icc_profile=rgb_profile("b", "g", "r")))
    assert middle(decoded) == pytest.approx([10, 10, 250], abs=12)


def test_the_profile_of_srgb_changes_not_a_bit():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    decoded = decode(saved(noise, icc_profile=profile))
    assert (decoded.model_input == np.asarray(noise)).all()
    assert transform_to_srgb(profile, "RGB") is None, "and takes no time"


def test_a_grey_profile_is_applied():
    grey = Image.new("L", (40, 30), 128)
    linear = decode(saved(grey, icc_profile=grey_profile(1.0)))
    assert middle(linear) == pytest.approx([188] * 3, abs=2)


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_is_what_its_profile_says(format: str):
    cyan = Image.new("CMYK", (40, 30), (255, 0, 0, 0))
    red = (round(53.2 * 2.55), 128 + 80, 128 + 67)
    with_profile = decode(saved(cyan, format, icc_profile=cmyk_profile(cyan_lab=red)))
    without = decode(saved(cyan, format))
    assert middle(with_profile) == pytest.approx([255, 0, 0], abs=12)
    assert middle(without) == pytest.approx([0, 255, 255], abs=3)


@pytest.mark.parametrize(
    "profile",
    [b"rubbish", rgb_profile("b", "g", "r")[:200], grey_profile(1.0), cmyk_profile((0, 0, 0))],
    ids=["rubbish", "cut", "grey", "CMYK"],
)
def test_a_profile_that_does_not_fit_is_left_out(profile: bytes):
    assert middle(decode(saved(RED, icc_profile=profile))) == [250, 10, 10]


def test_the_profile_of_a_bmp_is_applied():
    profile, rows = rgb_profile("b", "g", "r"), bytes([10, 10, 250]) * 40 * 30
    header = struct.pack("<IiiHHIIiiII", 124, 40, 30, 1, 24, 0, len(rows), 0, 0, 0, 0)
    for kind, shown in ((b"DEBM", [10, 10, 250]), (b"BGRs", [250, 10, 10])):
        rest = (
            bytes(16) + kind + bytes(48) + struct.pack("<IIII", 4, 124 + len(rows), len(profile), 0)
        )
        data = struct.pack("<2sIII", b"BM", 138 + len(rows) + len(profile), 0, 138)
        decoded = decode(data + header + rest + rows + profile)
        assert middle(decoded) == pytest.approx(shown, abs=12), kind


def test_threads_may_share_a_profile():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8))
    data = saved(noise, icc_profile=rgb_profile("b", "g", "r"))
    alone = decode(data).model_input
    with ThreadPoolExecutor(8) as threads:
        for decoded in threads.map(decode, [data] * 40):
            assert (decoded.model_input == alone).all()


# --- Upright -------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "size",
    [(96, 64), (64, 96), (64, 64), (641, 640), (640, 641), (2401, 1600)],
    ids=["landscape", "portrait", "square", "nearly", "nearly too", "large"],
)
def test_pictures_are_upright_however_the_camera_was_held(orientation: int, size: tuple[int, int]):
    decoded = decode(saved_turned(four_corners(*size), orientation), SETTINGS)

    height, width = decoded.model_input.shape[:2]
    thumbnail = thumbnail_of(decoded)
    assert (decoded.width, decoded.height) == size
    assert width / height == pytest.approx(size[0] / size[1], rel=0.01)
    assert corners_of(decoded.model_input) == list(CORNERS)
    assert thumbnail.width / thumbnail.height == pytest.approx(size[0] / size[1], rel=0.01)
    assert corners_of(np.asarray(thumbnail)) == list(CORNERS)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "format", [name for name in WRITABLE if name in ("PNG", "WEBP", "TIFF", "AVIF")]
)
def test_other_formats_with_an_orientation_are_upright_too(format: str, orientation: int):
    decoded = decode(saved_turned(four_corners(96, 64), orientation, format), SETTINGS)

    assert (decoded.width, decoded.height) == (96, 64)
    assert corners_of(decoded.model_input) == list(CORNERS)
    assert thumbnail_of(decoded).size == (96, 64)


@pytest.mark.skipif(not SHARED.exists(), reason="no real photos here")
@pytest.mark.parametrize("shape", ["Landscape", "Portrait"])
@pytest.mark.parametrize("number", [0, *range(2, 9)])
def test_real_photos_of_all_orientations_look_alike(shape: str, number: int):
    upright, turned = (
        decode_file(SHARED / "orientation" / f"{shape}_{n}.jpg", SETTINGS) for n in (1, number)
    )

    assert (turned.width, turned.height) == (upright.width, upright.height)
    small = [
        np.asarray(thumbnail_of(decoded).resize((16, 16)), dtype=float)
        for decoded in (upright, turned)
    ]
    # Each has its number written in the middle.
    assert np.abs(small[0] - small[1]).mean() < 20
    assert np.abs(small[0] - small[1][::-1]).mean() > 30


@pytest.mark.skipif(not SHARED.exists(), reason="no real photos here")
@pytest.mark.parametrize("shape", ["Landscape", "Portrait"])
def test_real_photos_of_all_orientations_have_the_same_vector(shape: str, palette: PaletteEmbedder):
    """Like any other photo, other than in that each has its number written in the middle."""
    chosen = DecodeSettings(palette.preprocess, palette.image_size)
    decoded = [
        decode_file(SHARED / "orientation" / f"{shape}_{number}.jpg", chosen) for number in range(9)
    ]
    vectors = palette.encode_images(np.stack([image.model_input for image in decoded]))
    assert len({(image.width, image.height) for image in decoded}) == 1
    assert (vectors @ vectors[1]).min() > 0.98


# --- Sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "thumbnail_size"),
    [
        ((1, 1), (1, 1)),
        ((1, 2000), (1, 320)),
        ((2000, 1), (320, 1)),
        ((320, 100), (320, 100)),
        ((100, 321), (100, 320)),
        ((4000, 3000), (320, 240)),
    ],
)
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_thumbnails_fit_and_are_never_larger_than_the_picture(size, thumbnail_size, format: str):
    decoded = decode(saved(Image.new("RGB", size, "red"), format), SETTINGS)

    assert (decoded.width, decoded.height) == size
    assert max(thumbnail_of(decoded).size) <= THUMBNAIL_SIZE
    assert thumbnail_of(decoded).size == pytest.approx(thumbnail_size, abs=1)
    assert middle(decoded) == pytest.approx([255, 0, 0], abs=3)


def test_the_size_of_thumbnails_can_be_chosen():
    chosen = DecodeSettings(np.asarray, image_size=32, thumbnail_size=100)
    decoded = decode(saved(four_corners(900, 600), "JPEG"), chosen)
    assert thumbnail_of(decoded).size == pytest.approx((100, 67), abs=1)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize("image_size", [32, 224, 512, 2000])
@pytest.mark.parametrize("size", [(2400, 1700), (1100, 2300)])
def test_a_model_gets_no_less_than_the_pixels_it_wants(format: str, image_size: int, size):
    decoded = decode(
        saved(four_corners(*size), format), DecodeSettings(np.asarray, image_size=image_size)
    )
    assert min(decoded.model_input.shape[:2]) >= min(image_size, *size)


def test_there_need_not_be_a_thumbnail():
    chosen = DecodeSettings(np.asarray, image_size=32, thumbnail_size=None)
    decoded = decode(saved(four_corners(900, 600), "JPEG"), chosen)
    assert decoded.thumbnail is None
    assert decoded.width == 900


def test_vectors_do_not_depend_on_there_being_thumbnails():
    data = saved(photo_like((2000, 1500)), "JPEG")
    seen = [
        decode(data, DecodeSettings(np.asarray, image_size=32, thumbnail_size=size)).model_input
        for size in (None, 100, THUMBNAIL_SIZE)
    ]
    assert (seen[0] == seen[1]).all()
    assert (seen[0] == seen[2]).all()


@pytest.mark.parametrize("size", [(1, 65_500), (65_500, 1), (10, 4000)])
def test_a_model_never_sees_a_line(size: tuple[int, int]):
    """It would scale the shorter side up to 224, and the longer one with it."""
    decoded = decode(saved(Image.new("RGB", size, "red")))
    assert (decoded.width, decoded.height) == size
    assert max(decoded.model_input.shape[:2]) <= 50 * min(decoded.model_input.shape[:2])


def photo_like(size: tuple[int, int]) -> Image.Image:
    """Large and small blobs of all colours: detail of every scale, as in photos."""
    return _photo_like(size).copy()


@lru_cache(maxsize=10)
def _photo_like(size: tuple[int, int]) -> Image.Image:
    random = np.random.default_rng(1)
    layers = [
        np.asarray(
            Image.fromarray(random.integers(0, 256, (n, n, 3), np.uint8)).resize(
                size, Image.Resampling.BICUBIC
            ),
            dtype=float,
        )
        for n in (3, 12, 50, 200, 800)
    ]
    return Image.fromarray(np.mean(layers, axis=0).astype(np.uint8))


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_what_is_decoded_smaller_has_the_vector_of_the_whole(format: str, palette: PaletteEmbedder):
    data = saved(photo_like((2000, 1500)), format)
    decoded = decode(data, DecodeSettings(np.asarray, palette.image_size))
    inputs = [
        palette.preprocess(Image.fromarray(decoded.model_input)),
        palette.preprocess(Image.open(io.BytesIO(data))),
    ]
    vectors = palette.encode_images(np.stack(inputs))
    assert decoded.model_input.shape[0] <= 750
    assert vectors[0] @ vectors[1] > 0.995


@given(width=st.integers(1, 1500), height=st.integers(1, 1500), orientation=st.integers(1, 8))
@settings(max_examples=40)
def test_width_and_height_are_exact_for_any_size(width: int, height: int, orientation: int):
    upright = Image.new("L", (width, height), 100)

    decoded = decode(saved_turned(upright, orientation), SETTINGS)

    assert (decoded.width, decoded.height) == (width, height)
    assert max(thumbnail_of(decoded).size) == min(max(width, height), THUMBNAIL_SIZE)


# --- What is no picture --------------------------------------------------------------------------


def outcome_of(data: bytes) -> DecodedImage | DecodeError:
    """Any other exception would stop a run."""
    try:
        return decode(data, SETTINGS)
    except DecodeError as error:
        return error


GOOD = saved(four_corners(200, 200), "JPEG", quality=95)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"\0", "not a picture of a known format, or is damaged"),
        (b"<html>404</html>", "not a picture of a known format, or is damaged"),
        (GOOD[:3], "the picture is damaged, or of a kind of JPEG that is not supported"),
        (GOOD[: len(GOOD) // 2], "the picture is damaged: its end is missing"),
        (saved(four_corners(200, 200))[:-300], "the picture is damaged: its end is missing"),
        (saved(four_corners(200, 200), "WEBP")[:-300], "the picture is damaged: its compressed"),
        (saved(four_corners(200, 200), "GIF")[:100], "damaged"),
    ],
    ids=["empty", "NUL", "HTML", "3 bytes", "half JPEG", "half PNG", "half WebP", "half GIF"],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, content: bytes, reason: str):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(DecodeError, match=reason):
        decode_file(path, SETTINGS)


def test_a_file_that_went_away_since_the_scan(tmp_path: Path):
    with pytest.raises(DecodeError, match="the file is gone"):
        decode_file(tmp_path / "a.jpg", SETTINGS)


def test_a_folder_in_place_of_a_file(tmp_path: Path):
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(DecodeError, match=r"cannot be read: (it is a folder|Permission denied)"):
        decode_file(tmp_path / "a.jpg", SETTINGS)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such pipes")
def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(DecodeError, match="cannot be read: it is a named pipe"):
        decode_file(tmp_path / "a.jpg", SETTINGS)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path):
    draw_picture(tmp_path / "a.jpg", "red").chmod(0)
    with pytest.raises(DecodeError, match="cannot be read: Permission denied"):
        decode_file(tmp_path / "a.jpg", SETTINGS)


def test_a_heic_without_the_extra_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(decode_module, "HEIC", False)
    (tmp_path / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(DecodeError, match=r"pip install 'datasette-image-search\[heic\]'") as error:
        decode_file(tmp_path / "a.HEIC", SETTINGS)
    assert error.value.missing_extra == "heic"


def test_a_jpeg_xl_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decode_module, "JXL", False)
    monkeypatch.setattr(opening, "FORMATS", ("JPEG",))
    monkeypatch.setattr(picture, "FORMATS", ("JPEG",))
    for data, name in ((b"\xff\x0a" + bytes(100), "a.jpg"), (b"rubbish", "a.JXL")):
        with pytest.raises(DecodeError) as error:
            decode_bytes(data, name, SETTINGS)
        assert str(error.value) == (
            "JPEG XL needs an extra: pip install 'datasette-image-search[jxl]'"
        )
        assert error.value.missing_extra == "jxl"


def test_a_model_that_stumbles_over_a_picture_is_not_the_fault_of_the_picture():
    def stumble(picture: Image.Image) -> np.ndarray:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        decode(GOOD, DecodeSettings(stumble, image_size=32))


def test_the_reason_does_not_differ_from_file_to_file():
    reasons = {str(outcome_of(GOOD[:length])) for length in range(len(GOOD) // 2, len(GOOD) - 300)}
    assert reasons == {"the picture is damaged: its end is missing"}


@pytest.mark.filterwarnings("ignore")
@given(
    data=st.sampled_from([saved(four_corners(40, 30), name) for name in WRITABLE]),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=10),
    cut=st.integers(0, 10_000),
)
@settings(max_examples=150)
def test_damage_of_any_kind_is_a_decode_error_or_a_picture(
    data: bytes, changes: list[tuple[int, int]], cut: int
):
    damaged = bytearray(data[: max(cut, 1)])
    for position, value in changes:
        damaged[position % len(damaged)] = value
    outcome = outcome_of(bytes(damaged))
    if isinstance(outcome, DecodeError):
        assert str(outcome)
    else:
        assert outcome.model_input.shape[2] == 3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not SHARED.exists(), reason="no hostile files here")
@pytest.mark.parametrize("format", ["bmp", "gif", "jpeg", "png", "tiff", "webp"])
def test_hostile_files_are_decode_errors_or_pictures(format: str):
    paths = sorted((SHARED / "hostile").glob(f"{format}-*"))
    assert len(paths) >= 20
    for path in paths:
        outcome = outcome_of(path.read_bytes())
        if isinstance(outcome, DecodeError):
            assert str(outcome).strip(), path
            assert "\n" not in str(outcome), path
        else:
            assert outcome.model_input.dtype == np.uint8, path
            assert max(thumbnail_of(outcome).size) <= THUMBNAIL_SIZE, path


@pytest.mark.skipif(not SHARED.exists(), reason="no real photos here")
@pytest.mark.skipif(not decode_module.HEIC, reason="pillow-heif is not installed")
@pytest.mark.parametrize(
    ("name", "size"), [("IMG_5195.HEIC", (2566, 3313)), ("samplefilehub.heif", (640, 426))]
)
def test_real_heic_files(name: str, size: tuple[int, int]):
    decoded = decode_file(SHARED / "exif" / "heic" / name, SETTINGS)
    assert (decoded.width, decoded.height) == size
    assert max(thumbnail_of(decoded).size) == THUMBNAIL_SIZE


# --- Limits --------------------------------------------------------------------------------------


def limited(megapixels: float) -> DecodeSettings:
    return DecodeSettings(np.asarray, image_size=32, max_pixels=int(megapixels * 1e6))


TOO_LARGE = "the picture has 3600 megapixels, more than the limit of 50; raise it with --max-megapixels and --retry-failed"  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [
        png_of((60_000, 60_000), 8, 2, b""),
        b"GIF89a" + struct.pack("<HHBBB", 60_000, 60_000, 0x80, 0, 0) + bytes(6) + b",",
        tiff_of((60_000, 60_000), {258: (8,), 262: (1,), 277: (1,)}, b""),
        b"P6 60000 60000 255\n",
    ],
    ids=["PNG", "GIF", "TIFF", "PPM"],
)
def test_a_picture_that_would_not_fit_is_refused_before_its_pixels_are_touched(data: bytes):
    """There are none: touching them would say that the file is damaged."""
    if data.startswith(b"GIF"):
        data += struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0) + b"\x02\x02\x4c\x01\0;"
    with pytest.raises(DecodeError) as error:
        decode(data, limited(50))
    assert str(error.value) == TOO_LARGE


def test_a_large_jpeg_counts_as_what_is_decoded_of_it():
    panorama = Image.new("RGB", (4000, 2000))
    assert decode(saved(panorama, "JPEG"), limited(1)).width == 4000
    with pytest.raises(DecodeError, match="the picture has 8 megapixels, more than the limit of 1"):
        decode(saved(panorama, "PNG"), limited(1))


def test_a_progressive_jpeg_counts_as_the_memory_it_takes():
    data = saved(Image.new("RGB", (4000, 2000)), "JPEG", progressive=True)
    assert decode(data, limited(4)).width == 4000
    with pytest.raises(DecodeError, match="the picture has 4 megapixels, more than the limit of 3"):
        decode(data, limited(3))


def test_a_progressive_jpeg_of_very_many_scans_is_refused():
    data = saved(photo_like((100, 100)), "JPEG", progressive=True)
    last_scan = data[data.rindex(b"\xff\xda") : -2]
    assert decode(data[:-2] + 30 * last_scan + data[-2:]).width == 100
    with pytest.raises(DecodeError, match="more than 50 scans"):
        decode(data[:-2] + 1000 * last_scan + data[-2:])


@pytest.mark.parametrize(
    ("gigabytes", "workers", "megapixels"),
    [(16, 1, 250), (16, 4, 62), (1, 8, 50), (500, 1, 1000), (16, 0, 250)],
)
def test_the_limit_is_by_free_memory(
    gigabytes: int, workers: int, megapixels: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(opening, "free_memory", lambda: gigabytes * 10**9)
    assert default_max_pixels(workers) == megapixels * 1_000_000


def test_a_film_that_is_called_jpg_is_not_read(tmp_path: Path):
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(17_000_001)
    with pytest.raises(
        DecodeError, match="the file has 18 megabytes, more than a picture of 1 mega"
    ):
        decode_file(tmp_path / "a.jpg", limited(1))
    check_file_size(16_000_000, 1_000_000)


@pytest.mark.parametrize("chunk", [b"zTXt", b"iCCP"])
def test_a_chunk_that_grows_on_decompression_is_not_decompressed(chunk: bytes):
    bomb = png_chunk(chunk, b"a\0\0" + zlib.compress(bytes(50_000_000)))
    tracemalloc.start()
    try:
        decoded = decode(png_of((8, 8), 8, 2, bytes(8 * 25), bomb))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert decoded.width == 8
    assert peak < 20_000_000


@pytest.mark.parametrize(
    "data",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'></svg>",
        b"<!doctype html><html></html>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n",
        saved(RED, "TGA"),
    ],
    ids=["SVG", "HTML", "EPS", "TGA"],
)
def test_what_is_no_photo_is_not_opened_whatever_its_name(data: bytes):
    with pytest.raises(DecodeError, match="not a picture of a known format"):
        decode_bytes(data, "a.jpg", SETTINGS)


OTHERS = """
import warnings
import datasette.app, faiss, numpy as np
from PIL import Image

limit, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
import datasette_image_search.decoding.decode as decode
import datasette_image_search.ingest.pipeline, datasette_image_search.web.media.pictures

settings = decode.DecodeSettings(np.asarray, 32, max_pixels=400_000_000)
for path in ("large.png", "large.tiff"):
    assert decode.decode_bytes(open(path, "rb").read(), path, settings).width == 20_000
assert Image.MAX_IMAGE_PIXELS == limit and list(warnings.filters) == filters
try:
    Image.open("large.png")
except Image.DecompressionBombError:
    print("guarded")
"""


def test_others_in_the_process_keep_their_guard(tmp_path: Path):
    """Pillow's own limit is 89 megapixels, and twice that for an error; ours is another."""
    large = Image.new("1", (20_000, 10_000))
    large.save(tmp_path / "large.png")
    large.save(tmp_path / "large.tiff", compression="group4")
    done = subprocess.run(
        [sys.executable, "-c", OTHERS],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.stdout, done.stderr) == ("guarded\n", "")


@SINCE_13
def test_a_webp_above_the_limit_of_pillow_is_a_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(TooLarge, match="more pixels than can be read in its format"):
        decode(saved(RED, "WEBP"))


def test_commands_say_nothing_of_what_pillow_warns_of(tmp_path: Path):
    """Of broken EXIF, and of more than 89 megapixels."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\x09\0" + b"\x0f\x01\x02\0"
    (tmp_path / "p").mkdir()
    RED.save(tmp_path / "p" / "exif.jpg", exif=exif)
    Image.new("1", (10_000, 9_500)).save(tmp_path / "p" / "large.png")
    embedding = start("embed-images", tmp_path / "a.db", "images", tmp_path / "p", "--model", "palette", "--max-megapixels", "100", "-s")  # fmt: skip
    output, errors = embedding.communicate()
    assert output.startswith("2 embedded")
    assert errors == ""


# --- Values that travel --------------------------------------------------------------------------


def test_settings_and_results_travel_between_processes():
    decoded = decode(GOOD, pickle.loads(pickle.dumps(SETTINGS)))
    copy = pickle.loads(pickle.dumps(decoded))
    assert (copy.sha256, copy.metadata, copy.thumbnail) == (
        decoded.sha256,
        decoded.metadata,
        decoded.thumbnail,
    )
    assert (copy.model_input == decoded.model_input).all()


def test_errors_travel_between_processes():
    copy = pickle.loads(pickle.dumps(DecodeError("HEIC needs an extra", missing_extra="heic")))
    assert type(copy) is DecodeError
    assert (str(copy), copy.missing_extra) == ("HEIC needs an extra", "heic")
    assert pickle.loads(pickle.dumps(DecodeError("the file is empty"))).missing_extra is None


def test_heic_is_known_by_its_content_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decode_module, "HEIC", False)
    monkeypatch.setattr(opening, "FORMATS", ("JPEG",))
    with pytest.raises(DecodeError) as error:
        decode_bytes(b"\0\0\0\x18ftypheic" + bytes(100), "a.jpg", SETTINGS)
    assert error.value.missing_extra == "heic"


# --- Camera RAW ----------------------------------------------------------------------------------


def test_a_raw_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "rawpy", None)
    monkeypatch.delitem(sys.modules, "datasette_image_search.decoding.raw", raising=False)
    with pytest.raises(DecodeError) as error:
        decode_bytes(tiny_dng(), "IMG_1.DNG", SETTINGS)
    assert str(error.value) == (
        "camera RAW needs an extra: pip install 'datasette-image-search[raw]'"
    )
    assert error.value.missing_extra == "raw"


@pytest.fixture
def rawpy():
    return pytest.importorskip("rawpy")


@pytest.mark.usefixtures("rawpy")
class TestRaw:
    @pytest.mark.parametrize("orientation", [1, 3, 6, 8])
    def test_the_preview_of_a_raw_is_decoded_and_turned_upright(self, orientation: int):
        upright = (48, 72) if orientation in (6, 8) else (72, 48)
        stored = STORED[orientation]
        picture = four_corners(*upright)
        preview = saved(picture if stored is None else picture.transpose(stored), "JPEG")

        decoded = decode_bytes(tiny_dng((96, 64), preview, orientation), "a.dng", SETTINGS)

        assert decoded.format == "DNG"
        assert (decoded.width, decoded.height) == ((64, 96) if orientation in (6, 8) else (96, 64))
        assert decoded.model_input.shape[:2] == upright[::-1]
        assert corners_of(decoded.model_input) == list(CORNERS)

    def test_a_preview_that_is_upright_already_is_not_turned(self):
        preview = saved_turned(four_corners(48, 72), 1)
        decoded = decode_bytes(tiny_dng((96, 64), preview, orientation=6), "a.dng", SETTINGS)
        assert (decoded.width, decoded.height) == (64, 96)
        assert corners_of(decoded.model_input) == list(CORNERS)

    @pytest.mark.parametrize(
        "preview", [b"", saved(RED, "JPEG")[:50], saved(RED.resize((8, 6)), "JPEG")]
    )
    @pytest.mark.parametrize("orientation", [1, 6])
    def test_a_raw_without_a_usable_preview_is_developed(self, preview: bytes, orientation: int):
        decoded = decode_bytes(tiny_dng((192, 128), preview, orientation), "a.dng", SETTINGS)
        pixels = decoded.model_input.astype(int)
        # The left half is dark; held so that it became the upper half.
        other = pixels[:20].mean() if orientation == 6 else pixels[:, :20].mean()
        assert pixels.shape[:2] == ((96, 64) if orientation == 6 else (64, 96))
        assert (decoded.width, decoded.height) == ((128, 192) if orientation == 6 else (192, 128))
        assert other < 10
        assert pixels.mean() > 60

    def test_a_preview_that_says_how_it_lies_is_believed(self):
        preview = saved_turned(four_corners(48, 72), 8)
        assert preview[6:10] == b"JFIF"
        # LibRaw writes its own EXIF into previews that do not begin with one.
        preview = preview[:2] + preview[20:]
        assert preview[6:10] == b"Exif"
        decoded = decode_bytes(tiny_dng((96, 64), preview, orientation=6), "a.dng", SETTINGS)
        assert corners_of(decoded.model_input) == list(CORNERS)

    def test_exif_is_that_of_the_raw(self):
        exif = decode_bytes(tiny_dng(preview=GOOD), "a.DNG", SETTINGS).metadata
        assert (exif.camera_make, exif.camera_model, exif.lens) == ("Example", "E1", "50mm F1.2")
        assert (exif.taken_at, exif.iso) == ("2021-07-14T18:03:11", 400)

    def test_what_the_raw_does_not_say_is_that_of_the_preview(self):
        exif = make_exif_of("Other make", taken_at="2020:01:01 10:00:00")
        preview = saved(four_corners(72, 48), "JPEG", exif=exif)
        preview = preview[:2] + preview[20:]
        exif = decode_bytes(tiny_dng(preview=preview, dated=False), "a.dng", SETTINGS).metadata
        assert (exif.camera_make, exif.taken_at) == ("Example", "2020-01-01T10:00:00")

    def test_no_time_is_made_up(self):
        """LibRaw writes 1970 into previews of a RAW without a time."""
        data = tiny_dng(preview=GOOD, dated=False)
        assert decode_bytes(data, "a.dng", SETTINGS).metadata.taken_at is None

    def test_a_raw_that_is_cut_is_damaged_unless_its_preview_is_whole(self):
        whole = tiny_dng((192, 128), saved(four_corners(96, 64), "JPEG"))
        alone = tiny_dng((192, 128))
        assert decode_bytes(whole[:-20_000], "a.dng", SETTINGS).width == 192
        with pytest.raises(DecodeError, match="the camera RAW is damaged: its end is missing"):
            decode_bytes(alone[:-20_000], "a.dng", SETTINGS)

    def test_a_raw_of_which_the_last_rows_are_empty_is_damaged(self):
        """LibRaw fills up with zeros what a compressed RAW lacks, and raises nothing."""
        data = tiny_dng((192, 128))
        with pytest.raises(DecodeError, match="the camera RAW is damaged: its end is missing"):
            decode_bytes(data[:-20_000] + bytes(20_000), "a.dng", SETTINGS)

    @pytest.mark.parametrize("rows", [28, 128])
    def test_an_overexposed_raw_is_whole(self, rows: int):
        white = b"\xff" * (192 * 2 * rows)
        data = tiny_dng((192, 128))[: -len(white)] + white
        decoded = decode_bytes(data, "a.dng", SETTINGS)
        assert decoded.warning is None
        assert (decoded.model_input[-1] == 255).all()

    def test_a_black_raw_is_whole(self):
        """It was taken with the lid on: a RAW of which nothing is left has no header either."""
        pixels = 192 * 128 * 2
        decoded = decode_bytes(tiny_dng((192, 128))[:-pixels] + bytes(pixels), "a.dng", SETTINGS)
        assert (decoded.model_input == 0).all()

    def test_a_preview_that_is_refused_leaves_the_raw_to_be_developed(self):
        preview = jpeg_of_scans(96, 64, 1000)
        decoded = decode_bytes(tiny_dng((192, 128), preview), "a.dng", SETTINGS)
        assert (decoded.width, decoded.height) == (192, 128)
        assert decoded.model_input.std() > 50

    @pytest.mark.parametrize("error", ["LibRawDataError", "LibRawTooBigError", "LibRawError"])
    def test_what_libraw_cannot_open_has_a_reason_of_its_own(
        self, rawpy, monkeypatch: pytest.MonkeyPatch, error: str
    ):
        def fail(_file: object) -> None:
            raise getattr(rawpy, error)

        monkeypatch.setattr(rawpy, "imread", fail)
        with pytest.raises(DecodeError, match="the camera RAW is damaged, or of a kind"):
            decode_bytes(tiny_dng(), "a.dng", SETTINGS)

    def test_the_size_is_that_of_the_picture_not_of_the_sensor(self):
        data = tiny_dng((96, 64), GOOD, crop=(80, 50))
        decoded = decode_bytes(data, "a.dng", SETTINGS)
        assert (decoded.width, decoded.height) == (80, 50)

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"])
    def test_another_picture_that_is_called_raw_is_read(self, format: str):
        decoded = decode_bytes(saved(RED, format), "IMG_1.NEF", SETTINGS)
        assert decoded.format == format

    @pytest.mark.parametrize("data", [b"rubbish" * 100, tiny_dng()[:300], saved(RED, "TIFF")])
    def test_what_is_no_raw_is_a_decode_error(self, data: bytes):
        with pytest.raises(DecodeError, match=r"not a picture of a known format|damaged") as error:
            decode_bytes(data, "a.nef", SETTINGS)
        assert error.value.missing_extra is None

    def test_the_limit_counts_what_has_to_be_developed(self):
        data = tiny_dng((1200, 1000))
        with pytest.raises(DecodeError, match="the picture has 2 megapixels, more than the limit"):
            decode_bytes(data, "a.dng", limited(1))
        preview = saved(four_corners(600, 500), "JPEG")
        assert decode_bytes(tiny_dng((1200, 1000), preview), "a.dng", limited(1)).width == 1200


# --- For pages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_picture_alone_is_upright(orientation: int):
    data = saved_turned(four_corners(64, 48), orientation)
    assert decode_picture(data, "", SETTINGS).size == (64, 48)


def test_the_stored_size_is_known_before_anything_is_decoded():
    whole = saved(four_corners(64, 48), "PNG")
    assert stored_size(whole[:60], max_pixels=1) == ("PNG", (64, 48))
    for damaged in (b"", b"x", whole[:20]):
        with pytest.raises(DecodeError):
            stored_size(damaged, max_pixels=1)


def test_what_is_above_a_limit_is_told_from_what_is_damaged():
    data = saved(four_corners(64, 48), "PNG")
    with pytest.raises(TooLarge):
        decode_picture(data, "", DecodeSettings(np.asarray, 32, max_pixels=64 * 48 - 1))
    with pytest.raises(DecodeError) as error:
        decode_picture(data[:80], "", SETTINGS)
    assert not isinstance(error.value, TooLarge)


def test_a_narrow_picture_is_not_made_smaller_first():
    """Which is what decides how much memory it takes."""
    assert reduction((4000, 3000), SETTINGS) == 4
    assert reduction((40_000, 300), SETTINGS) == 1


def png_with(picture: Image.Image, add: str, words: str) -> bytes:
    written = PngImagePlugin.PngInfo()
    getattr(written, add)("comment", words, zip=True)
    return saved(picture, "PNG", pnginfo=written)


WITH_WORDS = {
    "JPEG": lambda picture, words: saved(
        picture, "JPEG", comment=words, xmp=words.encode(), exif=make_exif_of(words, "2021")
    ),
    "grey JPEG": lambda picture, words: saved(picture.convert("L"), "JPEG", comment=words),
    "CMYK JPEG": lambda picture, words: saved(picture.convert("CMYK"), "JPEG", comment=words),
    "GIF": lambda picture, words: saved(picture.quantize(200), "GIF", comment=words.encode()),
    "PNG tEXt": lambda picture, words: png_with(picture, "add_text", words),
    "PNG iTXt": lambda picture, words: png_with(picture, "add_itxt", words),
    "JPEG 2000": lambda picture, words: saved(picture, "JPEG2000", comment=words),
    "WebP": lambda picture, words: saved(picture, "WEBP", xmp=words, exif=make_exif_of(words, "")),
    "TIFF": lambda picture, words: saved(picture, "TIFF", description=words, artist=words),
}
"""A file of each kind with words in it, of which Pillow would write some into the next file."""


@pytest.mark.parametrize("kind", WITH_WORDS)
@pytest.mark.parametrize("size", [(32, 24), (400, 300)], ids=["icon", "photo"])
def test_nothing_written_in_a_file_is_in_what_is_shown_of_it(kind: str, size: tuple[int, int]):
    """Who is shown a picture may not know where it was taken."""
    data = WITH_WORDS[kind](photo_like(size), "at home, Main Street 1")
    asked = {"name": "", "size": 320, "image_size": 32, "max_pixels": 400 * 300, "quality": 85}
    shown = [MAKERS[make](data, asked)[1] for make in ("thumbnail", "jpeg")]
    for file in (decode(data).thumbnail, *shown):
        assert max(Image.open(io.BytesIO(file)).size) == min(size[0], 320)
        assert b"Main Street" not in file


@pytest.mark.parametrize("kind", ["GIF", "PNG tEXt", "PNG iTXt"])
def test_more_words_than_a_jpeg_has_room_for_do_no_harm(kind: str):
    decoded = decode(WITH_WORDS[kind](photo_like((400, 300)), "at home, Main Street 1" * 4000))
    assert decoded.warning is None
    assert thumbnail_of(decoded).size == (320, 240)


def test_a_thumbnail_that_cannot_be_written_is_no_fault_of_the_picture(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(decode_module, "make_thumbnail", Mock(side_effect=OSError("no encoder")))
    with pytest.raises(OSError, match="no encoder"):
        decode(saved(photo_like((100, 100))))
