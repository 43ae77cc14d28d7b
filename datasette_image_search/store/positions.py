"""Where on the earth images are, gathered in the cells of a grid, so that any number of them is a few hundred points."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from .filters import Filter, bracketed, naming_the_filter
from .sampling import Sample
from .tables import ImageTable, Key

LATITUDE, LONGITUDE = "latitude", "longitude"


@dataclass(frozen=True)
class Box:
    """Degrees; `west` is not east of `east`, so a box does not cross the 180th meridian."""

    south: float = -90
    west: float = -180
    north: float = 90
    east: float = 180


@dataclass(frozen=True)
class Cell:
    """`count` images around a point, the smallest box that has them all, and one of them."""

    latitude: float
    longitude: float
    count: int
    box: Box
    image_id: Key


def cells(
    conn: sqlite3.Connection,
    table: ImageTable,
    filter: Filter | None,
    box: Box,
    across: int,
    sample: Sample | None = None,
) -> list[Cell]:
    """
    The cells in a box of those images that pass the filter and have a position on the earth, the fullest first. The
    longer side of the box is divided into `across`. With a `sample`, counts are estimates, and cells of few images are missed.

    Raises FilterError if SQLite refuses the filter.
    """
    sql = """
        select avg(latitude), avg(longitude), count(*), min(latitude), min(longitude), max(latitude),
            max(longitude), min({key})
        from {rows}
        where {filter}
            and typeof(latitude) in ('real', 'integer') and typeof(longitude) in ('real', 'integer')
            and latitude between :_img_south and :_img_north
            and longitude between :_img_west and :_img_east
        group by cast((latitude - :_img_south) / :_img_step as integer),
            cast((longitude - :_img_west) / :_img_step as integer)
        order by count(*) desc, min({key})
    """
    longer = max(box.north - box.south, box.east - box.west)
    ours = {
        "_img_south": box.south,
        "_img_west": box.west,
        "_img_north": box.north,
        "_img_east": box.east,
        "_img_step": max(longer / across, 1e-9),
    }
    source = table.quoted()["images"] if sample is None else sample.rows
    with naming_the_filter(table, filter):
        rows = conn.execute(
            sql.format(filter=bracketed(filter), rows=source, **table.quoted()),
            {**(filter.params if filter else {}), **ours},
        ).fetchall()
    found = []
    for latitude, longitude, count, *corners, image_id in rows:
        number = count if sample is None else sample.estimated(count)
        if number is not None and table.is_key(image_id):
            found.append(Cell(latitude, longitude, number, Box(*corners), image_id))
    return found
