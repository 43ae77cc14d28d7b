"""The end of a JPEG is found, whatever is in it and behind it."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datasette_image_search.decoding.jpeg_data import (
    END,
    SCAN,
    end_of_data,
    lacks_scans,
    markers,
)

from .hostile_files import saved


@pytest.mark.parametrize("progressive", [False, True])
def test_the_end_is_that_of_the_picture(progressive: bool):
    """Not one in a profile, nor that of a picture behind it."""
    whole = saved((64, 64), "JPEG", progressive=progressive, icc_profile=END * 50)
    assert end_of_data(whole) == len(whole) - 2
    assert end_of_data(whole + whole) == len(whole) - 2
    assert end_of_data(whole[:-2]) == len(whole) - 2


def test_a_marker_that_has_no_place_in_data_ends_it():
    whole = saved((64, 64), "JPEG")
    assert end_of_data(whole[:-2] + b"\xff\x01" * 3) == len(whole) - 2


def test_each_scan_is_a_marker():
    whole = saved((64, 64), "JPEG", progressive=True)
    scans = [start for marker, start in markers(whole, 2) if marker == SCAN]
    assert len(scans) > 5
    assert all(whole.startswith(SCAN, start) for start in scans)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_progressive_picture_lacks_scans_until_the_last_is_there(mode: str):
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert(mode).save(buffer, "JPEG", progressive=True)
    whole = buffer.getvalue()
    assert not lacks_scans(whole)
    assert not lacks_scans(whole[:-2])
    scans = [start for marker, start in markers(whole, 2) if marker == SCAN]
    assert all(lacks_scans(whole[:start] + END) for start in scans)


def test_a_picture_of_one_scan_lacks_none():
    whole = saved((64, 64), "JPEG")
    assert not lacks_scans(whole)
    assert not lacks_scans(whole[: len(whole) // 2])


@given(st.binary(max_size=300).map(lambda data: b"\xff\xd8\xff\xc2" + data))
def test_scans_of_any_bytes_can_be_counted(data: bytes):
    assert lacks_scans(data) in (False, True)


@given(st.binary(max_size=300))
def test_any_bytes_have_an_end(data: bytes):
    assert 0 <= end_of_data(data) <= len(data)
