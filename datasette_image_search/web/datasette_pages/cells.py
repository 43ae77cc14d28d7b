"""Pictures in the cells of Datasette's tables: of image tables, of their rows, and of SQL queries."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from datasette.app import Datasette
from datasette.utils import tilde_decode
from markupsafe import Markup

from ...search.query import image_term
from ...store import ImageTable, Key
from ...store.reads import image_rows, thumbnail_version
from ...store.views import image_of_row
from ..access.image_tables import (
    UNREADABLE,
    image_tables,
    known_pictured_tables,
    pictured_tables,
)
from ..access.visits import current_visit, visitor_sees
from ..pages.shown_images import LARGEST_VALUE
from ..reading import read_bounded
from ..urls import VERSION, TableUrls

LONGEST_TEXT = 40
"""Letters of a text that is the picture itself."""

BOX = (120, 90)
"""Width and height in CSS pixels that a picture in a cell fits into."""

_THUMBNAIL_URL = re.compile(
    rf"/-/image-search/([^/]+)/([^/]+)/([^/]*)/thumbnail(?:\?{VERSION}=[^/&]*)?"
)

_CELL = Markup(
    '<a class="image-search-cell" href="{row}">'
    '<img src="{src}" alt="{alt}" width="{width}" height="{height}" loading="lazy"></a>'
)
_TEXT = Markup('<span class="image-search-cell-text">{text}</span>')
_SIMILAR = Markup('<a class="image-search-cell-similar" href="{similar}">more like this</a>')


def cell_with_picture(
    datasette: Datasette, database: str, table: str | None, row: Any, column: str, value: Any
) -> Coroutine[Any, Any, Markup | None] | None:
    """
    A picture in place of the value of a cell, if that is the path, the bytes or the thumbnail URL of an
    image; else None. `table` is None for the rows of a query.
    """
    # Nearly all cells return before a coroutine is made.
    if not isinstance(value, str | bytes) or not value:
        return None
    known = known_pictured_tables(datasette.get_database(database))
    cell: Callable[[], Coroutine[Any, Any, Markup | None]]
    if table is not None:
        if known is not None and (table not in known or known[table].column != column):
            return None
        cell = partial(_cell_of_table, datasette, database, table, row, column, value)
    elif isinstance(value, bytes):
        return None
    elif _THUMBNAIL_URL.search(value):
        cell = partial(_cell_of_url, datasette, database, value)
    elif known is not None and all(shown.column != column for shown in known.values()):
        return None
    else:
        cell = partial(_cell_of_query, datasette, database, row, column, value)
    return _or_the_value(cell()) if current_visit().may_show_a_picture() else None


async def _or_the_value(cell: Coroutine[Any, Any, Markup | None]) -> Markup | None:
    """None if SQLite cannot read the picture within limits, so that the page does not fail."""
    try:
        return await cell
    except UNREADABLE:
        return None


async def _cell_of_table(
    datasette: Datasette, database: str, table: str, row: Any, column: str, value: str | bytes
) -> Markup | None:
    served = datasette.get_database(database)
    shown = (await pictured_tables(served)).get(table)
    if shown is None or column != shown.column:
        return None
    images = shown.table
    key = _key_of(row, images)
    if key is None:
        return None
    if shown.view is not None:
        if not await visitor_sees(datasette, database, images.name):
            return None
        root = _value(row, "root_id") if shown.view.has_root else None
        if not await read_bounded(
            served, lambda conn: image_of_row(conn, images, column, key, value, root)
        ):
            return None
    name = str(key) if shown.column_is_blob else str(value)
    picture = await _picture(datasette, database, shown.table, key, name, row)
    if picture is None:
        return None
    if isinstance(value, bytes):
        url = TableUrls(datasette, database, images.name).blob(key, column)
        value = Markup('<a class="blob-download" href="{}">{:,} bytes</a>').format(url, len(value))
    elif shown.column_is_blob and len(value) > LONGEST_TEXT:
        value = f"{value[:LONGEST_TEXT]}… ({len(value):,} letters)"
    similar = TableUrls(datasette, database, table).page([("q", image_term(key))])
    return picture + _TEXT.format(text=value) + _SIMILAR.format(similar=similar)


async def _cell_of_query(
    datasette: Datasette, database: str, row: Any, column: str, value: str
) -> Markup | None:
    """
    A picture for a path if the id of its image is in the same row. The path tells which image table it is
    of. A query may read rows of tables that the visitor may not see; these get no picture.
    """
    served = datasette.get_database(database)
    root = _value(row, "root_id")
    keys = [
        (shown.table, key)
        for shown in (await image_tables(served)).values()
        if shown.column == column and not shown.column_is_blob
        if (key := _key_of(row, shown.table)) is not None
    ]
    if not keys:
        return None

    def read(conn: sqlite3.Connection) -> tuple[ImageTable, dict[str, Any], str] | None:
        # If images of two tables have this path and id, it gets no picture.
        found = [
            (table, key)
            for table, key in keys
            if image_of_row(conn, table, column, key, value, root)
        ]
        if len(found) != 1:
            return None
        ((table, key),) = found
        version = thumbnail_version(conn, table, key)
        if version is None:
            return None
        image = image_rows(conn, table, [key], largest=LARGEST_VALUE).get(key)
        return None if image is None else (table, image, version)

    found = await read_bounded(served, read)
    if found is None:
        return None
    table, image, version = found
    if not await visitor_sees(datasette, database, table.name):
        return None
    urls = TableUrls(datasette, database, table.name)
    picture = _link(urls, image[table.key], value, image, version)
    return picture + _TEXT.format(text=value)


async def _cell_of_url(datasette: Datasette, database: str, value: str) -> Markup | None:
    """A picture for a thumbnail URL of this database. URLs of other databases get none."""
    path = value.removeprefix(datasette.urls.path("/").rstrip("/"))
    match = _THUMBNAIL_URL.fullmatch(path)
    if match is None or tilde_decode(match[1]) != database:
        return None
    tables = await image_tables(datasette.get_database(database))
    shown = tables.get(tilde_decode(match[2]))
    key = shown.table.parse_key(tilde_decode(match[3])) if shown else None
    if shown is None or key is None:
        return None
    if not await visitor_sees(datasette, database, shown.table.name):
        return None
    return await _picture(datasette, database, shown.table, key, str(key), {})


async def _picture(
    datasette: Datasette, database: str, table: ImageTable, key: Key, name: str, row: Any
) -> Markup | None:
    """The thumbnail as a link to its row; None if the image has none."""
    version = await read_bounded(
        datasette.get_database(database), lambda conn: thumbnail_version(conn, table, key)
    )
    if version is None:
        return None
    return _link(TableUrls(datasette, database, table.name), key, name, row, version)


def _link(urls: TableUrls, key: Key, name: str, row: Any, version: str) -> Markup:
    width, height = _fit(row)
    src = urls.thumbnail(key, version)
    return _CELL.format(row=urls.row(key), src=src, alt=name, width=width, height=height)


def _key_of(row: Any, table: ImageTable) -> Key | None:
    """The key of an image in a row with any columns; None if it has none."""
    value = _value(row, table.key)
    return value if table.is_key(value) else None


def _value(row: Any, column: str) -> Any:
    try:
        value = row[column]
    except (KeyError, IndexError):
        return None
    # A foreign key comes as a mapping with its label.
    return value["value"] if isinstance(value, Mapping) else value


def _fit(row: Any) -> tuple[int, int]:
    """The size of a picture within BOX, in the shape of the row's width and height if it has them."""
    width, height = _value(row, "width"), _value(row, "height")
    if not (isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0):
        return BOX
    scale = min(BOX[0] / width, BOX[1] / height)
    return max(1, round(width * scale)), max(1, round(height * scale))
