"""A picture is known by its bytes."""

from __future__ import annotations

import struct
import sys

import pytest
from PIL import TiffImagePlugin

from datasette_image_search.decoding.decode import decode_bytes
from datasette_image_search.decoding.describing import metadata_of
from datasette_image_search.decoding.formats import RAW_SUFFIXES, is_image_name
from datasette_image_search.decoding.kinds import raw_format
from datasette_image_search.decoding.opening import DecodeError

from .test_decode import RED as PICTURE
from .test_decode import SETTINGS, WRITABLE, four_corners, saved
from .tiny_dng import tiny_dng


@pytest.mark.parametrize("format", [name for name in WRITABLE if name not in ("TIFF", "PPM")])
@pytest.mark.parametrize("name", ["", "a.jpg", "a.nef", "a.DNG"])
def test_a_picture_that_is_no_raw_is_none_whatever_its_name(format: str, name: str):
    assert raw_format(saved(PICTURE, format), name) is None


@pytest.mark.parametrize(
    ("start", "format"),
    [
        (b"II*\0\x10\0\0\0CR\x02\0", "CR2"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "CR3"),
        (b"FUJIFILMCCD-RAW 0201", "RAF"),
        (b"IIU\0\x18\0\0\0", "RW2"),
        (b"IIRO\x08\0\0\0", "ORF"),
        (b"\0MRM\0\0\0\0", "MRW"),
        (b"FOVb\0\0\2\0", "X3F"),
        (b"II\x1a\0\0\0HEAPCCDR", "CRW"),
    ],
)
def test_a_raw_that_is_no_plain_tiff_is_known_under_any_name(start: bytes, format: str):
    assert raw_format(start + bytes(100), "photo.jpg") == format


@pytest.mark.parametrize("name", ["", "a.jpg", "a.tif", "a.dng"])
def test_a_dng_is_known_under_any_name(name: str):
    assert raw_format(tiny_dng(), name) == "DNG"


@pytest.mark.parametrize("name", ["", "a.jpg", "a.tif"])
def test_a_dng_is_read_as_one_under_any_name(name: str):
    """Pillow takes it for a TIFF, of the size of the preview."""
    pytest.importorskip("rawpy")
    data = tiny_dng((640, 400), saved(four_corners(96, 60), "JPEG"))
    decoded = decode_bytes(data, name, SETTINGS)
    assert (decoded.format, decoded.width, decoded.height) == ("DNG", 640, 400)
    assert metadata_of(data, name) == (decoded.metadata, decoded.metadata)


CAMERAS = {
    "NEF": ("NIKON CORPORATION", "NIKON D70"),
    "ARW": ("SONY", "ILCE-7M3"),
    "PEF": ("RICOH IMAGING COMPANY, LTD.", "PENTAX K-3"),
    "SRW": ("SAMSUNG", "NX10"),
    "DCR": ("EASTMAN KODAK COMPANY", "P880"),
    "3FR": ("Hasselblad", "X1D"),
}


@pytest.mark.parametrize("name", ["", "a.jpg", "a.tif"])
@pytest.mark.parametrize("format", CAMERAS)
def test_a_tiff_of_a_sensor_is_a_raw_under_any_name(format: str, name: str):
    assert raw_format(tiny_dng(camera=CAMERAS[format]), name) == format


@pytest.mark.parametrize("format", ["NEF", "ARW", "PEF"])
def test_a_tiff_of_a_sensor_is_read_as_the_raw_that_it_is(format: str):
    pytest.importorskip("rawpy")
    data, name = tiny_dng((640, 400), camera=CAMERAS[format]), "a.tif"
    decoded = decode_bytes(data, name, SETTINGS)
    assert (decoded.format, decoded.height) == (format, 400)


def test_the_picture_in_a_raw_that_is_named_otherwise_needs_no_extra(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setitem(sys.modules, "rawpy", None)
    monkeypatch.delitem(sys.modules, "datasette_image_search.decoding.raw", raising=False)
    data = raw_with_a_picture()
    assert raw_format(data, "a.tif") == "NEF"
    assert decode_bytes(data, "a.tif", SETTINGS).format == "TIFF"
    for name, raw in (("a.nef", data), ("a.tif", tiny_dng(camera=CAMERAS["NEF"]))):
        with pytest.raises(DecodeError, match="camera RAW needs an extra"):
            decode_bytes(raw, name, SETTINGS)


def raw_with_a_picture() -> bytes:
    """A TIFF that Pillow reads, with a directory of a sensor below the first one."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[271] = CAMERAS["NEF"][0]
    tags.tagtype[330] = 4
    tags[330] = 0
    end = len(saved(PICTURE, "TIFF", tiffinfo=tags))
    tags[330] = end
    data = saved(PICTURE, "TIFF", tiffinfo=tags)
    assert len(data) == end
    return data + struct.pack("<HHHIII", 1, 262, 3, 1, 32803, 0)


def test_a_tiff_of_a_sensor_that_no_camera_made_is_left_to_its_name():
    assert raw_format(tiny_dng(camera=("Microscope", "M1")), "a.tif") is None
    assert raw_format(tiny_dng(camera=("Microscope", "M1")), "a.nef") == "NEF"


def test_a_phase_one_raw_says_so_behind_the_begin_of_a_tiff():
    assert raw_format(b"II*\0\x0c\0\0\0IIIICwaR", "a.tif") == "IIQ"


def test_a_tiff_that_is_none_by_its_bytes_is_known_by_its_name():
    assert raw_format(tiny_dng(), "a.Nef") == "NEF"
    tiff = saved(PICTURE, "TIFF")
    assert raw_format(tiff, "a.nef") == "NEF"
    assert raw_format(tiff, "a.tif") is None
    assert raw_format(tiff[:20], "a.tif") is None


def test_the_names_of_pictures():
    for suffix in (".jxl", ".mpo", ".jps", ".apng", ".iiq", ".3fr", ".x3f", ".gpr", *RAW_SUFFIXES):
        assert is_image_name("a" + suffix)
        assert is_image_name("A" + suffix.upper())
    assert not is_image_name("a.mpg")
