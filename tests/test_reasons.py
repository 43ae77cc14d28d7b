"""A reason names what is wrong, in a person's words."""

from __future__ import annotations

import re
import struct

import numpy as np
import pytest

from datasette_image_search.decoding.decode import decode_bytes
from datasette_image_search.decoding.opening import DecodeError, DecodeSettings
from datasette_image_search.decoding.reasons import damaged, unidentified

from .conftest import SHARED
from .test_decode import RED, SETTINGS, WRITABLE, outcome_of, photo_like, png_chunk, saved

BMP = saved(RED, "BMP")


def bmp(place: int, form: str, value: int) -> bytes:
    """A BMP with another number in its header."""
    data = bytearray(BMP)
    struct.pack_into(form, data, place, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bmp(28, "<H", 2), "the picture is of a kind that is not supported (BMP with 2 bits)"),
        (bmp(28, "<H", 0), "the picture is of a kind that is not supported (BMP with a JPEG or PNG inside)"),
        (bmp(28, "<H", 30_000), "the picture is damaged: its header is invalid"),
        (bmp(30, "<I", 6), "the picture is of a kind that is not supported (BMP with compression 6)"),
        (bmp(30, "<I", 6_000), "the picture is damaged: its header is invalid"),
        (bmp(14, "<I", 66), "the picture is damaged: its header is invalid"),
        (BMP[:-100], "the picture is damaged: its end is missing"),
        (b"II*\0\x08\0\0\0\0\0\0\0\0\0", "the picture is damaged, or of a kind of TIFF that is not supported"),
        (b"no picture", "the file is not a picture of a known format, or is damaged"),
        (
            b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", bytes(5)),
            "the picture is damaged: its header is invalid",
        ),
        (b"", "the file is empty"),
    ],
)  # fmt: skip
def test_what_is_wrong(data: bytes, reason: str):
    assert str(outcome_of(data)) == reason


@pytest.mark.parametrize("depth", [12, 16])
def test_a_jpeg_of_more_bits_is_not_called_damaged(depth: int):
    data = bytearray(saved(RED, "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 4] = depth
    assert str(outcome_of(bytes(data))) == (
        f"the picture is of a kind that is not supported (JPEG with {depth} bits)"
    )


def test_no_advice_that_cannot_work():
    limited = DecodeSettings(np.asarray, image_size=32, max_pixels=50_000_000)
    large = bmp(18, "<i", 60_000)
    with pytest.raises(DecodeError, match="raise it with --max-megapixels"):
        decode_bytes(large[:22] + struct.pack("<i", 60_000) + large[26:], "", limited)
    huge = bmp(18, "<i", 3_000_000)
    with pytest.raises(DecodeError) as error:
        decode_bytes(huge[:22] + struct.pack("<i", 2_000_000) + huge[26:], "", limited)
    assert str(error.value) == "the picture has more pixels than can be read"


@pytest.mark.parametrize(
    "error",
    [
        OSError("broken data stream when reading image file"),
        OSError("decoder error -2"),
        ValueError("could not create decoder object"),
        RuntimeError("Generic Error. Please build `libjxl` from source"),
        TypeError("an integer is required"),
        KeyError("tile_info"),
    ],
)
def test_words_of_programmers_are_not_repeated(error: Exception):
    assert damaged(error) in (
        "the picture is damaged: its compressed data is invalid",
        "the picture is damaged: its header is invalid",
    )


def test_a_known_start_is_a_format_that_is_named():
    assert "TIFF" in unidentified(b"MM\0*", "a.mp4")
    assert "BMP" in unidentified(b"BMxx", "a.mp4")
    assert "JPEG XL" in unidentified(b"\xff\x0a", "a.mp4")
    assert "JPEG 2000" in unidentified(b"\xff\x4f\xff\x51", "a.mp4")


@pytest.mark.parametrize(
    ("format", "name"), [("WEBP", "WebP"), ("GIF", "GIF"), ("AVIF", "AVIF"), ("HEIF", "HEIC")]
)
def test_a_picture_of_which_little_is_left_is_of_a_format(format: str, name: str):
    if format not in WRITABLE:
        pytest.skip(f"this Pillow cannot write {format}")
    assert str(outcome_of(saved(RED, format)[:12])) == (
        f"the picture is damaged, or of a kind of {name} that is not supported"
    )


def test_an_avif_that_lacks_its_end_is_an_avif():
    if "AVIF" not in WRITABLE:
        pytest.skip("this Pillow cannot write AVIF")
    data = saved(photo_like((300, 200)), "AVIF")
    assert str(outcome_of(data[: len(data) * 97 // 100])) == (
        "the picture is damaged, or of a kind of AVIF that is not supported"
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello", "the file is not a picture of a known format, or is damaged"),
        (
            b"\0\0\0\x18ftypM4A " + bytes(100),
            "the file is not a picture of a known format, or is damaged",
        ),
        (
            b"\0\0\0\x18ftypisom" + bytes(100),
            "the film is damaged, encrypted, or of a kind that is not supported",
        ),
        (b"II*\0" + bytes(50), "the camera RAW is damaged, or of a kind that is not supported"),
        (b"FOVb" + bytes(50), "the camera RAW is damaged, or of a kind that is not supported"),
    ],
)
def test_a_file_is_no_raw_for_its_name_alone(data: bytes, reason: str):
    pytest.importorskip("rawpy")
    with pytest.raises(DecodeError) as error:
        decode_bytes(data, "capture.cap", SETTINGS)
    assert str(error.value) == reason


@pytest.mark.parametrize(
    ("name", "data", "is_archive"),
    [
        ("a.ZIP", b"PK\x03\x04", True),
        ("a.tar", bytes(257) + b"ustar", True),
        ("a.docx", b"PK\x03\x04", False),
        ("a.zip", b"no archive", False),
    ],
)
def test_an_archive_is_told_how_to_be_written(name: str, data: bytes, is_archive: bool):
    kind = name[-3:].lower()
    told = f"the file is an archive; to embed what is in it, write it as {kind}::photos.{kind}"
    assert (unidentified(data, name) == told) == is_archive


PROGRAMMERS = re.compile(
    r"decoder|object|chunk|Plugin|Error|None|0x|IHDR|IDAT|Pillow|libraw|[a-z]_[a-z]|\(\d+\)"
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not SHARED.exists(), reason="no hostile files here")
def test_reasons_of_hostile_files_have_no_words_of_programmers():
    reasons = {
        str(outcome)
        for path in sorted((SHARED / "hostile").glob("*-*"))
        for outcome in [_outcome(path.read_bytes())]
        if isinstance(outcome, DecodeError)
    }
    assert len(reasons) > 5
    assert [reason for reason in reasons if PROGRAMMERS.search(reason)] == []


def _outcome(data: bytes) -> object:
    try:
        return decode_bytes(data, "", SETTINGS)
    except DecodeError as error:
        return error
