from __future__ import annotations

import pytest

from datasette_image_search.metadata.dates import (
    exif_time,
    iptc_time,
    iso_time,
    offset_of,
    png_time,
)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2021:07:14 18:03:11", "2021-07-14T18:03:11"),
        ("2021: 7: 4  8: 3: 1", "2021-07-04T08:03:01"),
        ("2021:7:4 8:3:1", "2021-07-04T08:03:01"),
        ("2021:07:14 24:03:11", "2021-07-14T00:03:11"),
        ("2021:07:14 18:03:60", "2021-07-14T18:03:59"),
        ("2021:07:14 18:03:61", None),
        ("2021:07:14", None),
        ("0000:00:00 00:00:00", None),
        (None, None),
    ],
)
def test_times_of_cameras(text: str | None, time: str | None):
    assert exif_time(text) == (time and (time, None))


def test_the_offset_is_in_the_time_or_beside_it():
    assert exif_time("2021:07:14 18:03:11+02:00") == ("2021-07-14T18:03:11", "+02:00")
    assert exif_time("2021:07:14 18:03:11", "-03:30") == ("2021-07-14T18:03:11", "-03:30")


@pytest.mark.parametrize(
    ("text", "offset"),
    [("+0200", "+02:00"), ("Z", "+00:00"), (" -03:30 ", "-03:30"), ("+15:00", None), ("", None)],
)
def test_offsets(text: str, offset: str | None):
    assert offset_of(text) == offset


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("1936", ("1936", None)),
        ("1936-05", ("1936-05", None)),
        ("1936-05-01", ("1936-05-01", None)),
        ("1936-13-01", None),
        ("2021-07-14T18:03+02:00", ("2021-07-14T18:03:00", "+02:00")),
        ("2021-07-14T18:03:11.25Z", ("2021-07-14T18:03:11", "+00:00")),
        ("2021:07:14 18:03:11", ("2021-07-14T18:03:11", None)),
        ("someday", None),
    ],
)
def test_times_of_xmp_are_as_exact_as_they_are_known(text: str, when: tuple[str, str] | None):
    assert iso_time(text) == when


@pytest.mark.parametrize(
    ("date", "time", "when"),
    [
        ("20210714", "180311+0200", ("2021-07-14T18:03:11", "+02:00")),
        ("20210714", "180311", ("2021-07-14T18:03:11", None)),
        ("20210714", None, ("2021-07-14", None)),
        ("00000000", "180311", None),
        (None, "180311", None),
    ],
)
def test_times_of_iptc(date: str | None, time: str | None, when: tuple[str, str] | None):
    assert iptc_time(date, time) == when


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("Wed, 14 Jul 2021 18:03:11 +0200", ("2021-07-14T18:03:11", "+02:00")),
        ("14 Jul 2021 18:03:11 GMT", ("2021-07-14T18:03:11", "+00:00")),
        ("Wed Jul 14 18:03:11 2021", ("2021-07-14T18:03:11", None)),
        ("2021-07-14T18:03:11-05:00", ("2021-07-14T18:03:11", "-05:00")),
        ("2021:07:14 18:03:11", ("2021-07-14T18:03:11", None)),
        ("07/14/21", None),
        ("14 Jul 99999999999999999999 18:03:11", None),
        ("14 Jul " + "9" * 5_000 + " 18:03:11", None),
        (None, None),
    ],
)
def test_times_of_png(text: str | None, when: tuple[str, str] | None):
    assert png_time(text) == when
