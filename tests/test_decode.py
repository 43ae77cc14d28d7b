from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features
from PIL.ExifTags import Base

from datasette_image_search.ingest import decode as decode_module
from datasette_image_search.ingest.decode import (
    THUMBNAIL_SIZE,
    DecodedImage,
    DecodeError,
    DecodeSettings,
    decode,
    decode_file,
)

from .conftest import SHARED, draw_picture

SETTINGS = DecodeSettings(preprocess=np.asarray, image_size=32)
"""The model input is the picture itself, so that tests see what an embedder gets."""

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
    thumbnail = Image.open(io.BytesIO(decoded.thumbnail))
    assert thumbnail.format == "WEBP"
    return thumbnail.convert("RGB")


def middle(decoded: DecodedImage) -> list[int]:
    height, width = decoded.model_input.shape[:2]
    return decoded.model_input[height // 2, width // 2].tolist()


# --- Formats and modes ---------------------------------------------------------------------------


@pytest.mark.parametrize("format", WRITABLE)
def test_every_format_gives_all_of_a_row(format: str):
    decoded = decode(saved(four_corners(96, 64), format), SETTINGS)

    assert decoded.format == format
    assert (decoded.width, decoded.height) == (96, 64)
    assert decoded.model_input.shape == (64, 96, 3)
    assert corners_of(decoded.model_input) == list(CORNERS)
    assert thumbnail_of(decoded).size == (96, 64)


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
        ("YCbCr", (128, 128, 128), "TIFF", 128),
        ("I;16", 32_768, "PNG", 128),
        ("I;16", 65_535, "PNG", 255),
        ("I;16", 0, "PNG", 0),
        ("I;16", 32_768, "TIFF", 128),
        ("I;16B", 32_768, "TIFF", 128),
        ("I", 32_768, "TIFF", 128),
        ("F", 0.5, "TIFF", 128),
    ],
)
@pytest.mark.parametrize("size", [(40, 30), (1400, 1200)], ids=["small", "reduced"])
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


@given(width=st.integers(1, 1500), height=st.integers(1, 1500), orientation=st.integers(1, 8))
@settings(max_examples=40, deadline=None)
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
        (GOOD[:3], "not a picture of a known format, or is damaged"),
        (GOOD[: len(GOOD) // 2], "the picture is damaged"),
        (saved(four_corners(200, 200))[:-300], "the picture is damaged"),
        (saved(four_corners(200, 200), "WEBP")[:-300], "the picture is damaged"),
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
    with pytest.raises(DecodeError, match=r"cannot be read: (Is a directory|Permission denied)"):
        decode_file(tmp_path / "a.jpg", SETTINGS)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path):
    draw_picture(tmp_path / "a.jpg", "red").chmod(0)
    with pytest.raises(DecodeError, match="cannot be read: Permission denied"):
        decode_file(tmp_path / "a.jpg", SETTINGS)


def test_a_picture_of_too_many_pixels_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DecodeError, match="too many pixels"):
        decode(saved(Image.new("RGB", (200, 200))), SETTINGS)


def test_a_heic_without_the_extra_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(decode_module, "HEIC", False)
    (tmp_path / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(DecodeError, match=r"pip install 'datasette-image-search\[heic\]'"):
        decode_file(tmp_path / "a.HEIC", SETTINGS)


def test_a_model_that_stumbles_over_a_picture_costs_only_that_picture():
    def stumble(picture: Image.Image) -> np.ndarray:
        raise ZeroDivisionError

    with pytest.raises(DecodeError, match="ZeroDivisionError"):
        decode(GOOD, DecodeSettings(stumble, image_size=32))


@pytest.mark.filterwarnings("ignore")
@given(
    data=st.sampled_from([saved(four_corners(40, 30), name) for name in WRITABLE]),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=10),
    cut=st.integers(0, 10_000),
)
@settings(max_examples=150, deadline=None)
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
