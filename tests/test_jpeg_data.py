"""The end of a JPEG is found, whatever is in it and behind it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasette_image_search.decoding.jpeg_data import END, SCAN, end_of_data, markers

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


@given(st.binary(max_size=300))
def test_any_bytes_have_an_end(data: bytes):
    assert 0 <= end_of_data(data) <= len(data)
