from __future__ import annotations

import math

import pytest

from datasette_image_search.metadata.gps import altitude, degrees, place


@pytest.mark.parametrize(
    ("value", "reference", "expected"),
    [
        ((43.0, 30.0, 36.0), b"N\0", 43.51),
        ((43.0, 30.6), b"N", 43.51),
        ((43.51,), b"N", 43.51),
        ((43.0, 30.0, 36.0), b"South", -43.51),
        ((43.0, 30.0, 36.0), b"west", -43.51),
        ((-43.0, -30.0, -36.0), b"S", -43.51),
        ((-43.0, -30.0, -36.0), b"N", 43.51),
        ((-43.0, 30.0, 36.0), None, -43.51),
        (b"43,30.6N", None, 43.51),
        (b"43,30,36S", None, -43.51),
        (b"43 30 36", b"S", -43.51),
        (b"-43.51", None, -43.51),
        (b"43/1,306/10,0/1 W", None, -43.51),
        (b"1.2e-05E", None, 1.2e-05),
        (b"9" * 5_000 + b"N", None, None),
        ((43.0, 30.0, math.nan), b"N", None),
        ((43.0, 30.0, 36.0, 1.0), b"N", None),
        ((), b"N", None),
        (b"nowhere", b"N", None),
        (None, b"N", None),
    ],
)
def test_degrees(value: object, reference: bytes | None, expected: float | None):
    assert degrees(value, reference) == expected


def test_nobody_takes_photos_at_0_0():
    assert place(0.0, 0.0) == (None, None)
    assert place(0.0, 6.6) == (0.0, 6.6)
    assert place(51.5, 0.0) == (51.5, 0.0)
    assert place(91.0, 181.0) == (None, None)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (b"\0", 12.0),
        (b"\1", -12.0),
        (b"\3", -12.0),
        (b"\2", 12.0),
        ((1,), -12.0),
        ("1", -12.0),
        (b"1", -12.0),
        (None, 12.0),
        (b"", 12.0),
        (b"9" * 5_000, 12.0),
        ((math.nan,), 12.0),
    ],
)
def test_an_altitude_below_the_sea_is_said_in_many_ways(reference: object, expected: float):
    assert altitude(12.0, reference) == expected
    assert altitude(math.nan, reference) is None


def test_a_depth_that_is_negative_already_stays_one():
    assert altitude(-12.0, b"\1") == -12.0
