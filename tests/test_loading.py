"""What can be read of damaged pictures, and that no damage is swallowed."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from PIL import Image

from datasette_image_search.decoding.decode import decode_bytes, decode_picture
from datasette_image_search.decoding.loading import PARTLY_READABLE
from datasette_image_search.decoding.opening import DecodeError, DecodeSettings

from .test_decode import (
    CORNERS,
    GOOD,
    SETTINGS,
    WRITABLE,
    corners_of,
    decode,
    four_corners,
    photo_like,
    png_chunk,
    saved,
    saved_turned,
)


def test_a_hole_in_the_data_of_a_png_is_damage():
    """Reading its EXIF used to decode it first, and to keep the error for itself."""
    data = saved(photo_like((300, 200)))
    start = data.index(b"IDAT") + 2000
    with pytest.raises(DecodeError, match="the picture is damaged"):
        decode(data[:start] + bytes(3000) + data[start + 3000 :])


@pytest.mark.parametrize("format", [name for name in WRITABLE if name not in ("JPEG", "JPEG2000")])
def test_a_picture_of_another_format_must_be_whole(format: str):
    data = saved(photo_like((300, 200)), format)
    with pytest.raises(DecodeError, match="damaged"):
        decode(data[: len(data) * 97 // 100])


def test_the_orientation_of_a_png_may_stand_behind_its_pixels():
    data = saved_turned(four_corners(96, 64), 6, "PNG")
    start = data.index(b"eXIf") - 4
    length = 12 + int.from_bytes(data[start : start + 4], "big")
    end = len(data) - 12
    moved = data[:start] + data[start + length : end] + data[start : start + length] + data[end:]
    decoded = decode(moved)
    assert (decoded.width, decoded.height) == (96, 64)
    assert corners_of(decoded.model_input) == list(CORNERS)


@pytest.mark.parametrize("format", ["PNG", "AVIF", "WEBP", "JPEG"])
def test_an_orientation_in_xmp_alone_turns_nothing(format: str):
    if format not in WRITABLE:
        pytest.skip(f"this Pillow cannot write {format}")
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    if format == "PNG":
        picture = saved(four_corners(96, 64))
        text = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
        data = picture[:33] + text + picture[33:]
    else:
        data = saved(four_corners(96, 64), format, xmp=xmp)
    decoded = decode(data)
    assert (decoded.width, decoded.height) == (96, 64)


# --- JPEG ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1600, 1200), (60, 40), (8, 8)])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_that_lacks_its_last_bytes_is_embedded_with_a_warning(size, progressive, mode: str):
    whole = saved(photo_like(size).convert(mode), "JPEG", progressive=progressive)
    decoded = decode(whole[:-2])
    assert decoded.warning == PARTLY_READABLE
    assert (decoded.width, decoded.height) == size
    assert (decoded.model_input == decode(whole).model_input).mean() > 0.95
    assert decode(whole).warning is None


def test_a_jpeg_of_nine_tenths_is_embedded_with_a_warning():
    decoded = decode(cut_to(0.93))
    expected = decode(whole_jpeg()).model_input
    rows = len(expected)
    assert decoded.warning == PARTLY_READABLE
    assert (decoded.model_input[: rows * 9 // 10] == expected[: rows * 9 // 10]).all()


@pytest.mark.parametrize("part", [0.1, 0.5, 0.85])
def test_a_jpeg_of_less_is_damaged(part: float):
    with pytest.raises(DecodeError, match="the picture is damaged"):
        decode(cut_to(part))


@cache
def whole_jpeg() -> bytes:
    return saved(photo_like((800, 800)), "JPEG", quality=95)


def cut_to(part: float) -> bytes:
    """The picture is as detailed in all of its rows, so that its data is as long as they are many."""
    return whole_jpeg()[: int(len(whole_jpeg()) * part)]


def test_a_progressive_jpeg_is_readable_when_its_first_scan_is():
    whole = saved(photo_like((800, 800)), "JPEG", quality=95, progressive=True)
    first, second = (
        whole.index(b"\xff\xda", position) for position in (0, whole.index(b"\xff\xda") + 2)
    )
    assert decode(whole[: (second + len(whole)) // 2]).warning == PARTLY_READABLE
    with pytest.raises(DecodeError, match="the picture is damaged"):
        decode(whole[: (first + second) // 2])


def test_a_cut_jpeg_to_which_someone_gave_an_end_is_damaged():
    """Its decoder says nothing, and shows grey."""
    end = b"\xff\xd9"
    assert decode(cut_to(0.93) + end).warning == PARTLY_READABLE
    with pytest.raises(DecodeError, match="the picture is damaged: its end is missing"):
        decode(cut_to(0.5) + end)


def test_a_cut_progressive_jpeg_to_which_someone_gave_an_end_has_a_warning():
    """It has all of its rows, less sharp."""
    whole = saved(photo_like((800, 800)), "JPEG", quality=95, progressive=True)
    last = whole.rindex(b"\xff\xda")
    assert decode(whole[:last] + b"\xff\xd9").warning == PARTLY_READABLE
    assert decode(whole[: last - 2_000] + b"\xff\xd9").warning == PARTLY_READABLE
    assert decode(whole).warning is None


@pytest.mark.parametrize("progressive", [False, True])
def test_what_is_really_grey_at_its_end_is_whole(progressive: bool):
    picture = photo_like((800, 800))
    picture.paste((128, 128, 128), (0, 400, 800, 800))
    whole = saved(picture, "JPEG", quality=95, progressive=progressive)
    assert decode(whole).warning is None
    assert decode(whole + b"film" * 1000).warning is None
    assert decode(whole[:-2]).warning == PARTLY_READABLE


def test_a_jpeg_of_which_nothing_can_be_read_is_damaged():
    start = whole_jpeg().index(b"\xff\xda") + 14
    with pytest.raises(DecodeError, match="the picture is damaged"):
        decode(whole_jpeg()[:start] + b"\xff\x01" * 10)


@pytest.mark.parametrize("colour", ["black", (128, 128, 128)])
def test_rows_that_look_like_missing_ones_are_not_taken_for_them(colour):
    picture = photo_like((800, 800))
    picture.paste(colour, (0, 200, 800, 784))
    data = saved(picture, "JPEG", quality=95)
    assert decode(data[:-100]).warning == PARTLY_READABLE


def test_a_damaged_preview_of_pages_is_readable_too():
    picture = decode_picture(whole_jpeg()[:-2], "", SETTINGS)
    assert np.asarray(picture).std() > 10


def test_the_limit_holds_for_what_is_readable():
    small = DecodeSettings(np.asarray, image_size=32, max_pixels=1000)
    with pytest.raises(DecodeError, match="more than the limit"):
        decode_bytes(whole_jpeg()[:-2], "", small)


def test_a_good_jpeg_has_no_warning():
    assert decode(GOOD).warning is None
    assert decode(saved(Image.new("RGB", (8, 8), (128, 128, 128)), "JPEG")).warning is None


@pytest.mark.parametrize("rows", [1, 3])
def test_a_jpeg_with_restart_markers_that_lacks_its_middle_is_damaged(rows: int):
    """Its decoder waits for the next marker at its end, and reads no data that has none."""
    whole = saved(photo_like((800, 800)), "JPEG", quality=95, restart_marker_rows=rows)
    third = len(whole) // 3
    assert decode(whole).warning is None
    with pytest.raises(DecodeError, match="the picture is damaged: its end is missing"):
        decode(whole[:third] + whole[2 * third :])


def test_a_damaged_byte_that_looks_like_an_end_of_the_data_is_none():
    """The decoder goes on at the next restart marker, and only the last rows are missing."""
    whole = saved(photo_like((800, 800)), "JPEG", quality=95, restart_marker_rows=1)
    at = whole.index(b"\xff\xd0", len(whole) // 5)
    damaged = whole[: at - 2] + b"\xff\x9f" + whole[at : -len(whole) // 25] + b"\xff\xd9"
    decoded = decode(damaged)
    assert decoded.warning is not None
    assert (decoded.width, decoded.height) == (800, 800)


def test_a_whole_jpeg_with_restart_markers_that_ends_grey_has_no_warning():
    picture = photo_like((800, 800))
    picture.paste((128, 128, 128), (0, 200, 800, 800))
    for rows in (1, 3):
        data = saved(picture, "JPEG", quality=95, restart_marker_rows=rows)
        assert decode(data).warning is None
