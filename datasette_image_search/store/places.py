"""
The columns with the places of images, and the table that says by which latitude and longitude they were found.

The table has a column for each of PLACE_COLUMNS that is ours, with what was written there: a value of the image table
that is another one is a person's, and stays.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlite_utils import Database
from sqlite_utils.db import quote_identifier

from .filters import Filter, bracketed, naming_the_filter
from .tables import ImageTable, Index, Key, StoreError, column_names, folded, table_exists
from .transactions import transaction
from .triggers import ensure_triggers, has_places

PLACE_COLUMNS = ("country", "country_code", "state", "city")

PLACE_INDEXES = (("country", "city"), ("city", "country"))
"""To filter and to group by place, as FACET_INDEXES are for cameras."""


class LocatedImage(NamedTuple):
    """
    An image with its latitude and longitude, of whatever type. `values` are those of our columns now, and `written`
    those that were written last.
    """

    image_id: Key
    point: tuple[Any, Any]
    values: tuple[Any, ...]
    written: tuple[Any, ...]


def is_located_by_itself(conn: sqlite3.Connection, table: ImageTable) -> bool:
    """
    Whether new images are located without being asked for: in a table from folders, and in one that was located
    before, if there are columns to write to.
    """
    if not _has_points(conn, table):
        return False
    if table_exists(conn, table.places):
        return has_places(conn, table) and bool(_ours(conn, table))
    return (
        table.root_column is not None and bool(_missing(conn, table)) and _some_point(conn, table)
    )


def ensure_place_columns(db: Database, index: Index) -> tuple[str, ...]:
    """
    Those of PLACE_COLUMNS that are ours, made with the table beside them if there are none. What a person had before
    stays a person's. Within a transaction. Raises StoreError.
    """
    table = index.table
    if not _has_points(db.conn, table):
        raise StoreError(
            f"table {table.name!r} has no columns latitude and longitude; give it some, in degrees"
        )
    if not table_exists(db.conn, table.places):
        _make(db, table)
    if not has_places(db.conn, table):
        raise StoreError(f"the table {table.places!r} was not made by locate-images; rename it")
    ours = _ours(db.conn, table)
    if not ours:
        # A person dropped them, and wants them back.
        db.table(table.places).drop()
        _make(db, table)
        ours = _ours(db.conn, table)
    ensure_triggers(db, table, index.path_column or index.content_column)
    return ours


def _make(db: Database, table: ImageTable) -> None:
    columns = _missing(db.conn, table)
    if not columns:
        raise StoreError(
            f"the columns {', '.join(PLACE_COLUMNS)} of table {table.name!r} are yours; rename one, to have it "
            "filled"
        )
    for name in columns:
        db.table(table.name).add_column(name, str)
    key_type = int if table.key_is_integer else str
    db.table(table.places).create(
        {
            "image_id": key_type,
            "latitude": float,
            "longitude": float,
            "max_distance": float,
            **dict.fromkeys(columns, str),
        },
        pk="image_id",
    )


def ensure_place_indexes(db: Database, table: ImageTable) -> None:
    """The indexes of a table from folders that facets are fast by; made last, as that is faster."""
    ours = set(_ours(db.conn, table))
    with transaction(db):
        for columns in PLACE_INDEXES:
            if table.root_column is not None and set(columns) <= ours:
                db.table(table.name).create_index(columns, if_not_exists=True)


def unlocated(
    conn: sqlite3.Connection,
    table: ImageTable,
    filter: Filter | None = None,
    max_distance: float | None = None,
) -> list[Key]:
    """
    The keys of the images that pass the filter and whose latitude or longitude is another than they were located by,
    or their `max_distance` if it is given. Raises FilterError.
    """
    sql = """
        select {key} from {images} where {key} in (
            select {images}.{key} from {images} left join {places}
            on {places}.image_id = {images}.{key}
            where {images}.latitude is not {places}.latitude
            or {images}.longitude is not {places}.longitude
            or {places}.max_distance is not coalesce(
                iif({places}.image_id is null, null, :_img_distance), {places}.max_distance
            )
        ) and {filter} order by {key}
    """
    params = {**(filter.params if filter else {}), "_img_distance": max_distance}
    with naming_the_filter(table, filter):
        rows = conn.execute(sql.format(filter=bracketed(filter), **table.quoted()), params)
        return [key for (key,) in rows if table.is_key(key)]


def count_located(conn: sqlite3.Connection, table: ImageTable, filter: Filter | None = None) -> int:
    """How many images with a position that pass the filter have been located. Raises FilterError."""
    sql = """
        select count(*) from {images} where {key} in (
            select image_id from {places} where latitude is not null and longitude is not null
        ) and {filter}
    """
    with naming_the_filter(table, filter):
        (count,) = conn.execute(
            sql.format(filter=bracketed(filter), **table.quoted()), filter.params if filter else {}
        ).fetchone()
    return int(count)


def points_of(
    conn: sqlite3.Connection, table: ImageTable, columns: Sequence[str], keys: Sequence[Key]
) -> list[LocatedImage]:
    """Those of the images that exist, with their values of some of our columns."""
    now, before = (
        "".join(f", {side}.{quote_identifier(name)}" for name in columns)
        for side in ("_image", "_place")
    )
    sql = f"""
        select _image.{{key}}, _image.latitude, _image.longitude{now}{before}
        from json_each(?) as _wanted
        cross join {{images}} as _image on _image.{{key}} = _wanted.value
        left join {{places}} as _place on _place.image_id = _image.{{key}}
    """
    rows = conn.execute(sql.format(**table.quoted()), [json.dumps(list(keys))])
    first_written = 3 + len(columns)
    return [
        LocatedImage(row[0], row[1:3], row[3:first_written], row[first_written:]) for row in rows
    ]


def write_places(
    db: Database,
    table: ImageTable,
    columns: Sequence[str],
    places: Iterable[tuple[LocatedImage, tuple[str | None, ...]]],
    max_distance: float,
) -> None:
    """
    The values of our columns for some images, and what they were found by. What a person corrected stays. Within a
    transaction.
    """
    found, corrected, located = [], [], []
    for image, values in places:
        located.append((image.image_id, *image.point, max_distance, *values))
        if image.values == image.written:
            if values != image.values:
                found.append(image.image_id)
            continue
        kept = tuple(
            new if value == written else value
            for value, written, new in zip(image.values, image.written, values, strict=True)
        )
        if kept != image.values:
            corrected.append((*kept, image.image_id))
    listed = ", ".join(map(quote_identifier, columns))
    marks = ", ".join("?" * (4 + len(columns)))
    n = table.quoted()
    db.conn.executemany(
        f"insert or replace into {n['places']} (image_id, latitude, longitude, max_distance, {listed}) values ({marks})",
        located,
    )
    update = f"update {n['images']} set ({listed}) ="
    # One statement: with one for each image, FTS5 takes twice as long.
    db.execute(
        f"{update} (select {listed} from {n['places']} where image_id = {n['images']}.{n['key']}) "
        f"where {n['key']} in (select value from json_each(?))",
        [json.dumps(found)],
    )
    db.conn.executemany(
        f"{update} ({', '.join('?' * len(columns))}) where {n['key']} = ?", corrected
    )


def _has_points(conn: sqlite3.Connection, table: ImageTable) -> bool:
    return {"latitude", "longitude"} <= set(map(folded, column_names(conn, table.name)))


def _some_point(conn: sqlite3.Connection, table: ImageTable) -> bool:
    sql = "select exists (select 1 from {images} where latitude is not null)"
    return bool(conn.execute(sql.format(**table.quoted())).fetchone()[0])


def _missing(conn: sqlite3.Connection, table: ImageTable) -> list[str]:
    there = set(map(folded, column_names(conn, table.name)))
    return [name for name in PLACE_COLUMNS if name not in there]


def _ours(conn: sqlite3.Connection, table: ImageTable) -> tuple[str, ...]:
    """The columns that both tables have: a person may have dropped or renamed some."""
    there = set(map(folded, column_names(conn, table.name)))
    beside = set(column_names(conn, table.places))
    return tuple(name for name in PLACE_COLUMNS if name in there and name in beside)
